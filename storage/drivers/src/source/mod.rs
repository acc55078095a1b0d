//! Where a pool's bytes come from: a file of ours on a loop device, a device or partition, or something that the
//! technology has a name for (a subvolume, a volume group, a dataset). The same for every driver that needs a device.

mod holding;
mod loop_device;

pub(crate) use holding::{Claim, claim, clear, is_on, wipe};
pub(crate) use loop_device::{AttachLoop, DetachLoop, RefreshLoop, device_of};

use crate::PoolSetup;
use larder_base::ByteSize;
use larder_base::host::{Act, FsAct};
use larder_base::{Cancel, PoolName};
use larder_storage_driver::{Config, Cx, ErrorKind, Need, Result, StorageError};
use rustix::fs::IFlags;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Where a pool's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A sparse file of ours.
    File {
        /// Below the daemon's folder of disks.
        path: PathBuf,
        /// How large it shall be.
        size: ByteSize,
    },
    /// A whole device or a partition.
    Device(PathBuf),
    /// Something that exists, in the technology's own words.
    Existing(String),
}

const GIB: u64 = 1 << 30;
/// The peers' bounds of a size nobody gave.
const DEFAULT_SIZES: std::ops::RangeInclusive<u64> = 5 * GIB..=30 * GIB;
/// Sizes are whole numbers of this many bytes, as those of volumes.
const STEP: u64 = 8192;

impl Source {
    /// What the keys `source` and `size` of a pool say. A file of ours is what nobody named a source for; a path of a
    /// device, or the identifier of a filesystem on one as the peers record it, is a device.
    pub(crate) fn of(setup: &PoolSetup) -> Result<Self> {
        let source = setup.config.get("source").map(String::as_str).unwrap_or_default();
        let size = setup.config.get("size").map(String::as_str).unwrap_or_default();
        let own = own_file(&setup.disks, &setup.name);
        if source.is_empty() || Path::new(source) == own {
            return Ok(Self::File { size: file_size(size, &setup.disks)?, path: own });
        }
        if !size.is_empty() {
            let message = format!("a size can't be given for the source {source:?}: it has one already");
            return Err(StorageError::new(ErrorKind::Invalid, message));
        }
        if Uuid::try_parse(source).is_ok() {
            return Ok(Self::Device(Path::new("/dev/disk/by-uuid").join(source)));
        }
        let path = Path::new(source);
        Ok(if is_device(path) { Self::Device(path.to_owned()) } else { Self::Existing(source.to_owned()) })
    }

