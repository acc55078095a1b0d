//! The kernel's calls for btrfs, as far as they are needed.
//!
//! Source: `linux/btrfs.h`, `btrfs-ioctl(2)`.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use uuid::Uuid;

const READ: libc::c_ulong = 2 << 30;
const WRITE: libc::c_ulong = 1 << 30;

const fn request<T>(direction: libc::c_ulong, number: libc::c_ulong) -> libc::c_ulong {
    direction | ((size_of::<T>() as libc::c_ulong) << 16) | (0x94 << 8) | number
}

/// Calls with a structure that the kernel reads, fills, or both.
fn call<T>(file: &File, request: libc::c_ulong, data: &mut T) -> io::Result<()> {
    // SAFETY: `data` is the structure whose size `request` carries, plain numbers and bytes, and outlives the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), request, std::ptr::from_mut(data)) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct VolumeArguments {
    file: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

const READ_ONLY: u64 = 1 << 1;

fn arguments(name: &OsStr, source: Option<RawFd>, flags: u64) -> io::Result<VolumeArguments> {
    let mut arguments = VolumeArguments {
        file: source.map_or(0, i64::from),
        transaction: 0,
        flags,
        unused: [0; 4],
        name: [0; 4040],
    };
    put(&mut arguments.name, name)?;
    Ok(arguments)
}

/// Puts a name into a field, leaving room for the NUL.
fn put(field: &mut [u8], name: &OsStr) -> io::Result<()> {
    if name.len() >= field.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name is too long"));
    }
    field[..name.len()].copy_from_slice(name.as_bytes());
    Ok(())
}

/// The text of a field, up to its NUL.
fn text(field: &[u8]) -> OsString {
    CStr::from_bytes_until_nul(field)
        .map_or_else(|_| OsString::new(), |text| OsString::from_vec(text.to_bytes().into()))
}

/// Makes an empty subvolume `name` in `parent`.
pub(super) fn create_subvolume(parent: &File, name: &OsStr) -> io::Result<()> {
    call(parent, request::<VolumeArguments>(WRITE, 24), &mut arguments(name, None, 0)?)
}

/// Makes a snapshot `name` of `source` in `parent`.
pub(super) fn create_snapshot(parent: &File, name: &OsStr, source: &File, read_only: bool) -> io::Result<()> {
    let flags = if read_only { READ_ONLY } else { 0 };
    let mut arguments = arguments(name, Some(source.as_raw_fd()), flags)?;
    call(parent, request::<VolumeArguments>(WRITE, 23), &mut arguments)
}

/// Destroys the subvolume `name` in `parent`; it must have no other subvolume in it.
pub(super) fn destroy_subvolume(parent: &File, name: &OsStr) -> io::Result<()> {
    call(parent, request::<VolumeArguments>(WRITE, 63), &mut arguments(name, None, 0)?)
}

/// Whether a subvolume is read-only.
pub(super) fn is_read_only(subvolume: &File) -> io::Result<bool> {
    let mut flags = 0_u64;
    call(subvolume, request::<u64>(READ, 25), &mut flags)?;
    Ok(flags & READ_ONLY != 0)
}

/// Lets a subvolume be read-only, or not.
pub(super) fn set_read_only(subvolume: &File, read_only: bool) -> io::Result<()> {
    let mut flags = 0_u64;
    call(subvolume, request::<u64>(READ, 25), &mut flags)?;
    flags = if read_only { flags | READ_ONLY } else { flags & !READ_ONLY };
    call(subvolume, request::<u64>(WRITE, 26), &mut flags)
}

/// `struct btrfs_ioctl_get_subvol_rootref_args`.
#[repr(C)]
struct RootReferences {
    first_tree: u64,
    /// The tree of a subvolume, and the directory it stands in.
    found: [[u64; 2]; 255],
    count: u8,
    padding: [u8; 7],
}

/// `struct btrfs_ioctl_ino_lookup_user_args`.
#[repr(C)]
struct NameOf {
    directory: u64,
    tree: u64,
    name: [u8; 256],
    path: [u8; 3824],
}

