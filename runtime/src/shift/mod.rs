//! Gives a tree other owners, where its filesystem can't be mounted with mapped ids.
//!
//! Owners, the ids in access lists and the roots of file capabilities change; modes, setuid bits among them,
//! stay. Nothing is followed and no other filesystem is entered.
//!
//! It may end anywhere and be done again, in either direction: a map is only used when no id is one of the
//! container's and one of the host's too, so every id tells which it is. Changing an owner takes setuid bits and
//! capabilities away, so these are kept in an attribute of their file meanwhile. An attribute of the tree's root
//! says by which map it is shifted, before the first change until after the last back; copies of the tree have it
//! too.

mod ids;

use crate::idmap::IdMap;
use larder_base::{Cancel, Cancelled};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The attribute of a tree's root that says by which map it is shifted, wholly or in part. Nobody in a container can set it.
pub const MARKER: &str = "trusted.larder.shifted";
/// The attribute of a file whose owner is being changed: its mode and capability.
const PENDING: &str = "trusted.larder.pending";

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
    /// Some id of the map is one inside and one outside.
    #[error("the map of ids can't be used for changing owners: its ids inside and outside overlap")]
    Overlap,
    /// The filesystem can't keep what says how far it is.
    #[error("{}: its filesystem can neither be mounted with mapped ids nor keep trusted.* attributes", path.display())]
    NoAttributes {
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
enum Direction {
    ToHost,
    ToContainer,
}

/// What a tree's root says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    map: IdMap,
    /// Whether all of it is shifted.
    done: bool,
}

/// By which map a tree is shifted, wholly or in part; none when it holds the container's own ids.
pub fn map_of(root: &Path) -> Result<Option<IdMap>, ShiftError> {
    Ok(mark_of(root)?.map(|mark| mark.map))
}

/// Whether a tree is shifted by this map, wholly, or by none.
pub fn is_shifted_by(root: &Path, map: Option<&IdMap>) -> Result<bool, ShiftError> {
    let mark = mark_of(root)?;
    Ok(mark.as_ref().is_none_or(|mark| mark.done) && mark.as_ref().map(|mark| &mark.map) == map)
}

/// Gives everything in the tree `root`, itself included, the owners that it has by `map`; without one, those that
/// the container itself knows. Returns how many files and folders were looked at; 0 when it was so already.
pub fn shift_tree(root: &Path, map: Option<&IdMap>, cancel: &Cancel) -> Result<u64, ShiftError> {
    if is_shifted_by(root, map)? {
        return Ok(0);
    }
    let before = mark_of(root)?.map(|mark| mark.map).filter(|before| Some(before) != map);
    let mut count = 0;
    if let Some(before) = before {
        count += walk(root, &before, Direction::ToContainer, cancel)?;
        rustix::fs::lremovexattr(root, MARKER).map_err(failed(root))?;
    }
    if let Some(map) = map {
        count += walk(root, map, Direction::ToHost, cancel)?;
        set_mark(root, &Mark { map: map.clone(), done: true })?;
    }
    Ok(count)
}

fn walk(root: &Path, map: &IdMap, direction: Direction, cancel: &Cancel) -> Result<u64, ShiftError> {
    if !map.is_apart() {
        return Err(ShiftError::Overlap);
    }
    set_mark(root, &Mark { map: map.clone(), done: false })?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(root, flags, Mode::empty()).map_err(failed(root))?;
    let status = rustix::fs::fstat(&folder).map_err(failed(root))?;
    let mut walk =
        Walk { map, direction, cancel, device: status.st_dev, linked: HashSet::new(), looked_at: 0 };
    walk.folder(&folder, root)?;
    walk.entry(&folder, c".", &status, root)?;
    Ok(walk.looked_at)
}

fn mark_of(root: &Path) -> Result<Option<Mark>, ShiftError> {
    let Some(text) = attribute(root, MARKER).map_err(failed(root))? else { return Ok(None) };
    let mark = serde_json::from_slice(&text).map_err(io::Error::other);
    mark.map(Some).map_err(|source| ShiftError::Io { path: root.to_owned(), source })
}

