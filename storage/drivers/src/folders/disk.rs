//! Disks that are files.

use crate::parts::must_grow;
use larder_base::ByteSize;
use larder_base::host::FsAct;
use larder_storage_driver::{Cx, Place, Result};
use std::fs;
use std::path::PathBuf;

/// Lengthens a disk; a shorter one is refused, whatever is recorded of it, and the same length is fine.
pub(crate) fn grow_disk(cx: &Cx<'_>, at: &Place, disk: PathBuf, size: ByteSize) -> Result<()> {
    let size = size.round_up(8192).unwrap_or(size).as_bytes();
    match must_grow(at, fs::metadata(&disk)?.len(), size)? {
        true => cx.act(&FsAct::Truncate { path: disk, size }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_base::host::SystemHost;
    use larder_base::{Cancel, Progress, Ticket};
    use larder_storage_driver::{Content, ErrorKind, Need, VolumeId};

    #[test]
    fn a_disk_is_never_cut() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("root.img");
        fs::write(&disk, vec![1; 1 << 20]).unwrap();
        let ticket = Ticket::new("none", uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let cx = Cx::new(&SystemHost, Progress::silent(), Cancel::never(), ticket);
        let id = VolumeId::custom(Content::Block, "default".parse().unwrap(), "v1".parse().unwrap());
        let grow = |bytes| grow_disk(&cx, &Place::live(&id), disk.clone(), ByteSize::from_bytes(bytes));
        for shorter in [0, 8192, (1 << 20) - 8192] {
            assert_eq!(grow(shorter).unwrap_err().kind(), ErrorKind::Unsupported(Need::Shrink), "{shorter}");
        }
        // Of the same length, rounded up.
        grow((1 << 20) - 1).unwrap();
        assert_eq!(fs::read(&disk).unwrap(), vec![1; 1 << 20]);
        grow(2 << 20).unwrap();
        assert_eq!(fs::metadata(&disk).unwrap().len(), 2 << 20);
    }
}
