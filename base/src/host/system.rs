//! The real machine.

use super::command::Argument;
use super::{Act, Cmd, Host, HostError, Input, Output};
use crate::Cancel;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const KEPT_OUTPUT_BYTES: usize = 16 << 20;
const KEPT_STDERR_BYTES: usize = 64 << 10;
const SHOWN_STDERR_BYTES: usize = 2000;
const POLL: Duration = Duration::from_millis(20);
/// How long a killed program may take to go.
const GRACE: Duration = Duration::from_secs(5);
/// How long what passes (see [`Cmd::again_while`]) is waited for between two tries.
const PAUSES_MILLIS: [u64; 7] = [50, 100, 200, 400, 800, 1600, 1600];

/// Runs commands and applies steps for real.
///
/// Commands are looked up in the system folders only, start with a cleared environment and a fixed locale in
/// their own process group, and are killed as a group at their deadline or when the work is cancelled.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemHost;

impl SystemHost {
    /// Where a program is, if it is installed.
    pub fn find(name: &str) -> Option<PathBuf> {
        SEARCH_PATH.split(':').map(|folder| PathBuf::from(folder).join(name)).find(|path| path.is_file())
    }
}

impl Host for SystemHost {
    fn run(&self, cmd: &Cmd, cancel: &Cancel) -> Result<Output, HostError> {
        let mut pauses = PAUSES_MILLIS.into_iter();
        loop {
            let result = run_once(cmd, cancel);
            let pause = match &result {
                Err(error) if passes(cmd, error) => pauses.next(),
                _ => None,
            };
            match pause {
                Some(millis) => std::thread::sleep(Duration::from_millis(millis)),
                None => return result,
            }
        }
    }

    fn act(&self, act: &dyn Act, cancel: &Cancel) -> Result<(), HostError> {
        cancel.checkpoint().map_err(|_| HostError::Cancelled)?;
        let result = act.apply(cancel);
        tracing::trace!(act = %act.describe(), ok = result.is_ok(), "acted");
        result.map_err(|source| match cancel.is_cancelled() {
            true => HostError::Cancelled,
            false => HostError::Act { act: act.describe(), source },
        })
    }
}

fn run_once(cmd: &Cmd, cancel: &Cancel) -> Result<Output, HostError> {
    cancel.checkpoint().map_err(|_| HostError::Cancelled)?;
    let began = Instant::now();
    let result = Running::start(cmd)?.finish(cmd, cancel);
    let millis = began.elapsed().as_millis();
    match &result {
        Ok(output) => tracing::debug!(command = %cmd, millis, bytes = output.stdout.len(), "ran"),
        Err(error) => tracing::debug!(command = %cmd, millis, %error, "failed"),
    }
    result
}

fn passes(cmd: &Cmd, error: &HostError) -> bool {
    match (cmd.passing, error) {
        (Some(words), HostError::Failed { stderr, .. }) => stderr.contains(words),
        _ => false,
    }
}

struct Running {
    handle: duct::Handle,
    stdout: Option<JoinHandle<io::Result<Kept>>>,
    stderr: JoinHandle<io::Result<Kept>>,
}

struct Kept {
    bytes: Vec<u8>,
    truncated: bool,
}

