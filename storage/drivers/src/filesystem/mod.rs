//! Filesystems on block devices: made, mounted, given a new identity, grown and shrunk. For every technology that gives a
//! volume a device (LVM, zvols, RBD).
//!
//! Sources: `mke2fs(8)`, `tune2fs(8)`, `resize2fs(8)`, `mkfs.xfs(8)`, `xfs_admin(8)`, `xfs_growfs(8)`, `btrfs(8)`,
//! `btrfstune(8)`, `fsfreeze(8)`.

mod device;
mod inside;
mod mounts;
mod resize;
mod root;
mod still;

pub(crate) use device::OnDevice;
pub(crate) use inside::Inside;
pub(crate) use mounts::{Mount, Mounted, Unmount, WriteBack, mount_points, mounts, unmount_where};
pub(crate) use resize::await_size;
pub(crate) use root::PrepareRoot;
pub(crate) use still::{held_still, let_go};

use crate::bounded::Bounded;
use crate::keys::{value, wrong};
use larder_base::host::{Cmd, HostError, Tool};
use larder_storage_driver::{Config, Cx, Result, StorageError, VolumeUsage, check_mkfs_words};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MKFS_EXT4: Tool = Tool { name: "mkfs.ext4", package: "e2fsprogs" };
const E2FSCK: Tool = Tool { name: "e2fsck", package: "e2fsprogs" };
const MKFS_XFS: Tool = Tool { name: "mkfs.xfs", package: "xfsprogs" };
const MKFS_BTRFS: Tool = Tool { name: "mkfs.btrfs", package: "btrfs-progs" };
const BLKID: Tool = Tool { name: "blkid", package: "util-linux" };
/// What makes the filesystems.
pub(crate) const MAKERS: &[Tool] = &[MKFS_EXT4, MKFS_XFS, MKFS_BTRFS];
/// A check or move of blocks of a large filesystem takes its time, and who ends it may destroy what is on it: this is for what has
/// stopped alone.
const LIMIT: Duration = Duration::from_secs(3 * 24 * 3600);
/// How long the kernel may take to mount or unmount: a device that is on other machines may not answer.
pub(crate) const MOUNTING: Duration = Duration::from_secs(120);
/// How an ext4 is made whose identifier can change without touching its blocks.
const RENEWABLE: [&str; 4] = ["-q", "-F", "-O", "metadata_csum_seed"];
/// Where a check of ext4 puts what has no name.
const LOST_AND_FOUND: &str = "lost+found";
/// `e2fsck(8)`: there were errors, and they are corrected.
const CORRECTED: i32 = 1;

/// A filesystem that a volume can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filesystem {
    /// Grows, in use too; shrinks.
    Ext4,
    /// Grows.
    Xfs,
    /// Grows and shrinks.
    Btrfs,
}

/// What the key `block.filesystem` may be.
pub(crate) const NAMES: &[&str] = &["ext4", "xfs", "btrfs"];

