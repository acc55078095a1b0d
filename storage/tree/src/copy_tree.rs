//! A tree into a tree. Every name is opened relative to its folder without following links, so that a tree that changes
//! underneath can't lead the copy elsewhere; other filesystems mounted inside are not entered.

use crate::attributes;
use crate::data::{self, Abilities};
use larder_base::host::Act;
use larder_base::{Cancel, Progress, Unit};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, StatxAttributes, StatxFlags, Timespec, Timestamps,
    Uid, chmodat, chownat, fchmod, fchown, fstat, futimens, linkat, mkdirat, mknodat, openat, readlinkat,
    statat, statx, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

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
}

impl Act for CopyTree {
    fn describe(&self) -> String {
        format!("copy the tree {} to {}", self.from.display(), self.to.display())
    }

    fn apply(&self, cancel: &Cancel) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let from = openat(CWD, &self.from, flags, Mode::empty())?;
        let to = openat(CWD, &self.to, flags, Mode::empty())?;
        let device = fstat(&from)?.st_dev;
        let work = Work {
            copy: self,
            cancel,
            device,
            abilities: Abilities::default(),
            links: Mutex::default(),
            items: AtomicUsize::new(0),
            queue: Queue::default(),
            target: fd_path(to.as_fd()),
        };
        work.run(Folder { from, to: Arc::new(to), parent: None, is_new: false, is_root: true })
    }
}

/// One directory to be copied.
struct Folder {
    from: OwnedFd,
    to: Arc<OwnedFd>,
    parent: Option<Arc<Finish>>,
    /// Nothing was there, and nothing was inherited.
    is_new: bool,
    is_root: bool,
}

/// Sets a directory's owner, mode and times once everything below is written.
struct Finish {
    to: Arc<OwnedFd>,
    stat: Stat,
    /// What is made in it gets an ACL by itself.
    gives_acl: bool,
    _parent: Option<Arc<Finish>>,
}

impl Drop for Finish {
    fn drop(&mut self) {
        let _ = futimens(&*self.to, &times(&self.stat));
    }
}

/// Where the first of several hard links was copied to. Others wait for it.
#[derive(Clone)]
enum Link {
    Coming,
    At(PathBuf),
}

struct Work<'a> {
    copy: &'a CopyTree,
    cancel: &'a Cancel,
    device: u64,
    abilities: Abilities,
    /// By device and inode: each subvolume numbers its own.
    links: Mutex<HashMap<(u64, u64), Link>>,
    items: AtomicUsize,
    queue: Queue,
    target: PathBuf,
}

/// Directories waiting for a worker. Work ends when none waits and none is being worked on.
#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    folders: Vec<(Folder, PathBuf)>,
    busy: usize,
    failure: Option<io::Error>,
}

