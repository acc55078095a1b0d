//! `zfs.block_mode`: a filesystem volume as a zvol with a filesystem of its own on it.

use super::command::{self, Property};
use super::layout::Part;
use super::mount::{self, Mount, Prepare};
use super::run::run;
use super::{Zfs, keys, parse};
use crate::filesystem::{Filesystem, Resizing};
use larder_base::ByteSize;
use larder_base::host::{Act, FsAct};
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

/// What is remembered of a volume's keys on its zvol.
pub(super) fn marks(spec: &VolumeSpec) -> Vec<Property> {
    let options = spec.config.get("block.mount_options").filter(|options| !options.is_empty());
    vec![(MOUNT_OPTIONS, options.map_or("discard", String::as_str).to_owned())]
}

impl Zfs {
    /// Makes the filesystem on a new zvol, whose node is there.
    pub(super) fn format(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec, prepare: Prepare) -> Result<()> {
        let text = |key: &str| spec.config.get(key).map(String::as_str).unwrap_or_default();
        let filesystem = Filesystem::named(text("block.filesystem")).unwrap_or(Filesystem::Ext4);
        let device = self.show(cx, at, Part::Filesystem)?;
        filesystem.make(cx, &device, text("block.create_options"), true)?;
        let mount = Mount {
            source: device.to_string_lossy().into_owned(),
            kind: filesystem.as_str().to_owned(),
            ..prepare.mount
        };
        cx.act(&Prepare { mount, ..prepare })?;
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

    /// Gives a clone's filesystem an identity of its own.
    fn renew(&self, cx: &Cx<'_>, at: &Place, device: &Path) -> Result<()> {
        let scratch = self.scratch(cx, at)?;
        Filesystem::on(cx, device)?.renew(cx, device, &scratch)?;
        cx.act(&FsAct::RemoveEmptyDirectory { path: scratch })
    }

    /// A folder for a moment's mount: where the volume itself would be mounted.
    fn scratch(&self, cx: &Cx<'_>, at: &Place) -> Result<PathBuf> {
        let path = self.layout.mount_point(at);
        cx.act(&FsAct::MakeDirectory { path: path.clone(), mode: 0o700 })?;
        Ok(path)
    }

    /// Makes a new clone a volume of its own, as large as asked for.
    pub(super) fn finish_clone(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        let device = self.show(cx, at, Part::Filesystem)?;
        self.renew(cx, at, &device)?;
        self.hide(cx, at, Part::Filesystem)?;
        match spec.size {
            Some(size) => self.set_size(cx, at, Some(size)),
            None => Ok(()),
        }
    }

    /// Sets the size of a zvol and its filesystem: every prefix is valid.
    pub(super) fn resize_zvol(&self, cx: &Cx<'_>, at: &Place, old: u64, new: u64) -> Result<()> {
        let dataset = self.layout.part(at, Part::Filesystem);
        let target = self.layout.mount_point(at);
        let is_mounted = self.mounted_at(&target)?.is_some();
        let device = self.show(cx, at, Part::Filesystem)?;
        let scratch = self.scratch(cx, at)?;
        let resizing = Resizing {
            filesystem: Filesystem::on(cx, &device)?,
            device: &device,
            mounted: is_mounted.then_some(target.as_path()),
            scratch: &scratch,
        };
        let set = command::set(&dataset, &[("volsize", new.to_string())]);
        if new < old {
            let size = ByteSize::from_bytes(new);
            resizing.check_shrink(cx, size)?;
            resizing.shrink(cx, size)?;
            run(cx, &set)?;
        } else {
            if new > old {
                run(cx, &set)?;
            }
            // Also when the zvol is as large already: a call that was cut off may have stopped there.
            resizing.grow(cx)?;
        }
        if is_mounted {
            return Ok(());
        }
        cx.act(&FsAct::RemoveEmptyDirectory { path: scratch })?;
        self.hide(cx, at, Part::Filesystem)
    }

    /// The source of what is mounted at a path.
    pub(super) fn mounted_at(&self, target: &Path) -> Result<Option<String>> {
        let mounts = mount::mounts()?;
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

/// Writes back all that a filesystem has in memory.
#[derive(Debug, Clone)]
struct WriteBack {
    target: PathBuf,
}

impl Act for WriteBack {
    fn describe(&self) -> String {
        format!("write back what is in memory of {}", self.target.display())
    }

    fn apply(&self, _: &larder_base::Cancel) -> std::io::Result<()> {
        Ok(rustix::fs::syncfs(std::fs::File::open(&self.target)?)?)
    }
}

/// The error of a clone between a dataset and a zvol: the pool copies the files instead.
pub(super) fn other_type(at: &Place) -> StorageError {
    let message = format!("{at} can't be cloned: one of the two has zfs.block_mode, the other has not");
    StorageError::new(ErrorKind::Unsupported(larder_storage_driver::Need::Clone), message)
}
