//! What several technologies spell alike: the parts of a volume, the folders of kinds, the areas that are not live, and where
//! what has a filesystem is mounted.

use larder_base::Ticket;
use larder_base::host::FsAct;
use larder_storage_driver::{Area, Cx, Place, Result, VolumeId, VolumeKind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The folder, or what else there is, of what is not live.
pub(crate) const OURS: &str = ".larder";
/// Nobody but root passes: what is below belongs to whoever a volume is given to.
pub(crate) const PRIVATE: u32 = 0o700;

/// One of the things that a volume is made of where trees and disks are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// A tree of files.
    Filesystem,
    /// A disk.
    Disk,
}

impl Part {
    /// The parts of a volume, the main part last.
    pub(crate) fn of(volume: &VolumeId) -> &'static [Self] {
        match (volume.has_filesystem(), volume.has_disk()) {
            (true, true) => &[Self::Filesystem, Self::Disk],
            (_, true) => &[Self::Disk],
            (_, false) => &[Self::Filesystem],
        }
    }

    /// The part that decides whether a volume is there.
    pub(crate) fn main(volume: &VolumeId) -> Self {
        if volume.has_disk() { Self::Disk } else { Self::Filesystem }
    }
}

/// The folder of a kind's live volumes, as the peers have it.
pub(crate) fn folder(kind: VolumeKind) -> &'static str {
    match kind {
        VolumeKind::Container => "containers",
        VolumeKind::VirtualMachine => "virtual-machines",
        VolumeKind::Image => "images",
        VolumeKind::Custom => "custom",
        VolumeKind::Bucket => "buckets",
    }
}

/// The kind whose folder it is.
pub(crate) fn kind_of(name: &str) -> Option<VolumeKind> {
    VolumeKind::ALL.into_iter().find(|kind| folder(*kind) == name)
}

/// The folder of the snapshots of a kind's live volumes.
pub(crate) fn snapshots_folder(kind: VolumeKind) -> String {
    format!("{}-snapshots", folder(kind))
}

/// The folders that a pool always has; ours is the last.
pub(crate) fn folders(root: &Path) -> Vec<PathBuf> {
    let own = VolumeKind::ALL.into_iter().flat_map(|kind| [folder(kind).to_owned(), snapshots_folder(kind)]);
    own.chain([OURS.to_owned()]).map(|name| root.join(name)).collect()
}

/// Makes the folders that are missing.
pub(crate) fn make_folders(cx: &Cx<'_>, root: &Path) -> Result<()> {
    if !root.is_dir() {
        cx.act(&FsAct::MakeDirectory { path: root.to_owned(), mode: 0o711 })?;
    }
    let missing = folders(root).into_iter().filter(|path| !path.is_dir());
    missing.map(|path| FsAct::MakeDirectory { path, mode: PRIVATE }).try_for_each(|act| cx.act(&act))
}

/// Moves the parts of a place one after the other: the main part last when `to` is live, else first. Tells whether any was there.
pub(crate) fn move_parts(
    from: &Place,
    to: &Place,
    mut move_one: impl FnMut(Part) -> Result<bool>,
) -> Result<bool> {
    let mut parts = Part::of(&from.volume).to_vec();
    if !to.is_live() {
        parts.reverse();
    }
    parts.into_iter().try_fold(false, |has_moved, part| Ok(move_one(part)? | has_moved))
}

/// Where the files of a place are mounted: live ones where the peers have them.
pub(crate) fn mount_point(root: &Path, at: &Place) -> PathBuf {
    let (kind, entry) = (at.volume.kind, at.volume.entry());
    match (&at.area, &at.snapshot) {
        (Area::Live, None) => root.join(folder(kind)).join(entry),
        (Area::Live, Some(name)) => root.join(snapshots_folder(kind)).join(entry).join(name.as_str()),
        (area, snapshot) => {
            let snapshot = snapshot.as_ref().map(|name| format!("@{name}")).unwrap_or_default();
            root.join(OURS).join(format!("{}{}.{entry}{snapshot}", area_prefix(area), folder(kind)))
        }
    }
}

/// How the name of what is in an area begins.
pub(crate) fn area_prefix(area: &Area) -> String {
    match area {
        Area::Live => String::new(),
        Area::Staging(ticket) => format!("staging.{ticket}."),
        Area::Trash(ticket) => format!("trash.{ticket}."),
        Area::Kept(id) => format!("kept.{id}."),
    }
}

/// The area, not live, that a name says, and what follows. A ticket has two dots of its own.
pub(crate) fn read_area(name: &str) -> Option<(Area, &str)> {
    let (word, rest) = name.split_once('.')?;
    if word == "kept" {
        let (id, rest) = rest.split_once('.')?;
        return Some((Area::Kept(id.parse().ok()?), rest));
    }
    let (end, _) = rest.match_indices('.').nth(2)?;
    let ticket: Ticket = rest[..end].parse().ok()?;
    let area = match word {
        "staging" => Area::Staging(ticket),
        "trash" => Area::Trash(ticket),
        _ => return None,
    };
    Some((area, &rest[end + 1..]))
}

/// A snapshot whose name is said by `name`, which may tell that it lies in the trash.
pub(crate) fn trashed_snapshot(name: &str, of: &VolumeId) -> Option<Place> {
    match read_area(name)? {
        (area @ Area::Trash(_), name) => Some(Place::new(area, of).at_snapshot(&name.parse().ok()?)),
        _ => None,
    }
}

/// What a name is: a part of a volume in an area.
pub(crate) type Spelled = (Area, VolumeId, Part);

/// All places of a list: `volumes` tells what names are, `snapshots` the name and snapshot of each that there is, and `read` what
/// a snapshot's name spells.
pub(crate) fn places<'a>(
    volumes: &BTreeMap<&'a str, Spelled>,
    snapshots: impl Iterator<Item = (&'a str, &'a str)>,
    read: impl Fn(&Area, &VolumeId, &str) -> Option<Place>,
) -> Vec<Place> {
    let mut places = BTreeSet::new();
    for (area, volume, part) in volumes.values() {
        // What may be swept is told even if only a part is there.
        if area.ticket().is_some() || *part == Part::main(volume) {
            places.insert(Place::new(area.clone(), volume));
        }
    }
    for (name, snapshot) in snapshots {
        let Some((area, volume, part)) = volumes.get(name) else { continue };
        if *part == Part::main(volume) {
            places.extend(read(area, volume, snapshot));
        }
    }
    places.into_iter().collect()
}
