//! A disk into a disk: a raw file or a block device into another.

use crate::CopyMode;
use crate::data::{self, Abilities};
use larder_base::host::Act;
use larder_base::{Cancel, Progress, Unit};
use rustix::fs::{SeekFrom as DataSeek, seek};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::PathBuf;

/// Copies a disk's content. The target is there already and at least as large; a file is cut to the source's size, on a
/// device what lies beyond is left.
#[derive(Debug, Clone)]
pub struct CopyFile {
    /// The disk to read.
    pub from: PathBuf,
    /// The disk to overwrite.
    pub to: PathBuf,
    /// Whether it is new. An older state is compared, and written only where it differs.
    pub mode: CopyMode,
    /// Where to report, as stage `disk` in bytes.
    pub progress: Progress,
}

impl Act for CopyFile {
    fn describe(&self) -> String {
        format!("copy the disk {} to {}", self.from.display(), self.to.display())
    }

    fn apply(&self, cancel: &Cancel) -> io::Result<()> {
        let mut from = File::open(&self.from)?;
        let to = OpenOptions::new().read(true).write(true).open(&self.to)?;
        let size = from.seek(SeekFrom::End(0))?;
        let is_device = to.metadata()?.file_type().is_block_device();
        let before = to.metadata()?.len();
        if self.mode == CopyMode::Refresh {
            if !is_device && before > size {
                // What lies beyond the source goes.
                to.set_len(size)?;
                to.set_len(before)?;
            }
            return self.write_differences(&from, &to, size, cancel);
        }
        if !is_device {
            // Old content goes, so that the source's holes are holes.
            to.set_len(0)?;
        }
        let abilities = Abilities::default();
        let mut done = 0;
        data::copy(from.as_fd(), to.as_fd(), size, &abilities, cancel, &mut |bytes| {
            done += bytes;
            self.progress.report("disk", "", done, Some(size), Unit::Bytes);
        })?;
        if !is_device && before > size {
            to.set_len(before)?;
        }
        Ok(())
    }
}

/// How much is compared at once.
const STEP_BYTES: usize = 1 << 20;

impl CopyFile {
    fn write_differences(&self, from: &File, to: &File, size: u64, cancel: &Cancel) -> io::Result<()> {
        let (mut theirs, mut ours) = (vec![0; STEP_BYTES], vec![0; STEP_BYTES]);
        let mut at = 0;
        while at < size {
            cancel.checkpoint().map_err(io::Error::other)?;
            // Where both have a hole they are the same.
            at = next_data(from, at).min(next_data(to, at)).clamp(at, size);
            let length = usize::try_from(size - at).unwrap_or(STEP_BYTES).min(STEP_BYTES);
            let (theirs, ours) = (&mut theirs[..length], &mut ours[..length]);
            from.read_exact_at(theirs, at)?;
            to.read_exact_at(ours, at)?;
            if theirs != ours {
                to.write_all_at(theirs, at)?;
            }
            at += length as u64;
            self.progress.report("disk", "", at, Some(size), Unit::Bytes);
        }
        Ok(())
    }
}

/// Where the next bytes that are no hole begin; `at` where that can't be told.
fn next_data(file: &File, at: u64) -> u64 {
    match seek(file, DataSeek::Data(at)) {
        Ok(data) => data,
        Err(Errno::NXIO) => u64::MAX,
        Err(_) => at,
    }
}
