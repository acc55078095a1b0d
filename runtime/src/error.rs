//! Why something about a container failed.

use crate::container::ReachError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A container could not be started, stopped, looked at or entered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The library is not on this machine.
    #[error("containers need the library liblxc.so.1, which is not available: install liblxc1")]
    LibraryMissing,
    /// The library is there but too old, or not what it claims to be.
    #[error("the library liblxc.so.1 can't be used: {0}")]
    LibraryUnusable(String),
    /// A value can't be written into a container's configuration.
    #[error("container {container}: {what} {value:?} can't be used: {reason}")]
    InvalidValue {
        /// The container.
        container: String,
        /// What the value is for.
        what: String,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It runs already.
    #[error("container {0} is already running")]
    AlreadyRunning(String),
    /// It does not run.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// It did not go away in time.
    #[error("container {container} did not shut down within {timeout:?}: stop it by force, or wait longer")]
    ShutdownTimedOut {
        /// The container.
        container: String,
        /// How long it had.
        timeout: Duration,
    },
    /// What was asked for is not possible in this container; nothing was changed.
    #[error("container {container}: {action}: {reason}")]
    Refused {
        /// The container.
        container: String,
        /// What was tried.
        action: &'static str,
        /// Why not.
        reason: String,
    },
    /// liblxc said no; the text is from its log.
    #[error("container {container}: {action} failed: {message}")]
    Failed {
        /// The container.
        container: String,
        /// What was tried.
        action: &'static str,
        /// What the log says.
        message: String,
    },
    /// The process that calls liblxc ended without an answer.
    #[error("container {container}: the process for {action} ended without an answer ({exit})")]
    NoAnswer {
        /// The container.
        container: String,
        /// What was tried.
        action: &'static str,
        /// How it ended.
        exit: String,
    },
    /// The process that calls liblxc did not end in time and was killed.
    #[error("container {container}: {action} did not finish within {limit:?} and was given up")]
    TimedOut {
        /// The container.
        container: String,
        /// What was tried.
        action: &'static str,
        /// The deadline it had.
        limit: Duration,
    },
    /// A file or folder of ours could not be read or written.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A process or its pipes could not be set up.
    #[error("container {container}: {action}")]
    Process {
        /// The container.
        container: String,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The container's root can't get at the runtime's own folder.
    #[error(transparent)]
    Unreachable(#[from] ReachError),
    /// The kernel confines programs by AppArmor, but the program that loads profiles is missing.
    #[error(
        "container {0} needs an AppArmor profile, and apparmor_parser is not available: install apparmor"
    )]
    AppArmorParserMissing(String),
    /// The kernel, or whoever set its cgroups up, lacks what holds a limit.
    #[error(
        "container {container}: {key} can't be held: the cgroup controller {controller} is not available here; unset {key}"
    )]
    ControllerMissing {
        /// The container.
        container: String,
        /// The limit.
        key: &'static str,
        /// What would hold it.
        controller: &'static str,
    },
    /// The work was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl RuntimeError {
    /// [`RuntimeError::Io`] for `map_err`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
