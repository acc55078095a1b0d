//! How a place is spelled as logical volumes, and back. Live places are spelled as both peers do, `<kind>_<entry>` with dashes
//! doubled and `-` before a snapshot; a disk ends with `.block` or `.iso`. The others are `larder_<hash>`, where the peers do
//! not look: a tag beside the name says the place, and the name holds the tag's hash. A tag that does not fit the name says
//! nothing, so that a volume gets the tag of its next place before it gets its name.

use super::report::Lv;
use crate::filesystem::{self, Filesystem};
use crate::parts;
use crate::spelling::{DISK, ISO, folder, read_suffix};
use larder_base::SnapshotName;
use larder_storage_driver::{Area, Content, ErrorKind, Place, Result, StorageError, VolumeId, VolumeKind};
use sha2::{Digest, Sha256};
use std::collections::HashSet;

const OURS: &str = "larder_";
const TAG: &str = "larder_place=";
const HASH_DIGITS: usize = 32;
/// The device-mapper's limit for `<volume group>-<volume>` with dashes doubled.
const LONGEST_DEVICE_NAME: usize = 127;
/// What LVM keeps for itself inside names, as `lvm(8)` lists it.
const RESERVED: &[&str] = &[
    "_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_iorig", "_imeta", "_mimage", "_mlog", "_pmspare",
    "_rimage", "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig",
];

/// One of the logical volumes of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The disk beside the filesystem of a virtual machine.
    Disk,
    /// What the place is listed by.
    Main,
}

impl Part {
    /// The parts of a volume, the main one last.
    pub(super) fn of(volume: &VolumeId) -> &'static [Self] {
        if volume.has_two_parts() { &[Self::Disk, Self::Main] } else { &[Self::Main] }
    }
}

/// A logical volume that is part of a place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) part: Part,
    pub(super) lv: Lv,
}

/// Spells the places of one pool.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) vg: String,
    /// What unpacked images have: the peers make it a part of their names.
    pub(super) filesystem: Filesystem,
}

impl Names {
    /// The name of a part: the one spelling of it.
    pub(super) fn lv(&self, at: &Place, part: Part) -> String {
        let volume = match &at.area {
            Area::Live => format!("{}_{}", folder(at.volume.kind), escaped(&self.entry(&at.volume))),
            _ => format!("{OURS}{}", hash(&tag(at))),
        };
        let snapshot = at.snapshot.as_ref().map(|snapshot| format!("-{}", escaped(snapshot.as_str())));
        format!("{volume}{}{}", snapshot.unwrap_or_default(), suffix(&at.volume, part))
    }

    /// The names that a part may have: an image may be there with another filesystem than the pool's own.
    pub(super) fn possible(&self, at: &Place, part: Part) -> Vec<String> {
        if at.volume.kind != VolumeKind::Image || !at.is_live() {
            return vec![self.lv(at, part)];
        }
        let named = |name: &&str| {
            Filesystem::named(name).map(|filesystem| Self { vg: String::new(), filesystem }.lv(at, part))
        };
        filesystem::NAMES.iter().filter_map(named).collect()
    }

    fn entry(&self, volume: &VolumeId) -> String {
        match volume.kind {
            VolumeKind::Image => format!("{}_{}", volume.entry(), self.filesystem.as_str()),
            _ => volume.entry(),
        }
    }

    /// Fails with kind `Invalid` when LVM can't have the name that a place has, or would have when it is live.
    pub(super) fn check(&self, at: &Place) -> Result<()> {
        let refuse = |problem: String| Err(StorageError::new(ErrorKind::Invalid, problem));
        let name = at.snapshot.as_ref().map_or(at.volume.name.as_str(), SnapshotName::as_str);
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "+_.-".contains(c);
        for name in [name, at.volume.project.as_str()] {
            if !name.chars().all(is_allowed) {
                return refuse(format!("LVM has no name for {name:?}: use letters, digits and + _ . -"));
            }
        }
        // Project and name are one word to LVM.
        let live = self.lv(&at.within(Area::Live), Part::Main);
        if let Some(word) = RESERVED.iter().find(|word| live.contains(*word)) {
            return refuse(format!("LVM keeps names with {word} for itself: {name:?} can't be used"));
        }
        let ends_alike = name.ends_with(DISK) || name.ends_with(ISO);
        if ends_alike && !matches!(at.volume.kind, VolumeKind::Container | VolumeKind::Bucket) {
            return refuse(format!(
                "{name:?} can't be used: names that end with {DISK} or {ISO} are of disks"
            ));
        }
        for place in [at.clone(), at.within(Area::Live)] {
            let lv = self.lv(&place, Part::Main);
            let device = escaped(&self.vg).len() + 1 + escaped(&lv).len() + DISK.len();
            if device > LONGEST_DEVICE_NAME {
                let message = format!(
                    "{name:?} is too long: {lv} in {} would need more than LVM's 127 characters",
                    self.vg
                );
                return refuse(message);
            }
        }
        Ok(())
    }

    /// What `volumes` are parts of. What no place is spelled as is left out.
    pub(super) fn read(&self, volumes: Vec<Lv>) -> Vec<Found> {
        let names: HashSet<String> = volumes.iter().map(|lv| lv.name.clone()).collect();
        let mut found: Vec<Found> = volumes.into_iter().filter_map(|lv| self.read_one(lv, &names)).collect();
        // An image may be there with several filesystems: the pool's own counts.
        found.sort_by_key(|found| (found.place.clone(), found.part, !self.is_own(found)));
        found.dedup_by(|one, other| one.place == other.place && one.part == other.part);
        found
    }

