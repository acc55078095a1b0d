//! Bringing an older copy up to date: what it shall be is built beside it, then the two change places.
//!
//! The exchange goes by renames alone, each of which can be repeated. What was built moves to `built` when it is whole;
//! snapshots that stay join it; the old volume goes into the trash; what was built moves on to `ready`, and from there to
//! the live name. Where it is found tells recovery how far the exchange came, and it always goes on from there.

use crate::Pool;
use crate::content::Sharing;
use crate::copy::{CopyPlan, CopySource, holding};
use crate::locks::LockMode;
use crate::recover::Settled;
use crate::undo;
use larder_base::{KeptId, SnapshotName, Ticket};
use larder_storage_driver::{
    Area, CloneKind, Cx, ErrorKind, Mode, Place, Restore, Result, SnapshotKind, StorageError, Trees,
    VolumeId, VolumeSpec,
};
use larder_storage_tree::CopyMode;
use serde::{Deserialize, Serialize};

/// A snapshot that a refreshed copy shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshedSnapshot {
    /// Its name.
    pub name: SnapshotName,
    /// Whether it comes over from the source; if not, the copy has it and it stays.
    pub is_new: bool,
}

/// What a refreshed copy shall be.
#[derive(Debug, Clone)]
pub struct RefreshPlan<'a> {
    /// The copy, with its size: not less than that of the source's disk.
    pub spec: &'a VolumeSpec,
    /// All the snapshots it shall have, oldest first. What it has beyond them goes.
    pub snapshots: &'a [RefreshedSnapshot],
}

/// How what was built takes the place of a volume. Chosen and written down before the first step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    volume: VolumeId,
    /// Where the new volume is while the old one goes.
    built: KeptId,
    /// Where it is once the old one is out of the way.
    ready: KeptId,
    /// Whose trash the old one goes into.
    ticket: Ticket,
    /// Snapshots of the old volume that the new one takes over.
    staying: Vec<SnapshotName>,
}

impl Exchange {
    fn live(&self) -> Place {
        Place::live(&self.volume)
    }

    pub(crate) fn volume(&self) -> &VolumeId {
        &self.volume
    }

    fn built(&self) -> Place {
        Place::new(Area::Kept(self.built), &self.volume)
    }

    fn ready(&self) -> Place {
        Place::new(Area::Kept(self.ready), &self.volume)
    }

    /// Where the old volume lies from the exchange until its caller has recorded the outcome and destroys it.
    pub fn old(&self) -> Place {
        self.live().trashed(&self.ticket)
    }
}

impl Pool {
    /// How a refresh of this pool's volume will be done, for [`Intent::Refresh`](crate::Intent::Refresh).
    pub fn plan_refresh(&self, cx: &Cx<'_>, plan: &RefreshPlan<'_>) -> Exchange {
        let staying = plan.snapshots.iter().filter(|snapshot| !snapshot.is_new);
        Exchange {
            volume: plan.spec.id.clone(),
            built: KeptId::random(),
            ready: KeptId::random(),
            ticket: cx.ticket().clone(),
            staying: staying.map(|snapshot| snapshot.name.clone()).collect(),
        }
    }

    /// Whether a snapshot can go from one volume to another. Where a technology rolls back in place, snapshots are part
    /// of their volume: those that stay are copied, or go over to what a stream built on them.
    pub(crate) fn moves_snapshots(&self) -> bool {
        self.driver.capabilities().restore == Restore::Exchange
    }

    /// Makes a live volume of this pool, which nobody uses, what its source is now, in this or another pool. All or
    /// nothing, snapshots included; only what differs is written where the technology copies its own volumes cheaply.
    ///
    /// The caller has written down [`Intent::Refresh`](crate::Intent::Refresh) with `exchange`, records the outcome, and then destroys
    /// [`Exchange::old`] with [`Pool::destroy`].
    pub fn refresh_volume(
        &self,
        cx: &Cx<'_>,
        source: CopySource<'_>,
        plan: &RefreshPlan<'_>,
        exchange: &Exchange,
    ) -> Result<()> {
        self.must_be_good()?;
        self.check_spec(plan.spec)?;
        let id = &plan.spec.id;
        check_source(self, source, id)?;
        let theirs = [(source.volume, LockMode::Shared)];
        let _lock = self.lock_with(cx, &[(id, LockMode::Exclusive)], source.pool, &theirs)?;
        let places = self.own_places(cx, id)?;
        places.iter().try_for_each(|place| self.must_be_unused(place))?;
        let live = exchange.live();
        if !places.contains(&live) {
            return Err(StorageError::not_found(live));
        }
        let staged = live.staged(cx.ticket());
        let outcome = undo::scope(cx, |undo| {
            undo.push("destroy the staged volume", |cx| self.destroy_unseen(cx, &staged));
            self.stage_refresh(cx, &staged, source, plan)?;
            cx.checkpoint()
        })
        .and_then(|()| {
            places.iter().for_each(|place| self.attachments.forget(place));
            self.attachments.forget(&staged);
            self.exchange_or_again(cx, &staged, exchange)
        });
        self.judged(outcome).map_err(|error| {
            error.while_doing(format!("bringing the {id} up to date with the {}", source.volume))
        })
    }

