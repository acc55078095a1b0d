//! Disks of a running container: one more, or one less.
//!
//! A disk goes the way that those of a start go. This process mounts it in a namespace of its own, becomes the container's
//! root, and takes a copy of all that: so the kernel locks what the disk may not, and nobody inside can make it writable
//! again. That copy is moved into the container.

use super::inside::{Inside, own_mounts};
use super::message::{DiskRoot, MountId, NewDisk, OldDisk, Reply, Target};
use super::stage::{make_private, place, unescaped};
use super::target;
use crate::liblxc::{Liblxc, LiblxcError};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Asks the kernel for the number of a mount that is never used again.
const MOUNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// Why a disk is not mounted or unmounted.
enum Trouble {
    /// What was asked for is not possible.
    Refused(String),
    Failed(String),
}

pub(super) fn mount(library: &Liblxc, container: &Target, new: &NewDisk) -> Result<Reply, LiblxcError> {
    answered(library, container, |inside| mount_in(inside, new).map(Reply::Mounted))
}

pub(super) fn unmount(library: &Liblxc, container: &Target, old: &OldDisk) -> Result<Reply, LiblxcError> {
    answered(library, container, |inside| {
        unmount_in(inside, old)?;
        release_staged(inside, old).map(Reply::Unmounted)
    })
}

fn answered(
    library: &Liblxc,
    container: &Target,
    work: impl FnOnce(&Inside) -> Result<Reply, Trouble>,
) -> Result<Reply, LiblxcError> {
    let Some(inside) = Inside::find(library, container)? else { return Ok(Reply::NotRunning) };
    let done = inside.map_err(failed("enter it")).and_then(|inside| work(&inside));
    Ok(done.unwrap_or_else(|trouble| match trouble {
        Trouble::Refused(reason) => Reply::Refused(reason),
        Trouble::Failed(reason) => Reply::Failed(reason),
    }))
}

fn failed<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Trouble {
    let what = what.into();
    move |error| Trouble::Failed(format!("{what}: {}", error.into()))
}

fn mount_in(inside: &Inside, new: &NewDisk) -> Result<MountId, Trouble> {
    let disk = &new.disk;
    own_mounts().map_err(failed("make a mount namespace"))?;
    make_private(&new.stage).map_err(failed(format!("set up {}", new.stage.display())))?;
    let staged = new.stage.join("disk");
    let namespace = inside.user_namespace().filter(|_| disk.idmapped);
    place(disk, &staged, namespace).map_err(failed(format!("mount {}", disk.source.display())))?;
    inside.become_root().map_err(failed("become its root"))?;
    own_mounts().map_err(failed("make a mount namespace for its root"))?;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if disk.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, &staged, flags).map_err(failed(format!("take {}", disk.source.display())))?;
    inside.enter().map_err(failed("enter its mount namespace"))?;
    let place = place_for(&disk.path, target::is_folder(&tree).map_err(failed("look at the disk"))?)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&tree, "", &place, "", flags).map_err(failed(format!(
        "mount {} at {}",
        disk.source.display(),
        disk.path.display()
    )))?;
    mount_id(&tree).map_err(failed("look at the mounted disk"))
}

/// The place for a disk, where nothing else is mounted.
fn place_for(path: &Path, folder: bool) -> Result<OwnedFd, Trouble> {
    let refused = |reason: String| Trouble::Refused(format!("the path {}: {reason}", path.display()));
    let root = root().map_err(failed("open its root"))?;
    let place = target::find_or_make(&root, path, folder).map_err(|error| refused(error.to_string()))?;
    let look = |what: io::Result<bool>| what.map_err(|error| refused(error.to_string()));
    if look(target::is_mounted_on(&place))? {
        return Err(refused("something is mounted there in the instance already".to_owned()));
    }
    match (look(target::is_folder(&place))?, folder) {
        (true, false) => Err(refused("it is a folder in the instance, and the source is a file".to_owned())),
        (false, true) => Err(refused("it is a file in the instance, and the source is a folder".to_owned())),
        _ => Ok(place),
    }
}

fn root() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, "/", flags, Mode::empty())?)
}

