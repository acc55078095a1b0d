//! Places read back from what they are spelled as.

use super::*;
use crate::mount_points::MountPoints;
use larder_base::Ticket;
use larder_base::{KeptId, ProjectName};
use larder_storage_driver::{Content, ErrorKind};
use proptest::prelude::*;
use std::path::PathBuf;
use uuid::Uuid;

#[test]
fn what_a_peer_may_have_is_not_out_of_sight() {
    for name in ["custom_default_v", "zombie_custom_default_v", "container_c1", "larder.pool", "other"] {
        assert!(!is_out_of_sight(name), "{name}");
    }
    let (id, volume) = (Uuid::from_u128(1), "default_v");
    let at = Place::new(
        Area::Trash(Ticket::new("none", id, id)),
        &VolumeId::from_entry(VolumeKind::Custom, Content::Filesystem, volume).unwrap(),
    );
    assert!(is_out_of_sight(&layout().spelled(&at, Part::Filesystem).image) && is_out_of_sight(&zombie()));
}

fn layout() -> Layout {
    Layout::new(Filesystem::Ext4)
}

fn area() -> impl Strategy<Value = Area> {
    (0..4_u8, any::<u128>(), "[a-z][a-z0-9-]{0,8}").prop_map(|(which, id, member)| {
        let id = Uuid::from_u128(id);
        match which {
            0 => Area::Live,
            1 => Area::Staging(Ticket::new(&member, id, id)),
            2 => Area::Trash(Ticket::new(&member, id, id)),
            _ => Area::Kept(id.simple().to_string().parse::<KeptId>().unwrap()),
        }
    })
}

fn volume() -> impl Strategy<Value = VolumeId> {
    let names = ("[a-z][a-z0-9-]{0,4}", "[a-z]([a-z0-9._:=-]{0,8}[a-z0-9])?");
    (0..5_usize, 0..3_u8, names).prop_filter_map("not a volume", |(kind, content, (project, name))| {
        let kind = VolumeKind::ALL[kind];
        let content = match (kind, content) {
            (VolumeKind::VirtualMachine, _) | (VolumeKind::Custom | VolumeKind::Image, 1) => Content::Block,
            (VolumeKind::Custom, 2) => Content::Iso,
            _ => Content::Filesystem,
        };
        let is_named_freely = matches!(kind, VolumeKind::Custom | VolumeKind::Bucket);
        if !is_named_freely && name.contains(['_', '.', ':', '=']) {
            return None;
        }
        let project = match kind {
            VolumeKind::Image => ProjectName::default_project(),
            _ => project.parse().ok()?,
        };
        Some(VolumeId { kind, content, project, name: name.parse().ok()? })
    })
}

fn place() -> impl Strategy<Value = Place> {
    let snapshot = proptest::option::of("[a-z]([a-z0-9.]{0,4}[a-z])?");
    (area(), volume(), snapshot).prop_filter_map("not a place", |(area, volume, snapshot)| {
        let snapshot = snapshot.map(|snapshot| snapshot.parse()).transpose().ok()?;
        let at = Place { area, volume, snapshot };
        layout().check(&at.main()).ok().map(|()| at)
    })
}

/// What a list shows of a place: its images, with the snapshot if it is one.
fn shown(layout: &Layout, at: &Place) -> Vec<Row> {
    let mut rows = Vec::new();
    for part in Part::of(&at.volume) {
        let spelled = layout.spelled(at, *part);
        rows.push(Row { image: spelled.image.clone(), snapshot: None, size: 0 });
        if spelled.snapshot.is_some() {
            rows.push(Row { image: spelled.image, snapshot: spelled.snapshot, size: 0 });
        }
    }
    rows
}

