//! Starting a container.

use super::message::{DiskRoot, Reply, Stage, Target};
use super::stage::stage;
use super::{control, disk, open};
use crate::liblxc::{Liblxc, LiblxcError};
use std::fs;
use std::path::Path;

const SHOWN_MESSAGES: usize = 4;

pub(super) fn start(
    library: &Liblxc,
    target: &Target,
    log: &Path,
    mounts: &Stage,
) -> Result<Reply, LiblxcError> {
    if library.container(&target.name, &target.lxc_path)?.is_running()? {
        return Ok(Reply::AlreadyRunning);
    }
    if let Err(message) = stage(mounts) {
        return Ok(Reply::Failed(message));
    }
    let began_at = fs::metadata(log).map_or(0, |metadata| metadata.len());
    let started = open(library, target).and_then(|container| {
        container.start_in_background()?;
        let state = control::state(&container)?;
        let disks = mounts.disks.iter().enumerate().map(|(number, disk)| {
            let root = DiskRoot::at(&mounts.folder.join(number.to_string())).ok()?;
            disk::mounted_at(state.init?, &disk.path, root)
        });
        let disks = disks.collect();
        Ok(Reply::Started(state, disks))
    });
    started.or_else(|error| match error {
        LiblxcError::Call { call, detail } => {
            let text = fs::read(log).unwrap_or_default();
            let new = usize::try_from(began_at).ok().and_then(|at| text.get(at..)).unwrap_or(&text);
            let reasons = reasons(&String::from_utf8_lossy(new));
            let said = [reasons, detail].into_iter().find(|text| !text.is_empty());
            Ok(Reply::Failed(
                said.unwrap_or_else(|| format!("{call} failed without a word in {}", log.display())),
            ))
        }
        other => Err(other),
    })
}

/// The first errors of the library's log, without dates and places in its source.
///
/// A line is `lxc <name> <date> ERROR <part> - <file>:<function>:<line> - <message>`; the first error is the
/// cause, the later ones tell who passed it on.
fn reasons(log: &str) -> String {
    let mut messages: Vec<&str> = Vec::new();
    for line in log.lines() {
        let Some((_, message)) = line.split_once(" - ").filter(|(head, _)| head.contains(" ERROR ")) else {
            continue;
        };
        let message = message.split_once(" - ").map_or(message, |(_, message)| message).trim();
        if !message.is_empty() && !messages.contains(&message) && messages.len() < SHOWN_MESSAGES {
            messages.push(message);
        }
    }
    messages.join("; ")
}

#[cfg(test)]
mod tests {
    use super::reasons;

    #[test]
    fn the_first_errors_of_the_log_are_the_reasons() {
        let log = "\
lxc c1 20260101000000.000 WARN     cgfsng - ../src/lxc/cgroups/cgfsng.c:x:1 - Ignored\n\
lxc c1 20260101000000.000 ERROR    conf - ../src/lxc/conf.c:mount:2 - No such file or directory - Failed to mount\n\
lxc c1 20260101000000.000 ERROR    start - ../src/lxc/start.c:run:3 - Failed to set up\n\
lxc c1 20260101000000.000 ERROR    start - ../src/lxc/start.c:run:3 - Failed to set up\n";
        assert_eq!(reasons(log), "No such file or directory - Failed to mount; Failed to set up");
        assert_eq!(reasons(""), "");
    }
}
