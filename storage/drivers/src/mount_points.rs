//! Where the filesystems of a pool's places are mounted, below folders that only root passes.

use crate::bounded::Bounded;
use crate::filesystem::{MOUNTING, Unmount, WriteBack, mounts};
use crate::spelling::{PRIVATE, folders, must_fit, path, snapshots_folder};
use larder_base::host::FsAct;
use larder_storage_driver::{Area, Cx, Place, Result};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What a folder's name may have at most.
const LONGEST_NAME: usize = 255;

/// The folders of one pool.
#[derive(Debug, Clone)]
pub(crate) struct MountPoints {
    root: PathBuf,
}

impl MountPoints {
    pub(crate) fn below(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder below which everything is mounted.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the files of a place are mounted: live ones where the peers have them.
    pub(crate) fn of(&self, at: &Place) -> PathBuf {
        let (kind, entry) = (at.volume.kind, at.volume.entry());
        match (&at.area, &at.snapshot) {
            (area, None) => self.root.join(path(area, kind, &entry)),
            (Area::Live, Some(name)) => {
                self.root.join(snapshots_folder(kind)).join(entry).join(name.as_str())
            }
            (area, Some(name)) => self.root.join(path(area, kind, &format!("{entry}@{name}"))),
        }
    }

    /// Refuses what no folder can be called, with the kind `Invalid`.
    pub(crate) fn check(&self, at: &Place) -> Result<()> {
        must_fit(at, self.of(at).file_name().map_or(0, OsStr::len), LONGEST_NAME)
    }

    /// Whether a folder is there for many places, and stays when one goes.
    fn is_shared(&self, path: &Path) -> bool {
        folders(&self.root).iter().any(|folder| folder == path)
    }

    /// Whether something that is mounted is mounted below the root.
    pub(crate) fn has(&self, target: &Path) -> bool {
        self.root.canonicalize().is_ok_and(|root| target.starts_with(root))
    }

    /// Whether a filesystem on a device is mounted for the users of a place.
    pub(crate) fn has_device(&self, at: &Place) -> Result<bool> {
        let target = self.of(at);
        Ok(mounts()?.iter().any(|mounted| mounted.target == target && mounted.is_of_device()))
    }

    /// Writes back what such a filesystem has in memory, so that a snapshot of its device has it too.
    pub(crate) fn write_back(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        match self.has_device(at)? {
            true => cx.act(&WriteBack { target: self.of(at) }),
            false => Ok(()),
        }
    }

    /// Unmounts what nobody has open, and removes the mount point, and the folder of the snapshots that it was the last in.
    pub(crate) fn unmount(&self, cx: &Cx<'_>, target: &Path) -> Result<()> {
        if target.is_dir() {
            let act = Unmount { targets: vec![target.to_owned()], detaches: false };
            cx.act(&Bounded { act, limit: MOUNTING })?;
        }
        match target.parent() {
            Some(parent) if parent.is_dir() && !self.is_shared(parent) => {
                cx.act(&FsAct::RemoveEmptyDirectory { path: parent.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Makes the folders that are missing.
    pub(crate) fn make(&self, cx: &Cx<'_>) -> Result<()> {
        if !self.root.is_dir() {
            cx.act(&FsAct::MakeDirectory { path: self.root.clone(), mode: 0o711 })?;
        }
        let missing = folders(&self.root).into_iter().filter(|path| !path.is_dir());
        missing.map(|path| FsAct::MakeDirectory { path, mode: PRIVATE }).try_for_each(|act| cx.act(&act))
    }

    /// Removes the folders. Fails when something is still mounted there.
    pub(crate) fn remove(&self, cx: &Cx<'_>) -> Result<()> {
        for folder in folders(&self.root) {
            cx.act(&FsAct::remove_tree(folder))?;
        }
        cx.act(&FsAct::RemoveEmptyDirectory { path: self.root.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_base::Ticket;
    use larder_storage_driver::{Content, ErrorKind, VolumeId};
    use uuid::Uuid;

    #[test]
    fn what_is_mounted_lies_where_the_peers_have_it_or_below_ours() {
        let mount_points = MountPoints::below("/pool".into());
        let custom = |name: &str| {
            let (project, name) = ("default".parse().unwrap(), name.parse().unwrap());
            Place::live(&VolumeId::custom(Content::Filesystem, project, name))
        };
        let live = custom("v");
        let snapshot = live.at_snapshot(&"s0".parse().unwrap());
        assert_eq!(mount_points.of(&live), Path::new("/pool/custom/default_v"));
        assert_eq!(mount_points.of(&snapshot), Path::new("/pool/custom-snapshots/default_v/s0"));
        let ticket = Ticket::new("none", Uuid::nil(), Uuid::nil());
        let staged = format!("/pool/.larder/staging.{ticket}.custom.default_v@s0");
        assert_eq!(mount_points.of(&snapshot.staged(&ticket)), Path::new(&staged));
        let shared = |path: &str| mount_points.is_shared(Path::new(path));
        assert!(shared("/pool/custom-snapshots") && !shared("/pool/custom-snapshots/default_v"));
        mount_points.check(&custom(&"v".repeat(64)).staged(&ticket)).unwrap();
        let name = "s".repeat(64).parse().unwrap();
        let mut long = custom(&"v".repeat(64)).at_snapshot(&name).staged(&ticket);
        long.volume.project = "p".repeat(60).parse().unwrap();
        let error = mount_points.check(&long).unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("shorter by"), "{error}");
    }
}
