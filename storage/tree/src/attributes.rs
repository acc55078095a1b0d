//! Extended attributes, POSIX ACLs and file capabilities among them.

use rustix::fs::{
    XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, lgetxattr, llistxattr, lsetxattr,
};
use rustix::io::Errno;
use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// Names and values, sorted by name.
pub(crate) type Attributes = Vec<(CString, Vec<u8>)>;

/// Belongs to the filesystem's own bookkeeping, not to the file; the last two are xfs' other names of the ACLs.
const LEFT_OUT: &[&[u8]] = &[
    b"security.selinux",
    b"system.nfs4_acl",
    b"system.cifs_acl",
    b"trusted.SGI_ACL_FILE",
    b"trusted.SGI_ACL_DEFAULT",
];

/// Whether what is made in a directory with these attributes gets an ACL that nobody asked for.
pub(crate) fn are_inherited(attributes: &Attributes) -> bool {
    attributes.iter().any(|(name, _)| name.as_c_str() == c"system.posix_acl_default")
}

/// Grows a buffer until what is asked for fits.
fn sized(mut ask: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> io::Result<Vec<u8>> {
    // Most files have none: one call with an ordinary buffer answers that.
    let mut buffer = vec![0; 256];
    loop {
        match ask(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer = vec![0; buffer.len() * 8],
            Err(Errno::OPNOTSUPP | Errno::NODATA) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// How btrfs keeps a file (`btrfs.compression`): no other filesystem knows it, and each btrfs has its own way.
const PROPERTIES: &[u8] = b"btrfs.";

fn is_copied(name: &[u8]) -> bool {
    !name.is_empty() && !LEFT_OUT.contains(&name) && !name.starts_with(PROPERTIES)
}

fn names(list: &[u8]) -> impl Iterator<Item = CString> + '_ {
    let parts = list.split(|byte| *byte == 0).filter(|name| is_copied(name));
    parts.filter_map(|name| CString::new(name).ok())
}

/// The attributes of an open file.
pub(crate) fn read(file: BorrowedFd<'_>) -> io::Result<Attributes> {
    let list = sized(|buffer| flistxattr(file, buffer))?;
    let mut found = Vec::new();
    for name in names(&list) {
        let value = sized(|buffer| fgetxattr(file, name.as_c_str(), buffer))?;
        found.push((name, value));
    }
    found.sort();
    Ok(found)
}

/// The attributes of what can't be opened for reading: a link, a device, a FIFO, a socket.
pub(crate) fn read_path(path: &Path) -> io::Result<Attributes> {
    let list = sized(|buffer| llistxattr(path, buffer))?;
    let mut found = Vec::new();
    for name in names(&list) {
        let value = sized(|buffer| lgetxattr(path, name.as_c_str(), buffer))?;
        found.push((name, value));
    }
    found.sort();
    Ok(found)
}

/// Gives an open file exactly these attributes; `is_new` says that it has none yet, inherited ones included.
pub(crate) fn write(file: BorrowedFd<'_>, wanted: &Attributes, is_new: bool) -> io::Result<()> {
    if !is_new {
        for (name, _) in read(file)? {
            if !wanted.iter().any(|(kept, _)| *kept == name) {
                match fremovexattr(file, name.as_c_str()) {
                    Err(Errno::OPNOTSUPP | Errno::NODATA) | Ok(()) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    for (name, value) in wanted {
        fsetxattr(file, name.as_c_str(), value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Gives what can't be opened exactly these attributes; `is_new` as for [`write`].
pub(crate) fn write_path(path: &Path, wanted: &Attributes, is_new: bool) -> io::Result<()> {
    if !is_new {
        for (name, _) in read_path(path)? {
            if !wanted.iter().any(|(kept, _)| *kept == name) {
                rustix::fs::lremovexattr(path, name.as_c_str())?;
            }
        }
    }
    for (name, value) in wanted {
        lsetxattr(path, name.as_c_str(), value, XattrFlags::empty())?;
    }
    Ok(())
}
