//! Disks that are devices, as members of a tar: GNU tar would keep the device's numbers and not what is on it.
//!
//! The format is POSIX ustar; sizes beyond its eleven digits are written in base 256, as GNU tar and the peers read and
//! write them.

use larder_base::Cancel;
use larder_storage_driver::{ErrorKind, Result, StorageError};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

const BLOCK: usize = 512;
const STEP_BYTES: usize = 1 << 20;

/// Writes all of a file or device as a plain member of a tar, with the time when it was changed in seconds since 1970.
pub(crate) fn write_member(
    from: &Path,
    name: &str,
    modified: u64,
    output: &File,
    cancel: &Cancel,
) -> Result<()> {
    let (mut from, mut output) = (File::open(from)?, output);
    let size = from.seek(SeekFrom::End(0))?;
    from.rewind()?;
    output.write_all(header(name, size, modified)?.as_bytes())?;
    let mut buffer = vec![0; STEP_BYTES];
    let mut left = size;
    while left > 0 {
        cancel.checkpoint()?;
        let length = usize::try_from(left).unwrap_or(STEP_BYTES).min(STEP_BYTES);
        from.read_exact(&mut buffer[..length])?;
        output.write_all(&buffer[..length])?;
        left -= length as u64;
    }
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    Ok(output.write_all(&[0; BLOCK][..(BLOCK - over) % BLOCK])?)
}

/// Ends a tar that has nothing else.
pub(crate) fn end(mut output: &File) -> Result<()> {
    Ok(output.write_all(&[0; 2 * BLOCK])?)
}

fn header(name: &str, size: u64, modified: u64) -> Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).map_err(|error| {
        let message = format!("the name {name:?} can't stand in a tar: {error}");
        StorageError::new(ErrorKind::Invalid, message)
    })?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_mtime(modified);
    header.set_cksum();
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gnu_tar_reads_back_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, tar) = (folder.path().join("disk"), folder.path().join("tar"));
        let content: Vec<u8> = (0..3_000_001_u32).map(|at| (at % 251) as u8).collect();
        std::fs::write(&disk, &content).unwrap();
        let long = format!("backup/volume-snapshots/{}.img", "s".repeat(90));
        let output = File::create(&tar).unwrap();
        for name in ["backup/volume.img", &long] {
            write_member(&disk, name, 1, &output, &Cancel::never()).unwrap();
        }
        end(&output).unwrap();
        #[expect(clippy::disallowed_methods, reason = "the test reads as a person would")]
        let done = std::process::Command::new("tar").arg("-xf").arg(&tar).current_dir(folder.path()).status();
        assert!(done.unwrap().success());
        for name in ["backup/volume.img", &long] {
            assert!(std::fs::read(folder.path().join(name)).unwrap() == content, "{name}");
        }
    }

    #[test]
    fn large_sizes_and_long_names_have_their_places() {
        let large = header("backup/volume.img", 1 << 40, 0).unwrap();
        assert_eq!(large.as_bytes()[124..136], [0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        let largest = header("backup/volume.img", (1 << 33) - 1, 0).unwrap();
        assert_eq!(&largest.as_bytes()[124..135], b"77777777777");
        assert!(header(&"x".repeat(101), 1, 0).is_err());
    }
}
