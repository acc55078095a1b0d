//! Brings a container's root and disks to where its root can get at them, seen by nobody else.
//!
//! The folders above what a pool holds are closed to everybody but the host's root, and a container's root is
//! somebody else. So this process and the monitor that it starts get a mount namespace of their own, with the
//! root and the disks mounted in a small folder. Everything else that the container does not need is
//! unmounted there, so that a running container keeps no other volume busy. All of it is gone with the
//! monitor.

use super::inside::own_mounts;
use super::message::{Disk, Stage};
use super::namespace::{set_attributes, user_namespace};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    move_mount, open_tree, unmount,
};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What stays mounted beside the container's own, with all that is below.
const KEPT_TREES: &[&str] = &["/proc", "/sys", "/dev", "/var/lib/lxcfs"];
/// What must stay reachable: programs, libraries, settings, and the library's locks.
const KEPT_WAYS: &[&str] = &["/usr", "/etc", "/lib", "/lib64", "/bin", "/sbin", "/run/lxc", "/run/lock/lxc"];

/// Does all of it; the text says what failed.
pub(super) fn stage(stage: &Stage) -> Result<(), String> {
    let failed = |what: String| move |error: io::Error| format!("{what}: {error}");
    own_mounts().map_err(failed("make a mount namespace".to_owned()))?;
    make_private(&stage.folder).map_err(failed(format!("set up {}", stage.folder.display())))?;
    let namespace = match &stage.idmap {
        Some(map) => {
            Some(user_namespace(map).map_err(failed("make a user namespace for mapped ids".to_owned()))?)
        }
        None => None,
    };
    let root = Disk {
        source: stage.root.clone(),
        path: PathBuf::from("/"),
        read_only: false,
        recursive: false,
        idmapped: false,
    };
    place(&root, &stage.folder.join("root"), None)
        .map_err(failed(format!("mount the root directory {}", stage.root.display())))?;
    for (number, disk) in stage.disks.iter().enumerate() {
        let target = stage.folder.join(number.to_string());
        let namespace = namespace.as_ref().filter(|_| disk.idmapped);
        place(disk, &target, namespace)
            .map_err(failed(format!("mount the disk {}", disk.source.display())))?;
    }
    let mut ways: Vec<PathBuf> = KEPT_WAYS.iter().map(PathBuf::from).collect();
    ways.extend(stage.kept.iter().cloned());
    let trees: Vec<PathBuf> = KEPT_TREES.iter().map(PathBuf::from).chain([stage.folder.clone()]).collect();
    let table = fs::read_to_string("/proc/self/mountinfo").map_err(failed("read the mounts".to_owned()))?;
    for point in unneeded(&table, &ways, &trees) {
        // What can't be unmounted stays: it keeps something busy, no more.
        let _ = unmount(&point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
    Ok(())
}

/// Nothing that is mounted from here on is seen elsewhere, and the folder is a small filesystem of its own.
pub(super) fn make_private(folder: &Path) -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    Ok(mount("stage", folder, "tmpfs", flags, c"mode=0711,size=1m")?)
}

/// Mounts a disk at a new file or folder, with all that it may and may not.
pub(super) fn place(disk: &Disk, target: &Path, namespace: Option<&File>) -> io::Result<()> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if disk.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, &disk.source, flags)?;
    let read_only = if disk.read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
    set_attributes(&tree, libc::MOUNT_ATTR_NODEV | read_only, disk.recursive, namespace)?;
    if fs::metadata(&disk.source)?.is_dir() {
        fs::create_dir(target)?;
    } else {
        rustix::fs::open(target, OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR)?;
    }
    Ok(move_mount(&tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// The mount points that are on no way to what is needed, the deepest first.
fn unneeded(table: &str, ways: &[PathBuf], trees: &[PathBuf]) -> Vec<PathBuf> {
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    let needed = |point: &PathBuf| {
        trees.iter().any(|tree| point.starts_with(tree) || tree.starts_with(point))
            || ways.iter().any(|way| way.starts_with(point))
    };
    let mut points: Vec<PathBuf> = points.filter(|point| !needed(point)).collect();
    points.reverse();
    points
}

/// The table writes space, tab, line break and backslash as `\ooo`.
pub(super) fn unescaped(text: &str) -> PathBuf {
    let plain =
        text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
    PathBuf::from(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_stays_mounted() {
        let table = "\
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:5 / /proc rw - proc proc rw
3 1 0:6 / /sys/fs/cgroup rw - cgroup2 none rw
4 1 0:7 / /run rw - tmpfs tmpfs rw
5 4 0:8 / /run/user/1000 rw - tmpfs tmpfs rw
6 1 8:2 / /var/lib/l rw - ext4 /dev/sdb rw
7 6 8:3 / /var/lib/l/pools/one\\040two rw - ext4 /dev/sdc rw
8 7 8:4 / /var/lib/l/pools/one\\040two/v rw - ext4 /dev/sdd rw
9 4 0:9 / /run/l/c1/stage/root rw - ext4 /dev/sdd rw
";
        let ways = [PathBuf::from("/var/lib/l/logs/c1")];
        let trees = [PathBuf::from("/proc"), PathBuf::from("/sys"), PathBuf::from("/run/l/c1/stage")];
        let expected = ["/var/lib/l/pools/one two/v", "/var/lib/l/pools/one two", "/run/user/1000"];
        assert_eq!(unneeded(table, &ways, &trees), expected.map(PathBuf::from));
    }
}
