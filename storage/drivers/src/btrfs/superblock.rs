//! Which btrfs a device holds, read from its superblock.
//!
//! Source: `btrfs(5)`, "on-disk format": the superblock is at 64 KiB, its identifier at byte 32 of it, its magic at 64.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use uuid::Uuid;

const AT: u64 = 64 << 10;
const MAGIC: &[u8; 8] = b"_BHRfS_M";

/// The identifier of the btrfs on a device or in a file; `None` when there is no btrfs.
pub(super) fn identifier(device: &Path) -> io::Result<Option<Uuid>> {
    let mut block = [0; 72];
    match File::open(device)?.read_exact_at(&mut block, AT) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(parse(&block)),
    }
}

fn parse(block: &[u8; 72]) -> Option<Uuid> {
    (block[64..] == MAGIC[..]).then(|| Uuid::from_slice(&block[32..48]).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_bears_the_magic_is_btrfs() {
        let mut block = [7; 72];
        assert_eq!(parse(&block), None);
        block[64..].copy_from_slice(MAGIC);
        assert_eq!(parse(&block), Some(Uuid::from_bytes([7; 16])));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("short");
        std::fs::write(&file, "short").unwrap();
        assert_eq!(identifier(&file).unwrap(), None);
    }
}