impl Running {
    fn start(cmd: &Cmd) -> Result<Self, HostError> {
        let tool = cmd.tool();
        let program = SystemHost::find(tool.name)
            .ok_or(HostError::Missing { program: tool.name, package: tool.package })?;
        let unrunnable = |source| HostError::Unrunnable { command: cmd.to_string(), source };
        let arguments = cmd.arguments.iter().map(|argument| match argument {
            Argument::Plain(text) | Argument::Secret(text) => text.clone(),
        });
        let mut expression = duct::cmd(program, arguments).full_env(environment(cmd)).unchecked();
        expression = match &cmd.input {
            Input::Null => expression.stdin_null(),
            Input::Bytes(bytes) => expression.stdin_bytes(bytes.clone()),
            Input::File(file) => expression.stdin_file(file.try_clone().map_err(unrunnable)?),
        };
        let (stderr_reader, stderr_writer) = io::pipe().map_err(unrunnable)?;
        expression = expression.stderr_file(stderr_writer);
        let stdout_reader = match &cmd.output {
            Some(file) => {
                expression = expression.stdout_file(file.try_clone().map_err(unrunnable)?);
                None
            }
            None => {
                let (reader, writer) = io::pipe().map_err(unrunnable)?;
                expression = expression.stdout_file(writer);
                Some(reader)
            }
        };
        let (inherited, ends_with_us) = (cmd.inherited.clone(), cmd.ends_with_us);
        expression = expression.before_spawn(move |command| {
            command.process_group(0);
            inherit(command, inherited.clone());
            if ends_with_us {
                end_with_us(command);
            }
            Ok(())
        });
        let handle = expression.start().map_err(unrunnable)?;
        // The expression holds the pipes' write ends: with it gone, the readers see the end.
        drop(expression);
        let stdout = stdout_reader.map(|r| std::thread::spawn(move || read_bounded(r, KEPT_OUTPUT_BYTES)));
        let stderr = std::thread::spawn(move || read_bounded(stderr_reader, KEPT_STDERR_BYTES));
        Ok(Self { handle, stdout, stderr })
    }

    fn finish(self, cmd: &Cmd, cancel: &Cancel) -> Result<Output, HostError> {
        let unrunnable = |source| HostError::Unrunnable { command: cmd.to_string(), source };
        let deadline = Instant::now() + cmd.limit;
        let status = loop {
            let next = deadline.min(Instant::now() + POLL);
            if let Some(output) = self.handle.wait_deadline(next).map_err(unrunnable)? {
                break output.status;
            }
            if cancel.is_cancelled() {
                self.kill();
                return Err(HostError::Cancelled);
            }
            if Instant::now() >= deadline {
                self.kill();
                return Err(HostError::TimedOut { command: cmd.to_string(), limit: cmd.limit });
            }
        };
        let stderr = joined(self.stderr).map_err(unrunnable)?;
        let stderr = String::from_utf8_lossy(&stderr.bytes).into_owned();
        let stdout = match self.stdout {
            Some(reader) => joined(reader).map_err(unrunnable)?,
            None => Kept { bytes: Vec::new(), truncated: false },
        };
        if status.success() {
            let text = String::from_utf8_lossy(&stdout.bytes).into_owned();
            return Ok(Output { stdout: text, stderr, truncated: stdout.truncated });
        }
        Err(HostError::Failed {
            command: cmd.to_string(),
            exit: status.to_string(),
            code: status.code(),
            stderr: ends(stderr.trim(), SHOWN_STDERR_BYTES),
        })
    }

    fn kill(&self) {
        for pid in self.handle.pids() {
            if let Some(group) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
        }
        // What the kernel holds (a process that waits for storage that does not answer) is left behind.
        let _ = self.handle.wait_deadline(Instant::now() + GRACE);
    }
}

fn environment(cmd: &Cmd) -> Vec<(OsString, OsString)> {
    let fixed = [("PATH", SEARCH_PATH), ("LC_ALL", "C.UTF-8"), ("TZ", "UTC")];
    let fixed = fixed.into_iter().map(|(name, value)| (name.into(), value.into()));
    fixed.chain(cmd.environment.iter().cloned()).collect()
}

/// The signal comes when the thread that started the command ends: that is the one that waits for it.
fn end_with_us(command: &mut std::process::Command) {
    let parent = rustix::process::getpid();
    // SAFETY: both are plain system calls, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            match rustix::process::getppid() == Some(parent) {
                true => Ok(()),
                // It has ended already: no signal will come.
                false => Err(io::ErrorKind::Interrupted.into()),
            }
        });
    }
}