    fn is_own(&self, found: &Found) -> bool {
        found.lv.name == self.lv(&found.place, found.part)
    }

    pub(super) fn read_one(&self, lv: Lv, all: &HashSet<String>) -> Option<Found> {
        let (place, part) = match lv.name.strip_prefix(OURS) {
            Some(rest) => read_ours(rest, &lv.tags)?,
            None => read_live(&lv.name, all)?,
        };
        Some(Found { place, part, lv })
    }
}

/// The tag that says where a volume is that is not live.
pub(super) fn tag(at: &Place) -> String {
    let VolumeId { kind, content, project, name } = &at.volume;
    let (letter, id) = match &at.area {
        Area::Live => ('l', String::new()),
        Area::Staging(ticket) => ('s', ticket.to_string()),
        Area::Trash(ticket) => ('t', ticket.to_string()),
        Area::Kept(id) => ('k', id.to_string()),
    };
    format!("{TAG}{letter}:{id}:{kind}:{content}:{project}:{name}")
}

/// Whether a tag says where a volume is or was.
pub(super) fn is_place_tag(tag: &str) -> bool {
    tag.starts_with(TAG)
}

fn read_tag(tag: &str) -> Option<Place> {
    let mut fields = tag.strip_prefix(TAG)?.splitn(6, ':');
    let (letter, id) = (fields.next()?, fields.next()?);
    let area = match letter {
        "s" => Area::Staging(id.parse().ok()?),
        "t" => Area::Trash(id.parse().ok()?),
        "k" => Area::Kept(id.parse().ok()?),
        _ => return None,
    };
    let volume = VolumeId {
        kind: fields.next()?.parse().ok()?,
        content: fields.next()?.parse().ok()?,
        project: fields.next()?.parse().ok()?,
        name: fields.next()?.parse().ok()?,
    };
    Some(Place::new(area, &volume))
}

fn hash(tag: &str) -> String {
    let digest = Sha256::digest(tag.as_bytes());
    digest.iter().take(HASH_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
}

/// The place of a name without [`OURS`].
fn read_ours(rest: &str, tags: &[String]) -> Option<(Place, Part)> {
    let (own, rest) = rest.split_at_checked(HASH_DIGITS)?;
    let main = tags.iter().filter(|tag| hash(tag) == own).find_map(|tag| read_tag(tag))?;
    let parts = Part::of(&main.volume).iter();
    // `.block` ends the disk's name, and nothing ends that of the filesystem beside it: the longer ending is tried first.
    let (snapshot, part) =
        parts.filter_map(|part| Some((rest.strip_suffix(suffix(&main.volume, *part))?, *part))).next()?;
    let snapshot = match snapshot.strip_prefix('-') {
        Some(snapshot) => Some(unescaped(snapshot)?.parse().ok()?),
        None if snapshot.is_empty() => None,
        None => return None,
    };
    Some((Place { snapshot, ..main }, part))
}

/// The place of a live name, as the peers spell it; `all` are the names beside it.
fn read_live(name: &str, all: &HashSet<String>) -> Option<(Place, Part)> {
    let (kind, rest) = VolumeKind::ALL
        .into_iter()
        .find_map(|kind| Some((kind, name.strip_prefix(folder(kind))?.strip_prefix('_')?)))?;
    let (rest, content, part) = read_suffix(kind, rest, || all.contains(&format!("{name}{DISK}")));
    let (entry, snapshot) = match separated(rest) {
        Some((entry, snapshot)) => {
            (unescaped(entry)?, Some(unescaped(snapshot)?.parse::<SnapshotName>().ok()?))
        }
        None => (unescaped(rest)?, None),
    };
    let entry = match kind {
        VolumeKind::Image => entry.rsplit_once('_').map_or(entry.as_str(), |(image, _)| image),
        _ => entry.as_str(),
    };
    let volume = VolumeId::from_entry(kind, content, entry)?;
    let part = if part == parts::Part::Disk && volume.has_two_parts() { Part::Disk } else { Part::Main };
    Some((Place { area: Area::Live, volume, snapshot }, part))
}

/// What ends the name of a part.
fn suffix(volume: &VolumeId, part: Part) -> &'static str {
    match (volume.content, part) {
        (Content::Block, Part::Main) if volume.has_two_parts() => "",
        (Content::Block, _) => DISK,
        (Content::Iso, _) => ISO,
        (Content::Filesystem, _) => "",
    }
}

fn escaped(text: &str) -> String {
    text.replace('-', "--")
}

/// The opposite of [`escaped`]; `None` for a dash that stands alone.
fn unescaped(text: &str) -> Option<String> {
    let plain = text.replace("--", "\0");
    (!plain.contains('-')).then(|| plain.replace('\0', "-"))
}

/// What stands before and after the dash that stands alone. Names neither begin nor end with one, so it is clear which it is.
fn separated(text: &str) -> Option<(&str, &str)> {
    let mut rest = text;
    while let Some(at) = rest.find('-') {
        let dashes = rest[at..].len() - rest[at..].trim_start_matches('-').len();
        let start = text.len() - rest.len() + at;
        if dashes == 1 {
            return Some((&text[..start], &text[start + 1..]));
        }
        rest = &rest[at + dashes..];
    }
    None
}

#[cfg(test)]
mod tests;
