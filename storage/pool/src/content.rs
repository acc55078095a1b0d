//! Copying what is in one attached volume into another, whatever the two drivers are.

use larder_storage_driver::{Attached, Cx, Result, VolumeId};
use larder_storage_tree::{CopyFile, CopyMode, CopyTree};

/// What of a copy may be a second name of a file that is there, instead of a file of its own.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sharing<'a> {
    /// A tree like the source, to which nobody writes: what is the same in it is shared.
    pub(crate) alike: Option<&'a Attached>,
    /// Source and target are trees of one pool and in one filesystem: what never changes is shared.
    pub(crate) is_together: bool,
}

/// Copies the tree and the disk of `from` into `to`, which is new and empty ([`CopyMode::Fresh`]) or older
/// ([`CopyMode::Refresh`]).
pub(crate) fn copy_content(
    cx: &Cx<'_>,
    volume: &VolumeId,
    from: &Attached,
    to: &Attached,
    mode: CopyMode,
    sharing: Sharing<'_>,
) -> Result<()> {
    if volume.has_filesystem() {
        cx.act(&CopyTree {
            progress: cx.progress().clone(),
            leave_out: disk_file(from),
            alike: sharing.alike.and_then(|alike| alike.directory.clone()),
            unchanging: volume.unchanging_folder().filter(|_| sharing.is_together).map(Into::into),
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
