//! Volumes as subvolumes of a btrfs: snapshots and clones share blocks and are made at once, a restore exchanges two
//! subvolumes in one step, sizes are limits of quota groups.

mod ioctl;
mod keys;
mod pool;
mod quota;
mod stream;
mod subvolume;
mod superblock;

pub(crate) use pool::MKFS;
pub(crate) use stream::BTRFS;

use crate::PoolSetup;
use crate::folders::{
    DISK, Layout, PRIVATE, grow_disk, initial_mode, is_there, make_folder, mark_content, set_owner,
};
use crate::source::NewDisk;
use keys::CONFIG_KEYS;
use larder_base::host::FsAct;
use larder_base::{ByteSize, SnapshotName};
use larder_storage_driver::{
    Area, Attached, Capabilities, CloneKind, Config, ConfigKey, Content, Cx, Driver, Mode, Place, PoolUsage,
    Quota, Restore, Result, Shrink, SnapshotKind, StorageError, Stream, Trees, VolumeKind, VolumeSpec,
    VolumeUsage,
};
use pool::Home;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use subvolume::{Commit, SetReadOnly, Spot};

/// The driver over one pool.
#[derive(Debug)]
pub struct Btrfs {
    layout: Layout,
    home: Home,
}

impl Btrfs {
    /// A driver for a pool at `setup.root`, kept where `source` among its keys says. Fails with `Invalid` for a source or
    /// size that makes no sense.
    pub fn new(setup: PoolSetup) -> Result<Self> {
        let layout = Layout::with_snapshots_that_stay(setup.root.clone());
        Ok(Self { layout, home: Home::of(setup)? })
    }

    /// Where a place is; `NotFound` when it is not there.
    fn present(&self, at: &Place) -> Result<PathBuf> {
        let path = self.layout.path(at);
        if is_there(&path) { Ok(path) } else { Err(StorageError::not_found(at)) }
    }

    /// Sets what a volume's keys say of its files, and the limit of their bytes.
    fn furnish(&self, cx: &Cx<'_>, path: &Path, spec: &VolumeSpec) -> Result<()> {
        if let Some(kind) = spec.config.get("btrfs.compression").filter(|kind| !kind.is_empty()) {
            let (name, value) = ("btrfs.compression".to_owned(), kind.clone().into_bytes());
            cx.act(&FsAct::SetAttribute { path: path.to_owned(), name, value })?;
        }
        match spec.size {
            Some(size) if !spec.id.has_disk() => limit(cx, path, Some(size)),
            _ => Ok(()),
        }
    }

    fn new_disk(&self, cx: &Cx<'_>, path: &Path, spec: &VolumeSpec) -> Result<()> {
        let id = &spec.id;
        if id.kind != VolumeKind::VirtualMachine {
            mark_content(cx, path, id.content)?;
        }
        let size = match id.content {
            Content::Iso => spec.size.unwrap_or_default(),
            Content::Block | Content::Filesystem => spec.disk_size(),
        };
        let (disk, size) = (path.join(DISK), size.as_bytes());
        // What is compressed can't be written in place.
        match spec.config.get("btrfs.compression").is_none_or(|kind| kind.is_empty() || kind == "none") {
            true => cx.act(&NewDisk { path: disk, size }),
            false => cx.act(&FsAct::NewFile { path: disk, size, mode: 0o600 }),
        }
    }
}

/// A subvolume can't get another parent while it is read-only, as whoever uses it may have made it.
fn make_movable(cx: &Cx<'_>, path: &Path) -> Result<()> {
    match subvolume::is_subvolume(path) && subvolume::is_read_only(path)? {
        true => cx.act(&SetReadOnly { at: Spot::at(path), read_only: false }),
        false => Ok(()),
    }
}

fn limit(cx: &Cx<'_>, path: &Path, size: Option<ByteSize>) -> Result<()> {
    cx.act(&quota::SetLimit { path: path.to_owned(), size })
}

/// Makes a read-only snapshot with all subvolumes that stand in `from`: in one step when there are none.
fn snapshot_read_only(cx: &Cx<'_>, from: &Path, to: &Path) -> Result<()> {
    if !subvolume::has_nested(from)? {
        let (from, to) = (Spot::at(from), Spot::at(to));
        return cx.act(&subvolume::Snapshot { from, to, read_only: true });
    }
    subvolume::snapshot_all(cx, from, to)?;
    cx.act(&SetReadOnly { at: Spot::at(to), read_only: true })
}

