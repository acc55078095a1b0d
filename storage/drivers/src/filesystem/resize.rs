//! Another size for a filesystem. A device grows before its filesystem, and shrinks after it: every prefix is valid.

use super::{BLKID, Filesystem, LIMIT, OnDevice, is_mounted};
use crate::bounded::patiently;
use larder_base::ByteSize;
use larder_base::host::{Cmd, Tool};
use larder_storage_driver::{Cx, ErrorKind, Need, Result, StorageError};
use std::io;
use std::path::Path;
use std::time::Duration;

const RESIZE2FS: Tool = Tool { name: "resize2fs", package: "e2fsprogs" };
const XFS_GROWFS: Tool = Tool { name: "xfs_growfs", package: "xfsprogs" };
const BTRFS: Tool = Tool { name: "btrfs", package: "btrfs-progs" };
/// How long the kernel may take to see that a device has another size.
const HEARING: Duration = Duration::from_secs(30);

impl OnDevice {
    /// Brings filesystem and device from `old` to `new` bytes; `set` gives the device its new size.
    pub(crate) fn resize(
        &self,
        cx: &Cx<'_>,
        old: u64,
        new: u64,
        set: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if new < old {
            let size = ByteSize::from_bytes(new);
            self.check_shrink(cx, size)?;
            self.shrink(cx, size)?;
            return set();
        }
        if new > old {
            set()?;
        }
        // Also when the device is as large already: a call that was cut off may have stopped there.
        self.grow(cx)
    }

    /// Lets the filesystem fill its device, which has grown.
    fn grow(&self, cx: &Cx<'_>) -> Result<()> {
        match self.filesystem {
            // It also grows while it is not mounted, but wants a check then, which takes as long as it has blocks and makes a
            // `lost+found` where there is none.
            Filesystem::Ext4 => self.where_mounted(cx, "", |_| {
                cx.run(&Cmd::changes(RESIZE2FS).arg(&self.device).limit(LIMIT)).map(|_| ())
            }),
            Filesystem::Xfs => self.where_mounted(cx, "", |at| {
                cx.run(&Cmd::changes(XFS_GROWFS).arg("-d").arg(at).limit(LIMIT)).map(|_| ())
            }),
            Filesystem::Btrfs => self.where_mounted(cx, "", |at| {
                let cmd = Cmd::changes(BTRFS).args(["filesystem", "resize", "max"]).arg(at);
                cx.run(&cmd.limit(LIMIT)).map(|_| ())
            }),
        }
    }

    /// Fails with kind `Unsupported` or `Invalid`, before anything changed, when the filesystem can't have `size` bytes.
    fn check_shrink(&self, cx: &Cx<'_>, size: ByteSize) -> Result<()> {
        let least = match self.filesystem {
            Filesystem::Xfs => {
                let message = format!("it can't shrink to {size}: xfs only grows");
                return Err(StorageError::unsupported(Need::Shrink, message));
            }
            Filesystem::Ext4 if is_mounted(&self.target) => {
                let message = format!("it can't shrink to {size} while it is in use: stop its users first");
                return Err(StorageError::new(ErrorKind::InUse, message));
            }
            Filesystem::Ext4 => least_ext4(cx, &self.device)?,
            Filesystem::Btrfs => self.where_mounted(cx, "", |at| {
                let cmd = Cmd::reads(BTRFS).args(["inspect-internal", "min-dev-size"]).arg(at);
                number(&cx.run(&cmd)?.stdout, "")
            })?,
        };
        if size.as_bytes() < least {
            let message =
                format!("it can't shrink to {size}: what it holds needs {}", ByteSize::from_bytes(least));
            return Err(StorageError::new(ErrorKind::Invalid, message));
        }
        Ok(())
    }

    /// Makes the filesystem `size` bytes long. What [`OnDevice::check_shrink`] refuses must not come here. It is not cancelled once
    /// it has begun: blocks that are being moved would be lost.
    fn shrink(&self, cx: &Cx<'_>, size: ByteSize) -> Result<()> {
        let cx = &cx.uncancellable();
        match self.filesystem {
            Filesystem::Ext4 => self.checked(cx, || {
                let kibibytes = format!("{}K", size.as_bytes() / 1024);
                cx.run(&Cmd::changes(RESIZE2FS).arg(&self.device).arg(kibibytes).limit(LIMIT)).map(|_| ())
            }),
            Filesystem::Btrfs => self.where_mounted(cx, "", |at| {
                let bytes = size.as_bytes().to_string();
                let cmd = Cmd::changes(BTRFS).args(["filesystem", "resize", &bytes]).arg(at);
                cx.run(&cmd.limit(LIMIT)).map(|_| ())
            }),
            Filesystem::Xfs => self.check_shrink(cx, size),
        }
    }
}

/// Waits until the kernel has heard that a device that is on other machines has another size.
pub(crate) fn await_size(device: &Path, bytes: u64) -> Result<()> {
    let name = device.file_name().unwrap_or_default();
    let size = Path::new("/sys/block").join(name).join("size");
    let read = || std::fs::read_to_string(&size).map(|sectors| sectors.trim().parse().unwrap_or(0) * 512);
    let is_smaller = |found: &io::Result<u64>| found.as_ref().is_ok_and(|found| *found < bytes);
    let found = patiently(HEARING, read, is_smaller);
    if is_smaller(&found) {
        let message = format!("{} has not got its new size within {} s", device.display(), HEARING.as_secs());
        return Err(StorageError::new(ErrorKind::Unavailable, message));
    }
    Ok(found.map(drop)?)
}