    /// The file or device.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. } | Self::Device(path) => Some(path),
            Self::Existing(_) => None,
        }
    }

    /// Writes down what was decided: the file and its size.
    pub(crate) fn record(&self, config: &mut Config) {
        if let Self::File { path, size } = self {
            config.insert("source".to_owned(), path.display().to_string());
            config.insert("size".to_owned(), size.to_string());
        }
        for key in ["source.wipe", "source.recover"] {
            config.remove(key);
        }
    }

    /// Makes the file, or finishes what an interrupted call began; a device must be there.
    pub(crate) fn make(&self, cx: &Cx<'_>) -> Result<()> {
        match self {
            Self::File { path, size } => {
                if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
                    cx.act(&FsAct::MakeDirectory { path: folder.to_owned(), mode: 0o700 })?;
                }
                let length = fs::metadata(path).map_or(0, |found| found.len());
                if length < size.as_bytes() {
                    cx.act(&NewDisk { path: path.clone(), size: size.as_bytes() })?;
                }
                Ok(())
            }
            Self::Device(path) => must_be_device(path),
            Self::Existing(_) => Ok(()),
        }
    }

    /// The device to work on: the file is put on a loop device unless it is on one already.
    pub(crate) fn attach(&self, cx: &Cx<'_>) -> Result<PathBuf> {
        match self {
            Self::File { path, .. } => {
                if !path.is_file() {
                    return Err(StorageError::not_found(format!("the pool's file {}", path.display())));
                }
                if let Some(device) = device_of(path)? {
                    return Ok(device);
                }
                cx.act(&AttachLoop { file: path.clone() })?;
                let lost = || StorageError::not_found(format!("the loop device of {}", path.display()));
                device_of(path)?.ok_or_else(lost)
            }
            Self::Device(path) => must_be_device(path).map(|()| path.clone()),
            Self::Existing(name) => {
                Err(StorageError::new(ErrorKind::Invalid, format!("the source {name:?} is no device")))
            }
        }
    }

    /// Frees the loop device; nothing for other sources.
    pub(crate) fn detach(&self, cx: &Cx<'_>) -> Result<()> {
        match self {
            Self::File { path, .. } if device_of(path)?.is_some() => {
                cx.act(&DetachLoop { file: path.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Removes the file, after its loop device was freed; nothing for other sources. Ok when it is gone already.
    pub(crate) fn destroy(&self, cx: &Cx<'_>) -> Result<()> {
        match self {
            Self::File { path, .. } if path.exists() => cx.act(&FsAct::remove_tree(path)),
            _ => Ok(()),
        }
    }

    /// Removes the file if it holds nothing, or the thing `ours` (by its identifier): what else is in it was there before.
    pub(crate) fn destroy_own(&self, cx: &Cx<'_>, ours: Option<&str>) -> Result<()> {
        let Self::File { path, .. } = self else { return Ok(()) };
        if !path.exists() {
            return Ok(());
        }
        match claim(cx, path, ours, false) {
            Ok(_) => self.destroy(cx),
            Err(error) if error.kind() == ErrorKind::Invalid => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The path and present length of a file that can have the size; refuses a smaller one, and sources that are no file.
    pub(crate) fn may_grow(&self, size: ByteSize) -> Result<(&Path, u64)> {
        let Self::File { path, .. } = self else {
            let message = "only a pool in a file of ours can get another size";
            return Err(StorageError::new(ErrorKind::Invalid, message));
        };
        let now = fs::metadata(path)?.len();
        if size.as_bytes() < now {
            let message = format!("a pool can't shrink to {size}: it has {} now", ByteSize::from_bytes(now));
            return Err(StorageError::unsupported(Need::Shrink, message));
        }
        Ok((path, now))
    }

    /// Lengthens the file, and tells its loop device if it is on one. Repeatable. What is on it grows after it.
    pub(crate) fn grow(&self, cx: &Cx<'_>, size: ByteSize) -> Result<()> {
        let (path, now) = self.may_grow(size)?;
        if size.as_bytes() > now {
            cx.act(&FsAct::Truncate { path: path.to_owned(), size: size.as_bytes() })?;
        }
        match device_of(path)? {
            Some(_) => cx.act(&RefreshLoop { file: path.to_owned() }),
            None => Ok(()),
        }
    }
}

/// The size that a pool's changed keys ask for, when it is another one.
pub(crate) fn new_size(old: &Config, new: &Config) -> Result<Option<ByteSize>> {
    match (old.get("size"), new.get("size")) {
        (before, Some(after)) if before != Some(after) => parsed(after).map(Some),
        _ => Ok(None),
    }
}

fn own_file(disks: &Path, name: &PoolName) -> PathBuf {
    disks.join(format!("{name}.img"))
}

fn parsed(size: &str) -> Result<ByteSize> {
    let wrong = |problem: String| StorageError::new(ErrorKind::Invalid, problem);
    let size = size.parse::<ByteSize>().map_err(|error| wrong(error.to_string()))?;
    size.round_up(STEP).ok_or_else(|| wrong(format!("the size {size} is too large")))
}

/// As asked for, or the peers' default: a fifth of what is free, 5 GiB at least and 30 GiB at most.
fn file_size(asked: &str, disks: &Path) -> Result<ByteSize> {
    if !asked.is_empty() {
        return parsed(asked);
    }
    let below = disks.ancestors().find(|folder| folder.is_dir()).unwrap_or(disks);
    let free = rustix::fs::statvfs(below).map_or(0, |found| found.f_bavail * found.f_frsize);
    let fifth = (free / 5).clamp(*DEFAULT_SIZES.start(), *DEFAULT_SIZES.end());
    Ok(ByteSize::from_bytes(fifth / GIB * GIB))
}

/// Whether a path is a device's: one that is gone for now is told by its folder, which memory as a filesystem is not.
fn is_device(path: &Path) -> bool {
    let is_among_devices = path.starts_with("/dev") && !path.starts_with("/dev/shm");
    fs::metadata(path).map_or(is_among_devices, |found| {
        let kind = found.file_type();
        kind.is_block_device() || (is_among_devices && !kind.is_dir())
    })
}

fn must_be_device(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_block_device() => Ok(()),
        Ok(_) => {
            let message = format!("{} is no block device", path.display());
            Err(StorageError::new(ErrorKind::Invalid, message))
        }
        Err(error) => Err(StorageError::not_found(format!("the device {}", path.display())).because(error)),
    }
}

/// Makes a sparse file for a disk, or finishes one: on a filesystem that copies on write it is written in place
/// (`chattr +C`), since copying wears disks out; fine where there is no such mark.
#[derive(Debug, Clone)]
pub(crate) struct NewDisk {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its length in bytes.
    pub(crate) size: u64,
}

impl Act for NewDisk {
    fn describe(&self) -> String {
        format!("make disk {} of {} bytes", self.path.display(), self.size)
    }

    fn apply(&self, _: &Cancel) -> io::Result<()> {
        use rustix::io::Errno;
        let mut options = fs::File::options();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
        // The mark is for files without content only.
        if file.metadata()?.len() == 0 {
            let marked = rustix::fs::ioctl_getflags(&file)
                .and_then(|flags| rustix::fs::ioctl_setflags(&file, flags | IFlags::NOCOW));
            match marked {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::NOSYS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        file.set_len(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(keys: &[(&str, &str)]) -> Result<Source> {
        Source::of(&PoolSetup::with_keys(keys))
    }

    #[test]
    fn a_source_is_told_by_its_words() {
        let own = |size: u64| Source::File { path: "/disks/p1.img".into(), size: ByteSize::from_bytes(size) };
        assert_eq!(source(&[("size", "1GiB")]).unwrap(), own(GIB));
        assert_eq!(source(&[("source", "/disks/p1.img"), ("size", "8193")]).unwrap(), own(16384));
        assert_eq!(source(&[("source", "/dev/sdz1")]).unwrap(), Source::Device("/dev/sdz1".into()));
        let uuid = "2f1ab9c1-5a1c-4f0b-9c3f-8a5b6f1d2e3c";
        let by_uuid = Path::new("/dev/disk/by-uuid").join(uuid);
        assert_eq!(source(&[("source", uuid)]).unwrap(), Source::Device(by_uuid));
        assert_eq!(source(&[("source", "vg0")]).unwrap(), Source::Existing("vg0".to_owned()));
        assert_eq!(source(&[("source", "/srv/sub")]).unwrap(), Source::Existing("/srv/sub".to_owned()));
    }

    #[test]
    fn a_size_is_bounded_by_default_and_refused_for_what_has_one() {
        let Source::File { size, .. } = source(&[]).unwrap() else { panic!("no file") };
        assert!(DEFAULT_SIZES.contains(&size.as_bytes()), "{size}");
        let refused = source(&[("source", "/dev/sdz"), ("size", "1GiB")]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert!(refused.to_string().contains("/dev/sdz"), "{refused}");
    }

    #[test]
    fn what_only_creation_needs_is_not_recorded() {
        let keys = [("source.wipe", "true"), ("source.recover", "false"), ("size", "1GiB")];
        let mut config = keys.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        source(&keys).unwrap().record(&mut config);
        let expected = [("size", "1GiB"), ("source", "/disks/p1.img")];
        assert_eq!(config, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }
}
