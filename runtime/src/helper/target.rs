//! The place in a container that a disk is mounted on. Everything in there may be hostile: the kernel resolves each path as
//! if the container's root were `/`, and what was found is held by a descriptor.

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, mkdirat, openat, openat2,
    statx,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// The kernel asks for a repetition when a folder on the way is moved at that moment.
const REPETITIONS: u32 = 64;

/// What a path means below a root; links are followed, none of them leads out.
pub(super) fn find(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let below: PathBuf = Path::new(".").join(plain(path).collect::<PathBuf>());
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..REPETITIONS {
        match openat2(&root, &below, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// The same; what is not there is made: folders on the way, and at the end a folder or an empty file.
pub(super) fn find_or_make(root: impl AsFd, path: &Path, folder: bool) -> io::Result<OwnedFd> {
    let is_absent = |found: &io::Result<OwnedFd>| {
        found.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let found = find(&root, path);
    if !is_absent(&found) {
        return found;
    }
    let count = plain(path).count();
    let mut reached = PathBuf::new();
    for (index, part) in plain(path).enumerate() {
        let parent = find(&root, &reached)?;
        reached.push(part);
        if is_absent(&find(&root, &reached)) {
            make(&parent, part, folder || index + 1 < count)?;
            if is_absent(&find(&root, &reached)) {
                let message = format!("a link at /{} leads to nothing inside", reached.display());
                return Err(io::Error::new(io::ErrorKind::NotFound, message));
            }
        }
    }
    find(&root, path)
}

fn make(parent: &OwnedFd, name: &OsStr, folder: bool) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = match folder {
        true => mkdirat(parent, name, Mode::from_raw_mode(0o755)),
        false => openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop),
    };
    match made {
        // A link, or made by somebody inside meanwhile.
        Err(Errno::EXIST) => Ok(()),
        other => Ok(other?),
    }
}

fn plain(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}

/// Whether something is mounted exactly there.
pub(super) fn is_mounted_on(place: &OwnedFd) -> io::Result<bool> {
    let told = statx(place, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE)?;
    Ok(told.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Whether it is a folder.
pub(super) fn is_folder(place: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(place)?.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root(dir: &tempfile::TempDir) -> OwnedFd {
        openat(rustix::fs::CWD, dir.path().join("root"), OFlags::PATH, Mode::empty()).unwrap()
    }

    #[test]
    fn what_is_missing_is_made_below_the_root_whatever_links_say() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/srv")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        symlink(dir.path().join("outside"), dir.path().join("root/out")).unwrap();
        symlink("../../../srv", dir.path().join("root/up")).unwrap();
        let inside = |path: &str| dir.path().join("root").join(path);
        find_or_make(root(&dir), Path::new("/up/deep/folder"), true).unwrap();
        assert!(inside("srv/deep/folder").is_dir());
        find_or_make(root(&dir), Path::new("/up/etc/file"), false).unwrap();
        assert!(inside("srv/etc/file").is_file());
        let led_out = find_or_make(root(&dir), Path::new("/out/evil"), true);
        assert!(led_out.is_err(), "a link to nowhere inside");
        assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 0);
        assert!(!is_mounted_on(&find(root(&dir), Path::new("/srv")).unwrap()).unwrap());
        let top = openat(rustix::fs::CWD, "/", OFlags::PATH, Mode::empty()).unwrap();
        assert!(is_mounted_on(&find(top, Path::new("/proc")).unwrap()).unwrap());
    }
}
