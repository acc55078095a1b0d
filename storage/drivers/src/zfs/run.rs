//! Running a command line, and what its refusal means.

use super::parse::{Refusal, refusal};
use larder_base::host::{Cmd, HostError};
use larder_storage_driver::{Cx, ErrorKind, Result, StorageError};

/// A command that failed: the error, and what zfs said if that is known.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) refusal: Option<Refusal>,
    error: StorageError,
}

impl From<Failure> for StorageError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self { refusal: None, error }
    }
}

impl Failure {
    /// Whether zfs refused for this reason.
    pub(super) fn is(&self, refusal: Refusal) -> bool {
        self.refusal == Some(refusal)
    }
}

/// Runs a command; gives its standard output, which must be whole.
pub(super) fn run(cx: &Cx<'_>, cmd: &Cmd) -> Result<String, Failure> {
    let error = match cx.host().run(cmd, cx.cancel()) {
        Ok(output) if output.truncated => {
            let message = format!("`{cmd}` said more than can be read");
            return Err(Failure { refusal: None, error: StorageError::new(ErrorKind::Unexpected, message) });
        }
        Ok(output) => return Ok(output.stdout),
        Err(error) => error,
    };
    let said = match &error {
        HostError::Failed { stderr, .. } => refusal(stderr),
        _ => None,
    };
    let error = match said {
        Some(refusal) => StorageError::new(refusal.kind(), "zfs refused").because(error),
        None => error.into(),
    };
    Err(Failure { refusal: said, error })
}

/// Runs a command whose subject may be gone: tells whether it was there.
pub(super) fn run_if_there(cx: &Cx<'_>, cmd: &Cmd) -> Result<bool> {
    match run(cx, cmd) {
        Ok(_) => Ok(true),
        Err(failure) if failure.is(Refusal::Missing) => Ok(false),
        Err(failure) => Err(failure.into()),
    }
}
