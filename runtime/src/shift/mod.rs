//! Gives a tree other owners, where its filesystem can't be mounted with mapped ids.
//!
//! Owners, the ids in access lists and the roots of file capabilities change; modes, setuid bits among them,
//! stay. Nothing is followed and no other filesystem is entered. A failure leaves a tree with some of both,
//! which can't be told apart afterwards: shift what is being built, and throw it away when that fails. A tree
//! that was shifted says so in an attribute of its root, so that doing it again does nothing.

mod ids;

use crate::idmap::IdMap;
use larder_base::{Cancel, Cancelled};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The attribute of a tree's root that says which map it was shifted by.
pub const MARKER: &str = "trusted.larder.shifted";

const ACLS: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];
const CAPABILITY: &str = "security.capability";
/// No access list or capability is longer.
const LONGEST: usize = 64 << 10;

/// A tree could not be shifted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShiftError {
    /// An owner has no counterpart.
    #[error("{}: its owner {user}:{group} is outside the map of ids", path.display())]
    Unmapped {
        /// The file.
        path: PathBuf,
        /// Its user id.
        user: u32,
        /// Its group id.
        group: u32,
    },
    /// The tree was shifted by another map.
    #[error("{} was shifted by another map of ids: shift it back by that one first", path.display())]
    OtherMap {
        /// The tree.
        path: PathBuf,
    },
    /// The system said no.
    #[error("change the owner of {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The work was asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Which way ids change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From a container's own ids to the host's.
    ToHost,
    /// Back.
    ToContainer,
}

/// What a shift did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shifted {
    /// It was so already.
    Already,
    /// So many files and folders have other owners now.
    Changed(u64),
}

/// Gives everything in the tree `root`, itself included, its counterpart's owner.
pub fn shift_tree(
    root: &Path,
    map: &IdMap,
    direction: Direction,
    cancel: &Cancel,
) -> Result<Shifted, ShiftError> {
    let failed = |source: Errno| ShiftError::Io { path: root.to_owned(), source: source.into() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(root, flags, Mode::empty()).map_err(failed)?;
    let wanted = format!("{map:?}").into_bytes();
    let marker = attribute(root, MARKER).map_err(failed)?;
    match (&marker, direction) {
        (Some(found), _) if *found != wanted => return Err(ShiftError::OtherMap { path: root.to_owned() }),
        (Some(_), Direction::ToHost) | (None, Direction::ToContainer) => return Ok(Shifted::Already),
        _ => {}
    }
    let status = rustix::fs::fstat(&folder).map_err(failed)?;
    let mut walk = Walk { map, direction, cancel, device: status.st_dev, linked: HashSet::new(), changed: 0 };
    walk.folder(&folder, root)?;
    walk.entry(&folder, c".", &status, root)?;
    match direction {
        Direction::ToHost => rustix::fs::lsetxattr(root, MARKER, &wanted, XattrFlags::empty()),
        Direction::ToContainer => rustix::fs::lremovexattr(root, MARKER),
    }
    .map_err(failed)?;
    Ok(Shifted::Changed(walk.changed))
}

struct Walk<'a> {
    map: &'a IdMap,
    direction: Direction,
    cancel: &'a Cancel,
    device: u64,
    /// Files with several names that are done.
    linked: HashSet<u64>,
    changed: u64,
}

impl Walk<'_> {
    /// Everything in a folder, but not itself.
    fn folder(&mut self, folder: &OwnedFd, path: &Path) -> Result<(), ShiftError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source: Errno| ShiftError::Io { path, source: source.into() }
        };
        self.cancel.checkpoint()?;
        // Read first: changing owners while reading may show an entry twice on some filesystems.
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(folder).map_err(failed(path))? {
            let name = entry.map_err(failed(path))?.file_name().to_owned();
            if name.as_c_str() != c"." && name.as_c_str() != c".." {
                names.push(name);
            }
        }
        for name in names {
            let below = path.join(OsStr::from_bytes(name.to_bytes()));
            let status =
                rustix::fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed(&below))?;
            if status.st_dev != self.device {
                continue;
            }
            if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner =
                    rustix::fs::openat(folder, &name, flags, Mode::empty()).map_err(failed(&below))?;
                self.folder(&inner, &below)?;
            } else if status.st_nlink > 1 && !self.linked.insert(status.st_ino) {
                continue;
            }
            self.entry(folder, &name, &status, &below)?;
        }
        Ok(())
    }

    fn entry(&mut self, folder: &OwnedFd, name: &CStr, status: &Stat, path: &Path) -> Result<(), ShiftError> {
        let unmapped =
            || ShiftError::Unmapped { path: path.to_owned(), user: status.st_uid, group: status.st_gid };
        let user = self.user(status.st_uid).ok_or_else(unmapped)?;
        let group = self.group(status.st_gid).ok_or_else(unmapped)?;
        self.change(folder, name, status, user, group)
            .map_err(|source| ShiftError::Io { path: path.to_owned(), source })?;
        self.changed += 1;
        Ok(())
    }

    fn change(&self, folder: &OwnedFd, name: &CStr, status: &Stat, user: u32, group: u32) -> io::Result<()> {
        // The folder by its descriptor, the name not followed: a name alone can't lead elsewhere.
        let path = beside(folder, name);
        let kind = FileType::from_raw_mode(status.st_mode);
        let capability = match kind {
            FileType::RegularFile => attribute(&path, CAPABILITY)?,
            _ => None,
        };
        let (uid, gid) = (rustix::fs::Uid::from_raw(user), rustix::fs::Gid::from_raw(group));
        rustix::fs::chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if kind == FileType::Symlink {
            return Ok(());
        }
        for acl in ACLS {
            if let Some(value) = attribute(&path, acl)? {
                let value = ids::acl(&value, &|id| self.user(id), &|id| self.group(id))?;
                rustix::fs::lsetxattr(&path, acl, &value, XattrFlags::empty())?;
            }
        }
        // Changing the owner took setuid bits and capabilities away.
        if status.st_mode & 0o6000 != 0 && kind == FileType::RegularFile {
            set_mode(folder, name, status.st_mode)?;
        }
        if let Some(value) = capability {
            let value = ids::capability(&value, &|id| self.user(id))?;
            rustix::fs::lsetxattr(&path, CAPABILITY, &value, XattrFlags::empty())?;
        }
        Ok(())
    }

    fn user(&self, id: u32) -> Option<u32> {
        match self.direction {
            Direction::ToHost => self.map.host_user(id),
            Direction::ToContainer => self.map.container_user(id),
        }
    }

    fn group(&self, id: u32) -> Option<u32> {
        match self.direction {
            Direction::ToHost => self.map.host_group(id),
            Direction::ToContainer => self.map.container_group(id),
        }
    }
}

/// Sets the mode of what is no link, even when it became one meanwhile.
fn set_mode(folder: &OwnedFd, name: &CStr, mode: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) == FileType::Symlink {
        return Err(io::Error::other("it became a link meanwhile"));
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::chmod(path, Mode::from_raw_mode(mode & 0o7777))?)
}

fn beside(folder: &OwnedFd, name: &CStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(OsStr::from_bytes(name.to_bytes()))
}

/// An attribute's value; none when it is not there or the filesystem has no such attributes.
fn attribute(path: &Path, name: &str) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = vec![0u8; LONGEST];
    match rustix::fs::lgetxattr(path, name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
