//! How a place is spelled as RBD images, and back. Live places are where both peers have them; the other areas begin with
//! `larder.`, where they do not look.

use crate::cluster::parse::Row;
use crate::filesystem::Filesystem;
use crate::parts::Part;
use crate::spelling::{self, DISK, ISO, read_suffix, suffix};
use larder_storage_driver::{Area, Place, Result, StorageError, VolumeId, VolumeKind};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Begins the name of what is not live.
const OURS: &str = "larder.";
/// Begins the name of an image that is gone but for its clones, as the peers have it.
const ZOMBIE: &str = "zombie_";
/// The same of one that we put there.
const OWN_ZOMBIE: &str = "zombie_larder_";
/// Begins the name of a snapshot that is gone but for its clones, as the peers have it.
const ZOMBIE_SNAPSHOT: &str = "zombie_snapshot_";
/// Begins the name of a snapshot.
const SNAPSHOT: &str = "snapshot_";

/// An image, or one of its snapshots.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Spelled {
    pub(super) image: String,
    pub(super) snapshot: Option<String>,
}

impl Spelled {
    pub(super) fn image(name: impl Into<String>) -> Self {
        Self { image: name.into(), snapshot: None }
    }

    /// Whether the other is the same, or a snapshot of it.
    pub(super) fn has(&self, other: &Self) -> bool {
        self == other || (self.snapshot.is_none() && self.image == other.image)
    }

    pub(super) fn at(&self, snapshot: impl Into<String>) -> Self {
        Self { image: self.image.clone(), snapshot: Some(snapshot.into()) }
    }
}

/// Spells the places of one pool.
#[derive(Debug)]
pub(super) struct Layout {
    /// What a new image has: the peers make it a part of its name.
    filesystem: Filesystem,
    /// Images that have another, by their entry; learnt when they are listed.
    others: Mutex<HashMap<String, Filesystem>>,
}

fn prefix(kind: VolumeKind) -> &'static str {
    match kind {
        VolumeKind::Container => "container_",
        VolumeKind::VirtualMachine => "virtual-machine_",
        VolumeKind::Image => "image_",
        VolumeKind::Custom => "custom_",
        VolumeKind::Bucket => "bucket_",
    }
}

/// How the name of an image or snapshot in an area begins.
fn begin(area: &Area) -> String {
    if *area == Area::Live { String::new() } else { format!("{OURS}{}", spelling::area_prefix(area)) }
}

/// The area that a name says, and what follows.
fn read_area(name: &str) -> Option<(Area, &str)> {
    match name.strip_prefix(OURS) {
        Some(name) => spelling::read_area(name),
        None => Some((Area::Live, name)),
    }
}

/// A new name for an image that is gone but for its clones.
pub(super) fn zombie() -> String {
    format!("{OWN_ZOMBIE}{}", uuid::Uuid::new_v4().simple())
}

/// A new name for a snapshot that is gone but for its clones.
pub(super) fn zombie_snapshot() -> String {
    format!("{ZOMBIE_SNAPSHOT}{}", uuid::Uuid::new_v4().simple())
}

/// Whether an image is gone but for its clones, and was put there by us.
pub(super) fn is_own_zombie(image: &str) -> bool {
    image.starts_with(OWN_ZOMBIE)
}

/// Whether an image is ours and not live: peers don't look at such names.
pub(super) fn is_out_of_sight(image: &str) -> bool {
    is_own_zombie(image) || image.strip_prefix(OURS).is_some_and(|name| spelling::read_area(name).is_some())
}

/// Whether an image is gone but for its clones.
pub(super) fn is_zombie(image: &str) -> bool {
    image.starts_with(ZOMBIE)
}

/// Whether a snapshot is gone but for its clones.
pub(super) fn is_zombie_snapshot(snapshot: &str) -> bool {
    snapshot.starts_with(ZOMBIE_SNAPSHOT)
}

impl Layout {
    pub(super) fn new(filesystem: Filesystem) -> Self {
        Self { filesystem, others: Mutex::default() }
    }

    /// Notes which filesystem an image is made with.
    pub(super) fn learn(&self, volume: &VolumeId, filesystem: Filesystem) {
        if volume.kind == VolumeKind::Image {
            self.note(&volume.entry(), filesystem);
        }
    }

    fn note(&self, entry: &str, filesystem: Filesystem) {
        let mut others = self.others.lock();
        match filesystem == self.filesystem {
            true => others.remove(entry),
            false => others.insert(entry.to_owned(), filesystem),
        };
    }

