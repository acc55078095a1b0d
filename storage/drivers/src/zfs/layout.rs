//! How a place is spelled as a dataset, and back. Live places are where both peers have them; the other areas are flat below
//! `.larder`, where they do not look.

use super::parse::Row;
use crate::parts::Part;
use crate::spelling::{self, ISO, OURS, Spelled};
use crate::spelling::{area_prefix, folder, path, read_path, read_suffix, suffix, trashed_snapshot};
use larder_storage_driver::{Area, Content, Place, Result, StorageError, VolumeId, VolumeKind};
use std::collections::{BTreeMap, BTreeSet};

/// What zfs allows for a name with its snapshot.
const LONGEST_NAME: usize = 255;
/// As long as a ticket of a member without a name of its own.
const SOME_TICKET: &str = "none.00000000000000000000000000000000.00000000000000000000000000000000";
/// Begins the name of a volume that is gone but for its clones.
const GONE: &str = "gone.";
/// Begins the name of a clone through which a snapshot's disk is read.
const VIEW: &str = "view.";

/// Where the volumes of one pool are.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    dataset: String,
}

/// A part's name in its kind's dataset. A custom disk has nothing at its end: it can't stand beside a filesystem of its name.
fn entry(volume: &VolumeId, part: Part) -> String {
    let is_plain = volume.kind == VolumeKind::Custom && volume.content == Content::Block;
    format!("{}{}", volume.entry(), if is_plain { "" } else { suffix(volume, part) })
}

/// The volume and part that a dataset in a kind's dataset is; `mark` is what its content property says.
fn read_entry(
    kind: VolumeKind,
    entry: &str,
    is_disk: bool,
    mark: Option<Content>,
) -> Option<(VolumeId, Part)> {
    let (name, content, part) = match (kind, mark, entry.strip_suffix(ISO)) {
        (VolumeKind::Custom, ..) if !is_disk => (entry, Content::Filesystem, Part::Filesystem),
        (VolumeKind::Custom, Some(Content::Filesystem), _) => (entry, Content::Filesystem, Part::Filesystem),
        (VolumeKind::Custom, None | Some(Content::Iso), Some(name)) => (name, Content::Iso, Part::Disk),
        (VolumeKind::Custom, ..) => (entry, Content::Block, Part::Disk),
        _ => read_suffix(kind, entry, || mark == Some(Content::Block)),
    };
    Some((VolumeId::from_entry(kind, content, name)?, part))
}

impl Layout {
    pub(super) fn new(dataset: String) -> Self {
        Self { dataset }
    }

    /// The dataset below which everything is.
    pub(super) fn dataset(&self) -> &str {
        &self.dataset
    }

    /// The zpool that it is in.
    pub(super) fn zpool(&self) -> &str {
        self.dataset.split('/').next().unwrap_or_default()
    }

    /// The dataset of what is not live.
    pub(super) fn ours(&self) -> String {
        format!("{}/{OURS}", self.dataset)
    }

    /// The dataset that holds the live volumes of a kind.
    pub(super) fn parent(&self, kind: VolumeKind) -> String {
        format!("{}/{}", self.dataset, folder(kind))
    }

    /// The dataset of a part of a volume, whatever snapshot `at` names: the one spelling of it.
    pub(super) fn part(&self, at: &Place, part: Part) -> String {
        format!("{}/{}", self.dataset, path(&at.area, at.volume.kind, &entry(&at.volume, part)))
    }

    /// The dataset or snapshot of a part of a place. A snapshot can't leave its dataset: in the trash it is called so.
    pub(super) fn spelled(&self, at: &Place, part: Part) -> String {
        match (&at.snapshot, &at.area) {
            (None, _) => self.part(at, part),
            (Some(name), area @ Area::Trash(_)) => {
                format!("{}@{}{name}", self.part(&at.within(Area::Live), part), area_prefix(area))
            }
            (Some(name), _) => format!("{}@snapshot-{name}", self.part(at, part)),
        }
    }

