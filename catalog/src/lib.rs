//! What exists: typed documents under ordered keys, changed in guarded transactions and told of in order.
//!
//! Four verbs, behind [`Catalog`]: `get`, `list`, `transact`, `watch`. Documents live under immutable ids, names are keys
//! that point to ids, references are keys too; all are written in the same transaction, so a rename touches two keys and
//! "in use" is a guard. [`SqliteCatalog`] is the store of a single machine.

pub mod conformance;
mod document;
pub mod documents;
mod error;
mod id;
mod key;
pub mod keys;
mod sqlite;
mod transaction;
mod watch;

pub use document::{Document, Stored, get_document, list_documents};
pub use error::{CatalogError, Result};
pub use id::{AccountId, InstanceId, InstanceSnapshotId, PoolId, ProfileId, SnapshotId, VolumeId};
pub use key::{Key, Prefix};
pub use sqlite::SqliteCatalog;
pub use transaction::{Cause, Guard, MAX_OPERATIONS, Transaction};
pub use watch::{Change, Watch};

use std::fmt;
use std::path::Path;

/// How many of the last changes a watch can begin with, at least, on every store.
pub const HISTORY: i64 = 10_000;

/// Numbers the committed transactions, from 1.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub i64);

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// A key with its value and the transaction that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// JSON text.
    pub value: String,
    /// The transaction that wrote it last.
    pub revision: Revision,
}

/// What exists. Blocking; shared between threads.
pub trait Catalog: fmt::Debug + Send + Sync {
    /// The entry of a key.
    fn get(&self, key: &Key) -> Result<Option<Entry>>;

    /// All entries below a prefix, in the order of their keys' bytes, in one scan.
    fn list(&self, prefix: &Prefix) -> Result<Vec<Entry>>;

    /// Commits all of a transaction or nothing. On stable storage when it returns.
    ///
    /// Fails with [`CatalogError::Conflict`] when a guard does not hold, with [`CatalogError::TooManyOperations`] for
    /// more than [`MAX_OPERATIONS`].
    fn transact(&self, transaction: Transaction) -> Result<Revision>;

    /// All changes after `from`, in order: first those that were committed already, then new ones as they are.
    /// Fails with [`CatalogError::Compacted`] when some of them are no longer known; the last [`HISTORY`] always are.
    fn watch(&self, from: Revision) -> Result<Watch>;

    /// The last committed transaction.
    fn revision(&self) -> Result<Revision>;

    /// Writes a consistent copy to `path`, which must not exist, while work goes on.
    fn backup(&self, path: &Path) -> Result<()>;

    /// Reads all of it. Fails with [`CatalogError::Unusable`] when something is damaged.
    fn check(&self) -> Result<()>;

    /// Gives back what is held only to be quick; for a time when nobody asks.
    fn rest(&self) {}
}
