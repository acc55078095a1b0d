//! A host that answers from a script: for drivers whose tools are not on the machine.

use super::{Act, Cmd, Host, HostError, Output};
use crate::Cancel;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Answers each command with the next line of its script and applies no step.
///
/// A command must be asked for exactly as the script has it (its text, secrets masked), in order.
#[derive(Debug, Default)]
pub struct ScriptedHost {
    script: Mutex<VecDeque<(String, Result<Output, String>)>>,
    transcript: Mutex<Vec<String>>,
}

impl ScriptedHost {
    /// An empty script.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next command is `command` and prints `stdout`.
    #[must_use]
    pub fn answers(self, command: &str, stdout: &str) -> Self {
        let output = Output { stdout: stdout.to_owned(), ..Output::default() };
        self.script.lock().push_back((command.to_owned(), Ok(output)));
        self
    }

    /// The next command is `command` and fails, printing `stderr`.
    #[must_use]
    pub fn fails(self, command: &str, stderr: &str) -> Self {
        self.script.lock().push_back((command.to_owned(), Err(stderr.to_owned())));
        self
    }

    /// All that was asked for, in order.
    pub fn transcript(&self) -> Vec<String> {
        self.transcript.lock().clone()
    }
}

impl Host for ScriptedHost {
    fn run(&self, cmd: &Cmd, cancel: &Cancel) -> Result<Output, HostError> {
        cancel.checkpoint().map_err(|_| HostError::Cancelled)?;
        let command = cmd.to_string();
        self.transcript.lock().push(command.clone());
        let mut script = self.script.lock();
        match script.pop_front() {
            Some((expected, answer)) if expected == command => answer.map_err(|stderr| HostError::Failed {
                command,
                exit: "exit status: 1".to_owned(),
                code: Some(1),
                stderr,
            }),
            Some(other) => {
                script.push_front(other);
                Err(HostError::NotInScript(command))
            }
            None => Err(HostError::NotInScript(command)),
        }
    }

    fn act(&self, act: &dyn Act, cancel: &Cancel) -> Result<(), HostError> {
        cancel.checkpoint().map_err(|_| HostError::Cancelled)?;
        self.transcript.lock().push(act.describe());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{FsAct, Tool};

    #[test]
    fn the_script_is_followed_in_order_and_nothing_else_is_answered() {
        let tool = Tool { name: "zfs", package: "zfsutils-linux" };
        let host = ScriptedHost::new().answers("zfs list", "tank\n").fails("zfs destroy tank", "busy");
        let never = Cancel::never();
        assert_eq!(host.run(&Cmd::reads(tool).arg("list"), &never).unwrap().stdout, "tank\n");
        let early = host.run(&Cmd::reads(tool).arg("list"), &never);
        assert!(matches!(early, Err(HostError::NotInScript(_))));
        let failed = host.run(&Cmd::changes(tool).args(["destroy", "tank"]), &never);
        assert!(failed.unwrap_err().to_string().contains("busy"));
        host.act(&FsAct::remove_tree("/x"), &never).unwrap();
        assert_eq!(host.transcript(), ["zfs list", "zfs list", "zfs destroy tank", "remove /x"]);
    }
}
