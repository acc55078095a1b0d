//! Buckets whose objects the pool's own technology keeps and serves: made, changed and deleted there, and recorded here.
//!
//! There is no staging elsewhere, so the catalog says first what is about to happen, in the bucket's own documents: a volume
//! that is being created or deleted, a bucket that is being changed. What a failure or a crash leaves unfinished is found by
//! that: a creation is taken back, a deletion goes on, and a bucket that was being changed is made what the catalog says.

use super::{KeyPair, NewBucket, Planned, quota_of};
use crate::service::crash::{Point, point};
use crate::service::pools::OpenPool;
use crate::service::store::{VolumeRecord, cause_of, storage_id};
use crate::service::volumes::{VolumeChange, action};
use crate::service::{Kind, Requestor, Result, Service, ServiceError, Task};
use larder_base::{ByteSize, PoolName};
use larder_catalog::documents::{Agreement, BucketRole, Pool as PoolDocument, Volume, VolumeState};
use larder_storage_driver::{
    Cx, Driver, ErrorKind, ObjectAccess, ObjectBucket, ObjectKey, ObjectStore, Place, StorageError, VolumeId,
};
use larder_storage_pool::Pool;

/// The key that a bucket is filled with; no key of a bucket can be called so.
const FILLER: &str = "/filler";

/// A bucket's objects, for whoever has the key.
#[derive(Debug)]
pub(in crate::service) struct Opened<'a> {
    pub(in crate::service) store: &'a dyn ObjectStore,
    pub(in crate::service) bucket: VolumeId,
    pub(in crate::service) key: ObjectKey,
}

/// Where the buckets of a pool are that are not kept here.
#[derive(Debug)]
pub struct Elsewhere {
    driver: Box<dyn Driver>,
}

impl Elsewhere {
    /// Where a bucket is for its clients; empty where nobody serves it.
    pub fn url(&self, bucket: &Volume) -> Result<String> {
        let id = storage_id(bucket)?;
        Ok(self.driver.objects().map(|objects| objects.url(&id)).unwrap_or_default())
    }
}

/// The volume's id is the mark: a bucket that was made before under the same name is another one.
pub(super) fn object_bucket(record: &VolumeRecord) -> Result<ObjectBucket> {
    Ok(ObjectBucket { volume: record.storage_id()?, mark: record.volume.id.as_uuid() })
}

/// A key that a bucket has for a while, for its objects to be copied.
pub(super) fn passing_key() -> Result<ObjectKey> {
    let pair = KeyPair { name: FILLER.to_owned(), role: BucketRole::Admin, ..KeyPair::random()? };
    Ok(pair.object_key())
}

fn access_of(volume: &Volume, keys: &[KeyPair]) -> Result<ObjectAccess> {
    let keys = keys.iter().map(KeyPair::object_key).collect();
    Ok(ObjectAccess { size: quota_of(&volume.config)?, keys })
}

impl Service {
    /// Where the buckets of a pool are, if not here; whether the pool is open or not. Asks nobody.
    pub fn elsewhere(&self, pool: &PoolDocument) -> Result<Option<Elsewhere>> {
        let name: PoolName = pool.name.parse()?;
        let driver = self.load_driver(&name, &pool.driver, &pool.config)?;
        Ok(driver.objects().is_some().then_some(Elsewhere { driver }))
    }

    /// What the catalog says of who may do how much in a bucket.
    pub(super) fn recorded_access(&self, volume: &Volume) -> Result<ObjectAccess> {
        let keys = self.store.bucket_keys(volume)?;
        let keys = keys.iter().map(|key| self.unsealed(key)).collect::<Result<Vec<_>>>()?;
        access_of(volume, &keys)
    }

