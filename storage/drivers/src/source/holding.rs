//! What a device holds already, and whether it may be overwritten.

use larder_base::host::{Cmd, HostError, Tool};
use larder_storage_driver::{Cx, ErrorKind, Result, StorageError};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

const BLKID: Tool = Tool { name: "blkid", package: "util-linux" };
const WIPEFS: Tool = Tool { name: "wipefs", package: "util-linux" };
const BLKDISCARD: Tool = Tool { name: "blkdiscard", package: "util-linux" };
/// How long clearing a large device may take.
const CLEARING: Duration = Duration::from_secs(24 * 3600);
/// `blkid(8)`: nothing was found, or several things that exclude each other.
const FOUND_NOTHING: i32 = 2;
const FOUND_SEVERAL: i32 = 8;

/// A filesystem, partition table or member of something larger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    /// Its type as blkid calls it: `ext4`, `LVM2_member`, `gpt`, ….
    pub(crate) kind: String,
    /// Its identifier.
    pub(crate) uuid: Option<String>,
}

/// What came of a look at a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It holds nothing (any more) and may be formatted.
    Free,
    /// It holds what an interrupted creation of this pool made.
    Ours,
}

/// Makes sure that formatting `path` loses nothing: it holds nothing, or the thing `ours` (by its identifier), or may be
/// wiped. Fails with `Invalid` naming what is there, with `InUse` when something has it open; wiped or not.
pub(crate) fn claim(cx: &Cx<'_>, path: &Path, ours: Option<&str>, may_wipe: bool) -> Result<Claim> {
    let Some(found) = holding(cx, path)? else { return must_be_unused(path).map(|()| Claim::Free) };
    if ours.is_some() && found.uuid.as_deref() == ours {
        return Ok(Claim::Ours);
    }
    must_be_unused(path)?;
    if !may_wipe {
        let message = format!(
            "{} holds something already ({}): give another source, or source.wipe=true to lose what is there",
            path.display(),
            found.kind
        );
        return Err(StorageError::new(ErrorKind::Invalid, message));
    }
    wipe(cx, path).map(|()| Claim::Free)
}

/// Removes every signature, so that the device counts as empty.
pub(crate) fn wipe(cx: &Cx<'_>, path: &Path) -> Result<()> {
    cx.run(&Cmd::changes(WIPEFS).args(["--all", "--quiet", "--"]).arg(path)).map(|_| ())
}

/// Writes zeros from `offset` on (bytes), or lets the device do it.
pub(crate) fn clear(device: &Path, offset: u64) -> Cmd {
    let offset = offset.to_string();
    Cmd::changes(BLKDISCARD).args(["--zeroout", "--offset", &offset]).arg(device).limit(CLEARING)
}

/// Whether what is `found` is a device or a partition of it, whatever both are called.
pub(crate) fn is_on(found: &Path, device: &Path) -> bool {
    let (Ok(found), Ok(device)) = (found.canonicalize(), device.canonicalize()) else { return false };
    let as_class = |path: &Path| Path::new("/sys/class/block").join(path.file_name()?).canonicalize().ok();
    let is_partition = || Some(as_class(&found)?.parent()? == as_class(&device)?);
    found == device || is_partition().unwrap_or(false)
}

/// What a device or file holds.
fn holding(cx: &Cx<'_>, path: &Path) -> Result<Option<Holding>> {
    let cmd = Cmd::reads(BLKID).args(["--probe", "--output", "export", "--"]).arg(path);
    match cx.host().run(&cmd, cx.cancel()) {
        Ok(output) => Ok(parse(&output.stdout)),
        Err(HostError::Failed { code: Some(FOUND_NOTHING), .. }) => Ok(None),
        Err(HostError::Failed { code: Some(FOUND_SEVERAL), .. }) => {
            Ok(Some(Holding { kind: "several things".to_owned(), uuid: None }))
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads `blkid --probe --output export <device>`: lines `KEY=value`, with a backslash before odd characters.
fn parse(text: &str) -> Option<Holding> {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let kind = value("TYPE").or_else(|| value("PTTYPE"))?;
    Some(Holding { kind: kind.to_owned(), uuid: value("UUID").map(str::to_owned) })
}

/// A device that is mounted, or part of something that runs, can't be opened exclusively.
fn must_be_unused(path: &Path) -> Result<()> {
    match OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
            let message = format!("{} is in use: unmount it, or give another source", path.display());
            Err(StorageError::new(ErrorKind::InUse, message))
        }
        other => Ok(other.map(|_| ())?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_and_a_partition_table_are_told() {
        let filesystem =
            "DEVNAME=/dev/loop0\nLABEL=a\\ b\nUUID=2f1ab9c1\nUUID_SUB=77\nTYPE=btrfs\nUSAGE=filesystem\n";
        let expected = Holding { kind: "btrfs".to_owned(), uuid: Some("2f1ab9c1".to_owned()) };
        assert_eq!(parse(filesystem), Some(expected));
        let table = "DEVNAME=/dev/loop0\nPTUUID=77\nPTTYPE=gpt\n";
        assert_eq!(parse(table), Some(Holding { kind: "gpt".to_owned(), uuid: None }));
        assert_eq!(parse("DEVNAME=/dev/loop0\n"), None);
    }
}
