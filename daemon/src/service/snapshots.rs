//! Snapshots of volumes: made, restored, renamed, deleted, expired.

use super::crash::{Point, point};
use super::lifetime;
use super::pools::OpenPool;
use super::store::{VolumeRecord, cause_of};
use super::volumes::action;
use super::work::{Plan, Then};
use super::{Result, Service, ServiceError, Task};
use jiff::Timestamp;
use larder_base::SnapshotName;
use larder_catalog::Cause;
use larder_catalog::documents::{InstanceSnapshot, Snapshot, Volume, VolumeState};
use larder_storage_driver::{Place, Restore, VolumeSpec};
use larder_storage_pool::Intent;

/// What a new snapshot shall be.
#[derive(Debug, Clone)]
pub struct NewSnapshot {
    /// Its name.
    pub name: SnapshotName,
    /// For people.
    pub description: String,
    /// When it goes, or that it stays; from the volume's `snapshots.expiry.manual` or `snapshots.expiry` when nothing is said.
    pub expires_at: Option<Option<Timestamp>>,
}

impl Service {
    /// Makes a snapshot.
    pub fn create_snapshot(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        new: NewSnapshot,
    ) -> Result<()> {
        self.create_snapshot_of(task, pool, record, new, None)
    }

    /// The same of the root of an instance, whose snapshot is there at the same moment; its `root` is filled in. The event is the
    /// instance's.
    pub(super) fn create_snapshot_of(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        new: NewSnapshot,
        of_instance: Option<(InstanceSnapshot, Cause)>,
    ) -> Result<()> {
        let NewSnapshot { name, .. } = new;
        let now = self.clock.now();
        lifetime::must_be_ahead(new.expires_at.flatten(), now, name.as_str())?;
        let (_claim, record) = &self.alone_with(task, record)?;
        let expires_at = match new.expires_at {
            Some(said) => said,
            None => lifetime::manual_expiry_of(&record.volume.config, now)?,
        };
        let snapshot = Snapshot {
            id: larder_catalog::SnapshotId::random(),
            volume: record.volume.id,
            name: name.to_string(),
            description: new.description,
            config: record.volume.config.clone(),
            created_at: now,
            expires_at,
            is_ready: false,
        };
        if pool.pool.objects().is_some() {
            return self.create_snapshot_elsewhere(task, pool, record, &snapshot);
        }
        let id = record.storage_id()?;
        let (of_instance, cause) = match of_instance {
            Some((of, cause)) => (Some(InstanceSnapshot { root: Some(snapshot.id), ..of }), cause),
            None => {
                let url = self.snapshot_url(pool, &record.volume, name.as_str());
                let what = action(&record.volume, "snapshot-created");
                (None, cause_of(task, &what, &url, &record.volume.project))
            }
        };
        let then = Then::SnapshotIsMade {
            snapshot: snapshot.id.as_uuid(),
            of_instance: of_instance.clone().map(Box::new),
        };
        let plan = Plan { storage: Intent::Snapshot { volume: id.clone(), snapshot: name.clone() }, then };
        let _still = if record.is_bucket() { Some(self.stop_writes(task, record)?) } else { None };
        self.store.begin_snapshot(&self.ticket(task), record, &snapshot, &plan)?;
        point(Point::Intent);
        if let Err(error) = self.with_cx(task, |cx| pool.pool.snapshot(cx, &id, &name)) {
            if error.undo_failures().is_empty() {
                self.store.snapshot_is_gone(Some(&self.ticket(task)), &snapshot, None)?;
            }
            return Err(error.into());
        }
        point(Point::Act);
        self.store.snapshot_is_made(&self.ticket(task), &snapshot, of_instance.as_ref(), Some(cause))?;
        point(Point::Commit);
        Ok(())
    }

