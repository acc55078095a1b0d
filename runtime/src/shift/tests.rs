//! Shifting real trees: they need root.

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

const BASE: u32 = 1_000_000;

fn tree() -> Option<tempfile::TempDir> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(root.join("sub/tool"), "x").unwrap();
    chown(root.join("sub/tool"), Some(0), Some(12)).unwrap();
    fs::set_permissions(root.join("sub/tool"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::hard_link(root.join("sub/tool"), root.join("sub/tool2")).unwrap();
    fs::write(dir.path().join("outside"), "x").unwrap();
    symlink("../outside", root.join("link")).unwrap();
    Some(dir)
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

#[test]
fn a_tree_is_shifted_once_and_comes_back_as_it_was() {
    let Some(dir) = tree() else {
        eprintln!("skipped: a_tree_is_shifted_once_and_comes_back_as_it_was: needs root");
        return;
    };
    let root = dir.path().join("root");
    let map = IdMap::simple(BASE, 65_536);
    let tool = root.join("sub/tool");
    let capability = [&0x0200_0001u32.to_le_bytes()[..], &[1; 16]].concat();
    rustix::fs::lsetxattr(&tool, CAPABILITY, &capability, XattrFlags::empty()).unwrap();
    // Setting it took nothing away; the mode is as it was.
    let shift = |direction| shift_tree(&root, &map, direction, &Cancel::never()).unwrap();
    assert_eq!(shift(Direction::ToHost), Shifted::Changed(4), "root, sub, tool once, link");
    assert_eq!(shift(Direction::ToHost), Shifted::Already);
    assert_eq!(owner(&root), (BASE, BASE));
    assert_eq!(owner(&tool), (BASE, BASE + 12));
    assert_eq!(owner(&root.join("link")), (BASE, BASE));
    assert_eq!(owner(&dir.path().join("outside")), (0, 0), "no link is followed");
    assert_eq!(fs::metadata(&tool).unwrap().mode() & 0o7777, 0o6755);
    let shifted = attribute(&tool, CAPABILITY).unwrap().unwrap();
    assert_eq!(&shifted[20..], BASE.to_le_bytes());
    let other = shift_tree(&root, &IdMap::simple(5, 65_536), Direction::ToContainer, &Cancel::never());
    assert!(matches!(other, Err(ShiftError::OtherMap { .. })), "{other:?}");
    assert_eq!(shift(Direction::ToContainer), Shifted::Changed(4));
    assert_eq!(shift(Direction::ToContainer), Shifted::Already);
    assert_eq!(owner(&tool), (0, 12));
    assert_eq!(attribute(&tool, CAPABILITY).unwrap().unwrap(), capability);
    assert_eq!(fs::metadata(&tool).unwrap().mode() & 0o7777, 0o6755);
}

#[test]
fn an_owner_outside_the_map_is_named() {
    let Some(dir) = tree() else {
        eprintln!("skipped: an_owner_outside_the_map_is_named: needs root");
        return;
    };
    let root = dir.path().join("root");
    chown(root.join("sub/tool"), Some(70_000), None).unwrap();
    let answer = shift_tree(&root, &IdMap::simple(BASE, 65_536), Direction::ToHost, &Cancel::never());
    match answer {
        Err(ShiftError::Unmapped { path, user, .. }) => {
            assert!(path.starts_with(root.join("sub")));
            assert_eq!(user, 70_000);
        }
        other => panic!("{other:?}"),
    }
}
