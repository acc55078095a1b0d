//! Mounting: every mount that is made on the host is `nodev,nosuid`.

use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount};
use std::ffi::CString;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// The flags of a mount that nobody's files can misuse.
const SAFE: MountFlags = MountFlags::NODEV.union(MountFlags::NOSUID);

/// Options that every filesystem has and that the kernel takes as flags (`mount(8)`), with what they do to the flags:
/// set, or clear.
const FLAGS: &[(&str, MountFlags, bool)] = &[
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("noatime", MountFlags::NOATIME, true),
    ("atime", MountFlags::NOATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("relatime", MountFlags::RELATIME, true),
    ("norelatime", MountFlags::RELATIME, false),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("lazytime", MountFlags::LAZYTIME, true),
    ("nolazytime", MountFlags::LAZYTIME, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("silent", MountFlags::SILENT, true),
    ("loud", MountFlags::SILENT, false),
];
/// Options that say what is so anyway, or what no mount of ours may have.
const IGNORED: &[&str] = &["", "defaults", "nodev", "nosuid", "dev", "suid"];

/// Tells the kernel's flags from what is for the filesystem.
fn split(options: &str) -> (MountFlags, String) {
    let mut flags = SAFE;
    let mut rest = Vec::new();
    for option in options.split(',').map(str::trim).filter(|option| !IGNORED.contains(option)) {
        match FLAGS.iter().find(|(name, ..)| *name == option) {
            Some((_, flag, true)) => flags |= *flag,
            Some((_, flag, false)) => flags -= *flag,
            None => rest.push(option),
        }
    }
    (flags, rest.join(","))
}

pub(super) fn mount(
    source: &Path,
    target: &Path,
    kind: &str,
    options: &str,
    read_only: bool,
) -> io::Result<()> {
    let (mut flags, data) = split(options);
    if read_only {
        flags |= MountFlags::RDONLY;
    }
    let data = CString::new(data).map_err(io::Error::other)?;
    Ok(rustix::mount::mount(source, target, kind, flags, data.as_c_str())?)
}

pub(super) fn bind(source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
    mount_bind(source, target)?;
    let mut flags = MountFlags::BIND | SAFE;
    if read_only {
        flags |= MountFlags::RDONLY;
    }
    // A bind mount takes its flags only on a second call.
    mount_remount(target, flags, "").map_err(|error| {
        let _ = unmount(target);
        error.into()
    })
}

/// Gives a mount that is there other options.
pub(super) fn remount(target: &Path, options: &str) -> io::Result<()> {
    let (flags, data) = split(options);
    Ok(mount_remount(target, flags, data)?)
}

/// How long a mount may be busy before that is told, and how often it is tried again: a program that is being started
/// holds a copy of every open file for a moment.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

pub(super) fn unmount(target: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
            // EINVAL: not a mount point.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            Err(rustix::io::Errno::BUSY) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_told_from_what_is_for_the_filesystem_and_no_option_lets_devices_in() {
        let (flags, data) = split("defaults, noatime,compress=zstd:3,ro,rw,suid,dev,user_subvol_rm_allowed");
        assert_eq!(flags, SAFE | MountFlags::NOATIME);
        assert_eq!(data, "compress=zstd:3,user_subvol_rm_allowed");
        assert_eq!(split(""), (SAFE, String::new()));
    }
}