    /// The snapshots of a volume that go when it is put back to `name`, youngest first: the younger ones, where the pool
    /// can't go back over them and the volume's keys say that they may go.
    pub(super) fn in_the_way_of(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        name: &str,
    ) -> Result<Vec<Snapshot>> {
        let mut younger = self.store.snapshots_of(&record.volume)?;
        let restored = younger.iter().find(|snapshot| snapshot.name == name).map(|found| found.created_at);
        younger.retain(|snapshot| restored.is_some_and(|restored| snapshot.created_at > restored));
        let driver = pool.pool.driver();
        if younger.is_empty() || driver.capabilities().restore != Restore::InPlaceNewest {
            return Ok(Vec::new());
        }
        let (live, restored) = (Place::live(&record.storage_id()?), name.parse()?);
        let may_go =
            self.with_cx(task, |cx| driver.may_remove_younger(cx, &live, &restored, &record.volume.config))?;
        if !may_go {
            return Ok(Vec::new());
        }
        younger.reverse();
        Ok(younger)
    }

    /// Puts a volume back to one of its snapshots. The instances that have it must be stopped.
    pub fn restore_volume(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        name: &str,
    ) -> Result<()> {
        self.restore_volume_then(task, pool, record, name, Then::VolumeIsReady, |record, ready| {
            let url = self.volume_url(&pool.document.name, ready);
            let mut cause = cause_of(task, &action(ready, "restored"), &url, &ready.project);
            cause.context = serde_json::json!({ "snapshot": name });
            self.store.end_change(&self.ticket(task), record, ready, Some(cause))
        })
    }

    /// The same, with what the catalog says then: `end` says it, and `then` what the next start says if this run does not come
    /// to it.
    pub(super) fn restore_volume_then(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        name: &str,
        then: Then,
        end: impl FnOnce(&VolumeRecord, &Volume) -> Result<()>,
    ) -> Result<()> {
        let (_claim, record) = &self.alone_with(task, record)?;
        record.must_be_whole()?;
        let snapshots = self.store.snapshots_of(&record.volume)?;
        let snapshot = snapshots.iter().find(|snapshot| snapshot.name == name).ok_or_else(|| {
            ServiceError::not_found(format!("snapshot {name:?} of volume {:?}", record.volume.name))
        })?;
        if pool.pool.objects().is_some() {
            return self.restore_bucket_elsewhere(task, pool, record, snapshot);
        }
        self.must_not_run_with(record)?;
        self.must_not_be_browsed(record)?;
        let _closed = if record.is_bucket() { Some(self.close_bucket(task, pool, record)?) } else { None };
        let removed = self.in_the_way_of(task, pool, record, name)?;
        for younger in &removed {
            self.remove_snapshot(task, pool, record, younger)?;
        }
        let is_newest =
            !removed.is_empty() || snapshots.iter().all(|other| other.created_at <= snapshot.created_at);
        let id = record.storage_id()?;
        let snapshot_name: SnapshotName = name.parse()?;
        let plan =
            Plan { storage: Intent::Restore { volume: id.clone(), snapshot: snapshot_name.clone() }, then };
        let marked = Volume { state: VolumeState::Restoring, ..record.volume.clone() };
        let record = self.store.begin_change(&self.ticket(task), record, &marked, &plan)?;
        point(Point::Intent);
        let spec =
            VolumeSpec { id, size: super::volumes::storage_size(&marked)?, config: marked.config.clone() };
        let outcome = self.with_cx(task, |cx| pool.pool.restore(cx, &spec, &snapshot_name, is_newest));
        point(Point::Act);
        let ready = Volume { state: VolumeState::Ready, ..marked };
        match outcome {
            Ok(()) => end(&record, &ready),
            Err(error) => {
                if error.undo_failures().is_empty() {
                    self.store.end_change(&self.ticket(task), &record, &ready, None)?;
                }
                Err(error.into())
            }
        }
    }

