//! Changing system calls as data, so that they appear in transcripts and can be made to fail.

use super::mounts::{bind, mount, remount, unmount};
use super::remove::remove_tree;
use crate::Cancel;
use rustix::fs::{AtFlags, CWD, Mode, RenameFlags};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// One changing step. [`FsAct`] has the everyday ones; a larger unit of work (copying a tree) may be its
/// own type. A step must be safe to repeat after it failed half-way.
pub trait Act: fmt::Debug + Send + Sync {
    /// The step in words, as an error or a transcript shows it.
    fn describe(&self) -> String;

    /// Does it. Only a [`Host`](super::Host) calls this.
    fn apply(&self, cancel: &Cancel) -> io::Result<()>;
}

/// The everyday changing system calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FsAct {
    /// Makes a directory and its missing parents; fine when it is there already.
    MakeDirectory {
        /// The directory.
        path: PathBuf,
        /// Its mode, and that of every parent that was missing.
        mode: u32,
    },
    /// Makes a new directory; fails when the name is taken.
    NewDirectory {
        /// The directory.
        path: PathBuf,
        /// Its mode, whatever the umask.
        mode: u32,
    },
    /// Makes a new sparse file of `size` bytes; fails when the name is taken.
    NewFile {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// Its mode.
        mode: u32,
    },
    /// Writes a whole file beside its name and moves it into place, synced.
    WriteFile {
        /// The file.
        path: PathBuf,
        /// All of its content.
        content: Vec<u8>,
        /// Its mode.
        mode: u32,
    },
    /// Sets a file's length.
    Truncate {
        /// The file.
        path: PathBuf,
        /// The new length in bytes.
        size: u64,
    },
    /// Renames; fails with `AlreadyExists` when `to` is there.
    RenameNoReplace {
        /// The present name.
        from: PathBuf,
        /// The new name.
        to: PathBuf,
    },
    /// Swaps two names in one step. Both directories keep their times.
    Exchange {
        /// One name.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// Removes an empty directory; fine when it is absent or not empty.
    RemoveEmptyDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// Removes a file or a whole tree without following links; fine when absent. Fails with `ResourceBusy` and removes
    /// nothing when something is mounted inside: what is mounted there belongs to somebody.
    RemoveTree {
        /// The root of the tree.
        path: PathBuf,
    },
    /// Sets owner and group.
    SetOwner {
        /// The file or directory; a link is not followed.
        path: PathBuf,
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// Sets the mode.
    SetMode {
        /// The file or directory.
        path: PathBuf,
        /// The mode bits.
        mode: u32,
    },
    /// Sets an extended attribute; needs the `trusted.` right for such names.
    SetAttribute {
        /// The file or directory; a link is not followed.
        path: PathBuf,
        /// The attribute's full name.
        name: String,
        /// Its value.
        value: Vec<u8>,
    },
    /// Mounts a filesystem.
    Mount {
        /// Device or other source.
        source: PathBuf,
        /// The mount point.
        target: PathBuf,
        /// The filesystem's type.
        kind: String,
        /// Options with commas between them, as in fstab (`noatime,compress=zstd`); `nodev,nosuid` are always set.
        options: String,
        /// Whether nothing may be written through it.
        read_only: bool,
    },
    /// Binds a directory to another place, `nodev,nosuid`.
    Bind {
        /// The directory.
        source: PathBuf,
        /// The mount point.
        target: PathBuf,
        /// Whether nothing may be written through it.
        read_only: bool,
    },
    /// Gives a mount other options.
    Remount {
        /// The mount point.
        target: PathBuf,
        /// All of its options, as for [`FsAct::Mount`].
        options: String,
    },
    /// Unmounts; fine when nothing is mounted there.
    Unmount {
        /// The mount point.
        target: PathBuf,
    },
}

impl FsAct {
    /// [`FsAct::RenameNoReplace`] without spelling the fields.
    pub fn rename_no_replace(from: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Self {
        Self::RenameNoReplace { from: from.into(), to: to.into() }
    }

    /// [`FsAct::RemoveTree`] without spelling the field.
    pub fn remove_tree(path: impl Into<PathBuf>) -> Self {
        Self::RemoveTree { path: path.into() }
    }
}

impl Act for FsAct {
    fn describe(&self) -> String {
        match self {
            Self::MakeDirectory { path, mode } => format!("make directory {} ({mode:04o})", path.display()),
            Self::NewDirectory { path, mode } => {
                format!("make new directory {} ({mode:04o})", path.display())
            }
            Self::NewFile { path, size, .. } => format!("make file {} of {size} bytes", path.display()),
            Self::WriteFile { path, content, .. } => {
                format!("write {} ({} bytes)", path.display(), content.len())
            }
            Self::Truncate { path, size } => format!("set length of {} to {size}", path.display()),
            Self::RenameNoReplace { from, to } => format!("rename {} to {}", from.display(), to.display()),
            Self::Exchange { one, other } => format!("exchange {} and {}", one.display(), other.display()),
            Self::RemoveEmptyDirectory { path } => format!("remove empty directory {}", path.display()),
            Self::RemoveTree { path } => format!("remove {}", path.display()),
            Self::SetOwner { path, uid, gid } => format!("set owner of {} to {uid}:{gid}", path.display()),
            Self::SetMode { path, mode } => format!("set mode of {} to {mode:04o}", path.display()),
            Self::SetAttribute { path, name, .. } => format!("set {name} of {}", path.display()),
            Self::Mount { source, target, kind, .. } => {
                format!("mount {kind} {} at {}", source.display(), target.display())
            }
            Self::Bind { source, target, .. } => format!("bind {} at {}", source.display(), target.display()),
            Self::Remount { target, options } => format!("mount {} anew with {options}", target.display()),
            Self::Unmount { target } => format!("unmount {}", target.display()),
        }
    }

    fn apply(&self, cancel: &Cancel) -> io::Result<()> {
        match self {
            Self::MakeDirectory { path, mode } => {
                fs::DirBuilder::new().recursive(true).mode(*mode).create(path)
            }
            Self::NewDirectory { path, mode } => {
                fs::DirBuilder::new().mode(*mode).create(path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(*mode))
            }
            Self::NewFile { path, size, mode } => {
                let file = fs::OpenOptions::new().write(true).create_new(true).mode(*mode).open(path)?;
                file.set_len(*size)
            }
            Self::WriteFile { path, content, mode } => write_beside(path, content, *mode),
            Self::Truncate { path, size } => fs::OpenOptions::new().write(true).open(path)?.set_len(*size),
            Self::RenameNoReplace { from, to } => {
                Ok(rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
            }
            Self::Exchange { one, other } => exchange(one, other),
            Self::RemoveEmptyDirectory { path } => match fs::remove_dir(path) {
                Err(error) if is_absent_or_not_empty(&error) => Ok(()),
                other => other,
            },
            Self::RemoveTree { path } => remove_tree(path, cancel),
            Self::SetOwner { path, uid, gid } => Ok(std::os::unix::fs::lchown(path, Some(*uid), Some(*gid))?),
            Self::SetMode { path, mode } => {
                Ok(rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(*mode), AtFlags::empty())?)
            }
            Self::SetAttribute { path, name, value } => {
                Ok(rustix::fs::lsetxattr(path, name.as_str(), value, rustix::fs::XattrFlags::empty())?)
            }
            Self::Mount { source, target, kind, options, read_only } => {
                mount(source, target, kind, options, *read_only)
            }
            Self::Bind { source, target, read_only } => bind(source, target, *read_only),
            Self::Remount { target, options } => remount(target, options),
            Self::Unmount { target } => unmount(target),
        }
    }
}

/// Swaps two names. What is theirs keeps its time: xfs gives a directory that got another parent a new one.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    let time = |path: &Path| fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    let (ours, theirs) = (time(one)?, time(other)?);
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?;
    for (path, before) in [(one, theirs), (other, ours)] {
        if time(path)? != before {
            fs::File::open(path)?.set_times(fs::FileTimes::new().set_modified(before))?;
        }
    }
    Ok(())
}

fn is_absent_or_not_empty(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty)
}

