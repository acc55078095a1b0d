//! The disk below the driver: what outlives it.

use larder_base::host::Act;
use larder_base::{ByteSize, Cancel};
use larder_storage_driver::{CloneKind, Place, Quota, Restore, Shrink, SnapshotKind, VolumeId};
use larder_storage_tree::{CopyMode, CopyTree};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// Which technology the driver plays.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How snapshots are made.
    pub snapshot: SnapshotKind,
    /// How clones are made.
    pub clone: CloneKind,
    /// How snapshots are restored.
    pub restore: Restore,
    /// How sizes are enforced: only told, never done.
    pub quota: Quota,
    /// Whether disks shrink.
    pub shrink: Shrink,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            snapshot: SnapshotKind::Native,
            clone: CloneKind::Independent,
            restore: Restore::Exchange,
            quota: Quota::Native,
            shrink: Shrink::No,
        }
    }
}

/// One of the things that a volume is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Filesystem,
    Disk,
}

/// The parts of a volume, the main part last.
pub(super) fn parts_of(volume: &VolumeId) -> &'static [Part] {
    match (volume.has_filesystem(), volume.has_disk()) {
        (true, true) => &[Part::Filesystem, Part::Disk],
        (_, true) => &[Part::Disk],
        (_, false) => &[Part::Filesystem],
    }
}

/// A part of a volume or snapshot in its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    at: Place,
    part: Part,
}

impl Key {
    pub(super) fn new(at: &Place, part: impl std::borrow::Borrow<Part>) -> Self {
        Self { at: at.clone(), part: *part.borrow() }
    }

    pub(super) fn main(at: &Place) -> Self {
        Self::new(at, if at.volume.has_disk() { Part::Disk } else { Part::Filesystem })
    }

    /// The same part when its volume (or it, as a snapshot) is moved `to`.
    pub(super) fn moved(&self, to: &Place) -> Self {
        let snapshot = to.snapshot.clone().or_else(|| self.at.snapshot.clone());
        Self { at: Place { snapshot, ..to.clone() }, part: self.part }
    }
}

#[derive(Debug, Clone)]
struct Blob {
    path: PathBuf,
    size: Option<ByteSize>,
}

#[derive(Debug, Default)]
struct Content {
    is_formatted: bool,
    blobs: BTreeMap<Key, Blob>,
}

/// What outlives a driver.
#[derive(Debug)]
pub struct Disk {
    options: Options,
    folder: PathBuf,
    content: Mutex<Content>,
}

/// One change of a disk.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Format,
    Wipe,
    Create { key: Key, size: Option<ByteSize> },
    Copy { from: Key, to: Key },
    Move { from: Key, to: Key },
    Swap { one: Key, other: Key },
    Resize { key: Key, size: Option<ByteSize> },
    Remove { key: Key },
}

/// A change as a step for a host.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) disk: Arc<Disk>,
    pub(super) change: Change,
}

