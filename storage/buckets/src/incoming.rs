//! Bytes on their way in: in memory while they are few, then in a file in staging.

use crate::header::Header;
use crate::layout::{Layout, remove_if_there};
use crate::record::{Home, Part};
use crate::room::Reservation;
use crate::{BucketError, Result};
use md5::{Digest, Md5};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

/// Objects up to this size lie in the store of small objects: one that is put costs no sync of its own file and folder,
/// and shares the two commits of its group.
pub const SMALL: usize = 16 * 1024;

/// A blob that is being received. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Incoming {
    layout: Layout,
    id: String,
    memory: Vec<u8>,
    file: Option<File>,
    size: u64,
    hash: Md5,
    /// Taken by [`Incoming::finish`].
    reservation: Option<Reservation>,
}

impl Incoming {
    pub(crate) fn new(layout: Layout, reservation: Reservation) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let reservation = Some(reservation);
        Self { layout, id, memory: Vec::new(), file: None, size: 0, hash: Md5::new(), reservation }
    }

    /// The blob's id, which nothing else ever has.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How many bytes came so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether a write of this many more bytes stays in memory and so doesn't block.
    pub fn stays_in_memory(&self, more: usize) -> bool {
        self.file.is_none() && self.memory.len() + more <= SMALL
    }

    /// Takes the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        if let Some(reservation) = &mut self.reservation {
            reservation.grow_to(self.size);
        }
        if self.stays_in_memory(bytes.len()) {
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        let path = self.layout.staged(&self.id);
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                let file = options.write(true).create_new(true).mode(0o600).open(&path);
                self.file.insert(file.map_err(BucketError::file(&path))?)
            }
        };
        let earlier = std::mem::take(&mut self.memory);
        file.write_all(&earlier).and_then(|()| file.write_all(bytes)).map_err(BucketError::file(&path))
    }

    /// Ends the bytes.
    pub fn finish(mut self) -> Staged {
        let home = if self.file.is_some() { Home::File } else { Home::Small };
        let md5 = hexadecimal(&std::mem::take(&mut self.hash).finalize());
        let part = Part { number: 1, id: self.id.clone(), home, size: self.size, md5, checksum: None };
        Staged {
            part,
            bytes: std::mem::take(&mut self.memory),
            file: self.file.take(),
            layout: self.layout.clone(),
            _reservation: self.reservation.take(),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = remove_if_there(&self.layout.staged(&self.id));
        }
    }
}

/// A blob that is complete and not yet part of anything. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Staged {
    part: Part,
    bytes: Vec<u8>,
    file: Option<File>,
    layout: Layout,
    /// Held until the index counts the bytes.
    _reservation: Option<Reservation>,
}

impl Staged {
    /// What came.
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// Writes the header behind the bytes and makes the file durable. The caller's thread pays for it, not the writer's.
    pub(crate) fn seal(&mut self, header: &Header) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let trailer = header.to_trailer()?;
        let path = self.layout.staged(&self.part.id);
        file.write_all(&trailer).and_then(|()| file.sync_data()).map_err(BucketError::file(&path))
    }

    /// The bytes of a small blob; empty for one in a file.
    pub(crate) fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// The index knows the blob now.
    pub(crate) fn keep(mut self) {
        self.file = None;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = remove_if_there(&self.layout.staged(&self.part.id));
        }
    }
}

/// Spells bytes in hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 0xf)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}
