//! Why a command or a changing step failed.

use std::io;
use std::time::Duration;

/// A command or a changing step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The program is not on this machine.
    #[error("the program {program} is not available: install {package}")]
    Missing {
        /// The program's name.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The program ran and said no.
    #[error("`{command}` failed ({exit}): {stderr}")]
    Failed {
        /// The command line, secrets masked.
        command: String,
        /// The exit status in words.
        exit: String,
        /// The exit code, if it was not ended by a signal.
        code: Option<i32>,
        /// The beginning and the end of its standard error.
        stderr: String,
    },
    /// The program was killed at its deadline.
    #[error("`{command}` did not finish within {limit:?} and was killed")]
    TimedOut {
        /// The command line, secrets masked.
        command: String,
        /// The deadline it had.
        limit: Duration,
    },
    /// The program could not be started, or its pipes broke.
    #[error("`{command}` could not be run")]
    Unrunnable {
        /// The command line, secrets masked.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A changing system call failed.
    #[error("{act}")]
    Act {
        /// The step in words.
        act: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The work was asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// A [`FaultHost`](super::FaultHost) has stopped dead: nothing works any more until everything is
    /// opened again.
    #[error("stopped dead (injected)")]
    StoppedDead,
    /// A [`FaultHost`](super::FaultHost) let this step fail.
    #[error("injected fault at: {0}")]
    Injected(String),
    /// A [`ScriptedHost`](super::ScriptedHost) was asked for something its script does not have.
    #[error("not in the script: {0}")]
    NotInScript(String),
}

impl HostError {
    /// The kind of the operating system's error, where there is one.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Act { source, .. } | Self::Unrunnable { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}
