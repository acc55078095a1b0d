//! A technology in memory, for tests: its namespace (places, parts, snapshots, sizes) lives in a [`Disk`] that outlives the
//! driver, as a real disk outlives a daemon; contents lie in a private scratch folder, so that they can be filled.
//!
//! Every change is a step of its own, and a volume of two parts takes a step for each, so that faults hit between them.

mod disk;

pub use disk::{Disk, Options};

use crate::keys::COMMON;
use crate::parts::must_grow;
use disk::{Change, Key, Part, parts_of};
use larder_base::{ByteSize, SnapshotName};
use larder_storage_driver::{
    Area, Attached, Capabilities, Config, ConfigKey, Content, Cx, Driver, ErrorKind, Mode, Place, PoolUsage,
    Restore, Result, Shrink, SnapshotKind, StorageError, Trees, VolumeSpec, VolumeUsage,
};
use std::sync::Arc;

/// The driver over one [`Disk`].
#[derive(Debug)]
pub struct Memory {
    disk: Arc<Disk>,
}

impl Memory {
    /// A driver over a disk, new or used.
    pub fn new(disk: Arc<Disk>) -> Self {
        Self { disk }
    }

    fn change(&self, cx: &Cx<'_>, change: Change) -> Result<()> {
        cx.act(&disk::Step { disk: Arc::clone(&self.disk), change })
    }

    fn must_be_there(&self, at: &Place) -> Result<()> {
        if self.disk.has(&Key::main(at)) { Ok(()) } else { Err(StorageError::not_found(at)) }
    }

    /// Copies every part of a place to another, the main part last.
    fn copy_parts(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        self.must_be_there(from)?;
        for part in parts_of(&from.volume) {
            let (from, to) = (Key::new(from, part), Key::new(to, part));
            self.change(cx, Change::Copy { from, to })?;
        }
        Ok(())
    }
}

