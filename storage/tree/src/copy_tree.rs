//! A tree into a tree. Every name is opened relative to its folder without following links, so that a tree that changes
//! underneath can't lead the copy elsewhere; other filesystems mounted inside are not entered.

use crate::attributes;
use crate::data::{self, Abilities};
use crate::links::Links;
use crate::same::is_same;
use larder_base::host::Act;
use larder_base::{Cancel, Crew, Progress, Unit};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, StatxAttributes, StatxFlags, Timespec, Timestamps,
    Uid, chmodat, chownat, fchmod, fchown, fstat, futimens, linkat, mkdirat, mknodat, openat, readlinkat,
    statat, statx, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether the target is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyMode {
    /// The target is an empty directory. What a failed earlier copy left in it is replaced.
    Fresh,
    /// The target is an older state of the source: what is the same stays as it is, what is gone goes.
    Refresh,
}

/// Copies what is below `from`, and `from`'s own owner, mode, times and attributes, into the directory `to`.
#[derive(Debug, Clone)]
pub struct CopyTree {
    /// The directory to read.
    pub from: PathBuf,
    /// The directory to fill.
    pub to: PathBuf,
    /// Whether it is new.
    pub mode: CopyMode,
    /// Where to report, as stage `fs` in items.
    pub progress: Progress,
    /// A name directly below `from` that is not copied, and not removed by a refresh.
    pub leave_out: Option<PathBuf>,
    /// A tree that is much like `from`, to which nobody writes: what is the same in it is given a second name in `to` instead
    /// of being copied, where the filesystem can.
    pub alike: Option<PathBuf>,
    /// The name of a folder directly below `from` whose files never change: each is given a second name in `to` instead of being
    /// copied, where the filesystem can.
    pub unchanging: Option<PathBuf>,
}

impl CopyTree {
    /// Copies all of a tree.
    pub fn new(from: impl Into<PathBuf>, to: impl Into<PathBuf>, mode: CopyMode) -> Self {
        let (progress, leave_out, alike, unchanging) = (Progress::silent(), None, None, None);
        Self { from: from.into(), to: to.into(), mode, progress, leave_out, alike, unchanging }
    }
}

impl Act for CopyTree {
    fn describe(&self) -> String {
        format!("copy the tree {} to {}", self.from.display(), self.to.display())
    }

    fn apply(&self, cancel: &Cancel) -> io::Result<()> {
        let root = Arc::new(Folder::root(self)?);
        let work = Work {
            copy: self,
            cancel,
            root: Arc::clone(&root),
            abilities: Abilities::default(),
            abilities_beside: Abilities::default(),
            links: Links::default(),
            items: AtomicUsize::new(0),
        };
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(THREADS);
        Crew::run(threads, Found::Root(root), |crew, found| work.found(crew, found))
    }
}

const THREADS: usize = 4;

/// A directory to be copied. One below the root is opened only when its turn comes: there may be more than files that can be
/// open.
enum Found {
    Root(Arc<Folder>),
    Below { parent: Arc<Folder>, name: CString, path: PathBuf },
}

/// A directory that is being copied. Its times are set once everything in it is there: when it is dropped.
struct Folder {
    from: OwnedFd,
    to: OwnedFd,
    /// The one of the tree that is alike.
    alike: Option<OwnedFd>,
    stat: Stat,
    /// What is made in it gets an ACL by itself.
    gives_acl: bool,
    is_root: bool,
    /// Its files never change.
    is_unchanging: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = futimens(&self.to, &times(&self.stat));
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Folder {
    fn root(copy: &CopyTree) -> io::Result<Self> {
        let open = |path: &Path| openat(CWD, path, DIRECTORY, Mode::empty());
        let (from, to) = (open(&copy.from)?, open(&copy.to)?);
        let alike = copy.alike.as_deref().map(open).transpose()?;
        Self::prepared(from, to, alike, false, true)
    }

    /// Gives a directory its owner, mode and attributes. One that `is_new` has no attributes yet, inherited ones included.
    fn prepared(
        from: OwnedFd,
        to: OwnedFd,
        alike: Option<OwnedFd>,
        is_new: bool,
        is_root: bool,
    ) -> io::Result<Self> {
        let stat = fstat(&from)?;
        let own = attributes::read(from.as_fd())?;
        attributes::write(to.as_fd(), &own, is_new)?;
        fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        fchmod(&to, Mode::from_raw_mode(stat.st_mode))?;
        let gives_acl = attributes::are_inherited(&own);
        Ok(Self { from, to, alike, stat, gives_acl, is_root, is_unchanging: false })
    }
}

struct Work<'a> {
    copy: &'a CopyTree,
    cancel: &'a Cancel,
    root: Arc<Folder>,
    abilities: Abilities,
    /// Those of the tree that is alike, which may be in another filesystem than what is read.
    abilities_beside: Abilities,
    links: Links,
    items: AtomicUsize,
}

