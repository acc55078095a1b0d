//! Disks of a running container: what is mounted in it is noted down, and brought to what is wanted.
//!
//! The note lies beside the container's configuration. A disk is noted before it is mounted and forgotten after it is
//! unmounted, so whatever ends a run, the next one finds in it everything that may be there, and goes on from that.

use super::spec::DiskMount;
use super::{CALL_LIMIT, Containers};
use crate::error::RuntimeError;
use crate::helper::message::{Disk, DiskRoot, MountId, NewDisk, OldDisk, Reply, Request};
use larder_base::Cancel;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One disk could not be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
#[error("device {device:?}: {error}")]
pub struct DiskFailure {
    /// The device's name.
    pub device: String,
    /// Why.
    #[source]
    pub error: RuntimeError,
}

/// What a running container has mounted from us.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The init that the rest is about; none while a start is under way.
    init: Option<Init>,
    disks: Vec<Noted>,
    /// What disks that were there at the start, and are no longer, leave behind when the container reboots.
    left: Vec<Left>,
}

/// A process, and when it began: its number alone may come to mean another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Init {
    process: u32,
    began: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    disk: DiskMount,
    root: DiskRoot,
    /// None while it is not known whether it is mounted; one that the start brought is at its path in any case.
    mount: Option<MountId>,
    /// Its number among the disks of the start.
    staged: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Left {
    path: PathBuf,
    root: DiskRoot,
}

impl Note {
    /// Of a start with these disks.
    pub(super) fn of_start(disks: &[DiskMount]) -> Result<Self, RuntimeError> {
        let noted = disks.iter().enumerate().map(|(number, disk)| {
            let root = root_of(disk)?;
            Ok(Noted { disk: disk.clone(), root, mount: None, staged: Some(number) })
        });
        Ok(Self { init: None, disks: noted.collect::<Result<_, RuntimeError>>()?, left: Vec::new() })
    }

    /// The same when it is done.
    pub(super) fn started(mut self, init: u32, mounts: &[Option<MountId>]) -> Self {
        self.init = Init::of(init);
        for (noted, mount) in self.disks.iter_mut().zip(mounts) {
            noted.mount = *mount;
        }
        self
    }

    /// What is left to do to have exactly these disks: which to unmount, deepest first, and which to mount then. A disk
    /// below another goes before that one and comes after it.
    fn steps(&self, wanted: &[DiskMount]) -> (Vec<Noted>, Vec<DiskMount>) {
        let is_kept =
            |noted: &Noted| (noted.mount.is_some() || noted.staged.is_some()) && wanted.contains(&noted.disk);
        let gone = self.disks.iter().filter(|noted| !is_kept(noted)).map(|noted| noted.disk.path.as_path());
        let is_new =
            |disk: &&DiskMount| !self.disks.iter().any(|noted| noted.disk == **disk && is_kept(noted));
        let new = wanted.iter().filter(is_new).map(|disk| disk.path.as_path());
        let touched: Vec<&Path> = gone.chain(new).collect();
        let is_below = |path: &Path| touched.iter().any(|above| path != *above && path.starts_with(above));
        let stays = |noted: &Noted| is_kept(noted) && !is_below(&noted.disk.path);
        let mut unmount: Vec<Noted> = self.disks.iter().filter(|noted| !stays(noted)).cloned().collect();
        let mut mount: Vec<DiskMount> = wanted
            .iter()
            .filter(|disk| !self.disks.iter().any(|noted| noted.disk == **disk && stays(noted)))
            .cloned()
            .collect();
        let depth = |path: &Path| path.components().count();
        unmount.sort_by_key(|noted| std::cmp::Reverse(depth(&noted.disk.path)));
        mount.sort_by_key(|disk| depth(&disk.path));
        (unmount, mount)
    }
}

impl Init {
    fn of(process: u32) -> Option<Self> {
        let told = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name before may hold anything; the time is the 20th field behind it.
        let began = told.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
        Some(Self { process, began })
    }
}

fn root_of(disk: &DiskMount) -> Result<DiskRoot, RuntimeError> {
    DiskRoot::at(&disk.source).map_err(RuntimeError::io("look at", &disk.source))
}