impl Driver for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        let options = self.disk.options();
        Capabilities {
            contents: &[Content::Filesystem, Content::Block, Content::Iso],
            snapshot: options.snapshot,
            clone: options.clone,
            quota: options.quota,
            shrink: options.shrink,
            restore: options.restore,
            trees: Trees::Apart,
            shared: false,
        }
    }

    fn config_keys(&self) -> &'static [ConfigKey] {
        &COMMON
    }

    fn recorded_config(&self) -> Config {
        Config::new()
    }

    fn create_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.change(cx, Change::Format)
    }

    fn open_pool(&self, _: &Cx<'_>) -> Result<()> {
        match self.disk.is_formatted() {
            true => Ok(()),
            false => Err(StorageError::not_found("the pool in memory")),
        }
    }

    fn close_pool(&self, _: &Cx<'_>) -> Result<()> {
        Ok(())
    }

    fn destroy_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.change(cx, Change::Wipe)
    }

    fn pool_usage(&self, _: &Cx<'_>) -> Result<PoolUsage> {
        Ok(PoolUsage { used_bytes: self.disk.used(), total_bytes: 1 << 40, used_inodes: 0, total_inodes: 0 })
    }

    fn list(&self, _: &Cx<'_>) -> Result<Vec<Place>> {
        Ok(self.disk.places())
    }

    fn create(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        for part in parts_of(&at.volume) {
            let size = match part {
                Part::Disk if at.volume.content == Content::Iso => spec.size,
                Part::Disk => Some(spec.disk_size()),
                Part::Filesystem => spec.size.filter(|_| !at.volume.has_disk()),
            };
            self.change(cx, Change::Create { key: Key::new(at, part), size })?;
        }
        Ok(())
    }

    fn create_clone(&self, cx: &Cx<'_>, at: &Place, from: &Place, spec: &VolumeSpec) -> Result<()> {
        if self.capabilities().clone == larder_storage_driver::CloneKind::None {
            let message = format!("{at} can't be cloned: memory has no clones");
            return Err(StorageError::unsupported(larder_storage_driver::Need::Clone, message));
        }
        self.must_be_there(from)?;
        for part in parts_of(&at.volume) {
            self.change(cx, Change::Copy { from: Key::new(from, part), to: Key::new(at, part) })?;
        }
        match spec.size {
            Some(size) if at.volume.content != Content::Iso => self.resize(cx, at, Some(size)),
            _ => Ok(()),
        }
    }

    fn rename(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        let (main_from, main_to) = (Key::main(from), Key::main(to));
        if self.disk.has(&main_from) && self.disk.has(&main_to) {
            return Err(StorageError::already_exists(to));
        }
        let keys = self.disk.keys_at(from);
        if keys.is_empty() && !self.disk.has(&main_to) && from.snapshot.is_some() {
            return Err(StorageError::not_found(from));
        }
        let (main, rest): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| *key == main_from);
        let ordered = if to.is_live() { [rest, main].concat() } else { [main, rest].concat() };
        for key in ordered {
            let new = key.moved(to);
            self.change(cx, Change::Move { from: key, to: new })?;
        }
        Ok(())
    }

    fn destroy(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        // The main part goes last: until then the place is listed.
        let main = Key::main(at);
        let (last, rest): (Vec<_>, Vec<_>) = self.disk.keys_at(at).into_iter().partition(|key| *key == main);
        for key in rest.into_iter().chain(last) {
            self.change(cx, Change::Remove { key })?;
        }
        Ok(())
    }

    fn resize(&self, cx: &Cx<'_>, at: &Place, size: Option<ByteSize>) -> Result<()> {
        self.must_be_there(at)?;
        let part = if at.volume.has_disk() { Part::Disk } else { Part::Filesystem };
        let size = match part {
            Part::Disk => size.and_then(|size| size.round_up(8192)),
            Part::Filesystem => size,
        };
        if part == Part::Disk && self.capabilities().shrink == Shrink::No {
            let bytes = |size: Option<ByteSize>| size.unwrap_or_default().as_bytes();
            if !must_grow(at, bytes(self.disk.size(&Key::new(at, part))), bytes(size))? {
                return Ok(());
            }
        }
        self.change(cx, Change::Resize { key: Key::new(at, part), size })
    }

    fn usage(&self, _: &Cx<'_>, at: &Place) -> Result<VolumeUsage> {
        self.must_be_there(at)?;
        let total = self.disk.size(&Key::main(at)).map(ByteSize::as_bytes);
        Ok(VolumeUsage { used_bytes: Some(0), total_bytes: total })
    }

    fn attach(&self, _: &Cx<'_>, at: &Place, _: Mode) -> Result<Attached> {
        self.must_be_there(at)?;
        let path = |part| {
            parts_of(&at.volume).contains(&part).then(|| self.disk.path(&Key::new(at, part))).flatten()
        };
        Ok(Attached { directory: path(Part::Filesystem), disk: path(Part::Disk) })
    }

    fn detach(&self, _: &Cx<'_>, _: &Place) -> Result<()> {
        Ok(())
    }

    fn snapshot(&self, cx: &Cx<'_>, of: &Place, name: &SnapshotName) -> Result<()> {
        if self.capabilities().snapshot != SnapshotKind::Native {
            let message = format!("{of} has no native snapshots: memory copies");
            return Err(StorageError::unsupported(larder_storage_driver::Need::Snapshot, message));
        }
        let at = of.at_snapshot(name);
        if self.disk.has(&Key::main(&at)) {
            return Err(StorageError::already_exists(&at));
        }
        self.copy_parts(cx, of, &at)
    }

    fn restore(&self, cx: &Cx<'_>, at: &Place, name: &SnapshotName) -> Result<()> {
        let can = matches!(self.capabilities().restore, Restore::InPlace | Restore::InPlaceNewest);
        if !can {
            let message = format!("{at} can't be rolled back in place: memory exchanges");
            return Err(StorageError::unsupported(larder_storage_driver::Need::RestoreInPlace, message));
        }
        self.must_be_there(at)?;
        self.copy_parts(cx, &at.at_snapshot(name), at)
    }

    fn exchange(&self, cx: &Cx<'_>, one: &Place, other: &Place) -> Result<()> {
        if self.capabilities().restore != Restore::Exchange {
            let message = format!("{one} can't be exchanged: memory rolls back in place");
            return Err(StorageError::unsupported(larder_storage_driver::Need::Exchange, message));
        }
        if one.area == Area::Live && other.area == Area::Live {
            return Err(StorageError::new(ErrorKind::Invalid, "one of the two must be on its way out"));
        }
        for part in parts_of(&one.volume) {
            self.change(cx, Change::Swap { one: Key::new(one, part), other: Key::new(other, part) })?;
        }
        Ok(())
    }
}
