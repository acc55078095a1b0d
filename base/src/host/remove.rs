//! Removing a tree: by several threads, folder by folder, and then whatever they have left.
//!
//! A filesystem takes its time for each file that goes, most of it waiting: several at once are several times as quick, even
//! where there is one disk.

use crate::{Cancel, Crew};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// More than there are processors: they wait more than they work.
const THREADS: usize = 8;

/// Removes `path` and all below it. The standard library's walk and ours open every directory relative to its parent
/// without following links, so a tree that changes underneath can't lead them elsewhere.
pub(super) fn remove_tree(path: &Path, cancel: &Cancel) -> io::Result<()> {
    cancel.checkpoint().map_err(io::Error::other)?;
    let outcome = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => must_hold_no_mount(path).and_then(|()| {
            // What it can't remove is left to the other, which tells why.
            let _ = remove_what_is_below(path);
            fs::remove_dir_all(path)
        }),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A folder to be emptied and then removed.
struct Found {
    parent: Option<Arc<Open>>,
    name: CString,
}

/// A folder that is being emptied: whoever is the last at it removes it.
struct Open {
    folder: OwnedFd,
    found: Found,
}

impl Found {
    fn folder(&self) -> BorrowedFd<'_> {
        self.parent.as_ref().map_or(CWD, |parent| parent.folder.as_fd())
    }

    fn open(self) -> io::Result<Arc<Open>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(self.folder(), &self.name, flags, Mode::empty())?;
        Ok(Arc::new(Open { folder, found: self }))
    }
}

/// Removes all below `path`, which stays.
fn remove_what_is_below(path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    Crew::run(THREADS, Found { parent: None, name }, empty)
}

fn empty(crew: &Crew<Found>, found: Found) -> io::Result<()> {
    let open = found.open()?;
    for entry in Dir::read_from(&open.folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if entry.file_type() == FileType::Directory || !remove_file(open.folder.as_fd(), name)? {
            crew.add(Found { parent: Some(Arc::clone(&open)), name: name.to_owned() });
        }
    }
    leave(open)
}

/// Removes a name that is no directory; `false` when it is one.
fn remove_file(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes a folder if nobody else is at it or below it, and then the one above for which the same is true.
fn leave(folder: Arc<Open>) -> io::Result<()> {
    let mut next = Some(folder);
    while let Some(Open { found, .. }) = next.and_then(Arc::into_inner) {
        if found.parent.is_some() {
            unlinkat(found.folder(), &found.name, AtFlags::REMOVEDIR)?;
        }
        next = found.parent;
    }
    Ok(())
}

/// Reads `/proc/self/mountinfo`: the fifth field of a line is the mount point, with odd bytes as `\ooo`.
fn must_hold_no_mount(path: &Path) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let mounts = fs::read("/proc/self/mountinfo")?;
    for line in mounts.split(|byte| *byte == b'\n') {
        let Some(point) = line.split(|byte| *byte == b' ').nth(4) else { continue };
        let point = PathBuf::from(OsString::from_vec(unescaped(point)));
        if point.starts_with(&path) {
            let message = format!("something is mounted at {}", point.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
    }
    Ok(())
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits =
            after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folders in folders: `width` in each, down to `depth`, each with a file.
    fn make(root: &Path, width: usize, depth: usize) {
        fs::create_dir(root).unwrap();
        fs::write(root.join("file"), "text").unwrap();
        for number in 0..if depth > 0 { width } else { 0 } {
            make(&root.join(format!("folder{number}")), width, depth - 1);
        }
    }

    #[test]
    fn wide_and_deep_trees_go_whole() {
        for (width, depth) in [(0, 0), (1, 1), (1, 100), (1000, 1), (3, 6)] {
            let dir = tempfile::tempdir().unwrap();
            let tree = dir.path().join("tree");
            make(&tree, width, depth);
            remove_what_is_below(&tree).unwrap();
            assert_eq!(fs::read_dir(&tree).unwrap().count(), 0, "{width} wide, {depth} deep");
            remove_tree(&tree, &Cancel::never()).unwrap();
            assert!(!tree.exists());
        }
    }

    #[test]
    fn a_link_to_a_folder_goes_and_the_folder_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        make(&tree, 2, 2);
        make(&outside, 1, 1);
        std::os::unix::fs::symlink(&outside, tree.join("folder1/link")).unwrap();
        remove_what_is_below(&tree).unwrap();
        assert!(outside.join("folder0/file").exists());
        // The root itself is not followed either.
        std::os::unix::fs::symlink(&outside, dir.path().join("link")).unwrap();
        remove_tree(&dir.path().join("link"), &Cancel::never()).unwrap();
        assert!(outside.join("folder0/file").exists());
    }
}
