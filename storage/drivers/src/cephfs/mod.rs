//! Custom filesystem volumes as directories of a CephFS, which many machines mount at once.
//!
//! Snapshots are CephFS's own. A restore copies a snapshot's files back in place. Sizes are enforced by quotas. Everything
//! that asks the cluster has a deadline.

mod keys;
mod layout;
mod mount;
mod nested;
mod parse;
mod step;

use crate::PoolSetup;
use keys::{CONFIG_KEYS, Settings};
use larder_base::host::FsAct;
use larder_base::{ByteSize, SnapshotName};
use larder_storage_driver::{
    Attached, Capabilities, CloneKind, Config, ConfigKey, Content, Cx, Driver, ErrorKind, Mode, Need, Place,
    PoolUsage, Quota, Restore, Result, Shrink, SnapshotKind, StorageError, Trees, VolumeKind, VolumeSpec,
    VolumeUsage,
};
use larder_storage_tree::{CopyMode, CopyTree};
use layout::{CUSTOM, Layout, OURS};
pub(crate) use mount::MOUNT;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use step::{Step, act, copy_tree, is_there, names, number, remove_tree, space, write_back};

/// Nobody but root passes: what is below belongs to whoever a volume is given to.
const PRIVATE: u32 = 0o700;
/// A directory's limit in bytes; 0 lifts it.
const QUOTA: &str = "ceph.quota.max_bytes";
/// What a limit is raised by while a restore is under way, which holds files of both times: it can be told from the limit itself.
const LIFTED: u64 = 1 << 60;
/// The bytes below a directory.
const BYTES: &str = "ceph.dir.rbytes";

/// The driver over one pool.
#[derive(Debug)]
pub struct CephFs {
    setup: PoolSetup,
    settings: RwLock<Arc<Settings>>,
    layout: Layout,
    /// Whether somebody waits for an answer.
    is_asked: Arc<AtomicBool>,
}

impl CephFs {
    /// A driver for the path that the keys name. Asks nobody. Fails with `Invalid` for a wrong key.
    pub fn new(setup: PoolSetup) -> Result<Self> {
        let settings = RwLock::new(Arc::new(Settings::of(&setup)?));
        Ok(Self { settings, layout: Layout::new(setup.root.clone()), is_asked: Arc::default(), setup })
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read())
    }

    fn places(&self) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for (folder, is_live) in [(CUSTOM, true), (OURS, false)] {
            for name in names(&self.layout.root().join(folder))? {
                let Some(volume) = Layout::read_volume(is_live, &name) else { continue };
                for snapshot in names(&self.layout.snapshots(&volume))? {
                    places.extend(Layout::read_snapshot(&volume, &snapshot));
                }
                places.push(volume);
            }
        }
        Ok(places)
    }

    fn remove(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        let path = self.layout.path(at);
        if at.snapshot.is_some() {
            return act(cx, Step::RemoveSnapshot { path });
        }
        let folder = self.layout.snapshots(at);
        // A name that begins so is a snapshot of a folder above.
        for name in names(&folder)?.iter().filter(|name| !name.starts_with('_')) {
            act(cx, Step::RemoveSnapshot { path: folder.join(name) })?;
        }
        if is_there(&path)? { remove_tree(cx, &path) } else { Ok(()) }
    }

    fn must_be_there(&self, at: &Place) -> Result<()> {
        if is_there(&self.layout.path(at))? { Ok(()) } else { Err(StorageError::not_found(at)) }
    }

    /// `None` lifts it.
    fn limit(&self, cx: &Cx<'_>, at: &Place, bytes: Option<u64>) -> Result<()> {
        let (path, value) = (self.layout.path(at), bytes.unwrap_or(0).to_string().into_bytes());
        act(cx, FsAct::SetAttribute { path, name: QUOTA.to_owned(), value })
    }

    /// The limit of a place, whether a restore that was cut off has raised it or not.
    fn limit_of(&self, at: &Place) -> Result<Option<u64>> {
        let limit = number(&self.layout.path(at), QUOTA)?.map(|bytes| bytes % LIFTED);
        Ok(limit.filter(|bytes| *bytes > 0))
    }
}

