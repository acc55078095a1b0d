//! What is mounted on this machine, and mounting what a place holds, `nodev,nosuid`, below folders that only root passes.

use crate::spelling::PRIVATE;
use larder_base::Cancel;
use larder_base::host::{Act, FsAct};
use larder_storage_driver::{Cx, Result};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mounted {
    /// Where.
    pub(crate) target: PathBuf,
    /// Of what: for zfs the dataset's present name.
    pub(crate) source: String,
    /// Whether nothing may be written through it.
    pub(crate) read_only: bool,
}

impl Mounted {
    /// Whether it is a filesystem on a device.
    pub(crate) fn is_of_device(&self) -> bool {
        self.source.starts_with("/dev/")
    }
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
pub(crate) fn mounts() -> io::Result<Vec<Mounted>> {
    Ok(read_mounts(&fs::read_to_string("/proc/self/mountinfo")?))
}

/// Mounts something, making the mount point; fine when just that is mounted there already.
#[derive(Debug, Clone)]
pub(crate) struct Mount {
    pub(crate) source: String,
    pub(crate) target: PathBuf,
    /// The filesystem's type.
    pub(crate) kind: String,
    pub(crate) options: String,
    pub(crate) read_only: bool,
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
pub(crate) struct Unmount {
    pub(crate) targets: Vec<PathBuf>,
    /// Whether who still has a file open there keeps it until he closes it, and holds nobody up; else that is refused.
    pub(crate) detaches: bool,
}

impl Act for Unmount {
    fn describe(&self) -> String {
        let targets: Vec<_> = self.targets.iter().map(|target| target.display().to_string()).collect();
        format!("unmount {}", targets.join(", "))
    }

    fn apply(&self, cancel: &Cancel) -> io::Result<()> {
        for target in &self.targets {
            match self.detaches {
                true => unmount(target)?,
                false => FsAct::Unmount { target: target.clone() }.apply(cancel)?,
            }
            FsAct::RemoveEmptyDirectory { path: target.clone() }.apply(cancel)?;
        }
        Ok(())
    }
}

/// Where a device is mounted, as this process sees it.
pub(crate) fn mount_points(device: &Path) -> Result<Vec<PathBuf>> {
    let of_it = mounts()?.into_iter().filter(|mounted| Path::new(&mounted.source) == device);
    Ok(of_it.map(|mounted| mounted.target).collect())
}

/// Unmounts what `is_meant` picks of all that is mounted on this machine.
pub(crate) fn unmount_where(cx: &Cx<'_>, is_meant: impl Fn(&Mounted) -> bool) -> Result<()> {
    let meant = mounts()?.into_iter().filter(is_meant);
    let targets: Vec<PathBuf> = meant.map(|mounted| mounted.target).collect();
    if targets.is_empty() { Ok(()) } else { cx.act(&Unmount { targets, detaches: true }) }
}

/// Writes back all that a mounted filesystem has in memory.
#[derive(Debug, Clone)]
pub(crate) struct WriteBack {
    pub(crate) target: PathBuf,
}

impl Act for WriteBack {
    fn describe(&self) -> String {
        format!("write back what is in memory of {}", self.target.display())
    }

    fn apply(&self, _: &Cancel) -> io::Result<()> {
        Ok(rustix::fs::syncfs(fs::File::open(&self.target)?)?)
    }
}

const TRIES: u32 = 5;

/// Unmounts everything at a mount point; what somebody still has open there is detached.
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
        let targets = vec![target.clone(), folder.path().join("absent")];
        let unmount = Unmount { targets, detaches: true };
        unmount.apply(&Cancel::never()).unwrap();
        assert!(!target.exists());
    }
}
