//! Commands in a container, with a terminal or with pipes.

use super::accepted;
use crate::error::RuntimeError;
use crate::helper::message::{Command, Reply, Request, Target};
use crate::spawn::{Helper, HelperProgram};
use rustix::process::{Signal, pidfd_send_signal};
use rustix::termios::{Winsize, tcsetwinsize};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A command to run in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its variables, beside the container's own; `PATH`, `LANG` and for root `HOME` and `USER` are set when
    /// absent.
    pub environment: BTreeMap<String, String>,
    /// User id inside.
    pub user: u32,
    /// Group id inside.
    pub group: u32,
    /// Where to run it; its `HOME` or `/` when absent.
    pub directory: Option<String>,
    /// What its standard streams are.
    pub stdio: Stdio,
}

/// What a command's standard streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// A terminal.
    Pty {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// Three pipes.
    Pipes,
}

/// Our ends of a command's standard streams.
#[derive(Debug)]
pub enum ExecStreams {
    /// The terminal's master side. Reading it fails with `EIO` when nobody has the other side any more.
    Pty(OwnedFd),
    /// Pipes.
    Pipes {
        /// Written by us.
        stdin: OwnedFd,
        /// Read by us.
        stdout: OwnedFd,
        /// Read by us.
        stderr: OwnedFd,
    },
}

/// A running command. Dropping the parts leaves it running.
#[derive(Debug)]
pub struct ExecSession {
    /// Its streams.
    pub streams: ExecStreams,
    /// Signals and the terminal's size; may be cloned.
    pub control: ExecControl,
    /// Its end.
    pub ended: Ended,
}

/// Acts on a running command.
#[derive(Debug, Clone)]
pub struct ExecControl {
    process: Arc<OwnedFd>,
    terminal: Option<Arc<OwnedFd>>,
}

impl ExecControl {
    /// Sends a signal to the command. One that has ended is never mistaken for another process.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        // SAFETY: the number is only handed to the kernel, which checks it.
        let signal = Signal::from_named_raw(number)
            .or_else(|| (1..=64).contains(&number).then(|| unsafe { Signal::from_raw_unchecked(number) }))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("no signal: {number}")))?;
        Ok(pidfd_send_signal(&self.process, signal)?)
    }

    /// Tells the terminal its size; does nothing where there is none.
    pub fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        let size = Winsize { ws_col: width, ws_row: height, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(terminal, size)?)
    }
}

/// The end of a command.
#[derive(Debug)]
pub struct Ended {
    container: String,
    helper: Helper,
}

impl Ended {
    /// Waits for it and returns the exit code: 126 when the program can't be run, 127 when it is not there,
    /// 128 and the signal when it was killed. What it left in the background may hold its streams open for
    /// longer.
    pub fn wait(mut self) -> Result<i32, RuntimeError> {
        let failed = |source| RuntimeError::Process {
            container: self.container.clone(),
            action: "wait for a command",
            source,
        };
        let reply = self.helper.reply().map_err(failed)?;
        let exit = self.helper.wait().map_err(failed)?;
        match reply {
            Some((Reply::Exited(code), _)) => Ok(code),
            _ => Err(RuntimeError::NoAnswer { container: self.container, action: "exec", exit }),
        }
    }
}

/// A container's console, taken by us until it is dropped.
#[derive(Debug)]
pub struct Console {
    /// The terminal's master side.
    pub master: OwnedFd,
    /// Keeps it taken.
    keeper: OwnedFd,
}

impl Console {
    pub(super) fn from_descriptors(descriptors: Vec<OwnedFd>) -> Option<Self> {
        let mut descriptors = descriptors.into_iter();
        Some(Self { master: descriptors.next()?, keeper: descriptors.next()? })
    }

    /// What the console is read and written through, and what keeps it taken while it is open.
    pub fn into_parts(self) -> (OwnedFd, OwnedFd) {
        (self.master, self.keeper)
    }
}

