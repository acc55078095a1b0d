//! What a use-case answers when it can't.

use larder_storage_driver::{ErrorKind, StorageError};
use std::fmt;

/// The result of every use-case.
pub type Result<T, E = ServiceError> = std::result::Result<T, E>;

/// What a caller can tell apart; the HTTP layer has one status for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong or can't be done as things are.
    BadRequest,
    /// The thing is not there.
    NotFound,
    /// The name is taken.
    Conflict,
    /// It changed since the client looked.
    Changed,
    /// Not part of this version.
    NotImplemented,
    /// Not now, or not on this machine.
    Unavailable,
    /// Our fault.
    Internal,
}

/// A failure with its whole story in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceError {
    /// What a caller can tell apart.
    pub kind: Kind,
    /// What was being done to what, why it failed, and what would be right.
    pub message: String,
}

impl ServiceError {
    /// A wrong request.
    pub fn bad(message: impl Into<String>) -> Self {
        Self { kind: Kind::BadRequest, message: message.into() }
    }

    /// `what` is not there.
    pub fn not_found(what: impl fmt::Display) -> Self {
        Self { kind: Kind::NotFound, message: format!("{what} not found") }
    }

    /// What a change began with is not so any more.
    pub fn overtaken() -> Self {
        let message = "somebody else changed it at the same moment: look again and repeat".to_owned();
        Self { kind: Kind::Conflict, message }
    }

    /// `what` is there already.
    pub fn taken(what: impl fmt::Display) -> Self {
        Self { kind: Kind::Conflict, message: format!("{what} already exists") }
    }

    /// Not part of this version.
    pub fn not_implemented(what: impl fmt::Display) -> Self {
        Self { kind: Kind::NotImplemented, message: format!("{what} is not implemented") }
    }

    /// Our fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self { kind: Kind::Internal, message: message.into() }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for ServiceError {}

impl From<StorageError> for ServiceError {
    fn from(error: StorageError) -> Self {
        let kind = match error.kind() {
            ErrorKind::NotFound => Kind::NotFound,
            ErrorKind::AlreadyExists => Kind::Conflict,
            ErrorKind::InUse | ErrorKind::Unsupported(_) | ErrorKind::Invalid | ErrorKind::Cancelled => {
                Kind::BadRequest
            }
            ErrorKind::Busy | ErrorKind::Degraded | ErrorKind::Unavailable => Kind::Unavailable,
            ErrorKind::NoSpace | ErrorKind::Unexpected => Kind::Internal,
        };
        Self { kind, message: error.chain() }
    }
}

/// For what a pool has done on its behalf, whose failure it undoes and hands back.
impl From<ServiceError> for StorageError {
    fn from(error: ServiceError) -> Self {
        let kind = match error.kind {
            Kind::Internal => ErrorKind::Unexpected,
            _ => ErrorKind::Invalid,
        };
        Self::new(kind, error.message)
    }
}

impl From<larder_base::NameError> for ServiceError {
    fn from(error: larder_base::NameError) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<std::io::Error> for ServiceError {
    fn from(error: std::io::Error) -> Self {
        Self::internal(format!("reading or writing failed: {error}"))
    }
}
