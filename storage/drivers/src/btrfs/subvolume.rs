//! Subvolumes: made, snapshotted and destroyed with those that stand in them.
//!
//! What stands in a volume was put there by whoever uses it, and may change while we look: a path in it is followed
//! without symbolic links and without leaving the volume.

use super::ioctl;
use crate::folders::is_there;
use larder_base::Cancel;
use larder_base::host::{Act, FsAct};
use larder_storage_driver::{Cx, Result};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, openat2, unlinkat};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where a subvolume is: a path of ours, and the way from there to one that stands in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    top: PathBuf,
    inner: PathBuf,
}

impl Spot {
    /// A path of ours.
    pub(super) fn at(top: impl Into<PathBuf>) -> Self {
        Self { top: top.into(), inner: PathBuf::new() }
    }

    fn within(&self, inner: &Path) -> Self {
        Self { top: self.top.clone(), inner: self.inner.join(inner) }
    }

    fn open(&self) -> io::Result<File> {
        let top = File::open(&self.top)?;
        if self.inner.as_os_str().is_empty() {
            return Ok(top);
        }
        let stay = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat2(&top, &self.inner, flags, Mode::empty(), stay)?.into())
    }

    /// Opens the folder it stands in, and tells its last name.
    fn open_parent(&self) -> io::Result<(File, &OsStr)> {
        let nameless = || io::Error::new(io::ErrorKind::InvalidInput, "no name for a subvolume");
        if self.inner.as_os_str().is_empty() {
            let parent = self.top.parent().ok_or_else(nameless)?;
            return Ok((File::open(parent)?, self.top.file_name().ok_or_else(nameless)?));
        }
        let parent = self.inner.parent().unwrap_or(Path::new(""));
        let parent = Self { top: self.top.clone(), inner: parent.to_owned() };
        Ok((parent.open()?, self.inner.file_name().ok_or_else(nameless)?))
    }
}

/// Puts all that was done so far on the disk: what the catalog is told next must be found after a power cut. A rename is else
/// written within half a minute only.
#[derive(Debug, Clone)]
pub(super) struct Commit {
    /// A file or folder on the filesystem.
    pub(super) at: PathBuf,
}

impl Act for Commit {
    fn describe(&self) -> String {
        format!("commit the filesystem of {}", self.at.display())
    }

    fn apply(&self, _: &Cancel) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.at)?)?)
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.inner.as_os_str().is_empty() {
            true => self.top.display().fmt(formatter),
            false => self.top.join(&self.inner).display().fmt(formatter),
        }
    }
}

/// A subvolume that stands in another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Nested {
    /// Its path in the outermost one.
    path: PathBuf,
    is_read_only: bool,
}

/// Whether a path is the root of a subvolume.
pub(super) fn is_subvolume(path: &Path) -> bool {
    let is_root =
        fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.ino() == ioctl::ROOT_INODE);
    is_root && File::open(path).is_ok_and(|open| ioctl::filesystem_of(&open).is_some())
}

/// Whether a subvolume is read-only.
pub(super) fn is_read_only(path: &Path) -> io::Result<bool> {
    ioctl::is_read_only(&File::open(path)?)
}

/// All subvolumes in the one at `top`, outer ones before those in them.
fn nested_in(top: &Path) -> io::Result<Vec<Nested>> {
    let top = Spot::at(top);
    let mut found = Vec::new();
    let mut to_do = VecDeque::from([PathBuf::new()]);
    while let Some(outer) = to_do.pop_front() {
        for child in ioctl::children(&top.within(&outer).open()?)? {
            let path = outer.join(child);
            let is_read_only = ioctl::is_read_only(&top.within(&path).open()?)?;
            to_do.push_back(path.clone());
            found.push(Nested { path, is_read_only });
        }
    }
    Ok(found)
}

/// Whether other subvolumes stand in the one at `path`.
pub(super) fn has_nested(path: &Path) -> io::Result<bool> {
    Ok(!ioctl::children(&File::open(path)?)?.is_empty())
}

