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
    let shift = |map: Option<&IdMap>| shift_tree(&root, map, &Cancel::never()).unwrap();
    assert_eq!(shift(Some(&map)), 4, "root, sub, tool once, link");
    assert_eq!(shift(Some(&map)), 0);
    assert_eq!(map_of(&root).unwrap(), Some(map.clone()));
    assert_eq!(owner(&root), (BASE, BASE));
    assert_eq!(owner(&tool), (BASE, BASE + 12));
    assert_eq!(owner(&root.join("link")), (BASE, BASE));
    assert_eq!(owner(&dir.path().join("outside")), (0, 0), "no link is followed");
    assert_eq!(fs::metadata(&tool).unwrap().mode() & 0o7777, 0o6755);
    let shifted = attribute(&tool, CAPABILITY).unwrap().unwrap();
    assert_eq!(&shifted[20..], BASE.to_le_bytes());
    assert_eq!(attribute(&tool, PENDING).unwrap(), None);
    // To another map, and to none.
    let other = IdMap::simple(2 * BASE, 65_536);
    assert_eq!(shift(Some(&other)), 8);
    assert_eq!(owner(&tool), (2 * BASE, 2 * BASE + 12));
    assert_eq!(shift(None), 4);
    assert_eq!(shift(None), 0);
    assert_eq!(map_of(&root).unwrap(), None);
    assert_eq!(owner(&tool), (0, 12));
    assert_eq!(attribute(&tool, CAPABILITY).unwrap().unwrap(), capability);
    assert_eq!(fs::metadata(&tool).unwrap().mode() & 0o7777, 0o6755);
}

#[test]
fn what_was_interrupted_anywhere_is_finished_either_way() {
    let Some(dir) = tree() else {
        eprintln!("skipped: what_was_interrupted_anywhere_is_finished_either_way: needs root");
        return;
    };
    let root = dir.path().join("root");
    let map = IdMap::simple(BASE, 65_536);
    let tool = root.join("sub/tool");
    let capability = [&0x0200_0001u32.to_le_bytes()[..], &[1; 16]].concat();
    let list = |user: u32| {
        let entry =
            |tag: u16, id: u32| [&tag.to_le_bytes()[..], &7u16.to_le_bytes(), &id.to_le_bytes()].concat();
        let owners = [entry(0x01, u32::MAX), entry(0x02, user), entry(0x04, u32::MAX)].concat();
        [&2u32.to_le_bytes()[..], &owners, &entry(0x10, u32::MAX), &entry(0x20, u32::MAX)].concat()
    };
    rustix::fs::lsetxattr(root.join("sub"), ACLS[0], &list(33), XattrFlags::empty()).unwrap();
    for wanted in [Some(&map), None] {
        // The run ended between the new owner of this file and its mode and capability.
        set_mark(&root, &Mark { map: map.clone(), done: false }).unwrap();
        chown(&tool, Some(0), Some(12)).unwrap();
        let kept = Kept { mode: 0o100_6755, capability: Some(capability.clone()), is_pending: false };
        rustix::fs::lsetxattr(&tool, PENDING, &kept.to_bytes(), XattrFlags::empty()).unwrap();
        chown(&tool, Some(BASE), Some(BASE + 12)).unwrap();
        assert_eq!(fs::metadata(&tool).unwrap().mode() & 0o7777, 0o755, "the system took it");
        assert!(!is_shifted_by(&root, Some(&map)).unwrap());
        shift_tree(&root, wanted, &Cancel::never()).unwrap();
        let base = wanted.map_or(0, |_| BASE);
        assert_eq!((owner(&tool), owner(&root)), ((base, base + 12), (base, base)));
        assert_eq!(fs::metadata(&tool).unwrap().mode() & 0o7777, 0o6755);
        let found = attribute(&tool, CAPABILITY).unwrap().unwrap();
        assert_eq!(&found[4..20], &capability[4..20]);
        assert_eq!(attribute(&tool, PENDING).unwrap(), None);
        assert_eq!(attribute(&root.join("sub"), ACLS[0]).unwrap().unwrap(), list(base + 33));
        assert!(is_shifted_by(&root, wanted).unwrap());
    }
}

#[test]
fn a_map_that_does_not_tell_inside_from_outside_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let answer = shift_tree(dir.path(), Some(&IdMap::simple(1000, 65_536)), &Cancel::never());
    assert!(matches!(answer, Err(ShiftError::Overlap)), "{answer:?}");
}

#[test]
fn an_owner_outside_the_map_is_named() {
    let Some(dir) = tree() else {
        eprintln!("skipped: an_owner_outside_the_map_is_named: needs root");
        return;
    };
    let root = dir.path().join("root");
    chown(root.join("sub/tool"), Some(70_000), None).unwrap();
    let answer = shift_tree(&root, Some(&IdMap::simple(BASE, 65_536)), &Cancel::never());
    match answer {
        Err(ShiftError::Unmapped { path, user, .. }) => {
            assert!(path.starts_with(root.join("sub")));
            assert_eq!(user, 70_000);
        }
        other => panic!("{other:?}"),
    }
}
