//! What the next start does with what a crash left.

use crate::{Intent, Pool};
use larder_base::{ByteSize, SnapshotName, Ticket};
use larder_storage_driver::{Area, Cx, ErrorKind, Place, Result, StorageError, VolumeId, VolumeSpec};
use std::collections::{BTreeMap, BTreeSet};

/// Tells whether the work under a ticket goes on: work of another member, or of this run.
pub type Running<'a> = &'a dyn Fn(&Ticket) -> bool;

/// What became of an intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is done, or was refused and what is there tells; look.
    Finished,
    /// It had not begun, and nothing of it is left.
    Undone,
}

/// What [`Pool::recover`] found and did.
#[derive(Debug, Default)]
pub struct Recovered {
    /// What is live now.
    pub live: Vec<Place>,
    /// What is kept.
    pub kept: Vec<Place>,
    /// Which leftovers were removed.
    pub removed: Vec<Place>,
    /// For each intent, in the order given, how finishing it went.
    pub intents: Vec<Result<Settled>>,
}

impl Pool {
    /// Finishes `intents` forward, removes staging and trash of work that is over, and tells what is live. Nothing
    /// live is ever destroyed. The pool takes changes again when all of that worked.
    ///
    /// The trash of an [`Intent::Refresh`] stays: that it is there tells the next recovery, should this one be cut off,
    /// that the exchange was done. The caller destroys [`Exchange::old`](crate::Exchange::old) once it has recorded that.
    ///
    /// `sizes` tells the size of volumes that a [`Intent::Restore`] needs to be staged again; a disk that is not in it
    /// keeps the size it has.
    pub fn recover(
        &self,
        cx: &Cx<'_>,
        intents: &[Intent],
        sizes: &BTreeMap<VolumeId, VolumeSpec>,
        running: Running<'_>,
    ) -> Result<Recovered> {
        let (mut recovered, degradations) = (Recovered::default(), self.degradations());
        for intent in intents {
            let finished = self.finish(cx, intent, sizes);
            recovered
                .intents
                .push(finished.map_err(|error| error.while_doing(format!("finishing {intent:?}"))));
        }
        let mut swept = Ok(());
        let is_evidence = |place: &Place| {
            intents
                .iter()
                .any(|intent| matches!(intent, Intent::Refresh(exchange) if exchange.old() == place.main()))
        };
        let mut places = self.driver.list(cx)?;
        let leftovers = leftovers(&places, running);
        for place in leftovers.into_iter().filter(|place| !is_evidence(place)) {
            match self.sweep(cx, &place) {
                Ok(()) => recovered.removed.push(place),
                Err(error) => swept = Err(error.while_doing(format!("removing the {place}"))),
            }
        }
        if !recovered.removed.is_empty() || swept.is_err() {
            places = self.driver.list(cx)?;
        }
        for place in places {
            match place.area {
                Area::Live => recovered.live.push(place),
                Area::Kept(_) => recovered.kept.push(place),
                Area::Staging(_) | Area::Trash(_) => {}
            }
        }
        let failed = recovered.intents.iter().find_map(|outcome| outcome.as_ref().err());
        match failed.or(swept.as_ref().err()) {
            Some(error) => self.degrade(error.chain()),
            None => self.take_changes_again(degradations),
        }
        swept.map(|()| recovered)
    }

    /// [`Pool::recover`] of a pool that goes on working. Fails with kind `Cancelled` while somebody works on one of the volumes that
    /// the intents are of, and with `InUse` while somebody uses what would be pulled away from under them.
    pub fn heal(
        &self,
        cx: &Cx<'_>,
        intents: &[Intent],
        sizes: &BTreeMap<VolumeId, VolumeSpec>,
        running: Running<'_>,
    ) -> Result<Recovered> {
        let volumes: BTreeSet<VolumeId> = intents.iter().flat_map(Intent::volumes).cloned().collect();
        let _locks = self.lock_now(&volumes)?;
        intents.iter().filter_map(Intent::wants_unused).try_for_each(|place| self.must_be_unused(&place))?;
        self.recover(cx, intents, sizes, running)
    }

