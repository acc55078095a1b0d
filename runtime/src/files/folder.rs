//! Reading a folder piece by piece, however large it is.

use super::resolve::reopened;
use super::{Entry, EntryKind, FileRoot, FilesError, failed, other_kind};
use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::io::Errno;

/// A folder that is being read.
#[derive(Debug)]
pub struct Folder {
    path: String,
    dir: Dir,
}

impl FileRoot {
    /// Opens a folder to be read. A link is followed, inside the root.
    pub fn open_folder(&self, path: &str) -> Result<Folder, FilesError> {
        let found = self.find(path, true)?;
        let kind = self.describe(&found, path)?.kind;
        if kind != EntryKind::Directory {
            return Err(other_kind(path, &kind, "directory"));
        }
        let opened = reopened(&found, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", path))?;
        let dir = Dir::new(opened).map_err(|error| failed("read", path)(error.into()))?;
        Ok(Folder { path: path.to_owned(), dir })
    }

    /// What an open folder is.
    pub fn entry_of_folder(&self, folder: &Folder) -> Result<Entry, FilesError> {
        let held = folder.dir.fd().map_err(|error| failed("look at", &folder.path)(error.into()))?;
        self.describe(&held, &folder.path)
    }

    /// The next entries of a folder, at most `limit`, with their names; none at its end. Links are not followed.
    pub fn next_entries(
        &self,
        folder: &mut Folder,
        limit: usize,
    ) -> Result<Vec<(String, Entry)>, FilesError> {
        let broken = |path: &str, error: Errno| failed("read", path)(error.into());
        let mut entries = Vec::new();
        while entries.len() < limit {
            let Some(next) = folder.dir.read() else { break };
            let next = next.map_err(|error| broken(&folder.path, error))?;
            let name = next.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let inside = folder.dir.fd().map_err(|error| broken(&folder.path, error))?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let held = match openat(inside, name, flags, Mode::empty()) {
                Err(Errno::NOENT) => continue, // Removed meanwhile.
                other => other.map_err(|error| broken(&folder.path, error))?,
            };
            let name = name.to_string_lossy().into_owned();
            let entry = self.describe(&held, &name)?;
            entries.push((name, entry));
        }
        Ok(entries)
    }
}
