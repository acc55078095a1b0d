//! The trait that a storage technology implements.

use crate::{
    Capabilities, Config, ConfigKey, Cx, ErrorKind, Need, ObjectStore, Place, Result, StorageError, Stream,
    VolumeSpec,
};
use larder_base::ByteSize;
use larder_base::SnapshotName;
use std::fmt;
use std::path::{Path, PathBuf};

/// One storage technology, seen as named places in one pool.
///
/// Blocking; knows nothing of the catalog, operations or REST. **Every verb is safe to repeat** and finishes
/// what an earlier, interrupted call began: `destroy` of an absent place is Ok, `rename` continues from any
/// prefix. A verb that fails may have acted in part; the pool above looks, undoes or repeats.
pub trait Driver: fmt::Debug + Send + Sync {
    /// The name in the API: `dir`, `btrfs`, ….
    fn name(&self) -> &'static str;

    /// What it can do on this pool. Stays the same while the pool is open.
    fn capabilities(&self) -> Capabilities;

    /// Pool and volume keys: name, type, default, doc.
    fn config_keys(&self) -> &'static [ConfigKey];

    /// The pool's keys as they are to be written down: those given, without what only creation needs (`source.wipe`), with
    /// what this driver chose for itself (`source`, `size`). Looks at nothing that creation changes: the caller writes
    /// them down before it creates.
    fn recorded_config(&self) -> Config;

