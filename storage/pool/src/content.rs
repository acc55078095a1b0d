//! Copying what is in one attached volume into another, whatever the two drivers are.

use larder_storage_driver::{Attached, Cx, Result, VolumeId};
use larder_storage_tree::{CopyFile, CopyMode, CopyTree};

/// Copies the tree and the disk of `from` into `to`, which is new and empty ([`CopyMode::Fresh`]) or older
/// ([`CopyMode::Refresh`]). What is the same in the tree of `alike`, to which nobody writes, is linked from there.
pub(crate) fn copy_content(
    cx: &Cx<'_>,
    volume: &VolumeId,
    from: &Attached,
    to: &Attached,
    mode: CopyMode,
    alike: Option<&Attached>,
) -> Result<()> {
    if volume.has_filesystem() {
        cx.act(&CopyTree {
            progress: cx.progress().clone(),
            leave_out: disk_file(from),
            alike: alike.and_then(|alike| alike.directory.clone()),
            ..CopyTree::new(from.directory()?, to.directory()?, mode)
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
