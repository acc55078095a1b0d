//! The device nodes of zvols. A disk has one only while it is attached: else the host would read what a guest wrote (its
//! partitions, its volume groups), and a pool with thousands of disks would open slowly.

use larder_storage_driver::{Cx, ErrorKind, Result, StorageError};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
/// Longest name of a dataset, with its end (`ZFS_MAX_DATASET_NAME_LEN`).
const NAME_BYTES: usize = 256;
/// `_IOR(0x12, 125, char[256])`: tells the dataset of a zvol's node (`sys/fs/zfs.h`).
const BLKZNAME: libc::c_ulong = 0x8100_127d;

/// Waits until udev has made the node of a disk that was just told to have one.
pub(super) fn wait_for(cx: &Cx<'_>, dataset: &str) -> Result<PathBuf> {
    let device = PathBuf::from("/dev/zvol").join(dataset);
    let deadline = Instant::now() + LIMIT;
    while !is_node_of(&device, dataset) {
        cx.checkpoint()?;
        if Instant::now() >= deadline {
            let message = format!("{} did not appear within {LIMIT:?}: is udev running?", device.display());
            return Err(StorageError::new(ErrorKind::Unexpected, message));
        }
        std::thread::sleep(POLL);
    }
    Ok(device)
}

/// Whether a node is that of the dataset. Its link may for a moment still be that of another which had the name before.
fn is_node_of(device: &Path, dataset: &str) -> bool {
    let Ok(node) = File::open(device) else { return false };
    let mut name = [0_u8; NAME_BYTES];
    // SAFETY: the kernel fills at most `NAME_BYTES` bytes.
    let done = unsafe { libc::ioctl(node.as_raw_fd(), BLKZNAME, name.as_mut_ptr()) };
    done == 0 && name.split(|byte| *byte == 0).next() == Some(dataset.as_bytes())
}
