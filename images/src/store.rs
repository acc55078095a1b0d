//! Image files in one directory, by fingerprint: `<fingerprint>` is the whole image, or its metadata when
//! `<fingerprint>.rootfs` lies beside it. What is not complete yet is a part file (`*.part`).
//!
//! A file under its fingerprint has been hashed: [`ImageStore::publish`] is the only way there. The main file
//! is renamed last and removed first, so that an image is there exactly while its main file is.

use larder_base::fingerprint::FingerprintError;
use larder_base::progress::Unit;
use larder_base::{Cancel, Cancelled, Fingerprint, Progress};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const ROOTFS: &str = ".rootfs";
const PART: &str = ".part";
/// What a part file's origin is written in, beside it.
const ORIGIN: &str = ".part.origin";
const STAGE: &str = "verify";
const BUFFER: usize = 1 << 20;

/// An image file could not be kept, hashed or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file could not be read, written, renamed or removed.
    #[error("could not {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The files are not what they were said to be.
    #[error(
        "the files have the fingerprint {found}, not {expected}: they are damaged or were replaced, get them again"
    )]
    Mismatch {
        /// What they should be.
        expected: Fingerprint,
        /// What they are.
        found: Fingerprint,
    },
    /// A computed hash was not a fingerprint.
    #[error("the computed hash is no fingerprint")]
    Hash(#[source] FingerprintError),
    /// The work was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl From<Cancelled> for StoreError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

/// The one or two files of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFiles {
    /// The unified image, or the metadata.
    pub main: PathBuf,
    /// The root, when it is a file of its own.
    pub rootfs: Option<PathBuf>,
}

impl ImageFiles {
    /// The sizes of the files together.
    pub fn size(&self) -> Result<u64, StoreError> {
        self.paths().try_fold(0, |sum, path| {
            let stat = fs::metadata(path).map_err(failed("look at", path))?;
            Ok(sum + stat.len())
        })
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.main.as_path()).chain(self.rootfs.as_deref())
    }
}

