//! Stopping, freezing and looking at containers.

use super::message::{Channel, Reply, StateReply, Target};
use super::{open, refusal};
use crate::liblxc::{Container, Liblxc, LiblxcError};
use std::fs;
use std::io;
use std::os::fd::AsFd;

/// How long the library gets to tidy up after the last process is gone.
const SECONDS_TO_TIDY: i32 = 30;

pub(super) fn stop(library: &Liblxc, target: &Target) -> Result<Reply, LiblxcError> {
    let container = open(library, target)?;
    if !container.is_running()? {
        return Ok(Reply::NotRunning);
    }
    // A frozen process can't be killed where the freezer is of the old kind.
    if container.state()? == "FROZEN" {
        container.unfreeze()?;
    }
    container.stop()?;
    container.wait("STOPPED", SECONDS_TO_TIDY)?;
    Ok(Reply::Done)
}

pub(super) fn shutdown(
    library: &Liblxc,
    target: &Target,
    seconds: Option<u32>,
) -> Result<Reply, LiblxcError> {
    let container = open(library, target)?;
    if !container.is_running()? {
        return Ok(Reply::NotRunning);
    }
    let seconds = seconds.map_or(-1, |seconds| i32::try_from(seconds).unwrap_or(i32::MAX));
    Ok(if container.shutdown(seconds)? { Reply::Done } else { Reply::StillRunning })
}

pub(super) fn freeze(library: &Liblxc, target: &Target, freeze: bool) -> Result<Reply, LiblxcError> {
    let container = open(library, target)?;
    if !container.is_running()? {
        return Ok(Reply::NotRunning);
    }
    if freeze {
        container.freeze()?;
    } else {
        container.unfreeze()?;
    }
    Ok(Reply::Done)
}

pub(super) fn states(library: &Liblxc, targets: &[Target]) -> Result<Reply, LiblxcError> {
    // Asking needs no configuration, so that a broken one can't hide a running container.
    let states = targets.iter().map(|target| state(&library.container(&target.name, &target.lxc_path)?));
    Ok(Reply::States(states.collect::<Result<_, _>>()?))
}

pub(super) fn state(container: &Container<'_>) -> Result<StateReply, LiblxcError> {
    let init = container.init_pid()?;
    Ok(StateReply { state: container.state()?, init, monitor: init.and_then(parent) })
}

/// The parent of a process: for a container's init, its monitor.
pub(super) fn parent(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok().filter(|parent| *parent > 1)
}

pub(super) fn console(library: &Liblxc, target: &Target, channel: &Channel) -> io::Result<()> {
    let taken = open(library, target).and_then(|container| match container.is_running()? {
        true => container.console().map(Some),
        false => Ok(None),
    });
    match taken {
        Ok(Some((master, keeper))) => channel.send(&Reply::Console, &[master.as_fd(), keeper.as_fd()]),
        Ok(None) => channel.send(&Reply::NotRunning, &[]),
        Err(error) => channel.send(&refusal(&error), &[]),
    }
}
