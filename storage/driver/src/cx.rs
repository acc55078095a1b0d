//! What every step needs, and nothing else.

use crate::Result;
use larder_base::host::{Act, Cmd, Host, Output};
use larder_base::{Cancel, Progress, Ticket};

/// The context of one piece of work: the machine, where to report, whether to stop, and whose work it is.
#[derive(Debug, Clone)]
pub struct Cx<'a> {
    host: &'a dyn Host,
    progress: Progress,
    cancel: Cancel,
    ticket: Ticket,
}

impl<'a> Cx<'a> {
    /// A context for the work under `ticket`.
    pub fn new(host: &'a dyn Host, progress: Progress, cancel: Cancel, ticket: Ticket) -> Self {
        Self { host, progress, cancel, ticket }
    }

    /// The same work, which now runs to its end whatever is asked: for undo and recovery.
    pub fn uncancellable(&self) -> Self {
        Self { cancel: Cancel::never(), ..self.clone() }
    }

    /// The machine.
    pub fn host(&self) -> &'a dyn Host {
        self.host
    }

    /// Where to report.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether to stop.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Whose work it is.
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// Fails with kind `Cancelled` when the work was asked to stop. Called between steps.
    pub fn checkpoint(&self) -> Result<()> {
        Ok(self.cancel.checkpoint()?)
    }

    /// Runs a command.
    pub fn run(&self, cmd: &Cmd) -> Result<Output> {
        Ok(self.host.run(cmd, &self.cancel)?)
    }

    /// Does one changing step.
    pub fn act(&self, act: &dyn Act) -> Result<()> {
        Ok(self.host.act(act, &self.cancel)?)
    }
}
