//! Making volumes and snapshots usable on this machine.

use super::parse::Refusal;
use super::run::{change, run_if_there};
use super::{Zfs, command, disk};
use crate::filesystem::{Mount, unmount_where};
use crate::parts::Part;
use crate::refusal::Outcome;
use larder_storage_driver::{Cx, Mode, Place, Result, StorageError};
use std::io;
use std::path::PathBuf;

impl Zfs {
    /// Mounts the files of a place.
    pub(super) fn mount(&self, cx: &Cx<'_>, at: &Place, mode: Mode) -> Result<PathBuf> {
        let mount = Mount {
            source: self.layout.spelled(at, Part::Filesystem),
            target: self.mount_points.of(at),
            kind: "zfs".to_owned(),
            options: String::new(),
            read_only: mode == Mode::ReadOnly,
        };
        match cx.host().act(&mount, cx.cancel()) {
            Ok(()) => Ok(mount.target),
            Err(error) if error.io_kind() == Some(io::ErrorKind::NotFound) => {
                Err(StorageError::not_found(at))
            }
            // No filesystem, perhaps, but a zvol with one on it.
            Err(error) => match self.mount_options_of_zvol(cx, at)? {
                Some(options) => self.mount_zvol(cx, at, mode, &options),
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
        if change(cx, &cmd).unless(&[Refusal::Exists]).of(at)?.is_none() {
            // The view that a run which was cut off has left.
            run_if_there(cx, &command::destroy(&[], &dataset))?;
            change(cx, &cmd).of(at)?;
        }
        disk::wait_for(cx, &dataset)
    }

    /// Takes back what [`Zfs::mount`] did.
    pub(super) fn unmount(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        let is_zvol = self.mount_points.has_device(at)?;
        self.unmount_all_of(cx, at, Part::Filesystem)?;
        if is_zvol { self.hide(cx, at, Part::Filesystem) } else { Ok(()) }
    }

    /// Takes a zvol's node away again, after all that was written to it.
    pub(super) fn hide(&self, cx: &Cx<'_>, at: &Place, part: Part) -> Result<()> {
        let cmd = match at.snapshot {
            Some(_) => command::destroy(&[], &self.layout.view(at, part)),
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
        let own = (part == Part::Filesystem).then(|| self.mount_points.of(at));
        unmount_where(cx, |mounted| is_of(&mounted.source) || Some(&mounted.target) == own.as_ref())
    }
}
