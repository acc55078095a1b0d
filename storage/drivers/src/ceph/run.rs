//! Running a command line, and what its refusal means.

use super::parse::{Refusal, refusal};
use larder_base::host::{Cmd, HostError};
use larder_storage_driver::{Cx, ErrorKind, Result, StorageError};

/// A command that failed: the error, and why ceph refused if that is known.
#[derive(Debug)]
pub(super) struct Failure {
    refusal: Option<Refusal>,
    error: StorageError,
}

impl From<Failure> for StorageError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl Failure {
    /// Whether ceph refused for this reason.
    pub(super) fn is(&self, refusal: Refusal) -> bool {
        self.refusal == Some(refusal)
    }
}

/// Runs a command; gives its standard output.
pub(super) fn run(cx: &Cx<'_>, cmd: &Cmd) -> Result<String, Failure> {
    cx.host().run(cmd, cx.cancel()).map(|output| output.stdout).map_err(|error| {
        let said = match &error {
            HostError::Failed { code, stderr, .. } => refusal(*code, stderr),
            HostError::TimedOut { .. } => Some(Refusal::Unreachable),
            _ => None,
        };
        let error = match said {
            Some(Refusal::Unreachable) => {
                StorageError::new(ErrorKind::Unavailable, "the ceph cluster does not answer").because(error)
            }
            Some(refusal) => StorageError::new(refusal.kind(), "ceph refused").because(error),
            None => error.into(),
        };
        Failure { refusal: said, error }
    })
}

/// Runs a command whose subject may be gone; `None` when it is.
pub(super) fn run_if_there(cx: &Cx<'_>, cmd: &Cmd) -> Result<Option<String>> {
    match run(cx, cmd) {
        Ok(text) => Ok(Some(text)),
        Err(failure) if failure.is(Refusal::Missing) => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

/// Runs a command that may have been done already, or can't be done yet: neither is a failure. Tells whether it was done now.
pub(super) fn run_unless(cx: &Cx<'_>, cmd: &Cmd, refusals: &[Refusal]) -> Result<bool> {
    match run(cx, cmd) {
        Ok(_) => Ok(true),
        Err(failure) if refusals.iter().any(|refusal| failure.is(*refusal)) => Ok(false),
        Err(failure) => Err(failure.into()),
    }
}
