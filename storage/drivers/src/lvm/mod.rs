//! Volumes as logical volumes of LVM: thin ones that share blocks with their snapshots and clones, or thick ones.
//!
//! A filesystem is made on its volume and mounted while it is attached; what is not attached is not active. Sources:
//! `lvmthin(7)`, `lvcreate(8)`, `lvmreport(7)`.

mod command;
mod going;
mod keys;
mod moves;
mod names;
mod pool;
mod report;
mod room;
mod volume;

pub(crate) use command::LVCREATE;

use crate::filesystem::is_mounted;
use crate::kernel::has_module;
use crate::source::{Source, new_size};
use crate::spelling::{OURS, PRIVATE};
use crate::{PoolSetup, missing};
use command::{LVCHANGE, LVS, change, report, run};
use going::Going;
use keys::Settings;
use larder_base::host::FsAct;
use larder_base::{ByteSize, SnapshotName};
use larder_storage_driver::{
    Area, Attached, Capabilities, CloneKind, Config, ConfigKey, Content, Cx, Driver, ErrorKind, Mode, Place,
    PoolUsage, Quota, Restore, Result, Shrink, SnapshotKind, StorageError, Trees, VolumeSpec, VolumeUsage,
};
use names::{Found, Names, Part};
use parking_lot::Mutex;
use report::{LV_COLUMNS, Lv, read_lvs};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The driver over one pool.
#[derive(Debug)]
pub struct Lvm {
    /// Where volumes are mounted.
    root: PathBuf,
    source: Source,
    settings: Settings,
    names: Names,
    /// What this run has made that is a single logical volume: it gets its next name without a look at the volume group.
    alone: Mutex<HashSet<Place>>,
    /// Held by who lets the thin pool grow.
    growing: Mutex<()>,
}

/// What is in the volume group.
#[derive(Debug)]
struct Look {
    parts: Vec<Found>,
    thin_pool: Option<Lv>,
}

impl Look {
    fn part(&self, at: &Place, part: Part) -> Option<&Found> {
        self.parts.iter().find(|found| found.place == *at && found.part == part)
    }

    fn main(&self, at: &Place) -> Option<&Found> {
        self.part(at, Part::Main)
    }

    /// The parts of a place: of a volume, those of its snapshots too.
    fn of(&self, at: &Place) -> Vec<&Found> {
        let is_of = |found: &&Found| match &at.snapshot {
            Some(_) => found.place == *at,
            None => found.place.main() == *at,
        };
        self.parts.iter().filter(is_of).collect()
    }
}

impl Lvm {
    /// A driver for a pool whose volumes are mounted below `setup.root`. Fails with kind `Invalid` for keys that contradict
    /// each other.
    pub fn new(setup: PoolSetup) -> Result<Self> {
        let source = Source::of(&setup)?;
        let settings = Settings::of(&setup)?;
        let names = settings.names(&setup, &source)?;
        Ok(Self {
            root: setup.root,
            source,
            settings,
            names,
            alone: Mutex::default(),
            growing: Mutex::default(),
        })
    }

    /// Notes a place that has just been made, with the snapshots that came along.
    fn is_alone(&self, at: &Place, snapshots: &[SnapshotName]) {
        self.no_longer_alone(&at.main());
        if snapshots.is_empty() && !at.volume.has_two_parts() && at.snapshot.is_none() {
            self.alone.lock().insert(at.clone());
        }
    }

    /// Forgets that again; tells whether it was so.
    fn no_longer_alone(&self, at: &Place) -> bool {
        self.alone.lock().remove(at)
    }

    fn is_thin(&self) -> bool {
        self.settings.thin_pool.is_some()
    }

    /// All logical volumes of the volume group.
    fn volumes(&self, cx: &Cx<'_>) -> Result<Vec<Lv>> {
        read_lvs(&run(cx, &report(LVS, LV_COLUMNS).arg(&self.names.vg))?.stdout)
    }

    fn look(&self, cx: &Cx<'_>) -> Result<Look> {
        let mut volumes = self.volumes(cx)?;
        let thin_pool = volumes.iter().position(|lv| self.is_thin_pool(lv));
        let thin_pool = thin_pool.map(|at| volumes.swap_remove(at));
        Ok(Look { parts: self.names.read(volumes), thin_pool })
    }

    /// A logical volume as LVM's tools take it.
    fn full(&self, lv: &str) -> String {
        format!("{}/{lv}", self.names.vg)
    }

    fn device(&self, lv: &str) -> PathBuf {
        Path::new("/dev").join(&self.names.vg).join(lv)
    }

    /// Where a place's filesystem is mounted: the one spelling of it.
    fn mount_point(&self, at: &Place) -> PathBuf {
        let name = self.names.lv(at, Part::Main);
        match at.area {
            Area::Live => self.root.join(name),
            _ => self.root.join(OURS).join(name),
        }
    }

    /// Activates or deactivates those that are not so yet, in one command.
    fn activate(&self, cx: &Cx<'_>, active: bool, parts: &[&Found]) -> Result<()> {
        let others = parts.iter().filter(|found| found.lv.is_active != active);
        self.activate_lvs(cx, active, &others.map(|found| found.lv.name.clone()).collect::<Vec<_>>())
    }

    fn activate_lvs(&self, cx: &Cx<'_>, active: bool, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let wanted = if active { "y" } else { "n" };
        let cmd = change(LVCHANGE).args(["--activate", wanted, "--ignoreactivationskip"]);
        run(cx, &cmd.args(names.iter().map(|name| self.full(name)))).map(|_| ())
    }

    /// What of a place is active: that has a device.
    fn active_lvs(&self, at: &Place) -> Vec<String> {
        let names = Part::of(&at.volume).iter().flat_map(|part| self.names.possible(at, *part));
        names.filter(|name| self.device(name).exists()).collect()
    }