fn write_beside(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "the tests make each act where they apply it")]
    fn apply(act: FsAct) -> io::Result<()> {
        act.apply(&Cancel::never())
    }

    #[test]
    fn rename_refuses_an_existing_target_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        apply(FsAct::WriteFile { path: from.clone(), content: b"1".into(), mode: 0o600 }).unwrap();
        apply(FsAct::WriteFile { path: to.clone(), content: b"2".into(), mode: 0o600 }).unwrap();
        let error = apply(FsAct::rename_no_replace(&from, &to)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((fs::read(from).unwrap(), fs::read(to).unwrap()), (b"1".to_vec(), b"2".to_vec()));
    }

    #[test]
    fn removing_follows_no_link_and_an_absent_tree_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::write(&outside, "kept").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("sub/link")).unwrap();
        apply(FsAct::remove_tree(&tree)).unwrap();
        apply(FsAct::remove_tree(&tree)).unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read_to_string(outside).unwrap(), "kept");
    }

    #[test]
    fn what_is_mounted_inside_is_never_removed() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: what_is_mounted_inside_is_never_removed: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        fs::create_dir_all(tree.join("a b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        let target = tree.join("a b");
        apply(FsAct::Bind { source: outside.clone(), target: target.clone(), read_only: false }).unwrap();
        let error = apply(FsAct::remove_tree(&tree)).unwrap_err();
        apply(FsAct::Unmount { target }).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        assert!(outside.join("kept").exists());
        apply(FsAct::remove_tree(&tree)).unwrap();
    }

    #[test]
    fn exchange_swaps() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        fs::write(&one, "1").unwrap();
        fs::create_dir(&other).unwrap();
        apply(FsAct::Exchange { one: one.clone(), other: other.clone() }).unwrap();
        assert!(one.is_dir() && other.is_file());
    }
}