impl Driver for CephFs {
    fn name(&self) -> &'static str {
        "cephfs"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            contents: &[Content::Filesystem],
            snapshot: SnapshotKind::Native,
            clone: CloneKind::None,
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
        self.unmount(cx)
    }

    fn destroy_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.remove_pool(cx)
    }

    fn must_answer(&self, _: &Cx<'_>) -> Result<()> {
        self.ask()
    }

    fn pool_usage(&self, _: &Cx<'_>) -> Result<PoolUsage> {
        let found = space(self.layout.root())?;
        Ok(PoolUsage {
            used_bytes: (found.f_blocks - found.f_bfree) * found.f_frsize,
            total_bytes: found.f_blocks * found.f_frsize,
            ..PoolUsage::default()
        })
    }

    fn list(&self, _: &Cx<'_>) -> Result<Vec<Place>> {
        self.places()
    }

    fn create(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        if at.volume.kind != VolumeKind::Custom {
            let message =
                format!("the cephfs driver keeps custom volumes alone, no {} volumes", at.volume.kind);
            return Err(StorageError::unsupported(Need::Content(at.volume.content), message));
        }
        let path = self.layout.path(at);
        let number = |key: &str| spec.config.get(key).and_then(|value| value.parse::<u32>().ok());
        let mode = spec.config.get("initial.mode").and_then(|mode| u32::from_str_radix(mode, 8).ok());
        // What is there already bears our ticket: an earlier call was cut off.
        if !is_there(&path)? {
            act(cx, FsAct::NewDirectory { path: path.clone(), mode: mode.unwrap_or(0o711) })?;
        }
        let (uid, gid) = (number("initial.uid").unwrap_or(0), number("initial.gid").unwrap_or(0));
        if (uid, gid) != (0, 0) {
            act(cx, FsAct::SetOwner { path, uid, gid })?;
        }
        match spec.size {
            Some(size) => self.limit(cx, at, Some(size.as_bytes())),
            None => Ok(()),
        }
    }

    fn rename(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        let (old, new) = (self.layout.path(from), self.layout.path(to));
        match (is_there(&old)?, is_there(&new)?) {
            (true, true) => Err(StorageError::already_exists(to)),
            (true, false) => act(cx, Step::Rename { from: old, to: new }),
            (false, true) => Ok(()),
            (false, false) => Err(StorageError::not_found(from)),
        }
    }

    fn destroy(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        self.remove(cx, at)
    }

    fn resize(&self, cx: &Cx<'_>, at: &Place, size: Option<ByteSize>) -> Result<()> {
        self.must_be_there(at)?;
        self.limit(cx, at, size.map(ByteSize::as_bytes))
    }

    fn usage(&self, _: &Cx<'_>, at: &Place) -> Result<VolumeUsage> {
        self.must_be_there(at)?;
        let used_bytes = number(&self.layout.path(at), BYTES)?;
        Ok(VolumeUsage { used_bytes, total_bytes: self.limit_of(at)? })
    }

    fn attach(&self, _: &Cx<'_>, at: &Place, _: Mode) -> Result<Attached> {
        self.must_be_there(at)?;
        Ok(Attached::at_directory(self.layout.path(at)))
    }

    fn detach(&self, _: &Cx<'_>, _: &Place) -> Result<()> {
        Ok(())
    }

    fn snapshot(&self, cx: &Cx<'_>, of: &Place, name: &SnapshotName) -> Result<()> {
        self.must_be_there(of)?;
        let at = of.at_snapshot(name);
        if name.as_str().starts_with("larder.") {
            let message = format!("{name} can't be used: such names are of snapshots on their way out");
            return Err(StorageError::new(ErrorKind::Invalid, message));
        }
        let path = self.layout.path(&at);
        if is_there(&path)? {
            return Err(StorageError::already_exists(at));
        }
        // Else what the kernel (7.2) has still to write is in no snapshot once its file is truncated.
        write_back(&self.layout.path(of))?;
        act(cx, Step::Snapshot { path })
    }

    fn restore(&self, cx: &Cx<'_>, at: &Place, name: &SnapshotName) -> Result<()> {
        let from = at.at_snapshot(name);
        self.must_be_there(&from)?;
        let limit = self.limit_of(at)?;
        if let Some(bytes) = limit {
            self.limit(cx, at, Some(bytes + LIFTED))?;
        }
        let (from, to) = (self.layout.path(&from), self.layout.path(at));
        let tree = CopyTree { progress: cx.progress().clone(), ..CopyTree::new(from, to, CopyMode::Refresh) };
        let copied = copy_tree(cx, tree);
        match limit {
            Some(_) => {
                let limited = self.limit(&cx.uncancellable(), at, limit);
                copied.and(limited)
            }
            None => copied,
        }
    }
}
