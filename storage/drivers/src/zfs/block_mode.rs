//! `zfs.block_mode`: a filesystem volume as a zvol with a filesystem of its own on it.

use super::command::{self, Property};
use super::run::run;
use super::{Zfs, keys, parse};
use crate::filesystem::{Filesystem, Mount, PrepareRoot, Resizing, WriteBack, mounts};
use crate::spelling::Part;
use larder_base::ByteSize;
use larder_storage_driver::{
    Cx, DEFAULT_BLOCK_SIZE, ErrorKind, Mode, Place, Result, StorageError, VolumeSpec,
};
use std::path::{Path, PathBuf};

/// Remembers `block.mount_options`.
const MOUNT_OPTIONS: &str = "larder:mount_options";

/// Whether a volume shall be a zvol with a filesystem.
pub(super) fn is_wanted(spec: &VolumeSpec) -> bool {
    !spec.id.has_disk() && keys::is_on(&spec.config, "zfs.block_mode")
}

/// The size of its zvol: as asked for or the default of disks.
pub(super) fn size(spec: &VolumeSpec) -> ByteSize {
    spec.size.unwrap_or(DEFAULT_BLOCK_SIZE)
}

/// The filesystem on its zvol.
pub(super) fn filesystem(spec: &VolumeSpec) -> Filesystem {
    let wanted = spec.config.get("block.filesystem").and_then(|name| Filesystem::named(name));
    wanted.unwrap_or(Filesystem::Ext4)
}

/// What is remembered of a volume's keys on its zvol.
pub(super) fn marks(spec: &VolumeSpec) -> Vec<Property> {
    let options = spec.config.get("block.mount_options").filter(|options| !options.is_empty());
    vec![(MOUNT_OPTIONS, options.map_or("discard", String::as_str).to_owned())]
}

impl Zfs {
    /// Makes the filesystem on a new zvol.
    pub(super) fn format(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        let filesystem = filesystem(spec);
        let options = spec.config.get("block.create_options").map(String::as_str).unwrap_or_default();
        let device = self.show(cx, at, Part::Filesystem)?;
        filesystem.make(cx, &device, options, true)?;
        let scratch = self.layout.mount_point(at);
        cx.act(&PrepareRoot::new(device, filesystem.as_str(), scratch, &spec.config))?;
        self.hide(cx, at, Part::Filesystem)
    }

    /// The mount options that are remembered on a zvol; `None` for a dataset.
    pub(super) fn mount_options_of_zvol(&self, cx: &Cx<'_>, at: &Place) -> Result<Option<String>> {
        let columns = format!("type,{MOUNT_OPTIONS}");
        let text = self.look_at(cx, &columns, &self.layout.part(at, Part::Filesystem), at)?;
        let values = parse::values(&columns, &text);
        let options = values.text(MOUNT_OPTIONS).unwrap_or_default();
        Ok((values.text("type") == Some("volume")).then(|| options.to_owned()))
    }

    /// Mounts the filesystem of a zvol. A snapshot's is mounted from a passing clone, to which its journal may be written.
    pub(super) fn mount_zvol(&self, cx: &Cx<'_>, at: &Place, mode: Mode, options: String) -> Result<PathBuf> {
        let device = self.show(cx, at, Part::Filesystem)?;
        let filesystem = Filesystem::on(cx, &device)?;
        let target = self.layout.mount_point(at);
        let options = match (filesystem, &at.snapshot) {
            (_, None) => options,
            (Filesystem::Xfs, Some(_)) => "nouuid".to_owned(),
            (Filesystem::Ext4, Some(_)) => String::new(),
            (Filesystem::Btrfs, Some(_)) => {
                self.renew(cx, at, &device)?;
                String::new()
            }
        };
        cx.act(&Mount {
            source: device.to_string_lossy().into_owned(),
            target: target.clone(),
            kind: filesystem.as_str().to_owned(),
            options,
            read_only: at.snapshot.is_some() || mode == Mode::ReadOnly,
        })?;
        Ok(target)
    }

    /// Gives a clone's filesystem an identity of its own; tells which it is.
    fn renew(&self, cx: &Cx<'_>, at: &Place, device: &Path) -> Result<Filesystem> {
        let filesystem = Filesystem::on(cx, device)?;
        filesystem.renew(cx, device, &self.layout.mount_point(at))?;
        Ok(filesystem)
    }

    /// Makes a new clone a volume of its own, as large as asked for; tells its filesystem.
    pub(super) fn finish_clone(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<Filesystem> {
        let device = self.show(cx, at, Part::Filesystem)?;
        let filesystem = self.renew(cx, at, &device)?;
        self.hide(cx, at, Part::Filesystem)?;
        match spec.size {
            Some(size) => self.set_size(cx, at, Some(size)).map(|()| filesystem),
            None => Ok(filesystem),
        }
    }

    /// Sets the size of a zvol and its filesystem: every prefix is valid.
    pub(super) fn resize_zvol(&self, cx: &Cx<'_>, at: &Place, old: u64, new: u64) -> Result<()> {
        let dataset = self.layout.part(at, Part::Filesystem);
        let target = self.layout.mount_point(at);
        let is_mounted = self.mounted_at(&target)?.is_some();
        let device = self.show(cx, at, Part::Filesystem)?;
        let resizing = Resizing {
            filesystem: Filesystem::on(cx, &device)?,
            device: &device,
            mounted: is_mounted.then_some(target.as_path()),
            scratch: &target,
        };
        let set = command::set(&dataset, &[("volsize", new.to_string())]);
        resizing.resize(cx, old, new, || Ok(run(cx, &set).map(drop)?))?;
        if is_mounted {
            return Ok(());
        }
        self.hide(cx, at, Part::Filesystem)
    }

    /// The source of what is mounted at a path.
    pub(super) fn mounted_at(&self, target: &Path) -> Result<Option<String>> {
        let mounts = mounts()?;
        Ok(mounts.into_iter().rfind(|mounted| mounted.target == target).map(|mounted| mounted.source))
    }

    /// Writes back what a mounted filesystem on a zvol has in memory, so that a snapshot of the zvol has it too.
    pub(super) fn write_back(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        let target = self.layout.mount_point(at);
        match self.mounted_at(&target)? {
            Some(source) if source.starts_with("/dev/") => cx.act(&WriteBack { target }),
            _ => Ok(()),
        }
    }
}

/// The error of a clone between a dataset and a zvol: the pool copies the files instead.
pub(super) fn other_type(at: &Place) -> StorageError {
    let message = format!("{at} can't be cloned: one of the two has zfs.block_mode, the other has not");
    StorageError::new(ErrorKind::Unsupported(larder_storage_driver::Need::Clone), message)
}
