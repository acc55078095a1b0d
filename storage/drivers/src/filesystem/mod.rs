//! Filesystems on block devices: made, mounted, given a new identity, grown and shrunk. For every technology that gives a
//! volume a device (LVM, zvols, RBD).
//!
//! Sources: `mke2fs(8)`, `tune2fs(8)`, `resize2fs(8)`, `mkfs.xfs(8)`, `xfs_admin(8)`, `xfs_growfs(8)`, `btrfs(8)`,
//! `btrfstune(8)`.

mod mounts;
mod resize;
mod root;

pub(crate) use mounts::{Mount, Mounted, Unmount, WriteBack, mounts};
pub(crate) use resize::Resizing;
pub(crate) use root::PrepareRoot;

use crate::spelling::PRIVATE;
use larder_base::host::{Cmd, FsAct, HostError, Tool};
use larder_storage_driver::{Cx, ErrorKind, Mode, Result, StorageError};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

const MKFS_EXT4: Tool = Tool { name: "mkfs.ext4", package: "e2fsprogs" };
const E2FSCK: Tool = Tool { name: "e2fsck", package: "e2fsprogs" };
const TUNE2FS: Tool = Tool { name: "tune2fs", package: "e2fsprogs" };
const MKFS_XFS: Tool = Tool { name: "mkfs.xfs", package: "xfsprogs" };
const XFS_ADMIN: Tool = Tool { name: "xfs_admin", package: "xfsprogs" };
const MKFS_BTRFS: Tool = Tool { name: "mkfs.btrfs", package: "btrfs-progs" };
const BTRFSTUNE: Tool = Tool { name: "btrfstune", package: "btrfs-progs" };
const BLKID: Tool = Tool { name: "blkid", package: "util-linux" };
/// What makes the filesystems.
pub(crate) const MAKERS: &[Tool] = &[MKFS_EXT4, MKFS_XFS, MKFS_BTRFS];
/// A check or move of blocks of a large filesystem takes its time.
const LIMIT: Duration = Duration::from_secs(3600);
/// How an ext4 is made whose identifier can change without touching its blocks.
const RENEWABLE: [&str; 4] = ["-q", "-F", "-O", "metadata_csum_seed"];
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
        let unknown = || {
            let message = format!("{} has no ext4, xfs or btrfs", device.display());
            StorageError::new(ErrorKind::Unexpected, message)
        };
        Self::named(output.stdout.trim()).ok_or_else(unknown)
    }

    /// Makes it on a device whose content may be lost. `options` are those of its mkfs; `is_zeroed` says that the device
    /// reads as zeros.
    pub(crate) fn make(self, cx: &Cx<'_>, device: &Path, options: &str, is_zeroed: bool) -> Result<()> {
        let cmd = match self {
            Self::Ext4 if is_zeroed => {
                Cmd::changes(MKFS_EXT4).args(RENEWABLE).args(["-E", "nodiscard,lazy_journal_init=1"])
            }
            Self::Ext4 => Cmd::changes(MKFS_EXT4).args(RENEWABLE).args(["-E", "nodiscard"]),
            Self::Xfs => Cmd::changes(MKFS_XFS).args(["-q", "-f", "-K"]),
            Self::Btrfs => Cmd::changes(MKFS_BTRFS).args(["-q", "-f", "-K"]),
        };
        cx.run(&cmd.args(options.split_whitespace()).arg(device).limit(LIMIT)).map(|_| ())
    }

    /// Gives a copy an identifier of its own, so that it may be mounted beside what it is a copy of. `scratch` is where
    /// it may be mounted for a moment.
    pub(crate) fn renew(self, cx: &Cx<'_>, device: &Path, scratch: &Path) -> Result<()> {
        match self {
            Self::Ext4 => self.renew_ext4(cx, device, scratch)?,
            Self::Xfs => {
                // Its log names the old identifier: it must have been written back.
                self.at_scratch(cx, device, scratch, "nouuid", |_| Ok(()))?;
                cx.run(&Cmd::changes(XFS_ADMIN).args(["-U", "generate"]).arg(device))?;
            }
            Self::Btrfs => {
                cx.run(&Cmd::changes(BTRFSTUNE).args(["-f", "-m"]).arg(device))?;
            }
        }
        Ok(())
    }

    /// A copy of one in use has a journal to be written back, which a mount does; a check would too, but it makes a
    /// `lost+found` where there is none. One that was not made to be renewed is checked and rewritten, which takes as long as
    /// it has blocks.
    fn renew_ext4(self, cx: &Cx<'_>, device: &Path, scratch: &Path) -> Result<()> {
        let cmd = Cmd::changes(TUNE2FS).args(["-U", "random"]).arg(device).limit(LIMIT);
        if is_done(cx, &cmd)? {
            return Ok(());
        }
        self.at_scratch(cx, device, scratch, "", |_| Ok(()))?;
        if is_done(cx, &cmd)? {
            return Ok(());
        }
        check_ext4(cx, device)?;
        cx.run(&cmd).map(|_| ())
    }

    /// Works where it is mounted for a moment, at a folder that is made and removed.
    fn at_scratch<T>(
        self,
        cx: &Cx<'_>,
        device: &Path,
        scratch: &Path,
        options: &str,
        work: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        cx.act(&FsAct::MakeDirectory { path: scratch.to_owned(), mode: PRIVATE })?;
        let outcome = self.mount(cx, device, scratch, options, Mode::ReadWrite).and_then(|()| work(scratch));
        // Also where nothing came to be mounted: the folder goes. What failed first is what is told.
        let unmounted = cx.uncancellable().act(&Unmount { targets: vec![scratch.to_owned()] });
        outcome.and_then(|value| unmounted.map(|()| value))
    }

    /// Mounts it `nodev,nosuid`.
    pub(crate) fn mount(
        self,
        cx: &Cx<'_>,
        device: &Path,
        target: &Path,
        options: &str,
        mode: Mode,
    ) -> Result<()> {
        cx.act(&FsAct::Mount {
            source: device.to_owned(),
            target: target.to_owned(),
            kind: self.as_str().to_owned(),
            options: options.to_owned(),
            read_only: mode == Mode::ReadOnly,
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

/// Runs a command; false when it refused.
fn is_done(cx: &Cx<'_>, cmd: &Cmd) -> Result<bool> {
    match cx.host().run(cmd, cx.cancel()) {
        Err(HostError::Failed { .. }) => Ok(false),
        other => Ok(other.map(|_| true)?),
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

/// Whether what is mounted at a path can be written.
pub(crate) fn is_writable(path: &Path) -> bool {
    let read_only = rustix::fs::StatVfsMountFlags::RDONLY;
    rustix::fs::statvfs(path).is_ok_and(|found| !found.f_flag.contains(read_only))
}
