//! A tree with every kind of file, for copies to keep.

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::Path;

/// Access ACL: owner rw-, user 1234 r--, group r--, mask r--, other ---.
const ACL: &[u8] = &[
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 210, 4, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16,
    0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
];
/// `cap_net_raw+ep`, version 2.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Makes one file of every kind below `root`.
pub fn make(root: &Path) -> io::Result<()> {
    fs::create_dir_all(root.join("dir/deep"))?;
    fs::write(root.join("plain"), "text")?;
    fs::hard_link(root.join("plain"), root.join("dir/deep/link"))?;
    symlink("../plain", root.join("dir/symlink"))?;
    fs::write(root.join(OsStr::from_bytes(b"new\nline \xff\xfe")), "odd")?;
    let sparse = fs::File::create(root.join("sparse"))?;
    sparse.set_len(8 << 20)?;
    sparse.write_all_at(b"middle", 4 << 20)?;
    for (name, kind, device) in [
        ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("loop", FileType::BlockDevice, rustix::fs::makedev(7, 99)),
        ("fifo", FileType::Fifo, 0),
        ("socket", FileType::Socket, 0),
    ] {
        mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o640), device)?;
    }
    fs::write(root.join("setuid"), "#!")?;
    lchown(root.join("setuid"), Some(1_000_000), Some(1_000_001))?;
    fs::set_permissions(root.join("setuid"), fs::Permissions::from_mode(0o6755))?;
    lsetxattr(root.join("plain"), "user.colour", b"blue", XattrFlags::empty())?;
    set_acl(&root.join("sparse"), "system.posix_acl_access")?;
    set_acl(&root.join("dir"), "system.posix_acl_default")?;
    fs::write(root.join("capable"), "elf")?;
    lsetxattr(root.join("capable"), "security.capability", CAPABILITY, XattrFlags::empty())?;
    let old = fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789));
    for name in ["plain", "dir/deep", "dir"] {
        fs::File::open(root.join(name))?.set_times(old)?;
    }
    Ok(())
}

/// Changes some of these files: what is in them, in place and with the time of before, what they are, and what is said of
/// them; removes some, and adds one.
pub(crate) fn change(root: &Path, text: &str) -> io::Result<()> {
    let (plain, odd) = (root.join("plain"), root.join(OsStr::from_bytes(b"new\nline \xff\xfe")));
    let before = fs::metadata(&odd)?.modified()?;
    let file = fs::File::options().write(true).open(&odd)?;
    file.write_all_at(&text.as_bytes()[..3], 0)?;
    file.set_times(fs::FileTimes::new().set_modified(before))?;
    fs::remove_file(&plain)?;
    fs::write(&plain, "text")?;
    fs::write(root.join("added"), text)?;
    fs::set_permissions(root.join("sparse"), fs::Permissions::from_mode(0o600))?;
    lsetxattr(root.join("capable"), "user.colour", text.as_bytes(), XattrFlags::empty())?;
    fs::remove_file(root.join("fifo"))?;
    fs::remove_file(root.join("dir/symlink"))?;
    symlink("../sparse", root.join("dir/symlink"))
}

/// A kernel may be built without access lists for a filesystem: then there is none to be kept.
fn set_acl(path: &Path, name: &str) -> io::Result<()> {
    match lsetxattr(path, name, ACL, XattrFlags::empty()) {
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        other => Ok(other?),
    }
}
