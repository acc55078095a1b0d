//! The file interface on a tree with traps in it.

use super::*;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, symlink};

struct Lab {
    dir: tempfile::TempDir,
    files: FileRoot,
}

fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/name"), "inside").unwrap();
    fs::write(dir.path().join("secret"), "outside").unwrap();
    symlink(dir.path().join("secret"), root.join("absolute")).unwrap();
    symlink("../../secret", root.join("etc/relative")).unwrap();
    symlink("/etc/name", root.join("link")).unwrap();
    symlink("..", root.join("up")).unwrap();
    let files = FileRoot::open(&root, None).unwrap();
    Lab { dir, files }
}

fn put(files: &FileRoot, path: &str, text: &str, mode: WriteMode) -> Result<(), FilesError> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let new = NewFile { user: Some(user), group: Some(group), mode: Some(0o640) };
    files.write(path, new, mode, &mut text.as_bytes())
}

fn content(lab: &Lab, path: &str) -> String {
    let mut text = String::new();
    lab.files.read(path).unwrap().1.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn files_are_written_read_appended_and_removed() {
    let lab = lab();
    put(&lab.files, "/etc/new", "one", WriteMode::Overwrite).unwrap();
    put(&lab.files, "/etc/new", "two", WriteMode::Append).unwrap();
    assert_eq!(content(&lab, "/etc/new"), "onetwo");
    put(&lab.files, "/etc/new", "three", WriteMode::Overwrite).unwrap();
    assert_eq!(content(&lab, "//etc/../etc/new"), "three");
    let entry = lab.files.entry("/etc/new").unwrap();
    assert_eq!((entry.kind, entry.mode, entry.size), (EntryKind::File, 0o640, 5));
    assert!(entry.modified.elapsed().unwrap() < Duration::from_secs(600));
    assert_eq!(lab.files.list("/etc").unwrap(), ["name", "new", "relative"]);
    lab.files.remove("/etc/new", false).unwrap();
    assert!(matches!(lab.files.entry("/etc/new"), Err(FilesError::NotFound(path)) if path == "/etc/new"));
    assert!(matches!(put(&lab.files, "/no/folder", "", WriteMode::Append), Err(FilesError::NotFound(_))));
}

#[test]
fn nothing_leads_out_of_the_root() {
    let lab = lab();
    assert_eq!(lab.files.entry("/link").unwrap().kind, EntryKind::Symlink("/etc/name".to_owned()));
    for path in ["/absolute", "/etc/relative", "/up/secret", "/../secret", "/up/up/up/secret"] {
        // Some of these mean a file inside, which the writing below makes.
        let read = lab.files.read(path).map(|(_, mut file)| io::read_to_string(&mut file).unwrap());
        assert_ne!(read.ok().as_deref(), Some("outside"), "{path}");
        let _ = put(&lab.files, path, "evil", WriteMode::Overwrite);
    }
    let _ = lab.files.remove("/up/secret", true);
    assert_eq!(fs::read_to_string(lab.dir.path().join("secret")).unwrap(), "outside");
    put(&lab.files, "/link", "through", WriteMode::Overwrite).unwrap();
    assert_eq!(content(&lab, "/etc/name"), "through", "a link is followed inside");
    for path in ["", "etc", "/", "/etc/..", "/."] {
        assert!(lab.files.remove(path, true).is_err(), "{path:?}");
    }
}

#[test]
fn removing_a_tree_takes_force_and_follows_nothing() {
    let lab = lab();
    assert!(matches!(lab.files.remove("/etc", false), Err(FilesError::NotEmpty(_))));
    symlink(lab.dir.path(), lab.dir.path().join("root/etc/out")).unwrap();
    lab.files.remove("/etc", true).unwrap();
    assert!(lab.dir.path().join("secret").exists());
    assert!(lab.files.entry("/etc").is_err());
}

#[test]
fn special_files_are_seen_but_not_opened() {
    let lab = lab();
    let pipe = lab.dir.path().join("root/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert_eq!(lab.files.entry("/pipe").unwrap().kind, EntryKind::Other);
    assert!(matches!(lab.files.read("/pipe"), Err(FilesError::OtherKind { .. })));
    assert!(matches!(put(&lab.files, "/pipe", "", WriteMode::Append), Err(FilesError::OtherKind { .. })));
    assert!(matches!(lab.files.list("/pipe"), Err(FilesError::OtherKind { .. })));
    lab.files.remove("/pipe", false).unwrap();
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("gone"))
    }
}

#[test]
fn a_file_whose_content_does_not_arrive_is_not_there() {
    let lab = lab();
    let answer = lab.files.write("/half", NewFile::default(), WriteMode::Overwrite, &mut Broken);
    assert!(matches!(answer, Err(FilesError::Io { .. })));
    assert!(lab.files.entry("/half").is_err());
}

#[test]
fn owners_are_those_the_container_sees() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: owners_are_those_the_container_sees: needs root");
        return;
    }
    let lab = lab();
    let root = lab.dir.path().join("root");
    let files = FileRoot::open(&root, Some(IdMap::simple(1_000_000, 65_536))).unwrap();
    let new = NewFile { user: Some(33), group: None, mode: Some(0o4755) };
    files.write("/tool", new, WriteMode::Overwrite, &mut &b"x"[..]).unwrap();
    let metadata = fs::metadata(root.join("tool")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1_000_033, 1_000_000, 0o4755));
    let entry = files.entry("/tool").unwrap();
    assert_eq!((entry.user, entry.group), (33, 0));
    assert_eq!(files.entry("/etc").unwrap().user, NOBODY, "the host's root is nobody inside");
    files.make_directory("/folder", new).unwrap();
    files.make_directory("/folder", NewFile::default()).unwrap();
    assert!(matches!(files.make_directory("/tool", new), Err(FilesError::Exists(_))));
    files.make_link("/new-link", "/tool", new).unwrap();
    assert!(matches!(files.make_link("/new-link", "/x", new), Err(FilesError::Exists(_))));
    assert_eq!(fs::symlink_metadata(root.join("new-link")).unwrap().uid(), 1_000_033);
    files.set_owner_and_mode("/new-link", NewFile { user: Some(5), group: None, mode: None }).unwrap();
    let metadata = fs::metadata(root.join("tool")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1_000_005, 1_000_000, 0o4755));
    let outside = NewFile { user: Some(70_000), ..NewFile::default() };
    assert!(matches!(files.make_directory("/x", outside), Err(FilesError::Unmapped { user: 70_000, .. })));
}