    /// The dataset through which the disk of a snapshot is read.
    pub(super) fn view(&self, at: &Place, part: Part) -> String {
        // No name has two dots in a row or at its end.
        let snapshot = at.snapshot.as_ref().map_or("", |name| name.as_str());
        let (folder, entry) = (folder(at.volume.kind), entry(&at.volume, part));
        format!("{}/{VIEW}{folder}.{entry}..{snapshot}", self.ours())
    }

    /// A new name for a volume that is gone but for its clones.
    pub(super) fn gone(&self) -> String {
        format!("{}/{GONE}{}", self.ours(), uuid::Uuid::new_v4().simple())
    }

    /// Whether a dataset is a volume that is gone but for its clones.
    pub(super) fn is_gone(&self, dataset: &str) -> bool {
        dataset.starts_with(&format!("{}/{GONE}", self.ours()))
    }

    /// The volume that is gone but for its clones that a dataset or snapshot is of.
    pub(super) fn gone_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        let begin = self.ours().len() + 1;
        let end = name.get(begin..)?.find(['/', '@']).map_or(name.len(), |end| begin + end);
        Some(&name[..end]).filter(|dataset| self.is_gone(dataset))
    }

    /// Whether a dataset is one through which a snapshot is read.
    pub(super) fn is_view(&self, dataset: &str) -> bool {
        dataset.starts_with(&format!("{}/{VIEW}", self.ours()))
    }

    /// Refuses what zfs can't spell in every area, with the kind `Invalid`.
    pub(super) fn must_be_spellable(&self, at: &Place) -> Result<()> {
        let snapshot = at.snapshot.as_ref().map_or("", |name| name.as_str());
        let name = entry(&at.volume, Part::main(&at.volume));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if let Some(odd) = name.chars().chain(snapshot.chars()).find(|c| !is_plain(*c)) {
            return Err(StorageError::invalid(format!(
                "{at} can't be kept by zfs because of {odd:?}: only letters, digits and - _ . : are allowed"
            )));
        }
        let folder = folder(at.volume.kind);
        let longest = format!("{}/staging.{SOME_TICKET}.{folder}.{name}@snapshot-{snapshot}", self.ours());
        spelling::must_fit(at, longest.len(), LONGEST_NAME)
    }

    /// All places among the rows of a list. What no place is spelled as is left out.
    pub(super) fn places(&self, rows: &[Row<'_>]) -> Vec<Place> {
        let snapshots = rows.iter().filter_map(|row| row.name.split_once('@'));
        spelling::places(&self.volumes(rows), snapshots, read_tag)
    }

    fn volumes<'a>(&self, rows: &[Row<'a>]) -> BTreeMap<&'a str, Spelled> {
        let names: BTreeSet<&str> = rows.iter().map(|row| row.name).collect();
        let mut volumes = BTreeMap::new();
        for row in rows.iter().filter(|row| !row.name.contains('@')) {
            let below = row.name.strip_prefix(&self.dataset).and_then(|name| name.strip_prefix('/'));
            let Some((area, kind, entry)) = below.and_then(read_path) else { continue };
            // The small filesystem of a machine's image of a peer's bears no mark.
            let has_disk =
                kind == VolumeKind::Image && names.contains(format!("{}.block", row.name).as_str());
            let mark = if has_disk { Some(Content::Block) } else { row.content };
            if let Some((volume, part)) = read_entry(kind, entry, row.is_disk, mark) {
                volumes.insert(row.name, (area, volume, part));
            }
        }
        volumes
    }
}

