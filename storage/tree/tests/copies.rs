//! Copies of trees with every kind of file, on every filesystem this machine can make.

#![expect(clippy::unwrap_used, reason = "a test panics to fail and says what it skips")]

use larder_base::host::Act;
use larder_base::{Cancel, Progress};
use larder_storage_tree::{CopyFile, CopyMode, CopyTree, manifest};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// Access ACL: owner rw-, user 1234 r--, group r--, mask r--, other ---.
const ACL: &[u8] = &[
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 210, 4, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16,
    0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
];
/// `cap_net_raw+ep`, version 2.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A tree with every kind of file.
fn make_tree(root: &Path) {
    fs::create_dir_all(root.join("dir/deep/er")).unwrap();
    fs::write(root.join("plain"), "text").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("dir/big"), vec![7; 3 << 20]).unwrap();
    fs::hard_link(root.join("plain"), root.join("dir/deep/link")).unwrap();
    fs::hard_link(root.join("plain"), root.join("again")).unwrap();
    symlink("../plain", root.join("dir/symlink")).unwrap();
    symlink("/nowhere", root.join("dangling")).unwrap();
    lchown(root.join("dangling"), Some(11), Some(12)).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"new\nline \xff\xfe")), "odd").unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all_at(b"middle", 32 << 20).unwrap();
    for (name, kind, device) in [
        ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("loop", FileType::BlockDevice, rustix::fs::makedev(7, 99)),
        ("fifo", FileType::Fifo, 0),
        ("socket", FileType::Socket, 0),
    ] {
        mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    }
    fs::write(root.join("setuid"), "#!").unwrap();
    lchown(root.join("setuid"), Some(1000), Some(1001)).unwrap();
    fs::set_permissions(root.join("setuid"), fs::Permissions::from_mode(0o6755)).unwrap();
    lsetxattr(root.join("dir/big"), "user.colour", b"blue", XattrFlags::empty()).unwrap();
    lsetxattr(root.join("dir/big"), "trusted.mark", b"1", XattrFlags::empty()).unwrap();
    lsetxattr(root.join("empty"), "system.posix_acl_access", ACL, XattrFlags::empty()).unwrap();
    lsetxattr(root.join("dir"), "system.posix_acl_default", ACL, XattrFlags::empty()).unwrap();
    lsetxattr(root.join("dir/deep/er"), "user.on a directory", b"", XattrFlags::empty()).unwrap();
    fs::write(root.join("capable"), "elf").unwrap();
    lsetxattr(root.join("capable"), "security.capability", CAPABILITY, XattrFlags::empty()).unwrap();
    fs::set_permissions(root.join("dir/deep"), fs::Permissions::from_mode(0o2750)).unwrap();
    lchown(root.join("dir/deep"), Some(0), Some(50)).unwrap();
    let old = fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789));
    for name in ["plain", "dir/deep", "dir", ""] {
        fs::File::open(root.join(name)).unwrap().set_times(old).unwrap();
    }
}

fn copy(from: &Path, to: &Path, mode: CopyMode) {
    CopyTree::new(from, to, mode).apply(&Cancel::never()).unwrap();
}

fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (manifest(one).unwrap(), manifest(other).unwrap());
    assert!(one == other, "{}", one.difference(&other));
}

