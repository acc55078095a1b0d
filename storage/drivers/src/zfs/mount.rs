//! Mounting what a place holds, `nodev,nosuid`, below folders that only root passes.

use larder_base::Cancel;
use larder_base::host::{Act, FsAct};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Nobody but root passes: what is below belongs to whoever a volume is given to.
const PRIVATE: u32 = 0o700;

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    /// Where.
    pub(super) target: PathBuf,
    /// Of what: for zfs the dataset's present name.
    pub(super) source: String,
    /// Whether nothing may be written through it.
    pub(super) read_only: bool,
}

/// Reads `/proc/self/mountinfo`: mount point and options are the fifth and sixth field, type and source the first two after
/// a lone dash. Names with white space, which no place has, are left out.
fn read_mounts(text: &str) -> Vec<Mounted> {
    let read = |line: &str| {
        let (place, what) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(4);
        let (target, options) = (place.next()?, place.next()?);
        let source = what.split(' ').nth(1)?.to_owned();
        let read_only = options.split(',').any(|option| option == "ro");
        Some(Mounted { target: target.into(), source, read_only })
    };
    text.lines().filter_map(read).collect()
}

/// What is mounted on this machine, as this process sees it.
pub(super) fn mounts() -> io::Result<Vec<Mounted>> {
    Ok(read_mounts(&fs::read_to_string("/proc/self/mountinfo")?))
}

/// Mounts something, making the mount point; fine when just that is mounted there already.
#[derive(Debug, Clone)]
pub(super) struct Mount {
    pub(super) source: String,
    pub(super) target: PathBuf,
    /// The filesystem's type.
    pub(super) kind: String,
    pub(super) options: String,
    pub(super) read_only: bool,
}

impl Mount {
    /// A dataset or snapshot.
    pub(super) fn zfs(source: String, target: PathBuf, read_only: bool) -> Self {
        Self { source, target, kind: "zfs".to_owned(), options: String::new(), read_only }
    }
}

impl Act for Mount {
    fn describe(&self) -> String {
        format!("mount {} at {}", self.source, self.target.display())
    }

    fn apply(&self, cancel: &Cancel) -> io::Result<()> {
        FsAct::MakeDirectory { path: self.target.clone(), mode: PRIVATE }.apply(cancel)?;
        let target = fs::canonicalize(&self.target)?;
        if let Some(there) = mounts()?.into_iter().rfind(|mounted| mounted.target == target) {
            if there.source == self.source && (self.read_only || !there.read_only) {
                return Ok(());
            }
            // What another run left here.
            unmount(&self.target)?;
        }
        let mount = FsAct::Mount {
            source: self.source.clone().into(),
            target: self.target.clone(),
            kind: self.kind.clone(),
            options: self.options.clone(),
            read_only: self.read_only,
        };
        mount.apply(cancel)
    }
}

/// Unmounts, and removes the mount points; fine when nothing is mounted there.
#[derive(Debug, Clone)]
pub(super) struct Unmount {
    pub(super) targets: Vec<PathBuf>,
}

impl Act for Unmount {
    fn describe(&self) -> String {
        let targets: Vec<_> = self.targets.iter().map(|target| target.display().to_string()).collect();
        format!("unmount {}", targets.join(", "))
    }

    fn apply(&self, cancel: &Cancel) -> io::Result<()> {
        for target in &self.targets {
            unmount(target)?;
            FsAct::RemoveEmptyDirectory { path: target.clone() }.apply(cancel)?;
        }
        Ok(())
    }
}

/// Gives the root of a new filesystem its mode and owner.
#[derive(Debug, Clone)]
pub(super) struct Prepare {
    pub(super) mount: Mount,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
}

impl Act for Prepare {
    fn describe(&self) -> String {
        let (uid, gid) = self.owner;
        format!("set mode {:04o} and owner {uid}:{gid} of the root of {}", self.mode, self.mount.source)
    }

    fn apply(&self, cancel: &Cancel) -> io::Result<()> {
        self.mount.apply(cancel)?;
        let root = &self.mount.target;
        let (uid, gid) = self.owner;
        // What mkfs puts in.
        let done = FsAct::remove_tree(root.join("lost+found"))
            .apply(cancel)
            .and_then(|()| chown(root, Some(uid), Some(gid)))
            .and_then(|()| fs::set_permissions(root, fs::Permissions::from_mode(self.mode)));
        let undone = Unmount { targets: vec![root.clone()] }.apply(&Cancel::never());
        done.and(undone)
    }
}

const TRIES: u32 = 5;

/// Unmounts everything at a mount point. Who still has a file open there keeps it until he closes it: that holds nobody up.
fn unmount(target: &Path) -> io::Result<()> {
    use rustix::io::Errno;
    use rustix::mount::UnmountFlags;
    let mut tries = 0;
    loop {
        let flags = if tries < TRIES {
            UnmountFlags::NOFOLLOW
        } else {
            UnmountFlags::NOFOLLOW | UnmountFlags::DETACH
        };
        match rustix::mount::unmount(target, flags) {
            Ok(()) => {}
            // EINVAL: not a mount point (any more).
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if tries < TRIES => {
                std::thread::sleep(Duration::from_millis(10 << tries));
                tries += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read() {
        // From the proofs of a guest: `grep zfs /proc/self/mountinfo`, zfs 2.3.9.
        let text = "\
35 31 0:32 / /tmp/m rw,nosuid,nodev,relatime - zfs tank/larder/custom/default_v2 rw,xattr,posixacl,casesensitive
36 31 0:33 / /tmp/m2 ro,nosuid,nodev,relatime shared:1 - zfs tank/larder/custom/default_v2@snapshot-s0 ro,xattr
garbage
";
        let mounted = |target: &str, source: &str, read_only| Mounted {
            target: target.into(),
            source: source.to_owned(),
            read_only,
        };
        assert_eq!(
            read_mounts(text),
            [
                mounted("/tmp/m", "tank/larder/custom/default_v2", false),
                mounted("/tmp/m2", "tank/larder/custom/default_v2@snapshot-s0", true),
            ]
        );
    }

    #[test]
    fn what_is_not_mounted_is_unmounted_already() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("mount point");
        fs::create_dir(&target).unwrap();
        let unmount = Unmount { targets: vec![target.clone(), folder.path().join("absent")] };
        unmount.apply(&Cancel::never()).unwrap();
        assert!(!target.exists());
    }
}
