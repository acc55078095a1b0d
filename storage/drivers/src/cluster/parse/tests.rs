//! Output of the real programs, and what is read from it.

use super::*;
use larder_storage_driver::ErrorKind;
use serde::de::DeserializeOwned;

fn read<T: DeserializeOwned>(text: &str) -> Result<T> {
    crate::json::read("a program", text)
}

macro_rules! fixture {
    ($name:literal) => {
        after_command(include_str!(concat!("../../../../../fixtures/ceph/18.2.7/", $name)))
    };
}

/// What a fixture holds below its first line, the command that printed it.
fn after_command(text: &str) -> &str {
    let (command, output) = text.split_once('\n').unwrap();
    assert!(command.starts_with("$ "), "{command}");
    output
}

#[test]
fn a_list_has_images_and_their_snapshots() {
    let rows = read::<Vec<Row>>(fixture!("ls-long.json")).unwrap();
    let found: Vec<_> = rows.iter().map(|row| (row.image.as_str(), row.snapshot.as_deref())).collect();
    assert_eq!(
        found,
        [
            ("custom_default_c1", None),
            ("custom_default_v1", None),
            ("custom_default_v1", Some("snapshot_s0")),
            ("custom_default_v2", None),
        ]
    );
    assert_eq!(read::<Vec<Row>>(fixture!("ls-empty.json")).unwrap(), vec![]);
    assert_eq!(
        read::<Vec<String>>(fixture!("ls.json")).unwrap(),
        ["custom_default_c1", "custom_default_v1", "custom_default_v2"]
    );
}

#[test]
fn an_image_tells_its_size_and_what_it_was_cloned_from() {
    let parent = read::<Info>(fixture!("info-parent.json")).unwrap();
    assert_eq!(parent, Info { id: "117032b96017".to_owned(), size: 64 << 20, snapshots: 1, parent: None });
    let clone = read::<Info>(fixture!("info-clone.json")).unwrap();
    let from = clone.parent.unwrap();
    assert_eq!((from.pool.as_str(), from.pool_namespace.as_str()), ("rbd", "fixtures"));
    assert_eq!((from.image.as_str(), from.snapshot.as_str()), ("custom_default_v1", "snapshot_s0"));
    let orphan = read::<Info>(fixture!("info-clone-of-removed-snapshot.json")).unwrap();
    assert!(orphan.parent.unwrap().snapshot.len() == 36);
}

#[test]
fn snapshots_tell_whether_they_are_protected_and_those_of_clones_alone_are_left_out() {
    let snapshots: Vec<Snapshot> = read(fixture!("snap-ls-all.json")).unwrap();
    let of_users = snapshots.iter().filter(|snapshot| snapshot.is_for_users());
    let found: Vec<_> = of_users.map(|snapshot| (snapshot.name.as_str(), snapshot.is_protected())).collect();
    assert_eq!(found, [("snapshot_s1", true), ("snapshot_s2", false)]);
    assert!(snapshots.len() > found.len());
}

#[test]
fn usage_counts_snapshots() {
    let usage = |text| VolumeUsage::from(read::<DiskUsage>(text).unwrap());
    let (image, snapshot) = (usage(fixture!("du-image.json")), usage(fixture!("du-snapshot.json")));
    assert!(image.used_bytes > Some(0) && snapshot.used_bytes <= image.used_bytes);
    assert_eq!([image, snapshot].map(|usage| usage.total_bytes), [Some(64 << 20); 2]);
}

#[test]
fn the_space_of_one_pool_is_read() {
    let all: Space = read(fixture!("df.json")).unwrap();
    let space = all.of("rbd").unwrap();
    assert!(space.stored > 0 && space.available > 1 << 30, "{space:?}");
    assert_eq!(all.of("none").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_is_no_answer_is_refused_in_words() {
    let error = read::<Vec<Row>>("command not found").unwrap_err();
    assert!(error.to_string().contains("command not found"), "{error}");
}
