//! Sizes of filesystem volumes: limits of the bytes that a subvolume refers to.
//!
//! Bytes that a volume shares with its snapshots or its image count for it as if it had them alone: a volume's size means
//! what `du` would add up. Quotas are switched on for a pool by the first volume that has a size.

use super::ioctl;
use larder_base::host::Act;
use larder_base::{ByteSize, Cancel};
use larder_storage_driver::{Result, VolumeUsage};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Sets or lifts the limit of a subvolume.
#[derive(Debug, Clone)]
pub(super) struct SetLimit {
    /// The subvolume.
    pub(super) path: PathBuf,
    /// The limit; `None` lifts it.
    pub(super) size: Option<ByteSize>,
}

impl Act for SetLimit {
    fn describe(&self) -> String {
        match self.size {
            Some(size) => format!("limit {} to {size}", self.path.display()),
            None => format!("lift the limit of {}", self.path.display()),
        }
    }

    fn apply(&self, _: &Cancel) -> io::Result<()> {
        let subvolume = File::open(&self.path)?;
        let tree = ioctl::tree_of(&subvolume)?;
        let bytes = self.size.map(ByteSize::as_bytes);
        let limit = || ioctl::limit(&subvolume, tree, bytes);
        match limit().map_err(|error| (error.raw_os_error(), error)) {
            // Without quotas there is no limit to lift.
            Err((Some(libc::ENOTCONN | libc::EINVAL), _)) if bytes.is_none() => Ok(()),
            Err((Some(libc::ENOTCONN | libc::EINVAL), _)) => {
                ioctl::enable_quotas(&subvolume)?;
                limit()
            }
            Err((Some(libc::ENOENT), _)) if bytes.is_none() => Ok(()),
            Err((Some(libc::ENOENT), _)) => {
                ioctl::create_counter(&subvolume, tree)?;
                limit()
            }
            Err((_, error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }
}

/// What quotas count for a subvolume; nothing when they are off.
pub(super) fn usage(path: &Path) -> Result<VolumeUsage> {
    let subvolume = File::open(path)?;
    let counter = ioctl::counter(&subvolume, ioctl::tree_of(&subvolume)?)?;
    Ok(VolumeUsage { used_bytes: counter.referenced, total_bytes: counter.limit })
}
