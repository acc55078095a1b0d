//! Copies and moves of volumes, within and across pools.

use super::crash::{Point, point};
use super::pools::OpenPool;
use super::store::{TakeOver, VolumeRecord, cause_of};
use super::volumes::NewVolume;
use super::work::{Plan, Then};
use super::{Result, Service, ServiceError, Task, instance_url};
use larder_base::{ProjectName, SnapshotName, VolumeName};
use larder_catalog::documents::{Snapshot, Volume, VolumeState};
use larder_storage_driver::{Config, ErrorKind, KeyScope, Place, VolumeSpec};
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

/// How many stored backups move along with a volume: each takes five of a transaction's operations.
const BACKUPS_TOGETHER: usize = 12;

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
        let (_claim, record) = self.alone_with(task, &source.record)?;
        record.must_be_whole()?;
        let source = &VolumeSource { record, ..source.clone() };
        self.must_be_free(&source.record)?;
        let backups = self.store.backups_of(&source.record.volume)?.len();
        if backups > BACKUPS_TOGETHER {
            return Err(ServiceError::bad(format!(
                "the volume {:?} has {backups} stored backups, and at most {BACKUPS_TOGETHER} move along: export and \
                 delete some first",
                source.record.volume.name
            )));
        }
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
            match error.undo_failures() {
                [] => self.store.forget_volume(volume.id)?,
                _ => self.give_up_copy(task, target, volume),
            }
            return Err(error.into());
        }
        point(Point::Act);
        // Who began to use it meanwhile keeps it.
        let taken_over = self
            .must_be_free(&source.record)
            .and_then(|()| self.take_over(task, &target.document.name, volume, &source.record, &companions));
        if let Err(error) = taken_over {
            self.give_up_copy(task, target, volume);
            return Err(error);
        }
        point(Point::Commit);
        // It is moved; what can't be removed now goes when the house is kept.
        if let Err(error) = self.bury(task, &source.pool, &source.record) {
            tracing::warn!(volume = source.record.volume.name, %error, "what was moved is still where it was, too");
        }
        Ok(())
    }

    /// Removes a copy that was to take over: it has no name yet that anybody could know. What can't be removed now goes when the
    /// house is kept.
    fn give_up_copy(&self, task: &Task, target: &OpenPool, copy: &Volume) {
        let given_up = self.store.volume_by_id(copy.id).and_then(|record| {
            let Some(record) = record else { return Ok(()) };
            self.store.sentence(&record)?;
            self.bury(task, target, &record)
        });
        if let Err(error) = given_up {
            tracing::warn!(volume = copy.name, %error, "the copy that was to take over is not removed yet");
        }
    }

    pub(super) fn must_be_free(&self, record: &VolumeRecord) -> Result<()> {
        self.must_be_unused(record).and_then(|()| self.must_not_be_browsed(record))
    }

    /// Makes a complete copy the volume and sentences the volume it was made from, in one transaction. An instance whose
    /// root it was goes along.
    pub(super) fn take_over(
        &self,
        task: &Task,
        target_pool: &str,
        copy: &Volume,
        from: &VolumeRecord,
        companions: &[Snapshot],
    ) -> Result<()> {
        let old = &from.volume;
        let old_pool = self.store.pool_by_id(old.pool)?.name;
        let live = Place::live(&from.storage_id()?);
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
        cause.context = serde_json::json!({ "old_name": old.name, "old_pool": old_pool });
        let backups = self.store.backups_of(old)?;
        let mut change =
            TakeOver { new: &ready, snapshots: &snapshots, backups: &backups, old: from, instance: None };
        if let Some(instance) = self.store.instance_by_root(old.id)? {
            let moved = self.instance_on(&instance, &ready, target_pool)?;
            let url = instance_url(&moved);
            cause = cause_of(task, "instance-renamed", &url, &moved.project);
            cause.context = serde_json::json!({ "old_name": instance.name, "old_pool": old_pool });
            change.instance = Some(self.changed_instance(&instance, moved)?);
        }
        self.store.volume_takes_over(&self.ticket(task), &change, &plan, Some(cause))
    }

    /// Removes a sentenced volume from its pool, and then from the catalog.
    pub(super) fn bury(&self, task: &Task, pool: &OpenPool, record: &VolumeRecord) -> Result<()> {
        let live = Place::live(&record.storage_id()?);
        let trashed = match self.with_cx(task, |cx| pool.pool.trash(&cx.uncancellable(), &live)) {
            // A copy that did not come so far.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            trashed => Some(trashed?),
        };
        let backups = self.store.backups_of(&record.volume)?;
        self.store.volume_is_gone(&self.ticket(task), record.volume.id, None)?;
        self.forget_backup_files(&backups);
        match trashed {
            Some(trashed) => Ok(self.with_cx(task, |cx| pool.pool.destroy(&cx.uncancellable(), &trashed))?),
            None => Ok(()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::trial::{World, new_volume, task, volumes_in};
    use larder_catalog::documents::Backup;

    /// A move up to where the copy is whole: the copy's document, and what it was made of.
    fn half_moved(service: &Service) -> (OpenPool, Volume, VolumeSource) {
        let (from, to) = (service.open_pool("p1").unwrap(), service.open_pool("p2").unwrap());
        service.create_volume(&task(), &from, new_volume("v", &[])).unwrap();
        let record = volumes_in(service, &from).remove(0);
        let (volume, spec) = service.plan_volume(&to, new_volume("v", &[])).unwrap();
        let volume = Volume { takes_over: Some(record.volume.id), ..volume };
        service.store.begin_volume(&to.document, &volume).unwrap();
        let id = record.storage_id().unwrap();
        let source = CopySource { pool: &from.pool, volume: &id, snapshot: None };
        let copied = service.with_cx(&task(), |cx| {
            to.pool.copy_volume(cx, source, &CopyPlan { spec: &spec, snapshots: &[] })
        });
        copied.unwrap();
        (to, volume, VolumeSource { pool: from, record, snapshot: None, with_snapshots: true })
    }

    fn states(service: &Service, pool: &str) -> Vec<VolumeState> {
        let pool = service.open_pool(pool).unwrap();
        volumes_in(service, &pool).iter().map(|record| record.volume.state).collect()
    }

    #[test]
    fn a_pool_that_comes_back_leaves_a_move_to_who_moves() {
        let world = World::new();
        let service = world.with_pools(&["p1", "p2"]);
        let (_, _, source) = half_moved(&service);
        let claim = service.claim_volume(&task(), &source.record.volume).unwrap();
        service.finish_moves().unwrap();
        assert_eq!(states(&service, "p1"), [VolumeState::Ready]);
        assert_eq!(states(&service, "p2"), [VolumeState::Creating]);
        drop(claim);
        service.finish_moves().unwrap();
        assert_eq!(states(&service, "p1"), []);
        assert_eq!(states(&service, "p2"), [VolumeState::Ready]);
    }

    /// A start while a pool is away.
    fn start_without(world: &World, pool: &str) -> Service {
        std::fs::rename(world.pool(pool), world.pool("away")).unwrap();
        world.start()
    }

    fn bring_back(world: &World, service: &Service, pool: &str) {
        std::fs::rename(world.pool("away"), world.pool(pool)).unwrap();
        assert_eq!(service.look_after_pools().unwrap().pools, 1);
    }

    #[test]
    fn a_move_that_a_start_could_not_finish_is_given_up() {
        let world = World::new();
        let service = world.with_pools(&["p1", "p2"]);
        half_moved(&service);
        drop(service);
        let service = start_without(&world, "p2");
        std::fs::write(world.pool("p1").join("custom/default_v/since"), "written since").unwrap();
        bring_back(&world, &service, "p2");
        let to = service.open_pool("p2").unwrap();
        // Who made one now would lose it.
        let again = service.create_volume(&task(), &to, new_volume("v", &[])).unwrap_err();
        assert!(again.message.contains("still being removed"), "{again}");
        assert_eq!(service.bury_sentenced().unwrap(), 1);
        assert_eq!((states(&service, "p1"), states(&service, "p2")), (vec![VolumeState::Ready], vec![]));
        let warnings = service.store.warnings().unwrap();
        let kinds: Vec<_> = warnings.into_iter().map(|warning| warning.kind).collect();
        assert_eq!(kinds, [crate::service::WarningType::PoolUnavailable.as_str()]);
        let places = |pool: &str| {
            let pool = service.open_pool(pool).unwrap();
            service.with_cx(&task(), |cx| pool.pool.places(cx)).unwrap().len()
        };
        assert_eq!((places("p1"), places("p2")), (1, 0));
        assert!(world.pool("p1").join("custom/default_v/since").exists());
        service.create_volume(&task(), &to, new_volume("v", &[])).unwrap();
    }

    #[test]
    fn a_start_finishes_a_move_from_a_pool_that_is_away() {
        let world = World::new();
        let service = world.with_pools(&["p1", "p2"]);
        half_moved(&service);
        drop(service);
        let service = start_without(&world, "p1");
        assert_eq!(states(&service, "p2"), [VolumeState::Ready]);
        bring_back(&world, &service, "p1");
        service.bury_sentenced().unwrap();
        assert_eq!((states(&service, "p1"), states(&service, "p2")), (vec![], vec![VolumeState::Ready]));
        let pool = service.open_pool("p1").unwrap();
        assert_eq!(service.with_cx(&task(), |cx| pool.pool.places(cx)).unwrap(), []);
    }

    #[test]
    fn what_could_not_be_removed_after_a_move_goes_later() {
        let world = World::new();
        let service = world.with_pools(&["p1", "p2"]);
        let (to, volume, source) = half_moved(&service);
        service.take_over(&task(), &to.document.name, &volume, &source.record, &[]).unwrap();
        assert_eq!(states(&service, "p1"), [VolumeState::Deleting]);
        let claim = service.claim_volume(&task(), &source.record.volume).unwrap();
        assert_eq!(service.bury_sentenced().unwrap(), 0);
        drop(claim);
        assert_eq!(service.bury_sentenced().unwrap(), 1);
        assert_eq!(states(&service, "p1"), []);
        assert!(service.store.intents_in(&source.pool.document).unwrap().is_empty());
        assert_eq!(states(&service, "p2"), [VolumeState::Ready]);
    }

    #[test]
    fn stored_backups_move_along() {
        let world = World::new();
        let service = world.with_pools(&["p1", "p2"]);
        let (to, volume, source) = half_moved(&service);
        let backup = Backup {
            id: uuid::Uuid::new_v4(),
            volume: source.record.volume.id,
            name: "b".to_owned(),
            created_at: service.clock.now(),
            expires_at: None,
            volume_only: false,
            optimized: false,
        };
        let file = service.directories.backups().join(backup.id.to_string());
        std::fs::write(&file, "content").unwrap();
        service.store.add_backup(&backup, None).unwrap();
        service.take_over(&task(), &to.document.name, &volume, &source.record, &[]).unwrap();
        assert_eq!(service.bury_sentenced().unwrap(), 1);
        let moved = volumes_in(&service, &to).remove(0).volume;
        let own = Backup { volume: moved.id, ..backup.clone() };
        assert_eq!(service.store.backups_of(&moved).unwrap(), std::slice::from_ref(&own));
        assert_eq!(std::fs::read(&file).unwrap(), b"content");
        assert!(service.store.add_backup(&own, None).is_err(), "its name is taken");
        assert_eq!(service.store.all_backups().unwrap().len(), 1);
    }

    #[test]
    fn a_volume_that_was_renamed_meanwhile_is_not_moved() {
        let world = World::new();
        let service = world.with_pools(&["p1", "p2"]);
        let from = service.open_pool("p1").unwrap();
        service.create_volume(&task(), &from, new_volume("v", &[])).unwrap();
        let source = VolumeSource {
            record: volumes_in(&service, &from).remove(0),
            pool: from,
            snapshot: None,
            with_snapshots: true,
        };
        let renamed = "w".parse().unwrap();
        let project = ProjectName::default_project();
        service.rename_volume(&task(), &source.pool, &source.record, &project, &renamed).unwrap();
        let to = service.open_pool("p2").unwrap();
        let refused = service.move_volume(&task(), &to, &source, &project, &"v".parse().unwrap());
        assert_eq!(refused.unwrap_err(), ServiceError::overtaken());
        assert_eq!((states(&service, "p1"), states(&service, "p2")), (vec![VolumeState::Ready], vec![]));
    }
}
