//! Looking into an uploaded tar before anything is made of it: all of it, once, within bounds.

use super::MANIFEST;
use super::objects::OBJECTS;
use crate::service::{Result, ServiceError, Task};
use larder_base::progress::Unit;
use larder_base::{Cancel, Progress};
use larder_images::{Format, archive};
use larder_storage_driver::StorageError;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

const MANIFEST_BYTES: u64 = 1 << 20;
/// How many members may stand before the manifest; the peers write it first.
const BEFORE_MANIFEST: usize = 16;
/// What may follow the end of a tar: the rest of its last record, with room to spare.
const PADDING_BYTES: u64 = 1 << 20;
const BLOCK: u64 = 512;
const STAGE: &str = "check_backup";
/// How many bytes go by from one report to the next.
const REPORTED: u64 = 1 << 20;

/// The manifest's text, if it stands at the beginning. Quick: nothing after it is read.
pub(super) fn read_manifest(file: &Path) -> Result<String> {
    let text = with_member(file, BEFORE_MANIFEST, MANIFEST, &Cancel::never(), |size, data| {
        if size > MANIFEST_BYTES {
            let message =
                format!("the backup's {MANIFEST} is too large: at most {} MiB", MANIFEST_BYTES >> 20);
            return Err(ServiceError::bad(message));
        }
        let mut text = String::new();
        let read = data.read_to_string(&mut text).map_err(|error| damaged(&error))?;
        if read as u64 == size { Ok(text) } else { Err(cut_off()) }
    })?;
    let missing =
        || ServiceError::bad(format!("this is no backup: {MANIFEST} does not stand at its beginning"));
    text.ok_or_else(missing)
}

/// Looks for a plain file among the first `limit` members of a tar and reads from it.
pub(super) fn with_member<T>(
    file: &Path,
    limit: usize,
    name: &str,
    cancel: &Cancel,
    read: impl FnOnce(u64, &mut dyn Read) -> Result<T>,
) -> Result<Option<T>> {
    let mut tar = tar::Archive::new(Watched::open(file, cancel, Progress::silent())?);
    for entry in tar.entries().map_err(|error| damaged(&error))?.take(limit) {
        let mut entry = entry.map_err(|error| damaged(&error))?;
        let path = entry.path_bytes().into_owned();
        if plain(&path) == name.as_bytes() && entry.header().entry_type().is_file() {
            let size = entry.size();
            return read(size, &mut entry).map(Some);
        }
    }
    Ok(None)
}

/// What stands in a tar.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Bytes of the unpacked stream.
    pub(super) bytes: u64,
    /// How many members there are.
    pub(super) members: u64,
    /// Bytes of the files below the folders that are wanted.
    pub(super) file_bytes: u64,
    /// Bytes of the largest object that is wanted.
    pub(super) largest_object: u64,
    /// The disks that are wanted and there, with their sizes.
    pub(super) disks: BTreeMap<String, u64>,
}

/// What a volume is made of: everything below these folders, or these disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Folders(Vec<String>),
    Disks(Vec<String>),
    /// The objects of a bucket, whose names lead nowhere whatever they are.
    Objects,
}

/// Reads a whole backup without unpacking anything. Fails when it is damaged or cut off, has another manifest,
/// a name that leads outside, more than `room` bytes of files, or lacks something that is wanted.
pub(super) fn survey(file: &Path, wanted: &Wanted, room: u64, task: &Task) -> Result<Survey> {
    let looked = look(file, wanted, room, task);
    // Whatever reading then said is only a consequence.
    task.cancel.checkpoint().map_err(StorageError::from)?;
    looked
}

fn look(file: &Path, wanted: &Wanted, room: u64, task: &Task) -> Result<Survey> {
    let mut tar = tar::Archive::new(Watched::open(file, &task.cancel, task.progress.clone())?);
    let mut looked = Look { wanted, room, found: Survey::default(), manifests: 0, folders: Vec::new() };
    let mut end = 0;
    for entry in tar.entries().map_err(|error| damaged(&error))? {
        let entry = entry.map_err(|error| damaged(&error))?;
        let stored = entry.header().entry_size().map_err(|error| damaged(&error))?;
        end = entry.raw_file_position().saturating_add(stored.div_ceil(BLOCK).saturating_mul(BLOCK));
        looked.at(&entry.path_bytes(), entry.header().entry_type(), entry.size())?;
    }
    let mut stream = tar.into_inner();
    // A tar ends with blocks of zeros; one that was cut off between two members just ends.
    if stream.count < end.saturating_add(BLOCK) {
        return Err(cut_off());
    }
    // To the end of the packed stream: there is its checksum.
    let rest = io::copy(&mut stream.by_ref().take(PADDING_BYTES + 1), &mut io::sink());
    if rest.map_err(|error| damaged(&error))? > PADDING_BYTES {
        return Err(ServiceError::bad("the backup is damaged: something follows its end"));
    }
    looked.found.bytes = stream.count;
    looked.judged()
}

struct Look<'a> {
    wanted: &'a Wanted,
    room: u64,
    found: Survey,
    manifests: usize,
    folders: Vec<bool>,
}