fn unmount_in(inside: &Inside, old: &OldDisk) -> Result<(), Trouble> {
    inside.enter().map_err(failed("enter its mount namespace"))?;
    let what = || format!("find the disk at {}", old.path.display());
    let root = root().map_err(failed("open its root"))?;
    let table = read_mounts(inside).map_err(failed("read its mounts"))?;
    let Some(point) = mount_point(&table, old) else { return Ok(()) };
    let top = match target::find(&root, &point) {
        // Whoever is root inside took it away.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed(what()))?,
    };
    let is_ours = root_of(&top).map_err(failed(what()))? == old.root
        && target::is_mounted_on(&top).map_err(failed(what()))?;
    let found = mount_id(&top).map_err(failed(what()))?;
    match old.mount {
        Some(mount) if mount.number != found.number => {
            return Err(Trouble::Refused(format!(
                "the disk at {} is covered by another mount in the instance: unmount that first",
                point.display()
            )));
        }
        Some(mount) if is_ours && (mount.unique == found.unique || mount.unique.is_none()) => {}
        None if is_ours => {}
        // Its number came to mean another mount.
        _ => return Ok(()),
    }
    // By its descriptor, so that it is this mount whatever happens meanwhile.
    rustix::process::fchdir(inside.processes()).map_err(failed("go to the table of processes"))?;
    let flags = UnmountFlags::DETACH;
    rustix::mount::unmount(format!("self/fd/{}", top.as_raw_fd()), flags)
        .map_err(failed(format!("unmount {}", point.display())))
}

/// Where a disk is mounted now: its mount may have been moved with a folder above.
fn mount_point(table: &str, old: &OldDisk) -> Option<PathBuf> {
    let Some(mount) = old.mount else { return Some(old.path.clone()) };
    let mut lines = table.lines().map(|line| line.split(' '));
    let line = lines.find_map(|mut fields| {
        let number = fields.next()?.parse::<u64>().ok()?;
        (number == mount.number).then(|| fields.nth(3)).flatten()
    });
    line.map(unescaped)
}

fn read_mounts(inside: &Inside) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(inside.processes(), "self/mountinfo", flags, Mode::empty())?;
    let mut text = String::new();
    fs::File::from(file).read_to_string(&mut text)?;
    Ok(text)
}

/// Unmounts what the start had brought, so that the monitor keeps nothing busy and a reboot brings nothing back. What a
/// reboot would mount instead is told.
fn release_staged(inside: &Inside, old: &OldDisk) -> Result<Option<DiskRoot>, Trouble> {
    let Some(staged) = &old.staged else { return Ok(None) };
    let release = || -> io::Result<Option<DiskRoot>> {
        if !inside.enter_monitor()? {
            return Ok(None);
        }
        match rustix::mount::unmount(staged, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        Ok(Some(DiskRoot::at(staged)?))
    };
    release().map_err(failed(format!("unmount {}", staged.display())))
}

/// The mount at a path of a container that has a disk's root, right after its start.
pub(super) fn mounted_at(init: u32, path: &Path, disk: DiskRoot) -> Option<MountId> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, format!("/proc/{init}/root"), flags, Mode::empty()).ok()?;
    let place = target::find(&root, path).ok()?;
    (root_of(&place).ok()? == disk).then(|| mount_id(&place).ok()).flatten()
}

fn mount_id(mount: &OwnedFd) -> io::Result<MountId> {
    let number = statx(mount, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id;
    let unique = statx(mount, "", AtFlags::EMPTY_PATH, MOUNT_ID_UNIQUE)?;
    let is_told = unique.stx_mask & MOUNT_ID_UNIQUE.bits() != 0;
    Ok(MountId { number, unique: is_told.then_some(unique.stx_mnt_id) })
}

fn root_of(place: &OwnedFd) -> io::Result<DiskRoot> {
    let status = rustix::fs::fstat(place)?;
    Ok(DiskRoot { device: status.st_dev, inode: status.st_ino })
}

impl DiskRoot {
    /// What is at a path of the host.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let status = rustix::fs::stat(path)?;
        Ok(Self { device: status.st_dev, inode: status.st_ino })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_number_wherever_it_was_moved() {
        let table = "70 1 0:9 / / rw - ext4 /dev/a rw\n71 70 0:9 /v /srv/my\\040data rw - ext4 /dev/a rw\n";
        let old = |number: Option<u64>| OldDisk {
            path: PathBuf::from("/data"),
            mount: number.map(|number| MountId { number, unique: None }),
            root: DiskRoot { device: 1, inode: 2 },
            staged: None,
        };
        assert_eq!(mount_point(table, &old(Some(71))), Some(PathBuf::from("/srv/my data")));
        assert_eq!(mount_point(table, &old(Some(72))), None, "it is gone");
        assert_eq!(mount_point(table, &old(None)), Some(PathBuf::from("/data")));
    }
}
