//! Buckets whose objects a technology keeps and serves itself.

use crate::{Cx, Result, VolumeId};
use larder_base::ByteSize;
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// A technology's own object store: radosgw. A facet of a [`Driver`](crate::Driver), for pools that hold such buckets and
/// nothing else; [`Driver::list`](crate::Driver::list) and [`Driver::usage`](crate::Driver::usage) tell of the buckets as of
/// live volumes.
///
/// As with volumes **every verb is safe to repeat**, and one that fails may have acted in part. The pool above undoes; what a
/// crash interrupts is finished from what the catalog says of the bucket.
pub trait ObjectStore: fmt::Debug + Send + Sync {
    /// Where a bucket is for its clients.
    fn url(&self, bucket: &VolumeId) -> String;

    /// Refuses, with `Invalid` and before any change, a bucket that can't be made because of its name.
    fn check(&self, bucket: &VolumeId) -> Result<()>;

    /// Makes a bucket with its keys, one of which must be an admin's; goes on with one that was begun under the same mark.
    /// Fails with `AlreadyExists` when the store has a bucket of the name, or somebody has one of the access keys.
    fn create(&self, cx: &Cx<'_>, bucket: &ObjectBucket, access: &ObjectAccess) -> Result<()>;

    /// Gives a bucket that is there exactly these keys and this size, and opens it to them if it was closed.
    fn change(&self, cx: &Cx<'_>, bucket: &ObjectBucket, access: &ObjectAccess) -> Result<()>;

    /// Lets nobody in any more. [`ObjectStore::change`] takes it back.
    fn close(&self, cx: &Cx<'_>, bucket: &ObjectBucket) -> Result<()>;

    /// Destroys a bucket with its objects and keys. Ok when absent. Touches nothing that was made under another mark.
    fn destroy(&self, cx: &Cx<'_>, bucket: &ObjectBucket) -> Result<()>;
}

/// A bucket in an object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectBucket {
    /// Which bucket.
    pub volume: VolumeId,
    /// What tells it from every other bucket, also from an earlier one of its name.
    pub mark: Uuid,
}

/// Who may do how much in a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectAccess {
    /// How much it may hold; `None` is as much as there is.
    pub size: Option<ByteSize>,
    /// Its keys.
    pub keys: Vec<ObjectKey>,
}

/// A pair of access key and secret key.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectKey {
    /// Its name in its bucket.
    pub name: String,
    /// Whether it may write, or only read.
    pub may_write: bool,
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ObjectKey")
            .field("name", &self.name)
            .field("may_write", &self.may_write)
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}
