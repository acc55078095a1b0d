//! How a place is spelled on disk, and back. Live places are where both peers have them. The other areas are below
//! `.larder`, where they do not look: `staging/<ticket>+custom+default_v1` is staged for what will be `custom/default_v1`.
//! No folder of its own is made and removed for a ticket: that was half of the time of making a volume.

use crate::spelling::{self, OURS, folder, snapshots_folder};
use larder_base::{SnapshotName, Ticket};
use larder_storage_driver::{Area, Content, Place, Result, VolumeId, VolumeKind};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Between a ticket, a kind's folder and the volume's name where it is not live. Neither of the first two has it in its
/// name.
const JOINT: char = '+';
/// A disk's file in its volume's folder.
pub(crate) const DISK: &str = "root.img";
/// What a snapshot's name is given while it is staged or on its way out beside those that are live.
const STAGED: &str = ".s.";
const TRASHED: &str = ".t.";
/// Tells what a volume's folder holds; only the host's root can set or see it.
pub(crate) const CONTENT_MARK: &str = "trusted.larder.content";

/// Where things are in one pool.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
    snapshots_stay: bool,
}

/// A volume's name in its kind's folder.
fn file_name(volume: &VolumeId) -> String {
    match volume.content {
        Content::Iso => format!("{}.iso", volume.entry()),
        Content::Filesystem | Content::Block => volume.entry(),
    }
}

impl Layout {
    /// A layout below `root`.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, snapshots_stay: false }
    }

    /// The same where a single snapshot can't leave its folder (a read-only subvolume can't get another parent): it is
    /// staged and trashed beside its name.
    pub(crate) fn with_snapshots_that_stay(root: PathBuf) -> Self {
        Self { root, snapshots_stay: true }
    }

    /// The pool's root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folders that a pool always has; ours is the last.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        spelling::folders(&self.root)
    }

    /// The folders in ours, one for each sort of area that is not live.
    pub(crate) fn areas(&self) -> impl Iterator<Item = PathBuf> {
        AREAS.into_iter().map(|(name, _)| self.root.join(OURS).join(name))
    }

    /// The folder of a kind's live volumes.
    pub(crate) fn kind(&self, kind: VolumeKind) -> PathBuf {
        self.root.join(folder(kind))
    }

    /// Where a place is: the one spelling of it. A snapshot that stays in its folder, and is not found among those of a
    /// volume in the same area, is beside the live ones.
    pub(crate) fn path(&self, at: &Place) -> PathBuf {
        match &at.snapshot {
            Some(snapshot) => {
                let own = self.snapshots(at).join(snapshot.as_str());
                let beside =
                    self.beside(at, &at.within(Area::Live)).filter(|_| self.snapshots_stay && !own.exists());
                beside.unwrap_or(own)
            }
            None => self.entry(at, folder(at.volume.kind)),
        }
    }

    /// How a snapshot of `at`'s volume is spelled among those of `of` while it is staged or on its way out: names of
    /// snapshots never begin with a dot. None for other places.
    pub(crate) fn beside(&self, at: &Place, of: &Place) -> Option<PathBuf> {
        let name = at.snapshot.as_ref()?;
        let (mark, ticket) = match &at.area {
            Area::Staging(ticket) => (STAGED, ticket),
            Area::Trash(ticket) => (TRASHED, ticket),
            Area::Live | Area::Kept(_) => return None,
        };
        Some(self.snapshots(of).join(format!("{mark}{ticket}.{name}")))
    }

    /// Where a volume's snapshots are.
    pub(crate) fn snapshots(&self, at: &Place) -> PathBuf {
        self.entry(at, &snapshots_folder(at.volume.kind))
    }

    fn entry(&self, at: &Place, folder: &str) -> PathBuf {
        let name = file_name(&at.volume);
        let (area, id) = match &at.area {
            Area::Live => return self.root.join(folder).join(name),
            Area::Staging(ticket) => ("staging", ticket.to_string()),
            Area::Trash(ticket) => ("trash", ticket.to_string()),
            Area::Kept(id) => ("kept", id.to_string()),
        };
        self.root.join(OURS).join(area).join(format!("{id}{JOINT}{folder}{JOINT}{name}"))
    }

    /// A disk's file.
    pub(crate) fn disk(&self, at: &Place) -> PathBuf {
        match at.volume.content {
            Content::Iso => self.path(at),
            Content::Filesystem | Content::Block => self.path(at).join(DISK),
        }
    }

    /// Whether there is what a creation that was cut off has left, to be gone on with: what has volumes is somebody's.
    pub(crate) fn is_left(&self) -> Result<bool> {
        Ok(self.root.join(OURS).is_dir() && self.list()?.is_empty())
    }

    /// All places there are. What no place is spelled as is left out.
    pub(crate) fn list(&self) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for kind in VolumeKind::ALL {
            let folder = self.root.join(folder(kind));
            for name in names(&folder)? {
                add_volume(&Area::Live, kind, &name, &folder.join(&name), &mut places);
            }
            let folder = self.root.join(snapshots_folder(kind));
            for name in names(&folder)? {
                add_snapshots(&Area::Live, kind, &name, &folder.join(&name), &mut places)?;
            }
        }
        for (name, area) in AREAS {
            for (area, entry) in self.entries_of(name, area)? {
                list_entry(&area, &entry, &mut places)?;
            }
        }
        Ok(places)
    }

    /// Folders for snapshots in those areas in which there are none.
    pub(crate) fn empty_work_folders(&self) -> Result<Vec<PathBuf>> {
        let mut empty = Vec::new();
        for (name, area) in AREAS {
            let entries = self.entries_of(name, area)?.into_iter().map(|(_, entry)| entry);
            empty.extend(entries.filter(Entry::is_hollow).map(|entry| entry.path));
        }
        Ok(empty)
    }

    /// What is in the folder of the areas of one sort. What no place is spelled as is left out.
    fn entries_of(&self, folder: &str, area: ReadArea) -> Result<Vec<(Area, Entry)>> {
        let within = self.root.join(OURS).join(folder);
        let read = |spelled: String| {
            let (id, rest) = spelled.split_once(JOINT)?;
            let (folder, name) = rest.split_once(JOINT)?;
            let entry =
                Entry { folder: folder.to_owned(), name: name.to_owned(), path: within.join(&spelled) };
            Some((area(id)?, entry))
        };
        Ok(names(&within)?.into_iter().filter_map(read).collect())
    }
}

