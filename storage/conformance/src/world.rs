//! A fresh pool with a caller around it that plays the daemon's part: writes intents down, forgets them, starts again.

use crate::Outcome;
use larder_base::host::{Host, SystemHost};
use larder_base::{ByteSize, Cancel, Progress, ProjectName, SnapshotName, Ticket};
use larder_storage_driver::{
    Area, Attached, Capabilities, Content, Cx, Driver, Place, Result, StorageError, VolumeId, VolumeKind,
    VolumeSpec,
};
use larder_storage_pool::{CopySource, Fill, Intent, Locks, Pool, Recovered, RefreshPlan};
use larder_storage_tree::manifest;
use libtest_mimic::Trial;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// A technology on this machine.
pub trait Lab: fmt::Debug + Send + Sync {
    /// What it is called in the trials' names.
    fn name(&self) -> &str;

    /// Somewhere fresh for one pool.
    fn bench(&self) -> std::io::Result<Box<dyn Bench>>;

    /// What a driver over a fresh bench can do.
    fn capabilities(&self) -> Capabilities;

    /// The programs it drives, each with its version.
    fn tools(&self) -> Vec<String> {
        Vec::new()
    }

    /// Trials of this technology alone, named `lab::trial`.
    fn own_trials(&self) -> Vec<Trial> {
        Vec::new()
    }

    /// Where benches wait for the next world once their pools were emptied. For technologies on which a pool takes long to
    /// make; without it every world is a new pool.
    fn spares(&self) -> Option<&Arc<Spares>> {
        None
    }
}

/// Benches with an empty pool on them, open as a killed daemon leaves it.
#[derive(Debug, Default)]
pub struct Spares(Mutex<Vec<Box<dyn Bench>>>);

impl Spares {
    fn take(&self) -> Option<Box<dyn Bench>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Keeps a bench if all that is on its pool can be removed; drops it, and with it the pool, otherwise.
    fn put(&self, cx: &Cx<'_>, bench: Box<dyn Bench>, pool: &Pool) {
        let driver = pool.driver();
        let emptied = driver.list(cx).and_then(|places| {
            let is_covered = |place: &Place| place.snapshot.is_some() && places.contains(&place.main());
            let tops = places.iter().filter(|place| !is_covered(place));
            tops.into_iter().try_for_each(|place| driver.destroy(cx, place))?;
            driver.list(cx)
        });
        if emptied.is_ok_and(|left| left.is_empty()) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(bench);
        }
    }
}

/// Where one pool lives: outlives its driver as a disk outlives a daemon. Cleans up when it is dropped.
pub trait Bench: fmt::Debug + Send + Sync {
    /// A new driver over what is there.
    fn driver(&self) -> Result<Box<dyn Driver>>;

    /// The folder below which nothing may be reached by others.
    fn folder(&self) -> PathBuf;

    /// Adds to a volume's tree what only this technology can have in it, with `text` in it; again at each change.
    fn furnish(&self, tree: &Path, text: &str) -> std::io::Result<()> {
        let _ = (tree, text);
        Ok(())
    }
}

/// What is live: each place with what is in it.
pub(crate) type Seen = BTreeMap<Place, String>;

/// One or two pools with their caller.
#[derive(Debug)]
pub struct World {
    benches: Vec<Box<dyn Bench>>,
    pools: Vec<Pool>,
    intents: Mutex<Vec<(usize, Intent)>>,
    /// Whether a failure forgets its intent, as a daemon that lives on does.
    forgets: bool,
    boot: Uuid,
    spares: Option<Arc<Spares>>,
}

const MEMBER: &str = "none";

