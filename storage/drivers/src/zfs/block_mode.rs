//! `zfs.block_mode`: a filesystem volume as a zvol with a filesystem of its own on it.

use super::Zfs;
use super::command::{self, Property};
use super::run::change;
use crate::filesystem::{Filesystem, OnDevice};
use crate::keys::{is_on, value};
use crate::parts::Part;
use larder_base::ByteSize;
use larder_storage_driver::{Cx, DEFAULT_BLOCK_SIZE, Mode, Need, Place, Result, StorageError, VolumeSpec};
use std::path::PathBuf;

/// Remembers `block.mount_options`.
const MOUNT_OPTIONS: &str = "larder:mount_options";

/// Whether a volume shall be a zvol with a filesystem.
pub(super) fn is_wanted(spec: &VolumeSpec) -> bool {
    !spec.id.has_disk() && is_on(&spec.config, "zfs.block_mode")
}

/// The size of its zvol: as asked for or the default of disks.
pub(super) fn size(spec: &VolumeSpec) -> Option<ByteSize> {
    is_wanted(spec).then(|| spec.size.unwrap_or(DEFAULT_BLOCK_SIZE))
}

/// The filesystem on its zvol.
pub(super) fn filesystem(spec: &VolumeSpec) -> Filesystem {
    Filesystem::wanted(&spec.config).unwrap_or(Filesystem::Ext4)
}

/// What is remembered of a volume's keys on its zvol.
pub(super) fn mark(spec: &VolumeSpec) -> Property {
    (MOUNT_OPTIONS, value(&spec.config, "block.mount_options").unwrap_or("discard").to_owned())
}

impl Zfs {
    /// Makes the filesystem on a new zvol.
    pub(super) fn format(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        let device = self.show(cx, at, Part::Filesystem)?;
        filesystem(spec).make(cx, device, self.mount_points.of(at), &spec.config, true)?;
        self.hide(cx, at, Part::Filesystem)
    }

    /// The mount options that are remembered on a zvol; `None` for a dataset.
    pub(super) fn mount_options_of_zvol(&self, cx: &Cx<'_>, at: &Place) -> Result<Option<String>> {
        let columns = format!("type,{MOUNT_OPTIONS}");
        let values = self.look_at(cx, &columns, &self.layout.part(at, Part::Filesystem), at)?;
        let options = values.text(MOUNT_OPTIONS).unwrap_or_default();
        Ok((values.text("type") == Some("volume")).then(|| options.to_owned()))
    }

    /// The filesystem of a zvol, whose node is shown for it.
    fn on_zvol(&self, cx: &Cx<'_>, at: &Place) -> Result<OnDevice> {
        OnDevice::found(cx, self.show(cx, at, Part::Filesystem)?, self.mount_points.of(at))
    }

    /// Mounts the filesystem of a zvol. A snapshot's is mounted from a passing clone, to which its journal may be written.
    pub(super) fn mount_zvol(&self, cx: &Cx<'_>, at: &Place, mode: Mode, options: &str) -> Result<PathBuf> {
        let mount = |on_zvol: OnDevice| {
            let options = match (on_zvol.filesystem, &at.snapshot) {
                (_, None) => options,
                (Filesystem::Xfs, Some(_)) => "nouuid",
                (Filesystem::Ext4, Some(_)) => "",
                (Filesystem::Btrfs, Some(_)) => on_zvol.renew(cx).map(|()| "")?,
            };
            on_zvol.mount(cx, options, mode)
        };
        self.on_zvol(cx, at).and_then(mount).inspect_err(|_| drop(self.hide_unless_mounted(cx, at)))
    }

    /// Takes the node of a zvol away that was shown for a moment.
    fn hide_unless_mounted(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        match self.mount_points.has_device(at)? {
            true => Ok(()),
            false => self.hide(&cx.uncancellable(), at, Part::Filesystem),
        }
    }

    /// Makes a new clone a volume of its own, as large as asked for; tells its filesystem.
    pub(super) fn finish_clone(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<Filesystem> {
        let on_zvol = self.on_zvol(cx, at)?;
        on_zvol.renew(cx)?;
        self.hide(cx, at, Part::Filesystem)?;
        if spec.size.is_some() {
            self.set_size(cx, at, spec.size)?;
        }
        Ok(on_zvol.filesystem)
    }

    /// Sets the size of a zvol and its filesystem: every prefix is valid.
    pub(super) fn resize_zvol(&self, cx: &Cx<'_>, at: &Place, old: u64, new: u64) -> Result<()> {
        let set = command::set(&self.layout.part(at, Part::Filesystem), &[("volsize", new.to_string())]);
        let resize = |on_zvol: OnDevice| on_zvol.resize(cx, old, new, || Ok(change(cx, &set)?));
        let resized = self.on_zvol(cx, at).and_then(resize);
        resized.and(self.hide_unless_mounted(cx, at))
    }
}

/// The error of a clone between a dataset and a zvol: the pool copies the files instead.
pub(super) fn other_type(at: &Place) -> StorageError {
    let message = format!("{at} can't be cloned: one of the two has zfs.block_mode, the other has not");
    StorageError::unsupported(Need::Clone, message)
}