    /// The live places of a volume and its snapshots.
    fn own_places(&self, cx: &Cx<'_>, volume: &VolumeId) -> Result<Vec<Place>> {
        let mut places = self.driver.list(cx)?;
        places.retain(|place| place.is_live() && place.volume == *volume);
        Ok(places)
    }

    fn stage_refresh(
        &self,
        cx: &Cx<'_>,
        staged: &Place,
        source: CopySource<'_>,
        plan: &RefreshPlan<'_>,
    ) -> Result<()> {
        let live = Place::live(&plan.spec.id);
        let spec = &holding(cx, plan.spec, &[(source.pool, source.place()), (self, live.clone())])?;
        let plan = &RefreshPlan { spec, ..plan.clone() };
        if self.stage_refresh_streamed(cx, staged, source, plan)? {
            return Ok(());
        }
        if !self.moves_snapshots() {
            return self.stage_anew(cx, staged, source, plan);
        }
        if self.copies_trees(&live.volume) {
            self.stage_over(cx, staged, source, plan.spec)?;
            let mut new = plan.snapshots.iter().filter(|snapshot| snapshot.is_new);
            return new.try_for_each(|snapshot| {
                cx.checkpoint()?;
                self.stage_copied_snapshot(cx, staged, source, &snapshot.name, plan.spec.size)
            });
        }
        self.stage_from(cx, staged, &live, plan.spec)?;
        if live.volume.has_disk() {
            self.driver.resize(cx, staged, plan.spec.size)?;
        }
        let is_native = self.driver.capabilities().snapshot == SnapshotKind::Native;
        for snapshot in plan.snapshots.iter().filter(|snapshot| snapshot.is_new) {
            cx.checkpoint()?;
            let from = Place::live(source.volume).at_snapshot(&snapshot.name);
            if is_native {
                self.fill_from(cx, staged, source, &from, CopyMode::Refresh)?;
                self.snapshot_natively(cx, staged, &snapshot.name)?;
            } else {
                self.stage_copied_snapshot(cx, staged, source, &snapshot.name, plan.spec.size)?;
            }
        }
        self.fill_from(cx, staged, source, &source.place(), CopyMode::Refresh)
    }

    /// Whether all copies of a volume are trees of files of their own, so that one of the old copy would be copied whole first.
    fn copies_trees(&self, volume: &VolumeId) -> bool {
        let capabilities = self.driver.capabilities();
        let is_copied =
            capabilities.clone == CloneKind::None && capabilities.snapshot == SnapshotKind::Copied;
        is_copied && !volume.has_disk()
    }

    /// Builds what the copy shall be from its source. What is the same in the old one, which nobody uses, gets a second name where it
    /// can have one, until the old one goes.
    fn stage_over(
        &self,
        cx: &Cx<'_>,
        staged: &Place,
        source: CopySource<'_>,
        spec: &VolumeSpec,
    ) -> Result<()> {
        self.driver.create(cx, staged, spec)?;
        let from = source.place();
        if self.driver.capabilities().trees == Trees::Apart {
            return self.fill_from(cx, staged, source, &from, CopyMode::Fresh);
        }
        self.with_attached(cx, &Place::live(&spec.id), Mode::ReadOnly, |live| {
            let is_together = std::ptr::eq(self, source.pool);
            let sharing = Sharing { alike: Some(live), is_together };
            self.fill_sharing(cx, staged, source, &from, (CopyMode::Fresh, sharing))
        })
    }