impl Look<'_> {
    fn at(&mut self, path: &[u8], kind: tar::EntryType, size: u64) -> Result<()> {
        let name = plain(path);
        let is_object = *self.wanted == Wanted::Objects && path.starts_with(OBJECTS.as_bytes());
        if is_object {
            return self.object(kind, size);
        }
        if path.starts_with(b"/") || name.split(|byte| *byte == b'/').any(|part| part == b"..") {
            let shown = String::from_utf8_lossy(path);
            return Err(ServiceError::bad(format!("the backup has a name that leads outside: {shown:?}")));
        }
        self.found.members += 1;
        if name == MANIFEST.as_bytes() {
            self.manifests += 1;
        }
        match self.wanted {
            Wanted::Objects => Ok(()),
            Wanted::Folders(folders) => self.below(folders, name, kind, size),
            Wanted::Disks(disks) => {
                if let Some(disk) = disks.iter().find(|disk| disk.as_bytes() == name) {
                    let is_second = self.found.disks.insert(disk.clone(), size).is_some();
                    if is_second || !kind.is_file() {
                        return Err(ServiceError::bad(format!("the backup's {disk} is not one plain file")));
                    }
                }
                Ok(())
            }
        }
    }

    fn object(&mut self, kind: tar::EntryType, size: u64) -> Result<()> {
        if !kind.is_file() && !kind.is_dir() {
            return Err(ServiceError::bad("the backup has an object that is no plain file"));
        }
        self.found.members += 1;
        self.found.largest_object = self.found.largest_object.max(size);
        self.found.file_bytes = self.found.file_bytes.saturating_add(size);
        self.fits()
    }

    fn fits(&self) -> Result<()> {
        match self.found.file_bytes > self.room {
            true => Err(ServiceError::bad(format!(
                "the backup's files are too large: they have room for {} bytes",
                self.room
            ))),
            false => Ok(()),
        }
    }

    fn below(&mut self, folders: &[String], name: &[u8], kind: tar::EntryType, size: u64) -> Result<()> {
        self.folders.resize(folders.len(), false);
        for (folder, seen) in folders.iter().zip(&mut self.folders) {
            let Some(rest) = name.strip_prefix(folder.as_bytes()) else { continue };
            match rest.first() {
                None if !kind.is_dir() => {
                    return Err(ServiceError::bad(format!("the backup's {folder} is no folder")));
                }
                None => *seen = true,
                Some(b'/') => {
                    *seen = true;
                    self.found.file_bytes = self.found.file_bytes.saturating_add(size);
                }
                Some(_) => {}
            }
        }
        self.fits()
    }

    fn judged(self) -> Result<Survey> {
        if self.manifests != 1 {
            let message = format!("the backup has {} members {MANIFEST}: there must be one", self.manifests);
            return Err(ServiceError::bad(message));
        }
        let missing = match self.wanted {
            Wanted::Folders(folders) => {
                let seen = |number: usize| self.folders.get(number).copied().unwrap_or(false);
                folders.iter().enumerate().find(|(number, _)| !seen(*number)).map(|(_, folder)| folder)
            }
            Wanted::Objects => None,
            Wanted::Disks(disks) => disks.iter().find(|disk| !self.found.disks.contains_key(*disk)),
        };
        match missing {
            Some(name) => Err(ServiceError::bad(format!("the backup has no {name}"))),
            None => Ok(self.found),
        }
    }
}

/// A member's name without a `./` before it or a `/` after it.
fn plain(path: &[u8]) -> &[u8] {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    path.strip_suffix(b"/").unwrap_or(path)
}

/// The stream inside a packed tar, which ends when the work is cancelled.
pub(super) fn open(file: &Path, cancel: &Cancel) -> Result<impl Read + use<>> {
    Watched::open(file, cancel, Progress::silent())
}

/// The stream inside a packed tar: counted, reported, and ending when the work is cancelled.
struct Watched {
    stream: Box<dyn Read + Send>,
    /// The same open file: its position tells how much of it was read.
    packed: File,
    size: u64,
    count: u64,
    cancel: Cancel,
    progress: Progress,
}

impl Watched {
    fn open(path: &Path, cancel: &Cancel, progress: Progress) -> Result<Self> {
        let mut file = File::open(path)?;
        let format = Format::of_file(&mut file)?.filter(|format| *format != Format::Squashfs);
        let format =
            format.ok_or_else(|| ServiceError::bad("this is no backup: it is no tar file, packed or not"))?;
        let (packed, size) = (file.try_clone()?, file.metadata()?.len());
        let stream = archive::unpacked(file, format).map_err(|error| damaged(&error))?;
        Ok(Self { stream, packed, size, count: 0, cancel: cancel.clone(), progress })
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.checkpoint().map_err(io::Error::other)?;
        let read = self.stream.read(buffer)?;
        let before = self.count;
        self.count += read as u64;
        if before / REPORTED != self.count / REPORTED {
            self.progress.report(STAGE, "", self.packed.stream_position()?, Some(self.size), Unit::Bytes);
        }
        Ok(read)
    }
}

fn cut_off() -> ServiceError {
    damaged(&io::ErrorKind::UnexpectedEof.into())
}

pub(super) fn damaged(error: &io::Error) -> ServiceError {
    ServiceError::bad(format!("the backup is damaged or cut off: {error}"))
}