    /// Ends what a run that was cut off left mounted, and removes the mount points.
    fn release(&self, cx: &Cx<'_>, parts: &[&Found]) -> Result<()> {
        let mains = parts.iter().filter(|found| found.part == Part::Main);
        mains.map(|found| &found.place).try_for_each(|at| self.unmount(cx, at))
    }

    fn unmount(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        let target = self.mount_point(at);
        if is_mounted(&target) {
            cx.act(&FsAct::Unmount { target: target.clone() })?;
        }
        if target.is_dir() {
            cx.act(&FsAct::RemoveEmptyDirectory { path: target })?;
        }
        Ok(())
    }
}

impl Driver for Lvm {
    fn name(&self) -> &'static str {
        "lvm"
    }

    fn capabilities(&self) -> Capabilities {
        let (snapshot, clone) = match self.is_thin() {
            true => (SnapshotKind::Native, CloneKind::Independent),
            false => (SnapshotKind::Copied, CloneKind::None),
        };
        Capabilities {
            contents: &[Content::Filesystem, Content::Block, Content::Iso],
            snapshot,
            clone,
            quota: Quota::Native,
            shrink: Shrink::No,
            restore: Restore::Exchange,
            trees: Trees::Apart,
            shared: false,
        }
    }

    fn config_keys(&self) -> &'static [ConfigKey] {
        keys::CONFIG_KEYS
    }

    fn recorded_config(&self) -> Config {
        let mut config = self.settings.config.clone();
        self.source.record(&mut config);
        config.insert("lvm.vg_name".to_owned(), self.names.vg.clone());
        if let Some(name) = &self.settings.thin_pool {
            config.insert("lvm.thinpool_name".to_owned(), name.clone());
        }
        config
    }

    fn create_pool(&self, cx: &Cx<'_>) -> Result<()> {
        must_be_available()?;
        self.make_pool(cx)
    }

    fn open_pool(&self, cx: &Cx<'_>) -> Result<()> {
        must_be_available()?;
        self.open_group(cx)
    }

    fn change_pool(&self, cx: &Cx<'_>, old: &Config, new: &Config) -> Result<()> {
        match new_size(old, new)? {
            Some(size) => self.grow_group(cx, size),
            None => Ok(()),
        }
    }

    fn close_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.close_group(cx)
    }

    fn destroy_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.destroy_group(cx)
    }

    fn pool_usage(&self, cx: &Cx<'_>) -> Result<PoolUsage> {
        self.group_usage(cx)
    }

    fn list(&self, cx: &Cx<'_>) -> Result<Vec<Place>> {
        let parts = self.look(cx)?.parts.into_iter();
        Ok(parts.filter(|found| found.part == Part::Main).map(|found| found.place).collect())
    }

    fn at_stake(&self, cx: &Cx<'_>) -> Result<Vec<Place>> {
        let group = self.group(cx)?;
        match group.map(|group| self.going(cx, &group)).transpose()? {
            Some(Going::Group) => Ok(self.list(cx)?.into_iter().filter(Place::is_live).collect()),
            _ => Ok(Vec::new()),
        }
    }

    fn create(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        self.make_volume(cx, at, spec)
    }

    fn create_clone(&self, cx: &Cx<'_>, at: &Place, from: &Place, spec: &VolumeSpec) -> Result<()> {
        self.clone_volume(cx, at, from, &[], spec)
    }

    fn create_clone_with_snapshots(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        from: &Place,
        snapshots: &[SnapshotName],
        spec: &VolumeSpec,
    ) -> Result<()> {
        self.clone_volume(cx, at, from, snapshots, spec)
    }

    fn rename(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        self.move_place(cx, from, to)
    }

    fn destroy(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        self.remove_place(cx, at)
    }

    fn resize(&self, cx: &Cx<'_>, at: &Place, size: Option<ByteSize>) -> Result<()> {
        self.resize_volume(cx, at, size)
    }

    fn usage(&self, cx: &Cx<'_>, at: &Place) -> Result<VolumeUsage> {
        self.volume_usage(cx, at)
    }

    fn usages(&self, cx: &Cx<'_>, places: &[Place]) -> Result<Vec<Option<VolumeUsage>>> {
        let look = self.look(cx)?;
        Ok(places.iter().map(|at| self.usage_in(&look, at).ok()).collect())
    }

    fn attach(&self, cx: &Cx<'_>, at: &Place, mode: Mode) -> Result<Attached> {
        self.attach_volume(cx, at, mode)
    }

    fn detach(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        self.detach_volume(cx, at)
    }

    fn snapshot(&self, cx: &Cx<'_>, of: &Place, name: &SnapshotName) -> Result<()> {
        self.snapshot_volume(cx, of, name)
    }

    fn exchange(&self, cx: &Cx<'_>, one: &Place, other: &Place) -> Result<()> {
        self.exchange_places(cx, one, other)
    }
}

/// Why this machine can't have LVM volumes; `None` when it can.
pub fn unavailable() -> Option<String> {
    missing(LVCREATE).or_else(kernel_lacks)
}

/// What the kernel lacks for LVM volumes; `None` when it lacks nothing.
pub(crate) fn kernel_lacks() -> Option<String> {
    let is_loaded = || Path::new("/sys/class/misc/device-mapper").exists() || has_module("dm-mod");
    let no_kernel = || "this machine's kernel has no device-mapper (the module dm-mod)".to_owned();
    (!is_loaded()).then(no_kernel)
}

fn must_be_available() -> Result<()> {
    match unavailable() {
        Some(reason) => Err(StorageError::new(
            ErrorKind::Unavailable,
            format!("the lvm driver is not available: {reason}"),
        )),
        None => Ok(()),
    }
}
