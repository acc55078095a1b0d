//! Copies and moves of volumes, within and across pools.

use super::crash::{Point, point};
use super::pools::OpenPool;
use super::store::{TakeOver, VolumeRecord, cause_of};
use super::volumes::NewVolume;
use super::work::{Plan, Then};
use super::{Result, Service, ServiceError, Task, instance_url};
use larder_base::{ProjectName, SnapshotName, VolumeName};
use larder_catalog::documents::{Snapshot, Volume, VolumeState};
use larder_storage_driver::{Config, KeyScope, Place, VolumeSpec};
use larder_storage_pool::{CopyPlan, CopySource, Intent};

/// What a copy is made of.
#[derive(Debug, Clone)]
pub struct VolumeSource {
    /// The pool it is in.
    pub pool: OpenPool,
    /// The volume.
    pub record: VolumeRecord,
    /// One of its snapshots, to copy as it was then.
    pub snapshot: Option<SnapshotName>,
    /// Whether its snapshots come along.
    pub with_snapshots: bool,
}

impl VolumeSource {
    /// The snapshots that come along, oldest first.
    fn companions(&self, service: &Service) -> Result<Vec<Snapshot>> {
        if !self.with_snapshots || self.snapshot.is_some() {
            return Ok(Vec::new());
        }
        let mut snapshots = service.store.snapshots_of(&self.record.volume)?;
        snapshots.sort_by_key(|snapshot| snapshot.created_at);
        Ok(snapshots)
    }
}

/// Takes out what a copy has from its source and the target's driver has no key for: how the source's own driver keeps it.
pub(super) fn leave_behind(config: &mut Config, source: &Volume, target: &OpenPool) {
    let keys = target.pool.driver().config_keys();
    let is_known = |name: &str| keys.iter().any(|key| key.scope == KeyScope::Volume && key.name == name);
    let is_free = |name: &str| name.starts_with("user.") || name.starts_with("volatile.");
    config.retain(|name, value| is_known(name) || is_free(name) || source.config.get(name) != Some(value));
}

impl Service {
    /// Makes a custom volume that is a copy of another, or of one of its snapshots.
    pub fn copy_volume(
        &self,
        task: &Task,
        target: &OpenPool,
        source: &VolumeSource,
        mut new: NewVolume,
    ) -> Result<()> {
        leave_behind(&mut new.config, &source.record.volume, target);
        if let Some(snapshot) = &source.snapshot {
            self.store.snapshot(&source.record.volume, snapshot.as_str())?.ok_or_else(|| {
                ServiceError::not_found(format!(
                    "snapshot {snapshot} of volume {:?}",
                    source.record.volume.name
                ))
            })?;
        }
        let companions = source.companions(self)?;
        let (volume, spec) = self.plan_volume(target, new)?;
        let snapshots = companions_of(&volume, &companions);
        let names = names_of(&companions)?;
        let from = source.record.storage_id()?;
        self.creating(task, target, &volume, &snapshots, |cx| {
            let source =
                CopySource { pool: &source.pool.pool, volume: &from, snapshot: source.snapshot.as_ref() };
            target.pool.copy_volume(cx, source, &CopyPlan { spec: &spec, snapshots: &names })
        })
    }

    /// Moves a custom volume with its snapshots to another pool, under a new name perhaps.
    ///
    /// The copy is made and published first; one transaction then makes it the volume and sentences the old one, which
    /// goes the way of a deletion.
    pub fn move_volume(
        &self,
        task: &Task,
        target: &OpenPool,
        source: &VolumeSource,
        project: &ProjectName,
        name: &VolumeName,
    ) -> Result<()> {
        self.must_be_unused(&source.record)?;
        let old = &source.record.volume;
        let from = source.record.storage_id()?;
        let mut new = NewVolume {
            project: project.clone(),
            name: name.clone(),
            content: from.content,
            description: old.description.clone(),
            config: old.config.clone(),
        };
        leave_behind(&mut new.config, old, target);
        let (volume, spec) = self.plan_volume(target, new)?;
        let volume = Volume { created_at: old.created_at, takes_over: Some(old.id), ..volume };
        self.move_to(task, target, source, &volume, &spec)
    }