impl Work<'_> {
    fn found(&self, crew: &Crew<Found>, found: Found) -> io::Result<()> {
        match found {
            Found::Root(root) => self.folder(crew, &root, Path::new("")),
            Found::Below { parent, name, path } => match self.subfolder(&parent, &name)? {
                Some(folder) => {
                    drop(parent);
                    self.folder(crew, &Arc::new(folder), &path)
                }
                None => Ok(()),
            },
        }
    }

    fn folder(&self, crew: &Crew<Found>, folder: &Arc<Folder>, path: &Path) -> io::Result<()> {
        let mut present = HashSet::new();
        for entry in Dir::read_from(&folder.from)? {
            self.cancel.checkpoint().map_err(io::Error::other)?;
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let is_left_out = folder.is_root && self.is_left_out(name.to_bytes());
            if self.copy.mode == CopyMode::Refresh || is_left_out {
                present.insert(name.to_owned());
            }
            if !is_left_out {
                let at = path.join(OsStr::from_bytes(name.to_bytes()));
                self.entry(crew, folder, name, at)?;
            }
        }
        if self.copy.mode == CopyMode::Refresh {
            self.remove_what_is_gone(folder, &present)?;
        }
        Ok(())
    }

    fn is_left_out(&self, name: &[u8]) -> bool {
        is_named(self.copy.leave_out.as_deref(), name)
    }

    fn entry(&self, crew: &Crew<Found>, folder: &Arc<Folder>, name: &CStr, path: PathBuf) -> io::Result<()> {
        let stat = match statat(&folder.from, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Gone since the folder was read.
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let done = self.items.fetch_add(1, Ordering::Relaxed) + 1;
        self.copy.progress.report("fs", "", done as u64, None, Unit::Items);
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            if stat.st_dev != self.root.stat.st_dev && is_mount_root(folder, name)? {
                return make_directory(&folder.to, name).map(|_| ());
            }
            crew.add(Found::Below { parent: Arc::clone(folder), name: name.to_owned(), path });
            return Ok(());
        }
        if kind == FileType::RegularFile && self.is_shared(folder, name) {
            return Ok(());
        }
        if self.copy.mode == CopyMode::Refresh && is_same(&folder.from, &folder.to, name, &stat) {
            return Ok(());
        }
        let alike = folder.alike.as_ref().filter(|alike| is_same(&folder.from, alike, name, &stat));
        if alike.is_some_and(|alike| linkat(alike, name, &folder.to, name, AtFlags::empty()).is_ok()) {
            return Ok(());
        }
        if stat.st_nlink > 1 && self.link(crew, folder, name, &stat)? {
            return Ok(());
        }
        let copied = match kind {
            // What can't have a second name, whatever the reason, may still share blocks.
            FileType::RegularFile => self.file(alike.unwrap_or(&folder.from), folder, name, &stat),
            FileType::Symlink => self.symlink(folder, name, &stat),
            _ => self.node(folder, name, &stat),
        };
        if stat.st_nlink > 1 {
            self.links.first_is_at(&stat, copied.is_ok().then_some(&path));
        }
        copied
    }

    /// Whether a file that never changes has got a second name in the target. What can't have one, whatever the reason, is copied.
    fn is_shared(&self, folder: &Folder, name: &CStr) -> bool {
        let share = || linkat(&folder.from, name, &folder.to, name, AtFlags::empty());
        folder.is_unchanging && retry_over_old(&folder.to, name, share).is_ok()
    }

    /// Makes and opens a directory below another. None when it has gone since the one above was read.
    fn subfolder(&self, parent: &Folder, name: &CStr) -> io::Result<Option<Folder>> {
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        let from = match openat(&parent.from, name, flags, Mode::empty()) {
            Ok(from) => from,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let is_new = make_directory(&parent.to, name)?;
        let to = openat(&parent.to, name, flags, Mode::empty())?;
        let alike = parent.alike.as_ref().and_then(|alike| openat(alike, name, flags, Mode::empty()).ok());
        let mut folder = Folder::prepared(from, to, alike, is_new && !parent.gives_acl, false)?;
        folder.is_unchanging = parent.is_unchanging
            || (parent.is_root && is_named(self.copy.unchanging.as_deref(), name.to_bytes()));
        Ok(Some(folder))
    }

    /// Copies a file of the folder `of` into another.
    fn file(&self, of: &OwnedFd, folder: &Folder, name: &CStr, stat: &Stat) -> io::Result<()> {
        let reading = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let from = match openat(of, name, reading, Mode::empty()) {
            Ok(from) => from,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let writing = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to =
            retry_over_old(&folder.to, name, || openat(&folder.to, name, writing, Mode::RUSR | Mode::WUSR))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let is_alike = !std::ptr::eq(of, &raw const folder.from);
        let abilities = if is_alike { &self.abilities_beside } else { &self.abilities };
        data::copy(from.as_fd(), to.as_fd(), size, abilities, self.cancel, &mut |_| ())?;
        if stat.st_uid != 0 || stat.st_gid != 0 {
            fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        }
        // The mode after the owner, which clears set-user-id; the capability after both; the times last.
        fchmod(&to, Mode::from_raw_mode(stat.st_mode))?;
        attributes::write(to.as_fd(), &attributes::read(from.as_fd())?, !folder.gives_acl)?;
        Ok(futimens(&to, &times(stat))?)
    }

    fn symlink(&self, folder: &Folder, name: &CStr, stat: &Stat) -> io::Result<()> {
        let target = readlinkat(&folder.from, name, Vec::new())?;
        retry_over_old(&folder.to, name, || symlinkat(target.as_c_str(), &folder.to, name))?;
        self.finish_node(folder, name, stat)
    }

    fn node(&self, folder: &Folder, name: &CStr, stat: &Stat) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mode = Mode::from_raw_mode(stat.st_mode);
        retry_over_old(&folder.to, name, || mknodat(&folder.to, name, kind, mode, stat.st_rdev))?;
        chmodat(&folder.to, name, mode, AtFlags::empty())?;
        self.finish_node(folder, name, stat)
    }

    fn finish_node(&self, folder: &Folder, name: &CStr, stat: &Stat) -> io::Result<()> {
        let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
        chownat(&folder.to, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            chmodat(&folder.to, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
        }
        let name_in = |fd: BorrowedFd<'_>| fd_path(fd).join(OsStr::from_bytes(name.to_bytes()));
        let found = attributes::read_path(&name_in(folder.from.as_fd()))?;
        attributes::write_path(&name_in(folder.to.as_fd()), &found, !folder.gives_acl)?;
        Ok(utimensat(&folder.to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Makes a hard link to where another name of the same file was copied. `false`: this is the first, copy it.
    fn link(&self, crew: &Crew<Found>, folder: &Folder, name: &CStr, stat: &Stat) -> io::Result<bool> {
        let may_wait = || {
            self.cancel.checkpoint().map_err(io::Error::other)?;
            // The other name will not come any more.
            if crew.has_failed() { Err(io::Error::other("another part of the copy failed")) } else { Ok(()) }
        };
        let Some(first) = self.links.first(stat, may_wait)? else { return Ok(false) };
        retry_over_old(&folder.to, name, || {
            linkat(&self.root.to, &first, &folder.to, name, AtFlags::empty())
        })?;
        Ok(true)
    }

    fn remove_what_is_gone(&self, folder: &Folder, present: &HashSet<CString>) -> io::Result<()> {
        for entry in Dir::read_from(&folder.to)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_kept = folder.is_root && self.is_left_out(name.to_bytes());
            if name != c"." && name != c".." && !present.contains(name) && !is_kept {
                remove(&folder.to, name)?;
            }
        }
        Ok(())
    }
}

fn is_named(path: Option<&Path>, name: &[u8]) -> bool {
    path.is_some_and(|path| path.as_os_str().as_bytes() == name)
}

/// Makes a directory in place of whatever else has its name; `false` when it is there already.
fn make_directory(folder: &OwnedFd, name: &CStr) -> io::Result<bool> {
    match mkdirat(folder, name, Mode::RWXU) {
        Err(Errno::EXIST) => {
            let there = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(there.st_mode) == FileType::Directory {
                return Ok(false);
            }
            unlinkat(folder, name, AtFlags::empty())?;
            mkdirat(folder, name, Mode::RWXU)?;
            Ok(true)
        }
        made => Ok(made.map(|()| true)?),
    }
}

/// Whether something is mounted there. A subvolume has a device number of its own too, and belongs to the tree.
fn is_mount_root(folder: &Folder, name: &CStr) -> io::Result<bool> {
    let found = statx(&folder.from, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Removes a name and all below it.
fn remove(folder: &OwnedFd, name: &CStr) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {
            Ok(std::fs::remove_dir_all(fd_path(folder.as_fd()).join(OsStr::from_bytes(name.to_bytes())))?)
        }
        other => Ok(other?),
    }
}

/// Makes something; when the name is taken by what an older copy left, removes that and tries again.
fn retry_over_old<T>(folder: &OwnedFd, name: &CStr, make: impl Fn() -> Result<T, Errno>) -> io::Result<T> {
    match make() {
        Err(Errno::EXIST) => {
            remove(folder, name)?;
            Ok(make()?)
        }
        other => Ok(other?),
    }
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: i64::try_from(stat.st_atime_nsec).unwrap_or(0),
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
        },
    }
}

/// A path that leads to an open directory, whatever its name is now.
pub(crate) fn fd_path(fd: BorrowedFd<'_>) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}