    /// Destroys what is out of sight and of work that is over: it could not be destroyed then. `running` also holds what a plan is
    /// there of. Fails like the first that still can't be.
    pub fn tidy(&self, cx: &Cx<'_>, running: Running<'_>) -> Result<()> {
        self.set_littered(false);
        let places = self.driver.list(cx).inspect_err(|_| self.set_littered(true))?;
        // What is of work that goes on may have to be looked at again.
        if places.iter().any(|place| place.area.ticket().is_some_and(running)) {
            self.set_littered(true);
        }
        let outcomes: Vec<_> =
            leftovers(&places, running).iter().map(|place| self.destroy(cx, place)).collect();
        outcomes.into_iter().collect()
    }

    fn sweep(&self, cx: &Cx<'_>, place: &Place) -> Result<()> {
        match (&place.area, &place.snapshot) {
            (Area::Staging(_), None) => self.withdraw(cx, place),
            _ => self.destroy_unseen(cx, place),
        }
    }

    fn finish(
        &self,
        cx: &Cx<'_>,
        intent: &Intent,
        sizes: &BTreeMap<VolumeId, VolumeSpec>,
    ) -> Result<Settled> {
        match intent {
            Intent::Refresh(exchange) => return self.finish_exchange(cx, exchange),
            Intent::Move { from, to } => self.finish_move(cx, from, to)?,
            Intent::Publish { staged } => self.finish_publish(cx, staged)?,
            Intent::Snapshot { volume, snapshot } => {
                self.settle_snapshot(cx, &Place::live(volume), snapshot)?;
            }
            Intent::Restore { volume, snapshot } => {
                let spec = match sizes.get(volume) {
                    Some(spec) => spec.clone(),
                    None => self.spec_to_restore(cx, &Place::live(volume), snapshot)?,
                };
                self.restore_unlocked(cx, &spec, snapshot, self.driver.capabilities().restore)?;
            }
            Intent::Resize { volume, size } => self.finish_resize(cx, volume, *size)?,
        }
        Ok(Settled::Finished)
    }

    /// What is refused as often as it is tried was refused then, too, and would be for ever: the volume stays as large as it is. What
    /// may go well another time is tried again then.
    fn finish_resize(&self, cx: &Cx<'_>, volume: &VolumeId, size: Option<ByteSize>) -> Result<()> {
        let live = Place::live(volume);
        match self.driver.resize(cx, &live, size).or_else(|_| self.driver.resize(cx, &live, size)) {
            Err(error) if may_go_well_later(&error) => Err(error),
            Err(error) => {
                tracing::warn!(%volume, error = %error.chain(), "the volume keeps its size: another one was refused");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Either it is published already, or a power cut took the staged volume with it: then there is nothing to finish.
    fn finish_publish(&self, cx: &Cx<'_>, staged: &Place) -> Result<()> {
        let live = staged.within(Area::Live);
        let places = self.driver.list(cx)?;
        match (places.contains(staged), places.contains(&live)) {
            (true, false) | (false, true) => self.driver.rename(cx, staged, &live),
            (true, true) | (false, false) => Ok(()),
        }
    }

    /// As large as the volume, or as its snapshot when the volume was between two names.
    fn spec_to_restore(&self, cx: &Cx<'_>, live: &Place, snapshot: &SnapshotName) -> Result<VolumeSpec> {
        match self.spec_like(cx, live) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.spec_like(cx, &live.at_snapshot(snapshot))
            }
            other => other,
        }
    }

    fn finish_move(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        let places = self.driver.list(cx)?;
        match (places.contains(from), places.contains(to)) {
            // The move had been refused: the name was taken, and both stay.
            (true, true) => Ok(()),
            (true, false) | (false, true) => self.driver.rename(cx, from, to),
            // Gone from the trash already.
            (false, false) if matches!(to.area, Area::Trash(_)) => Ok(()),
            (false, false) => Err(StorageError::not_found(from)),
        }
    }
}

fn may_go_well_later(error: &StorageError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unavailable
            | ErrorKind::Cancelled
            | ErrorKind::Busy
            | ErrorKind::InUse
            | ErrorKind::NotFound
    )
}

/// Staged and trashed volumes whose work is over; a snapshot only when its volume is not among them.
fn leftovers(places: &[Place], running: Running<'_>) -> Vec<Place> {
    let is_over = |place: &&Place| place.area.ticket().is_some_and(|ticket| !running(ticket));
    let over: Vec<Place> = places.iter().filter(is_over).cloned().collect();
    let is_covered = |place: &Place| place.snapshot.is_some() && over.contains(&place.main());
    over.iter().filter(|place| !is_covered(place)).cloned().collect()
}
