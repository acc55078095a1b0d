//! Making volumes and snapshots usable on this machine.

use super::layout::{Part, parts_of};
use super::mount::{self, Mount, Unmount};
use super::parse::Refusal;
use super::run::{run, run_if_there};
use super::{Zfs, command, disk};
use larder_storage_driver::{Attached, Cx, ErrorKind, Mode, Place, Result, StorageError};
use std::path::PathBuf;

impl Zfs {
    pub(super) fn attach_parts(&self, cx: &Cx<'_>, at: &Place, mode: Mode) -> Result<Attached> {
        self.attach_each(cx, at, mode).inspect_err(|_| {
            // All or nothing: what is attached of it is taken back. What can't be is no harm: the next user finds it.
            let _ = self.detach_parts(&cx.uncancellable(), at);
        })
    }

    fn attach_each(&self, cx: &Cx<'_>, at: &Place, mode: Mode) -> Result<Attached> {
        let mut attached = Attached::default();
        for part in parts_of(&at.volume) {
            match part {
                Part::Filesystem => attached.directory = Some(self.mount(cx, at, mode)?),
                Part::Disk => attached.disk = Some(self.show(cx, at)?),
            }
        }
        Ok(attached)
    }

    fn mount(&self, cx: &Cx<'_>, at: &Place, mode: Mode) -> Result<PathBuf> {
        let target = self.layout.mount_point(at);
        let dataset = self.layout.spelled(at, Part::Filesystem);
        let read_only = at.snapshot.is_some() || mode == Mode::ReadOnly;
        cx.act(&Mount::zfs(dataset, target.clone(), read_only)).map_err(|error| match error.kind() {
            ErrorKind::NotFound => StorageError::not_found(at),
            _ => error,
        })?;
        Ok(target)
    }

    /// Gives a disk its node. A snapshot's disk is read through a clone: else all snapshots of its volume would have nodes.
    fn show(&self, cx: &Cx<'_>, at: &Place) -> Result<PathBuf> {
        let shown = ("volmode", "dev".to_owned());
        let spelled = self.layout.spelled(at, Part::Disk);
        let (dataset, cmd) = match at.snapshot {
            Some(_) => {
                let view = self.layout.view(at, Part::Disk);
                let cmd = command::clone(&spelled, &view, &[shown, ("readonly", "on".to_owned())]);
                (view, cmd)
            }
            None => (spelled.clone(), command::set(&spelled, &[shown])),
        };
        let mut outcome = run(cx, &cmd);
        if outcome.as_ref().is_err_and(|failure| failure.is(Refusal::Exists)) {
            // The view that a run which was cut off has left.
            run_if_there(cx, &command::destroy(&dataset))?;
            outcome = run(cx, &cmd);
        }
        match outcome {
            Err(failure) if failure.is(Refusal::Missing) => Err(StorageError::not_found(at)),
            Err(failure) => Err(failure.into()),
            Ok(_) => disk::wait_for(cx, &dataset),
        }
    }

    pub(super) fn detach_parts(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        for part in parts_of(&at.volume).iter().rev() {
            match part {
                Part::Filesystem => self.unmount_all_of(cx, &self.layout.spelled(at, Part::Filesystem))?,
                Part::Disk => self.hide(cx, at)?,
            }
        }
        Ok(())
    }

    fn hide(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        let cmd = match at.snapshot {
            Some(_) => command::destroy(&self.layout.view(at, Part::Disk)),
            None => command::set(&self.layout.part(at, Part::Disk), &[("volmode", "none".to_owned())]),
        };
        run_if_there(cx, &cmd).map(drop)
    }

    /// Unmounts a dataset or snapshot, and the snapshots of a dataset, wherever they are mounted.
    pub(super) fn unmount_all_of(&self, cx: &Cx<'_>, dataset: &str) -> Result<()> {
        let is_of =
            |source: &str| source == dataset || source.split_once('@').is_some_and(|(of, _)| of == dataset);
        let targets: Vec<PathBuf> = mount::mounts()?
            .into_iter()
            .filter(|mounted| is_of(&mounted.source))
            .map(|mounted| mounted.target)
            .collect();
        if targets.is_empty() { Ok(()) } else { cx.act(&Unmount { targets }) }
    }
}