/// The subvolumes directly in the one whose root is `subvolume`, by their paths in it.
pub(super) fn children(subvolume: &File) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let mut first_tree = 0;
    loop {
        let mut references = RootReferences { first_tree, found: [[0; 2]; 255], count: 0, padding: [0; 7] };
        let asked = call(subvolume, request::<RootReferences>(READ | WRITE, 61), &mut references);
        let has_more = match asked {
            Ok(()) => false,
            Err(error) if error.raw_os_error() == Some(libc::EOVERFLOW) => true,
            Err(error) => return Err(error),
        };
        for [tree, directory] in &references.found[..usize::from(references.count)] {
            let mut name = NameOf { directory: *directory, tree: *tree, name: [0; 256], path: [0; 3824] };
            match call(subvolume, request::<NameOf>(READ | WRITE, 62), &mut name) {
                Ok(()) => paths.push(PathBuf::from(text(&name.path)).join(text(&name.name))),
                // It went while we looked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            first_tree = tree + 1;
        }
        if !has_more {
            return Ok(paths);
        }
    }
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct TreeOf {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

/// The inode of every subvolume's root.
pub(super) const ROOT_INODE: u64 = 256;

/// The number of the subvolume that a file is in.
pub(super) fn tree_of(file: &File) -> io::Result<u64> {
    let mut found = TreeOf { tree: 0, object: ROOT_INODE, name: [0; 4080] };
    call(file, request::<TreeOf>(READ | WRITE, 18), &mut found)?;
    Ok(found.tree)
}

/// `struct btrfs_ioctl_fs_info_args`, of which the identifier is looked at.
#[repr(C)]
struct FilesystemInfo {
    largest_device: u64,
    devices: u64,
    identifier: [u8; 16],
    rest: [u8; 992],
}

/// `struct btrfs_ioctl_get_subvol_info_args`.
#[repr(C)]
struct SubvolumeInfo {
    tree: u64,
    name: [u8; 256],
    parent: u64,
    directory: u64,
    generation: u64,
    flags: u64,
    identifier: [u8; 16],
    parent_identifier: [u8; 16],
    received: [u8; 16],
    changed: u64,
    made: u64,
    sent: u64,
    arrived: u64,
    times: [[u64; 2]; 4],
    reserved: [u64; 8],
}

/// What a subvolume is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// Its own identifier.
    pub(super) own: Uuid,
    /// That of the subvolume it was received as, and the transaction it was sent in.
    pub(super) received: Option<(Uuid, u64)>,
}

/// Reads what a subvolume is known by.
pub(super) fn identity(subvolume: &File) -> io::Result<Identity> {
    let mut info = SubvolumeInfo {
        tree: 0,
        name: [0; 256],
        parent: 0,
        directory: 0,
        generation: 0,
        flags: 0,
        identifier: [0; 16],
        parent_identifier: [0; 16],
        received: [0; 16],
        changed: 0,
        made: 0,
        sent: 0,
        arrived: 0,
        times: [[0; 2]; 4],
        reserved: [0; 8],
    };
    call(subvolume, request::<SubvolumeInfo>(READ, 60), &mut info)?;
    let received = Uuid::from_bytes(info.received);
    let received = (!received.is_nil()).then_some((received, info.sent));
    Ok(Identity { own: Uuid::from_bytes(info.identifier), received })
}

/// `struct btrfs_ioctl_received_subvol_args`.
#[repr(C)]
struct Received {
    identifier: [u8; 16],
    sent: u64,
    arrived: u64,
    times: [[u64; 2]; 2],
    flags: u64,
    reserved: [u64; 16],
}

/// Notes as what a subvolume was received.
pub(super) fn set_received(subvolume: &File, identifier: Uuid, sent: u64) -> io::Result<()> {
    let mut received = Received {
        identifier: *identifier.as_bytes(),
        sent,
        arrived: 0,
        times: [[0; 2]; 2],
        flags: 0,
        reserved: [0; 16],
    };
    call(subvolume, request::<Received>(READ | WRITE, 37), &mut received)
}

/// The identifier of the btrfs that a file is on; `None` on another filesystem.
pub(super) fn filesystem_of(file: &File) -> Option<Uuid> {
    let mut info = FilesystemInfo { largest_device: 0, devices: 0, identifier: [0; 16], rest: [0; 992] };
    call(file, request::<FilesystemInfo>(READ, 31), &mut info).ok()?;
    Some(Uuid::from_bytes(info.identifier))
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct ResizeArguments {
    file: i64,
    name: [u8; 4088],
}

/// Lets the filesystem take all of its (first) device.
pub(super) fn grow_to_device(root: &File) -> io::Result<()> {
    let mut arguments = ResizeArguments { file: 0, name: [0; 4088] };
    put(&mut arguments.name, OsStr::new("max"))?;
    call(root, request::<ResizeArguments>(WRITE, 3), &mut arguments)
}

/// Switches quotas on for a filesystem; fine when they are.
pub(super) fn enable_quotas(root: &File) -> io::Result<()> {
    let mut arguments = [1_u64, 0];
    call(root, request::<[u64; 2]>(READ | WRITE, 40), &mut arguments)
}

/// Makes the counter of a subvolume.
pub(super) fn create_counter(root: &File, tree: u64) -> io::Result<()> {
    let mut arguments = [1_u64, tree];
    call(root, request::<[u64; 2]>(WRITE, 42), &mut arguments)
}

const LIMITS_REFERENCED: u64 = 1;
const NO_LIMIT: u64 = u64::MAX;

/// Limits the bytes that a subvolume refers to, whoever else does; `None` lifts the limit.
pub(super) fn limit(root: &File, tree: u64, bytes: Option<u64>) -> io::Result<()> {
    // `struct btrfs_ioctl_qgroup_limit_args`: number, flags, limits of referenced and exclusive bytes, two reserved.
    let mut arguments = [tree, LIMITS_REFERENCED, bytes.unwrap_or(NO_LIMIT), 0, 0, 0];
    call(root, request::<[u64; 6]>(READ, 43), &mut arguments)
}

/// What quotas know of a subvolume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counter {
    /// Bytes referred to, as of the last transaction.
    pub(super) referenced: Option<u64>,
    /// The limit of them.
    pub(super) limit: Option<u64>,
}

/// `struct btrfs_ioctl_search_args_v2` with room for what is looked for: two small items.
#[repr(C)]
struct Search {
    tree: u64,
    object: [u64; 2],
    offset: [u64; 2],
    transaction: [u64; 2],
    kind: [u32; 2],
    count: u32,
    unused: u32,
    unused_too: [u64; 4],
    size: u64,
    found: [u64; 64],
}

const QUOTA_TREE: u64 = 8;
const COUNTER_INFO: u32 = 242;
const COUNTER_LIMIT: u32 = 244;
/// The request carries the size of the structure without its room.
const SEARCH: libc::c_ulong = READ | WRITE | (112 << 16) | (0x94 << 8) | 17;

/// Reads a subvolume's counter; empty when quotas are off.
pub(super) fn counter(root: &File, tree: u64) -> io::Result<Counter> {
    let mut counter = Counter::default();
    for kind in [COUNTER_INFO, COUNTER_LIMIT] {
        let mut search = Search {
            tree: QUOTA_TREE,
            object: [0, 0],
            offset: [tree, tree],
            transaction: [0, u64::MAX],
            kind: [kind, kind],
            count: 1,
            unused: 0,
            unused_too: [0; 4],
            size: size_of::<[u64; 64]>() as u64,
            found: [0; 64],
        };
        match call(root, SEARCH, &mut search) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Counter::default()),
            other => other?,
        }
        if search.count == 0 {
            continue;
        }
        // A header of 32 bytes, then numbers in little endian: generation and referenced bytes, or flags and their limit.
        let number = |index: usize| u64::from_le(search.found[4 + index]);
        match kind {
            COUNTER_INFO => counter.referenced = Some(number(1)),
            _ if number(0) & LIMITS_REFERENCED != 0 => counter.limit = Some(number(1)),
            _ => {}
        }
    }
    Ok(counter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<VolumeArguments>(), 4096);
        assert_eq!(
            (size_of::<RootReferences>(), size_of::<NameOf>(), size_of::<TreeOf>()),
            (4096, 4096, 4096)
        );
        assert_eq!((size_of::<FilesystemInfo>(), size_of::<ResizeArguments>()), (1024, 4096));
        assert_eq!((size_of::<SubvolumeInfo>(), size_of::<Received>()), (504, 200));
        assert_eq!(std::mem::offset_of!(Search, found), 112);
        assert_eq!(request::<VolumeArguments>(WRITE, 23), 0x5000_9417);
    }

    #[test]
    fn a_name_that_is_too_long_is_refused() {
        assert!(arguments(OsStr::new(&"x".repeat(4039)), None, 0).is_ok());
        assert!(arguments(OsStr::new(&"x".repeat(4040)), None, 0).is_err());
    }
}