impl World {
    /// Fresh pools, `count` of them.
    pub fn fresh(lab: &dyn Lab, count: usize) -> Result<Self, Box<dyn std::error::Error>> {
        let mut world = Self {
            benches: Vec::new(),
            pools: Vec::new(),
            intents: Mutex::default(),
            forgets: true,
            boot: Uuid::new_v4(),
            spares: lab.spares().cloned(),
        };
        let locks = Locks::new();
        for number in 0..count {
            let cx = world.cx(&SystemHost);
            let spare = world.spares.as_ref().and_then(|spares| spares.take());
            let (name, locks) = (pool_name(number)?, Arc::clone(&locks));
            let (bench, pool) = match spare {
                Some(bench) => {
                    let driver = bench.driver()?;
                    (bench, Pool::open(&cx, name, driver, locks)?)
                }
                None => {
                    let bench = lab.bench()?;
                    let driver = bench.driver()?;
                    (bench, Pool::create(&cx, name, driver, locks)?)
                }
            };
            world.benches.push(bench);
            world.pools.push(pool);
        }
        Ok(world)
    }

    /// A context for a new piece of work over `host`.
    pub fn cx<'a>(&self, host: &'a dyn Host) -> Cx<'a> {
        self.cancellable_cx(host, Cancel::never())
    }

    /// A context for work that may be cancelled.
    pub fn cancellable_cx<'a>(&self, host: &'a dyn Host, cancel: Cancel) -> Cx<'a> {
        Cx::new(host, Progress::silent(), cancel, Ticket::new(MEMBER, self.boot, Uuid::new_v4()))
    }

    /// The first pool.
    pub fn pool(&self) -> &Pool {
        &self.pools[0]
    }

    /// The second pool.
    pub fn other_pool(&self) -> &Pool {
        &self.pools[1]
    }

    /// A pool by its number.
    pub(crate) fn pool_at(&self, number: usize) -> &Pool {
        &self.pools[number]
    }

    /// Where the first pool lives.
    pub fn folder(&self) -> PathBuf {
        self.benches[0].folder()
    }

    /// From here on a failure forgets nothing, as a daemon that was killed.
    pub fn will_die(&mut self) {
        self.forgets = false;
    }

    fn written(&self) -> MutexGuard<'_, Vec<(usize, Intent)>> {
        self.intents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an intent of the first pool down, works, and forgets it.
    pub fn intending<T>(&self, intent: &Intent, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.intending_on(0, intent, work)
    }

    fn intending_on<T>(&self, pool: usize, intent: &Intent, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.written().push((pool, intent.clone()));
        let outcome = work();
        self.settle(intent, outcome)
    }

    /// Forgets an intent once its work is over.
    fn settle<T>(&self, intent: &Intent, outcome: Result<T>) -> Result<T> {
        let is_settled = match &outcome {
            Ok(_) => true,
            Err(error) => self.forgets && error.undo_failures().is_empty(),
        };
        if is_settled {
            self.written().retain(|(_, other)| other != intent);
        }
        outcome
    }

    /// Drops everything and starts again over what is there, as the next run of the daemon.
    pub fn start_again(mut self) -> Result<(Self, Vec<Recovered>), Box<dyn std::error::Error>> {
        self.pools.clear();
        self.boot = Uuid::new_v4();
        self.forgets = true;
        let locks = Locks::new();
        let mut all = Vec::new();
        for (number, bench) in self.benches.iter().enumerate() {
            let cx = self.cx(&SystemHost);
            let pool = Pool::open(&cx, pool_name(number)?, bench.driver()?, Arc::clone(&locks))?;
            let intents: Vec<Intent> = self
                .written()
                .iter()
                .filter(|(pool, _)| *pool == number)
                .map(|(_, intent)| intent.clone())
                .collect();
            let boot = self.boot;
            let recovered = pool.recover(&cx, &intents, &BTreeMap::new(), &|ticket| {
                ticket.member() != MEMBER || ticket.boot() == boot
            })?;
            for outcome in &recovered.intents {
                if let Err(error) = outcome {
                    return Err(error.chain().into());
                }
            }
            for intent in &intents {
                if let Intent::Refresh(exchange) = intent {
                    pool.destroy(&cx, &exchange.old())?;
                }
            }
            all.push(recovered);
            self.pools.push(pool);
        }
        self.written().clear();
        Ok((self, all))
    }

    /// What is live on all pools, each with a description of its content, sizes included, times left out.
    pub(crate) fn seen(&self) -> Result<Vec<Seen>, Box<dyn std::error::Error>> {
        self.pools.iter().map(|pool| self.seen_on(pool)).collect()
    }

    fn seen_on(&self, pool: &Pool) -> Result<Seen, Box<dyn std::error::Error>> {
        let cx = self.cx(&SystemHost);
        let mut seen = Seen::new();
        for place in pool.places(&cx)? {
            let attached = match (&place.area, &place.snapshot) {
                (Area::Live, Some(snapshot)) => pool.attach_snapshot(&cx, &place.volume, snapshot)?,
                (Area::Live, None) => {
                    pool.attach(&cx, &place.volume, larder_storage_driver::Mode::ReadOnly)?
                }
                _ => continue,
            };
            let mut text = describe(&attached)?;
            match &place.snapshot {
                Some(snapshot) => pool.detach_snapshot(&cx, &place.volume, snapshot)?,
                None => {
                    text.push_str(&format!(
                        " total {:?}",
                        pool.volume_usage(&cx, &place.volume)?.total_bytes
                    ));
                    pool.detach(&cx, &place.volume)?;
                }
            }
            seen.insert(place, text);
        }
        Ok(seen)
    }

    /// What is staged or trashed on all pools.
    pub fn leftovers(&self) -> Result<Vec<Place>> {
        let cx = self.cx(&SystemHost);
        let mut left = Vec::new();
        for pool in &self.pools {
            left.extend(pool.places(&cx)?.into_iter().filter(|place| place.area.ticket().is_some()));
        }
        Ok(left)
    }

    /// Makes a volume filled with `text`.
    pub fn make(&self, volume: &VolumeId, text: &str) -> Result<()> {
        self.make_with(&self.cx(&SystemHost), volume, text)
    }

    /// Makes a volume filled with `text`, in a given context.
    pub fn make_with(&self, cx: &Cx<'_>, volume: &VolumeId, text: &str) -> Result<()> {
        self.pool().create_volume(cx, &spec(volume), &self.filling(text))
    }

    /// Makes a volume as the daemon makes empty ones: its creation is certain before it is published.
    pub(crate) fn make_agreed(&self, cx: &Cx<'_>, volume: &VolumeId, text: &str) -> Result<()> {
        let intent = Intent::Publish { staged: Place::live(volume).staged(cx.ticket()) };
        let agree = || {
            self.written().push((0, intent.clone()));
            Ok(())
        };
        let made = self.pool().create_agreed(cx, &spec(volume), &self.filling(text), &agree);
        self.settle(&intent, made)
    }

    /// Makes a volume with two snapshots, each filled with its own name.
    pub(crate) fn make_with_snapshots(&self, cx: &Cx<'_>, volume: &VolumeId) -> Result<()> {
        let (first, second, now) = (self.filling("s0"), self.filling("s1"), self.filling("now"));
        let snapshots: [(SnapshotName, &dyn Fill); 2] = [("s0".parse()?, &first), ("s1".parse()?, &second)];
        self.pool().create_with_snapshots(cx, &spec(volume), &snapshots, &now)
    }

    /// Fills a volume with `text`, and with what its technology adds.
    fn filling(&self, text: &str) -> impl Fn(&Cx<'_>, &Attached) -> Result<()> {
        move |_, into| self.put(into, text)
    }

    fn put(&self, into: &Attached, text: &str) -> Result<()> {
        write_text(into, text)?;
        match &into.directory {
            Some(tree) => Ok(self.benches[0].furnish(tree, text)?),
            None => Ok(()),
        }
    }

    /// Overwrites a live volume's content.
    pub fn write(&self, volume: &VolumeId, text: &str) -> Result<()> {
        let cx = self.cx(&SystemHost);
        let attached = self.pool().attach(&cx, volume, larder_storage_driver::Mode::ReadWrite)?;
        self.put(&attached, text)?;
        self.pool().detach(&cx, volume)
    }

    /// A live volume's content.
    pub fn read(&self, volume: &VolumeId) -> Result<String> {
        let cx = self.cx(&SystemHost);
        let attached = self.pool().attach(&cx, volume, larder_storage_driver::Mode::ReadOnly)?;
        let text = read_text(&attached);
        self.pool().detach(&cx, volume)?;
        text
    }

    /// A live snapshot's content.
    pub fn read_snapshot(&self, volume: &VolumeId, snapshot: &SnapshotName) -> Result<String> {
        let cx = self.cx(&SystemHost);
        let attached = self.pool().attach_snapshot(&cx, volume, snapshot)?;
        let text = read_text(&attached);
        self.pool().detach_snapshot(&cx, volume, snapshot)?;
        text
    }

    /// Makes a snapshot as the daemon does.
    pub fn snapshot(&self, cx: &Cx<'_>, volume: &VolumeId, name: &SnapshotName) -> Result<()> {
        self.snapshot_on(0, cx, volume, name)
    }

    /// The same on one of the pools.
    pub(crate) fn snapshot_on(
        &self,
        pool: usize,
        cx: &Cx<'_>,
        volume: &VolumeId,
        name: &SnapshotName,
    ) -> Result<()> {
        let intent = Intent::Snapshot { volume: volume.clone(), snapshot: name.clone() };
        self.intending_on(pool, &intent, || self.pools[pool].snapshot(cx, volume, name))
    }

    /// Brings a volume of one of the pools up to date as the daemon does: exchange, record, destroy.
    pub(crate) fn refresh(
        &self,
        cx: &Cx<'_>,
        pool: usize,
        source: CopySource<'_>,
        plan: &RefreshPlan<'_>,
    ) -> Result<()> {
        let target = &self.pools[pool];
        let exchange = target.plan_refresh(cx, plan);
        let intent = Intent::Refresh(exchange.clone());
        self.intending_on(pool, &intent, || target.refresh_volume(cx, source, plan, &exchange))?;
        target.destroy(cx, &exchange.old())
    }

    /// Renames as the daemon does.
    pub fn rename(&self, cx: &Cx<'_>, from: &VolumeId, to: &VolumeId) -> Result<()> {
        let intent = Intent::Move { from: Place::live(from), to: Place::live(to) };
        self.intending(&intent, || self.pool().rename_volume(cx, from, to))
    }

    /// Deletes as the daemon does: trash, forget, destroy.
    pub fn delete(&self, cx: &Cx<'_>, live: &Place) -> Result<()> {
        let intent = Intent::Move { from: live.clone(), to: live.trashed(cx.ticket()) };
        let trashed = self.intending(&intent, || self.pool().trash(cx, live))?;
        self.pool().destroy(cx, &trashed)
    }

    /// Restores as the daemon does.
    pub fn restore(
        &self,
        cx: &Cx<'_>,
        volume: &VolumeId,
        name: &SnapshotName,
        is_newest: bool,
    ) -> Result<()> {
        let intent = Intent::Restore { volume: volume.clone(), snapshot: name.clone() };
        self.intending(&intent, || self.pool().restore(cx, &spec(volume), name, is_newest))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Some(spares) = self.spares.take() else { return };
        let pools = std::mem::take(&mut self.pools);
        let benches = std::mem::take(&mut self.benches);
        for (bench, pool) in benches.into_iter().zip(&pools) {
            spares.put(&self.cx(&SystemHost), bench, pool);
        }
    }
}