impl Containers {
    /// The disks that a running container has mounted.
    pub fn disks(&self, name: &str) -> Result<Vec<DiskMount>, RuntimeError> {
        Ok(self.read_note(name)?.disks.into_iter().map(|noted| noted.disk).collect())
    }

    /// Mounts and unmounts in a running container until it has exactly these disks. What is unmounted goes for good when the
    /// last process inside has closed its files. Returns what could not be done; all the rest is.
    pub fn settle_disks(&self, name: &str, wanted: &[DiskMount]) -> Result<Vec<DiskFailure>, RuntimeError> {
        let mut note = self.current_note(name)?;
        let (unmount, mount) = note.steps(wanted);
        let mut failures = Vec::new();
        for old in unmount {
            if let Err(error) = self.unmount_disk(name, &mut note, &old) {
                failures.push(DiskFailure { device: old.disk.device, error });
            }
        }
        for disk in mount {
            if note.disks.iter().any(|noted| noted.disk.device == disk.device) {
                continue; // The one before it could not be unmounted, which is told.
            }
            if let Err(error) = self.mount_disk(name, &mut note, &disk) {
                failures.push(DiskFailure { device: disk.device, error });
            }
        }
        Ok(failures)
    }

    /// The note as it is true for the init of now: after a reboot of its own a container has the disks of its start.
    fn current_note(&self, name: &str) -> Result<Note, RuntimeError> {
        let not_running = || RuntimeError::NotRunning(name.to_owned());
        let init = self.state(name)?.init.and_then(Init::of).ok_or_else(not_running)?;
        let mut note = self.read_note(name)?;
        if note.init == Some(init) {
            return Ok(note);
        }
        note.init = Some(init);
        note.disks.retain(|noted| noted.staged.is_some());
        for noted in &mut note.disks {
            noted.mount = None;
        }
        for left in note.left.clone() {
            let old = OldDisk { path: left.path, mount: None, root: left.root, staged: None };
            self.ask_disk(name, "unmount a disk", &Request::Unmount(self.target(name)?, old))?;
        }
        self.write_note(name, &note)?;
        Ok(note)
    }

    fn mount_disk(&self, name: &str, note: &mut Note, disk: &DiskMount) -> Result<(), RuntimeError> {
        note.disks.push(Noted { disk: disk.clone(), root: root_of(disk)?, mount: None, staged: None });
        self.write_note(name, note)?;
        let target = self.target(name)?;
        let stage = self.folder(&target).join("stage");
        let new = NewDisk { disk: Disk::from(disk), stage };
        let asked = self.ask_disk(name, "mount a disk", &Request::Mount(target, new));
        match asked {
            Ok(Reply::Mounted(mount)) => {
                if let Some(noted) = note.disks.last_mut() {
                    noted.mount = Some(mount);
                }
            }
            // It may be mounted all the same only when nobody has answered.
            Err(RuntimeError::Refused { .. } | RuntimeError::Failed { .. }) => {
                note.disks.pop();
            }
            _ => {}
        }
        self.write_note(name, note)?;
        asked.map(drop)
    }

    fn unmount_disk(&self, name: &str, note: &mut Note, noted: &Noted) -> Result<(), RuntimeError> {
        let target = self.target(name)?;
        let stage = self.folder(&target).join("stage");
        let stage = fs::canonicalize(&stage).map_err(RuntimeError::io("look at", &stage))?;
        let path = noted.disk.path.clone();
        let old = OldDisk {
            path: path.clone(),
            mount: noted.mount,
            root: noted.root,
            staged: noted.staged.map(|number| stage.join(number.to_string())),
        };
        if let Reply::Unmounted(Some(root)) =
            self.ask_disk(name, "unmount a disk", &Request::Unmount(target, old))?
        {
            note.left.push(Left { path, root });
        }
        note.disks.retain(|other| other != noted);
        self.write_note(name, note)
    }

    fn ask_disk(&self, name: &str, action: &'static str, request: &Request) -> Result<Reply, RuntimeError> {
        Ok(self.ask(name, action, request, Some(CALL_LIMIT), &Cancel::never())?.0)
    }

