//! Whose ids a volume's files have: the container's own where its filesystem can be mounted with mapped ids, the host's
//! elsewhere. A volume says of itself which, so its copies and snapshots do too; it is brought to what it must be before it
//! is used.

use super::runtime_name;
use super::start::Attachment;
use crate::service::{Kind, OpenPool, Result, Service, ServiceError, Task, VolumeRecord};
use larder_catalog::PoolId;
use larder_catalog::documents::{Instance, Snapshot};
use larder_runtime::shift::{self, ShiftError};
use larder_runtime::{IdMap, IdRange};
use larder_storage_driver::{Attached, Content, Mode};
use serde_json::json;
use std::path::Path;

/// How a container sees its files.
#[derive(Debug, Clone)]
pub(super) struct RootIds {
    /// Its map of ids; none for a privileged one.
    pub(super) map: Option<IdMap>,
    /// Whether its root is mounted with mapped ids.
    pub(super) is_mapped: bool,
}

impl Service {
    /// Brings an instance's root to the owners that its container needs.
    pub(super) fn prepare_root(
        &self,
        task: &Task,
        instance: &Instance,
        (pool, rootfs): (PoolId, &Path),
        is_privileged: bool,
    ) -> Result<RootIds> {
        let map = if is_privileged { None } else { Some(super::id_map()?) };
        let shifted = self.shifted_map(pool, rootfs, map.as_ref())?;
        let changed = shift::shift_tree(rootfs, shifted.as_ref(), &task.cancel)?;
        if changed > 0 {
            tracing::info!(instance = instance.name, files = changed, "the root has other owners now");
        }
        let is_mapped = map.is_some() && shifted.is_none();
        Ok(RootIds { map: shifted.or(map), is_mapped })
    }

    /// Brings a volume that becomes a disk to the owners that the container needs; whether it is to be mounted with mapped
    /// ids. One that another running instance uses stays as it is, or is refused.
    pub(super) fn prepare_volume(
        &self,
        task: &Task,
        (pool, folder): (PoolId, &Path),
        (device, attachment): (&str, &Attachment),
        is_privileged: bool,
    ) -> Result<bool> {
        let map = if is_privileged { None } else { Some(super::id_map()?) };
        let shifted = self.shifted_map(pool, folder, map.as_ref())?;
        if !shift::is_shifted_by(folder, shifted.as_ref())? {
            if self.is_attached(attachment) {
                return Err(ServiceError::bad(format!(
                    "device {device:?}: the volume {:?} is in use by a running instance with another map of ids: stop that first",
                    attachment.volume.name.as_str()
                )));
            }
            shift::shift_tree(folder, shifted.as_ref(), &task.cancel)?;
        }
        Ok(shifted.is_none())
    }

    /// Refuses a volume, or one of its snapshots, whose files have the host's ids: a backup does not say so.
    pub(in crate::service) fn must_have_own_ids(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        snapshots: &[Snapshot],
    ) -> Result<()> {
        let id = record.storage_id()?;
        if id.content != Content::Filesystem {
            return Ok(());
        }
        let is_shifted =
            |attached: &Attached| -> Result<bool> { Ok(shift::map_of(attached.directory()?)?.is_some()) };
        let attached = self.with_cx(task, |cx| pool.pool.attach(cx, &id, Mode::ReadOnly))?;
        let mut found = is_shifted(&attached);
        self.with_cx(task, |cx| pool.pool.detach(&cx.uncancellable(), &id))?;
        for snapshot in snapshots {
            let name = snapshot.name.parse()?;
            let attached = self.with_cx(task, |cx| pool.pool.attach_snapshot(cx, &id, &name))?;
            found = found.and_then(|found| Ok(found || is_shifted(&attached)?));
            self.with_cx(task, |cx| pool.pool.detach_snapshot(&cx.uncancellable(), &id, &name))?;
        }
        match found? {
            false => Ok(()),
            true => Err(ServiceError::bad(format!(
                "the files of the volume {:?} have the host's ids of the containers that it was attached to, which a backup \
                 does not keep: use it in an instance on a pool that can be mounted with mapped ids, or in a privileged \
                 one, and export it then, without older snapshots",
                record.volume.name
            ))),
        }
    }

    /// Whether the container that runs has the host's own ids, whatever applies since its start.
    pub(super) fn runs_privileged(&self, instance: &Instance) -> Result<bool> {
        Ok(self.instances.containers.has_host_ids(&runtime_name(instance))?)
    }

    /// The map by which files on this filesystem have to be shifted for a container with this one; none when they are not.
    fn shifted_map(&self, pool: PoolId, folder: &Path, map: Option<&IdMap>) -> Result<Option<IdMap>> {
        let Some(map) = map else { return Ok(None) };
        if self.maps_ids(pool, folder)? {
            return Ok(None);
        }
        map.apart().map(Some).ok_or_else(|| ServiceError {
            kind: Kind::Unavailable,
            message: "the filesystem can't be mounted with mapped ids, and root's ids in /etc/subuid and /etc/subgid begin \
                      too low for changing owners: let them begin at 100000 or above"
                .to_owned(),
        })
    }

    /// Whether the filesystem of a pool can be mounted with mapped ids. It is asked once.
    fn maps_ids(&self, pool: PoolId, folder: &Path) -> Result<bool> {
        if let Some(known) = self.instances.mappable.lock().get(&pool) {
            return Ok(*known);
        }
        let can = match self.instances.containers.can_map_ids(folder)? {
            Ok(()) => !crate::service::crash::has_no_mapped_ids(),
            Err(reason) => {
                tracing::info!(%reason, "a filesystem can't be mounted with mapped ids: owners are changed instead");
                false
            }
        };
        self.instances.mappable.lock().insert(pool, can);
        Ok(can)
    }

    /// Whether a running instance has the volume already. What is being attached is not among these yet.
    fn is_attached(&self, attachment: &Attachment) -> bool {
        self.instances.attached.lock().values().flatten().any(|used| used == attachment)
    }
}

/// The host's ids of a root's user and group 0.
pub(super) fn first_ids(rootfs: &Path) -> Result<(u32, u32)> {
    let map = shift::map_of(rootfs)?;
    Ok(map.map_or((0, 0), |map| (map.host_user(0).unwrap_or(0), map.host_group(0).unwrap_or(0))))
}

/// The value of `volatile.last_state.idmap`, in the peers' form: the ranges by which the root is shifted.
pub(super) fn told(map: Option<&IdMap>, is_mapped: bool) -> String {
    let range = |is_user: bool, range: &IdRange| {
        json!({
            "Isuid": is_user, "Isgid": !is_user,
            "Hostid": range.host, "Nsid": range.container, "Maprange": range.size,
        })
    };
    let ranges: Vec<_> = match map {
        Some(map) if !is_mapped => {
            let users = map.users.iter().map(|one| range(true, one));
            users.chain(map.groups.iter().map(|one| range(false, one))).collect()
        }
        _ => Vec::new(),
    };
    json!(ranges).to_string()
}

impl From<ShiftError> for ServiceError {
    fn from(error: ShiftError) -> Self {
        let kind = match &error {
            ShiftError::Unmapped { .. } | ShiftError::Cancelled(_) => Kind::BadRequest,
            ShiftError::Overlap | ShiftError::NoAttributes { .. } => Kind::Unavailable,
            _ => Kind::Internal,
        };
        Self { kind, message: crate::service::store::chain(&error) }
    }
}