/// The fingerprint of an image: SHA-256 of the unified file, or of the metadata file's bytes followed by the
/// root file's.
pub fn fingerprint_of(
    files: &ImageFiles,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Fingerprint, StoreError> {
    let total = files.size()?;
    let mut hash = Sha256::new();
    let mut done = 0;
    for path in files.paths() {
        hash_into(&mut hash, path, cancel, |read| {
            done += read;
            progress.report(STAGE, "", done, Some(total), Unit::Bytes);
        })?;
    }
    hex::encode(hash.finalize()).parse().map_err(StoreError::Hash)
}

/// Feeds a file to a hash, telling of each piece.
pub(crate) fn hash_into(
    hash: &mut Sha256,
    path: &Path,
    cancel: &Cancel,
    mut tell: impl FnMut(u64),
) -> Result<(), StoreError> {
    let mut file = File::open(path).map_err(failed("open", path))?;
    let mut buffer = vec![0; BUFFER];
    loop {
        cancel.checkpoint()?;
        let read = file.read(&mut buffer).map_err(failed("read", path))?;
        if read == 0 {
            return Ok(());
        }
        hash.update(&buffer[..read]);
        tell(read as u64);
    }
}

/// The directory of image files.
#[derive(Debug, Clone)]
pub struct ImageStore {
    directory: PathBuf,
}

impl ImageStore {
    /// Opens the directory, making it (0700) when it is missing.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let directory = directory.into();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(failed("make", &directory))?;
        Ok(Self { directory })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The files of an image that is here.
    pub fn files(&self, fingerprint: &Fingerprint) -> Option<ImageFiles> {
        let files = self.live(fingerprint);
        let rootfs = files.rootfs.filter(|path| path.is_file());
        files.main.is_file().then_some(ImageFiles { main: files.main, rootfs })
    }

    /// The fingerprints of all images that are here, in order.
    pub fn list(&self) -> Result<Vec<Fingerprint>, StoreError> {
        let names = self.names()?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Where the part files of a download go: always the same, so that a later run can go on with them.
    pub fn part(&self, fingerprint: &Fingerprint) -> ImageFiles {
        let part = |end: &str| self.directory.join(format!("{fingerprint}{end}{PART}"));
        ImageFiles { main: part(""), rootfs: Some(part(ROOTFS)) }
    }

    /// A new part file, for content whose fingerprint is not known yet.
    pub fn new_part(&self) -> Result<(PathBuf, File), StoreError> {
        let path = self.directory.join(format!("upload-{}{PART}", uuid::Uuid::new_v4()));
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
        Ok((path.clone(), opened.map_err(failed("make", &path))?))
    }

    /// Hashes part files, compares with what is expected, makes them durable and gives them their names.
    /// After an error nothing has a name that had none. An image that is here already stays as it is, and the
    /// part files go.
    pub fn publish(
        &self,
        parts: &ImageFiles,
        expected: Option<&Fingerprint>,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Fingerprint, StoreError> {
        let found = fingerprint_of(parts, cancel, progress)?;
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(StoreError::Mismatch { expected: expected.clone(), found });
        }
        if self.files(&found).is_some() {
            self.discard(parts)?;
            return Ok(found);
        }
        for path in parts.paths() {
            File::open(path).and_then(|file| file.sync_all()).map_err(failed("make durable", path))?;
        }
        let live = self.live(&found);
        let root = parts.rootfs.as_ref().zip(live.rootfs.as_ref());
        match (root, &live.rootfs) {
            (Some((part, name)), _) => fs::rename(part, name).map_err(failed("publish", part))?,
            // Left by a removal that did not finish: with it this image would be taken for a split one.
            (None, Some(stale)) => remove(stale)?,
            (None, None) => {}
        }
        self.sync()?;
        fs::rename(&parts.main, &live.main).map_err(failed("publish", &parts.main))?;
        self.sync()?;
        self.discard(parts)?;
        Ok(found)
    }

    /// Removes part files and what belongs to them; fine when they are gone.
    pub fn discard(&self, parts: &ImageFiles) -> Result<(), StoreError> {
        for path in parts.paths() {
            remove(path)?;
            remove(&origin_of(path))?;
        }
        Ok(())
    }

    /// Removes an image; fine when it is not here.
    pub fn remove(&self, fingerprint: &Fingerprint) -> Result<(), StoreError> {
        let files = self.live(fingerprint);
        for path in files.paths() {
            remove(path)?;
        }
        self.sync()
    }

    /// Removes part files that nobody has written to for `age`, and roots whose main file is gone. Tells which.
    pub fn sweep(&self, age: Duration, now: SystemTime) -> Result<Vec<PathBuf>, StoreError> {
        let mut swept = Vec::new();
        for name in self.names()? {
            let path = self.directory.join(&name);
            let is_part = name.ends_with(PART) || name.ends_with(ORIGIN);
            let main = name.strip_suffix(ROOTFS).and_then(|main| main.parse::<Fingerprint>().ok());
            let is_orphan = main.is_some_and(|main| !self.live(&main).main.exists());
            if !is_part && !is_orphan {
                continue;
            }
            let Ok(written) = fs::metadata(&path).and_then(|stat| stat.modified()) else { continue };
            if now.duration_since(written).is_ok_and(|idle| idle >= age) {
                remove(&path)?;
                swept.push(path);
            }
        }
        Ok(swept)
    }

    fn live(&self, fingerprint: &Fingerprint) -> ImageFiles {
        let main = self.directory.join(fingerprint.as_str());
        ImageFiles { main, rootfs: Some(self.directory.join(format!("{fingerprint}{ROOTFS}"))) }
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        let entries = fs::read_dir(&self.directory).map_err(failed("list", &self.directory))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("list", &self.directory))?;
            names.extend(entry.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn sync(&self) -> Result<(), StoreError> {
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(failed("make durable", &self.directory))
    }
}

/// Where it is written which version of a remote file a part file came from.
pub(crate) fn origin_of(part: &Path) -> PathBuf {
    let name = part.file_name().unwrap_or_default().to_string_lossy();
    part.with_file_name(format!("{}{ORIGIN}", name.trim_end_matches(PART)))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::File { what, path, source }
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, ImageStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path().join("images")).unwrap();
        (folder, store)
    }

    fn sha256(bytes: &[u8]) -> Fingerprint {
        hex::encode(Sha256::digest(bytes)).parse().unwrap()
    }

    fn publish(
        store: &ImageStore,
        parts: &ImageFiles,
        expected: Option<&Fingerprint>,
    ) -> Result<Fingerprint, StoreError> {
        store.publish(parts, expected, &Cancel::never(), &Progress::silent())
    }

    fn upload(store: &ImageStore, bytes: &[u8]) -> PathBuf {
        let (path, _) = store.new_part().unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn a_split_image_is_hashed_over_both_files_in_order() {
        let (_folder, store) = store();
        let parts = ImageFiles { main: upload(&store, b"meta"), rootfs: Some(upload(&store, b"root")) };
        let fingerprint = publish(&store, &parts, Some(&sha256(b"metaroot"))).unwrap();
        let files = store.files(&fingerprint).unwrap();
        assert_eq!(fs::read(files.main).unwrap(), b"meta");
        assert_eq!(fs::read(files.rootfs.unwrap()).unwrap(), b"root");
        assert_eq!(store.list().unwrap(), std::slice::from_ref(&fingerprint));
        store.remove(&fingerprint).unwrap();
        store.remove(&fingerprint).unwrap();
        assert_eq!(fs::read_dir(store.directory()).unwrap().count(), 0);
    }

    #[test]
    fn a_wrong_hash_publishes_nothing() {
        let (_folder, store) = store();
        let parts = ImageFiles { main: upload(&store, b"one"), rootfs: None };
        let error = publish(&store, &parts, Some(&sha256(b"two"))).unwrap_err();
        assert!(matches!(error, StoreError::Mismatch { .. }));
        assert!(store.list().unwrap().is_empty());
    }

    #[test]
    fn an_image_that_is_here_stays_and_the_parts_go() {
        let (_folder, store) = store();
        for _ in 0..2 {
            publish(&store, &ImageFiles { main: upload(&store, b"one"), rootfs: None }, None).unwrap();
        }
        assert_eq!(fs::read_dir(store.directory()).unwrap().count(), 1);
    }

    #[test]
    fn a_stale_root_does_not_turn_a_unified_image_into_a_split_one() {
        let (_folder, store) = store();
        fs::write(store.directory().join(format!("{}.rootfs", sha256(b"one"))), "stale").unwrap();
        let files = ImageFiles { main: upload(&store, b"one"), rootfs: None };
        let fingerprint = publish(&store, &files, None).unwrap();
        assert_eq!(store.files(&fingerprint).unwrap().rootfs, None);
    }

    #[test]
    fn only_old_leftovers_are_swept() {
        let (_folder, store) = store();
        let published =
            publish(&store, &ImageFiles { main: upload(&store, b"one"), rootfs: None }, None).unwrap();
        let part = upload(&store, b"two");
        fs::write(origin_of(&part), "x").unwrap();
        fs::write(store.directory().join(format!("{}.rootfs", "0".repeat(64))), "orphan").unwrap();
        let (age, now) = (Duration::from_secs(3600), SystemTime::now());
        assert!(store.sweep(age, now).unwrap().is_empty());
        assert_eq!(store.sweep(age, now + age * 2).unwrap().len(), 3);
        assert_eq!(store.list().unwrap(), [published]);
    }

    #[test]
    fn cancel_stops_hashing() {
        let (_folder, store) = store();
        let cancel = Cancel::new();
        cancel.cancel();
        let parts = ImageFiles { main: upload(&store, b"one"), rootfs: None };
        let result = store.publish(&parts, None, &cancel, &Progress::silent());
        assert!(matches!(result, Err(StoreError::Cancelled)));
    }
}
