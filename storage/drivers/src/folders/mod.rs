//! Volumes as entries in the folders that both peers have, for technologies that are a filesystem: where they are, how they
//! move, what is there.

mod disk;
mod layout;

pub(crate) use crate::spelling::{OURS, PRIVATE};
pub(crate) use disk::grow_disk;
pub(crate) use layout::{CONTENT_MARK, DISK, Layout};

use larder_base::host::FsAct;
use larder_storage_driver::{Content, Cx, Place, PoolUsage, Result, StorageError, VolumeSpec};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

impl Layout {
    /// Makes the folders that are missing, and removes those in which a run that was cut off made nothing: nothing lists
    /// them.
    pub(crate) fn prepare(&self, cx: &Cx<'_>) -> Result<()> {
        for folder in self.folders().into_iter().chain(self.areas()) {
            if !folder.is_dir() {
                cx.act(&FsAct::MakeDirectory { path: folder, mode: PRIVATE })?;
            }
        }
        for folder in self.empty_work_folders()? {
            cx.act(&FsAct::RemoveEmptyDirectory { path: folder })?;
        }
        Ok(())
    }

    /// Space of the filesystem that the pool is on.
    pub(crate) fn usage(&self) -> Result<PoolUsage> {
        let found = rustix::fs::statvfs(self.root()).map_err(std::io::Error::from)?;
        Ok(PoolUsage {
            used_bytes: (found.f_blocks - found.f_bfree) * found.f_frsize,
            total_bytes: found.f_blocks * found.f_frsize,
            used_inodes: found.f_files - found.f_ffree,
            total_inodes: found.f_files,
        })
    }

    /// Makes the folders that a place's entry stands in.
    pub(crate) fn make_parents(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        match self.path(at).parent() {
            Some(parent) => make_folder(cx, parent),
            None => Ok(()),
        }
    }

    /// Removes the folder of a volume's snapshots when the last one has gone.
    pub(crate) fn remove_empty_parents(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        let folder = self.snapshots(at);
        match is_empty_directory(&folder) {
            true => cx.act(&FsAct::RemoveEmptyDirectory { path: folder }),
            false => Ok(()),
        }
    }

    /// Moves a volume with its snapshots, or one snapshot, as [`Driver::rename`](larder_storage_driver::Driver::rename)
    /// says.
    pub(crate) fn rename(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        let (old, new) = (self.path(from), self.path(to));
        if is_there(&old) && is_there(&new) {
            return Err(StorageError::already_exists(to));
        }
        if !is_there(&old) && !is_there(&new) && from.snapshot.is_some() {
            return Err(StorageError::not_found(from));
        }
        let main = |cx: &Cx<'_>| {
            if is_there(&old) {
                self.make_parents(cx, to)?;
            }
            move_entry(cx, &old, &new)
        };
        match (from.snapshot.is_some(), to.is_live()) {
            (true, _) => main(cx)?,
            (false, true) => {
                self.move_snapshots(cx, from, to)?;
                main(cx)?;
            }
            (false, false) => {
                main(cx)?;
                self.move_snapshots(cx, from, to)?;
            }
        }
        self.remove_empty_parents(cx, from)
    }

    /// Moves a volume's snapshots. A live volume may have the folder of its new name made for it before.
    fn move_snapshots(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        let (old, new) = (self.snapshots(from), self.snapshots(to));
        if !is_there(&old) {
            return Ok(());
        }
        if let Some(parent) = new.parent() {
            make_folder(cx, parent)?;
        }
        if is_empty_directory(&new) {
            cx.act(&FsAct::RemoveEmptyDirectory { path: new.clone() })?;
        }
        move_entry(cx, &old, &new)
    }
}

/// Makes a private folder that is missing.
pub(crate) fn make_folder(cx: &Cx<'_>, path: &Path) -> Result<()> {
    match path.is_dir() {
        true => Ok(()),
        false => cx.act(&FsAct::MakeDirectory { path: path.to_owned(), mode: PRIVATE }),
    }
}

/// Moves one entry; Ok when it has moved already.
fn move_entry(cx: &Cx<'_>, from: &Path, to: &Path) -> Result<()> {
    match is_there(from) {
        true => cx.act(&FsAct::rename_no_replace(from, to)),
        false => Ok(()),
    }
}

/// The owner of a new filesystem's root, if it is not the host's root.
pub(crate) fn set_owner(cx: &Cx<'_>, path: &Path, spec: &VolumeSpec) -> Result<()> {
    let number = |key: &str| spec.config.get(key).and_then(|value| value.parse::<u32>().ok());
    let (uid, gid) = (number("initial.uid").unwrap_or(0), number("initial.gid").unwrap_or(0));
    match (uid, gid) {
        (0, 0) => Ok(()),
        _ => cx.act(&FsAct::SetOwner { path: path.to_owned(), uid, gid }),
    }
}

/// The mode of a new filesystem's root.
pub(crate) fn initial_mode(spec: &VolumeSpec) -> u32 {
    let mode = spec.config.get("initial.mode").and_then(|mode| u32::from_str_radix(mode, 8).ok());
    mode.unwrap_or(0o711)
}

/// Marks a disk's folder with its content, for reading the name back.
pub(crate) fn mark_content(cx: &Cx<'_>, path: &Path, content: Content) -> Result<()> {
    cx.act(&FsAct::SetAttribute {
        path: path.to_owned(),
        name: CONTENT_MARK.to_owned(),
        value: content.as_str().into(),
    })
}

/// Whether there is anything of that name.
pub(crate) fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Whether it is a directory with nothing in it.
pub(crate) fn is_empty_directory(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Whether two paths lead to the same directory, as they do once one is bound to the other.
pub(crate) fn is_same(one: &Path, other: &Path) -> Result<bool> {
    let key = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    Ok(key(one)? == key(other)?)
}