fn holds_in(folder: &Path) {
    let (from, to) = (folder.join("from"), folder.join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    make_tree(&from);
    copy(&from, &to, CopyMode::Fresh);
    assert_same(&from, &to);
    let blocks = fs::metadata(to.join("sparse")).unwrap().blocks();
    assert!(blocks * 512 < 4 << 20, "the hole was filled: {blocks} blocks");

    // A repeated copy over what an interrupted one left ends the same.
    fs::remove_file(to.join("plain")).unwrap();
    fs::write(to.join("dir/big"), "half").unwrap();
    copy(&from, &to, CopyMode::Fresh);
    assert_same(&from, &to);

    fs::remove_dir_all(from.join("dir/deep")).unwrap();
    fs::remove_file(from.join("null")).unwrap();
    fs::create_dir(from.join("null")).unwrap();
    fs::write(from.join("dir/big"), vec![8; 3 << 20]).unwrap();
    lsetxattr(from.join("setuid"), "user.only attributes changed", b"1", XattrFlags::empty()).unwrap();
    // As large and as old as before.
    let plain = from.join("plain");
    let before = fs::metadata(&plain).unwrap();
    let other = vec![b'x'; usize::try_from(before.len()).unwrap()];
    fs::write(&plain, other).unwrap();
    let times = fs::FileTimes::new().set_modified(before.modified().unwrap());
    fs::File::options().write(true).open(&plain).unwrap().set_times(times).unwrap();
    copy(&from, &to, CopyMode::Refresh);
    assert_same(&from, &to);
}

#[test]
fn a_copy_is_the_same_in_everything_on_the_hosts_filesystem() {
    if !is_root() {
        eprintln!("skipped: a_copy_is_the_same_in_everything_on_the_hosts_filesystem: needs root");
        return;
    }
    holds_in(tempfile::tempdir_in("/var/tmp").unwrap().path());
}

/// A filesystem on a loop file, unmounted when this is dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[expect(clippy::disallowed_methods, reason = "the test makes a filesystem as a person would")]
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = std::process::Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn mounted(folder: &Path, kind: &str) -> Result<Mounted, String> {
    let (image, at) = (folder.join("image"), folder.join("mounted"));
    fs::create_dir(&at).unwrap();
    fs::File::create(&image).unwrap().set_len(600 << 20).unwrap();
    run(&format!("mkfs.{kind}"), &["-q", image.to_str().unwrap()])?;
    run("mount", &["-o", "loop", image.to_str().unwrap(), at.to_str().unwrap()])?;
    Ok(Mounted(at))
}

#[test]
fn a_copy_is_the_same_on_filesystems_with_reflinks() {
    for kind in ["xfs", "btrfs"] {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        match mounted(folder.path(), kind) {
            Ok(mounted) => {
                holds_in(&mounted.0);
                let big = CopyFile {
                    from: mounted.0.join("from/dir/big"),
                    to: mounted.0.join("shared"),
                    mode: CopyMode::Fresh,
                    progress: Progress::silent(),
                };
                fs::write(mounted.0.join("shared"), "").unwrap();
                big.apply(&Cancel::never()).unwrap();
                assert_eq!(fs::read(&big.from).unwrap(), fs::read(&big.to).unwrap());
            }
            Err(reason) => eprintln!(
                "skipped: a_copy_is_the_same_on_filesystems_with_reflinks ({kind}): {}",
                reason.trim()
            ),
        }
    }
}

#[test]
fn what_is_mounted_inside_is_not_entered_and_a_link_leads_nowhere() {
    if !is_root() {
        eprintln!("skipped: what_is_mounted_inside_is_not_entered_and_a_link_leads_nowhere: needs root");
        return;
    }
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    for path in [&from, &to, &folder.path().join("outside"), &from.join("mount")] {
        fs::create_dir(path).unwrap();
    }
    fs::write(folder.path().join("outside/secret"), "x").unwrap();
    symlink(folder.path().join("outside"), to.join("mount")).unwrap();
    rustix::mount::mount_bind("/proc", from.join("mount")).unwrap();
    let _mounted = Mounted(from.join("mount"));
    copy(&from, &to, CopyMode::Fresh);
    assert!(to.join("mount").is_dir() && !to.join("mount").is_symlink());
    assert_eq!(fs::read_dir(to.join("mount")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(folder.path().join("outside/secret")).unwrap(), "x");
}

#[test]
fn a_disk_is_copied_with_its_holes_and_old_content_goes() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let disk = fs::File::create(&from).unwrap();
    disk.set_len(100 << 20).unwrap();
    disk.write_all_at(b"data", 50 << 20).unwrap();
    fs::write(&to, vec![9; 120 << 20]).unwrap();
    let mode = CopyMode::Fresh;
    CopyFile { from: from.clone(), to: to.clone(), mode, progress: Progress::silent() }
        .apply(&Cancel::never())
        .unwrap();
    let copied = fs::read(&to).unwrap();
    assert_eq!(copied.len(), 120 << 20, "a larger target keeps its size");
    assert_eq!(&copied[..100 << 20], &fs::read(&from).unwrap()[..]);
    assert!(copied[100 << 20..].iter().all(|byte| *byte == 0));
    assert!(fs::metadata(&to).unwrap().blocks() * 512 < 4 << 20);
}

#[test]
fn an_older_disk_is_written_only_where_it_differs() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    for (path, old) in [(&from, &b"new"[..]), (&to, b"old")] {
        let disk = fs::File::create(path).unwrap();
        disk.set_len(100 << 20).unwrap();
        disk.write_all_at(old, 50 << 20).unwrap();
        disk.write_all_at(b"same", 70 << 20).unwrap();
    }
    // Nothing but the two megabytes that differ may be written: this one is where the source has a hole.
    fs::OpenOptions::new().write(true).open(&to).unwrap().write_all_at(&[9; 100], 90 << 20).unwrap();
    fs::OpenOptions::new().write(true).open(&to).unwrap().set_len(120 << 20).unwrap();
    fs::OpenOptions::new().write(true).open(&to).unwrap().write_all_at(b"beyond", 110 << 20).unwrap();
    let before = fs::metadata(&to).unwrap().blocks() * 512;
    CopyFile { from: from.clone(), to: to.clone(), mode: CopyMode::Refresh, progress: Progress::silent() }
        .apply(&Cancel::never())
        .unwrap();
    let copied = fs::read(&to).unwrap();
    assert_eq!(copied.len(), 120 << 20, "a larger target keeps its size");
    assert!(copied[..100 << 20] == fs::read(&from).unwrap()[..]);
    assert!(copied[100 << 20..].iter().all(|byte| *byte == 0));
    let after = fs::metadata(&to).unwrap().blocks() * 512;
    assert!(after <= before + (2 << 20), "{before} before, {after} after");
}

