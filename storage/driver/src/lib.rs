//! The storage driver contract: one storage technology, seen as named [`Place`]s in one pool.
//!
//! A driver implements [`Driver`], states what it can do as [`Capabilities`] and which keys it has as
//! [`ConfigKey`]s. It knows storage and nothing else: no catalog, no operation, no lock, no HTTP. Everything
//! it changes goes through the [`Host`](larder_base::host::Host) in its [`Cx`]. Locks, undo, copies, backups
//! and recovery are written once, in the pool layer above.

mod capability;
mod config;
mod cx;
mod driver;
mod error;
mod mkfs;
mod objects;
mod place;
mod stream;
mod volume;

pub use capability::{Capabilities, CloneKind, Quota, Restore, Shrink, SnapshotKind, Trees};
pub use config::{Config, ConfigKey, KeyScope, KeyType, check_config, is_true};
pub use cx::Cx;
pub use driver::{Attached, Driver, Mode, PoolUsage, VolumeUsage};
pub use error::{ErrorKind, Need, Result, StorageError};
pub use mkfs::check_mkfs_words;
pub use objects::{
    ListedObject, NewObject, ObjectAccess, ObjectBucket, ObjectFacts, ObjectKey, ObjectStore, StoredObject,
};
pub use place::{Area, Place};
pub use stream::{Stream, StreamEnd, piped};
pub use volume::{Content, DEFAULT_BLOCK_SIZE, VolumeId, VolumeKind, VolumeSpec};
