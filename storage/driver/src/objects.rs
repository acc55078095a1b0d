//! Buckets whose objects a technology keeps and serves itself.

use crate::{Cx, Result, VolumeId};
use larder_base::ByteSize;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use uuid::Uuid;

/// A technology's own object store: radosgw. A facet of a [`Driver`](crate::Driver), for pools that hold such buckets and
/// nothing else; [`Driver::list`](crate::Driver::list) and [`Driver::usage`](crate::Driver::usage) tell of the buckets as of
/// live volumes. Objects are listed, read and written as whoever has one of the bucket's keys does.
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

    /// How large an object may be that is written.
    fn largest_object(&self) -> ByteSize;

    /// A bucket's current objects whose keys come after `after`, in the order of their bytes: some thousand at most, none at the
    /// end.
    fn list_objects(
        &self,
        cx: &Cx<'_>,
        bucket: &VolumeId,
        key: &ObjectKey,
        after: &str,
    ) -> Result<Vec<ListedObject>>;

    /// Reads objects, one after the other, as streams. Each is whole; what is gone meanwhile is left out.
    fn read_objects(
        &self,
        cx: &Cx<'_>,
        bucket: &VolumeId,
        key: &ObjectKey,
        names: &[String],
        take: &mut dyn FnMut(&StoredObject, &mut dyn Read) -> Result<()>,
    ) -> Result<()>;

    /// Writes objects, each in place of what has its key. Fails with `Invalid` when one is described in a way that the store does
    /// not know.
    fn write_objects(
        &self,
        cx: &Cx<'_>,
        bucket: &VolumeId,
        key: &ObjectKey,
        objects: &[NewObject],
    ) -> Result<()>;

    /// Lets a key of each of other buckets, of the name that `guest_key` has, do in a bucket what it may in its own. `own` is an
    /// admin's key of the bucket. It lets in nobody else but its own keys then, whoever put objects into it.
    fn admit(
        &self,
        cx: &Cx<'_>,
        bucket: &ObjectBucket,
        own: &ObjectKey,
        guests: &[&ObjectBucket],
        guest_key: &ObjectKey,
    ) -> Result<()>;

    /// Copies objects from bucket to bucket, with all that is known of them, each in place of what has its key. The bytes stay
    /// in the store. The copies belong to whom the key belongs to. What is gone meanwhile is left out, and told.
    fn copy_objects(
        &self,
        cx: &Cx<'_>,
        from: &VolumeId,
        into: &VolumeId,
        key: &ObjectKey,
        names: &[String],
    ) -> Result<Vec<String>>;

    /// Removes objects; what is absent already counts as removed. A bucket that keeps versions keeps them.
    fn remove_objects(&self, cx: &Cx<'_>, bucket: &VolumeId, key: &ObjectKey, names: &[String])
    -> Result<()>;
}

/// An object as a store lists it: its key, and what changes when the object does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// How many bytes it has.
    pub size: u64,
    /// The same for the same bytes that were put in the same way.
    pub etag: String,
    /// When it was put, or what is known of it was changed, by the store's clock: in milliseconds of the Unix epoch.
    pub modified: i64,
}

/// What is known of an object beside its bytes, as backups keep it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectFacts {
    /// Headers that are sent back with it, by their names in lower case: `content-type`, `cache-control` and their like.
    pub headers: BTreeMap<String, String>,
    /// The user's metadata, names without their prefix.
    pub metadata: BTreeMap<String, String>,
    /// Its tags.
    pub tags: Vec<(String, String)>,
    /// The storage class it was put into, if it is not the usual one.
    pub storage_class: Option<String>,
}

/// An object as a store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// Its key.
    pub key: String,
    /// How many bytes it has.
    pub size: u64,
    /// When it was put, in seconds of the Unix epoch; 0 when nobody knows.
    pub modified: u64,
    /// What else is known.
    pub facts: ObjectFacts,
}

/// An object that is to be put into a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewObject {
    /// Its key.
    pub key: String,
    /// The file with its bytes.
    pub file: PathBuf,
    /// What else is known.
    pub facts: ObjectFacts,
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
