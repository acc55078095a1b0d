//! A user namespace that is only there to describe a map of ids, and mounts that use it.

use crate::idmap::{IdMap, IdRange};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};

/// Sets attributes of a detached mount; with `namespace` its ids are mapped by it.
pub(super) fn set_attributes(
    mount: &OwnedFd,
    attributes: u64,
    recursive: bool,
    namespace: Option<&File>,
) -> io::Result<()> {
    // SAFETY: all zeros is a valid value.
    let mut wanted: libc::mount_attr = unsafe { std::mem::zeroed() };
    wanted.attr_set = attributes;
    if let Some(namespace) = namespace {
        wanted.attr_set |= libc::MOUNT_ATTR_IDMAP;
        wanted.userns_fd = u64::try_from(namespace.as_raw_fd()).map_err(io::Error::other)?;
    }
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty text, the structure has the size that is told.
    let status = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const wanted,
            size_of::<libc::mount_attr>(),
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A user namespace with this map, made by a child that ends at once: the open file keeps it.
pub(super) fn user_namespace(map: &IdMap) -> io::Result<File> {
    let (mut ready, told) = io::pipe()?;
    let (until, mut release) = io::pipe()?;
    // SAFETY: this process has one thread; the child only unshares, writes, reads and ends.
    let child = unsafe { libc::fork() };
    if child == -1 {
        return Err(io::Error::last_os_error());
    }
    if child == 0 {
        drop((ready, release));
        in_child(told, until);
    }
    drop((told, until));
    let mut answer = [0u8];
    let outcome = ready.read_exact(&mut answer).and_then(|()| {
        fs::write(format!("/proc/{child}/uid_map"), lines(&map.users))?;
        fs::write(format!("/proc/{child}/gid_map"), lines(&map.groups))?;
        File::open(format!("/proc/{child}/ns/user"))
    });
    // Fails only when the child is gone already.
    let _ = release.write_all(&answer);
    // SAFETY: the child is ours.
    unsafe {
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    outcome
}

fn lines(ranges: &[IdRange]) -> String {
    ranges.iter().fold(String::new(), |mut text, range| {
        // Writing to a text can't fail.
        let _ = writeln!(text, "{} {} {}", range.container, range.host, range.size);
        text
    })
}

fn in_child(mut told: io::PipeWriter, mut until: io::PipeReader) -> ! {
    // SAFETY: plain system calls.
    let unshared = unsafe { libc::unshare(libc::CLONE_NEWUSER) } == 0;
    if unshared && told.write_all(&[1]).is_ok() {
        let _ = until.read(&mut [0]);
    }
    // SAFETY: ends without running the parent's destructors.
    unsafe { libc::_exit(0) }
}
