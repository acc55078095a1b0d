//! The file tree of the jail: a small tmpfs with the system's programs and libraries read-only, and one
//! writable directory.

use super::job::{ARCHIVE, TARGET};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What programs and their libraries need; links among them (`/bin` → `usr/bin`) are made again as links.
const SYSTEM: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32", "/etc/ld.so.cache"];

/// Copies of the mounts the jail gets, taken before the helper leaves the machine's own mount namespace.
#[derive(Debug)]
pub(super) struct Sources {
    archive: Option<OwnedFd>,
}

impl Sources {
    /// Takes standard input as a mount of its own, if it is to be bound.
    pub(super) fn take(bind_archive: bool) -> io::Result<Self> {
        let archive = bind_archive.then(|| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH;
            rustix::mount::open_tree(io::stdin().as_fd(), "", flags)
        });
        Ok(Self { archive: archive.transpose()? })
    }
}

/// Builds the tree on top of `target` (in this mount namespace alone), makes it the root and forgets the rest.
/// The working directory is then [`TARGET`].
pub(super) fn enter(target: &Path, sources: Sources) -> Result<(), Failure> {
    let step = |what: &'static str| move |source: io::Error| Failure { what, source };
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|error| step("make the mounts private")(error.into()))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(target, flags, Mode::empty())
        .map_err(|error| step("open the directory to fill")(error.into()))?;
    let clone =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let writable = rustix::mount::open_tree(&opened, "", clone)
        .map_err(|error| step("take the directory to fill")(error.into()))?;
    // Any directory can carry the new root: the one to fill is known to be there.
    rustix::mount::mount(
        "larder-jail",
        target,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        c"size=1m,mode=0755",
    )
    .map_err(|error| step("mount the new root")(error.into()))?;
    let bind = MountFlags::NOSUID | MountFlags::NODEV;
    for path in SYSTEM {
        bind_system(Path::new(path), target).map_err(step("bind the system's programs"))?;
    }
    let inside = below(target, TARGET);
    fs::create_dir(&inside).map_err(step("make the target"))?;
    place(writable, &inside, bind | MountFlags::NOEXEC).map_err(step("bind the directory to fill"))?;
    if let Some(archive) = sources.archive {
        let inside = below(target, ARCHIVE);
        fs::write(&inside, []).map_err(step("make the place of the archive"))?;
        place(archive, &inside, bind | MountFlags::RDONLY).map_err(step("bind the archive"))?;
    }
    pivot(target).map_err(step("change the root"))
}

/// A step of building the jail that did not work.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) what: &'static str,
    pub(super) source: io::Error,
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn bind_system(path: &Path, root: &Path) -> io::Result<()> {
    let Ok(kind) = fs::symlink_metadata(path) else { return Ok(()) };
    let inside = root.join(path.strip_prefix("/").unwrap_or(path));
    if kind.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(path)?, inside);
    }
    if kind.is_dir() {
        fs::create_dir_all(&inside)?;
    } else {
        fs::create_dir_all(inside.parent().unwrap_or(root))?;
        fs::write(&inside, [])?;
    }
    rustix::mount::mount_bind(path, &inside)?;
    restrict(&inside, MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV)
}

fn place(tree: OwnedFd, inside: &Path, flags: MountFlags) -> io::Result<()> {
    rustix::mount::move_mount(&tree, "", CWD, inside, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    drop(tree);
    restrict(inside, flags)
}

fn restrict(mounted: &Path, flags: MountFlags) -> io::Result<()> {
    Ok(rustix::mount::mount_remount(mounted, MountFlags::BIND | flags, c"")?)
}

fn pivot(root: &Path) -> io::Result<()> {
    std::env::set_current_dir(root)?;
    // The old root ends up stacked on the new one and is then taken off: no directory for it is needed.
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    restrict(Path::new("/"), MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV)?;
    std::env::set_current_dir(TARGET)
}
