//! Running a command in a container and waiting for it.

use super::message::{Channel, Command, Reply, Target};
use super::{open, refusal};
use crate::liblxc::{Attach, Container, Liblxc, LiblxcError};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(super) fn serve(
    library: &Liblxc,
    target: &Target,
    command: &Command,
    channel: &Channel,
) -> io::Result<()> {
    let container = match running(library, target) {
        Ok(Some(container)) => container,
        Ok(None) => return channel.send(&Reply::NotRunning, &[]),
        Err(error) => return channel.send(&refusal(&error), &[]),
    };
    // A command would be frozen on its way in, and never heard of again.
    if container.state().is_ok_and(|state| state == "FROZEN") {
        return channel.send(&Reply::Failed("it is frozen: unfreeze it first".to_owned()), &[]);
    }
    let terminal = match command.terminal.map(|size| Terminal::open(&container, command, size)).transpose() {
        Ok(terminal) => terminal,
        Err(error) => return channel.send(&Reply::Failed(format!("make a terminal: {error}")), &[]),
    };
    let process = {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let streams = match &terminal {
            Some(terminal) => [terminal.slave.as_fd(); 3],
            None => [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
        };
        let attached = container.attach(&Attach {
            command: &command.command,
            environment: &command.environment,
            user: command.user,
            group: command.group,
            directory: &command.directory,
            streams,
            terminal: terminal.is_some(),
        });
        match attached.map(|process| i32::try_from(process).ok().and_then(Pid::from_raw)) {
            Ok(Some(process)) => process,
            Ok(None) => return channel.send(&Reply::Failed("the command has no process".to_owned()), &[]),
            Err(error) => return channel.send(&refusal(&error), &[]),
        }
    };
    let handle = pidfd_open(process, PidfdFlags::empty())?;
    let mut descriptors: Vec<BorrowedFd<'_>> = vec![handle.as_fd()];
    descriptors.extend(terminal.as_ref().map(|terminal| terminal.master.as_fd()));
    let told = channel.send(&Reply::Entered, &descriptors);
    // The command alone holds its streams now: readers see the end when it is gone.
    drop(terminal);
    release_streams()?;
    let code = wait(process)?;
    told.and_then(|()| channel.send(&Reply::Exited(code), &[]))
}

fn running<'library>(
    library: &'library Liblxc,
    target: &Target,
) -> Result<Option<Container<'library>>, LiblxcError> {
    let container = open(library, target)?;
    Ok(container.is_running()?.then_some(container))
}

struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    /// Makes one in the container's own terminal filesystem, so that programs inside find its name; on the
    /// host's where the library is too old to tell.
    fn open(container: &Container<'_>, command: &Command, (columns, rows): (u16, u16)) -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = match container.terminals() {
            Some(terminals) => rustix::fs::openat(
                terminals,
                "ptmx",
                OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
                Mode::empty(),
            )?,
            None => openpt(flags)?,
        };
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size)?;
        let init = container.init_pid().ok().flatten();
        if let Some(user) = init.and_then(|init| host_user(init, command.user)) {
            std::os::unix::fs::fchown(&slave, Some(user), None)?;
        }
        Ok(Self { master, slave })
    }
}

/// The host id of a user inside, from the map of the container's init: lines of `inside outside count`.
fn host_user(init: u32, user: u32) -> Option<u32> {
    let map = fs::read_to_string(format!("/proc/{init}/uid_map")).ok()?;
    map.lines().find_map(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        let (inside, outside, count) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
        let offset = user.checked_sub(inside).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    })
}

fn release_streams() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

fn wait(process: Pid) -> io::Result<i32> {
    loop {
        let status = rustix::process::waitpid(Some(process), rustix::process::WaitOptions::empty());
        let status = match status {
            Err(rustix::io::Errno::INTR) | Ok(None) => continue,
            other => other?,
        };
        let Some((_, status)) = status else { continue };
        if let Some(code) = status.exit_status() {
            return Ok(code);
        }
        if let Some(signal) = status.terminating_signal() {
            return Ok(128 + signal);
        }
    }
}
