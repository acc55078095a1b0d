//! Looking for damage in a bucket, and making its index anew.

use super::must_serve_here;
use crate::service::pools::OpenPool;
use crate::service::store::VolumeRecord;
use crate::service::{Result, Service, ServiceError, Task};
use larder_base::Unit;
use larder_storage_buckets::{Rebuilt, Scrubbed, rebuild};
use larder_storage_driver::Mode;
use std::sync::Arc;

const SCRUB: &str = "scrub_bucket";
const REBUILD: &str = "rebuild_index";

impl Service {
    /// Reads every byte of a bucket and tells what is not what was written. Changes nothing; the bucket is in use meanwhile, so
    /// what needs it closed is refused.
    pub fn scrub_bucket(&self, task: &Task, record: &VolumeRecord) -> Result<Scrubbed> {
        let bucket = self.open_bucket(task, record)?;
        let total = bucket.usage()?.bytes;
        let mut told = 0;
        let mut report = |found: &Scrubbed| {
            // Of many empty objects at the end nobody wants to hear each.
            if found.bytes > told {
                told = found.bytes;
                task.progress.report(SCRUB, "", told, Some(total), Unit::Bytes);
            }
        };
        Ok(bucket.scrub(&task.cancel, &mut report)?)
    }

    /// Makes the index of a bucket anew from its objects, whether the old one can be read or not. Nobody can use the bucket
    /// meanwhile; cut off, it has its old index, or none and is refused until it is rebuilt.
    pub fn rebuild_bucket_index(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
    ) -> Result<Rebuilt> {
        must_serve_here(pool)?;
        let (_claim, record) = &self.alone_with(task, record)?;
        record.must_be_whole()?;
        let _closed = self.close_bucket(task, pool, record)?;
        let id = record.storage_id()?;
        let attached = self.with_cx(task, |cx| pool.pool.attach(cx, &id, Mode::ReadWrite))?;
        let mut report = |blobs| task.progress.report(REBUILD, "", blobs, None, Unit::Items);
        let rebuilt = match &attached.directory {
            Some(directory) => rebuild(directory, Arc::clone(&self.clock), &task.cancel, &mut report)
                .map_err(ServiceError::from),
            None => Err(ServiceError::internal(format!("the bucket {} has no directory", id.name))),
        };
        let detached = self.with_cx(task, |cx| pool.pool.detach(&cx.uncancellable(), &id));
        let rebuilt = rebuilt?;
        detached?;
        Ok(rebuilt)
    }
}
