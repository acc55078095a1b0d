//! Files that stay open, folders read in pieces, changes and renames, on a tree with traps in it.

use super::*;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::UNIX_EPOCH;

fn lab() -> (tempfile::TempDir, FileRoot) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/name"), "inside").unwrap();
    fs::write(dir.path().join("secret"), "outside").unwrap();
    symlink(dir.path().join("secret"), root.join("absolute")).unwrap();
    symlink("../secret", root.join("relative")).unwrap();
    symlink("/etc/name", root.join("link")).unwrap();
    symlink("/etc", root.join("folder")).unwrap();
    let files = FileRoot::open(&root, None).unwrap();
    (dir, files)
}

fn new_file() -> NewFile {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    NewFile { user: Some(user), group: Some(group), mode: Some(0o640) }
}

const WRITE: OpenHow =
    OpenHow { read: false, write: true, append: false, create: true, exclusive: false, truncate: true };

#[test]
fn a_file_is_opened_as_asked() {
    let (dir, files) = lab();
    let read = |path: &str| fs::read_to_string(dir.path().join("root").join(path)).unwrap();
    files.open_file("/new", WRITE, new_file()).unwrap().write_all(b"one").unwrap();
    assert_eq!(files.entry("/new").unwrap().mode, 0o640);
    files.open_file("/link", WRITE, new_file()).unwrap().write_all(b"two").unwrap();
    assert_eq!(read("etc/name"), "two");
    let kept = OpenHow { truncate: false, ..WRITE };
    files.open_file("/new", kept, new_file()).unwrap().write_all(b"O").unwrap();
    assert_eq!(read("new"), "One");
    let append = OpenHow { append: true, ..kept };
    files.open_file("/new", append, new_file()).unwrap().write_all(b"+").unwrap();
    assert_eq!(read("new"), "One+");
    let exclusive = OpenHow { exclusive: true, ..WRITE };
    assert!(matches!(files.open_file("/new", exclusive, new_file()), Err(FilesError::Exists(_))));
    let absent = OpenHow { create: false, ..WRITE };
    assert!(matches!(files.open_file("/absent", absent, new_file()), Err(FilesError::NotFound(_))));
    assert!(matches!(files.open_file("/etc", WRITE, new_file()), Err(FilesError::OtherKind { .. })));

    // For reading alone nothing is cut off, whatever else is asked.
    let reading = OpenHow { read: true, truncate: true, ..OpenHow::default() };
    let mut file = files.open_file("/new", reading, new_file()).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "One+");
    assert!(file.write_all(b"x").is_err());
}

#[test]
fn no_open_change_or_rename_leads_out() {
    let (dir, files) = lab();
    let times = Some((UNIX_EPOCH, UNIX_EPOCH));
    let change = Change { mode: Some(0o777), length: Some(0), times, ..Change::default() };
    for path in ["/absolute", "/relative", "/../secret"] {
        if let Ok(mut file) = files.open_file(path, WRITE, new_file()) {
            let _ = file.write_all(b"evil");
        }
        let _ = files.change(path, change);
        let _ = files.rename("/etc/name", path, true);
    }
    let secret = dir.path().join("secret");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "outside");
    let metadata = fs::metadata(&secret).unwrap();
    assert_ne!(metadata.mode() & 0o777, 0o777);
    assert!(metadata.mtime() > 0);
}

#[test]
fn changes_are_made_of_what_a_link_leads_to() {
    let (dir, files) = lab();
    let times = Some((UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(1000)));
    let change = Change { mode: Some(0o4700), length: Some(2), times, ..Change::default() };
    files.change("/link", change).unwrap();
    let metadata = fs::metadata(dir.path().join("root/etc/name")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.len(), metadata.mtime()), (0o4700, 2, 1000));
    assert_eq!(files.target("/link").unwrap().size, 2);
    let short = Change { length: Some(0), ..Change::default() };
    assert!(matches!(files.change("/etc", short), Err(FilesError::OtherKind { .. })));
    let file = files.open_file("/link", OpenHow { read: true, ..OpenHow::default() }, new_file()).unwrap();
    files.change_open(&file, "/link", Change { mode: Some(0o600), ..Change::default() }).unwrap();
    assert_eq!(files.entry_of_open(&file, "/link").unwrap().mode, 0o600);
}

#[test]
fn a_folder_is_read_in_pieces_and_links_in_it_are_links() {
    let (dir, files) = lab();
    for number in 0..25 {
        fs::write(dir.path().join(format!("root/etc/{number:02}")), "").unwrap();
    }
    symlink("name", dir.path().join("root/etc/link")).unwrap();
    let mut folder = files.open_folder("/folder").unwrap();
    assert_eq!(files.entry_of_folder(&folder).unwrap().kind, EntryKind::Directory);
    let mut found = Vec::new();
    loop {
        let piece = files.next_entries(&mut folder, 10).unwrap();
        assert!(piece.len() <= 10);
        if piece.is_empty() {
            break;
        }
        found.extend(piece);
    }
    assert_eq!(found.len(), 27);
    let link = found.iter().find(|(name, _)| name == "link").unwrap();
    assert_eq!(link.1.kind, EntryKind::Symlink("name".to_owned()));
    assert!(matches!(files.open_folder("/link"), Err(FilesError::OtherKind { .. })));
}

#[test]
fn a_rename_replaces_only_when_asked() {
    let (_dir, files) = lab();
    files.open_file("/new", WRITE, new_file()).unwrap().write_all(b"new").unwrap();
    assert!(
        matches!(files.rename("/new", "/etc/name", false), Err(FilesError::Exists(path)) if path == "/etc/name")
    );
    files.rename("/new", "/folder/name", true).unwrap();
    assert_eq!(files.entry("/etc/name").unwrap().size, 3);
    assert!(matches!(files.rename("/new", "/other", true), Err(FilesError::NotFound(_))));
}
