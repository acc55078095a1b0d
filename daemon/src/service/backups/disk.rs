//! Writing a volume's disk, holes left where there is nothing but zeros.

use larder_storage_driver::{Cx, Result};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;

const CHUNK: usize = 1 << 20;

/// Makes `disk` hold what `from` says and zeros after that. What was on it may be an older state of the same volume.
pub(super) fn write_disk(cx: &Cx<'_>, from: &mut dyn Read, disk: &Path) -> Result<()> {
    let mut file = File::options().read(true).write(true).open(disk)?;
    let size = file.seek(io::SeekFrom::End(0))?;
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    loop {
        cx.checkpoint()?;
        let read = fill(from, &mut buffer)?;
        if read == 0 {
            break;
        }
        let end = at + read as u64;
        if buffer[..read].iter().any(|byte| *byte != 0) {
            file.write_all_at(&buffer[..read], at)?;
        } else {
            clear(cx, &file, at, end.min(size))?;
        }
        at = end;
    }
    clear(cx, &file, at, size)?;
    Ok(file.sync_all()?)
}

/// Makes a range zero; what is zero already stays unwritten.
fn clear(cx: &Cx<'_>, file: &File, mut at: u64, end: u64) -> Result<()> {
    let mut buffer = Vec::new();
    while at < end {
        cx.checkpoint()?;
        match seek(file, SeekFrom::Data(at)) {
            // Nothing but a hole to the end.
            Err(Errno::NXIO) => return Ok(()),
            Ok(data) => at = data,
            // A device does not tell.
            Err(_) => {}
        }
        let length = usize::try_from(end.saturating_sub(at)).unwrap_or(CHUNK).min(CHUNK);
        buffer.resize(length, 0);
        file.read_exact_at(&mut buffer, at)?;
        if buffer.iter().any(|byte| *byte != 0) {
            buffer.fill(0);
            file.write_all_at(&buffer, at)?;
        }
        at += length as u64;
    }
    Ok(())
}

fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_base::host::SystemHost;
    use larder_base::{Cancel, Progress, Ticket};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn an_older_state_is_overwritten_and_holes_stay_holes() {
        let ticket = Ticket::new("none", uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let cx = Cx::new(&SystemHost, Progress::silent(), Cancel::never(), ticket);
        let disk = tempfile::NamedTempFile::new().unwrap();
        disk.as_file().set_len(16 << 20).unwrap();
        let mut new = vec![0; 3 << 20];
        new[2 << 20] = 7;
        write_disk(&cx, &mut new.as_slice(), disk.path()).unwrap();
        let used = std::fs::metadata(disk.path()).unwrap().blocks() * 512;
        assert!(used <= 2 << 20, "{used}");

        disk.as_file().write_all_at(&[9; 100], 10).unwrap();
        disk.as_file().write_all_at(&[9; 100], (16 << 20) - 100).unwrap();
        write_disk(&cx, &mut new.as_slice(), disk.path()).unwrap();
        new.resize(16 << 20, 0);
        assert!(std::fs::read(disk.path()).unwrap() == new);
    }
}