    /// Gives a snapshot another name.
    pub fn rename_snapshot(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        snapshot: &Snapshot,
        name: &SnapshotName,
    ) -> Result<()> {
        let (_claim, record) = &self.alone_with(task, record)?;
        self.must_be_the_same(record, snapshot)?;
        if pool.pool.objects().is_some() {
            let cause = self.renamed_cause(task, pool, record, snapshot, name);
            return self.store.rename_snapshot_at_once(snapshot, name.as_str(), &cause);
        }
        let live = Place::live(&record.storage_id()?);
        let old: SnapshotName = snapshot.name.parse()?;
        let plan = Plan {
            storage: Intent::Move { from: live.at_snapshot(&old), to: live.at_snapshot(name) },
            then: Then::SnapshotIsNamed { snapshot: snapshot.id.as_uuid(), name: name.to_string() },
        };
        self.store.begin_snapshot_rename(&self.ticket(task), record, snapshot, name.as_str(), &plan)?;
        point(Point::Intent);
        let outcome = self.with_cx(task, |cx| pool.pool.rename_snapshot(cx, &live.volume, &old, name));
        point(Point::Act);
        match outcome {
            Ok(()) => {
                let cause = self.renamed_cause(task, pool, record, snapshot, name);
                self.store.end_snapshot_rename(&self.ticket(task), snapshot, name.as_str(), Some(&cause))
            }
            Err(error) => {
                if error.undo_failures().is_empty() {
                    self.store.drop_snapshot_rename(&self.ticket(task), snapshot, name.as_str())?;
                }
                Err(error.into())
            }
        }
    }

    fn renamed_cause(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        snapshot: &Snapshot,
        name: &SnapshotName,
    ) -> Cause {
        let url = self.snapshot_url(pool, &record.volume, name.as_str());
        let mut cause =
            cause_of(task, &action(&record.volume, "snapshot-renamed"), &url, &record.volume.project);
        cause.context = serde_json::json!({ "old_name": snapshot.name });
        cause
    }

    /// Refuses a time for a snapshot to go that has passed already.
    pub fn expiry_must_be_ahead(&self, at: Option<Timestamp>, snapshot: &str) -> Result<()> {
        lifetime::must_be_ahead(at, self.clock.now(), snapshot)
    }

    /// Changes description and expiry. One that stays may have passed: the snapshot is on its way out.
    pub fn update_snapshot(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        known: &Snapshot,
        changed: &Snapshot,
    ) -> Result<()> {
        if known.expires_at != changed.expires_at {
            self.expiry_must_be_ahead(changed.expires_at, &changed.name)?;
        }
        let url = self.snapshot_url(pool, &record.volume, &changed.name);
        let cause = cause_of(task, &action(&record.volume, "snapshot-updated"), &url, &record.volume.project);
        self.store.change_snapshot(known, changed, Some(cause))
    }

    /// Deletes a snapshot.
    pub fn delete_snapshot(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        snapshot: &Snapshot,
    ) -> Result<()> {
        let (_claim, record) = &self.alone_with(task, record)?;
        self.must_be_the_same(record, snapshot)?;
        match pool.pool.objects() {
            None => self.remove_snapshot(task, pool, record, snapshot),
            Some(_) => self.remove_snapshot_elsewhere(task, pool, record, snapshot),
        }
    }

    /// Refuses a snapshot that went or got another name since it was looked up.
    fn must_be_the_same(&self, record: &VolumeRecord, snapshot: &Snapshot) -> Result<()> {
        match self.store.snapshot_by_id(&record.volume, snapshot.id.as_uuid())? {
            Some(now) if now.name == snapshot.name => Ok(()),
            Some(_) => Err(ServiceError::overtaken()),
            None => Err(ServiceError::not_found(format!(
                "the snapshot {:?} of volume {:?}",
                snapshot.name, record.volume.name
            ))),
        }
    }

    /// The same of a volume that nobody else changes.
    fn remove_snapshot(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        snapshot: &Snapshot,
    ) -> Result<()> {
        let live = Place::live(&record.storage_id()?).at_snapshot(&snapshot.name.parse()?);
        let plan = Plan {
            storage: Intent::Move { from: live.clone(), to: live.trashed(&self.ticket(task)) },
            then: Then::SnapshotIsGone { snapshot: snapshot.id.as_uuid() },
        };
        self.store.begin_intent(&self.ticket(task), record, &plan)?;
        point(Point::Intent);
        let trashed = match self.with_cx(task, |cx| pool.pool.trash(cx, &live)) {
            Ok(trashed) => Some(trashed),
            Err(error) if error.kind() == larder_storage_driver::ErrorKind::NotFound => None,
            Err(error) => {
                if error.undo_failures().is_empty() {
                    self.store.drop_intent(&self.ticket(task))?;
                }
                return Err(error.into());
            }
        };
        point(Point::Act);
        let url = self.snapshot_url(pool, &record.volume, &snapshot.name);
        let cause = cause_of(task, &action(&record.volume, "snapshot-deleted"), &url, &record.volume.project);
        self.store.snapshot_is_gone(Some(&self.ticket(task)), snapshot, Some(cause))?;
        point(Point::Commit);
        if let Some(trashed) = trashed {
            self.with_cx(task, |cx| pool.pool.destroy(cx, &trashed))?;
        }
        Ok(())
    }