const WORKERS: usize = 4;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    fn push(&self, folder: Folder, path: PathBuf) {
        locked(&self.state).folders.push((folder, path));
        self.changed.notify_one();
    }

    fn next(&self) -> Option<(Folder, PathBuf)> {
        let mut state = locked(&self.state);
        loop {
            if state.failure.is_some() {
                return None;
            }
            if let Some(next) = state.folders.pop() {
                state.busy += 1;
                return Some(next);
            }
            if state.busy == 0 {
                self.changed.notify_all();
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, outcome: io::Result<()>) {
        let mut state = locked(&self.state);
        state.busy -= 1;
        if let Err(error) = outcome {
            state.failure.get_or_insert(error);
        }
        drop(state);
        self.changed.notify_all();
    }
}

impl Work<'_> {
    fn run(&self, root: Folder) -> io::Result<()> {
        self.queue.push(root, PathBuf::new());
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(WORKERS);
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(|| self.work());
            }
            self.work();
        });
        let mut state = locked(&self.queue.state);
        state.folders.clear();
        match state.failure.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn work(&self) {
        while let Some((folder, path)) = self.queue.next() {
            let outcome = self.folder(&folder, &path);
            // A folder's own times come after all that is written into it: its last reference goes here.
            drop(folder);
            self.queue.done(outcome);
        }
    }

    fn folder(&self, folder: &Folder, path: &Path) -> io::Result<()> {
        let stat = fstat(&folder.from)?;
        let own = attributes::read(folder.from.as_fd())?;
        attributes::write(folder.to.as_fd(), &own, folder.is_new)?;
        fchown(&*folder.to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        fchmod(&*folder.to, Mode::from_raw_mode(stat.st_mode))?;
        let finish = Arc::new(Finish {
            to: Arc::clone(&folder.to),
            stat,
            gives_acl: attributes::are_inherited(&own),
            _parent: folder.parent.clone(),
        });
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
                self.entry(folder, &finish, name, &at)?;
            }
        }
        if self.copy.mode == CopyMode::Refresh {
            self.remove_what_is_gone(folder, &present)?;
        }
        Ok(())
    }

    fn is_left_out(&self, name: &[u8]) -> bool {
        self.copy.leave_out.as_ref().is_some_and(|path| path.as_os_str().as_bytes() == name)
    }

    fn entry(
        &self,
        folder: &Folder,
        finish: &Arc<Finish>,
        name: &std::ffi::CStr,
        path: &Path,
    ) -> io::Result<()> {
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
            return self.subfolder(folder, finish, name, path, &stat);
        }
        if self.copy.mode == CopyMode::Refresh && is_same(folder, name, &stat) {
            return Ok(());
        }
        if stat.st_nlink > 1 && self.link(folder, name, path, &stat)? {
            return Ok(());
        }
        let copied = match kind {
            FileType::RegularFile => self.file(folder, finish, name, &stat),
            FileType::Symlink => self.symlink(folder, finish, name, &stat),
            _ => self.node(folder, finish, name, &stat),
        };
        if stat.st_nlink > 1 {
            self.link_is_there((stat.st_dev, stat.st_ino), copied.is_ok().then_some(path));
        }
        copied
    }

    fn subfolder(
        &self,
        folder: &Folder,
        finish: &Arc<Finish>,
        name: &std::ffi::CStr,
        path: &Path,
        stat: &Stat,
    ) -> io::Result<()> {
        let is_mounted_over = stat.st_dev != self.device && is_mount_root(folder, name)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let is_new = match mkdirat(&folder.to, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => {
                let there = statat(&folder.to, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(there.st_mode) == FileType::Directory {
                    false
                } else {
                    unlinkat(&folder.to, name, AtFlags::empty())?;
                    mkdirat(&folder.to, name, Mode::RWXU)?;
                    true
                }
            }
            Err(error) => return Err(error.into()),
        };
        if is_mounted_over {
            return Ok(());
        }
        let from = openat(&folder.from, name, flags, Mode::empty())?;
        let to = Arc::new(openat(&folder.to, name, flags, Mode::empty())?);
        let next = Folder {
            from,
            to,
            parent: Some(Arc::clone(finish)),
            is_new: is_new && !finish.gives_acl,
            is_root: false,
        };
        self.queue.push(next, path.to_owned());
        Ok(())
    }

    fn file(&self, folder: &Folder, finish: &Finish, name: &std::ffi::CStr, stat: &Stat) -> io::Result<()> {
        let reading = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let from = match openat(&folder.from, name, reading, Mode::empty()) {
            Ok(from) => from,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let writing = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to =
            retry_over_old(&folder.to, name, || openat(&folder.to, name, writing, Mode::RUSR | Mode::WUSR))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        data::copy(from.as_fd(), to.as_fd(), size, &self.abilities, self.cancel, &mut |_| ())?;
        if stat.st_uid != 0 || stat.st_gid != 0 {
            fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        }
        // The mode after the owner, which clears set-user-id; the capability after both; the times last.
        fchmod(&to, Mode::from_raw_mode(stat.st_mode))?;
        attributes::write(to.as_fd(), &attributes::read(from.as_fd())?, !finish.gives_acl)?;
        Ok(futimens(&to, &times(stat))?)
    }

    fn symlink(
        &self,
        folder: &Folder,
        finish: &Finish,
        name: &std::ffi::CStr,
        stat: &Stat,
    ) -> io::Result<()> {
        let target = readlinkat(&folder.from, name, Vec::new())?;
        retry_over_old(&folder.to, name, || symlinkat(target.as_c_str(), &folder.to, name))?;
        self.finish_node(folder, finish, name, stat)
    }

    fn node(&self, folder: &Folder, finish: &Finish, name: &std::ffi::CStr, stat: &Stat) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mode = Mode::from_raw_mode(stat.st_mode);
        retry_over_old(&folder.to, name, || mknodat(&folder.to, name, kind, mode, stat.st_rdev))?;
        chmodat(&folder.to, name, mode, AtFlags::empty())?;
        self.finish_node(folder, finish, name, stat)
    }

    fn finish_node(
        &self,
        folder: &Folder,
        finish: &Finish,
        name: &std::ffi::CStr,
        stat: &Stat,
    ) -> io::Result<()> {
        let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
        chownat(&folder.to, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            chmodat(&folder.to, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
        }
        let name_in = |fd: BorrowedFd<'_>| fd_path(fd).join(OsStr::from_bytes(name.to_bytes()));
        let found = attributes::read_path(&name_in(folder.from.as_fd()))?;
        attributes::write_path(&name_in(folder.to.as_fd()), &found, !finish.gives_acl)?;
        Ok(utimensat(&folder.to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Makes a hard link to where another name of the same file was copied. `false`: this is the first, copy it.
    fn link(&self, folder: &Folder, name: &std::ffi::CStr, path: &Path, stat: &Stat) -> io::Result<bool> {
        let mut links = locked(&self.links);
        let file = (stat.st_dev, stat.st_ino);
        loop {
            match links.get(&file).cloned() {
                None => {
                    links.insert(file, Link::Coming);
                    return Ok(false);
                }
                Some(Link::Coming) => {
                    // Another worker copies it now. Failures wake too: the loop ends with the whole work.
                    drop(links);
                    self.cancel.checkpoint().map_err(io::Error::other)?;
                    if locked(&self.queue.state).failure.is_some() {
                        return Ok(true);
                    }
                    std::thread::yield_now();
                    links = locked(&self.links);
                }
                Some(Link::At(first)) => {
                    drop(links);
                    debug_assert_ne!(first, path, "a file is no link to itself");
                    let first = self.target.join(first);
                    return retry_over_old(&folder.to, name, || {
                        linkat(CWD, &first, &folder.to, name, AtFlags::empty())
                    })
                    .map(|()| true);
                }
            }
        }
    }

    fn link_is_there(&self, file: (u64, u64), path: Option<&Path>) {
        let mut links = locked(&self.links);
        match path {
            Some(path) => links.insert(file, Link::At(path.to_owned())),
            None => links.remove(&file),
        };
    }

    fn remove_what_is_gone(&self, folder: &Folder, present: &HashSet<CString>) -> io::Result<()> {
        for entry in Dir::read_from(&*folder.to)? {
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

/// Whether something else is mounted there. A subvolume has a device number of its own too, and belongs to the tree.
fn is_mount_root(folder: &Folder, name: &std::ffi::CStr) -> io::Result<bool> {
    let found = statx(&folder.from, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Removes a name and all below it.
fn remove(folder: &OwnedFd, name: &std::ffi::CStr) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {
            Ok(std::fs::remove_dir_all(fd_path(folder.as_fd()).join(OsStr::from_bytes(name.to_bytes())))?)
        }
        other => Ok(other?),
    }
}

/// Makes something; when the name is taken by what an older copy left, removes that and tries again.
fn retry_over_old<T>(
    folder: &OwnedFd,
    name: &std::ffi::CStr,
    make: impl Fn() -> Result<T, Errno>,
) -> io::Result<T> {
    match make() {
        Err(Errno::EXIST) => {
            remove(folder, name)?;
            Ok(make()?)
        }
        other => Ok(other?),
    }
}

/// Whether the target has the same file already, by type, size, time, owner, mode and attributes. What has several names
/// is always written again, so that links come out right.
fn is_same(folder: &Folder, name: &std::ffi::CStr, stat: &Stat) -> bool {
    let Ok(there) = statat(&folder.to, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
    let key = |stat: &Stat| {
        (
            stat.st_mode,
            stat.st_size,
            stat.st_mtime,
            stat.st_mtime_nsec,
            stat.st_uid,
            stat.st_gid,
            stat.st_rdev,
        )
    };
    let found = |fd: BorrowedFd<'_>| {
        attributes::read_path(&fd_path(fd).join(OsStr::from_bytes(name.to_bytes()))).ok()
    };
    let is_alone = stat.st_nlink == 1 && there.st_nlink == 1;
    is_alone
        && key(stat) == key(&there)
        && found(folder.from.as_fd()) == found(folder.to.as_fd())
        && has_same_content(folder, name, stat).unwrap_or(false)
}

/// Size and time don't tell: a file may be written twice within a tick of the clock, or be given its old time back.
fn has_same_content(folder: &Folder, name: &std::ffi::CStr, stat: &Stat) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let (from, to) = (
                openat(&folder.from, name, flags, Mode::empty())?,
                openat(&folder.to, name, flags, Mode::empty())?,
            );
            data::are_equal(&from.into(), &to.into())
        }
        FileType::Symlink => {
            let target = |folder: BorrowedFd<'_>| readlinkat(folder, name, Vec::new());
            Ok(target(folder.from.as_fd())? == target(folder.to.as_fd())?)
        }
        // Its numbers were compared.
        _ => Ok(true),
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
fn fd_path(fd: BorrowedFd<'_>) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}
