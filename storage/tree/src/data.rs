//! The bytes of one file: shared blocks where the filesystem can, copied extents elsewhere, holes left as holes.

use larder_base::Cancel;
use rustix::fs::{FileType, SeekFrom, copy_file_range, fstat, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// What has turned out not to work between these two filesystems, so that it is tried once and not once a file.
#[derive(Debug, Default)]
pub(crate) struct Abilities {
    no_reflink: AtomicBool,
    no_range: AtomicBool,
}

const STEP_BYTES: usize = 8 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// Copies `size` bytes of `from` into the new or truncated file `to`. `wrote` is told of the bytes as they go.
pub(crate) fn copy(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    size: u64,
    abilities: &Abilities,
    cancel: &Cancel,
    wrote: &mut dyn FnMut(u64),
) -> io::Result<()> {
    if size == 0 {
        return Ok(());
    }
    if !abilities.no_reflink.load(Ordering::Relaxed) {
        match ioctl_ficlone(to, from) {
            Ok(()) => {
                wrote(size);
                return Ok(());
            }
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::NOSYS | Errno::INVAL) => {
                abilities.no_reflink.store(true, Ordering::Relaxed);
            }
            // This file can't (swap, no-COW), another may.
            Err(_) => {}
        }
    }
    copy_extents(from, to, size, abilities, cancel, wrote)
}

/// Whether two files, of about `size` bytes, hold the same bytes.
pub(crate) fn are_equal(one: &File, other: &File, size: u64) -> io::Result<bool> {
    // Most files are much smaller than the largest buffer, and one byte more tells that there are no more.
    let length = usize::try_from(size).unwrap_or(BUFFER_BYTES).saturating_add(1).min(BUFFER_BYTES);
    let (mut ours, mut theirs) = (vec![0; length], vec![0; length]);
    let mut at = 0;
    loop {
        let count = one.read_at(&mut ours, at)?;
        if count == 0 {
            return Ok(other.read_at(&mut theirs, at)? == 0);
        }
        match other.read_exact_at(&mut theirs[..count], at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            outcome => outcome?,
        }
        if ours[..count] != theirs[..count] {
            return Ok(false);
        }
        at += count as u64;
    }
}

fn copy_extents(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    size: u64,
    abilities: &Abilities,
    cancel: &Cancel,
    wrote: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let mut position = 0;
    let mut end = 0;
    while position < size {
        let start = match seek(from, SeekFrom::Data(position)) {
            Ok(start) => start,
            // Nothing but a hole to the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => position,
            Err(error) => return Err(error.into()),
        };
        if start >= size {
            break;
        }
        let stop = match seek(from, SeekFrom::Hole(start)) {
            Ok(stop) => stop.min(size),
            Err(_) => size,
        };
        wrote(start - position);
        copy_range(from, to, start, stop, abilities, cancel, wrote)?;
        position = stop;
        end = stop;
    }
    if end < size {
        wrote(size.saturating_sub(position));
        // A device has its size.
        if FileType::from_raw_mode(fstat(to)?.st_mode) == FileType::RegularFile {
            ftruncate(to, size)?;
        }
    }
    Ok(())
}

fn copy_range(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    start: u64,
    stop: u64,
    abilities: &Abilities,
    cancel: &Cancel,
    wrote: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let mut position = start;
    while position < stop && !abilities.no_range.load(Ordering::Relaxed) {
        cancel.checkpoint().map_err(io::Error::other)?;
        let length = usize::try_from(stop - position).unwrap_or(STEP_BYTES).min(STEP_BYTES);
        let (mut input, mut output) = (position, position);
        match copy_file_range(from, Some(&mut input), to, Some(&mut output), length) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                position += count as u64;
                wrote(count as u64);
            }
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::TXTBSY) => {
                abilities.no_range.store(true, Ordering::Relaxed);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut buffer = vec![0; if position < stop { BUFFER_BYTES } else { 0 }];
    while position < stop {
        cancel.checkpoint().map_err(io::Error::other)?;
        let length = usize::try_from(stop - position).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        let count = rustix::io::pread(from, &mut buffer[..length], position)?;
        if count == 0 {
            return Ok(());
        }
        let mut written = 0;
        while written < count {
            written += rustix::io::pwrite(to, &buffer[written..count], position + written as u64)?;
        }
        position += count as u64;
        wrote(count as u64);
    }
    Ok(())
}
