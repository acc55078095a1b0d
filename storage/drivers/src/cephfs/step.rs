//! What is done in the filesystem, each with a deadline: a cluster that does not answer holds a system call for ever.

use super::nested::RemoveTree;
use crate::bounded::{Bounded, within};
use larder_base::Cancel;
use larder_base::host::Act;
use larder_storage_driver::{Cx, Result};
use larder_storage_tree::CopyTree;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the metadata server answers from memory.
const QUICK: Duration = Duration::from_secs(60);
/// What was written and is still on its way.
const WRITING: Duration = Duration::from_secs(600);
/// What walks through a tree.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// One change.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A directory gets another name; fails when that is taken. CephFS has no rename that refuses by itself: the pool's lock
    /// keeps others away.
    Rename { from: PathBuf, to: PathBuf },
    /// A directory's state now gets a name.
    Snapshot { path: PathBuf },
    /// A snapshot goes; fine when absent.
    RemoveSnapshot { path: PathBuf },
}

impl Act for Step {
    fn describe(&self) -> String {
        match self {
            Self::Rename { from, to } => format!("rename {} to {}", from.display(), to.display()),
            Self::Snapshot { path } => format!("make the snapshot {}", path.display()),
            Self::RemoveSnapshot { path } => format!("remove the snapshot {}", path.display()),
        }
    }

    fn apply(&self, _: &Cancel) -> io::Result<()> {
        match self {
            Self::Rename { to, .. } if fs::symlink_metadata(to).is_ok() => {
                Err(io::ErrorKind::AlreadyExists.into())
            }
            Self::Rename { from, to } => fs::rename(from, to),
            Self::Snapshot { path } => fs::create_dir(path),
            Self::RemoveSnapshot { path } => match fs::remove_dir(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            },
        }
    }
}

/// Does a change that the metadata server answers from memory.
pub(super) fn act(cx: &Cx<'_>, act: impl Act + Clone + 'static) -> Result<()> {
    cx.act(&Bounded { act, limit: QUICK })
}

/// Removes a tree, with the snapshots in it.
pub(super) fn remove_tree(cx: &Cx<'_>, path: &Path) -> Result<()> {
    cx.act(&Bounded { act: RemoveTree { path: path.to_owned() }, limit: LONG })
}

/// Makes a tree like another.
pub(super) fn copy_tree(cx: &Cx<'_>, act: CopyTree) -> Result<()> {
    cx.act(&Bounded { act, limit: LONG })
}

/// Whether something is there.
pub(super) fn is_there(path: &Path) -> Result<bool> {
    let path = path.to_owned();
    Ok(within(QUICK, move || match fs::symlink_metadata(&path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    })?)
}

/// Waits until all is at the cluster that was written to the filesystem of a folder.
pub(super) fn write_back(folder: &Path) -> Result<()> {
    let folder = folder.to_owned();
    Ok(within(WRITING, move || Ok(rustix::fs::syncfs(fs::File::open(&folder)?)?))?)
}

/// The names in a folder; none when it is absent.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.to_owned();
    Ok(within(QUICK, move || {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    })?)
}

/// A whole small file; `None` when it is absent.
pub(super) fn text(path: &Path) -> Result<Option<String>> {
    let path = path.to_owned();
    Ok(within(QUICK, move || match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    })?)
}

/// A number that CephFS tells as an extended attribute; `None` when it has none.
pub(super) fn number(path: &Path, attribute: &'static str) -> Result<Option<u64>> {
    let path = path.to_owned();
    Ok(within(QUICK, move || {
        let mut bytes = [0; 32];
        match rustix::fs::lgetxattr(&path, attribute, &mut bytes) {
            Ok(length) => Ok(std::str::from_utf8(&bytes[..length]).ok().and_then(|text| text.parse().ok())),
            Err(rustix::io::Errno::NODATA) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })?)
}

/// What `statvfs` says.
pub(super) fn space(path: &Path) -> Result<rustix::fs::StatVfs> {
    let path = path.to_owned();
    Ok(within(QUICK, move || Ok(rustix::fs::statvfs(&path)?))?)
}

/// Whether something is mounted at a folder.
pub(super) fn is_mounted(path: &Path) -> Result<bool> {
    let path = path.to_owned();
    Ok(within(QUICK, move || Ok(crate::filesystem::is_mounted(&path)))?)
}