    /// A bucket as whoever has one of its keys reaches it.
    pub(in crate::service) fn opened_elsewhere<'a>(
        &self,
        pool: &'a OpenPool,
        record: &VolumeRecord,
    ) -> Result<Option<Opened<'a>>> {
        let Some(store) = pool.pool.objects() else { return Ok(None) };
        let keys = self.recorded_access(&record.volume)?.keys;
        let key = keys.iter().find(|key| key.may_write).or(keys.first());
        let key = key.ok_or_else(|| {
            let name = &record.volume.name;
            ServiceError::bad(format!("the bucket {name} has no key to read it with: make one first"))
        })?;
        Ok(Some(Opened { store, bucket: record.storage_id()?, key: key.clone() }))
    }

    /// Bytes in a bucket; none in one that its users removed.
    pub(super) fn used_elsewhere_of(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
    ) -> Result<u64> {
        let id = record.storage_id()?;
        match self.with_cx(task, |cx| pool.pool.volume_usage(cx, &id)) {
            Ok(usage) => Ok(usage.used_bytes.unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a planned bucket. All or nothing.
    pub(super) fn make_bucket_elsewhere(
        &self,
        task: &Task,
        pool: &OpenPool,
        planned: &Planned,
    ) -> Result<()> {
        self.make_elsewhere(task, pool, planned, |cx, bucket, access| {
            pool.pool.create_bucket(cx, bucket, access)
        })
    }

    /// Makes a bucket whose objects `fill` puts in, with a key that nobody else ever has. All or nothing. `keys` are the bucket's
    /// keys; without one it gets an admin key.
    pub(in crate::service) fn create_filled_bucket_elsewhere(
        &self,
        task: &Task,
        pool: &OpenPool,
        new: NewBucket,
        keys: &[KeyPair],
        fill: impl FnOnce(&Cx<'_>, &Opened<'_>) -> larder_storage_driver::Result<()>,
    ) -> Result<()> {
        let planned = self.plan_bucket(pool, new, keys)?;
        let key = passing_key()?;
        self.make_elsewhere(task, pool, &planned, |cx, bucket, access| {
            pool.pool.create_filled_bucket(cx, bucket, access, &key, |cx, store| {
                fill(cx, &Opened { store, bucket: bucket.volume.clone(), key: key.clone() })
            })
        })
    }

    pub(super) fn make_elsewhere(
        &self,
        task: &Task,
        pool: &OpenPool,
        planned: &Planned,
        work: impl FnOnce(&Cx<'_>, &ObjectBucket, &ObjectAccess) -> larder_storage_driver::Result<()>,
    ) -> Result<()> {
        let volume = &planned.volume;
        let access = access_of(volume, &planned.keys)?;
        let bucket = ObjectBucket { volume: planned.spec.id.clone(), mark: volume.id.as_uuid() };
        self.begin_bucket(pool, planned)?;
        match self.with_cx(task, |cx| work(cx, &bucket, &access)) {
            Ok(()) => self.is_made(task, pool, volume, &[]),
            Err(error) => {
                self.unless_left_behind(volume, &error, || self.store.forget_volume(volume.id))?;
                Err(error.into())
            }
        }
    }

    /// Changes who may do how much in a bucket, and then commits what the catalog is to say; or neither. Of a bucket that is
    /// kept here only the catalog has to know.
    pub(super) fn agreed(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        change: impl FnOnce(&mut ObjectAccess) -> Result<()>,
        commit: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if pool.pool.objects().is_none() {
            return commit();
        }
        let (_claim, record) = self.alone_with(task, record)?;
        let (volume, bucket) = (&record.volume, object_bucket(&record)?);
        let old = self.recorded_access(volume)?;
        let mut new = old.clone();
        change(&mut new)?;
        self.store.bucket_is(volume, Agreement::Changing)?;
        point(Point::Intent);
        let changed = self.with_cx(task, |cx| pool.pool.change_bucket(cx, &bucket, &old, &new));
        point(Point::Act);
        let settled = || self.store.bucket_is(volume, Agreement::Agreed);
        if let Err(error) = changed {
            self.unless_left_behind(volume, &error, settled)?;
            return Err(error.into());
        }
        if let Err(refused) = commit() {
            let undone = self.with_cx(task, |cx| pool.pool.align_bucket(&cx.uncancellable(), &bucket, &old));
            match undone {
                Ok(()) => settled()?,
                Err(error) => self.leave_behind(volume, &error),
            }
            return Err(refused);
        }
        point(Point::Commit);
        settled()
    }

    /// Changes keys and description; `size` is the new one.
    pub(super) fn update_bucket_elsewhere(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        change: VolumeChange,
        size: Option<ByteSize>,
    ) -> Result<()> {
        let VolumeChange { mut config, description } = change;
        config.retain(|_, value| !value.is_empty());
        let volume = Volume { config, description, ..record.volume.clone() };
        let url = self.bucket_url(&pool.document.name, &volume);
        let cause = cause_of(task, &action(&volume, "updated"), &url, &volume.project);
        let commit = || self.store.change_volume(record, &volume, Some(cause));
        if quota_of(&record.volume.config)? == size {
            return commit();
        }
        let resize = |access: &mut ObjectAccess| {
            access.size = size;
            Ok(())
        };
        self.agreed(task, pool, record, resize, commit)
    }

    /// Deletes a bucket with all that is in it; goes on with a deletion that was cut off.
    pub(super) fn delete_bucket_elsewhere(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
    ) -> Result<()> {
        let (_claim, record) = self.alone_with(task, record)?;
        self.must_be_unused(&record)?;
        let (volume, bucket) = (&record.volume, object_bucket(&record)?);
        let access = self.recorded_access(volume)?;
        let sentenced = Volume { state: VolumeState::Deleting, ..volume.clone() };
        self.store.change_volume(&record, &sentenced, None)?;
        point(Point::Intent);
        let was_closed = volume.state != VolumeState::Ready;
        let outcome = match was_closed {
            true => self.with_cx(task, |cx| pool.pool.forget_bucket(cx, &bucket)),
            false => self.with_cx(task, |cx| pool.pool.destroy_bucket(cx, &bucket, &access)),
        };
        if let Err(error) = outcome {
            if was_closed || error.kind() == ErrorKind::Degraded {
                self.leave_behind(volume, &error);
            } else {
                self.unless_left_behind(volume, &error, || self.store.volume_is_back(volume))?;
            }
            return Err(error.into());
        }
        if let Err(error) = self.forget_snapshots_elsewhere(task, &pool.pool, &record) {
            self.left_behind.lock().insert(volume.id);
            return Err(error);
        }
        point(Point::Act);
        let url = self.bucket_url(&pool.document.name, volume);
        let cause = cause_of(task, &action(volume, "deleted"), &url, &volume.project);
        self.store.volume_is_gone(&self.ticket(task), volume.id, Some(cause))?;
        point(Point::Commit);
        Ok(())
    }

    /// Takes back what was written down of a change that was undone; one that could not be undone is left for later.
    pub(super) fn unless_left_behind(
        &self,
        volume: &Volume,
        error: &StorageError,
        take_back: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if error.undo_failures().is_empty() {
            return take_back();
        }
        self.leave_behind(volume, error);
        Ok(())
    }

    pub(super) fn leave_behind(&self, volume: &Volume, error: &StorageError) {
        tracing::error!(bucket = volume.name, error = %error.chain(), "a bucket's change is finished or undone later");
        self.left_behind.lock().insert(volume.id);
    }

    /// Finishes or undoes what was left behind in pools that answer now; tells how much. Takes as long as it takes to destroy
    /// what is in the buckets that go.
    pub(in crate::service) fn finish_left_behind(&self) -> Result<usize> {
        let mut finished = 0;
        let task = Task::quiet(Requestor::default());
        let waiting: Vec<_> = self.left_behind.lock().iter().copied().collect();
        for id in waiting {
            let Some(record) = self.store.volume_by_id(id)? else {
                self.left_behind.lock().remove(&id);
                continue;
            };
            let Ok(open) = self.open_pool(&self.store.pool_by_id(record.volume.pool)?.name) else { continue };
            let _claim = self.claim_volume(&task, &record.volume)?;
            // It may have been settled by a later change.
            if let Some(record) = self.store.volume_by_id(id)?
                && let Err(error) = self.settle_wholly(&task, &open.pool, &record)
            {
                tracing::warn!(bucket = record.volume.name, %error, "a bucket is still not what the catalog says");
                continue;
            }
            self.left_behind.lock().remove(&id);
            finished += 1;
        }
        Ok(finished)
    }

    /// Finishes or undoes whatever an earlier run had begun in a pool; tells what is there then. Only deletions and restores, which
    /// may take long, are left to [`Service::finish_left_behind`].
    pub(in crate::service) fn settle_elsewhere(
        &self,
        task: &Task,
        document: &PoolDocument,
        pool: &Pool,
    ) -> Result<Vec<Place>> {
        for record in self.store.volumes_in(document)? {
            if self.takes_long(&record.volume)? {
                self.left_behind.lock().insert(record.volume.id);
            }
            match self.settle_bucket(task, pool, &record) {
                Ok(()) => {}
                // The pool is tried again as a whole.
                Err(error) if error.kind == Kind::Unavailable => return Err(error),
                Err(error) => {
                    tracing::error!(bucket = record.volume.name, %error, "an interrupted change is not finished");
                }
            }
        }
        self.named_snapshots(document, self.with_cx(task, |cx| pool.places(cx))?)
    }

    fn takes_long(&self, volume: &Volume) -> Result<bool> {
        let is_closed = matches!(volume.state, VolumeState::Deleting | VolumeState::Restoring);
        Ok(is_closed || self.store.all_snapshots_of(volume)?.iter().any(|snapshot| !snapshot.is_ready))
    }

    /// Finishes or undoes what can be in a moment: a creation, a change of keys.
    fn settle_bucket(&self, task: &Task, pool: &Pool, record: &VolumeRecord) -> Result<()> {
        let (volume, bucket) = (&record.volume, object_bucket(record)?);
        match volume.state {
            VolumeState::Creating => {
                self.with_cx(task, |cx| pool.forget_bucket(cx, &bucket))?;
                self.store.forget_volume(volume.id)
            }
            VolumeState::Ready if self.agreement(volume)? == Some(Agreement::Changing) => {
                let access = self.recorded_access(volume)?;
                self.with_cx(task, |cx| pool.align_bucket(cx, &bucket, &access))?;
                self.seal_snapshots(task, pool, record)?;
                self.store.bucket_is(volume, Agreement::Agreed)
            }
            _ => Ok(()),
        }
    }

    /// The same, and what may take long: a deletion, a restore, a snapshot that goes.
    fn settle_wholly(&self, task: &Task, pool: &Pool, record: &VolumeRecord) -> Result<()> {
        let (volume, bucket) = (&record.volume, object_bucket(record)?);
        match (volume.state, self.agreement(volume)?) {
            (VolumeState::Deleting, _) => {
                self.with_cx(task, |cx| pool.forget_bucket(cx, &bucket))?;
                self.forget_snapshots_elsewhere(task, pool, record)?;
                self.store.volume_is_gone(&self.ticket(task), volume.id, None)
            }
            (VolumeState::Restoring, Some(Agreement::Restoring { snapshot })) => {
                self.go_on_restoring_elsewhere(task, pool, record, snapshot)
            }
            _ => {
                self.settle_bucket(task, pool, record)?;
                self.remove_unready_snapshots(task, pool, record)
            }
        }
    }

    fn agreement(&self, volume: &Volume) -> Result<Option<Agreement>> {
        Ok(self.store.bucket(volume)?.and_then(|bucket| bucket.elsewhere))
    }
}
