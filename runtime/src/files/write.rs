//! Making and changing files.

use super::resolve::reopened;
use super::{Change, EntryKind, FileRoot, FilesError, failed, other_kind, refused};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Uid, chownat, fchmod, fchown, mkdirat, openat, symlinkat, unlinkat,
};
use std::fs::File;
use std::io::{self, Read};

/// Owner and permissions of a new file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NewFile {
    /// Its user id inside; 0 when absent.
    pub user: Option<u32>,
    /// Its group id inside; 0 when absent.
    pub group: Option<u32>,
    /// Its permissions; 0644 for a file and 0755 for a folder when absent.
    pub mode: Option<u32>,
}

/// Where written bytes go in a file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// In place of what it has.
    Overwrite,
    /// At its end.
    Append,
}

const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;
pub(super) const PERMISSIONS: u32 = 0o7777;

impl FileRoot {
    /// Writes a file. One that is there keeps its owner and permissions; a new one gets those of `new`, and
    /// is removed again when its content does not arrive. A link is followed, inside the root.
    pub fn write(
        &self,
        path: &str,
        new: NewFile,
        mode: WriteMode,
        content: &mut dyn Read,
    ) -> Result<(), FilesError> {
        let found = match self.find(path, true) {
            Err(FilesError::NotFound(_)) => return self.write_new(path, new, content),
            other => other?,
        };
        let kind = self.describe(&found, path)?.kind;
        if kind != EntryKind::File {
            return Err(other_kind(path, &kind, "file"));
        }
        let how = match mode {
            WriteMode::Overwrite => OFlags::TRUNC,
            WriteMode::Append => OFlags::APPEND,
        };
        let mut file = reopened(&found, OFlags::WRONLY | how).map_err(failed("open", path))?;
        io::copy(content, &mut file).map_err(failed("write", path))?;
        Ok(())
    }

    fn write_new(&self, path: &str, new: NewFile, content: &mut dyn Read) -> Result<(), FilesError> {
        self.make_file(path, new, OFlags::WRONLY, &mut |file| io::copy(content, file).map(drop)).map(drop)
    }

    /// Makes a file, fills it, and gives it owner and permissions; if that fails, it is gone again.
    pub(super) fn make_file(
        &self,
        path: &str,
        new: NewFile,
        access: OFlags,
        fill: &mut dyn FnMut(&mut File) -> io::Result<()>,
    ) -> Result<File, FilesError> {
        let (parent, name) = self.parent(path)?;
        let ids = self.ids_of(path, new)?;
        let flags = access | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&parent, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| refused("make", path, error.into()))?;
        let mut file = File::from(file);
        let mode = Mode::from_raw_mode(new.mode.unwrap_or(FILE_MODE) & PERMISSIONS);
        let written = fill(&mut file)
            .and_then(|()| Ok(fchown(&file, Some(ids.0), Some(ids.1))?))
            // After the owner: changing that takes setuid bits away.
            .and_then(|()| Ok(fchmod(&file, mode)?));
        written.map(|()| file).map_err(|source| {
            if let Err(error) = unlinkat(&parent, name, AtFlags::empty()) {
                tracing::warn!(path, %error, "a file that could not be written whole is still there");
            }
            failed("write", path)(source)
        })
    }

    /// Makes a folder; one that is there stays as it is.
    pub fn make_directory(&self, path: &str, new: NewFile) -> Result<(), FilesError> {
        if let Ok(entry) = self.entry(path) {
            return match entry.kind {
                EntryKind::Directory => Ok(()),
                _ => Err(FilesError::Exists(path.to_owned())),
            };
        }
        let (parent, name) = self.parent(path)?;
        let ids = self.ids_of(path, new)?;
        mkdirat(&parent, name, Mode::RWXU).map_err(|error| refused("make the folder", path, error.into()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(new.mode.unwrap_or(FOLDER_MODE) & PERMISSIONS);
        let set = openat(&parent, name, flags, Mode::empty()).and_then(|folder| {
            fchown(&folder, Some(ids.0), Some(ids.1))?;
            fchmod(&folder, mode)
        });
        set.map_err(|error| failed("set up the folder", path)(error.into()))
    }

    /// Makes a link. Its target is a text like any other: it is not looked at.
    pub fn make_link(&self, path: &str, target: &str, new: NewFile) -> Result<(), FilesError> {
        let (parent, name) = self.parent(path)?;
        let (user, group) = self.ids_of(path, new)?;
        symlinkat(target, &parent, name).map_err(|error| refused("make the link", path, error.into()))?;
        chownat(&parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| failed("change the owner of", path)(error.into()))
    }

    /// Changes owner and permissions of a file or folder that is there; what is absent stays. A link is
    /// followed, inside the root.
    pub fn set_owner_and_mode(&self, path: &str, change: NewFile) -> Result<(), FilesError> {
        let NewFile { user, group, mode } = change;
        self.change(path, Change { user, group, mode, ..Change::default() })
    }

    pub(super) fn ids_of(&self, path: &str, new: NewFile) -> Result<(Uid, Gid), FilesError> {
        let (user, group) = self.host_ids(path, new.user.unwrap_or(0), new.group.unwrap_or(0))?;
        Ok((Uid::from_raw(user), Gid::from_raw(group)))
    }
}
