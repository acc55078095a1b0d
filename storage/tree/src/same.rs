//! Whether a file of one tree is the same as that of another, in all that a copy keeps.

use crate::attributes;
use crate::copy_tree::fd_path;
use crate::data;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Whether `other` has the same file under `name` as `one`, where it is `stat`: by type, size, time, owner, mode, attributes
/// and content. What has several names is never the same, so that links come out right.
pub(crate) fn is_same(one: &OwnedFd, other: &OwnedFd, name: &CStr, stat: &Stat) -> bool {
    let Ok(there) = statat(other, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
    let key = |stat: &Stat| {
        (
            stat.st_mode,
            stat.st_size,
            stat.st_mtime,
            stat.st_mtime_nsec,
            stat.st_uid,
            stat.st_gid,
            stat.st_rdev,
        )
    };
    let is_alone = stat.st_nlink == 1 && there.st_nlink == 1;
    is_alone && key(stat) == key(&there) && holds_the_same(one, other, name, stat).unwrap_or(false)
}

/// Size and time don't tell: a file may be written twice within a tick of the clock, or be given its old time back.
fn holds_the_same(one: &OwnedFd, other: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<bool> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::RegularFile {
        let (ours, theirs) = (opened(one, name)?, opened(other, name)?);
        return Ok(attributes::read(ours.as_fd())? == attributes::read(theirs.as_fd())?
            && data::are_equal(&ours, &theirs, u64::try_from(stat.st_size).unwrap_or(0))?);
    }
    let found =
        |fd: BorrowedFd<'_>| attributes::read_path(&fd_path(fd).join(OsStr::from_bytes(name.to_bytes())));
    if found(one.as_fd())? != found(other.as_fd())? {
        return Ok(false);
    }
    match kind {
        FileType::Symlink => Ok(readlinkat(one, name, Vec::new())? == readlinkat(other, name, Vec::new())?),
        // Its numbers were compared.
        _ => Ok(true),
    }
}

/// For reading, which leaves no trace: thousands of times of access would have to be written.
fn opened(folder: &OwnedFd, name: &CStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOATIME;
    Ok(openat(folder, name, flags, Mode::empty())?.into())
}
