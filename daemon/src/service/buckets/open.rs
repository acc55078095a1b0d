//! Buckets in use: attached and opened at the first request, and kept so until they are deleted, restored or the daemon
//! stops.

use super::{must_serve_here, quota_of};
use crate::service::pools::OpenPool;
use crate::service::store::VolumeRecord;
use crate::service::{Kind, Requestor, Result, Service, ServiceError, Task};
use larder_base::ByteSize;
use larder_catalog::VolumeId;
use larder_catalog::documents::VolumeState;
use larder_storage_buckets::{Bucket, BucketError};
use larder_storage_driver::Mode;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a bucket that shall be closed waits for the requests that use it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks.
const PAUSE: Duration = Duration::from_millis(5);

/// The setting that says whose the other settings are.
const OWN_NAME: &str = "name";
/// The settings that a copy does not keep.
const FOREIGN: &[&str] = &["policy", "acl"];

/// What is known of a bucket in this run. The lock is held while it is opened or closed, so each happens once.
#[derive(Debug, Default)]
struct Slot {
    open: Option<Arc<Bucket>>,
    /// Somebody is changing its volume.
    is_barred: bool,
}

/// The buckets that are open.
#[derive(Debug, Default)]
pub(in crate::service) struct OpenBuckets {
    slots: Mutex<HashMap<VolumeId, Arc<Mutex<Slot>>>>,
}

impl OpenBuckets {
    fn slot(&self, volume: VolumeId) -> Arc<Mutex<Slot>> {
        Arc::clone(self.slots.lock().entry(volume).or_default())
    }

    /// The bucket, if it is open.
    pub(in crate::service) fn opened(&self, volume: VolumeId) -> Option<Arc<Bucket>> {
        let slot = self.slots.lock().get(&volume).cloned()?;
        let slot = slot.lock();
        slot.open.clone()
    }

    fn all(&self) -> Vec<VolumeId> {
        self.slots.lock().keys().copied().collect()
    }
}

/// As long as this lives nobody can open the bucket.
#[derive(Debug)]
pub(in crate::service) struct Closed<'a> {
    buckets: &'a OpenBuckets,
    volume: VolumeId,
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.buckets.slots.lock().remove(&self.volume);
    }
}

fn busy(name: &str) -> ServiceError {
    let message = format!("the bucket {name:?} is being changed by another operation: try again later");
    ServiceError { kind: Kind::Unavailable, message }
}

impl Service {
    /// A bucket, opened if it is not open yet.
    pub fn open_bucket(&self, task: &Task, record: &VolumeRecord) -> Result<Arc<Bucket>> {
        let volume = &record.volume;
        let slot = self.buckets.slot(volume.id);
        let mut slot = slot.lock();
        if slot.is_barred || volume.state != VolumeState::Ready {
            return Err(busy(&volume.name));
        }
        if let Some(open) = &slot.open {
            return Ok(Arc::clone(open));
        }
        let pool = self.open_pool(&self.store.pool_by_id(volume.pool)?.name)?;
        must_serve_here(&pool)?;
        // It may have gone, or been changed, since it was looked up.
        let record = self
            .store
            .volume_by_id(volume.id)?
            .ok_or_else(|| ServiceError::not_found(format!("bucket {:?}", volume.name)))?;
        let id = record.storage_id()?;
        let quota = quota_of(&record.volume.config)?.map(ByteSize::as_bytes);
        let attached = self.with_cx(task, |cx| pool.pool.attach(cx, &id, Mode::ReadWrite))?;
        let opened = match &attached.directory {
            Some(directory) => Bucket::open(directory, quota, Arc::clone(&self.clock))
                .and_then(|bucket| claimed(bucket, &volume.name))
                .map_err(Into::into),
            None => Err(ServiceError::internal(format!("the bucket {} has no directory", id.name))),
        };
        match opened {
            Ok(bucket) => Ok(Arc::clone(slot.open.insert(Arc::new(bucket)))),
            Err(error) => {
                self.with_cx(task, |cx| pool.pool.detach(cx, &id))?;
                Err(error)
            }
        }
    }