    /// Deletes the snapshots whose time has come. Goes on after a failure; returns how many went.
    pub fn delete_expired_snapshots(&self) -> Result<usize> {
        let now = self.clock.now();
        let mut deleted = 0;
        for (record, snapshot) in self.store.snapshots_expired_at(now)? {
            // What is being changed has its turn at the next look.
            if self.volume_claims.is_taken(&record.volume.id) {
                continue;
            }
            let task = Task::quiet(super::work::Requestor::default());
            let outcome = self
                .store
                .pool_by_id(record.volume.pool)
                .and_then(|pool| self.open_pool(&pool.name))
                .and_then(|pool| self.delete_snapshot(&task, &pool, &record, &snapshot));
            match outcome {
                Ok(()) => deleted += 1,
                Err(error) => {
                    tracing::warn!(volume = record.volume.name, snapshot = snapshot.name, %error, "an expired snapshot stays");
                }
            }
        }
        Ok(deleted)
    }

    /// The next free name after the volume's `snapshots.pattern`: `snap0`, `snap1`, ….
    pub fn next_snapshot_name(&self, record: &VolumeRecord) -> Result<SnapshotName> {
        let taken: Vec<String> =
            self.store.snapshots_of(&record.volume)?.into_iter().map(|snapshot| snapshot.name).collect();
        let pattern = record.volume.config.get("snapshots.pattern").map_or("snap%d", String::as_str);
        Ok(lifetime::name_from_pattern(pattern, &taken, self.clock.now()).parse()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Kind;
    use crate::service::trial::{World, new_volume, task, volumes_in};

    /// A volume with one snapshot.
    fn with_a_snapshot(service: &Service) -> (OpenPool, VolumeRecord, Snapshot) {
        let pool = service.open_pool("p1").unwrap();
        service.create_volume(&task(), &pool, new_volume("v", &[])).unwrap();
        let record = volumes_in(service, &pool).remove(0);
        let new = NewSnapshot { name: "one".parse().unwrap(), description: String::new(), expires_at: None };
        service.create_snapshot(&task(), &pool, &record, new).unwrap();
        let snapshot = service.store.snapshot(&record.volume, "one").unwrap().unwrap();
        (pool, record, snapshot)
    }

    fn described(snapshot: &Snapshot, description: &str) -> Snapshot {
        Snapshot { description: description.to_owned(), ..snapshot.clone() }
    }

    #[test]
    fn a_change_of_a_snapshot_outlives_a_rename_that_began_before() {
        let world = World::new();
        let service = world.with_pools(&["p1"]);
        let (pool, record, snapshot) = with_a_snapshot(&service);
        let changed = described(&snapshot, "for people");
        service.update_snapshot(&task(), &pool, &record, &snapshot, &changed).unwrap();
        service.rename_snapshot(&task(), &pool, &record, &snapshot, &"two".parse().unwrap()).unwrap();
        let now = service.store.snapshots_of(&record.volume).unwrap();
        assert_eq!(now, [Snapshot { name: "two".to_owned(), ..changed }]);
    }

    #[test]
    fn a_snapshot_that_is_not_what_it_was_is_not_changed() {
        let world = World::new();
        let service = world.with_pools(&["p1"]);
        let (pool, record, snapshot) = with_a_snapshot(&service);
        let change = |text: &str| {
            service.update_snapshot(&task(), &pool, &record, &snapshot, &described(&snapshot, text))
        };
        change("first").unwrap();
        assert_eq!(change("second").unwrap_err(), ServiceError::overtaken());
        let now = service.store.snapshot(&record.volume, "one").unwrap().unwrap();
        service.delete_snapshot(&task(), &pool, &record, &now).unwrap();
        assert_eq!(change("third").unwrap_err().kind, Kind::NotFound);
        assert!(service.store.snapshots_of(&record.volume).unwrap().is_empty());
    }
}
