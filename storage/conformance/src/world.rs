//! A fresh pool with a caller around it that plays the daemon's part: writes intents down, forgets them, starts again.

use crate::content::{read_text, spec, write_text};
use crate::steps::without_numbers;
use crate::{Bench, Lab, Spares};
use larder_base::host::{Host, SystemHost};
use larder_base::{Cancel, Progress, SnapshotName, Ticket};
use larder_storage_driver::{Attached, Cx, Place, Result, VolumeId};
use larder_storage_pool::{CopySource, Fill, Intent, Locks, Pool, Recovered, RefreshPlan};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

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
    pub fn start_again(self) -> Result<(Self, Vec<Recovered>), Box<dyn std::error::Error>> {
        self.start_again_over(&SystemHost)
    }

    /// The same over another host.
    pub(crate) fn start_again_over(
        mut self,
        host: &dyn Host,
    ) -> Result<(Self, Vec<Recovered>), Box<dyn std::error::Error>> {
        self.pools.clear();
        self.boot = Uuid::new_v4();
        self.forgets = true;
        let locks = Locks::new();
        let mut all = Vec::new();
        for (number, bench) in self.benches.iter().enumerate() {
            let cx = self.cx(host);
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

    /// Words without what differs from world to world.
    pub(crate) fn plain(&self, words: &str) -> String {
        let named = self.benches.iter().enumerate().fold(words.to_owned(), |words, (number, bench)| {
            let folder = bench.folder();
            let folder = folder.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            let names = bench.name().into_iter().chain([folder.as_ref()]);
            names.fold(words, |words, name| words.replace(name, &format!("POOL{number}")))
        });
        without_numbers(&named)
    }

    /// All pools.
    pub(crate) fn pools(&self) -> &[Pool] {
        &self.pools
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

    /// Works on the tree of a live volume.
    pub(crate) fn with_tree<T>(&self, volume: &VolumeId, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let cx = self.cx(&SystemHost);
        let attached = self.pool().attach(&cx, volume, larder_storage_driver::Mode::ReadWrite)?;
        let outcome = attached.directory().and_then(work);
        self.pool().detach(&cx, volume)?;
        outcome
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
