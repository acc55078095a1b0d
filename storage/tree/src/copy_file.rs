//! A disk into a disk: a raw file or a block device into another.

use crate::data::{self, Abilities};
use larder_base::host::Act;
use larder_base::{Cancel, Progress, Unit};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

/// Copies a disk's content. The target is there already and at least as large; a file is cut to the source's size, on a
/// device what lies beyond is left.
#[derive(Debug, Clone)]
pub struct CopyFile {
    /// The disk to read.
    pub from: PathBuf,
    /// The disk to overwrite.
    pub to: PathBuf,
    /// Where to report, as stage `disk` in bytes.
    pub progress: Progress,
}

impl Act for CopyFile {
    fn describe(&self) -> String {
        format!("copy the disk {} to {}", self.from.display(), self.to.display())
    }

    fn apply(&self, cancel: &Cancel) -> io::Result<()> {
        let mut from = File::open(&self.from)?;
        let to = OpenOptions::new().write(true).open(&self.to)?;
        let size = from.seek(SeekFrom::End(0))?;
        let is_device = to.metadata()?.file_type().is_block_device();
        let before = to.metadata()?.len();
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