impl Filesystem {
    /// Its name for `mount(8)`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The filesystem of a name; `None` for any other.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Ext4, Self::Xfs, Self::Btrfs].into_iter().find(|filesystem| filesystem.as_str() == name)
    }

    /// The filesystem that is on a device.
    pub(crate) fn on(cx: &Cx<'_>, device: &Path) -> Result<Self> {
        let cmd =
            Cmd::reads(BLKID).args(["--probe", "--match-tag", "TYPE", "--output", "value", "--"]).arg(device);
        let output = cx.run(&cmd)?;
        let unknown = || StorageError::unexpected(format!("{} has no ext4, xfs or btrfs", device.display()));
        Self::named(output.stdout.trim()).ok_or_else(unknown)
    }

    /// The filesystem that the keys of a volume ask for.
    pub(crate) fn wanted(config: &Config) -> Option<Self> {
        value(config, "block.filesystem").and_then(Self::named)
    }

    /// The filesystem of a pool's volumes whose own keys ask for none.
    pub(crate) fn of_pool(config: &Config) -> Self {
        value(config, "volume.block.filesystem").and_then(Self::named).unwrap_or(Self::Ext4)
    }

    /// Makes it on a device whose content may be lost, with a root as the keys of the volume want it. `is_zeroed` says that the
    /// device reads as zeros, `scratch` where it may be mounted for a moment.
    pub(crate) fn make(
        self,
        cx: &Cx<'_>,
        device: PathBuf,
        scratch: PathBuf,
        config: &Config,
        is_zeroed: bool,
    ) -> Result<()> {
        let cmd = match self {
            Self::Ext4 if is_zeroed => {
                Cmd::changes(MKFS_EXT4).args(RENEWABLE).args(["-E", "nodiscard,lazy_journal_init=1"])
            }
            Self::Ext4 => Cmd::changes(MKFS_EXT4).args(RENEWABLE).args(["-E", "nodiscard"]),
            Self::Xfs => Cmd::changes(MKFS_XFS).args(["-q", "-f", "-K"]),
            Self::Btrfs => Cmd::changes(MKFS_BTRFS).args(["-q", "-f", "-K"]),
        };
        let options = value(config, "block.create_options").unwrap_or_default();
        self.check_words(options)?;
        cx.run(&cmd.args(options.split_whitespace()).arg(&device).limit(LIMIT))?;
        let act = PrepareRoot::new(device, self.as_str(), scratch, config);
        cx.act(&Bounded { act, limit: MOUNTING })
    }

    /// What is right for another filesystem may name a file to this one.
    fn check_words(self, words: &str) -> Result<()> {
        check_mkfs_words(self.as_str(), words).map_err(|word| {
            let wanted =
                format!("switches of mkfs.{} with numbers or names, which {word:?} is not", self.as_str());
            wrong("block.create_options", words, wanted)
        })
    }

    /// How a snapshot is mounted: nothing may be written back to it, and its original may be mounted too.
    pub(crate) fn snapshot_options(self) -> &'static str {
        match self {
            Self::Ext4 => "noload",
            Self::Xfs => "norecovery,nouuid",
            Self::Btrfs => "rescue=nologreplay",
        }
    }
}

/// Checks an unmounted ext4, which its tools want before they change it; what a crash left is corrected.
fn check_ext4(cx: &Cx<'_>, device: &Path) -> Result<()> {
    let cmd = Cmd::changes(E2FSCK).args(["-f", "-p"]).arg(device).limit(LIMIT);
    match cx.host().run(&cmd, cx.cancel()) {
        Ok(_) | Err(HostError::Failed { code: Some(CORRECTED), .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether something is mounted at a path: it lies on another filesystem than its parent.
pub(crate) fn is_mounted(path: &Path) -> bool {
    let device = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.dev()).ok();
    match (device(path), path.parent().and_then(device)) {
        (Some(own), Some(parents)) => own != parents,
        _ => false,
    }
}

/// What a mounted filesystem holds, and can hold.
pub(crate) fn usage(path: &Path) -> io::Result<VolumeUsage> {
    let found = rustix::fs::statvfs(path)?;
    Ok(VolumeUsage {
        used_bytes: Some((found.f_blocks - found.f_bfree) * found.f_frsize),
        total_bytes: Some(found.f_blocks * found.f_frsize),
    })
}

/// Whether what is mounted at a path can be written.
pub(crate) fn is_writable(path: &Path) -> bool {
    let read_only = rustix::fs::StatVfsMountFlags::RDONLY;
    rustix::fs::statvfs(path).is_ok_and(|found| !found.f_flag.contains(read_only))
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_base::host::ScriptedHost;
    use larder_base::{Cancel, Progress, Ticket};
    use larder_storage_driver::ErrorKind;

    #[test]
    fn words_of_another_filesystem_do_not_reach_mkfs() {
        let host = ScriptedHost::new();
        let ticket = Ticket::new("none", uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let cx = Cx::new(&host, Progress::silent(), Cancel::never(), ticket);
        // Where files come from, to mkfs.ext4; how data is kept, to mkfs.btrfs.
        let config = Config::from([("block.create_options".to_owned(), "-d single".to_owned())]);
        let refused = Filesystem::Ext4.make(&cx, "/dev/x".into(), "/nowhere".into(), &config, false);
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert!(refused.to_string().contains("\"-d\""), "{refused}");
        assert_eq!(host.transcript(), Vec::<String>::new());
    }
}
