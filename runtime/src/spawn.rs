//! Starts the process that calls liblxc: this program again, under a hidden subcommand.
//!
//! The request goes through a memory file, answers come over a socket; their descriptors' numbers are the
//! last two arguments. The standard streams are whatever the caller hands over. The process has its own
//! session, so that neither a terminal nor the end of the daemon reaches it.

use crate::helper::HELPER_COMMAND;
use crate::helper::message::{Channel, Reply, Request};
use rustix::fs::{MemfdFlags, memfd_create};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Where the library finds the program that loads AppArmor profiles. The folders of `newuidmap` are left out
/// on purpose: with it the library would insist on what `/etc/subuid` gives, and root needs no program to map
/// ids.
const SEARCH_PATH: &str = "/usr/sbin:/sbin";

/// How to start the program that answers the hidden subcommand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperProgram {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl HelperProgram {
    /// The running program itself, even when its file was replaced meanwhile.
    pub fn this() -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), arguments: vec![OsString::from(HELPER_COMMAND)] }
    }
}

impl Default for HelperProgram {
    fn default() -> Self {
        Self::this()
    }
}

/// A started process and the way to hear from it.
#[derive(Debug)]
pub(crate) struct Helper {
    child: Option<Child>,
    channel: Channel,
}

impl Drop for Helper {
    /// Whoever does not care for its end still leaves no zombie.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            std::thread::spawn(move || child.wait());
        }
    }
}

impl Helper {
    /// Starts it with a request. Without `streams` the standard streams are `/dev/null`.
    pub(crate) fn start(
        program: &HelperProgram,
        request: &Request,
        streams: Option<[OwnedFd; 3]>,
    ) -> io::Result<Self> {
        let mut file = File::from(memfd_create("request", MemfdFlags::CLOEXEC)?);
        serde_json::to_writer(&mut file, request)?;
        file.flush()?;
        file.rewind()?;
        let (channel, theirs) = Channel::pair()?;
        #[expect(clippy::disallowed_methods, reason = "a session with handed-over descriptors is no `Cmd`")]
        let mut command = Command::new(&program.program);
        command.args(&program.arguments).env_clear().env("PATH", SEARCH_PATH).env("LC_ALL", "C.UTF-8");
        command.current_dir("/");
        match streams {
            Some([stdin, stdout, stderr]) => {
                command.stdin(stdin).stdout(stdout).stderr(stderr);
            }
            None => {
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            }
        }
        let (file, theirs) = (above_the_standard(&file)?, above_the_standard(&theirs)?);
        let numbers = [file.as_raw_fd(), theirs.as_raw_fd()];
        command.args(numbers.map(|number| number.to_string()));
        // SAFETY: setsid and fcntl are async-signal-safe; both descriptors stay open until after `spawn`.
        unsafe {
            command.pre_exec(move || {
                if libc::setsid() == -1 {
                    return Err(io::Error::last_os_error());
                }
                for number in numbers {
                    if libc::fcntl(number, libc::F_SETFD, 0) == -1 {
                        return Err(io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let child = command.spawn()?;
        Ok(Self { child: Some(child), channel })
    }

    /// Where its answers come from.
    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The next answer; none when the process is gone.
    pub(crate) fn reply(&self) -> io::Result<Option<(Reply, Vec<OwnedFd>)>> {
        self.channel.receive()
    }

    /// Waits for its end and says how it ended.
    pub(crate) fn wait(&mut self) -> io::Result<String> {
        match self.child.take() {
            Some(mut child) => Ok(child.wait()?.to_string()),
            None => Ok("waited for already".to_owned()),
        }
    }

    /// Kills it and waits for its end.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn above_the_standard(file: &impl std::os::fd::AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(file, 3)?)
}
