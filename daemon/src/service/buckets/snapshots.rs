//! Snapshots of buckets that are kept elsewhere, restores to them, and copies.
//!
//! A snapshot is a bucket there whose name has the snapshot's id, and to which nobody has a key. What is under way is in the
//! catalog as for buckets: a snapshot that is not ready goes, whether it was never whole or is being deleted; while one is made
//! or copied, its bucket is being changed; a bucket that is being put back names the snapshot, and is closed until it is.

use super::elsewhere::{object_bucket, passing_key};
use super::{NewBucket, Planned, must_fit, quota_of};
use crate::service::copies::leave_behind;
use crate::service::crash::{Point, point};
use crate::service::pools::OpenPool;
use crate::service::store::{VolumeRecord, cause_of};
use crate::service::volumes::action;
use crate::service::{KeyPair, Result, Service, ServiceError, Task, VolumeSource};
use larder_catalog::SnapshotId;
use larder_catalog::documents::{Agreement, Pool as PoolDocument, Snapshot, Volume};
use larder_storage_driver::{ErrorKind, ObjectBucket, Place, VolumeId};
use larder_storage_pool::{PassingKeys, Pool};
use std::collections::HashMap;

/// The bucket that a snapshot is.
fn snapshot_bucket(record: &VolumeRecord, snapshot: SnapshotId) -> Result<ObjectBucket> {
    let mark = snapshot.as_uuid();
    let name = format!("snapshot-{}", mark.simple()).parse()?;
    Ok(ObjectBucket { volume: VolumeId { name, ..record.storage_id()? }, mark })
}

fn passing_keys() -> Result<PassingKeys> {
    Ok(PassingKeys { filler: passing_key()?, keeper: passing_key()? })
}

impl Service {
    /// Makes a snapshot of a bucket that nobody else changes. All or nothing.
    pub(in crate::service) fn create_snapshot_elsewhere(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        snapshot: &Snapshot,
    ) -> Result<()> {
        self.capture(task, pool, record, snapshot)?;
        point(Point::Act);
        let url = self.snapshot_url(pool, &record.volume, &snapshot.name);
        let cause = cause_of(task, &action(&record.volume, "snapshot-created"), &url, &record.volume.project);
        let ready = Snapshot { is_ready: true, ..snapshot.clone() };
        self.store.change_snapshot(snapshot, &ready, Some(cause))?;
        point(Point::Commit);
        Ok(())
    }

    /// Makes a snapshot that is not ready as far as the catalog goes.
    fn capture(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        snapshot: &Snapshot,
    ) -> Result<()> {
        let (volume, bucket) = (&record.volume, object_bucket(record)?);
        let (own, keys) = (snapshot_bucket(record, snapshot.id)?, passing_keys()?);
        let access = self.recorded_access(volume)?;
        self.store.begin_capture(record, snapshot)?;
        point(Point::Intent);
        let captured = self.with_cx(task, |cx| pool.pool.capture_bucket(cx, &bucket, &access, &own, &keys));
        if let Err(error) = captured {
            self.unless_left_behind(volume, &error, || {
                self.store.snapshot_is_gone(None, snapshot, None)?;
                self.store.bucket_is(volume, Agreement::Agreed)
            })?;
            return Err(error.into());
        }
        self.store.bucket_is(volume, Agreement::Agreed)
    }

    /// Deletes a snapshot of a bucket that nobody else changes. From here on it is gone for everybody; what can't be destroyed
    /// now is destroyed later.
    pub(in crate::service) fn remove_snapshot_elsewhere(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        snapshot: &Snapshot,
    ) -> Result<()> {
        let own = snapshot_bucket(record, snapshot.id)?;
        let known = self.store.snapshot_by_id(&record.volume, snapshot.id.as_uuid())?;
        let known = known.ok_or_else(ServiceError::overtaken)?;
        self.store.change_snapshot(&known, &Snapshot { is_ready: false, ..known.clone() }, None)?;
        point(Point::Intent);
        let gone = self.with_cx(task, |cx| pool.pool.forget_bucket(&cx.uncancellable(), &own));
        if let Err(error) = gone {
            self.leave_behind(&record.volume, &error);
            return Err(error.into());
        }
        point(Point::Act);
        let url = self.snapshot_url(pool, &record.volume, &snapshot.name);
        let cause = cause_of(task, &action(&record.volume, "snapshot-deleted"), &url, &record.volume.project);
        self.store.snapshot_is_gone(None, snapshot, Some(cause))?;
        point(Point::Commit);
        Ok(())
    }

