//! The parts of a volume where a technology keeps trees of files and disks apart, and what is done to all of them.

use larder_base::ByteSize;
use larder_storage_driver::{Attached, Mode, Need, Place, Result, StorageError, VolumeId};
use std::path::PathBuf;

/// One of the things that a volume is made of where trees and disks are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// A tree of files.
    Filesystem,
    /// A disk.
    Disk,
}

impl Part {
    /// The parts of a volume, the main part last.
    pub(crate) fn of(volume: &VolumeId) -> &'static [Self] {
        match (volume.has_filesystem(), volume.has_disk()) {
            (true, true) => &[Self::Filesystem, Self::Disk],
            (_, true) => &[Self::Disk],
            (_, false) => &[Self::Filesystem],
        }
    }

    /// The part that decides whether a volume is there.
    pub(crate) fn main(volume: &VolumeId) -> Self {
        if volume.has_disk() { Self::Disk } else { Self::Filesystem }
    }
}

/// Moves the parts of a place one after the other: the main part last when `to` is live, else first. `move_one` tells whether a part
/// was there. What an earlier call has moved already is fine: `is_there` looks for a part at `to`.
pub(crate) fn move_parts(
    from: &Place,
    to: &Place,
    move_one: impl Fn(Part) -> Result<bool>,
    is_there: impl Fn(Part) -> Result<bool>,
) -> Result<()> {
    let mut parts = Part::of(&from.volume).to_vec();
    if !to.is_live() {
        parts.reverse();
    }
    let mut is_known = false;
    for part in &parts {
        is_known |= move_one(*part)?;
    }
    for part in parts {
        is_known = is_known || is_there(part)?;
    }
    if is_known { Ok(()) } else { Err(StorageError::not_found(from)) }
}

/// Makes the parts of a place usable, with `mount` for a tree of files and `show` for a disk, a snapshot to be read only; `undo` takes
/// back what was done before one of them failed.
pub(crate) fn attach_parts(
    at: &Place,
    mode: Mode,
    mount: impl Fn(Mode) -> Result<PathBuf>,
    show: impl Fn(Mode) -> Result<PathBuf>,
    undo: impl Fn() -> Result<()>,
) -> Result<Attached> {
    let mode = if at.snapshot.is_some() { Mode::ReadOnly } else { mode };
    let attach = || {
        let mut attached = Attached::default();
        for part in Part::of(&at.volume) {
            match part {
                Part::Filesystem => attached.directory = Some(mount(mode)?),
                Part::Disk => attached.disk = Some(show(mode)?),
            }
        }
        Ok(attached)
    };
    // What can't be taken back is no harm: the next user finds it.
    attach().inspect_err(|_| drop(undo()))
}

/// Whether a disk must grow to go from `old` to `new` bytes. Fails with `Unsupported` when it would shrink.
pub(crate) fn must_grow(at: &Place, old: u64, new: u64) -> Result<bool> {
    if new < old {
        let size = ByteSize::from_bytes(new);
        let message = format!("{at} can't shrink to {size}: a disk only grows");
        return Err(StorageError::unsupported(Need::Shrink, message));
    }
    Ok(new > old)
}
