//! One open pool: the driver, the locks, who uses what, and whether changes are allowed.

use crate::attachments::Attachments;
use crate::locks::{LockMode, Locked, Locks};
use larder_base::{Cancel, PoolName, SnapshotName};
use larder_storage_driver::{
    Attached, Capabilities, Config, Cx, Driver, ErrorKind, Mode, Place, PoolUsage, Result, StorageError,
    VolumeId, VolumeUsage,
};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a pool takes changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Everything works.
    Good,
    /// A rollback failed: reads go on, changes are refused until [`Pool::recover`](crate::Pool::recover)
    /// succeeds. Holds why.
    Degraded(String),
}

/// A pool of volumes over one [`Driver`].
#[derive(Debug)]
pub struct Pool {
    pub(crate) name: PoolName,
    pub(crate) driver: Box<dyn Driver>,
    pub(crate) attachments: Attachments,
    locks: Arc<Locks>,
    judgement: Mutex<Judgement>,
    /// Whether something could not be destroyed.
    littered: AtomicBool,
}

/// How a pool stands, and how often it was degraded.
#[derive(Debug)]
struct Judgement {
    standing: Standing,
    degradations: u64,
}

impl Pool {
    /// Makes the pool on disk and opens it; removes what it made when that fails.
    pub fn create(cx: &Cx<'_>, name: PoolName, driver: Box<dyn Driver>, locks: Arc<Locks>) -> Result<Self> {
        let made = driver.create_pool(cx).and_then(|()| driver.open_pool(cx));
        if let Err(error) = made {
            let error = error.while_doing(format!("creating the storage pool {name}"));
            // A refusal came before the first change: what is there belongs to somebody else.
            if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::AlreadyExists | ErrorKind::InUse) {
                return Err(error);
            }
            let undone = driver.destroy_pool(&cx.uncancellable());
            return Err(error.with_undo_failures(undone.err().into_iter().collect()));
        }
        Ok(Self::over(name, driver, locks))
    }

    /// Opens a pool that exists. Call [`Pool::recover`](crate::Pool::recover) next.
    pub fn open(cx: &Cx<'_>, name: PoolName, driver: Box<dyn Driver>, locks: Arc<Locks>) -> Result<Self> {
        driver
            .open_pool(cx)
            .map_err(|error| error.while_doing(format!("opening the storage pool {name}")))?;
        Ok(Self::over(name, driver, locks))
    }

    /// Opens what another run or a peer made, to go on with it: makes nothing, and leaves what is there alone when it can't
    /// be opened.
    pub fn adopt(cx: &Cx<'_>, name: PoolName, driver: Box<dyn Driver>, locks: Arc<Locks>) -> Result<Self> {
        match driver.open_pool(cx) {
            Ok(()) => Ok(Self::over(name, driver, locks)),
            Err(error) => {
                let closed = driver.close_pool(&cx.uncancellable());
                let error = error.while_doing(format!("recovering the storage pool {name}"));
                Err(error.with_undo_failures(closed.err().into_iter().collect()))
            }
        }
    }

    fn over(name: PoolName, driver: Box<dyn Driver>, locks: Arc<Locks>) -> Self {
        Self {
            name,
            driver,
            attachments: Attachments::default(),
            locks,
            judgement: Mutex::new(Judgement { standing: Standing::Good, degradations: 0 }),
            littered: AtomicBool::new(false),
        }
    }

    /// Brings the pool in line with changed keys. The caller writes them down afterwards.
    pub fn change(&self, cx: &Cx<'_>, old: &Config, new: &Config) -> Result<()> {
        self.must_be_good()?;
        self.driver
            .change_pool(cx, old, new)
            .map_err(|error| error.while_doing(format!("changing the storage pool {}", self.name)))
    }

    /// Unmounts and deactivates; the pool is as it was before it was opened.
    pub fn close(&self, cx: &Cx<'_>) -> Result<()> {
        self.driver.close_pool(cx)
    }

    /// Destroys the pool. The caller has made sure that nothing live is left.
    pub fn destroy_pool(&self, cx: &Cx<'_>) -> Result<()> {
        match self.driver.destroy_pool(cx) {
            Err(error) if error.kind() != ErrorKind::Cancelled => {
                self.driver.destroy_pool(&cx.uncancellable())
            }
            other => other,
        }
    }

    /// The pool's name.
    pub fn name(&self) -> &PoolName {
        &self.name
    }

    /// The driver, for its name, keys and capabilities.
    pub fn driver(&self) -> &dyn Driver {
        self.driver.as_ref()
    }

    /// What the driver can do here.
    pub fn capabilities(&self) -> Capabilities {
        self.driver.capabilities()
    }

    /// Whether changes are allowed.
    pub fn standing(&self) -> Standing {
        self.judgement.lock().standing.clone()
    }

    /// Whether something that was to be destroyed may still be there, out of sight: [`Pool::tidy`] tries again.
    pub fn is_littered(&self) -> bool {
        self.littered.load(Ordering::Relaxed)
    }

    pub(crate) fn set_littered(&self, littered: bool) {
        self.littered.store(littered, Ordering::Relaxed);
    }

    /// What is really there.
    pub fn places(&self, cx: &Cx<'_>) -> Result<Vec<Place>> {
        self.driver.list(cx)
    }

    /// The live places that would be lost with the pool: of one that others use too, not theirs.
    pub fn at_stake(&self, cx: &Cx<'_>) -> Result<Vec<Place>> {
        self.driver.at_stake(cx)
    }

    /// Space of the pool.
    pub fn usage(&self, cx: &Cx<'_>) -> Result<PoolUsage> {
        self.driver.pool_usage(cx)
    }

    /// Space of a volume.
    pub fn volume_usage(&self, cx: &Cx<'_>, volume: &VolumeId) -> Result<VolumeUsage> {
        self.driver.usage(cx, &Place::live(volume))
    }

    /// Space of many volumes, in their order; `None` for one that is not there or can't be measured now.
    pub fn volume_usages(&self, cx: &Cx<'_>, volumes: &[VolumeId]) -> Result<Vec<Option<VolumeUsage>>> {
        let places: Vec<Place> = volumes.iter().map(Place::live).collect();
        self.driver.usages(cx, &places)
    }

    /// Makes a live volume usable on this machine; pair it with [`Pool::detach`]. Counted.
    pub fn attach(&self, cx: &Cx<'_>, volume: &VolumeId, mode: Mode) -> Result<Attached> {
        let _lock = self.lock(cx, volume, LockMode::Shared)?;
        self.attachments.attach(self.driver(), cx, &Place::live(volume), mode)
    }

    /// Ends one use of a live volume.
    pub fn detach(&self, cx: &Cx<'_>, volume: &VolumeId) -> Result<()> {
        self.attachments.detach(self.driver(), cx, &Place::live(volume))
    }

    /// Makes a live snapshot readable on this machine; pair it with [`Pool::detach_snapshot`]. Counted.
    pub fn attach_snapshot(
        &self,
        cx: &Cx<'_>,
        volume: &VolumeId,
        snapshot: &SnapshotName,
    ) -> Result<Attached> {
        let _lock = self.lock(cx, volume, LockMode::Shared)?;
        let at = Place::live(volume).at_snapshot(snapshot);
        self.attachments.attach(self.driver(), cx, &at, Mode::ReadOnly)
    }

    /// Ends one use of a live snapshot.
    pub fn detach_snapshot(&self, cx: &Cx<'_>, volume: &VolumeId, snapshot: &SnapshotName) -> Result<()> {
        self.attachments.detach(self.driver(), cx, &Place::live(volume).at_snapshot(snapshot))
    }

    pub(crate) fn lock(&self, cx: &Cx<'_>, volume: &VolumeId, mode: LockMode) -> Result<Locked> {
        self.locks.take(vec![((self.name.clone(), volume.clone()), mode)], cx.cancel())
    }

    /// Locks volumes for changes. Fails with kind `Cancelled` when one of them is locked.
    pub(crate) fn lock_now(&self, volumes: &BTreeSet<VolumeId>) -> Result<Locked> {
        let wanted = volumes.iter().map(|volume| ((self.name.clone(), volume.clone()), LockMode::Exclusive));
        let waits_not = Cancel::new();
        waits_not.cancel();
        self.locks.take(wanted.collect(), &waits_not)
    }

    /// Locks volumes of this pool and of `other` at once.
    pub(crate) fn lock_with(
        &self,
        cx: &Cx<'_>,
        ours: &[(&VolumeId, LockMode)],
        other: &Pool,
        theirs: &[(&VolumeId, LockMode)],
    ) -> Result<Locked> {
        let key = |pool: &Pool, (volume, mode): &(&VolumeId, LockMode)| {
            ((pool.name.clone(), (*volume).clone()), *mode)
        };
        let ours = ours.iter().map(|wanted| key(self, wanted));
        self.locks.take(ours.chain(theirs.iter().map(|wanted| key(other, wanted))).collect(), cx.cancel())
    }

    /// Refuses changes while a rollback has failed.
    pub(crate) fn must_be_good(&self) -> Result<()> {
        match &self.judgement.lock().standing {
            Standing::Good => Ok(()),
            Standing::Degraded(why) => Err(StorageError::new(
                ErrorKind::Degraded,
                format!(
                    "the storage pool {} refuses changes until that is put right, because {why}",
                    self.name
                ),
            )),
        }
    }

    pub(crate) fn must_be_unused(&self, at: &Place) -> Result<()> {
        match self.attachments.users(at) {
            0 => Ok(()),
            _ => Err(StorageError::new(ErrorKind::InUse, format!("{at} is in use"))),
        }
    }

    /// Passes an outcome on; one whose undo failed degrades the pool.
    pub(crate) fn judged<T>(&self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome
            && !error.undo_failures().is_empty()
        {
            tracing::error!(pool = %self.name, error = %error.chain(), "degraded: a rollback failed");
            self.degrade(format!("a rollback failed ({})", error.chain()));
        }
        outcome
    }

    /// Refuses changes from now on until [`Pool::recover`](crate::Pool::recover) succeeds, for the reason given.
    pub fn degrade(&self, why: String) {
        let mut judgement = self.judgement.lock();
        judgement.standing = Standing::Degraded(why);
        judgement.degradations += 1;
    }

    pub(crate) fn degradations(&self) -> u64 {
        self.judgement.lock().degradations
    }

    /// Takes changes again, unless the pool was degraded once more than `degradations` times.
    pub(crate) fn take_changes_again(&self, degradations: u64) {
        let mut judgement = self.judgement.lock();
        if judgement.degradations == degradations {
            judgement.standing = Standing::Good;
        }
    }

    /// Runs `work` on an attached place and detaches it whatever comes.
    pub(crate) fn with_attached<T>(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        mode: Mode,
        work: impl FnOnce(&Attached) -> Result<T>,
    ) -> Result<T> {
        let attached = self.attachments.attach(self.driver(), cx, at, mode)?;
        let outcome = work(&attached);
        let detached = self.attachments.detach(self.driver(), &cx.uncancellable(), at);
        let value = outcome?;
        detached?;
        Ok(value)
    }

    /// Destroys what is out of sight. A first failure is answered with a second try: what is left after that is
    /// swept by the next recovery.
    pub(crate) fn destroy_unseen(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        debug_assert!(!at.is_live(), "nothing live is destroyed: {at}");
        self.attachments.forget(at);
        let cx = cx.uncancellable();
        let destroyed = self.driver.destroy(&cx, at).or_else(|_| self.driver.destroy(&cx, at));
        destroyed.inspect_err(|_| self.set_littered(true))
    }
}
