//! Volumes as RBD images in a pool of a Ceph cluster, given devices by the kernel of this machine.
//!
//! Snapshots and clones share blocks. A clone needs its source: what is deleted and was cloned is kept out of sight until its
//! last clone goes. A restore rolls an image back in place. Everything that asks the cluster has a deadline.

mod attach;
mod command;
mod device;
mod keys;
mod layout;
mod parse;
mod pool;
mod remove;
mod resize;
mod run;
mod snapshot;
mod volume;

use crate::PoolSetup;
pub(crate) use command::RBD;
use keys::{CONFIG_KEYS, Settings};
use larder_base::{ByteSize, SnapshotName};
use larder_storage_driver::{
    Attached, Capabilities, CloneKind, Config, ConfigKey, Content, Cx, Driver, Mode, Place, PoolUsage, Quota,
    Restore, Result, Shrink, SnapshotKind, VolumeSpec, VolumeUsage,
};
use layout::Layout;
use parking_lot::RwLock;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

/// The driver over one pool.
#[derive(Debug)]
pub struct Ceph {
    setup: PoolSetup,
    settings: RwLock<Arc<Settings>>,
    layout: Layout,
    /// The identifier of the cluster; known once the pool is open.
    cluster: OnceLock<String>,
    /// Whether this run made the OSD pool or namespace, which may not be marked yet.
    has_made: AtomicBool,
}

impl Ceph {
    /// A driver for the pool that the keys name. Asks nobody. Fails with `Invalid` for a wrong key.
    pub fn new(setup: PoolSetup) -> Result<Self> {
        let settings = Settings::of(&setup)?;
        Ok(Self {
            layout: Layout::new(setup.root.clone(), settings.filesystem),
            settings: RwLock::new(Arc::new(settings)),
            setup,
            cluster: OnceLock::new(),
            has_made: AtomicBool::new(false),
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
            contents: &[Content::Filesystem, Content::Block, Content::Iso],
            snapshot: SnapshotKind::Native,
            clone: CloneKind::Dependent,
            quota: Quota::Native,
            shrink: Shrink::No,
            restore: Restore::InPlace,
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
        self.release_all(cx)
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
        self.rows(cx).map(|rows| self.layout.places(&rows))
    }

    fn create(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        self.create_volume(cx, at, spec)
    }

    fn create_clone(&self, cx: &Cx<'_>, at: &Place, from: &Place, spec: &VolumeSpec) -> Result<()> {
        self.clone_volume(cx, at, from, spec)
    }

    fn rename(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        self.move_place(cx, from, to)
    }

    fn destroy(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        match at.snapshot {
            None => self.remove_volume(cx, at),
            Some(_) => self.remove_snapshot(cx, at),
        }
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
        self.attach_place(cx, at, mode)
    }

    fn detach(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        self.detach_place(cx, at)
    }

    fn snapshot(&self, cx: &Cx<'_>, of: &Place, name: &SnapshotName) -> Result<()> {
        self.make_snapshot(cx, of, name)
    }

    fn restore(&self, cx: &Cx<'_>, at: &Place, name: &SnapshotName) -> Result<()> {
        self.roll_back(cx, at, name)
    }
}
