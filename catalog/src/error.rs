//! What can go wrong in the catalog.

use crate::{Key, Revision};
use std::path::PathBuf;

/// The result of everything in the catalog.
pub type Result<T, E = CatalogError> = std::result::Result<T, E>;

/// A failure of the catalog.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// A guard did not hold; nothing was changed.
    #[error("the guard on {key} does not hold")]
    Conflict {
        /// The guarded key.
        key: Key,
    },
    /// The transaction is too large; nothing was changed.
    #[error("a transaction of {found} operations: at most {} are allowed", crate::MAX_OPERATIONS)]
    TooManyOperations {
        /// How many there were.
        found: usize,
    },
    /// A document was written by a newer program.
    #[error("{key} has format {found}, and this program knows up to {known}: use a newer larderd")]
    NewerDocument {
        /// Where it stands.
        key: Key,
        /// The format it has.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// A document can't be read.
    #[error("{key} can't be read")]
    Unreadable {
        /// Where it stands.
        key: Key,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A document can't be written.
    #[error("a {kind} document can't be written")]
    Unwritable {
        /// The kind of document.
        kind: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The history that a watch asked for is gone.
    #[error("changes after revision {from} are no longer known; the oldest known is {oldest}")]
    Compacted {
        /// What was asked for.
        from: Revision,
        /// The oldest change there is.
        oldest: Revision,
    },
    /// The database was written by a newer program.
    #[error("{path} was written by a newer larderd: use that version, or restore a backup of the catalog")]
    NewerDatabase {
        /// The database.
        path: PathBuf,
    },
    /// The file is a database, but not a catalog.
    #[error("{path} is a database of something else: give the catalog another path")]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// The file is no database, or is damaged.
    #[error("{path} can't be used as a catalog: restore a backup (larder admin catalog backup makes one)")]
    Unusable {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The backup's file is there already.
    #[error("{path} already exists: give the path of a new file")]
    BackupExists {
        /// The file.
        path: PathBuf,
    },
    /// The database failed.
    #[error("the catalog's database failed")]
    Database(#[from] rusqlite::Error),
    /// A file of the catalog or of a backup can't be made.
    #[error("{path} can't be written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The thread that writes can't be started.
    #[error("the catalog's writing thread can't be started")]
    Thread(#[source] std::io::Error),
    /// The catalog was closed.
    #[error("the catalog is closed")]
    Closed,
}
