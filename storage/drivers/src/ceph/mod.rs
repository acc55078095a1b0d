//! Volumes as RBD images in a pool of a Ceph cluster, given devices by the kernel of this machine.
//!
//! Snapshots and clones share blocks. A clone needs its source: what is deleted and was cloned is kept out of sight until its
//! last clone goes. A restore rolls an image back in place. Everything that asks the cluster has a deadline.

mod attach;
mod command;
mod device;
mod keys;
mod layout;
mod pool;
mod remove;
mod resize;
mod snapshot;
mod stream;
mod volume;

use crate::PoolSetup;
use crate::cluster::change;
use crate::filesystem::Inside;
use crate::mount_points::MountPoints;
use crate::parts::{Part, attach_parts, move_parts};
use crate::refusal::Outcome;
pub(crate) use command::RBD;
use keys::{CONFIG_KEYS, Settings};
use larder_base::{ByteSize, SnapshotName};
use larder_storage_driver::{
    Attached, Capabilities, CloneKind, Config, ConfigKey, Content, Cx, Driver, Mode, Place, PoolUsage, Quota,
    Restore, Result, Shrink, SnapshotKind, Stream, Trees, VolumeSpec, VolumeUsage,
};
use layout::{Layout, Spelled};
use parking_lot::{Mutex, RwLock};
use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

/// What a volume can hold.
const CONTENTS: &[Content] = &[Content::Filesystem, Content::Block, Content::Iso];

/// The driver over one pool.
#[derive(Debug)]
pub struct Ceph {
    setup: PoolSetup,
    settings: RwLock<Arc<Settings>>,
    layout: Layout,
    mount_points: MountPoints,
    inside: Inside,
    /// The identifier of the cluster; known once the pool is open.
    cluster: OnceLock<String>,
    /// Whether this run made the OSD pool or namespace, which may not be marked yet.
    has_made: AtomicBool,
    /// What this run gave a device.
    has_mapped: Mutex<HashSet<Spelled>>,
}

impl Ceph {
    /// A driver for the pool that the keys name. Asks nobody. Fails with `Invalid` for a wrong key.
    pub fn new(setup: PoolSetup) -> Result<Self> {
        let settings = Settings::of(&setup)?;
        Ok(Self {
            layout: Layout::new(settings.filesystem),
            mount_points: MountPoints::below(setup.root.clone()),
            inside: Inside::default(),
            settings: RwLock::new(Arc::new(settings)),
            setup,
            cluster: OnceLock::new(),
            has_made: AtomicBool::new(false),
            has_mapped: Mutex::default(),
        })
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read())
    }
}

impl Driver for Ceph {
    fn name(&self) -> &'static str {
        "ceph"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            contents: CONTENTS,
            snapshot: SnapshotKind::Native,
            clone: CloneKind::Dependent,
            quota: Quota::Native,
            shrink: Shrink::No,
            restore: Restore::InPlace,
            trees: Trees::Apart,
            shared: true,
        }
    }

    fn config_keys(&self) -> &'static [ConfigKey] {
        CONFIG_KEYS
    }

    fn recorded_config(&self) -> Config {
        self.settings().config.clone()
    }

    fn create_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.make_pool(cx)
    }

    fn open_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.open(cx)
    }

    fn change_pool(&self, _: &Cx<'_>, _: &Config, new: &Config) -> Result<()> {
        let settings = Settings::of(&PoolSetup { config: new.clone(), ..self.setup.clone() })?;
        *self.settings.write() = Arc::new(settings);
        Ok(())
    }

    fn close_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.release_where(cx, |mapped| self.is_own(mapped))
    }

    fn destroy_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.remove_pool(cx)
    }

    fn must_answer(&self, cx: &Cx<'_>) -> Result<()> {
        self.ask(cx)
    }

    fn pool_usage(&self, cx: &Cx<'_>) -> Result<PoolUsage> {
        self.space(cx)
    }

    fn list(&self, cx: &Cx<'_>) -> Result<Vec<Place>> {
        self.all_places(cx)
    }

    fn at_stake(&self, cx: &Cx<'_>) -> Result<Vec<Place>> {
        self.live_if_made(cx)
    }

    fn create(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        self.create_images(cx, at, spec)?;
        if at.volume.has_filesystem() { self.make_filesystem(cx, at, spec) } else { Ok(()) }
    }

    fn create_clone(&self, cx: &Cx<'_>, at: &Place, from: &Place, spec: &VolumeSpec) -> Result<()> {
        self.clone_volume(cx, at, from, spec)
    }

    fn rename(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        if to.is_live() {
            self.check(to)?;
        }
        let is_there = |part| self.is_there(cx, &self.layout.spelled(to, part));
        move_parts(from, to, |part| self.move_part(cx, from, to, part), is_there)
    }

    fn destroy(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        for part in Part::of(&at.volume) {
            let spelled = self.layout.spelled(at, *part);
            match spelled.snapshot {
                None => self.remove_part(cx, &spelled)?,
                Some(_) => self.remove_snapshot(cx, &spelled)?,
            }
        }
        Ok(())
    }

    fn resize(&self, cx: &Cx<'_>, at: &Place, size: Option<ByteSize>) -> Result<()> {
        self.resize_volume(cx, at, size)
    }

    fn usage(&self, cx: &Cx<'_>, at: &Place) -> Result<VolumeUsage> {
        self.volume_usage(cx, at)
    }

    fn usages(&self, cx: &Cx<'_>, places: &[Place]) -> Result<Vec<Option<VolumeUsage>>> {
        self.volume_usages(cx, places)
    }

    fn attach(&self, cx: &Cx<'_>, at: &Place, mode: Mode) -> Result<Attached> {
        let mount = |mode| self.mount(cx, at, mode);
        let show = |mode| self.map(cx, at, Part::Disk, mode);
        attach_parts(at, mode, mount, show, || self.detach(&cx.uncancellable(), at))
    }

    fn detach(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        if at.volume.has_filesystem() {
            self.mount_points.unmount(cx, &self.mount_points.of(at))?;
        }
        let mut parts = Part::of(&at.volume).iter().map(|part| self.layout.spelled(at, *part));
        parts.try_for_each(|part| self.release_where(cx, |mapped| mapped.of == part))
    }

    fn snapshot(&self, cx: &Cx<'_>, of: &Place, name: &SnapshotName) -> Result<()> {
        self.snapshot_at(cx, of, &of.at_snapshot(name))
    }

    fn restore(&self, cx: &Cx<'_>, at: &Place, name: &SnapshotName) -> Result<()> {
        // The filesystem of a virtual machine goes back before its disk. The sizes go back too.
        Part::of(&at.volume).iter().try_for_each(|part| {
            let snapshot = self.layout.spelled(&at.at_snapshot(name), *part);
            let image = self.layout.spelled(at, *part);
            self.release_where(cx, |mapped| mapped.of == image)?;
            change(cx, &self.settings().commands.roll_back(&snapshot)).of(at.at_snapshot(name))
        })
    }

    fn stream(&self) -> Option<&dyn Stream> {
        Some(self)
    }
}
