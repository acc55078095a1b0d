//! What can go wrong in storage.

use larder_base::host::HostError;
use larder_base::{Cancelled, NameError};
use std::error::Error as StdError;
use std::fmt;

/// The result of everything in storage.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// What a caller can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The thing is not there.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// Somebody uses it.
    InUse,
    /// The driver cannot do this.
    Unsupported(Need),
    /// The pool or the quota is full.
    NoSpace,
    /// The request makes no sense; nothing was changed.
    Invalid,
    /// The work was asked to stop, and did.
    Cancelled,
    /// Somebody else changes it right now.
    Busy,
    /// A rollback failed earlier: reads go on, changes are refused until recovery succeeds.
    Degraded,
    /// A program or library that this needs is not installed, or what it asks does not answer.
    Unavailable,
    /// Everything else.
    Unexpected,
}

/// What a driver lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Volumes of this content.
    Content(crate::Content),
    /// Cloning with shared blocks.
    Clone,
    /// Native snapshots.
    Snapshot,
    /// Making a disk smaller.
    Shrink,
    /// Restoring a snapshot that is not the newest.
    RestoreOlder,
    /// Swapping two volumes.
    Exchange,
    /// Rolling back in place.
    RestoreInPlace,
    /// Carrying a volume to another pool as a stream.
    Stream,
    /// Keeping objects itself.
    ObjectStore,
}

/// A failure: its kind, what was being done to what, and why. `Display` is the first line; the causes are
/// behind [`StdError::source`].
#[derive(Debug)]
pub struct StorageError {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    undo_failures: Vec<StorageError>,
}

impl StorageError {
    /// A failure of `kind` with a message that names the thing and, where there is one, the remedy.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, undo_failures: Vec::new() }
    }

    /// The request makes no sense, and nothing was changed.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// What should not happen.
    pub fn unexpected(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unexpected, message)
    }

    /// `what` is not there.
    pub fn not_found(what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotFound, format!("{what} not found"))
    }

    /// `what` is there already.
    pub fn already_exists(what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::AlreadyExists, format!("{what} already exists"))
    }

    /// The driver lacks `need`.
    pub fn unsupported(need: Need, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported(need), message)
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says what was being done, keeping the kind and the failed undos; this failure becomes the cause.
    #[must_use]
    pub fn while_doing(mut self, doing: impl fmt::Display) -> Self {
        let undo_failures = std::mem::take(&mut self.undo_failures);
        Self { kind: self.kind, message: doing.to_string(), source: Some(Box::new(self)), undo_failures }
    }

    /// Adds undo steps that failed too. A pool with such an error is degraded.
    #[must_use]
    pub fn with_undo_failures(mut self, failures: Vec<StorageError>) -> Self {
        self.undo_failures.extend(failures);
        self
    }

    /// What a caller can tell apart.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The undo steps that failed, so that something may be left behind.
    pub fn undo_failures(&self) -> &[StorageError] {
        &self.undo_failures
    }

    /// The whole chain in one line, for an edge that prints it once.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl StdError for StorageError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<std::io::Error> for StorageError {
    fn from(error: std::io::Error) -> Self {
        Self::new(kind_of(error.kind()), "reading or writing failed").because(error)
    }
}

impl From<HostError> for StorageError {
    fn from(error: HostError) -> Self {
        let kind = match &error {
            HostError::Cancelled => ErrorKind::Cancelled,
            HostError::Missing { .. } | HostError::TimedOut { .. } => ErrorKind::Unavailable,
            other => other.io_kind().map_or(ErrorKind::Unexpected, kind_of),
        };
        let message = match kind {
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::NoSpace => "no space left",
            _ => "a storage step failed",
        };
        Self::new(kind, message).because(error)
    }
}

impl From<Cancelled> for StorageError {
    fn from(_: Cancelled) -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }
}

impl From<NameError> for StorageError {
    fn from(error: NameError) -> Self {
        Self::new(ErrorKind::Invalid, error.to_string())
    }
}

fn kind_of(kind: std::io::ErrorKind) -> ErrorKind {
    match kind {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        std::io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        std::io::ErrorKind::ResourceBusy => ErrorKind::Busy,
        std::io::ErrorKind::TimedOut => ErrorKind::Unavailable,
        _ => ErrorKind::Unexpected,
    }
}
