//! Files that stay open, and changes to what is there.

use super::resolve::reopened;
use super::write::PERMISSIONS;
use super::{Entry, EntryKind, FileRoot, FilesError, NewFile, failed, other_kind, refused};
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, chownat, renameat_with,
    utimensat,
};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::SystemTime;

/// What a file is opened for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenHow {
    /// To read it.
    pub read: bool,
    /// To write it.
    pub write: bool,
    /// What is written goes to its end.
    pub append: bool,
    /// It is made if it is not there.
    pub create: bool,
    /// It must not be there yet; only with `create`.
    pub exclusive: bool,
    /// What it has goes; only with `write`.
    pub truncate: bool,
}

impl OpenHow {
    fn access(self) -> OFlags {
        let access = match (self.read, self.write || self.append) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            (_, false) => OFlags::RDONLY,
        };
        if self.append { access | OFlags::APPEND } else { access }
    }
}

/// A change of a file or folder; what is absent stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// Its user id inside.
    pub user: Option<u32>,
    /// Its group id inside.
    pub group: Option<u32>,
    /// Its permissions.
    pub mode: Option<u32>,
    /// Its length, for a regular file.
    pub length: Option<u64>,
    /// When it was last read, and last changed.
    pub times: Option<(SystemTime, SystemTime)>,
}

impl FileRoot {
    /// Opens a regular file, to be kept. One that is there keeps its owner and permissions; a new one gets those
    /// of `new`. A link is followed, inside the root.
    pub fn open_file(&self, path: &str, how: OpenHow, new: NewFile) -> Result<File, FilesError> {
        if how.create && how.exclusive {
            return self.make_file(path, new, how.access(), &mut |_| Ok(()));
        }
        let found = match self.find(path, true) {
            Err(FilesError::NotFound(_)) if how.create => {
                return self.make_file(path, new, how.access(), &mut |_| Ok(()));
            }
            other => other?,
        };
        let kind = self.describe(&found, path)?.kind;
        if kind != EntryKind::File {
            return Err(other_kind(path, &kind, "file"));
        }
        let truncate = if how.truncate && how.write { OFlags::TRUNC } else { OFlags::empty() };
        reopened(&found, how.access() | truncate).map_err(failed("open", path))
    }

    /// What an open file is.
    pub fn entry_of_open(&self, file: &File, path: &str) -> Result<Entry, FilesError> {
        self.describe(file, path)
    }

    /// Changes what a path leads to. A link is followed, inside the root.
    pub fn change(&self, path: &str, change: Change) -> Result<(), FilesError> {
        self.change_held(&self.find(path, true)?, path, change)
    }

    /// Changes an open file.
    pub fn change_open(&self, file: &File, path: &str, change: Change) -> Result<(), FilesError> {
        self.change_held(file, path, change)
    }

    /// Renames a file, link or folder; what has the new name already is lost only if `replace`.
    pub fn rename(&self, from: &str, to: &str, replace: bool) -> Result<(), FilesError> {
        let (old_parent, old_name) = self.parent(from)?;
        let (new_parent, new_name) = self.parent(to)?;
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        renameat_with(&old_parent, old_name, &new_parent, new_name, flags).map_err(|error| {
            let named = if error == rustix::io::Errno::EXIST { to } else { from };
            refused("rename", named, error.into())
        })
    }

    fn change_held(
        &self,
        held: &(impl AsFd + AsRawFd),
        path: &str,
        change: Change,
    ) -> Result<(), FilesError> {
        let now = self.describe(held, path)?;
        if let Some(length) = change.length {
            if now.kind != EntryKind::File {
                return Err(other_kind(path, &now.kind, "file"));
            }
            let file = reopened(held, OFlags::WRONLY).and_then(|file| file.set_len(length));
            file.map_err(failed("change the length of", path))?;
        }
        let (user, group) = (change.user.unwrap_or(now.user), change.group.unwrap_or(now.group));
        let (user, group) = self.host_ids(path, user, group)?;
        let user = change.user.map(|_| Uid::from_raw(user));
        let group = change.group.map(|_| Gid::from_raw(group));
        let has_owner = user.is_some() || group.is_some();
        if has_owner {
            chownat(held, "", user, group, AtFlags::EMPTY_PATH)
                .map_err(|error| failed("change the owner of", path)(error.into()))?;
        }
        let link = format!("/proc/self/fd/{}", held.as_raw_fd());
        if has_owner || change.mode.is_some() {
            // Also after the owner alone: changing that takes setuid bits away.
            let mode = Mode::from_raw_mode(change.mode.unwrap_or(now.mode) & PERMISSIONS);
            rustix::fs::chmod(&link, mode)
                .map_err(|error| failed("change the permissions of", path)(error.into()))?;
        }
        if let Some((accessed, modified)) = change.times {
            let times = Timestamps { last_access: stamp(accessed), last_modification: stamp(modified) };
            utimensat(CWD, &link, &times, AtFlags::empty())
                .map_err(|error| failed("change the times of", path)(io::Error::from(error)))?;
        }
        Ok(())
    }
}

/// Times before 1970 become its beginning.
fn stamp(time: SystemTime) -> Timespec {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timespec {
        tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: since.subsec_nanos().into(),
    }
}
