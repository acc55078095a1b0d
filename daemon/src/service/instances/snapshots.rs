//! Snapshots of instances: the root volume's snapshot, with the settings of that time.

use super::{DescribedSnapshot, instance_url, runtime_name};
use crate::service::store::cause_of;
use crate::service::work::Then;
use crate::service::{
    NewSnapshot, OpenPool, Result, Service, ServiceError, Task, VolumeRecord, lifetime, url,
};
use jiff::Timestamp;
use larder_base::{SnapshotName, Ticket};
use larder_catalog::documents::{Instance, InstanceSnapshot, Volume};
use larder_catalog::{Cause, Document, InstanceId, InstanceSnapshotId, Transaction};
use larder_runtime::Status;
use uuid::Uuid;

/// How often something is said anew that somebody else changed at the same moment.
const MOST_TRIES: usize = 100;

fn snapshot_url(instance: &Instance, name: &str) -> String {
    url(&["instances", &instance.name, "snapshots", name], &instance.project)
}

/// An instance with the settings that it had at a snapshot. What the daemon notes for itself stays.
fn restored(instance: &Instance, snapshot: &InstanceSnapshot) -> Instance {
    let then = snapshot.then.clone();
    let mut config = then.config;
    config.extend(instance.config.clone().into_iter().filter(|(key, _)| key.starts_with("volatile.")));
    Instance {
        description: then.description,
        config,
        devices: then.devices,
        profiles: then.profiles,
        ephemeral: then.ephemeral,
        ..instance.clone()
    }
}

impl Service {
    /// The root volume of an instance, and the pool it is on.
    pub fn root_and_pool(&self, instance: &Instance) -> Result<(VolumeRecord, OpenPool)> {
        let root = self.root_volume(instance)?;
        let pool = self.open_pool(&self.store.pool_by_id(root.volume.pool)?.name)?;
        Ok((root, pool))
    }

    /// A snapshot of an instance by name.
    pub fn instance_snapshot(&self, instance: &Instance, name: &str) -> Result<InstanceSnapshot> {
        let found =
            self.store.instance_snapshots_of(instance)?.into_iter().find(|snapshot| snapshot.name == name);
        found.ok_or_else(|| {
            ServiceError::not_found(format!("snapshot {name:?} of instance {:?}", instance.name))
        })
    }

    /// The snapshots of an instance, oldest first, each with what applied to it.
    pub fn instance_snapshots(&self, instance: &Instance) -> Result<Vec<DescribedSnapshot>> {
        let snapshots = self.store.instance_snapshots_of(instance)?;
        snapshots.into_iter().map(|snapshot| self.describe_instance_snapshot(instance, snapshot)).collect()
    }

    /// One snapshot with what applied to it.
    pub fn describe_instance_snapshot(
        &self,
        instance: &Instance,
        snapshot: InstanceSnapshot,
    ) -> Result<DescribedSnapshot> {
        // Where it was then may be gone.
        let then = Instance { project: instance.project.clone(), ..snapshot.then.clone() };
        let expanded = self.expanded(&then)?;
        Ok(DescribedSnapshot { snapshot, expanded })
    }

    /// The next free name after the pattern of the instance: `snap0`, `snap1`, ….
    pub fn next_instance_snapshot_name(&self, instance: &Instance) -> Result<SnapshotName> {
        let taken: Vec<String> =
            self.store.instance_snapshots_of(instance)?.into_iter().map(|snapshot| snapshot.name).collect();
        let expanded = self.expanded(instance)?;
        let pattern = expanded.config.get("snapshots.pattern").filter(|pattern| !pattern.is_empty());
        Ok(lifetime::name_from_pattern(pattern.map_or("snap%d", String::as_str), &taken, self.clock.now())
            .parse()?)
    }

    /// Makes a snapshot. The instance may run; what it writes meanwhile may be in it or not.
    pub fn snapshot_instance(
        &self,
        task: &Task,
        instance: &Instance,
        name: &SnapshotName,
        expires_at: Option<Option<Timestamp>>,
    ) -> Result<()> {
        let (root, pool) = self.root_and_pool(instance)?;
        let now = self.clock.now();
        lifetime::must_be_ahead(expires_at.flatten(), now, name.as_str())?;
        let expires_at = match expires_at {
            Some(said) => said,
            None => lifetime::manual_expiry_of(&self.expanded(instance)?.config, now)?,
        };
        let snapshot = InstanceSnapshot {
            id: InstanceSnapshotId::random(),
            instance: instance.id,
            name: name.to_string(),
            then: instance.clone(),
            stateful: false,
            root: None,
            created_at: now,
            expires_at,
        };
        let cause = cause_of(
            task,
            "instance-snapshot-created",
            &snapshot_url(instance, name.as_str()),
            &instance.project,
        );
        let of_root = NewSnapshot { name: name.clone(), description: String::new(), expires_at: Some(None) };
        self.create_snapshot_of(task, &pool, &root, of_root, Some((snapshot, cause)))
    }