    /// A technology whose snapshots can't leave their volume: the copy is made anew, from its own snapshots and the
    /// source's in the order of their age.
    fn stage_anew(
        &self,
        cx: &Cx<'_>,
        staged: &Place,
        source: CopySource<'_>,
        plan: &RefreshPlan<'_>,
    ) -> Result<()> {
        if plan.snapshots.iter().all(|snapshot| snapshot.is_new) {
            let names: Vec<SnapshotName> =
                plan.snapshots.iter().map(|snapshot| snapshot.name.clone()).collect();
            return self.stage_contents(cx, staged, source, &CopyPlan { spec: plan.spec, snapshots: &names });
        }
        let ours = CopySource { pool: self, volume: &plan.spec.id, snapshot: None };
        self.driver.create(cx, staged, plan.spec)?;
        let mut mode = CopyMode::Fresh;
        for snapshot in plan.snapshots {
            cx.checkpoint()?;
            let origin = if snapshot.is_new { source } else { ours };
            let from = Place::live(origin.volume).at_snapshot(&snapshot.name);
            self.fill_from(cx, staged, origin, &from, mode)?;
            self.snapshot_natively(cx, staged, &snapshot.name)?;
            mode = CopyMode::Refresh;
        }
        self.fill_from(cx, staged, source, &source.place(), mode)
    }

    /// Goes on after a failure: an exchange that has begun can only be finished.
    fn exchange_or_again(&self, cx: &Cx<'_>, staged: &Place, exchange: &Exchange) -> Result<()> {
        let cx = cx.uncancellable();
        let go = || {
            self.driver.rename(&cx, staged, &exchange.built())?;
            self.finish_exchange(&cx, exchange).map(|_| ())
        };
        let again = || match self.finish_exchange(&cx, exchange)? {
            Settled::Finished => Ok(()),
            Settled::Undone => go(),
        };
        go().or_else(|error| again().map_err(|again| error.with_undo_failures(vec![again])))
    }

    /// Goes on with an exchange from wherever it is.
    pub(crate) fn finish_exchange(&self, cx: &Cx<'_>, exchange: &Exchange) -> Result<Settled> {
        let (live, built, ready, old) = (exchange.live(), exchange.built(), exchange.ready(), exchange.old());
        let places = self.driver.list(cx)?;
        if places.contains(&built) {
            // The rest of it may still be staged.
            self.driver.rename(cx, &live.staged(&exchange.ticket), &built)?;
            self.move_staying(cx, exchange)?;
            self.driver.rename(cx, &live, &old)?;
            self.driver.rename(cx, &built, &ready)?;
        } else if places.contains(&ready) {
            self.driver.rename(cx, &built, &ready)?;
        } else {
            let is_done = places.contains(&old);
            return Ok(if is_done { Settled::Finished } else { Settled::Undone });
        }
        self.driver.rename(cx, &ready, &live)?;
        Ok(Settled::Finished)
    }

    /// Moves the snapshots that stay to what was built, unless it was built with them.
    fn move_staying(&self, cx: &Cx<'_>, exchange: &Exchange) -> Result<()> {
        let (live, built, places) = (exchange.live(), exchange.built(), self.driver.list(cx)?);
        let is_there = |at: &Place, name: &SnapshotName| places.contains(&at.at_snapshot(name));
        let is_one = |name: &&SnapshotName| is_there(&live, name) != is_there(&built, name);
        let moving: Vec<_> = exchange.staying.iter().filter(is_one).collect();
        // Where they can't move one by one, those that go would come along.
        if !self.moves_snapshots() && moving.iter().any(|name| is_there(&live, name)) {
            let goes = |place: &&Place| {
                let name = place.snapshot.as_ref().filter(|_| place.main() == live);
                name.is_some_and(|name| !exchange.staying.contains(name))
            };
            places.iter().filter(goes).try_for_each(|going| self.driver.destroy(cx, going))?;
        }
        let move_one = |name| self.driver.rename(cx, &live.at_snapshot(name), &built.at_snapshot(name));
        moving.into_iter().try_for_each(move_one)
    }
}

fn check_source(pool: &Pool, source: CopySource<'_>, target: &VolumeId) -> Result<()> {
    let invalid = |message: String| Err(StorageError::new(ErrorKind::Invalid, message));
    if source.volume.content != target.content {
        return invalid(format!(
            "a {} volume can't be refreshed from a {} volume",
            target.content, source.volume.content
        ));
    }
    if source.pool.name == pool.name && source.volume == target {
        return invalid(format!("the {target} can't be refreshed from itself"));
    }
    Ok(())
}