fn pool_name(number: usize) -> Result<larder_base::PoolName, larder_base::NameError> {
    format!("pool{number}").parse()
}

/// A custom volume of the default project.
pub(crate) fn custom(content: Content, name: &str) -> Result<VolumeId, larder_base::NameError> {
    Ok(VolumeId::custom(content, ProjectName::default_project(), name.parse()?))
}

/// The root of a virtual machine: two parts.
pub(crate) fn machine(name: &str) -> Result<VolumeId, larder_base::NameError> {
    let project = ProjectName::default_project();
    Ok(VolumeId { kind: VolumeKind::VirtualMachine, content: Content::Block, project, name: name.parse()? })
}

/// The size of a small disk: a whole number of what any technology counts in.
pub(crate) const DISK: ByteSize = ByteSize::from_mebibytes(4);

/// A small volume.
pub(crate) fn spec(volume: &VolumeId) -> VolumeSpec {
    let spec = VolumeSpec::new(volume.clone());
    if volume.has_disk() { spec.with_size(DISK) } else { spec }
}

/// Fills a volume with a text: a file, and the beginning of the disk.
pub(crate) fn filled(text: &str) -> impl Fn(&Cx<'_>, &Attached) -> Result<()> + use<> {
    let text = text.to_owned();
    move |_, into| write_text(into, &text)
}

