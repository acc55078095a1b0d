//! The device nodes of zvols. A disk has one only while it is attached: else the host would read what a guest wrote (its
//! partitions, its volume groups), and a pool with thousands of disks would open slowly.

use larder_storage_driver::{Cx, Result, StorageError};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
/// How long udev has before we look at the nodes of all disks ourselves.
const UDEV_LIMIT: Duration = Duration::from_millis(500);
/// Longest name of a dataset, with its end (`ZFS_MAX_DATASET_NAME_LEN`).
const NAME_BYTES: usize = 256;
/// `_IOR(0x12, 125, char[256])`: tells the dataset of a zvol's node (`sys/fs/zfs.h`).
const BLKZNAME: libc::c_ulong = 0x8100_127d;

/// Waits for the node of a disk that was just told to have one. The node itself: udev's links come and go a moment after
/// the nodes, and may for that moment be those of another disk which had the name before.
pub(super) fn wait_for(cx: &Cx<'_>, dataset: &str) -> Result<PathBuf> {
    let link = Path::new("/dev/zvol").join(dataset);
    let began = Instant::now();
    loop {
        cx.checkpoint()?;
        if let Ok(node) = fs::canonicalize(&link)
            && is_node_of(&node, dataset)
        {
            return Ok(node);
        }
        if began.elapsed() > UDEV_LIMIT
            && let Some(node) = nodes()?.into_iter().find(|node| is_node_of(node, dataset))
        {
            return Ok(node);
        }
        if began.elapsed() > LIMIT {
            let message = format!("the disk {dataset} did not appear below /dev within {LIMIT:?}");
            return Err(StorageError::unexpected(message));
        }
        std::thread::sleep(POLL);
    }
}

/// Writes back what this machine still has in memory for a disk. Closing does that only for the last who has it open, and
/// udev may look at it just then: a node that is taken away with such pages loses them.
pub(super) fn write_back(dataset: &str) -> Result<()> {
    let Some(node) = node_of(dataset)? else { return Ok(()) };
    Ok(File::open(node)?.sync_all()?)
}

/// The node of a disk, when it has one.
pub(super) fn node_of(dataset: &str) -> Result<Option<PathBuf>> {
    Ok(nodes()?.into_iter().find(|node| is_node_of(node, dataset)))
}

/// The nodes of all zvols, without those of partitions.
fn nodes() -> Result<Vec<PathBuf>> {
    let names = fs::read_dir("/dev")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_zvol = |name: &String| {
        name.strip_prefix("zd").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    Ok(names.filter(is_zvol).map(|name| Path::new("/dev").join(name)).collect())
}

fn is_node_of(node: &Path, dataset: &str) -> bool {
    let Ok(node) = File::open(node) else { return false };
    let mut name = [0_u8; NAME_BYTES];
    // SAFETY: the kernel fills at most `NAME_BYTES` bytes.
    let done = unsafe { libc::ioctl(node.as_raw_fd(), BLKZNAME, name.as_mut_ptr()) };
    done == 0 && name.split(|byte| *byte == 0).next() == Some(dataset.as_bytes())
}