proptest! {
    #[test]
    fn a_place_reads_back_from_what_it_is_spelled_as(at in place()) {
        let layout = layout();
        let found = layout.places(&shown(&layout, &at));
        // A snapshot's volume stays where it is when the snapshot goes into the trash.
        let is_trashed = matches!(at.area, Area::Trash(_)) && at.snapshot.is_some();
        let home = if is_trashed { Area::Live } else { at.area.clone() };
        let mut expected = vec![at.main().within(home)];
        if at.snapshot.is_some() {
            expected.push(at);
        }
        expected.sort();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn different_places_are_spelled_and_mounted_differently(places in proptest::collection::vec(place(), 2..20)) {
        let (layout, mount_points) = (layout(), MountPoints::below("/pool".into()));
        let mut spelled: HashMap<Spelled, Place> = HashMap::new();
        let mut mounted: HashMap<PathBuf, Place> = HashMap::new();
        for at in places {
            for part in Part::of(&at.volume) {
                if let Some(other) = spelled.insert(layout.spelled(&at, *part), at.clone()) {
                    // The small filesystem of a machine's image is spelled as an image without a disk: never both.
                    let same_name = other.volume.entry() == at.volume.entry() && other.volume.kind == at.volume.kind;
                    let is_image = at.volume.kind == VolumeKind::Image && same_name;
                    prop_assert!(other == at || is_image, "{other:?} and {at:?}");
                }
            }
            if at.volume.has_filesystem() && let Some(other) = mounted.insert(mount_points.of(&at), at.clone()) {
                let same_name = other.volume.entry() == at.volume.entry() && other.volume.kind == at.volume.kind;
                prop_assert!(same_name && other.snapshot == at.snapshot && other.area == at.area, "{other:?} and {at:?}");
            }
        }
    }

    #[test]
    fn reading_names_never_panics(image in "\\PC{0,60}", snapshot in "\\PC{0,40}") {
        let row = |image: String| Row { image, snapshot: Some(snapshot.clone()), size: 0 };
        layout().places(&[row(image.clone()), row(format!("larder.{image}")), row("custom_default_v".to_owned())]);
    }
}

#[test]
fn live_names_are_those_of_the_peers() {
    let layout = layout();
    for (kind, content, image) in [
        (VolumeKind::Custom, Content::Filesystem, "custom_blue_v"),
        (VolumeKind::Custom, Content::Block, "custom_blue_v.block"),
        (VolumeKind::Custom, Content::Iso, "custom_blue_v.iso"),
        (VolumeKind::Container, Content::Filesystem, "container_blue_v"),
        (VolumeKind::VirtualMachine, Content::Block, "virtual-machine_blue_v.block"),
        (VolumeKind::Image, Content::Filesystem, "image_v_ext4"),
        (VolumeKind::Image, Content::Block, "image_v_ext4.block"),
    ] {
        let volume = VolumeId { kind, content, project: "blue".parse().unwrap(), name: "v".parse().unwrap() };
        let at = Place::live(&volume);
        assert_eq!(layout.spelled(&at, Part::main(&volume)), Spelled::image(image));
        let snapshot = at.at_snapshot(&"s0".parse().unwrap());
        assert_eq!(layout.spelled(&snapshot, Part::main(&volume)), Spelled::image(image).at("snapshot_s0"));
    }
}

fn custom(name: &str) -> Place {
    Place::live(&VolumeId::custom(Content::Filesystem, "default".parse().unwrap(), name.parse().unwrap()))
}

#[test]
fn names_that_rbd_has_not_are_refused() {
    layout().check(&custom("v.1_2-3:4=ü1")).unwrap();
    for name in ["v@1", "v.block", "v.iso"] {
        let error = layout().check(&custom(name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn an_image_keeps_the_filesystem_it_was_made_with() {
    let layout = layout();
    let row = |image: &str| Row { image: image.to_owned(), snapshot: None, size: 0 };
    let places = layout.places(&[row("image_f1_xfs"), row("image_f2_ext4"), row("image_f3_zfs")]);
    let images: Vec<_> = places.iter().map(|at| layout.spelled(at, Part::Filesystem).image).collect();
    assert_eq!(images, ["image_f1_xfs", "image_f2_ext4"]);
}

#[test]
fn foreign_things_and_our_own_helpers_are_left_out() {
    let layout = layout();
    let row = |image: &str, snapshot: Option<&str>| Row {
        image: image.to_owned(),
        snapshot: snapshot.map(str::to_owned),
        size: 0,
    };
    let zombie = zombie();
    assert!(is_zombie(&zombie) && is_own_zombie(&zombie) && !is_own_zombie("zombie_image_f1_ext4"));
    assert!(
        layout.is_ours(&zombie) && layout.is_ours("custom_default_v") && !layout.is_ours("vm-100-disk-0")
    );
    for image in
        ["lxd_rbd", "custom_v", "container_default_c1", "larder.staging.odd.custom_default_v", &zombie]
    {
        assert_eq!(layout.places(&[row(image, None)]), vec![], "{image}");
    }
    let snapshots = ["readonly", "zombie_snapshot_1", "snapshot_", "larder.staging.odd.s0"];
    let rows: Vec<_> = snapshots.iter().map(|snapshot| row("custom_default_v", Some(snapshot))).collect();
    assert_eq!(layout.places(&rows), vec![custom("v")]);
}