    /// Puts a bucket that nobody else changes back to one of its snapshots. From the first object on it goes to its end.
    pub(in crate::service) fn restore_bucket_elsewhere(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        snapshot: &Snapshot,
    ) -> Result<()> {
        let (volume, bucket) = (&record.volume, object_bucket(record)?);
        let own = snapshot_bucket(record, snapshot.id)?;
        self.must_have_room(task, pool, record, volume, &own.volume)?;
        let (access, filler) = (self.recorded_access(volume)?, passing_key()?);
        self.store.begin_restore(record, snapshot.id)?;
        point(Point::Intent);
        let restored = self.with_cx(task, |cx| pool.pool.restore_bucket(cx, &bucket, &access, &own, &filler));
        if let Err(error) = restored {
            match error.kind() {
                ErrorKind::Degraded => self.leave_behind(volume, &error),
                _ => self.unless_left_behind(volume, &error, || self.store.end_restore(volume, None))?,
            }
            return Err(error.into());
        }
        point(Point::Act);
        let url = self.bucket_url(&pool.document.name, volume);
        let mut cause = cause_of(task, &action(volume, "restored"), &url, &volume.project);
        cause.context = serde_json::json!({ "snapshot": snapshot.name });
        self.store.end_restore(volume, Some(cause))?;
        point(Point::Commit);
        Ok(())
    }

    pub(super) fn go_on_restoring_elsewhere(
        &self,
        task: &Task,
        pool: &Pool,
        record: &VolumeRecord,
        snapshot: SnapshotId,
    ) -> Result<()> {
        let (bucket, own) = (object_bucket(record)?, snapshot_bucket(record, snapshot)?);
        let (access, filler) = (self.recorded_access(&record.volume)?, passing_key()?);
        self.with_cx(task, |cx| pool.go_on_restoring_bucket(cx, &bucket, &access, &own, &filler))?;
        self.store.end_restore(&record.volume, None)
    }

    /// Makes a bucket that is a copy of another in the same pool, or of one of its snapshots, with an admin key of its own. A copy
    /// of the bucket itself is made from a snapshot that goes when the copy is there.
    pub(super) fn copy_bucket_elsewhere(
        &self,
        task: &Task,
        target: &OpenPool,
        source: &VolumeSource,
        mut new: NewBucket,
    ) -> Result<Option<KeyPair>> {
        leave_behind(&mut new.config, &source.record.volume, target);
        self.bucket_name_must_be_free(target, &new.project, &new.name)?;
        let planned = self.plan_bucket(target, new, &[])?;
        let (_claim, record) = self.alone_with(task, &source.record)?;
        let volume = &record.volume;
        if let Some(name) = &source.snapshot {
            let found = self.store.snapshot(volume, name.as_str())?;
            let found = found.ok_or_else(|| {
                ServiceError::not_found(format!("snapshot {name} of bucket {:?}", volume.name))
            })?;
            let own = snapshot_bucket(&record, found.id)?;
            self.must_have_room(task, target, &record, &planned.volume, &own.volume)?;
            self.make_from_snapshot(task, target, &record, &own, &planned)?;
            return Ok(planned.told());
        }
        self.must_have_room(task, target, &record, &planned.volume, &record.storage_id()?)?;
        let passing = self.passing_snapshot(volume);
        let own = snapshot_bucket(&record, passing.id)?;
        self.capture(task, target, &record, &passing)?;
        let made = self.make_from_snapshot(task, target, &record, &own, &planned);
        match self.with_cx(task, |cx| target.pool.forget_bucket(&cx.uncancellable(), &own)) {
            Ok(()) => self.store.snapshot_is_gone(None, &passing, None)?,
            Err(error) => self.leave_behind(volume, &error),
        }
        made?;
        Ok(planned.told())
    }

    /// One that is never ready, so that nobody sees it and it goes by itself if need be.
    fn passing_snapshot(&self, volume: &Volume) -> Snapshot {
        let id = SnapshotId::random();
        Snapshot {
            id,
            volume: volume.id,
            name: format!("copy-{}", id.as_uuid()),
            description: String::new(),
            config: volume.config.clone(),
            created_at: self.clock.now(),
            expires_at: None,
            is_ready: false,
        }
    }

