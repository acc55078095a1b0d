//! Where things lie in a bucket's directory, and how they are made durable.
//!
//! ```text
//! index.db        the index: what exists under which key
//! index.db.new    one that is being rebuilt; it gets its place when it is whole
//! index.db.old    the one before the last rebuild
//! small.db        small objects, delete markers and manifests, each with its header; changed headers of files
//! settings.json   a copy of the bucket's settings, for rebuilding the index
//! staging/<id>    written, not yet known to be in the index
//! data/<xx>/<id>  objects and parts, which never change; <xx> are the first two digits of the id
//! ```
//!
//! A file is complete and on stable storage in `staging/` before the index names it, and is moved to `data/` afterwards.
//! The move needs no sync: whoever opens the bucket next finds the file in either place and finishes the move.

use crate::{BucketError, Result};
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The paths of a bucket.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index.db")
    }

    pub(crate) fn new_index(&self) -> PathBuf {
        self.root.join("index.db.new")
    }

    pub(crate) fn old_index(&self) -> PathBuf {
        self.root.join("index.db.old")
    }

    pub(crate) fn small(&self) -> PathBuf {
        self.root.join("small.db")
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.root.join("settings.json")
    }

    pub(crate) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    pub(crate) fn staged(&self, id: &str) -> PathBuf {
        self.staging().join(id)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(crate) fn blob(&self, id: &str) -> PathBuf {
        self.data().join(id.get(..2).unwrap_or("00")).join(id)
    }

    /// Makes the folders that are missing.
    pub(crate) fn create(&self) -> Result<()> {
        for folder in [self.staging(), self.data()] {
            create_folder(&folder)?;
        }
        sync_folder(&self.root)
    }

    /// Whether there are objects, or were: then there must be an index too.
    pub(crate) fn is_in_use(&self) -> Result<bool> {
        let (small, data) = (self.small(), self.data());
        if small.try_exists().map_err(BucketError::file(&small))? {
            return Ok(true);
        }
        Ok(fs::read_dir(&data).map_err(BucketError::file(&data))?.next().is_some())
    }

    /// Removes what a rebuild has left that did not come to its end.
    pub(crate) fn remove_new_index(&self) -> Result<()> {
        let index = self.new_index();
        remove_if_there(&index)?;
        remove_journal(&index)
    }

    /// Puts the new index, which must be whole and on stable storage, in the place of the old one, which is kept beside it. In
    /// between there is none, so that nobody takes a part of one for the whole.
    pub(crate) fn replace_index(&self) -> Result<()> {
        let (index, fresh, old) = (self.index(), self.new_index(), self.old_index());
        match fs::rename(&index, &old) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(BucketError::file(&index)(error));
            }
            _ => sync_folder(&self.root)?,
        }
        // What is left of the old one's journal would be read as the new one's.
        remove_journal(&index)?;
        sync_folder(&self.root)?;
        fs::rename(&fresh, &index).map_err(BucketError::file(&fresh))?;
        sync_folder(&self.root)
    }

    /// Moves a file that the index names to its place.
    pub(crate) fn settle(&self, id: &str) -> Result<()> {
        let (from, to) = (self.staged(id), self.blob(id));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() == ErrorKind::NotFound && from.exists() => {
                create_folder(to.parent().unwrap_or(&self.root))?;
                fs::rename(&from, &to).map_err(BucketError::file(&from))
            }
            other => other.map_err(BucketError::file(&from)),
        }
    }

    /// Opens a blob's file, wherever it is.
    pub(crate) fn open_blob(&self, id: &str) -> Result<File> {
        let path = self.blob(id);
        match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // It may be on its way from staging: look there, then here again.
                File::open(self.staged(id)).or_else(|_| File::open(&path)).map_err(BucketError::file(&path))
            }
            other => other.map_err(BucketError::file(&path)),
        }
    }

    /// Removes a blob's file, wherever it is. One that is gone already is fine.
    pub(crate) fn remove_blob(&self, id: &str) -> Result<()> {
        remove_if_there(&self.blob(id))?;
        remove_if_there(&self.staged(id))
    }

    /// Replaces the settings' copy, durably.
    pub(crate) fn write_settings(&self, text: &str) -> Result<()> {
        let path = self.settings();
        let fresh = self.root.join("settings.json.new");
        let write = || {
            let mut file = File::create(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &path)
        };
        write().map_err(BucketError::file(&path))?;
        sync_folder(&self.root)
    }
}

fn create_folder(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(BucketError::file(path)(error)),
        _ => Ok(()),
    }
}

/// Removes what SQLite keeps beside a database.
fn remove_journal(database: &Path) -> Result<()> {
    for suffix in ["-wal", "-shm"] {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        remove_if_there(Path::new(&name))?;
    }
    Ok(())
}

pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(BucketError::file(path)(error)),
        _ => Ok(()),
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(BucketError::file(path))
}