fn write_text(attached: &Attached, text: &str) -> Result<()> {
    if let Some(folder) = &attached.directory {
        std::fs::create_dir_all(folder.join("folder"))?;
        std::fs::write(folder.join("folder/file"), text)?;
    }
    if let Some(disk) = &attached.disk {
        use std::os::unix::fs::FileExt;
        let file = std::fs::OpenOptions::new().write(true).open(disk)?;
        file.write_all_at(&padded(text), 0)?;
    }
    Ok(())
}

const TEXT_BYTES: usize = 32;

fn padded(text: &str) -> [u8; TEXT_BYTES] {
    let mut bytes = [b' '; TEXT_BYTES];
    for (byte, letter) in bytes.iter_mut().zip(text.bytes()) {
        *byte = letter;
    }
    bytes
}

/// Both parts of a volume must tell the same.
fn read_text(attached: &Attached) -> Result<String> {
    let mut texts = Vec::new();
    if let Some(folder) = &attached.directory {
        texts.push(std::fs::read_to_string(folder.join("folder/file"))?);
    }
    if let Some(disk) = &attached.disk {
        use std::os::unix::fs::FileExt;
        let mut bytes = [0; TEXT_BYTES];
        std::fs::File::open(disk)?.read_exact_at(&mut bytes, 0)?;
        texts.push(String::from_utf8_lossy(&bytes).trim_end().to_owned());
    }
    texts.dedup();
    match texts.as_slice() {
        [text] => Ok(text.clone()),
        _ => Err(StorageError::new(
            larder_storage_driver::ErrorKind::Unexpected,
            format!("the parts differ: {texts:?}"),
        )),
    }
}

fn describe(attached: &Attached) -> Result<String> {
    let mut text = String::new();
    if let Some(folder) = &attached.directory {
        let mut listing = manifest(folder)?;
        for entry in listing.0.values_mut() {
            entry.modified = 0;
        }
        let inside = attached.disk.as_ref().and_then(|disk| disk.strip_prefix(folder).ok());
        listing.0.retain(|path, _| Some(path.as_path()) != inside);
        for (path, entry) in &listing.0 {
            text.push_str(&format!(
                "{}: {} {:o} {:?} {} {:x}; ",
                path.display(),
                entry.kind,
                entry.mode,
                entry.owner,
                entry.size,
                entry.content
            ));
        }
    }
    if let Some(disk) = &attached.disk {
        let bytes = std::fs::read(disk)?;
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        text.push_str(&format!("disk of {} bytes: {}", bytes.len(), String::from_utf8_lossy(&bytes[..end])));
    }
    Ok(text)
}

/// Compares what was expected with what is there.
pub(crate) fn same<T: PartialEq + fmt::Debug>(found: &T, expected: &T, what: &str) -> Outcome {
    crate::ensure(found == expected, format!("{what}: found {found:?}, expected {expected:?}"))
}