#[test]
fn a_cancelled_copy_stops() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(from.join("file"), "x").unwrap();
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(CopyTree::new(from, to, CopyMode::Fresh).apply(&cancel).is_err());
}

#[test]
fn what_is_left_out_is_neither_copied_nor_removed() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    for path in [&from, &to] {
        fs::create_dir(path).unwrap();
        fs::write(path.join("root.img"), path.to_str().unwrap()).unwrap();
    }
    fs::write(from.join("config"), "x").unwrap();
    let all = CopyTree::new(from, &to, CopyMode::Refresh);
    let act = CopyTree { leave_out: Some("root.img".into()), ..all };
    act.apply(&Cancel::never()).unwrap();
    assert_eq!(fs::read_to_string(to.join("root.img")).unwrap(), to.to_str().unwrap());
    assert!(to.join("config").exists());
}

/// All files below a folder by path, with what tells whether they are the same.
fn inodes(root: &Path) -> std::collections::BTreeMap<PathBuf, (u64, u64)> {
    let mut found = std::collections::BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let about = fs::symlink_metadata(&path).unwrap();
            if about.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path.strip_prefix(root).unwrap().to_owned(), (about.dev(), about.ino()));
        }
    }
    found
}

#[test]
fn what_never_changes_is_shared_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let [from, to, again] = ["from", "to", "again"].map(|name| folder.path().join(name));
    for path in [&from, &to, &again] {
        fs::create_dir(path).unwrap();
    }
    for (name, content) in
        [("data/aa/1", "one"), ("data/ab/2", "two"), ("other/data/3", "three"), ("data.db", "x")]
    {
        fs::create_dir_all(from.join(name).parent().unwrap()).unwrap();
        fs::write(from.join(name), content).unwrap();
    }
    symlink("aa", from.join("data/link")).unwrap();
    for (source, target) in [(&from, &to), (&to, &again)] {
        let act =
            CopyTree { unchanging: Some("data".into()), ..CopyTree::new(source, target, CopyMode::Fresh) };
        act.apply(&Cancel::never()).unwrap();
        // What a copy that failed has left is no hindrance.
        act.apply(&Cancel::never()).unwrap();
        assert_same(source, target);
        let (ours, theirs) = (inodes(source), inodes(target));
        for (name, is_shared) in
            [("data/aa/1", true), ("data/ab/2", true), ("other/data/3", false), ("data.db", false)]
        {
            assert_eq!(ours[Path::new(name)] == theirs[Path::new(name)], is_shared, "{name}");
        }
    }
}

fn copy_beside(from: &Path, to: &Path, alike: &Path) {
    fs::create_dir(to).unwrap();
    let alike = Some(alike.to_owned());
    let act = CopyTree { alike, ..CopyTree::new(from, to, CopyMode::Fresh) };
    act.apply(&Cancel::never()).unwrap();
}

