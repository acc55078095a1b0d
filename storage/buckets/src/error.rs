//! What can go wrong in a bucket.

use larder_base::Cancelled;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The outcome of work on a bucket.
pub type Result<T, E = BucketError> = std::result::Result<T, E>;

/// Why something could not be done in a bucket.
#[derive(Debug, Error)]
pub enum BucketError {
    /// The key has no current object, or only a delete marker.
    #[error("no object has this key")]
    NoSuchKey,
    /// The key has no version of this id.
    #[error("no version of the object has this id")]
    NoSuchVersion,
    /// There is no such multipart upload for the key.
    #[error("no multipart upload has this id")]
    NoSuchUpload,
    /// A condition of the request doesn't hold.
    #[error("a precondition does not hold: {0}")]
    PreconditionFailed(&'static str),
    /// A part that was named is missing or has another ETag.
    #[error("part {number} was not uploaded or has another ETag")]
    InvalidPart {
        /// The part's number.
        number: u32,
    },
    /// The parts were not named in ascending order.
    #[error("parts must be named in ascending order")]
    InvalidPartOrder,
    /// A part before the last is too small.
    #[error("part {number} has {size} bytes: all but the last need at least {least}")]
    PartTooSmall {
        /// The part's number.
        number: u32,
        /// Its bytes.
        size: u64,
        /// The least that is allowed.
        least: u64,
    },
    /// The version is locked by a retention or a legal hold.
    #[error("the version is locked: {0}")]
    Locked(&'static str),
    /// Keys have 1 to 1,024 bytes.
    #[error("an object's key has 1 to 1024 bytes, not {0}")]
    KeyLength(usize),
    /// The bucket's quota would be exceeded.
    #[error("the bucket's quota of {quota} bytes does not allow {wanted} more: {used} are used")]
    QuotaExceeded {
        /// The quota in bytes.
        quota: u64,
        /// Bytes in use, or reserved for uploads under way.
        used: u64,
        /// Bytes that were to be added.
        wanted: u64,
    },
    /// The volume below is almost full; deleting still works.
    #[error("the bucket's volume has {free} bytes left, which are kept for deleting objects")]
    NoSpace {
        /// Bytes that are free.
        free: u64,
    },
    /// The caller's own check, made inside the transaction, said no.
    #[error("refused: {0}")]
    Refused(&'static str),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is stored is not what was written.
    #[error("{what} is damaged")]
    Damaged {
        /// What is damaged.
        what: String,
    },
    /// The index is not ours, or damaged: it can be rebuilt.
    #[error("{} can't be used ({reason}): rebuild the index", path.display())]
    IndexUnusable {
        /// The index file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The index was written by a newer program.
    #[error("{} was written by a newer version of this program", path.display())]
    NewerIndex {
        /// The index file.
        path: PathBuf,
    },
    /// The database failed.
    #[error("the bucket's index: {0}")]
    Index(#[from] rusqlite::Error),
    /// Long work was asked to stop.
    #[error("cancelled")]
    Cancelled(#[from] Cancelled),
    /// The bucket was closed.
    #[error("the bucket is closed")]
    Closed,
}

impl BucketError {
    /// Wraps an error of the file system with the path it is about.
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}