    /// Puts a stopped instance back to a snapshot: its root and its settings.
    pub fn restore_instance(&self, task: &Task, known: &Instance, name: &str) -> Result<()> {
        let (_claim, instance) = &self.alone_with_instance(task, known)?;
        let snapshot = self.instance_snapshot(instance, name)?;
        if self.instances.containers.state(&runtime_name(instance))?.status != Status::Stopped {
            return Err(ServiceError::bad(format!(
                "the instance {:?} is running: stop it before it is restored",
                instance.name
            )));
        }
        self.detach_all(task, instance);
        let (root, pool) = self.root_and_pool(instance)?;
        self.must_not_be_browsed(&root)?;
        for younger in self.in_the_way_of(task, &pool, &root, name)? {
            self.delete_instance_snapshot(task, instance, &younger.name)?;
        }
        let restored = (instance.id, snapshot.id.as_uuid());
        let then = Then::InstanceIsRestored { instance: restored.0, snapshot: restored.1 };
        self.restore_volume_then(task, &pool, &root, name, then, |root, ready| {
            let mut cause = cause_of(task, "instance-restored", &instance_url(instance), &instance.project);
            cause.context = serde_json::json!({ "snapshot": name });
            self.end_instance_restore(&self.ticket(task), root, ready, restored, Some(&cause))
        })
    }

    /// Says that the root of an instance is back at a snapshot, both of which are told by their ids, and that the instance has the settings of
    /// then. When the settings can't be said, that is told, and the root is ready all the same: putting it back once more, at
    /// the next start, would take what was written to it since.
    pub(in crate::service) fn end_instance_restore(
        &self,
        ticket: &Ticket,
        root: &VolumeRecord,
        ready: &Volume,
        restored: (InstanceId, Uuid),
        cause: Option<&Cause>,
    ) -> Result<()> {
        let say = || {
            let besides = self.settings_come_back(restored)?;
            self.store.end_change_with(besides, ticket, root, ready, cause.cloned())
        };
        // One of its profiles may get another name meanwhile, and what it will use may go.
        let said = (0..MOST_TRIES).map(|_| say()).find(|said| *said != Err(ServiceError::overtaken()));
        said.unwrap_or_else(|| Err(ServiceError::overtaken()))
            .or_else(|error| self.store.end_change(ticket, root, ready, None).and(Err(error)))
    }

    /// What gives an instance the settings that it had at a snapshot, if both are there.
    fn settings_come_back(&self, (instance, snapshot): (InstanceId, Uuid)) -> Result<Transaction> {
        let Some(instance) = self.store.instance_by_id(instance)? else { return Ok(Transaction::new()) };
        let snapshots = self.store.instance_snapshots_of(&instance)?;
        let Some(snapshot) = snapshots.iter().find(|known| known.id.as_uuid() == snapshot) else {
            return Ok(Transaction::new());
        };
        let restored = restored(&instance, snapshot);
        // What it used then may be gone.
        let uses = |of: &Instance| self.uses_of(of).unwrap_or_default();
        let (old, new) = (uses(&instance), uses(&restored));
        let url = instance_url(&instance);
        let changed = self.store.instance_changed(&instance, &restored, &old, &new, &url)?;
        Ok(changed.guard_at(snapshot.key(), self.store.revision_of(snapshot)?))
    }

    /// Gives a snapshot another name.
    pub fn rename_instance_snapshot(
        &self,
        task: &Task,
        instance: &Instance,
        name: &str,
        new: &SnapshotName,
    ) -> Result<()> {
        let snapshot = self.instance_snapshot(instance, name)?;
        if self.store.instance_snapshots_of(instance)?.iter().any(|other| other.name == new.as_str()) {
            return Err(ServiceError::taken(format!("the snapshot {:?}", new.as_str())));
        }
        let (root, pool) = self.root_and_pool(instance)?;
        let volume_snapshot = self.store.snapshot(&root.volume, name)?;
        let volume_snapshot = volume_snapshot
            .ok_or_else(|| ServiceError::internal(format!("the root volume has no snapshot {name:?}")))?;
        self.rename_snapshot(task, &pool, &root, &volume_snapshot, new)?;
        let mut cause = cause_of(
            task,
            "instance-snapshot-renamed",
            &snapshot_url(instance, new.as_str()),
            &instance.project,
        );
        cause.context = serde_json::json!({ "old_name": name });
        self.store.rename_instance_snapshot(&snapshot, new.as_str(), Some(&cause))
    }