/// The snapshot that a tag spells; `None` for those that are the driver's own.
fn read_tag(area: &Area, volume: &VolumeId, tag: &str) -> Option<Place> {
    if let Some(name) = tag.strip_prefix("snapshot-") {
        return Some(Place::new(area.clone(), volume).at_snapshot(&name.parse().ok()?));
    }
    trashed_snapshot(tag, volume)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount_points::MountPoints;
    use larder_base::{KeptId, ProjectName, Ticket};
    use larder_storage_driver::ErrorKind;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::path::PathBuf;
    use uuid::Uuid;

    fn layout() -> Layout {
        Layout::new("tank/larder".to_owned())
    }

    fn area() -> impl Strategy<Value = Area> {
        (0..4_u8, any::<u128>()).prop_map(|(which, id)| {
            let id = Uuid::from_u128(id);
            match which {
                0 => Area::Live,
                1 => Area::Staging(Ticket::new("none", id, id)),
                2 => Area::Trash(Ticket::new("none", id, id)),
                _ => Area::Kept(id.simple().to_string().parse::<KeptId>().unwrap()),
            }
        })
    }

    fn place() -> impl Strategy<Value = Place> {
        let names = (
            "[a-z][a-z0-9-]{0,4}",
            "[a-z]([a-z0-9._:-]{0,6}[a-z0-9])?",
            proptest::option::of("[a-z][a-z0-9.]{0,4}[a-z]"),
        );
        (area(), 0..5_usize, 0..3_u8, names).prop_filter_map(
            "not a volume",
            |(area, kind, content, (project, name, snapshot))| {
                let kind = VolumeKind::ALL[kind];
                let content = match (kind, content) {
                    (VolumeKind::VirtualMachine, _) | (VolumeKind::Custom | VolumeKind::Image, 1) => {
                        Content::Block
                    }
                    (VolumeKind::Custom, 2) => Content::Iso,
                    _ => Content::Filesystem,
                };
                let is_plain = matches!(kind, VolumeKind::Custom | VolumeKind::Bucket);
                if !is_plain && name.contains(['_', '.', ':']) {
                    return None;
                }
                let project = if kind == VolumeKind::Image {
                    ProjectName::default_project()
                } else {
                    project.parse().ok()?
                };
                let volume = VolumeId { kind, content, project, name: name.parse().ok()? };
                let snapshot = snapshot.map(|snapshot| snapshot.parse()).transpose().ok()?;
                Some(Place { area, volume, snapshot })
            },
        )
    }

    /// What a list shows of a place: its parts, and those of the volume that a snapshot is in.
    fn shown(layout: &Layout, at: &Place) -> Vec<(String, bool)> {
        let mut rows = Vec::new();
        for part in Part::of(&at.volume) {
            let spelled = layout.spelled(at, *part);
            let is_disk = *part == Part::Disk;
            match spelled.split_once('@') {
                Some((dataset, _)) => {
                    rows.push((dataset.to_owned(), is_disk));
                    rows.push((spelled.clone(), false));
                }
                None => rows.push((spelled, is_disk)),
            }
        }
        rows
    }

    fn read(layout: &Layout, shown: &[(String, bool)], content: Content) -> Vec<Place> {
        let row = |(name, is_disk): &'_ (String, bool)| Row {
            name: name.clone().leak(),
            is_disk: *is_disk,
            content: Some(content),
        };
        layout.places(&shown.iter().map(row).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn a_place_reads_back_from_what_it_is_spelled_as(at in place()) {
            let layout = layout();
            let found = read(&layout, &shown(&layout, &at), at.volume.content);
            // A snapshot's volume stays where it is when the snapshot goes into the trash.
            let home = if matches!(at.area, Area::Trash(_)) && at.snapshot.is_some() { Area::Live } else { at.area.clone() };
            let mut expected = vec![at.main().within(home)];
            if at.snapshot.is_some() {
                expected.push(at);
            }
            expected.sort();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn different_places_are_spelled_differently(places in proptest::collection::vec(place(), 2..20)) {
            let layout = layout();
            let folders = MountPoints::below("/pool".into());
            let mut spelled: HashMap<(String, PathBuf), Place> = HashMap::new();
            for at in places {
                let part = Part::main(&at.volume);
                let key = (layout.spelled(&at, part), folders.of(&at));
                if let Some(other) = spelled.insert(key, at.clone()) {
                    // Only what can't be there at once may share a name: the same name with another content.
                    let same = entry(&other.volume, part) == entry(&at.volume, part) && other.snapshot == at.snapshot;
                    prop_assert!(same && other.area == at.area, "{other:?} and {at:?}");
                }
            }
        }

        #[test]
        fn reading_names_never_panics(name in "\\PC{0,60}", tag in "\\PC{0,40}") {
            let layout = layout();
            let snapshot = format!("custom/default_v@{tag}");
            for below in [name.clone(), format!(".larder/{name}"), snapshot] {
                let _ = read(&layout, &[(format!("tank/larder/{below}"), false)], Content::Filesystem);
            }
        }
    }

    #[test]
    fn live_names_are_those_of_the_peers() {
        let layout = layout();
        for (kind, content, spelled) in [
            (VolumeKind::Custom, Content::Filesystem, "tank/larder/custom/blue_v"),
            (VolumeKind::Custom, Content::Block, "tank/larder/custom/blue_v"),
            (VolumeKind::Custom, Content::Iso, "tank/larder/custom/blue_v.iso"),
            (VolumeKind::Container, Content::Filesystem, "tank/larder/containers/blue_v"),
            (VolumeKind::VirtualMachine, Content::Block, "tank/larder/virtual-machines/blue_v.block"),
            (VolumeKind::Image, Content::Block, "tank/larder/images/v.block"),
            (VolumeKind::Bucket, Content::Filesystem, "tank/larder/buckets/blue_v"),
        ] {
            let volume =
                VolumeId { kind, content, project: "blue".parse().unwrap(), name: "v".parse().unwrap() };
            let at = Place::live(&volume);
            assert_eq!(layout.spelled(&at, Part::main(&volume)), spelled);
            let snapshot = at.at_snapshot(&"s0".parse().unwrap());
            assert_eq!(layout.spelled(&snapshot, Part::main(&volume)), format!("{spelled}@snapshot-s0"));
        }
    }

    #[test]
    fn names_that_zfs_has_not_are_refused() {
        let custom = |name: &str| {
            Place::live(&VolumeId::custom(
                Content::Filesystem,
                "default".parse().unwrap(),
                name.parse().unwrap(),
            ))
        };
        layout().must_be_spellable(&custom("v.1_2-3:4")).unwrap();
        for name in ["v@1", "vä1", "v=1"] {
            let error = layout().must_be_spellable(&custom(name)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
        let long = |project: &str, snapshot: usize| {
            let volume = custom(&"v".repeat(64)).volume;
            let at = Place::live(&VolumeId { project: project.parse().unwrap(), ..volume });
            layout().must_be_spellable(&at.at_snapshot(&"s".repeat(snapshot).parse().unwrap()))
        };
        long("default", 64).unwrap();
        assert!(long(&"p".repeat(40), 64).unwrap_err().to_string().contains("shorter by"));
    }

    #[test]
    fn foreign_things_and_our_own_helpers_are_left_out() {
        let layout = layout();
        let gone = layout.gone();
        let names = [
            "tank/larder",
            "tank/larder/custom",
            "tank/larder/custom/no-project",
            "tank/larder/containers/default_c1",
            "tank/larder/containers/c1/nested",
            "tank/larder/deleted/images/x",
            "tank/other/custom/default_v",
            "tank/larder/.larder/staging.odd.custom.default_v",
            gone.as_str(),
        ];
        let rows: Vec<_> = names.iter().map(|name| ((*name).to_owned(), false)).collect();
        assert_eq!(read(&layout, &rows, Content::Filesystem), vec![]);
        assert!(
            layout.is_gone(&gone) && !layout.is_gone("tank/larder/.larder/view.x") && !layout.is_view(&gone)
        );
    }
}
