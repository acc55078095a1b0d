//! A volume's filesystem on the device that its technology gives it: mounted, and given an identity of its own.

use super::{Filesystem, LIMIT, LOST_AND_FOUND, MOUNTING, Mount, Unmount, check_ext4, is_mounted};
use crate::bounded::Bounded;
use larder_base::host::{Cmd, FsAct, HostError, Tool};
use larder_storage_driver::{Cx, Mode, Result};
use std::path::{Path, PathBuf};

const TUNE2FS: Tool = Tool { name: "tune2fs", package: "e2fsprogs" };
const XFS_ADMIN: Tool = Tool { name: "xfs_admin", package: "xfsprogs" };
const BTRFSTUNE: Tool = Tool { name: "btrfstune", package: "btrfs-progs" };

/// A device with a filesystem.
#[derive(Debug)]
pub(crate) struct OnDevice {
    /// What is on the device.
    pub(crate) filesystem: Filesystem,
    /// The device.
    pub(crate) device: PathBuf,
    /// Where it is mounted for its user; else it may be mounted there for a moment.
    pub(crate) target: PathBuf,
}

impl OnDevice {
    /// What is on a device.
    pub(crate) fn found(cx: &Cx<'_>, device: PathBuf, target: PathBuf) -> Result<Self> {
        Ok(Self { filesystem: Filesystem::on(cx, &device)?, device, target })
    }

    /// Mounts it for its user, `nodev,nosuid`; fine when it is mounted already.
    pub(crate) fn mount(&self, cx: &Cx<'_>, options: &str, mode: Mode) -> Result<PathBuf> {
        let act = Mount {
            source: self.device.to_string_lossy().into_owned(),
            target: self.target.clone(),
            kind: self.filesystem.as_str().to_owned(),
            options: options.to_owned(),
            read_only: mode == Mode::ReadOnly,
        };
        cx.act(&Bounded { act, limit: MOUNTING }).map(|()| self.target.clone())
    }

    /// Works where it is mounted; for a moment, with `options`, when it is not.
    pub(super) fn where_mounted<T>(
        &self,
        cx: &Cx<'_>,
        options: &str,
        work: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        if is_mounted(&self.target) {
            return work(&self.target);
        }
        let outcome = self.mount(cx, options, Mode::ReadWrite).and_then(|at| work(&at));
        // Also where nothing came to be mounted: the folder goes. What failed first is what is told.
        let act = Unmount { targets: vec![self.target.clone()], detaches: true };
        let unmounted = cx.uncancellable().act(&Bounded { act, limit: MOUNTING });
        outcome.and_then(|value| unmounted.map(|()| value))
    }

    /// Gives a copy an identifier of its own, so that it may be mounted beside what it is a copy of.
    pub(crate) fn renew(&self, cx: &Cx<'_>) -> Result<()> {
        match self.filesystem {
            Filesystem::Ext4 => self.renew_ext4(cx),
            Filesystem::Xfs => {
                // Its log names the old identifier: it must have been written back.
                self.where_mounted(cx, "nouuid", |_| Ok(()))?;
                cx.run(&Cmd::changes(XFS_ADMIN).args(["-U", "generate"]).arg(&self.device)).map(drop)
            }
            Filesystem::Btrfs => {
                cx.run(&Cmd::changes(BTRFSTUNE).args(["-f", "-m"]).arg(&self.device)).map(drop)
            }
        }
    }

    /// A copy of one in use has a journal to be written back, which a mount does; a check would too, but it makes a
    /// `lost+found` where there is none. One that was not made to be renewed is checked and rewritten, which takes as long as
    /// it has blocks.
    fn renew_ext4(&self, cx: &Cx<'_>) -> Result<()> {
        let cmd = Cmd::changes(TUNE2FS).args(["-U", "random"]).arg(&self.device).limit(LIMIT);
        if is_done(cx, &cmd)? {
            return Ok(());
        }
        self.where_mounted(cx, "", |_| Ok(()))?;
        if is_done(cx, &cmd)? {
            return Ok(());
        }
        self.checked(cx, || cx.run(&cmd).map(drop))
    }

    /// Does something to an unmounted ext4 that wants a check before it. A `lost+found` that the check makes goes again: who looks
    /// finds what was there before.
    pub(super) fn checked(&self, cx: &Cx<'_>, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let had_one = self.where_mounted(cx, "", |at| Ok(at.join(LOST_AND_FOUND).exists()))?;
        check_ext4(cx, &self.device)?;
        work()?;
        match had_one {
            true => Ok(()),
            false => self.where_mounted(cx, "", |at| {
                cx.act(&FsAct::RemoveEmptyDirectory { path: at.join(LOST_AND_FOUND) })
            }),
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
