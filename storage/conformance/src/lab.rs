//! What a technology tells the suite: where a pool of it can live, and what it alone can do.

use crate::journal::{Journal, Tried};
use larder_storage_driver::{Capabilities, Cx, Driver, Place, Result};
use larder_storage_pool::Pool;
use libtest_mimic::{Failed, Trial};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

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
    fn own_trials(&self) -> Vec<OwnTrial> {
        Vec::new()
    }

    /// Where benches wait for the next world once their pools were emptied. For technologies on which a pool takes long to
    /// make; without it every world is a new pool.
    fn spares(&self) -> Option<&Arc<Spares>> {
        None
    }
}

/// A trial that is done whole or not at all.
pub struct OwnTrial {
    name: String,
    run: Box<dyn FnOnce() -> std::result::Result<(), Failed> + Send>,
}

impl OwnTrial {
    /// A trial by its name, `lab::trial`.
    pub fn new(name: String, run: impl FnOnce() -> std::result::Result<(), Failed> + Send + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }

    /// The trial, done unless it went well before; nothing if another part of the run does it.
    pub(crate) fn once(self, journal: &Arc<Journal>) -> Option<Trial> {
        let (tried, journal, run) = (Tried::trial(&self.name), Arc::clone(journal), self.run);
        journal.is_ours(&tried).then(|| Trial::test(self.name, move || journal.once(tried, run)))
    }
}

/// Benches with an empty pool on them, open as a killed daemon leaves it.
#[derive(Debug, Default)]
pub struct Spares(Mutex<Vec<Box<dyn Bench>>>);

impl Spares {
    pub(crate) fn take(&self) -> Option<Box<dyn Bench>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Keeps a bench if all that is on its pool can be removed; drops it, and with it the pool, otherwise.
    pub(crate) fn put(&self, cx: &Cx<'_>, bench: Box<dyn Bench>, pool: &Pool) {
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

    /// What this pool alone is called, on the machine or on a cluster, if that is not its folder's name.
    fn name(&self) -> Option<&str> {
        None
    }

    /// Adds to a volume's tree what only this technology can have in it, with `text` in it; again at each change.
    fn furnish(&self, tree: &Path, text: &str) -> std::io::Result<()> {
        let _ = (tree, text);
        Ok(())
    }
}
