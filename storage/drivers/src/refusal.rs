//! Running a command line, and what its refusal means: each technology puts it into words of its own.

use larder_base::host::{Cmd, HostError};
use larder_storage_driver::{Cx, ErrorKind, Result, StorageError};
use std::fmt;

/// What a technology refuses for.
pub(crate) trait Refusal: Copy + PartialEq {
    /// Why a command failed; `None` when it does not say.
    fn of(error: &HostError) -> Option<Self>;

    /// The kind of the error that it makes.
    fn kind(self) -> ErrorKind;

    /// Who refused, as a sentence.
    fn words(self) -> &'static str;
}

/// A command that failed: the error, and why the technology refused if that is known.
#[derive(Debug)]
pub(crate) struct Failure<R> {
    pub(crate) refusal: Option<R>,
    error: StorageError,
}

impl<R> From<Failure<R>> for StorageError {
    fn from(failure: Failure<R>) -> Self {
        failure.error
    }
}

impl<R> From<StorageError> for Failure<R> {
    fn from(error: StorageError) -> Self {
        Self { refusal: None, error }
    }
}

impl<R: Refusal> Failure<R> {
    /// Whether this is the reason of the refusal.
    pub(crate) fn is(&self, refusal: R) -> bool {
        self.refusal == Some(refusal)
    }

    /// The error; what is missing, or whose name is taken, is `subject`.
    pub(crate) fn of(self, subject: impl fmt::Display) -> StorageError {
        match self.refusal.map(R::kind) {
            Some(ErrorKind::NotFound) => StorageError::not_found(subject).because(self.error),
            Some(ErrorKind::AlreadyExists) => StorageError::already_exists(subject).because(self.error),
            _ => self.error,
        }
    }
}

/// What came of a command.
pub(crate) trait Outcome<T, R> {
    /// What may have been done already, or can't be done yet, is no failure: `None` when it was refused for one of these reasons.
    fn unless(self, refusals: &[R]) -> Result<Option<T>, Failure<R>>;

    /// What is missing, or whose name is taken, is `subject`.
    fn of(self, subject: impl fmt::Display) -> Result<T>;
}

impl<T, R: Refusal> Outcome<T, R> for Result<T, Failure<R>> {
    fn unless(self, refusals: &[R]) -> Result<Option<T>, Failure<R>> {
        match self {
            Err(failure) if refusals.iter().any(|refusal| failure.is(*refusal)) => Ok(None),
            other => other.map(Some),
        }
    }

    fn of(self, subject: impl fmt::Display) -> Result<T> {
        self.map_err(|failure| failure.of(subject))
    }
}

/// Runs a command; gives its standard output, which must be whole.
pub(crate) fn run<R: Refusal>(cx: &Cx<'_>, cmd: &Cmd) -> Result<String, Failure<R>> {
    let error = match cx.host().run(cmd, cx.cancel()) {
        Ok(output) if output.truncated => {
            let message = format!("`{cmd}` said more than can be read");
            return Err(StorageError::new(ErrorKind::Unexpected, message).into());
        }
        Ok(output) => return Ok(output.stdout),
        Err(error) => error,
    };
    let refusal = R::of(&error);
    let error = match refusal {
        Some(refusal) => StorageError::new(refusal.kind(), refusal.words()).because(error),
        None => error.into(),
    };
    Err(Failure { refusal, error })
}