    /// Closes a bucket, waits for its last requests, and keeps everybody out until what is returned is dropped. Fails,
    /// with the bucket open as before, when they don't end.
    pub(in crate::service) fn close_bucket(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
    ) -> Result<Closed<'_>> {
        self.close_bucket_when(task, pool, record, |_| Ok(()))
    }

    /// The same for an open bucket that `check` finds fit; it is asked when nobody else has the bucket.
    pub(super) fn close_bucket_when(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        check: impl FnOnce(&Bucket) -> Result<()>,
    ) -> Result<Closed<'_>> {
        let slot = self.buckets.slot(record.volume.id);
        let mut slot = slot.lock();
        if slot.is_barred {
            return Err(busy(&record.volume.name));
        }
        let Some(open) = slot.open.take() else {
            slot.is_barred = true;
            return Ok(Closed { buckets: &self.buckets, volume: record.volume.id });
        };
        match unshared(open) {
            Ok(bucket) => {
                if let Err(unfit) = check(&bucket) {
                    slot.open = Some(Arc::new(bucket));
                    return Err(unfit);
                }
            }
            Err(open) => {
                slot.open = Some(open);
                let message = format!("the bucket {:?} is in use: requests go on", record.volume.name);
                return Err(ServiceError { kind: Kind::Unavailable, message });
            }
        }
        slot.is_barred = true;
        let closed = Closed { buckets: &self.buckets, volume: record.volume.id };
        let id = record.storage_id()?;
        self.with_cx(task, |cx| pool.pool.detach(cx, &id))?;
        Ok(closed)
    }

    /// Closes all buckets, at the daemon's end.
    pub(in crate::service) fn close_buckets(&self) {
        let task = Task::quiet(Requestor::default());
        for volume in self.buckets.all() {
            let closed = self.store.volume_by_id(volume).and_then(|record| {
                let Some(record) = record else { return Ok(()) };
                let pool = self.open_pool(&self.store.pool_by_id(record.volume.pool)?.name)?;
                self.close_bucket(&task, &pool, &record).map(drop)
            });
            if let Err(error) = closed {
                tracing::warn!(%volume, %error, "a bucket could not be closed");
            }
        }
    }
}

/// Makes a bucket's settings its own. A copy has those of the bucket it was made from, of which those that speak of that
/// bucket by name, or of its owner, don't go along.
fn claimed(bucket: Bucket, name: &str) -> Result<Bucket, BucketError> {
    if bucket.setting(OWN_NAME)?.as_deref() != Some(name) {
        for setting in FOREIGN {
            bucket.set_setting(setting, None)?;
        }
        bucket.set_setting(OWN_NAME, Some(name))?;
    }
    Ok(bucket)
}

/// Takes the bucket out of its last handle, if that becomes the last in time.
fn unshared(open: Arc<Bucket>) -> Result<Bucket, Arc<Bucket>> {
    let deadline = Instant::now() + PATIENCE;
    let mut open = open;
    loop {
        match Arc::try_unwrap(open) {
            Ok(bucket) => return Ok(bucket),
            Err(shared) if Instant::now() >= deadline => return Err(shared),
            Err(shared) => open = shared,
        }
        std::thread::sleep(PAUSE);
    }
}

impl From<BucketError> for ServiceError {
    fn from(error: BucketError) -> Self {
        let kind = match &error {
            BucketError::NoSuchKey | BucketError::NoSuchVersion | BucketError::NoSuchUpload => Kind::NotFound,
            BucketError::PreconditionFailed(_)
            | BucketError::InvalidPart { .. }
            | BucketError::InvalidPartOrder
            | BucketError::PartTooSmall { .. }
            | BucketError::Locked(_)
            | BucketError::KeyLength(_)
            | BucketError::QuotaExceeded { .. }
            | BucketError::Refused(_)
            | BucketError::Cancelled(_) => Kind::BadRequest,
            BucketError::Closed => Kind::Unavailable,
            _ => Kind::Internal,
        };
        Self { kind, message: crate::service::store::chain(&error) }
    }
}