impl Disk {
    /// An empty disk that keeps contents below `folder`, which only its owner can enter.
    pub fn new(folder: &Path, options: Options) -> io::Result<Arc<Self>> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Arc::new(Self { options, folder: folder.to_owned(), content: Mutex::default() }))
    }

    /// Which technology it plays.
    pub fn options(&self) -> Options {
        self.options
    }

    /// The folder of the contents.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn is_formatted(&self) -> bool {
        self.content.lock().is_formatted
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.content.lock().blobs.contains_key(key)
    }

    pub(super) fn path(&self, key: &Key) -> Option<PathBuf> {
        self.content.lock().blobs.get(key).map(|blob| blob.path.clone())
    }

    pub(super) fn size(&self, key: &Key) -> Option<ByteSize> {
        self.content.lock().blobs.get(key).and_then(|blob| blob.size)
    }

    pub(super) fn used(&self) -> u64 {
        self.content.lock().blobs.values().filter_map(|blob| blob.size).map(ByteSize::as_bytes).sum()
    }

    /// Places whose main part is there.
    pub(super) fn places(&self) -> Vec<Place> {
        let content = self.content.lock();
        content.blobs.keys().filter(|key| Key::main(&key.at) == **key).map(|key| key.at.clone()).collect()
    }

    /// All parts at a place: of a volume with its snapshots, or of one snapshot.
    pub(super) fn keys_at(&self, at: &Place) -> Vec<Key> {
        let content = self.content.lock();
        let belongs = |key: &&Key| key.at == *at || (at.snapshot.is_none() && key.at.main() == *at);
        content.blobs.keys().filter(belongs).cloned().collect()
    }

    fn new_blob(&self, part: Part, size: Option<ByteSize>) -> io::Result<Blob> {
        let path = self.folder.join(Uuid::new_v4().simple().to_string());
        match part {
            Part::Filesystem => fs::create_dir(&path)?,
            Part::Disk => fs::File::create(&path)?.set_len(size.unwrap_or_default().as_bytes())?,
        }
        Ok(Blob { path, size })
    }

    fn remove_blob(blob: &Blob) -> io::Result<()> {
        if blob.path.is_dir() { fs::remove_dir_all(&blob.path) } else { fs::remove_file(&blob.path) }
    }

    fn apply(&self, change: &Change, cancel: &Cancel) -> io::Result<()> {
        let mut content = self.content.lock();
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        match change {
            Change::Format => content.is_formatted = true,
            Change::Wipe => {
                for blob in std::mem::take(&mut content.blobs).into_values() {
                    Self::remove_blob(&blob)?;
                }
                content.is_formatted = false;
            }
            Change::Create { key, size } => {
                if content.blobs.contains_key(key) {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                let blob = self.new_blob(key.part, *size)?;
                content.blobs.insert(key.clone(), blob);
            }
            Change::Copy { from, to } => {
                let source = content.blobs.get(from).cloned().ok_or_else(missing)?;
                let blob = self.new_blob(from.part, source.size)?;
                match from.part {
                    Part::Filesystem => copy_tree(&source.path, &blob.path, cancel)?,
                    Part::Disk => drop(fs::copy(&source.path, &blob.path)?),
                }
                if let Some(old) = content.blobs.insert(to.clone(), blob) {
                    Self::remove_blob(&old)?;
                }
            }
            Change::Move { from, to } => {
                if content.blobs.contains_key(to) {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                let blob = content.blobs.remove(from).ok_or_else(missing)?;
                content.blobs.insert(to.clone(), blob);
            }
            Change::Swap { one, other } => {
                let first = content.blobs.get(one).cloned().ok_or_else(missing)?;
                let second = content.blobs.insert(other.clone(), first).ok_or_else(missing)?;
                content.blobs.insert(one.clone(), second);
            }
            Change::Resize { key, size } => {
                let blob = content.blobs.get_mut(key).ok_or_else(missing)?;
                if let (Part::Disk, Some(size)) = (key.part, size) {
                    fs::OpenOptions::new().write(true).open(&blob.path)?.set_len(size.as_bytes())?;
                }
                blob.size = *size;
            }
            Change::Remove { key } => {
                if let Some(blob) = content.blobs.remove(key) {
                    Self::remove_blob(&blob)?;
                }
            }
        }
        Ok(())
    }
}

fn copy_tree(from: &Path, to: &Path, cancel: &Cancel) -> io::Result<()> {
    CopyTree::new(from, to, CopyMode::Fresh).apply(cancel)
}

impl Act for Step {
    fn describe(&self) -> String {
        let at = |key: &Key| format!("{:?} of {}", key.part, key.at);
        match &self.change {
            Change::Format => "format the memory".to_owned(),
            Change::Wipe => "wipe the memory".to_owned(),
            Change::Create { key, .. } => format!("create {}", at(key)),
            Change::Copy { from, to } => format!("copy {} to {}", at(from), at(to)),
            Change::Move { from, to } => format!("move {} to {}", at(from), at(to)),
            Change::Swap { one, other } => format!("swap {} and {}", at(one), at(other)),
            Change::Resize { key, size } => format!("resize {} to {size:?}", at(key)),
            Change::Remove { key } => format!("remove {}", at(key)),
        }
    }

    fn apply(&self, cancel: &Cancel) -> io::Result<()> {
        self.disk.apply(&self.change, cancel)
    }
}