fn set_mark(root: &Path, mark: &Mark) -> Result<(), ShiftError> {
    let text = serde_json::to_vec(mark).map_err(io::Error::other);
    let text = text.map_err(|source| ShiftError::Io { path: root.to_owned(), source })?;
    rustix::fs::lsetxattr(root, MARKER, &text, XattrFlags::empty()).map_err(|error| match error {
        Errno::NOTSUP => ShiftError::NoAttributes { path: root.to_owned() },
        error => failed(root)(error),
    })
}

fn failed(path: &Path) -> impl FnOnce(Errno) -> ShiftError {
    let path = path.to_owned();
    move |source| ShiftError::Io { path, source: source.into() }
}

struct Walk<'a> {
    map: &'a IdMap,
    direction: Direction,
    cancel: &'a Cancel,
    device: u64,
    /// Files with several names that are done.
    linked: HashSet<u64>,
    looked_at: u64,
}

impl Walk<'_> {
    /// Everything in a folder, but not itself.
    fn folder(&mut self, folder: &OwnedFd, path: &Path) -> Result<(), ShiftError> {
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
        self.looked_at += 1;
        Ok(())
    }

    fn change(&self, folder: &OwnedFd, name: &CStr, status: &Stat, user: u32, group: u32) -> io::Result<()> {
        // The folder by its descriptor, the name not followed: a name alone can't lead elsewhere.
        let path = beside(folder, name);
        let kind = FileType::from_raw_mode(status.st_mode);
        let kept = if kind == FileType::RegularFile { Kept::of(&path, status.st_mode)? } else { None };
        let moves = (user, group) != (status.st_uid, status.st_gid);
        if moves {
            if let Some(kept) = &kept {
                rustix::fs::lsetxattr(&path, PENDING, &kept.to_bytes(), XattrFlags::empty())?;
            }
            let (uid, gid) = (rustix::fs::Uid::from_raw(user), rustix::fs::Gid::from_raw(group));
            rustix::fs::chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if kind == FileType::Symlink {
            return Ok(());
        }
        for acl in ACLS {
            let Some(value) = attribute(&path, acl)? else { continue };
            let changed = ids::acl(&value, &|id| self.user(id), &|id| self.group(id))?;
            if changed != value {
                rustix::fs::lsetxattr(&path, acl, &changed, XattrFlags::empty())?;
            }
        }
        let Some(kept) = kept.filter(|kept| moves || kept.is_pending) else { return Ok(()) };
        set_mode(folder, name, kept.mode)?;
        if let Some(value) = &kept.capability {
            let value = ids::capability(value, &|id| self.user(id))?;
            rustix::fs::lsetxattr(&path, CAPABILITY, &value, XattrFlags::empty())?;
        }
        Ok(rustix::fs::lremovexattr(&path, PENDING)?)
    }

    /// What an id becomes; one that is so already stays.
    fn user(&self, id: u32) -> Option<u32> {
        let (inside, outside) = (self.map.container_user(id), self.map.host_user(id));
        self.other(id, inside, outside)
    }

    fn group(&self, id: u32) -> Option<u32> {
        let (inside, outside) = (self.map.container_group(id), self.map.host_group(id));
        self.other(id, inside, outside)
    }

    fn other(&self, id: u32, inside: Option<u32>, outside: Option<u32>) -> Option<u32> {
        match self.direction {
            Direction::ToHost => outside.or(inside.map(|_| id)),
            Direction::ToContainer => inside.or(outside.map(|_| id)),
        }
    }
}

/// What a change of the owner takes away from a file.
struct Kept {
    mode: u32,
    capability: Option<Vec<u8>>,
    /// Whether it was taken away already, by a change that did not come to its end.
    is_pending: bool,
}

impl Kept {
    /// None where there is nothing to take.
    fn of(path: &Path, mode: u32) -> io::Result<Option<Self>> {
        if let Some(bytes) = attribute(path, PENDING)? {
            let (mode, capability) =
                bytes.split_first_chunk().ok_or_else(|| io::Error::other("a mark too short"))?;
            let capability = (!capability.is_empty()).then(|| capability.to_owned());
            return Ok(Some(Self { mode: u32::from_le_bytes(*mode), capability, is_pending: true }));
        }
        let kept = Self { mode, capability: attribute(path, CAPABILITY)?, is_pending: false };
        Ok((mode & 0o6000 != 0 || kept.capability.is_some()).then_some(kept))
    }

    fn to_bytes(&self) -> Vec<u8> {
        [&self.mode.to_le_bytes()[..], self.capability.as_deref().unwrap_or_default()].concat()
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
