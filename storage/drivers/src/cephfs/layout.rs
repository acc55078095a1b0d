//! How a place is spelled in the filesystem, and back. Live volumes are where both peers have them; the other areas are flat
//! below `.larder`, where they do not look. Snapshots are in the `.snap` folder that CephFS shows in every directory.

use crate::spelling::{area_prefix, read_area, trashed_snapshot};
use larder_storage_driver::{Area, Content, Place, VolumeId, VolumeKind};
use std::path::{Path, PathBuf};

/// The folder of the live volumes.
pub(super) const CUSTOM: &str = "custom";
/// The folder of what is not live.
pub(super) const OURS: &str = ".larder";
/// The folder in which every directory shows its snapshots.
pub(super) const SNAPSHOTS: &str = ".snap";

/// Spells the places of one pool.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

fn volume(entry: &str) -> Option<VolumeId> {
    VolumeId::from_entry(VolumeKind::Custom, Content::Filesystem, entry)
}

impl Layout {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where the filesystem is mounted.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The file that says whose the pool is.
    pub(super) fn mark(&self) -> PathBuf {
        self.root.join(OURS).join("identity")
    }

    /// The folders of a pool, ours last.
    pub(super) fn folders(&self) -> [PathBuf; 2] {
        [self.root.join(CUSTOM), self.root.join(OURS)]
    }

    /// The directory of a volume, whatever snapshot `at` names.
    fn volume(&self, area: &Area, volume: &VolumeId) -> PathBuf {
        match area {
            Area::Live => self.root.join(CUSTOM).join(volume.entry()),
            area => self.root.join(OURS).join(format!("{}{}", area_prefix(area), volume.entry())),
        }
    }

    /// Where a place is: the one spelling of it. A snapshot can't leave its directory: in the trash it is called so.
    pub(super) fn path(&self, at: &Place) -> PathBuf {
        match (&at.snapshot, &at.area) {
            (None, area) => self.volume(area, &at.volume),
            (Some(name), Area::Trash(_)) => self
                .volume(&Area::Live, &at.volume)
                .join(SNAPSHOTS)
                .join(format!("larder.{}{name}", area_prefix(&at.area))),
            (Some(name), area) => self.volume(area, &at.volume).join(SNAPSHOTS).join(name.as_str()),
        }
    }

    /// Where a volume's snapshots are.
    pub(super) fn snapshots(&self, at: &Place) -> PathBuf {
        self.volume(&at.area, &at.volume).join(SNAPSHOTS)
    }

    /// The volumes that the names in [`CUSTOM`] (`is_live`) or in [`OURS`] spell.
    pub(super) fn read_volume(is_live: bool, name: &str) -> Option<Place> {
        let (area, entry) = if is_live { (Area::Live, name) } else { read_area(name)? };
        Some(Place::new(area, &volume(entry)?))
    }

    /// The snapshot that a name in a volume's folder of snapshots spells. CephFS shows those of folders above with `_`.
    pub(super) fn read_snapshot(of: &Place, name: &str) -> Option<Place> {
        let Some(ours) = name.strip_prefix("larder.") else {
            return Some(of.at_snapshot(&name.parse().ok()?));
        };
        trashed_snapshot(ours, &of.volume)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_base::Ticket;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use uuid::Uuid;

    fn place() -> impl Strategy<Value = Place> {
        let area = (0..4_u8, any::<u128>()).prop_map(|(which, id)| {
            let id = Uuid::from_u128(id);
            match which {
                0 => Area::Live,
                1 => Area::Staging(Ticket::new("none", id, id)),
                2 => Area::Trash(Ticket::new("none", id, id)),
                _ => Area::Kept(id.simple().to_string().parse().unwrap()),
            }
        });
        let names = (
            "[a-z][a-z0-9-]{0,4}",
            "[a-z]([a-z0-9._:-]{0,6}[a-z0-9])?",
            proptest::option::of("[a-z]([a-z0-9.]{0,4}[a-z])?"),
        );
        (area, names).prop_filter_map("not a place", |(area, (project, name, snapshot))| {
            let volume = VolumeId::custom(Content::Filesystem, project.parse().ok()?, name.parse().ok()?);
            let snapshot = snapshot.map(|snapshot| snapshot.parse()).transpose().ok()?;
            Some(Place { area, volume, snapshot })
        })
    }

    proptest! {
        #[test]
        fn a_place_reads_back_from_what_it_is_spelled_as(at in place()) {
            let layout = Layout::new("/pool".into());
            let path = layout.path(&at);
            let parts: Vec<&str> = path.strip_prefix("/pool").unwrap().iter().filter_map(|part| part.to_str()).collect();
            let volume = Layout::read_volume(parts[0] == CUSTOM, parts[1]).unwrap();
            let read = match parts.get(3) {
                Some(name) => Layout::read_snapshot(&volume, name).unwrap(),
                None => volume,
            };
            prop_assert_eq!(read, at);
        }

        #[test]
        fn different_places_are_spelled_differently(places in proptest::collection::vec(place(), 2..20)) {
            let layout = Layout::new("/pool".into());
            let mut spelled: HashMap<PathBuf, Place> = HashMap::new();
            for at in places {
                if let Some(other) = spelled.insert(layout.path(&at), at.clone()) {
                    prop_assert_eq!(other, at);
                }
            }
        }

        #[test]
        fn reading_names_never_panics(name in "\\PC{0,60}") {
            let of = Layout::read_volume(true, "default_v").unwrap();
            let _ = (Layout::read_volume(true, &name), Layout::read_volume(false, &name));
            let _ = (Layout::read_snapshot(&of, &name), Layout::read_snapshot(&of, &format!("larder.{name}")));
        }
    }

    #[test]
    fn foreign_names_are_left_out() {
        for name in ["no-project", "lost+found", "default_"] {
            assert_eq!(Layout::read_volume(true, name), None, "{name}");
        }
        assert_eq!(Layout::read_volume(false, "staging.odd.default_v"), None);
        let of = Layout::read_volume(true, "default_v").unwrap();
        for name in ["_s0_1099511627776", "larder.kept.x", "larder.staging.a.b.c.s0"] {
            assert_eq!(Layout::read_snapshot(&of, name), None, "{name}");
        }
    }
}
