//! Volumes as datasets and zvols of ZFS.
//!
//! A snapshot and a clone share blocks and take no time. A clone hangs on the snapshot it was made from: what is deleted
//! while it has clones is kept out of sight and goes by itself with the last of them. A restore rolls back in place, to the
//! newest snapshot only. Nothing is ever mounted by zfs itself.

mod attach;
mod block_mode;
mod command;
mod copy;
mod disk;
mod keys;
mod layout;
mod parse;
mod pool;
mod remove;
mod restore;
mod run;
mod stream;
mod volume;

pub(crate) use command::ZFS;

use crate::PoolSetup;
use crate::keys::is_on;
use crate::mount_points::MountPoints;
use crate::parts::{Part, attach_parts, move_parts};
use crate::refusal::Outcome;
use crate::source::Source;
use larder_base::{ByteSize, SnapshotName};
use larder_storage_driver::{
    Attached, Capabilities, CloneKind, Config, ConfigKey, Content, Cx, Driver, Mode, Place, PoolUsage, Quota,
    Restore, Result, Shrink, SnapshotKind, StorageError, Stream, Trees, VolumeSpec, VolumeUsage,
};
use layout::Layout;
use parking_lot::Mutex;
use run::{change, run};
use std::path::Path;

/// What it keeps.
const CONTENTS: &[Content] = &[Content::Filesystem, Content::Block, Content::Iso];

/// The driver over one pool: a zpool, or a dataset in one.
#[derive(Debug)]
pub struct Zfs {
    layout: Layout,
    mount_points: MountPoints,
    source: Source,
    config: Mutex<Config>,
}

impl Zfs {
    /// A driver for the pool that the keys name. Fails with `Invalid` when they make no sense together.
    pub fn new(setup: PoolSetup) -> Result<Self> {
        let source = Source::of(&setup)?;
        let dataset = pool::dataset_of(&setup, &source)?;
        let (layout, mount_points) = (Layout::new(dataset), MountPoints::below(setup.root));
        Ok(Self { layout, mount_points, source, config: Mutex::new(setup.config) })
    }
}

impl Driver for Zfs {
    fn name(&self) -> &'static str {
        "zfs"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            contents: CONTENTS,
            snapshot: SnapshotKind::Native,
            clone: CloneKind::Dependent,
            quota: Quota::Native,
            shrink: Shrink::No,
            restore: Restore::InPlaceNewest,
            trees: Trees::Apart,
            shared: false,
        }
    }

    fn config_keys(&self) -> &'static [ConfigKey] {
        keys::CONFIG_KEYS
    }

    fn recorded_config(&self) -> Config {
        let mut config = self.config.lock().clone();
        self.source.record(&mut config);
        config.insert("zfs.pool_name".to_owned(), self.layout.dataset().to_owned());
        config
    }

    fn change_pool(&self, cx: &Cx<'_>, old: &Config, new: &Config) -> Result<()> {
        self.change(cx, old, new)
    }

    fn create_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.make_pool(cx)
    }

    fn open_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.open(cx)
    }

    fn close_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.close(cx)
    }

    fn destroy_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.destroy_all(cx)
    }

    fn pool_usage(&self, cx: &Cx<'_>) -> Result<PoolUsage> {
        self.space(cx)
    }

    fn list(&self, cx: &Cx<'_>) -> Result<Vec<Place>> {
        let text = run(cx, &command::list_below(parse::ROW, self.layout.dataset()))?;
        Ok(self.layout.places(&parse::rows(&text)))
    }

    fn create(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        self.layout.must_be_spellable(at)?;
        Part::of(&at.volume).iter().try_for_each(|part| self.create_part(cx, at, *part, spec))
    }

    fn create_clone(&self, cx: &Cx<'_>, at: &Place, from: &Place, spec: &VolumeSpec) -> Result<()> {
        self.layout.must_be_spellable(at)?;
        self.copy_natively(cx, [at, from], spec)
    }

    fn rename(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        self.layout.must_be_spellable(to)?;
        if from.snapshot.is_some() && from.volume != to.volume {
            let message = format!("{from} can't become {to}: a snapshot stays with its volume");
            return Err(StorageError::invalid(message));
        }
        let is_there = |part| volume::is_there(cx, &self.layout.spelled(to, part));
        move_parts(from, to, |part| self.rename_part(cx, from, to, part), is_there)
    }

    fn destroy(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        Part::of(&at.volume).iter().try_for_each(|part| match at.snapshot {
            Some(_) => self.remove_snapshot(cx, at, *part),
            None => self.remove_part(cx, at, *part),
        })
    }

    fn resize(&self, cx: &Cx<'_>, at: &Place, size: Option<ByteSize>) -> Result<()> {
        self.set_size(cx, at, size)
    }

    fn usage(&self, cx: &Cx<'_>, at: &Place) -> Result<VolumeUsage> {
        self.volume_usage(cx, at)
    }

    fn usages(&self, cx: &Cx<'_>, places: &[Place]) -> Result<Vec<Option<VolumeUsage>>> {
        self.volume_usages(cx, places)
    }

    fn attach(&self, cx: &Cx<'_>, at: &Place, mode: Mode) -> Result<Attached> {
        let mount = |mode| self.mount(cx, at, mode);
        let show = |_| self.show(cx, at, Part::Disk);
        attach_parts(at, mode, mount, show, || self.detach(&cx.uncancellable(), at))
    }

    fn detach(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        // One that is in use keeps none of the others.
        let detached = Part::of(&at.volume).iter().rev().map(|part| match part {
            Part::Disk => self.hide(cx, at, Part::Disk),
            Part::Filesystem => self.unmount(cx, at),
        });
        detached.collect::<Vec<_>>().into_iter().collect()
    }

    fn delegate(&self, cx: &Cx<'_>, at: &Place, config: &Config, namespace: &Path) -> Result<()> {
        if !is_on(config, "zfs.delegate") {
            return Ok(());
        }
        let dataset = self.layout.part(at, Part::Filesystem);
        change(cx, &command::set(&dataset, &[("zoned", "on".to_owned())]))?;
        let zoned = change(cx, &command::zone(namespace, &dataset));
        Ok(zoned.unless(&[parse::Refusal::Exists]).map(drop)?)
    }

    fn snapshot(&self, cx: &Cx<'_>, of: &Place, name: &SnapshotName) -> Result<()> {
        self.snapshot_parts(cx, &of.at_snapshot(name))
    }

    fn restore(&self, cx: &Cx<'_>, at: &Place, name: &SnapshotName) -> Result<()> {
        self.roll_back(cx, &at.at_snapshot(name))
    }

    fn may_remove_younger(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        name: &SnapshotName,
        config: &Config,
    ) -> Result<bool> {
        if !is_on(config, "zfs.remove_snapshots") {
            return Ok(false);
        }
        let at = at.at_snapshot(name);
        restore::must_have_no_clones(&at, &self.younger(cx, &at)?).map(|()| true)
    }

    fn stream(&self) -> Option<&dyn Stream> {
        Some(self)
    }
}
