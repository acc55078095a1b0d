//! Files inside a container's root directory, whether it runs or not.
//!
//! The content belongs to whoever is root inside, so no path may be trusted: every one is resolved by the
//! kernel as if the root directory were `/` (`openat2` with `RESOLVE_IN_ROOT`), what was found is held by a
//! descriptor, and only regular files are opened. Owners are those that the container sees.

mod folder;
mod held;
mod resolve;
mod write;

pub use folder::Folder;
pub use held::{Change, OpenHow};
pub use write::{NewFile, WriteMode};

use crate::idmap::IdMap;
use resolve::reopened;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Something about a file in a container went wrong. Paths are those inside.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// There is no such file, or no such folder on the way.
    #[error("no such file or folder: {0}")]
    NotFound(String),
    /// The name is taken.
    #[error("{0} is there already")]
    Exists(String),
    /// It is something else than was asked for.
    #[error("{path} is a {found}, not a {wanted}")]
    OtherKind {
        /// The file.
        path: String,
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// The folder has something in it.
    #[error("the folder {0} is not empty: remove it with all that is in it by force")]
    NotEmpty(String),
    /// The path can't be meant.
    #[error("the path {0:?} can't be used: give the absolute path of something inside the root")]
    InvalidPath(String),
    /// The owner has no counterpart on the host.
    #[error("{path}: the owner {user}:{group} is outside the container's map of ids")]
    Unmapped {
        /// The file.
        path: String,
        /// The user id.
        user: u32,
        /// The group id.
        group: u32,
    },
    /// The system said no.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A link with its target.
    Symlink(String),
    /// A device, a pipe or a socket: these can be seen and removed, no more.
    Other,
}

impl EntryKind {
    fn name(&self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink(_) => "symlink",
            Self::Other => "special file",
        }
    }
}

/// A file as the container sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// Its user id inside; 65534 where it has none.
    pub user: u32,
    /// Its group id inside; 65534 where it has none.
    pub group: u32,
    /// Its permissions, at most 07777.
    pub mode: u32,
    /// When it was changed.
    pub modified: SystemTime,
    /// Its length in bytes.
    pub size: u64,
}

/// Nobody, for owners outside the map.
const NOBODY: u32 = 65_534;

/// A container's root directory.
#[derive(Debug)]
pub struct FileRoot {
    root: OwnedFd,
    ids: Option<IdMap>,
}

impl FileRoot {
    /// The root directory at `path` on the host. Without `ids` it holds the container's own ids; with them,
    /// host ids.
    pub fn open(path: &Path, ids: Option<IdMap>) -> Result<Self, FilesError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| FilesError::Io {
            action: "open the root directory",
            path: path.display().to_string(),
            source: error.into(),
        })?;
        Ok(Self { root, ids })
    }

    /// What is at a path; a link is not followed.
    pub fn entry(&self, path: &str) -> Result<Entry, FilesError> {
        let file = self.find(path, false)?;
        self.describe(&file, path)
    }

    /// What a path leads to; a link is followed, inside the root.
    pub fn target(&self, path: &str) -> Result<Entry, FilesError> {
        let file = self.find(path, true)?;
        self.describe(&file, path)
    }

    /// A regular file's content. A link is not followed.
    pub fn read(&self, path: &str) -> Result<(Entry, File), FilesError> {
        let found = self.find(path, false)?;
        let entry = self.describe(&found, path)?;
        if entry.kind != EntryKind::File {
            return Err(other_kind(path, &entry.kind, "file"));
        }
        let file = reopened(&found, OFlags::RDONLY).map_err(failed("open", path))?;
        Ok((entry, file))
    }

    /// The names in a folder, sorted.
    pub fn list(&self, path: &str) -> Result<Vec<String>, FilesError> {
        let found = self.find(path, false)?;
        let entry = self.describe(&found, path)?;
        if entry.kind != EntryKind::Directory {
            return Err(other_kind(path, &entry.kind, "directory"));
        }
        let folder = reopened(&found, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", path))?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(folder).map_err(|error| failed("read", path)(error.into()))? {
            let entry = entry.map_err(|error| failed("read", path)(error.into()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Removes a file, a link or an empty folder; with `recursive` a folder with all that is in it.
    pub fn remove(&self, path: &str, recursive: bool) -> Result<(), FilesError> {
        let (parent, name) = self.parent(path)?;
        let status = self.status_in(&parent, name, path)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
            return rustix::fs::unlinkat(&parent, name, AtFlags::empty())
                .map_err(|error| refused("remove", path, error.into()));
        }
        if recursive {
            // The parent by its descriptor; the standard library follows no link below.
            let below = format!("/proc/self/fd/{}/{name}", parent.as_raw_fd());
            return std::fs::remove_dir_all(below).map_err(failed("remove", path));
        }
        rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)
            .map_err(|error| refused("remove", path, error.into()))
    }

    fn describe(&self, file: &impl AsFd, path: &str) -> Result<Entry, FilesError> {
        let status = rustix::fs::fstat(file).map_err(|error| failed("look at", path)(error.into()))?;
        let kind = match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(file, "", Vec::new())
                    .map_err(|error| failed("read the link", path)(error.into()))?;
                EntryKind::Symlink(target.to_string_lossy().into_owned())
            }
            _ => EntryKind::Other,
        };
        Ok(self.entry_of(&status, kind))
    }

    fn entry_of(&self, status: &Stat, kind: EntryKind) -> Entry {
        let (user, group) = match &self.ids {
            None => (Some(status.st_uid), Some(status.st_gid)),
            Some(map) => (map.container_user(status.st_uid), map.container_group(status.st_gid)),
        };
        Entry {
            kind,
            user: user.unwrap_or(NOBODY),
            group: group.unwrap_or(NOBODY),
            mode: status.st_mode & 0o7777,
            modified: time(status.st_mtime, status.st_mtime_nsec),
            size: u64::try_from(status.st_size).unwrap_or(0),
        }
    }

    fn status_in(&self, parent: &OwnedFd, name: &str, path: &str) -> Result<Stat, FilesError> {
        rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| refused("look at", path, error.into()))
    }

    /// The host's ids for a new file.
    fn host_ids(&self, path: &str, user: u32, group: u32) -> Result<(u32, u32), FilesError> {
        let Some(map) = &self.ids else { return Ok((user, group)) };
        match (map.host_user(user), map.host_group(group)) {
            (Some(user), Some(group)) => Ok((user, group)),
            _ => Err(FilesError::Unmapped { path: path.to_owned(), user, group }),
        }
    }
}

fn time(seconds: i64, nanoseconds: impl TryInto<u32>) -> SystemTime {
    let nanoseconds = Duration::from_nanos(u64::from(nanoseconds.try_into().unwrap_or(0)));
    match u64::try_from(seconds) {
        Ok(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + nanoseconds,
        Err(_) => SystemTime::UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()) + nanoseconds,
    }
}

fn other_kind(path: &str, found: &EntryKind, wanted: &'static str) -> FilesError {
    FilesError::OtherKind { path: path.to_owned(), found: found.name(), wanted }
}

fn failed(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> FilesError {
    let path = path.to_owned();
    move |source| FilesError::Io { action, path, source }
}

/// The error with a name of its own, where there is one.
fn refused(action: &'static str, path: &str, source: io::Error) -> FilesError {
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FilesError::NotFound(path.to_owned()),
        io::ErrorKind::AlreadyExists => FilesError::Exists(path.to_owned()),
        io::ErrorKind::DirectoryNotEmpty => FilesError::NotEmpty(path.to_owned()),
        _ => failed(action, path)(source),
    }
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod held_tests;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
