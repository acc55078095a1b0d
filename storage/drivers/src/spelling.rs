//! What several technologies spell alike: what ends the names of disks, the folders of kinds, and the areas that are not live.

use crate::parts::Part;
use larder_base::Ticket;
use larder_storage_driver::{Area, Content, Place, Result, StorageError, VolumeId, VolumeKind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The folder, or what else there is, of what is not live.
pub(crate) const OURS: &str = ".larder";
/// Nobody but root passes: what is below belongs to whoever a volume is given to.
pub(crate) const PRIVATE: u32 = 0o700;

/// What ends the names of disks where they stand beside trees of files.
pub(crate) const DISK: &str = ".block";
pub(crate) const ISO: &str = ".iso";

/// What ends the name of a part.
pub(crate) fn suffix(volume: &VolumeId, part: Part) -> &'static str {
    match (part, volume.content) {
        (Part::Filesystem, _) => "",
        (Part::Disk, Content::Iso) => ISO,
        (Part::Disk, _) => DISK,
    }
}

/// The opposite of [`suffix`]: what stands before it, and what part of what content has such a name. `has_disk` tells whether a disk
/// stands beside it.
pub(crate) fn read_suffix(
    kind: VolumeKind,
    name: &str,
    has_disk: impl FnOnce() -> bool,
) -> (&str, Content, Part) {
    match (kind, name.strip_suffix(DISK), name.strip_suffix(ISO)) {
        (VolumeKind::Container | VolumeKind::Bucket, ..) => (name, Content::Filesystem, Part::Filesystem),
        (_, Some(disk), _) => (disk, Content::Block, Part::Disk),
        (VolumeKind::Custom, None, Some(iso)) => (iso, Content::Iso, Part::Disk),
        (VolumeKind::VirtualMachine, ..) => (name, Content::Block, Part::Filesystem),
        (VolumeKind::Image, ..) if has_disk() => (name, Content::Block, Part::Filesystem),
        (VolumeKind::Custom | VolumeKind::Image, ..) => (name, Content::Filesystem, Part::Filesystem),
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

/// Refuses a place whose name would be longer than what there is for it, with the kind `Invalid`.
pub(crate) fn must_fit(at: &Place, length: usize, longest: usize) -> Result<()> {
    let message = |excess| format!("the name of {at} is too long: it must be shorter by {excess} characters");
    match length.checked_sub(longest) {
        Some(excess @ 1..) => Err(StorageError::invalid(message(excess))),
        _ => Ok(()),
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

/// Where what an area has of a kind is, below what is a pool's: live things where the peers have them, others flat below ours.
pub(crate) fn path(area: &Area, kind: VolumeKind, entry: &str) -> String {
    match area {
        Area::Live => format!("{}/{entry}", folder(kind)),
        area => format!("{OURS}/{}{}.{entry}", area_prefix(area), folder(kind)),
    }
}

/// The opposite of [`path`].
pub(crate) fn read_path(path: &str) -> Option<(Area, VolumeKind, &str)> {
    let (top, name) = path.split_once('/')?;
    let (area, folder, entry) = match top == OURS {
        true => {
            let (area, name) = read_area(name)?;
            let (folder, entry) = name.split_once('.')?;
            (area, folder, entry)
        }
        false => (Area::Live, top, name),
    };
    let kind = kind_of(folder).filter(|_| !entry.contains('/'))?;
    Some((area, kind, entry))
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
