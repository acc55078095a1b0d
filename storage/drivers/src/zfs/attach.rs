//! Making volumes and snapshots usable on this machine.

use super::parse::Refusal;
use super::run::{run, run_if_there};
use super::{Zfs, command, disk};
use crate::filesystem::{Mount, Unmount, mounts};
use crate::spelling::Part;
use larder_storage_driver::{Attached, Cx, Mode, Place, Result, StorageError};
use std::io;
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
        for part in Part::of(&at.volume) {
            match part {
                Part::Filesystem => attached.directory = Some(self.mount(cx, at, mode)?),
                Part::Disk => attached.disk = Some(self.show(cx, at, Part::Disk)?),
            }
        }
        Ok(attached)
    }

    fn mount(&self, cx: &Cx<'_>, at: &Place, mode: Mode) -> Result<PathBuf> {
        let target = self.layout.mount_point(at);
        let dataset = self.layout.spelled(at, Part::Filesystem);
        let read_only = at.snapshot.is_some() || mode == Mode::ReadOnly;
        let mount = Mount {
            source: dataset,
            target: target.clone(),
            kind: "zfs".to_owned(),
            options: String::new(),
            read_only,
        };
        match cx.host().act(&mount, cx.cancel()) {
            Ok(()) => Ok(target),
            Err(error) if error.io_kind() == Some(io::ErrorKind::NotFound) => {
                Err(StorageError::not_found(at))
            }
            // No filesystem, perhaps, but a zvol with one on it.
            Err(error) => match self.mount_options_of_zvol(cx, at)? {
                Some(options) => self.mount_zvol(cx, at, mode, options),
                None => Err(error.into()),
            },
        }
    }

    /// Gives a zvol its node. A snapshot is read through a clone: else all snapshots of its volume would have nodes.
    pub(super) fn show(&self, cx: &Cx<'_>, at: &Place, part: Part) -> Result<PathBuf> {
        let shown = ("volmode", "dev".to_owned());
        let spelled = self.layout.spelled(at, part);
        let (dataset, cmd) = match at.snapshot {
            Some(_) => {
                let view = self.layout.view(at, part);
                // A filesystem's journal may be written back.
                let read_only = ("readonly", if part == Part::Disk { "on" } else { "off" }.to_owned());
                (view.clone(), command::clone(&spelled, &view, &[shown, read_only]))
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
        for part in Part::of(&at.volume).iter().rev() {
            let is_zvol = match part {
                Part::Disk => true,
                Part::Filesystem => {
                    let source = self.mounted_at(&self.layout.mount_point(at))?;
                    self.unmount_all_of(cx, at, Part::Filesystem)?;
                    source.is_some_and(|source| source.starts_with("/dev/"))
                }
            };
            if is_zvol {
                self.hide(cx, at, *part)?;
            }
        }
        Ok(())
    }

    /// Takes a zvol's node away again, after all that was written to it.
    pub(super) fn hide(&self, cx: &Cx<'_>, at: &Place, part: Part) -> Result<()> {
        let cmd = match at.snapshot {
            Some(_) => command::destroy(&self.layout.view(at, part)),
            None => {
                let dataset = self.layout.part(at, part);
                disk::write_back(&dataset)?;
                command::set(&dataset, &[("volmode", "none".to_owned())])
            }
        };
        run_if_there(cx, &cmd).map(drop)
    }

    /// Unmounts a part of a place, and the snapshots of a volume, wherever they are mounted.
    pub(super) fn unmount_all_of(&self, cx: &Cx<'_>, at: &Place, part: Part) -> Result<()> {
        let dataset = self.layout.spelled(at, part);
        let is_of =
            |source: &str| source == dataset || source.split_once('@').is_some_and(|(of, _)| of == dataset);
        // A filesystem on a zvol is known by its place.
        let own = (part == Part::Filesystem).then(|| self.layout.mount_point(at));
        let targets: Vec<PathBuf> = mounts()?
            .into_iter()
            .filter(|mounted| is_of(&mounted.source) || Some(&mounted.target) == own.as_ref())
            .map(|mounted| mounted.target)
            .collect();
        if targets.is_empty() { Ok(()) } else { cx.act(&Unmount { targets }) }
    }
}