/// Reads the id of an area.
type ReadArea = fn(&str) -> Option<Area>;

/// The areas that are not live: the folder of each sort, and how an id is read there.
const AREAS: [(&str, ReadArea); 3] = [("staging", staging), ("trash", trash), ("kept", kept)];

/// One entry of an area that is not live: what would be `folder/name` if it was.
struct Entry {
    folder: String,
    name: String,
    path: PathBuf,
}

impl Entry {
    /// Whether it is a folder for snapshots without any: an empty folder where a volume stands is a volume.
    fn is_hollow(&self) -> bool {
        self.folder.ends_with("-snapshots")
            && fs::read_dir(&self.path).is_ok_and(|mut entries| entries.next().is_none())
    }
}

fn list_entry(area: &Area, entry: &Entry, places: &mut Vec<Place>) -> Result<()> {
    for kind in VolumeKind::ALL {
        if entry.folder == folder(kind) {
            add_volume(area, kind, &entry.name, &entry.path, places);
        } else if entry.folder == snapshots_folder(kind) {
            add_snapshots(area, kind, &entry.name, &entry.path, places)?;
        }
    }
    Ok(())
}

fn add_volume(area: &Area, kind: VolumeKind, name: &str, path: &Path, places: &mut Vec<Place>) {
    if let Some(volume) = volume_of(kind, name, path) {
        places.push(Place::new(area.clone(), &volume));
    }
}

fn add_snapshots(
    area: &Area,
    kind: VolumeKind,
    name: &str,
    path: &Path,
    places: &mut Vec<Place>,
) -> Result<()> {
    for snapshot in names(path)? {
        let Some((area, parsed)) = snapshot_of(area, &snapshot) else { continue };
        if let Some(volume) = volume_of(kind, name, &path.join(&snapshot)) {
            places.push(Place::new(area, &volume).at_snapshot(&parsed));
        }
    }
    Ok(())
}

/// The area and name that an entry among the snapshots of a volume in `area` spells.
fn snapshot_of(area: &Area, entry: &str) -> Option<(Area, SnapshotName)> {
    let (rest, is): (_, fn(Ticket) -> Area) = match (entry.strip_prefix(STAGED), entry.strip_prefix(TRASHED))
    {
        (Some(rest), _) => (rest, Area::Staging),
        (_, Some(rest)) => (rest, Area::Trash),
        (None, None) => return Some((area.clone(), entry.parse().ok()?)),
    };
    let (end, _) = rest.match_indices('.').nth(2).filter(|_| *area == Area::Live)?;
    Some((is(rest[..end].parse().ok()?), rest[end + 1..].parse().ok()?))
}

fn staging(name: &str) -> Option<Area> {
    name.parse::<Ticket>().ok().map(Area::Staging)
}

fn trash(name: &str) -> Option<Area> {
    name.parse::<Ticket>().ok().map(Area::Trash)
}

fn kept(name: &str) -> Option<Area> {
    name.parse().ok().map(Area::Kept)
}

/// The names in a folder; none when it is absent.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// The volume that a name in a kind's folder spells; what `path` holds tells the content.
fn volume_of(kind: VolumeKind, name: &str, path: &Path) -> Option<VolumeId> {
    let is_iso = || is_file(path) || marked_content(path) == Some(Content::Iso);
    let iso = name.strip_suffix(".iso").filter(|_| kind == VolumeKind::Custom && is_iso());
    match iso {
        Some(entry) => VolumeId::from_entry(kind, Content::Iso, entry),
        None => VolumeId::from_entry(kind, content_of(kind, path), name),
    }
}

fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

fn content_of(kind: VolumeKind, path: &Path) -> Content {
    match kind {
        VolumeKind::VirtualMachine => Content::Block,
        VolumeKind::Container | VolumeKind::Bucket => Content::Filesystem,
        VolumeKind::Custom | VolumeKind::Image => match marked_content(path) {
            Some(Content::Block) => Content::Block,
            _ => unmarked_content(path),
        },
    }
}

fn marked_content(path: &Path) -> Option<Content> {
    let mut mark = [0; 16];
    let length = rustix::fs::lgetxattr(path, CONTENT_MARK, &mut mark).ok()?;
    std::str::from_utf8(&mark[..length]).ok()?.parse().ok()
}

/// A volume of a peer's, or on a filesystem without such marks: a disk stands alone in a folder of root's.
fn unmarked_content(path: &Path) -> Content {
    use std::os::unix::fs::PermissionsExt;
    let is_private =
        fs::symlink_metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 == 0);
    let is_disk_alone = || {
        let mut entries = fs::read_dir(path).into_iter().flatten().flatten();
        matches!((entries.next(), entries.next()), (Some(only), None) if only.file_name() == OsStr::new(DISK))
    };
    if is_private && is_disk_alone() { Content::Block } else { Content::Filesystem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_base::{KeptId, ProjectName};
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
                _ => {
                    Area::Kept(id.simple().to_string().parse::<KeptId>().unwrap_or_else(|_| KeptId::random()))
                }
            }
        });
        let names = (
            "[a-z][a-z0-9-]{0,4}",
            "[a-z][a-z0-9._-]{0,6}[a-z0-9]",
            proptest::option::of("[a-z][a-z0-9]{0,4}"),
        );
        (area, 0..5_usize, 0..3_u8, names).prop_filter_map(
            "not a volume",
            |(area, kind, content, (project, name, snapshot))| {
                let kind = VolumeKind::ALL[kind];
                let content = match (kind, content) {
                    (VolumeKind::VirtualMachine, _) | (VolumeKind::Custom, 1) => Content::Block,
                    (VolumeKind::Custom, 2) => Content::Iso,
                    _ => Content::Filesystem,
                };
                let instance = matches!(kind, VolumeKind::Container | VolumeKind::VirtualMachine);
                if instance && name.contains(['_', '.']) {
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

    /// Makes what a place is spelled as.
    fn make(layout: &Layout, at: &Place) {
        let path = layout.path(at);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match at.volume.content {
            Content::Iso => fs::write(&path, "").unwrap(),
            Content::Filesystem => fs::create_dir(&path).unwrap(),
            Content::Block => {
                fs::create_dir(&path).unwrap();
                fs::write(path.join(DISK), "").unwrap();
                let private = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
                fs::set_permissions(&path, private).unwrap();
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_place_reads_back_from_what_it_is_spelled_as(at in place()) {
            let folder = tempfile::tempdir().unwrap();
            let layout = Layout::new(folder.path().to_owned());
            make(&layout, &at);
            prop_assert_eq!(layout.list().unwrap(), vec![at]);
        }
    }

    #[test]
    fn a_snapshot_that_stays_is_read_back_beside_its_volume() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::with_snapshots_that_stay(folder.path().to_owned());
        let volume =
            VolumeId::custom(Content::Filesystem, ProjectName::default_project(), "v".parse().unwrap());
        let live = Place::live(&volume).at_snapshot(&"s.0".parse().unwrap());
        let ticket = Ticket::new("none", Uuid::from_u128(1), Uuid::from_u128(2));
        for at in [live.clone(), live.staged(&ticket), live.trashed(&ticket)] {
            assert_eq!(layout.path(&at).parent(), layout.path(&live).parent(), "{at}");
            make(&layout, &at);
            assert!(layout.list().unwrap().contains(&at), "{at}");
        }
        let whole = Place::live(&volume).trashed(&ticket);
        let own = layout.snapshots(&whole).join("s.0");
        fs::create_dir_all(&own).unwrap();
        assert_eq!(layout.path(&live.trashed(&ticket)), own);
    }

    proptest! {
        #[test]
        fn different_places_are_spelled_differently(places in proptest::collection::vec(place(), 2..20)) {
            let layout = Layout::new("/pool".into());
            let mut spelled: HashMap<PathBuf, Place> = HashMap::new();
            for at in places {
                if let Some(other) = spelled.insert(layout.path(&at), at.clone()) {
                    // Only what can't be there at once may share a name: the same name with another content.
                    let same_name = file_name(&other.volume) == file_name(&at.volume) && other.snapshot == at.snapshot;
                    prop_assert!(same_name && other.area == at.area, "{other:?} and {at:?}");
                }
            }
        }
    }

    #[test]
    fn foreign_things_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_owned());
        for path in [
            "custom/no-project",
            "containers/default_c1",
            "custom/lost+found",
            ".larder/staging/odd+custom+default_v",
            "else/x",
        ] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        assert_eq!(layout.list().unwrap(), vec![]);
    }
}
