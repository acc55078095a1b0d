//! Reading the bytes of a version.

use crate::epoch::{Kept, Pin};
use crate::layout::Layout;
use crate::readers::Readers;
use crate::record::{Home, Part};
use crate::{BucketError, Result};
use rusqlite::{Connection, OptionalExtension};
use rustix::io::ReadWriteFlags;
use std::fs::File;
use std::io::{IoSliceMut, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// The bytes of a version. They stay readable while this exists, whatever happens to the version.
#[derive(Debug)]
pub struct Content {
    layout: Layout,
    readers: Arc<Readers>,
    parts: Arc<[Part]>,
    /// Where each part begins, and the end of the last.
    starts: Vec<u64>,
    open: Option<(usize, Blob)>,
    /// Keeps the parts that are not open yet. One that is stays readable after its file is gone.
    _kept: Option<Kept>,
}

#[derive(Debug)]
enum Blob {
    File(Arc<File>),
    Memory(Vec<u8>),
}

impl Content {
    /// Opens the first of the parts, whose bytes may be there already; the others when they are read.
    pub(crate) fn open(
        layout: Layout,
        readers: Arc<Readers>,
        parts: Vec<Part>,
        bytes: Option<Vec<u8>>,
        pin: Pin,
    ) -> Result<Self> {
        let ends = parts.iter().scan(0, |end, part| {
            *end += part.size;
            Some(*end)
        });
        let starts = std::iter::once(0).chain(ends).collect();
        let first = match (bytes, parts.first()) {
            (Some(bytes), _) => Some(Blob::Memory(bytes)),
            (None, Some(part)) => Some(open(&layout, &readers, part)?),
            (None, None) => None,
        };
        let parts: Arc<[Part]> = parts.into();
        let kept = (parts.len() > 1).then(|| pin.only(&parts));
        Ok(Self { open: first.map(|blob| (0, blob)), layout, readers, parts, starts, _kept: kept })
    }

    /// All bytes.
    pub fn size(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The parts, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// All bytes, where they came along with the lookup; nothing is left here then.
    pub fn take_small(&mut self) -> Option<Vec<u8>> {
        match (&*self.parts, &mut self.open) {
            ([part], Some((0, Blob::Memory(bytes)))) if bytes.len() as u64 == part.size => {
                Some(std::mem::take(bytes))
            }
            _ => None,
        }
    }

    /// Up to `most` bytes from `offset`, and the part they are of, which they don't go beyond; empty at the end.
    pub fn read(&mut self, offset: u64, most: usize) -> Result<(usize, Vec<u8>)> {
        let length = self.within(offset).map_or(0, |(_, _, left)| most.min(left));
        let mut bytes = vec![0; length];
        let (index, count) = self.read_into(offset, &mut bytes)?;
        bytes.truncate(count);
        Ok((index, bytes))
    }

    /// Fills `buffer` from `offset`, as far as the part goes. Returns the part and how many bytes came; none at the end.
    pub fn read_into(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(usize, usize)> {
        let Some((index, within, left)) = self.within(offset) else { return Ok((self.parts.len(), 0)) };
        let length = buffer.len().min(left);
        let part = &self.parts[index];
        let blob = match &mut self.open {
            Some((open, blob)) if *open == index => blob,
            slot => &mut slot.insert((index, open(&self.layout, &self.readers, part)?)).1,
        };
        match blob {
            Blob::Memory(bytes) => {
                let damaged = || BucketError::Damaged { what: format!("blob {}", part.id) };
                buffer[..length].copy_from_slice(piece(bytes, within, length).ok_or_else(damaged)?);
            }
            Blob::File(file) => file
                .read_exact_at(&mut buffer[..length], within)
                .map_err(BucketError::file(&self.layout.blob(&part.id)))?,
        }
        Ok((index, length))
    }

    /// The same without waiting for a disk: `None` where that can't be, which says nothing about whether it would work.
    pub fn read_at_once(&self, offset: u64, buffer: &mut [u8]) -> Option<(usize, usize)> {
        let (index, within, left) = self.within(offset)?;
        let length = buffer.len().min(left);
        let buffer = &mut buffer[..length];
        let count = match &self.open {
            Some((open, Blob::Memory(bytes))) if *open == index => {
                buffer.copy_from_slice(piece(bytes, within, length)?);
                length
            }
            Some((open, Blob::File(file))) if *open == index => {
                let slices = &mut [IoSliceMut::new(buffer)];
                rustix::io::preadv2(file, slices, within, ReadWriteFlags::NOWAIT).ok()?
            }
            _ => return None,
        };
        (count > 0).then_some((index, count))
    }

    /// The open file that has the byte at `offset`, where in it that is, and how many follow there. None where the bytes are not
    /// in a file, or in one that is not open yet. It never changes.
    pub fn file_at(&self, offset: u64) -> Option<(&Arc<File>, u64, usize)> {
        let (index, within, left) = self.within(offset)?;
        match &self.open {
            Some((open, Blob::File(file))) if *open == index => Some((file, within, left)),
            _ => None,
        }
    }

    /// The part that has the byte at `offset`, where in it that is, and how many follow; none at the end.
    fn within(&self, offset: u64) -> Option<(usize, u64, usize)> {
        let index = self.starts.partition_point(|start| *start <= offset).checked_sub(1)?;
        let part = self.parts.get(index)?;
        let within = offset - self.starts[index];
        Some((index, within, usize::try_from(part.size - within).unwrap_or(usize::MAX)))
    }
}

fn piece(bytes: &[u8], start: u64, length: usize) -> Option<&[u8]> {
    let start = usize::try_from(start).ok()?;
    bytes.get(start..start.checked_add(length)?)
}

fn open(layout: &Layout, readers: &Readers, part: &Part) -> Result<Blob> {
    match part.home {
        Home::File => {
            let mut file = layout.open_blob(&part.id)?;
            let path = layout.blob(&part.id);
            let size = file.seek(SeekFrom::End(0)).map_err(BucketError::file(&path))?;
            match size >= part.size {
                true => Ok(Blob::File(Arc::new(file))),
                false => Err(BucketError::Damaged { what: path.display().to_string() }),
            }
        }
        Home::Small => readers.read(|connection| small(connection, part)).map(Blob::Memory),
    }
}

/// The bytes of a small object.
pub(crate) fn small(connection: &Connection, part: &Part) -> Result<Vec<u8>> {
    let mut statement = connection.prepare_cached("SELECT bytes FROM small.blobs WHERE id = ?1")?;
    let found = statement.query_row([&part.id], |row| row.get(0)).optional()?;
    found.ok_or_else(|| BucketError::Damaged { what: format!("small blob {}: it is missing", part.id) })
}
