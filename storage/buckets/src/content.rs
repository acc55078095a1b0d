//! Reading the bytes of a version.

use crate::epoch::Pin;
use crate::layout::Layout;
use crate::readers::Readers;
use crate::record::{Home, Part};
use crate::{BucketError, Result};
use rusqlite::OptionalExtension;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// The bytes of a version. They stay readable while this exists, whatever happens to the version.
#[derive(Debug)]
pub struct Content {
    layout: Layout,
    readers: Arc<Readers>,
    parts: Vec<Part>,
    /// Where each part begins, and the end of the last.
    starts: Vec<u64>,
    open: Option<(usize, Blob)>,
    _pin: Pin,
}

#[derive(Debug)]
enum Blob {
    File(File),
    Memory(Vec<u8>),
}

impl Content {
    pub(crate) fn new(layout: Layout, readers: Arc<Readers>, parts: Vec<Part>, pin: Pin) -> Self {
        let mut starts = vec![0];
        let mut end = 0;
        for part in &parts {
            end += part.size;
            starts.push(end);
        }
        Self { layout, readers, parts, starts, open: None, _pin: pin }
    }

    pub(crate) fn with_small(mut self, bytes: Vec<u8>) -> Self {
        self.open = Some((0, Blob::Memory(bytes)));
        self
    }

    /// All bytes.
    pub fn size(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The parts, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Up to `most` bytes from `offset`, and the part they are of, which they don't go beyond; empty at the end.
    pub fn read(&mut self, offset: u64, most: usize) -> Result<(usize, Vec<u8>)> {
        let index = self.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        let Some(part) = self.parts.get(index) else { return Ok((index, Vec::new())) };
        let within = offset - self.starts[index];
        let left = usize::try_from(part.size - within).unwrap_or(usize::MAX);
        let length = most.min(left);
        let damaged = || BucketError::Damaged { what: format!("blob {}", part.id) };
        let blob = match &mut self.open {
            Some((open, blob)) if *open == index => blob,
            slot => &mut slot.insert((index, open(&self.layout, &self.readers, part)?)).1,
        };
        match blob {
            Blob::Memory(bytes) => {
                let start = usize::try_from(within).unwrap_or(usize::MAX);
                let end = start.checked_add(length).ok_or_else(damaged)?;
                Ok((index, bytes.get(start..end).ok_or_else(damaged)?.to_vec()))
            }
            Blob::File(file) => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, within)
                    .map_err(BucketError::file(&self.layout.blob(&part.id)))?;
                Ok((index, bytes))
            }
        }
    }
}

fn open(layout: &Layout, readers: &Readers, part: &Part) -> Result<Blob> {
    match part.home {
        Home::File => {
            let mut file = layout.open_blob(&part.id)?;
            let path = layout.blob(&part.id);
            let size = file.seek(SeekFrom::End(0)).map_err(BucketError::file(&path))?;
            match size >= part.size {
                true => Ok(Blob::File(file)),
                false => Err(BucketError::Damaged { what: path.display().to_string() }),
            }
        }
        Home::Small => Ok(Blob::Memory(small(readers, &part.id)?)),
    }
}

/// The bytes of a small blob.
pub(crate) fn small(readers: &Readers, id: &str) -> Result<Vec<u8>> {
    let found = readers.read(|connection| {
        let mut statement = connection.prepare_cached("SELECT bytes FROM small.blobs WHERE id = ?1")?;
        Ok(statement.query_row([id], |row| row.get(0)).optional()?)
    })?;
    found.ok_or_else(|| BucketError::Damaged { what: format!("small blob {id}: it is missing") })
}
