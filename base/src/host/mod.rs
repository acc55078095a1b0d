//! The one seam between Larder and the machine: commands and changing system calls as data.
//!
//! Code that changes something says *what* ([`Cmd::changes`], an [`Act`]) and hands it to a [`Host`].
//! [`SystemHost`] does it; [`ScriptedHost`] answers from a script; [`FaultHost`] lets the chosen step fail
//! in one of three ways. Reading files is plain `std::fs`.

mod act;
mod command;
mod error;
mod fault;
mod mounts;
mod remove;
mod scripted;
mod system;

pub use act::{Act, FsAct};
pub use command::{Cmd, Effect, Input, Output, Tool};
pub use error::HostError;
pub use fault::{Fault, FaultHost, FaultMode};
pub use scripted::ScriptedHost;
pub use system::SystemHost;

use crate::Cancel;
use std::fmt;

/// The machine as drivers and the runtime see it.
pub trait Host: fmt::Debug + Send + Sync {
    /// Runs a command to its end. A non-zero exit is an error that holds the command line (secrets masked),
    /// the exit and both ends of standard error.
    fn run(&self, cmd: &Cmd, cancel: &Cancel) -> Result<Output, HostError>;

    /// Does one changing step.
    fn act(&self, act: &dyn Act, cancel: &Cancel) -> Result<(), HostError>;
}
