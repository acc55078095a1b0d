//! Nobody else on the host reaches what a pool holds.

use crate::content::custom;
use crate::{Behaviour, Lab, Outcome, World, ensure};
use larder_base::KeptId;
use larder_base::host::SystemHost;
use larder_storage_driver::{Attached, Content, Cx, ErrorKind, Mode, Result, StorageError};
use larder_storage_pool::Fill;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub(crate) fn trials() -> Vec<Behaviour> {
    vec![("nothing_is_reachable_for_another_user_of_the_host", nothing_is_reachable)]
}

/// The user that owns nothing.
const NOBODY: u32 = 65534;

/// Writes files that everybody could read, and looks while it still stages.
struct Looking<'a> {
    folder: &'a Path,
}

fn write_open(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777))?;
    fs::write(folder.join("open"), "secret")?;
    fs::set_permissions(folder.join("open"), fs::Permissions::from_mode(0o4777))?;
    Ok(())
}

impl Fill for Looking<'_> {
    fn fill(&self, _: &Cx<'_>, into: &Attached) -> Result<()> {
        write_open(into.directory()?)?;
        look(self.folder)
            .map_err(|error| StorageError::new(ErrorKind::Unexpected, format!("while staged: {error}")))
    }
}

fn nothing_is_reachable(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let cx = world.cx(&SystemHost);
    let folder = world.folder();
    let (live, kept, trashed) = (
        custom(Content::Filesystem, "live")?,
        custom(Content::Filesystem, "kept")?,
        custom(Content::Filesystem, "trashed")?,
    );
    for volume in [&live, &kept, &trashed] {
        let spec = larder_storage_driver::VolumeSpec::new(volume.clone());
        world.pool().create_volume(&cx, &spec, &Looking { folder: &folder })?;
    }
    world.snapshot(&cx, &live, &"s0".parse()?)?;
    world.pool().keep(&cx, &kept, KeptId::random())?;
    let trashed = world.pool().trash(&cx, &larder_storage_driver::Place::live(&trashed))?;
    // Some technologies show on the host only what is in use.
    world.pool().attach(&cx, &live, Mode::ReadWrite)?;
    world.pool().attach_snapshot(&cx, &live, &"s0".parse()?)?;
    let looked = look(&folder);
    world.pool().detach_snapshot(&cx, &live, &"s0".parse()?)?;
    world.pool().detach(&cx, &live)?;
    looked?;
    Ok(world.pool().destroy(&cx, &trashed)?)
}

/// Walks as another user, knowing every name, and tells what could be opened.
fn look(folder: &Path) -> Outcome {
    let mut paths = Vec::new();
    collect(folder, &mut paths);
    ensure(paths.iter().any(|path| path.ends_with("open")), "there is nothing to be found")?;
    let found = as_nobody(&paths)?;
    ensure(found.is_none(), format!("uid {NOBODY} reaches {found:?}"))
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        // The folder itself may be known; what is in a volume may not be.
        if path.ends_with("open") {
            paths.push(path.clone());
        }
        if is_folder {
            collect(&path, paths);
        }
    }
}

/// The first of `paths` that a child running as nobody can open or even look at.
fn as_nobody(paths: &[PathBuf]) -> std::io::Result<Option<PathBuf>> {
    use std::os::unix::ffi::OsStrExt;
    let names: Vec<_> =
        paths.iter().filter_map(|path| std::ffi::CString::new(path.as_os_str().as_bytes()).ok()).collect();
    // SAFETY: the child makes system calls only, on memory that was prepared before, and ends without unwinding.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()),
        0 => {
            // SAFETY: as above.
            unsafe {
                libc::setgroups(0, std::ptr::null());
                if libc::setresgid(NOBODY, NOBODY, NOBODY) != 0
                    || libc::setresuid(NOBODY, NOBODY, NOBODY) != 0
                {
                    libc::_exit(254);
                }
                for (number, name) in names.iter().enumerate() {
                    let can_open = libc::open(name.as_ptr(), libc::O_RDONLY) >= 0;
                    let can_look = libc::access(name.as_ptr(), libc::F_OK) == 0;
                    if can_open || can_look {
                        libc::_exit(i32::try_from(number).unwrap_or(0).min(200) + 1);
                    }
                }
                libc::_exit(0)
            }
        }
        child => {
            let mut status = 0;
            // SAFETY: `child` is ours and was not waited for.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            match libc::WEXITSTATUS(status) {
                0 => Ok(None),
                254 => Err(std::io::Error::other("the child could not become nobody")),
                number => Ok(usize::try_from(number - 1).ok().and_then(|number| paths.get(number)).cloned()),
            }
        }
    }
}