pub(super) fn start(
    program: &HelperProgram,
    target: Target,
    exec: &Exec,
) -> Result<ExecSession, RuntimeError> {
    let container = target.name.clone();
    if exec.command.is_empty() {
        return Err(RuntimeError::InvalidValue {
            container,
            what: "command".to_owned(),
            value: String::new(),
            reason: "it must not be empty",
        });
    }
    let failed = |action| {
        let container = container.clone();
        move |source| RuntimeError::Process { container, action, source }
    };
    let terminal = match exec.stdio {
        Stdio::Pty { width, height } => Some((width, height)),
        Stdio::Pipes => None,
    };
    let pipes = match terminal {
        Some(_) => None,
        None => Some(pipes().map_err(failed("make pipes"))?),
    };
    let (ours, theirs) = pipes.unzip();
    let request = Request::Exec(target, command(exec, terminal));
    let helper = Helper::start(program, &request, theirs).map_err(failed("start a process"))?;
    let reply = helper.reply().map_err(failed("read an answer"))?;
    let mut ended = Ended { container: container.clone(), helper };
    let Some((reply, descriptors)) = reply else {
        let exit = ended.helper.wait().map_err(failed("wait for a process"))?;
        return Err(RuntimeError::NoAnswer { container, action: "exec", exit });
    };
    accepted(&container, "exec", reply)?;
    let mut descriptors = descriptors.into_iter();
    let lost = || io::Error::other("a descriptor was not handed over");
    let process = descriptors.next().ok_or_else(lost).map_err(failed("read an answer"))?;
    let (streams, terminal) = match ours {
        Some([stdin, stdout, stderr]) => (ExecStreams::Pipes { stdin, stdout, stderr }, None),
        None => {
            let master = descriptors.next().ok_or_else(lost).map_err(failed("read an answer"))?;
            let copy = master.try_clone().map_err(failed("copy a descriptor"))?;
            (ExecStreams::Pty(master), Some(Arc::new(copy)))
        }
    };
    Ok(ExecSession { streams, control: ExecControl { process: Arc::new(process), terminal }, ended })
}

/// Our ends and theirs.
fn pipes() -> io::Result<([OwnedFd; 3], [OwnedFd; 3])> {
    let (stdin, our_stdin) = io::pipe()?;
    let (our_stdout, stdout) = io::pipe()?;
    let (our_stderr, stderr) = io::pipe()?;
    Ok((
        [our_stdin.into(), our_stdout.into(), our_stderr.into()],
        [stdin.into(), stdout.into(), stderr.into()],
    ))
}

fn command(exec: &Exec, terminal: Option<(u16, u16)>) -> Command {
    let mut environment = exec.environment.clone();
    let mut default = |name: &str, value: &str| {
        environment.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    };
    default("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    default("LANG", "C.UTF-8");
    if exec.user == 0 {
        default("HOME", "/root");
        default("USER", "root");
    }
    let home = || environment.get("HOME").cloned().unwrap_or_else(|| "/".to_owned());
    let directory = exec.directory.clone().filter(|directory| !directory.is_empty()).unwrap_or_else(home);
    Command {
        command: exec.command.clone(),
        environment: environment.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        user: exec.user,
        group: exec.group,
        directory,
        terminal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(user: u32, variables: &[(&str, &str)]) -> Exec {
        Exec {
            command: vec!["true".to_owned()],
            environment: variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            user,
            group: 0,
            directory: None,
            stdio: Stdio::Pipes,
        }
    }

    #[test]
    fn what_the_caller_says_wins_over_the_defaults() {
        let asked = command(&exec(0, &[("HOME", "/tmp"), ("A", "=b")]), None);
        assert!(asked.environment.contains(&"HOME=/tmp".to_owned()));
        assert!(asked.environment.contains(&"A==b".to_owned()));
        assert!(asked.environment.contains(&"USER=root".to_owned()));
        assert_eq!(asked.directory, "/tmp");
        let other = command(&exec(1000, &[]), None);
        assert!(!other.environment.iter().any(|line| line.starts_with("HOME=")));
        assert_eq!(other.directory, "/");
    }
}
