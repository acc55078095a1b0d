//! Loop devices: a file as a block device, found again by the file it is made of.
//!
//! Source: `loop(4)`, `linux/loop.h`.

use larder_base::Cancel;
use larder_base::host::Act;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// `struct loop_info64`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct LoopConfig {
    file: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const LOOP_CLR_FD: libc::c_ulong = 0x4C01;
const LOOP_GET_STATUS64: libc::c_ulong = 0x4C05;
const LOOP_SET_CAPACITY: libc::c_ulong = 0x4C07;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
/// Past the page cache of the file, where its filesystem can; the kernel drops the flag elsewhere.
const DIRECT_IO: u32 = 16;
/// A device goes when the last who has it open closes it, which may be somebody who only looks, or a mount that another
/// namespace has a copy of. How long that is waited for, and how often looked at; the kernel waits on.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);
/// How often a free device may be taken by somebody else before we get one.
const TRIES: u32 = 64;

fn call(device: &File, request: libc::c_ulong, argument: libc::c_ulong) -> io::Result<i32> {
    // SAFETY: the requests used with this function take a number or a pointer to a structure that outlives the call.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), request, argument) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
}

fn info() -> LoopInfo {
    // SAFETY: the structure is plain numbers, for which zeros are valid.
    unsafe { std::mem::zeroed() }
}

/// The loop device that is made of `file`, if there is one.
pub(crate) fn device_of(file: &Path) -> io::Result<Option<PathBuf>> {
    let wanted = match fs::metadata(file) {
        Ok(metadata) => (metadata.dev(), metadata.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in fs::read_dir("/sys/block")? {
        let entry = entry?;
        let is_in_use = entry.path().join("loop").is_dir();
        let device = Path::new("/dev").join(entry.file_name());
        let Some(open) = is_in_use.then(|| File::open(&device).ok()).flatten() else { continue };
        let mut found = info();
        let told = call(&open, LOOP_GET_STATUS64, (&raw mut found).addr() as libc::c_ulong);
        if told.is_ok() && (found.device, found.inode) == wanted {
            return Ok(Some(device));
        }
    }
    Ok(None)
}

/// Puts a file on a free loop device; fine when it is on one already. [`device_of`] tells which.
#[derive(Debug, Clone)]
pub(crate) struct AttachLoop {
    /// The file.
    pub(crate) file: PathBuf,
}

impl Act for AttachLoop {
    fn describe(&self) -> String {
        format!("put {} on a loop device", self.file.display())
    }

    fn apply(&self, _: &Cancel) -> io::Result<()> {
        if device_of(&self.file)?.is_some() {
            return Ok(());
        }
        let file = OpenOptions::new().read(true).write(true).open(&self.file)?;
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        for _ in 0..TRIES {
            let number = call(&control, LOOP_CTL_GET_FREE, 0)?;
            let device = OpenOptions::new().read(true).write(true).open(format!("/dev/loop{number}"))?;
            match configure(&device, file.as_raw_fd()) {
                // Somebody else was quicker.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                other => return other,
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "no loop device is free"))
    }
}

fn configure(device: &File, file: RawFd) -> io::Result<()> {
    let file = u32::try_from(file).map_err(io::Error::other)?;
    let mut config = LoopConfig { file, block_size: 0, info: info(), reserved: [0; 8] };
    config.info.flags = DIRECT_IO;
    call(device, LOOP_CONFIGURE, (&raw const config).addr() as libc::c_ulong).map(|_| ())
}

/// Takes a file off its loop device; fine when it is on none.
#[derive(Debug, Clone)]
pub(crate) struct DetachLoop {
    /// The file.
    pub(crate) file: PathBuf,
}

impl Act for DetachLoop {
    fn describe(&self) -> String {
        format!("take {} off its loop device", self.file.display())
    }

    fn apply(&self, _: &Cancel) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut asked = false;
        while let Some(device) = device_of(&self.file)? {
            if !asked {
                match call(&File::open(device)?, LOOP_CLR_FD, 0) {
                    Err(error) if error.raw_os_error() != Some(libc::ENXIO) => return Err(error),
                    _ => asked = true,
                }
            } else if Instant::now() < deadline {
                std::thread::sleep(PAUSE);
            } else {
                break;
            }
        }
        Ok(())
    }
}

/// Lets the loop device of a file that has grown be as long as the file.
#[derive(Debug, Clone)]
pub(crate) struct RefreshLoop {
    /// The file.
    pub(crate) file: PathBuf,
}

impl Act for RefreshLoop {
    fn describe(&self) -> String {
        format!("let the loop device of {} have its new length", self.file.display())
    }

    fn apply(&self, _: &Cancel) -> io::Result<()> {
        match device_of(&self.file)? {
            Some(device) => call(&File::open(device)?, LOOP_SET_CAPACITY, 0).map(|_| ()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_as_long_as_the_kernels() {
        assert_eq!((size_of::<LoopInfo>(), size_of::<LoopConfig>()), (232, 304));
    }

    #[test]
    fn a_file_goes_on_a_loop_device_grows_and_comes_off_again() {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            eprintln!(
                "skipped: a_file_goes_on_a_loop_device_grows_and_comes_off_again: needs root and loop devices"
            );
            return;
        }
        let never = Cancel::never();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        let long =
            |length: u64| File::options().create(true).append(true).open(&file).unwrap().set_len(length);
        long(1 << 20).unwrap();
        assert_eq!(device_of(&file).unwrap(), None);
        AttachLoop { file: file.clone() }.apply(&never).unwrap();
        let device = device_of(&file).unwrap().unwrap();
        AttachLoop { file: file.clone() }.apply(&never).unwrap();
        assert_eq!(device_of(&file).unwrap().as_ref(), Some(&device));
        let length = || {
            let mut open = File::open(&device).unwrap();
            io::Seek::seek(&mut open, io::SeekFrom::End(0)).unwrap()
        };
        assert_eq!(length(), 1 << 20);
        long(2 << 20).unwrap();
        RefreshLoop { file: file.clone() }.apply(&never).unwrap();
        assert_eq!(length(), 2 << 20);
        DetachLoop { file: file.clone() }.apply(&never).unwrap();
        DetachLoop { file: file.clone() }.apply(&never).unwrap();
        // Somebody who has just been told of the device may still have it open.
        let deadline = Instant::now() + Duration::from_secs(30);
        while device_of(&file).unwrap().is_some() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(device_of(&file).unwrap(), None);
    }

    #[test]
    fn a_disk_that_ends_with_a_hole_is_copied_to_a_device() {
        use larder_storage_tree::{CopyFile, CopyMode};
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            eprintln!(
                "skipped: a_disk_that_ends_with_a_hole_is_copied_to_a_device: needs root and loop devices"
            );
            return;
        }
        let never = Cancel::never();
        let folder = tempfile::tempdir().unwrap();
        let (from, file) = (folder.path().join("from"), folder.path().join("disk"));
        std::fs::write(&from, "content").unwrap();
        for path in [&from, &file] {
            File::options().create(true).append(true).open(path).unwrap().set_len(4 << 20).unwrap();
        }
        AttachLoop { file: file.clone() }.apply(&never).unwrap();
        let to = device_of(&file).unwrap().unwrap();
        let progress = larder_base::Progress::silent();
        let copy = CopyFile { from: from.clone(), to, mode: CopyMode::Fresh, progress };
        copy.apply(&never).unwrap();
        DetachLoop { file: file.clone() }.apply(&never).unwrap();
        assert!(std::fs::read(&from).unwrap() == std::fs::read(&file).unwrap());
    }
}