impl Driver for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            contents: &[Content::Filesystem, Content::Block, Content::Iso],
            snapshot: SnapshotKind::Native,
            clone: CloneKind::Independent,
            quota: Quota::Native,
            shrink: Shrink::No,
            restore: Restore::Exchange,
            trees: Trees::Apart,
            shared: false,
        }
    }

    fn config_keys(&self) -> &'static [ConfigKey] {
        CONFIG_KEYS
    }

    fn recorded_config(&self) -> Config {
        self.home.recorded_config()
    }

    fn create_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.home.create(cx)?;
        self.open_pool(cx)
    }

    fn open_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.home.open(cx)?;
        self.layout.prepare(cx)
    }

    fn change_pool(&self, cx: &Cx<'_>, old: &Config, new: &Config) -> Result<()> {
        self.home.change(cx, old, new)
    }

    fn close_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.home.close(cx)
    }

    fn destroy_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.home.destroy(cx)
    }

    fn pool_usage(&self, _: &Cx<'_>) -> Result<PoolUsage> {
        self.layout.usage()
    }

    fn list(&self, _: &Cx<'_>) -> Result<Vec<Place>> {
        self.layout.list()
    }

    fn create(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        let path = self.layout.path(at);
        self.layout.make_parents(cx, at)?;
        cx.act(&subvolume::Create { path: path.clone() })?;
        let mode = if at.volume.has_disk() { PRIVATE } else { initial_mode(spec) };
        cx.act(&FsAct::SetMode { path: path.clone(), mode })?;
        set_owner(cx, &path, spec)?;
        self.furnish(cx, &path, spec)?;
        match at.volume.has_disk() {
            true => self.new_disk(cx, &path, spec),
            false => Ok(()),
        }
    }

    fn create_clone(&self, cx: &Cx<'_>, at: &Place, from: &Place, spec: &VolumeSpec) -> Result<()> {
        let source = self.present(from)?;
        let path = self.layout.path(at);
        self.layout.make_parents(cx, at)?;
        subvolume::snapshot_all(cx, &source, &path)?;
        self.furnish(cx, &path, spec)?;
        match spec.size {
            Some(size) if at.volume.has_disk() => grow_disk(cx, at, path.join(DISK), size),
            _ => Ok(()),
        }
    }

    fn create_clone_with_snapshots(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        from: &Place,
        snapshots: &[SnapshotName],
        spec: &VolumeSpec,
    ) -> Result<()> {
        self.create_clone(cx, at, from, spec)?;
        let folder = self.layout.snapshots(at);
        make_folder(cx, &folder)?;
        for name in snapshots {
            cx.checkpoint()?;
            let source = self.present(&from.at_snapshot(name))?;
            snapshot_read_only(cx, &source, &folder.join(name.as_str()))?;
        }
        Ok(())
    }

    fn rename(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        let (old, new) = (self.layout.path(from), self.layout.path(to));
        let moves_on = from.snapshot.is_some() && old.parent() != new.parent();
        // A snapshot goes to another volume: there is no way but to make it writable for it.
        let lineage = if moves_on { stream::lineage(&old)? } else { None };
        if moves_on || from.snapshot.is_none() {
            make_movable(cx, &old)?;
        }
        self.layout.rename(cx, from, to)?;
        if moves_on && subvolume::is_subvolume(&new) && !subvolume::is_read_only(&new)? {
            cx.act(&stream::Reseal { path: new.clone(), lineage })?;
        }
        cx.act(&Commit { at: new })
    }

    fn destroy(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        subvolume::destroy_all(cx, &self.layout.path(at))?;
        let snapshots = self.layout.snapshots(at);
        if at.snapshot.is_none() && is_there(&snapshots) {
            for entry in fs::read_dir(&snapshots)? {
                subvolume::destroy_all(cx, &entry?.path())?;
            }
            cx.act(&FsAct::remove_tree(snapshots))?;
        }
        // A snapshot that was being made has parts beside its name.
        if at.snapshot.is_some()
            && let Some(staged) = self.layout.beside(&at.staged(cx.ticket()), at)
        {
            subvolume::destroy_all(cx, &staged)?;
        }
        self.layout.remove_empty_parents(cx, at)
    }

    fn resize(&self, cx: &Cx<'_>, at: &Place, size: Option<ByteSize>) -> Result<()> {
        let path = self.present(at)?;
        match at.volume.has_disk() {
            true => grow_disk(cx, at, path.join(DISK), size.unwrap_or_default())?,
            false => limit(cx, &path, size)?,
        }
        cx.act(&Commit { at: path })
    }

    fn usage(&self, _: &Cx<'_>, at: &Place) -> Result<VolumeUsage> {
        let path = self.present(at)?;
        if !at.volume.has_disk() {
            return quota::usage(&path);
        }
        let disk = fs::metadata(path.join(DISK))?;
        Ok(VolumeUsage { used_bytes: Some(disk.blocks() * 512), total_bytes: Some(disk.len()) })
    }

    fn attach(&self, _: &Cx<'_>, at: &Place, _: Mode) -> Result<Attached> {
        let path = self.present(at)?;
        Ok(match at.volume.content {
            Content::Filesystem => Attached::at_directory(path),
            Content::Block if at.volume.has_two_parts() => {
                Attached { disk: Some(path.join(DISK)), directory: Some(path) }
            }
            Content::Block | Content::Iso => Attached::at_disk(path.join(DISK)),
        })
    }

    fn detach(&self, _: &Cx<'_>, _: &Place) -> Result<()> {
        Ok(())
    }

    fn snapshot(&self, cx: &Cx<'_>, of: &Place, name: &SnapshotName) -> Result<()> {
        let from = self.present(of)?;
        let at = of.at_snapshot(name);
        let folder = self.layout.snapshots(of);
        let path = folder.join(name.as_str());
        if is_there(&path) {
            return Err(StorageError::already_exists(at));
        }
        make_folder(cx, &folder)?;
        if !subvolume::has_nested(&from)? {
            return snapshot_read_only(cx, &from, &path);
        }
        // Several subvolumes are no snapshot until all are there: they get together beside its name.
        let staged = self.layout.beside(&at.staged(cx.ticket()), of).unwrap_or_else(|| path.clone());
        subvolume::destroy_all(cx, &staged)?;
        snapshot_read_only(cx, &from, &staged)?;
        cx.act(&FsAct::rename_no_replace(staged, path))
    }

    fn stream(&self) -> Option<&dyn Stream> {
        Some(self)
    }

    fn exchange(&self, cx: &Cx<'_>, one: &Place, other: &Place) -> Result<()> {
        debug_assert!(one.area != Area::Live || other.area != Area::Live, "one of the two is on its way out");
        let (one, other) = (self.layout.path(one), self.layout.path(other));
        make_movable(cx, &one)?;
        make_movable(cx, &other)?;
        cx.act(&FsAct::Exchange { one: one.clone(), other })?;
        cx.act(&Commit { at: one })
    }
}
