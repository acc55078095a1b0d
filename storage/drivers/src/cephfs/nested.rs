//! Removing a tree in which somebody made snapshots: CephFS lets that be done in any folder, and keeps a folder that has some.

use super::layout::SNAPSHOTS;
use larder_base::Cancel;
use larder_base::host::{Act, FsAct};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Links are not followed: a tree may hold anything.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes a tree with all snapshots that were made in it, which are only looked for when some folder can't go.
#[derive(Debug, Clone)]
pub(super) struct RemoveTree {
    pub(super) path: PathBuf,
}

impl Act for RemoveTree {
    fn describe(&self) -> String {
        FsAct::remove_tree(&self.path).describe()
    }

    fn apply(&self, cancel: &Cancel) -> io::Result<()> {
        let remove = FsAct::remove_tree(&self.path);
        match remove.apply(cancel) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                remove_snapshots_below(&self.path, cancel)?;
                remove.apply(cancel)
            }
            other => other,
        }
    }
}

/// Removes the snapshots of a folder and of all folders below it.
fn remove_snapshots_below(path: &Path, cancel: &Cancel) -> io::Result<()> {
    let mut next: Vec<(Option<Arc<OwnedFd>>, CString)> =
        vec![(None, CString::new(path.as_os_str().as_bytes())?)];
    while let Some((parent, name)) = next.pop() {
        cancel.checkpoint().map_err(io::Error::other)?;
        let parent = parent.as_ref().map_or(CWD, |parent| parent.as_fd());
        let folder = match openat(parent, &name, FOLDER, Mode::empty()) {
            Ok(folder) => Arc::new(folder),
            // It is none, or gone.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        remove_snapshots(folder.as_fd())?;
        for entry in names(folder.as_fd())? {
            let (name, kind) = entry?;
            if matches!(kind, FileType::Directory | FileType::Unknown) {
                next.push((Some(Arc::clone(&folder)), name));
            }
        }
    }
    Ok(())
}

/// Removes the snapshots of one folder. A name that begins with `_` is a snapshot of a folder above.
fn remove_snapshots(folder: BorrowedFd<'_>) -> io::Result<()> {
    let snapshots = match openat(folder, SNAPSHOTS, FOLDER, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    for entry in names(snapshots.as_fd())? {
        let (name, _) = entry?;
        if name.as_bytes().starts_with(b"_") {
            continue;
        }
        match unlinkat(&snapshots, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What is in a folder.
fn names(folder: BorrowedFd<'_>) -> io::Result<impl Iterator<Item = io::Result<(CString, FileType)>>> {
    let entries = Dir::read_from(folder)?.filter_map(|entry| match entry {
        Ok(entry) if [c".", c".."].contains(&entry.file_name()) => None,
        Ok(entry) => Some(Ok((entry.file_name().to_owned(), entry.file_type()))),
        Err(error) => Some(Err(error.into())),
    });
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn snapshots_of_all_folders_go_and_links_are_not_followed() {
        let (tree, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let snapshot = |folder: &Path, name: &str| {
            let path = folder.join(SNAPSHOTS).join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        let deep = tree.path().join("a/b");
        let theirs = snapshot(elsewhere.path(), "s0");
        let gone = [snapshot(tree.path(), "s0"), snapshot(&deep, "s0"), snapshot(&deep, "s1")];
        let of_above = snapshot(&deep, "_s0_1099511627776");
        fs::write(deep.join("file"), "text").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), tree.path().join("link")).unwrap();
        remove_snapshots_below(tree.path(), &Cancel::never()).unwrap();
        assert!(!gone.iter().any(|path| path.exists()));
        assert!(of_above.exists() && theirs.exists() && deep.join("file").exists());
        remove_snapshots_below(&tree.path().join("absent"), &Cancel::never()).unwrap();
    }

    #[test]
    fn a_tree_without_snapshots_is_removed_as_any() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tree");
        fs::create_dir_all(path.join("a/b")).unwrap();
        let remove = RemoveTree { path: path.clone() };
        assert_eq!(remove.describe(), FsAct::remove_tree(&path).describe());
        remove.apply(&Cancel::never()).unwrap();
        remove.apply(&Cancel::never()).unwrap();
        assert!(!path.exists());
    }
}
