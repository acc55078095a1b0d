//! Running a command line, and what its refusal means: each technology puts it into words of its own.

use larder_base::host::{Cmd, HostError};
use larder_storage_driver::{Cx, ErrorKind, Result, StorageError};

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

/// The same of a command that may have been done already, or can't be done yet: neither is a failure. `None` when it was not
/// done now.
pub(crate) fn run_unless<R: Refusal>(cx: &Cx<'_>, cmd: &Cmd, refusals: &[R]) -> Result<Option<String>> {
    match run::<R>(cx, cmd) {
        Ok(text) => Ok(Some(text)),
        Err(failure) if refusals.iter().any(|refusal| failure.is(*refusal)) => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}