    /// An image's name without its area.
    fn name(&self, volume: &VolumeId, part: Part) -> String {
        let (prefix, entry, suffix) = (prefix(volume.kind), volume.entry(), suffix(volume, part));
        match volume.kind {
            VolumeKind::Image => {
                let filesystem = self.others.lock().get(&entry).copied().unwrap_or(self.filesystem);
                format!("{prefix}{entry}_{}{suffix}", filesystem.as_str())
            }
            _ => format!("{prefix}{entry}{suffix}"),
        }
    }

    /// The image or snapshot of a part of a place: the one spelling of it. A snapshot can't leave its image: in the trash
    /// it is called so.
    pub(super) fn spelled(&self, at: &Place, part: Part) -> Spelled {
        let name = self.name(&at.volume, part);
        match (&at.snapshot, &at.area) {
            (None, area) => Spelled::image(format!("{}{name}", begin(area))),
            (Some(snapshot), Area::Trash(_)) => {
                Spelled::image(name).at(format!("{}{snapshot}", begin(&at.area)))
            }
            (Some(snapshot), area) => {
                Spelled::image(format!("{}{name}", begin(area))).at(format!("{SNAPSHOT}{snapshot}"))
            }
        }
    }

    /// Refuses what RBD can't spell, with the kind `Invalid`.
    pub(super) fn check(&self, at: &Place) -> Result<()> {
        let name = at.snapshot.as_ref().map_or(at.volume.name.as_str(), |snapshot| snapshot.as_str());
        let refuse = |problem: String| Err(StorageError::invalid(problem));
        if name.contains('@') {
            return refuse(format!("{name:?} can't be kept by ceph: @ begins the name of a snapshot"));
        }
        let ends_alike = name.ends_with(DISK) || name.ends_with(ISO);
        if ends_alike && at.snapshot.is_none() && at.volume.kind == VolumeKind::Custom {
            return refuse(format!(
                "{name:?} can't be used: names that end with {DISK} or {ISO} are of disks"
            ));
        }
        Ok(())
    }

    /// All places among the rows of a list. What no place is spelled as is left out.
    pub(super) fn places(&self, rows: &[Row]) -> Vec<Place> {
        let names: BTreeSet<&str> = rows.iter().map(|row| row.image.as_str()).collect();
        let volumes: BTreeMap<&str, _> =
            names.iter().filter_map(|name| Some((*name, self.read_image(name, &names)?))).collect();
        let snapshots = rows.iter().filter_map(|row| Some((row.image.as_str(), row.snapshot.as_deref()?)));
        spelling::places(&volumes, snapshots, read_snapshot)
    }

    /// Whether an image is part of a place, or was.
    pub(super) fn is_ours(&self, image: &str) -> bool {
        is_own_zombie(image) || self.read_image(image, &BTreeSet::new()).is_some()
    }

    /// The part that an image is; `all` are the names beside it.
    fn read_image(&self, image: &str, all: &BTreeSet<&str>) -> Option<(Area, VolumeId, Part)> {
        let (area, name) = read_area(image)?;
        let (kind, rest) = VolumeKind::ALL.into_iter().find_map(|kind| {
            let rest = name.strip_prefix(prefix(kind))?;
            Some((kind, rest))
        })?;
        let has_disk = || all.contains(format!("{image}{DISK}").as_str());
        let (entry, content, part) = read_suffix(kind, rest, has_disk);
        let entry = if kind == VolumeKind::Image { self.read_image_entry(entry)? } else { entry };
        Some((area, VolumeId::from_entry(kind, content, entry)?, part))
    }

    /// Takes the filesystem off an image's entry, and learns it.
    fn read_image_entry<'a>(&self, entry: &'a str) -> Option<&'a str> {
        let (entry, filesystem) = entry.rsplit_once('_')?;
        self.note(entry, Filesystem::named(filesystem)?);
        Some(entry)
    }
}

/// The snapshot that a name spells; `None` for those that are the driver's own or a peer's.
fn read_snapshot(area: &Area, volume: &VolumeId, name: &str) -> Option<Place> {
    if let Some(name) = name.strip_prefix(SNAPSHOT) {
        return Some(Place::new(area.clone(), volume).at_snapshot(&name.parse().ok()?));
    }
    spelling::trashed_snapshot(name.strip_prefix(OURS)?, volume)
}

#[cfg(test)]
mod tests;