fn inherit(command: &mut std::process::Command, files: Vec<Arc<File>>) {
    if files.is_empty() {
        return;
    }
    // SAFETY: fcntl is async-signal-safe and touches only descriptors that `files` keeps open.
    unsafe {
        command.pre_exec(move || {
            for file in &files {
                if libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) == -1 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

fn read_bounded(mut reader: impl Read, limit: usize) -> io::Result<Kept> {
    let mut bytes = Vec::new();
    reader.by_ref().take(limit as u64).read_to_end(&mut bytes)?;
    // Go on reading so that the program never blocks on a full pipe.
    let dropped = io::copy(&mut reader, &mut io::sink())?;
    Ok(Kept { bytes, truncated: dropped > 0 })
}

fn joined(reader: JoinHandle<io::Result<Kept>>) -> io::Result<Kept> {
    reader.join().unwrap_or_else(|_| Err(io::Error::other("the reader of a pipe panicked")))
}

/// Both ends of a text that is too long: some programs say first why they fail, and some last.
fn ends(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let head = text.floor_char_boundary(bytes / 2);
    let tail = text.ceil_char_boundary(text.len() - bytes / 2);
    format!("{}\n…\n{}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Tool;

    const SH: Tool = Tool { name: "sh", package: "dash" };

    fn sh(script: &str) -> Cmd {
        Cmd::reads(SH).arg("-c").arg(script)
    }

    #[test]
    fn both_ends_of_what_a_failed_command_says_are_told() {
        let script = "{ echo begin; seq 10000; echo end; } >&2; exit 1";
        let error = SystemHost.run(&sh(script), &Cancel::new()).unwrap_err().to_string();
        assert!(error.contains("begin") && error.contains("end") && error.len() < 3000, "{error}");
    }

    #[test]
    fn the_environment_is_cleared() {
        let output = SystemHost.run(&sh("env | sort | cut -d= -f1").env("X", "1"), &Cancel::new()).unwrap();
        let names: Vec<_> = output.stdout.lines().filter(|name| *name != "PWD").collect();
        assert_eq!(names, ["LC_ALL", "PATH", "TZ", "X"]);
    }

    #[test]
    fn a_failure_tells_command_exit_and_stderr_but_no_secret() {
        let cmd = sh("echo why >&2; exit 3").secret_arg("hunter2");
        let error = SystemHost.run(&cmd, &Cancel::new()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("why") && text.contains('3') && !text.contains("hunter2"), "{text}");
        assert!(matches!(error, HostError::Failed { code: Some(3), .. }));
    }

    #[test]
    fn a_deadline_kills_the_whole_group() {
        let began = Instant::now();
        let cmd = sh("sleep 60 & sleep 60").limit(Duration::from_millis(100));
        assert!(matches!(SystemHost.run(&cmd, &Cancel::new()), Err(HostError::TimedOut { .. })));
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn cancel_ends_a_running_command() {
        let cancel = Cancel::new();
        let other = cancel.clone();
        let canceller = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            other.cancel();
        });
        assert!(matches!(SystemHost.run(&sh("sleep 60"), &cancel), Err(HostError::Cancelled)));
        canceller.join().unwrap();
    }

    #[test]
    fn what_passes_is_waited_for_and_what_does_not_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let script = r#"test -e "$0" && exit; touch "$0"; echo "it is busy" >&2; exit 1"#;
        let once = sh(script).arg(&mark);
        assert!(SystemHost.run(&once, &Cancel::new()).is_err());
        std::fs::remove_file(&mark).unwrap();
        SystemHost.run(&once.again_while("is busy"), &Cancel::new()).unwrap();
        std::fs::remove_file(&mark).unwrap();
        assert!(SystemHost.run(&sh(script).arg(&mark).again_while("is full"), &Cancel::new()).is_err());
    }

    #[test]
    fn output_is_bounded_and_said_to_be() {
        let output = SystemHost.run(&sh("head -c 20000000 /dev/zero"), &Cancel::new()).unwrap();
        assert!(output.truncated);
        assert_eq!(output.stdout.len(), KEPT_OUTPUT_BYTES);
    }

    #[test]
    fn a_missing_program_says_what_to_install() {
        let tool = Tool { name: "no-such-program", package: "no-such-package" };
        let error = SystemHost.run(&Cmd::reads(tool), &Cancel::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the program no-such-program is not available: install no-such-package"
        );
    }

    #[test]
    fn bytes_go_in_and_come_out() {
        let cmd = sh("tr a-z A-Z").input(Input::Bytes(b"abc".to_vec()));
        assert_eq!(SystemHost.run(&cmd, &Cancel::new()).unwrap().stdout, "ABC");
    }
}