    /// Changes when a snapshot goes, which is as it was known.
    pub fn update_instance_snapshot(
        &self,
        task: &Task,
        instance: &Instance,
        known: &InstanceSnapshot,
        expires_at: Option<Timestamp>,
    ) -> Result<()> {
        let url = snapshot_url(instance, &known.name);
        let cause = cause_of(task, "instance-snapshot-updated", &url, &instance.project);
        let changed = InstanceSnapshot { expires_at, ..known.clone() };
        self.store.change_instance_snapshot(known, &changed, Some(cause))
    }

    /// Deletes a snapshot.
    pub fn delete_instance_snapshot(&self, task: &Task, instance: &Instance, name: &str) -> Result<()> {
        let snapshot = self.instance_snapshot(instance, name)?;
        let (root, pool) = self.root_and_pool(instance)?;
        if let Some(volume_snapshot) = self.store.snapshot(&root.volume, name)? {
            self.delete_snapshot(task, &pool, &root, &volume_snapshot)?;
        }
        let cause =
            cause_of(task, "instance-snapshot-deleted", &snapshot_url(instance, name), &instance.project);
        self.store.forget_instance_snapshot(&snapshot, Some(cause))
    }

    /// Deletes the snapshots whose time has come. Goes on after a failure; returns how many went.
    pub fn delete_expired_instance_snapshots(&self) -> Result<usize> {
        let now = self.clock.now();
        let mut deleted = 0;
        for instance in self.store.all_instances()? {
            for snapshot in self.store.instance_snapshots_of(&instance)? {
                let is_busy = instance.root.is_some_and(|root| self.volume_claims.is_taken(&root));
                if is_busy || snapshot.expires_at.is_none_or(|at| at > now) {
                    continue;
                }
                let task = Task::quiet(crate::service::Requestor::default());
                match self.delete_instance_snapshot(&task, &instance, &snapshot.name) {
                    Ok(()) => deleted += 1,
                    Err(error) => {
                        tracing::warn!(instance = instance.name, snapshot = snapshot.name, %error, "an expired snapshot stays");
                    }
                }
            }
        }
        Ok(deleted)
    }

    /// A copy of another instance's snapshot, whose volume snapshot came along.
    pub(super) fn adopt_instance_snapshot(
        &self,
        instance: &Instance,
        known: &InstanceSnapshot,
    ) -> Result<()> {
        let root = self.root_volume(instance)?;
        let made = self.store.snapshot(&root.volume, &known.name)?;
        let then = Instance {
            id: instance.id,
            name: instance.name.clone(),
            project: instance.project.clone(),
            root: instance.root,
            ..known.then.clone()
        };
        let snapshot = InstanceSnapshot {
            id: InstanceSnapshotId::random(),
            instance: instance.id,
            then,
            root: made.map(|made| made.id),
            ..known.clone()
        };
        self.store.put_instance_snapshot(&snapshot, None)
    }

    /// The root volume's snapshots count: what only one side knows is made up for.
    pub(super) fn settle_instance_snapshots(&self, instance: &Instance, root: &VolumeRecord) -> Result<()> {
        let on_volume = self.store.snapshots_of(&root.volume)?;
        let known = self.store.instance_snapshots_of(instance)?;
        for snapshot in &known {
            match on_volume.iter().find(|other| Some(other.id) == snapshot.root) {
                None => self.store.forget_instance_snapshot(snapshot, None)?,
                Some(volume_snapshot) if volume_snapshot.name != snapshot.name => {
                    self.store.rename_instance_snapshot(snapshot, &volume_snapshot.name, None)?;
                }
                Some(_) => {}
            }
        }
        for volume_snapshot in &on_volume {
            if known.iter().any(|snapshot| snapshot.root == Some(volume_snapshot.id)) {
                continue;
            }
            let snapshot = InstanceSnapshot {
                id: InstanceSnapshotId::random(),
                instance: instance.id,
                name: volume_snapshot.name.clone(),
                then: instance.clone(),
                stateful: false,
                root: Some(volume_snapshot.id),
                created_at: volume_snapshot.created_at,
                expires_at: None,
            };
            self.store.put_instance_snapshot(&snapshot, None)?;
        }
        Ok(())
    }
}
