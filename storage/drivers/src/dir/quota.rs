//! Project quotas of ext4 and xfs: each volume's directory has a project of its own, whose limit is the volume's size.
//!
//! Sources: `ioctl_xfs_fsgetxattr(2)`, `quotactl(2)`.

use larder_base::host::Act;
use larder_base::{ByteSize, Cancel};
use larder_storage_driver::{Result, VolumeUsage};
use parking_lot::Mutex;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// `struct fsxattr` of `linux/fs.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct FsAttributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f;
const FS_IOC_FSSETXATTR: libc::c_ulong = 0x401c_5820;
const PROJECT_INHERIT: u32 = 0x200;
const PROJECT_QUOTA: i32 = 2;
/// Limits are in blocks of 1 KiB, whatever the filesystem's own.
const QUOTA_BLOCK: u64 = 1024;
/// Both peers number from here.
const FIRST_PROJECT: u32 = 10_000;

const fn command(number: i32) -> i32 {
    (number << 8) | PROJECT_QUOTA
}

fn quotactl<T>(root: &Path, number: i32, id: u32, data: &mut T) -> io::Result<()> {
    let folder = File::open(root)?;
    let id = libc::c_long::from(id);
    // SAFETY: `data` is the structure that the command `number` reads or fills, and outlives the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            folder.as_raw_fd(),
            command(number),
            id,
            std::ptr::from_mut(data),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const Q_GETINFO: i32 = 0x0080_0005;
const Q_GETQUOTA: i32 = 0x0080_0007;
const Q_SETQUOTA: i32 = 0x0080_0008;

/// Whether the filesystem below `root` counts project quotas.
pub(super) fn is_available(root: &Path) -> bool {
    let mut info = [0_u64; 8];
    quotactl(root, Q_GETINFO, 0, &mut info).is_ok()
}

fn attributes(path: &Path) -> io::Result<FsAttributes> {
    let folder = File::open(path)?;
    let mut found = FsAttributes::default();
    // SAFETY: the kernel fills a `struct fsxattr`.
    let done = unsafe { libc::ioctl(folder.as_raw_fd(), FS_IOC_FSGETXATTR, &raw mut found) };
    if done == 0 { Ok(found) } else { Err(io::Error::last_os_error()) }
}

/// Gives a directory a project of its own, if it has none, and sets that project's limit.
#[derive(Debug, Clone)]
pub(super) struct SetQuota {
    /// The pool.
    pub(super) root: PathBuf,
    /// The volume's directory.
    pub(super) path: PathBuf,
    /// The limit; `None` lifts it.
    pub(super) size: Option<ByteSize>,
}

impl Act for SetQuota {
    fn describe(&self) -> String {
        match self.size {
            Some(size) => format!("limit {} to {size}", self.path.display()),
            None => format!("lift the limit of {}", self.path.display()),
        }
    }

    fn apply(&self, _: &Cancel) -> io::Result<()> {
        let own = attributes(&self.path)?;
        match (own.project, self.size) {
            (0, None) => Ok(()),
            (0, Some(_)) => self.choose_project(own),
            (project, size) => limit(&self.root, project, size),
        }
    }
}

/// Held from the search for a free number until it is taken: two volumes that are made at once would find the same one. Pools may
/// share a filesystem, so it is one for all of them.
static CHOOSING: Mutex<()> = Mutex::new(());

impl SetQuota {
    /// Gives the directory a project that nobody has, limited from the first file on.
    fn choose_project(&self, mut own: FsAttributes) -> io::Result<()> {
        let _choosing = CHOOSING.lock();
        own.project = free_project(&self.root)?;
        own.flags |= PROJECT_INHERIT;
        let folder = File::open(&self.path)?;
        // SAFETY: the kernel reads a `struct fsxattr`.
        let done = unsafe { libc::ioctl(folder.as_raw_fd(), FS_IOC_FSSETXATTR, &raw const own) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        limit(&self.root, own.project, self.size)
    }
}

fn limit(root: &Path, project: u32, size: Option<ByteSize>) -> io::Result<()> {
    let blocks = size.map_or(0, |size| size.as_bytes().div_ceil(QUOTA_BLOCK));
    // SAFETY: `dqblk` is plain numbers, for which zeros are valid.
    let mut limits: libc::dqblk = unsafe { std::mem::zeroed() };
    limits.dqb_bhardlimit = blocks;
    limits.dqb_bsoftlimit = blocks;
    limits.dqb_valid = libc::QIF_BLIMITS;
    quotactl(root, Q_SETQUOTA, project, &mut limits)
}

fn found(root: &Path, project: u32) -> io::Result<libc::dqblk> {
    // SAFETY: as above.
    let mut found: libc::dqblk = unsafe { std::mem::zeroed() };
    quotactl(root, Q_GETQUOTA, project, &mut found)?;
    Ok(found)
}

/// The project of a directory, if it has one.
pub(super) fn project(path: &Path) -> io::Result<Option<u32>> {
    Ok(Some(attributes(path)?.project).filter(|project| *project != 0))
}

/// Lifts the limit of a project whose directory is gone, so that its number can be used again. One that still counts files keeps it.
#[derive(Debug, Clone)]
pub(super) struct Release {
    /// The pool.
    pub(super) root: PathBuf,
    /// The project.
    pub(super) project: u32,
}

impl Act for Release {
    fn describe(&self) -> String {
        format!("lift the limit of the project {} of {}", self.project, self.root.display())
    }

    fn apply(&self, _: &Cancel) -> io::Result<()> {
        let _choosing = CHOOSING.lock();
        match found(&self.root, self.project)?.dqb_curinodes {
            0 => limit(&self.root, self.project, None),
            _ => Ok(()),
        }
    }
}

/// The first number that no volume of the pool has. Numbers are per filesystem; a pool that shares one with another pool
/// counts that pool's usage into the same project only if it was given the same number, which the kernel's own count of
/// the project tells: a number in use is passed over.
fn free_project(root: &Path) -> io::Result<u32> {
    for number in FIRST_PROJECT..u32::MAX {
        let found = found(root, number)?;
        if found.dqb_curinodes == 0 && found.dqb_bhardlimit == 0 {
            return Ok(number);
        }
    }
    Err(io::Error::other("no free project number"))
}

/// Usage of a volume's project, and its limit.
pub(super) fn usage(root: &Path, path: &Path) -> Result<VolumeUsage> {
    let own = attributes(path)?;
    if own.project == 0 {
        return Ok(VolumeUsage::default());
    }
    let found = found(root, own.project)?;
    let total = found.dqb_bhardlimit * QUOTA_BLOCK;
    Ok(VolumeUsage { used_bytes: Some(found.dqb_curspace), total_bytes: (total > 0).then_some(total) })
}
