//! Finding what a path inside means.

use super::{FileRoot, FilesError, refused};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// The kernel asks for a repetition when a folder on the way is moved at that moment.
const REPETITIONS: u32 = 64;

impl FileRoot {
    /// Holds what is at a path without opening it; the last part is followed when it is a link, if so asked.
    pub(super) fn find(&self, path: &str, follow: bool) -> Result<OwnedFd, FilesError> {
        let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        self.resolve(below(path)?, flags).map_err(|error| refused("find", path, error.into()))
    }

    /// The folder that a path's last part is in, and that part.
    pub(super) fn parent<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a str), FilesError> {
        let inside = below(path)?.trim_end_matches('/');
        let (folder, name) = inside.rsplit_once('/').unwrap_or(("", inside));
        if name.is_empty() || name == "." || name == ".." {
            return Err(FilesError::InvalidPath(path.to_owned()));
        }
        let folder = if folder.is_empty() { "." } else { folder };
        let folder = self
            .resolve(folder, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|error| refused("find the folder of", path, error.into()))?;
        Ok((folder, name))
    }

    fn resolve(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..REPETITIONS {
            match openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }
}

/// The path without what stands for the root; `.` for the root itself.
fn below(path: &str) -> Result<&str, FilesError> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(FilesError::InvalidPath(path.to_owned()));
    }
    let inside = path.trim_start_matches('/');
    Ok(if inside.is_empty() { "." } else { inside })
}

/// Opens what a descriptor holds. Only for regular files and folders: anything else may act when it is
/// opened.
pub(super) fn reopened(found: &impl AsRawFd, flags: OFlags) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = flags | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}