    fn make_from_snapshot(
        &self,
        task: &Task,
        pool: &OpenPool,
        source: &VolumeRecord,
        own: &ObjectBucket,
        planned: &Planned,
    ) -> Result<()> {
        let (bucket, keys) = (object_bucket(source)?, passing_keys()?);
        let guest = ObjectBucket { volume: planned.spec.id.clone(), mark: planned.volume.id.as_uuid() };
        self.store.bucket_is(&source.volume, Agreement::Changing)?;
        let settled = || self.store.bucket_is(&source.volume, Agreement::Agreed);
        let admitted = self.with_cx(task, |cx| pool.pool.admit_to_snapshot(cx, &bucket, own, &guest, &keys));
        if let Err(error) = admitted {
            self.unless_left_behind(&source.volume, &error, settled)?;
            return Err(error.into());
        }
        settled()?;
        self.make_elsewhere(task, pool, planned, |cx, bucket, access| {
            pool.pool.create_bucket_from(cx, own, bucket, access, &keys.filler)
        })
    }

    /// Refuses to put more into a bucket than it may hold; a snapshot must be there for that.
    fn must_have_room(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        target: &Volume,
        source: &VolumeId,
    ) -> Result<()> {
        let usage = self.with_cx(task, |cx| pool.pool.volume_usage(cx, source))?;
        match quota_of(&target.config)? {
            Some(size) => must_fit(record, size, usage.used_bytes.unwrap_or_default()),
            None => Ok(()),
        }
    }

    fn snapshot_buckets(
        &self,
        record: &VolumeRecord,
        is_wanted: impl Fn(&Snapshot) -> bool,
    ) -> Result<Vec<ObjectBucket>> {
        let snapshots = self.store.all_snapshots_of(&record.volume)?;
        let wanted = snapshots.iter().filter(|snapshot| is_wanted(snapshot));
        wanted.map(|snapshot| snapshot_bucket(record, snapshot.id)).collect()
    }

    /// Removes all snapshots of a bucket that goes; what the catalog says of them goes with it.
    pub(super) fn forget_snapshots_elsewhere(
        &self,
        task: &Task,
        pool: &Pool,
        record: &VolumeRecord,
    ) -> Result<()> {
        let buckets = self.snapshot_buckets(record, |_| true)?;
        let forget = |bucket| self.with_cx(task, |cx| pool.forget_bucket(&cx.uncancellable(), bucket));
        Ok(buckets.iter().try_for_each(forget)?)
    }

    /// Takes the keys away that a snapshot has while it is copied.
    pub(super) fn seal_snapshots(&self, task: &Task, pool: &Pool, record: &VolumeRecord) -> Result<()> {
        let buckets = self.snapshot_buckets(record, |snapshot| snapshot.is_ready)?;
        Ok(buckets.iter().try_for_each(|own| self.with_cx(task, |cx| pool.seal_snapshot(cx, own)))?)
    }

    /// Removes the snapshots that were not made to the end, or not deleted to the end.
    pub(super) fn remove_unready_snapshots(
        &self,
        task: &Task,
        pool: &Pool,
        record: &VolumeRecord,
    ) -> Result<()> {
        for snapshot in self.store.all_snapshots_of(&record.volume)?.iter().filter(|one| !one.is_ready) {
            let own = snapshot_bucket(record, snapshot.id)?;
            self.with_cx(task, |cx| pool.forget_bucket(cx, &own))?;
            self.store.snapshot_is_gone(None, snapshot, None)?;
        }
        Ok(())
    }

    /// The places of a pool, with those of snapshots told as such; what is left of one that goes is no place.
    pub(super) fn named_snapshots(&self, document: &PoolDocument, places: Vec<Place>) -> Result<Vec<Place>> {
        let mut names = HashMap::new();
        for record in self.store.volumes_in(document)? {
            let live = Place::live(&record.storage_id()?);
            for snapshot in self.store.all_snapshots_of(&record.volume)? {
                let own = snapshot_bucket(&record, snapshot.id)?.volume;
                let place =
                    snapshot.is_ready.then(|| snapshot.name.parse().map(|name| live.at_snapshot(&name)));
                names.insert(own, place.transpose()?);
            }
        }
        let named = |place: Place| match names.get(&place.volume) {
            Some(known) => known.clone(),
            None => Some(place),
        };
        Ok(places.into_iter().filter_map(named).collect())
    }
}
