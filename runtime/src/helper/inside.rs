//! Getting into a running container.

use super::message::Target;
use crate::liblxc::{Liblxc, LiblxcError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Gid, Pid, PidfdFlags, Uid, pidfd_open};
use rustix::thread::{
    ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid, unshare_unsafe,
};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// The processes of a running container that its namespaces are entered by: held, so that their numbers can't come to mean
/// others.
pub(super) struct Inside {
    init: OwnedFd,
    monitor: Option<OwnedFd>,
    /// Its user namespace; none for a privileged one, which has the host's.
    user_namespace: Option<File>,
    /// The host's table of processes: inside, the path may lead to anything.
    processes: OwnedFd,
}

impl Inside {
    /// Those of a container; none when it does not run.
    pub(super) fn find(library: &Liblxc, target: &Target) -> Result<Option<io::Result<Self>>, LiblxcError> {
        let container = library.container(&target.name, &target.lxc_path)?;
        let Some(init) = container.init_pid()? else { return Ok(None) };
        let held = Self::hold(init);
        // Asked again: the number was that of its init when it was opened.
        Ok(if container.init_pid()? == Some(init) { Some(held) } else { None })
    }

    fn hold(process: u32) -> io::Result<Self> {
        let init = pidfd(process)?;
        let monitor = super::control::parent(process).map(pidfd).transpose()?;
        let of_init = format!("/proc/{process}/ns/user");
        let (theirs, ours) = (fs::metadata(&of_init)?, fs::metadata("/proc/self/ns/user")?);
        let is_mapped = (theirs.dev(), theirs.ino()) != (ours.dev(), ours.ino());
        let user_namespace = if is_mapped { Some(File::open(of_init)?) } else { None };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let processes = rustix::fs::openat(CWD, "/proc", flags, Mode::empty())?;
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut [PollFd::new(&init, PollFlags::IN)], Some(&now))? {
            0 => Ok(Self { init, monitor, user_namespace, processes }),
            _ => Err(rustix::io::Errno::SRCH.into()),
        }
    }

    /// The namespace that maps its ids.
    pub(super) fn user_namespace(&self) -> Option<&File> {
        self.user_namespace.as_ref()
    }

    /// The host's table of processes, wherever this process is.
    pub(super) fn processes(&self) -> &OwnedFd {
        &self.processes
    }

    /// Makes this process the container's root; nothing for a privileged one.
    pub(super) fn become_root(&self) -> io::Result<()> {
        if self.user_namespace.is_none() {
            return Ok(());
        }
        move_into_thread_name_spaces(self.init.as_fd(), ThreadNameSpaceType::USER)?;
        set_thread_groups(&[])?;
        set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
        Ok(set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?)
    }

    /// Goes where the container's mounts are: its root is this process's root then.
    pub(super) fn enter(&self) -> io::Result<()> {
        Ok(move_into_thread_name_spaces(self.init.as_fd(), ThreadNameSpaceType::MOUNT)?)
    }

    /// Goes where the monitor's mounts are; false when there is none.
    pub(super) fn enter_monitor(&self) -> io::Result<bool> {
        let Some(monitor) = &self.monitor else { return Ok(false) };
        move_into_thread_name_spaces(monitor.as_fd(), ThreadNameSpaceType::MOUNT)?;
        Ok(true)
    }
}

/// Gives this process a copy of the mounts it sees, for itself.
pub(super) fn own_mounts() -> io::Result<()> {
    // SAFETY: nothing but the mount namespace is left, and this process has one thread.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?)
}

fn pidfd(process: u32) -> io::Result<OwnedFd> {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    Ok(pidfd_open(process.ok_or(rustix::io::Errno::SRCH)?, PidfdFlags::empty())?)
}