/// Changes what a copy must not take from the tree that is alike, and tells which files that are.
fn change_a_little(tree: &Path) -> Vec<&'static str> {
    fs::write(tree.join("dir/big"), vec![8; 3 << 20]).unwrap();
    lsetxattr(tree.join("setuid"), "user.only attributes changed", b"1", XattrFlags::empty()).unwrap();
    fs::set_permissions(tree.join("empty"), fs::Permissions::from_mode(0o600)).unwrap();
    lchown(tree.join("fifo"), Some(7), Some(7)).unwrap();
    fs::remove_file(tree.join("dangling")).unwrap();
    symlink("/elsewh", tree.join("dangling")).unwrap();
    fs::remove_file(tree.join("null")).unwrap();
    fs::create_dir(tree.join("null")).unwrap();
    fs::remove_dir_all(tree.join("dir/deep/er")).unwrap();
    symlink("/", tree.join("dir/deep/er")).unwrap();
    // As large and as old as before.
    let capable = tree.join("capable");
    let before = fs::metadata(&capable).unwrap().modified().unwrap();
    fs::write(&capable, "ELF").unwrap();
    lsetxattr(&capable, "security.capability", CAPABILITY, XattrFlags::empty()).unwrap();
    let times = fs::FileTimes::new().set_modified(before);
    fs::File::options().write(true).open(&capable).unwrap().set_times(times).unwrap();
    vec!["dir/big", "setuid", "empty", "fifo", "dangling", "null", "capable"]
}

fn links_what_is_the_same(folder: &Path) {
    let [from, alike, to] = ["from", "alike", "beside"].map(|name| folder.join(name));
    fs::create_dir(&from).unwrap();
    make_tree(&from);
    copy_beside(&from, &alike, &from);
    // Files of several names are copied, and linked among themselves.
    let (ours, theirs) = (inodes(&from), inodes(&alike));
    let shared = |name: &str| ours[Path::new(name)] == theirs[Path::new(name)];
    assert!(!shared("plain") && shared("dir/big") && shared("dir/symlink") && shared("fifo"));

    fs::remove_dir_all(&alike).unwrap();
    fs::create_dir(&alike).unwrap();
    copy(&from, &alike, CopyMode::Fresh);
    let changed = change_a_little(&alike);
    let (past, before) = (manifest(&from).unwrap(), manifest(&alike).unwrap());
    copy_beside(&from, &to, &alike);
    let (theirs, new) = (inodes(&alike), inodes(&to));
    for (path, inode) in &new {
        let is_changed = changed.iter().any(|name| Path::new(name) == path);
        let is_linked = theirs.get(path) == Some(inode);
        let may_be = !to.join(path).is_dir() || to.join(path).is_symlink();
        let has_names = fs::symlink_metadata(from.join(path)).unwrap().nlink() > 1;
        assert_eq!(is_linked, may_be && !is_changed && !has_names, "{}", path.display());
    }
    // Nothing has happened to either of the others; with the one that is alike the second names go, and no more.
    assert!(manifest(&from).unwrap() == past, "the source has changed");
    fs::remove_dir_all(&to).unwrap();
    assert!(manifest(&alike).unwrap() == before, "the tree that is alike has changed");
    copy_beside(&from, &to, &alike);
    fs::remove_dir_all(&alike).unwrap();
    assert_same(&from, &to);
}

#[test]
fn what_a_tree_beside_has_already_is_linked_and_nothing_else() {
    let test = "what_a_tree_beside_has_already_is_linked_and_nothing_else";
    if !is_root() {
        eprintln!("skipped: {test}: needs root");
        return;
    }
    links_what_is_the_same(tempfile::tempdir_in("/var/tmp").unwrap().path());
    for kind in ["xfs", "btrfs"] {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        match mounted(folder.path(), kind) {
            Ok(mounted) => links_what_is_the_same(&mounted.0),
            Err(reason) => eprintln!("skipped: {test} ({kind}): {}", reason.trim()),
        }
    }
}

#[test]
fn what_can_not_be_linked_is_copied() {
    let folders = [tempfile::tempdir_in("/var/tmp").unwrap(), tempfile::tempdir_in("/dev/shm").unwrap()];
    let [here, elsewhere] = folders.each_ref().map(tempfile::TempDir::path);
    let (from, alike) = (here.join("from"), elsewhere.join("alike"));
    fs::create_dir_all(from.join("folder")).unwrap();
    fs::write(from.join("folder/file"), "text").unwrap();
    fs::create_dir(&alike).unwrap();
    copy(&from, &alike, CopyMode::Fresh);
    copy_beside(&from, &here.join("to"), &alike);
    assert_same(&from, &here.join("to"));
}

#[test]
fn more_folders_than_files_can_be_open_are_copied() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    for number in 0..1000 {
        fs::create_dir_all(from.join(format!("{number}/below"))).unwrap();
    }
    fs::create_dir(&to).unwrap();
    let old = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), ..old }).unwrap();
    let copied = CopyTree::new(&from, &to, CopyMode::Fresh).apply(&Cancel::never());
    setrlimit(Resource::Nofile, old).unwrap();
    copied.unwrap();
    assert_same(&from, &to);
}