/// Makes a writable snapshot of a subvolume and of all that stand in it, each as writable as it was.
pub(super) fn snapshot_all(cx: &Cx<'_>, from: &Path, to: &Path) -> Result<()> {
    let nested = nested_in(from)?;
    let (from, to) = (Spot::at(from), Spot::at(to));
    cx.act(&Snapshot { from: from.clone(), to: to.clone(), read_only: false })?;
    for inner in &nested {
        cx.checkpoint()?;
        let (from, to) = (from.within(&inner.path), to.within(&inner.path));
        cx.act(&Snapshot { from, to, read_only: false })?;
    }
    // Innermost first: nothing can be made in what is read-only.
    for inner in nested.iter().rev().filter(|inner| inner.is_read_only) {
        cx.act(&SetReadOnly { at: to.within(&inner.path), read_only: true })?;
    }
    Ok(())
}

/// Destroys a subvolume with all that stand in it, the innermost first; anything else is removed as a tree. Ok when absent.
pub(super) fn destroy_all(cx: &Cx<'_>, path: &Path) -> Result<()> {
    if !is_there(path) {
        return Ok(());
    }
    if !is_subvolume(path) {
        return cx.act(&FsAct::remove_tree(path));
    }
    let nested = nested_in(path)?;
    let top = Spot::at(path);
    // Nothing can be removed from what is read-only.
    if !nested.is_empty() && is_read_only(path)? {
        cx.act(&SetReadOnly { at: top.clone(), read_only: false })?;
    }
    for inner in nested.iter().filter(|inner| inner.is_read_only) {
        cx.act(&SetReadOnly { at: top.within(&inner.path), read_only: false })?;
    }
    for inner in nested.iter().rev() {
        cx.act(&Destroy { at: top.within(&inner.path) })?;
    }
    cx.act(&Destroy { at: top })
}

/// Makes an empty subvolume; fails when the name is taken.
#[derive(Debug, Clone)]
pub(super) struct Create {
    /// Where.
    pub(super) path: PathBuf,
}

impl Act for Create {
    fn describe(&self) -> String {
        format!("make subvolume {}", self.path.display())
    }

    fn apply(&self, _: &Cancel) -> io::Result<()> {
        let at = Spot::at(&self.path);
        let (parent, name) = at.open_parent()?;
        ioctl::create_subvolume(&parent, name)
    }
}

/// Makes a snapshot of one subvolume; fails when the name is taken. The empty directory that the snapshot of an outer
/// subvolume has in the place of an inner one gives way.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    /// Of which subvolume.
    pub(super) from: Spot,
    /// Where.
    pub(super) to: Spot,
    /// Whether nothing may be written to it.
    pub(super) read_only: bool,
}

impl Act for Snapshot {
    fn describe(&self) -> String {
        let kind = if self.read_only { "read-only snapshot" } else { "snapshot" };
        format!("make {kind} {} of {}", self.to, self.from)
    }

    fn apply(&self, _: &Cancel) -> io::Result<()> {
        let (parent, name) = self.to.open_parent()?;
        if !self.to.inner.as_os_str().is_empty() {
            match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        ioctl::create_snapshot(&parent, name, &self.from.open()?, self.read_only)
    }
}

/// Destroys one subvolume, in which no other stands; fine when absent.
#[derive(Debug, Clone)]
struct Destroy {
    at: Spot,
}

impl Act for Destroy {
    fn describe(&self) -> String {
        format!("destroy subvolume {}", self.at)
    }

    fn apply(&self, _: &Cancel) -> io::Result<()> {
        let (parent, name) = self.at.open_parent()?;
        match ioctl::destroy_subvolume(&parent, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Lets a subvolume be read-only, or not.
#[derive(Debug, Clone)]
pub(super) struct SetReadOnly {
    /// The subvolume.
    pub(super) at: Spot,
    /// Which of both.
    pub(super) read_only: bool,
}

impl Act for SetReadOnly {
    fn describe(&self) -> String {
        let word = if self.read_only { "read-only" } else { "writable" };
        format!("make subvolume {} {word}", self.at)
    }

    fn apply(&self, _: &Cancel) -> io::Result<()> {
        ioctl::set_read_only(&self.at.open()?, self.read_only)
    }
}
