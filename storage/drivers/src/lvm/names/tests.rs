//! Places read back from what they are spelled as.

use super::super::report::tests::lv;
use super::*;
use larder_base::{KeptId, ProjectName, Ticket};
use proptest::prelude::*;
use std::collections::HashMap;
use uuid::Uuid;

fn names() -> Names {
    Names { vg: "pool1".to_owned(), filesystem: Filesystem::Ext4 }
}

fn area() -> impl Strategy<Value = Area> {
    (0..4_u8, 0..3_u128).prop_map(|(which, id)| {
        let id = Uuid::from_u128(id);
        match which {
            0 => Area::Live,
            1 => Area::Staging(Ticket::new("member-1", id, id)),
            2 => Area::Trash(Ticket::new("member-1", id, id)),
            _ => Area::Kept(id.simple().to_string().parse::<KeptId>().unwrap_or_else(|_| KeptId::random())),
        }
    })
}

fn volume() -> impl Strategy<Value = VolumeId> {
    let name =
        prop_oneof!["[a-c][a-c._-]{0,6}[a-c]", "[a-z]{1,3}(-|--|_|\\.)[a-z]{1,3}", "[ab]\\.(block|iso)"];
    (0..5_usize, 0..3_u8, "[a-c](-{0,2}[a-c]){0,2}", name).prop_filter_map(
        "not a volume",
        |(kind, content, project, name)| {
            let kind = VolumeKind::ALL[kind];
            let content = match (kind, content) {
                (VolumeKind::VirtualMachine, _) | (VolumeKind::Custom | VolumeKind::Image, 1) => {
                    Content::Block
                }
                (VolumeKind::Custom, 2) => Content::Iso,
                _ => Content::Filesystem,
            };
            let is_instance = matches!(kind, VolumeKind::Container | VolumeKind::VirtualMachine);
            if is_instance && name.contains(['_', '.']) {
                return None;
            }
            let project = match kind {
                VolumeKind::Image => ProjectName::default_project(),
                _ => project.parse().ok()?,
            };
            let name = if kind == VolumeKind::Image { hash(&name) } else { name };
            Some(VolumeId { kind, content, project, name: name.parse().ok()? })
        },
    )
}

fn place() -> impl Strategy<Value = Place> {
    let snapshot = proptest::option::of(prop_oneof!["[a-c](-{0,2}[a-c]){0,2}", "[ab]\\.(block|iso)"]);
    (area(), volume(), snapshot)
        .prop_filter_map("not a place", |(area, volume, snapshot)| {
            let snapshot = snapshot.map(|snapshot| snapshot.parse()).transpose().ok()?;
            Some(Place { area, volume, snapshot })
        })
        .prop_filter("refused", |at| names().check(at).is_ok())
}

/// The logical volumes of a place.
fn spelled(at: &Place) -> Vec<Lv> {
    let tags = ["larder_place=s:old.0.0:custom:block:p:v", &tag(at)];
    Part::of(&at.volume).iter().map(|part| lv(&names().lv(at, *part), &tags, "")).collect()
}

proptest! {
    #[test]
    fn a_place_reads_back_from_what_it_is_spelled_as(at in place()) {
        let found = names().read(spelled(&at));
        let parts: Vec<_> = found.iter().map(|found| (found.place.clone(), found.part)).collect();
        let expected: Vec<_> = Part::of(&at.volume).iter().map(|part| (at.clone(), *part)).collect();
        prop_assert_eq!(parts, expected);
    }

    #[test]
    fn different_places_are_spelled_differently(places in proptest::collection::vec(place(), 2..30)) {
        let mut taken: HashMap<String, (Place, Part)> = HashMap::new();
        for at in places {
            for part in Part::of(&at.volume) {
                let name = names().lv(&at, *part);
                prop_assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "+_.-".contains(c)), "{}", name);
                if let Some((other, other_part)) = taken.insert(name, (at.clone(), *part)) {
                    // An image with and without a disk can't be there at once: it is one fingerprint.
                    let is_image = at.volume.kind == VolumeKind::Image && other.volume.name == at.volume.name;
                    prop_assert!((other == at && other_part == *part) || is_image, "{:?} and {:?}", other, at);
                }
            }
        }
    }

    #[test]
    fn reading_names_never_panics(name in "\\PC{0,60}", rest in "[a-z_.-]{0,20}") {
        for name in [name, format!("custom_{rest}"), format!("larder_{rest}")] {
            let all = HashSet::from([name.clone()]);
            let _ = read_live(&name, &all);
            let _ = read_ours(&name, &[]);
        }
    }
}

#[test]
fn live_names_are_those_of_the_peers() {
    let spell = |kind, content, project: &str, name: &str, snapshot: Option<&str>, part| {
        let volume =
            VolumeId { kind, content, project: project.parse().unwrap(), name: name.parse().unwrap() };
        let snapshot = snapshot.map(|snapshot| snapshot.parse().unwrap());
        names().lv(&Place { area: Area::Live, volume, snapshot }, part)
    };
    use Content::{Block, Filesystem, Iso};
    use VolumeKind::{Container, Custom, Image, VirtualMachine};
    assert_eq!(
        spell(Container, Filesystem, "proj", "my-ct", Some("snap0"), Part::Main),
        "containers_proj_my--ct-snap0"
    );
    assert_eq!(spell(VirtualMachine, Block, "default", "v1", None, Part::Disk), "virtual-machines_v1.block");
    assert_eq!(spell(VirtualMachine, Block, "default", "v1", None, Part::Main), "virtual-machines_v1");
    assert_eq!(spell(Image, Filesystem, "default", "abc", None, Part::Main), "images_abc_ext4");
    assert_eq!(spell(Custom, Block, "default", "v", Some("a-b"), Part::Main), "custom_default_v-a--b.block");
    assert_eq!(spell(Custom, Iso, "default", "cd", None, Part::Main), "custom_default_cd.iso");
}

#[test]
fn names_that_lvm_has_not_are_refused_in_words() {
    let long = "n".repeat(64);
    for (name, word) in [
        ("nämlich", "letters"),
        ("a@b", "letters"),
        ("x_tdata", "_tdata"),
        ("tdata", "_tdata"),
        ("v.block", ".block"),
        ("cd.iso", ".iso"),
    ] {
        let volume =
            VolumeId::custom(Content::Filesystem, ProjectName::default_project(), name.parse().unwrap());
        let error = names().check(&Place::live(&volume)).unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(word), "{name}: {error}");
    }
    let volume = VolumeId::custom(Content::Filesystem, ProjectName::default_project(), long.parse().unwrap());
    names().check(&Place::live(&volume)).unwrap();
    let error = names().check(&Place::live(&volume).at_snapshot(&long.parse().unwrap())).unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
}

#[test]
fn foreign_volumes_are_left_out() {
    let all = HashSet::new();
    for name in
        ["root", "IncusThinPool", "custom_v", "containers_default_c1", "custom_default_a---b", "larder_x"]
    {
        assert_eq!(read_live(name, &all), None, "{name}");
    }
}