    fn read_note(&self, name: &str) -> Result<Note, RuntimeError> {
        let path = self.note_path(name)?;
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| RuntimeError::io("read", &path)(io::Error::other(error))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Note::default()),
            Err(error) => Err(RuntimeError::io("read", &path)(error)),
        }
    }

    /// All or nothing: a run that ends meanwhile leaves the old one.
    pub(super) fn write_note(&self, name: &str, note: &Note) -> Result<(), RuntimeError> {
        let path = self.note_path(name)?;
        let new = path.with_extension("new");
        let text = serde_json::to_string(note)
            .map_err(io::Error::other)
            .map_err(RuntimeError::io("write", &path))?;
        super::write(&new, &text)?;
        fs::rename(&new, &path).map_err(RuntimeError::io("write", &path))
    }

    fn note_path(&self, name: &str) -> Result<PathBuf, RuntimeError> {
        Ok(self.folder(&self.target(name)?).join("disks.json"))
    }
}

impl From<&DiskMount> for Disk {
    fn from(disk: &DiskMount) -> Self {
        Self {
            source: disk.source.clone(),
            path: disk.path.clone(),
            read_only: disk.read_only,
            recursive: disk.recursive,
            idmapped: disk.idmapped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(device: &str, path: &str) -> DiskMount {
        DiskMount {
            device: device.to_owned(),
            source: PathBuf::from("/srv").join(device),
            path: PathBuf::from(path),
            file: false,
            read_only: false,
            recursive: false,
            idmapped: true,
        }
    }

    fn noted(disk: &DiskMount, mount: Option<u64>, staged: Option<usize>) -> Noted {
        let mount = mount.map(|number| MountId { number, unique: None });
        Noted { disk: disk.clone(), root: DiskRoot { device: 1, inode: 1 }, mount, staged }
    }

    fn names(steps: &(Vec<Noted>, Vec<DiskMount>)) -> (Vec<&str>, Vec<&str>) {
        let unmounted = steps.0.iter().map(|noted| noted.disk.device.as_str()).collect();
        (unmounted, steps.1.iter().map(|disk| disk.device.as_str()).collect())
    }

    #[test]
    fn only_what_differs_is_touched() {
        let (a, b, c) = (disk("a", "/a"), disk("b", "/b"), disk("c", "/c"));
        let note =
            Note { disks: vec![noted(&a, Some(1), None), noted(&b, None, Some(0))], ..Note::default() };
        assert_eq!(names(&note.steps(&[a.clone(), b.clone()])), (vec![], vec![]));
        assert_eq!(names(&note.steps(&[b.clone(), c.clone()])), (vec!["a"], vec!["c"]));
        let read_only = DiskMount { read_only: true, ..a.clone() };
        assert_eq!(names(&note.steps(&[read_only, b.clone()])), (vec!["a"], vec!["a"]));
    }

    #[test]
    fn what_may_or_may_not_be_mounted_is_done_again() {
        let a = disk("a", "/a");
        let note = Note { disks: vec![noted(&a, None, None)], ..Note::default() };
        assert_eq!(names(&note.steps(std::slice::from_ref(&a))), (vec!["a"], vec!["a"]));
        assert_eq!(names(&note.steps(&[])), (vec!["a"], vec![]));
    }

    #[test]
    fn a_disk_below_another_goes_first_and_comes_last() {
        let (above, below) = (disk("above", "/srv"), disk("below", "/srv/deep/er"));
        let both = Note {
            disks: vec![noted(&above, Some(1), None), noted(&below, Some(2), None)],
            ..Note::default()
        };
        assert_eq!(names(&both.steps(std::slice::from_ref(&below))), (vec!["below", "above"], vec!["below"]));
        let one = Note { disks: vec![noted(&below, Some(2), None)], ..Note::default() };
        assert_eq!(
            names(&one.steps(&[below.clone(), above.clone()])),
            (vec!["below"], vec!["above", "below"])
        );
    }

    #[test]
    fn this_process_has_a_beginning() {
        let own = Init::of(std::process::id()).unwrap();
        assert!(own.began > 0);
        assert_eq!(Init::of(std::process::id()), Some(own));
        assert_eq!(Init::of(u32::MAX), None);
    }
}