    /// Copies a volume to another pool as `volume`, which is planned to take over, and lets it.
    pub(super) fn move_to(
        &self,
        task: &Task,
        target: &OpenPool,
        source: &VolumeSource,
        volume: &Volume,
        spec: &VolumeSpec,
    ) -> Result<()> {
        let _claim = self.claim_volume(task, &source.record)?;
        let from = source.record.storage_id()?;
        let companions = source.companions(self)?;
        let names = names_of(&companions)?;
        self.store.begin_volume(&target.document, volume)?;
        point(Point::Intent);
        let copied = self.with_cx(task, |cx| {
            let source = CopySource { pool: &source.pool.pool, volume: &from, snapshot: None };
            target.pool.copy_volume(cx, source, &CopyPlan { spec, snapshots: &names })
        });
        if let Err(error) = copied {
            self.store.forget_volume(volume.id)?;
            return Err(error.into());
        }
        point(Point::Act);
        if let Err(error) = self.take_over(task, &target.document.name, volume, source, &companions) {
            // The copy has no name yet that anybody could know: it goes, and the volume stays what it was.
            let copy = Place::live(&spec.id);
            let trashed = self.with_cx(task, |cx| target.pool.trash(cx, &copy))?;
            self.store.forget_volume(volume.id)?;
            self.with_cx(task, |cx| target.pool.destroy(cx, &trashed))?;
            return Err(error);
        }
        point(Point::Commit);
        self.bury(task, &source.pool, &source.record)
    }

    /// Makes a complete copy the volume and sentences the volume it was made from, in one transaction. An instance whose
    /// root it was goes along.
    pub(super) fn take_over(
        &self,
        task: &Task,
        target_pool: &str,
        copy: &Volume,
        source: &VolumeSource,
        companions: &[Snapshot],
    ) -> Result<()> {
        let old = &source.record.volume;
        let live = Place::live(&source.record.storage_id()?);
        let plan = Plan {
            storage: Intent::Move { from: live.clone(), to: live.trashed(&self.ticket(task)) },
            then: Then::VolumeIsGone,
        };
        let ready = Volume { state: VolumeState::Ready, takes_over: None, ..copy.clone() };
        // They keep their ids: an instance's snapshots know them.
        let own = |snapshot: &Snapshot| Snapshot { volume: ready.id, ..snapshot.clone() };
        let snapshots: Vec<_> = companions.iter().map(own).collect();
        let url = self.volume_url(target_pool, &ready);
        let mut cause = cause_of(task, "storage-volume-renamed", &url, &ready.project);
        cause.context = serde_json::json!({ "old_name": old.name, "old_pool": source.pool.document.name });
        let mut change = TakeOver { new: &ready, snapshots: &snapshots, old: &source.record, instance: None };
        if let Some(instance) = self.store.instance_by_root(old.id)? {
            let moved = self.instance_on(&instance, &ready, target_pool)?;
            let url = instance_url(&moved);
            cause = cause_of(task, "instance-renamed", &url, &moved.project);
            cause.context =
                serde_json::json!({ "old_name": instance.name, "old_pool": source.pool.document.name });
            change.instance = Some(self.changed_instance(&instance, moved)?);
        }
        self.store.volume_takes_over(&self.ticket(task), &change, &plan, Some(cause))
    }

    /// Removes a sentenced volume from its pool, and then from the catalog.
    pub(super) fn bury(&self, task: &Task, pool: &OpenPool, record: &VolumeRecord) -> Result<()> {
        let live = Place::live(&record.storage_id()?);
        let trashed = self.with_cx(task, |cx| pool.pool.trash(cx, &live))?;
        let backups = self.store.backups_of(&record.volume)?;
        self.store.volume_is_gone(&self.ticket(task), record.volume.id, None)?;
        self.forget_backup_files(&backups)?;
        Ok(self.with_cx(task, |cx| pool.pool.destroy(cx, &trashed))?)
    }
}

/// The same snapshots for another volume.
pub(super) fn companions_of(volume: &Volume, snapshots: &[Snapshot]) -> Vec<Snapshot> {
    let own = |snapshot: &Snapshot| Snapshot {
        id: larder_catalog::SnapshotId::random(),
        volume: volume.id,
        is_ready: true,
        ..snapshot.clone()
    };
    snapshots.iter().map(own).collect()
}

fn names_of(snapshots: &[Snapshot]) -> Result<Vec<SnapshotName>> {
    snapshots.iter().map(|snapshot| Ok(snapshot.name.parse()?)).collect()
}
