//! Copying what is in one attached volume into another, whatever the two drivers are.

use larder_storage_driver::{Attached, Cx, Result, VolumeId};
use larder_storage_tree::{CopyFile, CopyMode, CopyTree};

/// Copies the tree and the disk of `from` into `to`, which is new and empty ([`CopyMode::Fresh`]) or older
/// ([`CopyMode::Refresh`]).
pub(crate) fn copy_content(
    cx: &Cx<'_>,
    volume: &VolumeId,
    from: &Attached,
    to: &Attached,
    mode: CopyMode,
) -> Result<()> {
    if volume.has_filesystem() {
        let progress = cx.progress().clone();
        cx.act(&CopyTree {
            from: from.directory()?.to_owned(),
            to: to.directory()?.to_owned(),
            mode,
            progress,
            leave_out: disk_file(from),
        })?;
    }
    if volume.has_disk() {
        cx.checkpoint()?;
        let progress = cx.progress().clone();
        cx.act(&CopyFile { from: from.disk()?.to_owned(), to: to.disk()?.to_owned(), mode, progress })?;
    }
    Ok(())
}

/// The disk's path inside the tree, where a driver keeps the disk of a virtual machine as a file beside its
/// configuration: the tree's copy leaves it to the disk's.
fn disk_file(attached: &Attached) -> Option<std::path::PathBuf> {
    let (directory, disk) = (attached.directory.as_deref()?, attached.disk.as_deref()?);
    disk.strip_prefix(directory).ok().map(std::path::Path::to_owned)
}
