//! What a container does, and when it ends.

use super::answered;
use crate::helper::message::Target;
use larder_base::Cancel;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// Nothing.
    #[default]
    Stopped,
    /// It is coming up.
    Starting,
    /// Its init runs.
    Running,
    /// It is going down.
    Stopping,
    /// It is frozen, or about to be.
    Frozen,
}

impl Status {
    pub(super) fn from_liblxc(state: &str) -> Self {
        match state {
            "STARTING" => Self::Starting,
            "RUNNING" | "THAWED" => Self::Running,
            "STOPPING" | "ABORTING" => Self::Stopping,
            "FREEZING" | "FROZEN" => Self::Frozen,
            _ => Self::Stopped,
        }
    }
}

/// What a container does now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerState {
    /// In a word.
    pub status: Status,
    /// Its init as the host sees it.
    pub init: Option<u32>,
    /// The process that watches over it.
    pub monitor: Option<u32>,
}

/// The longest abstract socket name that liblxc uses as it is; longer ones it hashes.
const LONGEST_SOCKET: usize = 106;

/// Whether a container may run: it does when its monitor listens, on a socket named after its path.
pub(super) fn may_run(target: &Target, sockets: &str) -> bool {
    let socket = format!("{}/{}/command", target.lxc_path.display(), target.name);
    let is_ours = |line: &str| line.split_once(" @").is_some_and(|(_, name)| name == socket);
    socket.len() > LONGEST_SOCKET || sockets.lines().any(is_ours)
}

/// Tells when a container is gone: the descriptor becomes readable then.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Watch {
    /// None when the process is gone already.
    pub(super) fn of(monitor: u32) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(monitor).ok().and_then(Pid::from_raw) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => Ok(Some(Self(descriptor))),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it is gone. Returns whether it is; not when the time is over or `cancel` was raised.
    pub fn wait(&self, limit: Option<Duration>, cancel: &Cancel) -> io::Result<bool> {
        let began = Instant::now();
        loop {
            if answered(self, super::POLL)? {
                return Ok(true);
            }
            if cancel.is_cancelled() || limit.is_some_and(|limit| began.elapsed() > limit) {
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_container_runs_when_its_monitor_listens() {
        let target = |path: &str| Target {
            name: "c1".to_owned(),
            lxc_path: PathBuf::from(path),
            config: PathBuf::new(),
        };
        let sockets =
            "Num RefCount\n00: 2 0 10000 1 1 33 @/run/l/c1/command\n01: 2 0 0 1 1 4 /run/l/c2/command\n";
        assert!(may_run(&target("/run/l"), sockets));
        assert!(!may_run(&target("/run"), sockets));
        assert!(!may_run(&target("/run/l"), "01: 2 0 0 1 1 4 /run/l/c1/command\n"), "no abstract one");
        assert!(may_run(&target(&"/long".repeat(30)), sockets), "can't be told from the table");
    }

    #[test]
    fn a_watch_ends_with_its_process() {
        #[expect(clippy::disallowed_methods, reason = "the test needs a process of its own")]
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let watch = Watch::of(child.id()).unwrap().unwrap();
        assert!(!watch.wait(Some(Duration::ZERO), &Cancel::never()).unwrap());
        child.kill().unwrap();
        assert!(watch.wait(None, &Cancel::never()).unwrap());
        child.wait().unwrap();
        assert!(Watch::of(child.id()).unwrap().is_none());
    }
}