/// The bytes that an unmounted ext4 needs at least, as it estimates.
fn least_ext4(cx: &Cx<'_>, device: &Path) -> Result<u64> {
    let estimate = cx.run(&Cmd::reads(RESIZE2FS).arg("-P").arg(device))?;
    let probe = Cmd::reads(BLKID).args(["--probe", "--match-tag", "BLOCK_SIZE", "--output", "value", "--"]);
    let block = cx.run(&probe.arg(device))?;
    Ok(number(&estimate.stdout, "Estimated minimum size of the filesystem:")? * number(&block.stdout, "")?)
}

/// The number that begins what follows `label` in the output of `resize2fs -P`, `blkid -o value` and
/// `btrfs inspect-internal min-dev-size`.
fn number(text: &str, label: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(label)).unwrap_or_default();
    let strange = || StorageError::new(ErrorKind::Unexpected, format!("no number in {text:?}"));
    line.split_whitespace().next().and_then(|word| word.parse().ok()).ok_or_else(strange)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{AttachLoop, DetachLoop, device_of};
    use larder_base::host::{Act, ScriptedHost, SystemHost};
    use larder_base::{Cancel, Progress, Ticket};
    use larder_storage_driver::Config;

    #[test]
    fn a_shrink_that_has_begun_is_not_cancelled() {
        let host =
            ScriptedHost::new().answers("e2fsck -f -p /dev/x", "").answers("resize2fs /dev/x 1024K", "");
        let cancel = Cancel::new();
        cancel.cancel();
        let ticket = Ticket::new("none", uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let cx = Cx::new(&host, Progress::silent(), cancel, ticket);
        let (device, target) = ("/dev/x".into(), "/nowhere".into());
        let on_device = OnDevice { filesystem: Filesystem::Ext4, device, target };
        on_device.shrink(&cx, ByteSize::from_mebibytes(1)).unwrap();
        let steps = host.transcript();
        let of_device = |step: &&String| step.contains("/dev/x") && !step.starts_with("mount");
        let commands: Vec<_> = steps.iter().filter(of_device).collect();
        assert_eq!(commands, ["e2fsck -f -p /dev/x", "resize2fs /dev/x 1024K"], "{steps:?}");
        assert!(steps.contains(&"remove empty directory /nowhere/lost+found".to_owned()), "{steps:?}");
    }

    /// The names in the root of an ext4 on `device` after a shrink, where `make` has had its way with the root before.
    fn after_a_shrink(
        folder: &Path,
        device: &Path,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Vec<String> {
        let ticket = Ticket::new("none", uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let cx = Cx::new(&SystemHost, Progress::silent(), Cancel::never(), ticket);
        let target = folder.join("at");
        Filesystem::Ext4.make(&cx, device.into(), target.clone(), &Config::new(), false).unwrap();
        let on_device = OnDevice { filesystem: Filesystem::Ext4, device: device.into(), target };
        on_device.where_mounted(&cx, "", |at| Ok(make(at)?)).unwrap();
        on_device.resize(&cx, 64 << 20, 40 << 20, || Ok(())).unwrap();
        let names = |at: &Path| -> io::Result<Vec<String>> {
            std::fs::read_dir(at)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect()
        };
        on_device.where_mounted(&cx, "", |at| Ok(names(at)?)).unwrap()
    }

    #[test]
    fn a_shrink_leaves_in_the_root_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        std::fs::File::create(&file).and_then(|file| file.set_len(64 << 20)).unwrap();
        let attach = AttachLoop { file: file.clone() };
        if SystemHost::find("mkfs.ext4").is_none() || attach.apply(&Cancel::never()).is_err() {
            println!(
                "skipped: a_shrink_leaves_in_the_root_what_was_there: needs root, loop devices and mkfs.ext4"
            );
            return;
        }
        let device = device_of(&file).unwrap().unwrap();
        let without = after_a_shrink(folder.path(), &device, |at| std::fs::write(at.join("file"), "text"));
        let with = after_a_shrink(folder.path(), &device, |at| std::fs::create_dir(at.join("lost+found")));
        DetachLoop { file }.apply(&Cancel::never()).unwrap();
        assert_eq!((without, with), (vec!["file".to_owned()], vec!["lost+found".to_owned()]));
    }

    #[test]
    fn sizes_are_read_from_what_the_tools_print() {
        let estimate = "resize2fs 1.47.2 (1-Jan-2025)\nEstimated minimum size of the filesystem: 13695\n";
        assert_eq!(number(estimate, "Estimated minimum size of the filesystem:").unwrap(), 13695);
        assert_eq!(number("105906176 bytes (101.00MiB)\n", "").unwrap(), 105_906_176);
        assert_eq!(number("1024\n", "").unwrap(), 1024);
        assert!(number("Please run 'e2fsck -f' first.\n", "").is_err());
    }
}