    /// Makes the pool where nothing is. Refuses a source that holds something else. Repeatable.
    fn create_pool(&self, cx: &Cx<'_>) -> Result<()>;

    /// Imports, activates, mounts; Ok when open already.
    fn open_pool(&self, cx: &Cx<'_>) -> Result<()>;

    /// Brings the open pool in line with changed keys, as far as they are about what is on disk (the size of its file) or
    /// how it is mounted. Called before `new` is written down: refuses with `Invalid` or `Unsupported` before the first
    /// change, and is repeatable.
    fn change_pool(&self, cx: &Cx<'_>, old: &Config, new: &Config) -> Result<()> {
        let _ = (cx, old, new);
        Ok(())
    }

    /// The opposite of [`Driver::open_pool`]; Ok when closed already.
    fn close_pool(&self, cx: &Cx<'_>) -> Result<()>;

    /// Removes the pool and all that is left in it, except for what is or may be somebody else's; Ok when absent.
    fn destroy_pool(&self, cx: &Cx<'_>) -> Result<()>;

    /// Asks the open pool for a sign of life, as cheaply as can be; fails with `Unavailable` when there is none in time, or
    /// when the pool is not where it was.
    fn must_answer(&self, cx: &Cx<'_>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// Space of the whole pool.
    fn pool_usage(&self, cx: &Cx<'_>) -> Result<PoolUsage>;

    /// What is really there: every volume and snapshot in every area. Either is listed where its main part is, so a
    /// snapshot is listed even when its volume is elsewhere.
    fn list(&self, cx: &Cx<'_>) -> Result<Vec<Place>>;

    /// The live volumes and snapshots that [`Driver::destroy_pool`] would destroy: all, where a pool is nobody else's too.
    fn at_stake(&self, cx: &Cx<'_>) -> Result<Vec<Place>> {
        let mut places = self.list(cx)?;
        places.retain(Place::is_live);
        Ok(places)
    }

    /// Makes an empty volume (or, where snapshots are [copied](crate::SnapshotKind::Copied), an empty snapshot
    /// place to be filled). Only ever called with a staged place.
    fn create(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()>;

    /// Makes a volume that shares blocks with `from`, without `from`'s snapshots. Only ever called with a
    /// staged place. Of two that can't share blocks it says `Unsupported(Need::Clone)` and leaves nothing; the pool copies.
    fn create_clone(&self, cx: &Cx<'_>, at: &Place, from: &Place, spec: &VolumeSpec) -> Result<()> {
        let _ = (cx, from, spec);
        Err(StorageError::unsupported(
            Need::Clone,
            format!("{at} can't be cloned: {} has no clones", self.name()),
        ))
    }

    /// Makes a volume that shares blocks with the volume `from` and has snapshots that share blocks with those of `from`
    /// named, oldest first. Only ever called with a staged place, and only where [`Driver::create_clone`] works. A driver
    /// without it says so before it changes anything: the pool then copies what is in them.
    fn create_clone_with_snapshots(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        from: &Place,
        snapshots: &[SnapshotName],
        spec: &VolumeSpec,
    ) -> Result<()> {
        let _ = (cx, from, snapshots, spec);
        let message = format!("{at} can't be cloned with snapshots by {}", self.name());
        Err(StorageError::unsupported(Need::Clone, message))
    }

    /// Moves a volume with all its parts and snapshots, or one snapshot, to another place; within one area too.
    /// Repeatable: finishes from any prefix, and Ok when `from` is gone and `to` is there. Fails with
    /// `AlreadyExists` and changes nothing when `to`'s main part is there and `from`'s too. When `to` is live the
    /// main part goes last, else first: a live name is live only while its main part is.
    fn rename(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()>;

    /// Destroys a volume with all its parts and snapshots, or one snapshot, so that what is left of an interrupted call is
    /// still listed. Ok when absent.
    fn destroy(&self, cx: &Cx<'_>, at: &Place) -> Result<()>;

    /// Sets the size (quota or disk). Repeatable; every prefix is valid.
    fn resize(&self, cx: &Cx<'_>, at: &Place, size: Option<ByteSize>) -> Result<()>;

    /// Space of one volume.
    fn usage(&self, cx: &Cx<'_>, at: &Place) -> Result<VolumeUsage>;

    /// Space of many volumes, in their order; `None` for one that is not there or can't be measured now. A technology whose
    /// tool must be asked asks it once, however many they are.
    fn usages(&self, cx: &Cx<'_>, places: &[Place]) -> Result<Vec<Option<VolumeUsage>>> {
        Ok(places.iter().map(|at| self.usage(cx, at).ok()).collect())
    }

    /// Makes a volume or snapshot usable on this machine. The pool counts; a driver is asked once.
    fn attach(&self, cx: &Cx<'_>, at: &Place, mode: Mode) -> Result<Attached>;

    /// The opposite of [`Driver::attach`]; Ok when not attached.
    fn detach(&self, cx: &Cx<'_>, at: &Place) -> Result<()>;

    /// Lets the owner of a user namespace manage an attached volume as the technology's own, if the volume's keys (`config`)
    /// ask for it. `namespace` is the namespace's file, such as `/proc/77/ns/user`. Repeatable; it ends with the namespace.
    fn delegate(&self, cx: &Cx<'_>, at: &Place, config: &Config, namespace: &Path) -> Result<()> {
        let _ = (cx, at, config, namespace);
        Ok(())
    }

    /// Makes the snapshot `name` of the volume `of`, live or staged, at once and in the same area. Of several parts
    /// the main one goes last: the snapshot is listed only when it is whole. Fails with `AlreadyExists` and changes
    /// nothing when there is one of that name. Only for [`SnapshotKind::Native`](crate::SnapshotKind::Native).
    fn snapshot(&self, cx: &Cx<'_>, of: &Place, name: &SnapshotName) -> Result<()> {
        let _ = (cx, name);
        Err(StorageError::unsupported(
            Need::Snapshot,
            format!("{of} has no native snapshots: {} copies", self.name()),
        ))
    }

    /// Rolls `at` back to its snapshot `name` in place. Repeatable. Only for the in-place kinds of
    /// [`Restore`](crate::Restore).
    fn restore(&self, cx: &Cx<'_>, at: &Place, name: &SnapshotName) -> Result<()> {
        let _ = (cx, name);
        Err(StorageError::unsupported(
            Need::RestoreInPlace,
            format!("{at} can't be rolled back in place: {} exchanges", self.name()),
        ))
    }

    /// Whether the keys of a volume allow that a restore of its snapshot `name` removes the younger ones; the caller deletes
    /// them before it restores. Fails with `InUse` when the restore would be refused even then. Only asked for
    /// [`Restore::InPlaceNewest`](crate::Restore::InPlaceNewest), and before anything is changed.
    fn may_remove_younger(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        name: &SnapshotName,
        config: &Config,
    ) -> Result<bool> {
        let _ = (cx, at, name, config);
        Ok(false)
    }

    /// The technology's own way to carry volumes from pool to pool, where it has one.
    fn stream(&self) -> Option<&dyn Stream> {
        None
    }

    /// The technology's own object store, where it has one. Such a pool holds buckets alone, and all of them are made through
    /// this.
    fn objects(&self) -> Option<&dyn ObjectStore> {
        None
    }

    /// Swaps two volumes with all their parts; snapshots stay where they are. One step for a volume of one part.
    /// **Not repeatable**: after a failure half-way the pool stages again and exchanges again. Only for [`Restore::Exchange`](crate::Restore::Exchange).
    fn exchange(&self, cx: &Cx<'_>, one: &Place, other: &Place) -> Result<()> {
        let _ = (cx, other);
        Err(StorageError::unsupported(
            Need::Exchange,
            format!("{one} can't be exchanged: {} rolls back in place", self.name()),
        ))
    }
}

/// How a volume is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Nothing may be written through it.
    ReadOnly,
    /// For use.
    ReadWrite,
}

/// Where an attached volume is on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attached {
    /// The root of its tree of files.
    pub directory: Option<PathBuf>,
    /// Its disk: a block device or a raw file.
    pub disk: Option<PathBuf>,
}

impl Attached {
    /// A tree of files alone.
    pub fn at_directory(path: impl Into<PathBuf>) -> Self {
        Self { directory: Some(path.into()), disk: None }
    }

    /// A disk alone.
    pub fn at_disk(path: impl Into<PathBuf>) -> Self {
        Self { directory: None, disk: Some(path.into()) }
    }

    /// The root of the tree; an error when the volume has none.
    pub fn directory(&self) -> Result<&Path> {
        let missing = || StorageError::new(ErrorKind::Invalid, "the volume has no filesystem");
        self.directory.as_deref().ok_or_else(missing)
    }

    /// The disk; an error when the volume has none.
    pub fn disk(&self) -> Result<&Path> {
        self.disk.as_deref().ok_or_else(|| StorageError::new(ErrorKind::Invalid, "the volume has no disk"))
    }
}

/// Space of a pool, in bytes and inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolUsage {
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes there are.
    pub total_bytes: u64,
    /// Inodes in use; 0 where the technology has no such limit.
    pub used_inodes: u64,
    /// Inodes there are; 0 where the technology has no such limit.
    pub total_inodes: u64,
}

/// Space of a volume, in bytes; `None` where the technology does not know without reading everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VolumeUsage {
    /// Bytes in use.
    pub used_bytes: Option<u64>,
    /// The limit or disk size.
    pub total_bytes: Option<u64>,
}
