//! Removing volumes and snapshots, with or without clones.
//!
//! A snapshot that was cloned goes out of sight by itself, and for good with its last clone; an image whose snapshots have
//! clones is renamed to a zombie, as the peers do, and removed once its last clone goes. Snapshots that a peer protected are
//! let go first.

use super::Ceph;
use super::layout::{Spelled, is_zombie, is_zombie_snapshot, zombie, zombie_snapshot};
use crate::bounded::patiently;
use crate::cluster::parse::{Info, Parent, Snapshot};
use crate::cluster::{Failure, Refusal, ask_if_there, change, change_if_there};
use crate::refusal::Outcome;
use larder_storage_driver::{Cx, Result};
use std::time::Duration;

/// How long the cluster takes a program that was killed for one that has its image open, and some more.
const DEAD: Duration = Duration::from_secs(45);

/// What became of an image that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is gone.
    Gone,
    /// Its clones keep it; its own snapshots are gone.
    HasClones,
}

impl Ceph {
    /// Removes an image, or puts it out of sight for its clones.
    pub(super) fn remove_part(&self, cx: &Cx<'_>, image: &Spelled) -> Result<()> {
        let commands = &self.settings().commands;
        let Some(info) = ask_if_there::<Info>(cx, &commands.info(image))? else { return Ok(()) };
        self.inside.forget(&info.id);
        match self.remove_image(cx, image, info.snapshots > 0)? {
            Fate::Gone => self.remove_parents(cx, info.parent),
            Fate::HasClones => Ok(change(cx, &commands.rename(image, &Spelled::image(zombie())))?),
        }
    }

    /// Removes an image with its snapshots, unless it has clones. `has_snapshots` saves a try that would be refused.
    pub(super) fn remove_image(&self, cx: &Cx<'_>, image: &Spelled, has_snapshots: bool) -> Result<Fate> {
        self.release_where(cx, |mapped| image.has(&mapped.of))?;
        let commands = &self.settings().commands;
        let is_gone = || -> Result<bool> {
            let removed = self.remove_closed(cx, image).unless(&[Refusal::HasSnapshots]);
            Ok(removed.unless(&[Refusal::Missing])?.is_none_or(|removed| removed.is_some()))
        };
        if !has_snapshots && is_gone()? {
            return Ok(Fate::Gone);
        }
        change_if_there(cx, &commands.remove_snapshots(image))?;
        if is_gone()? || (self.unprotect_all(cx, image)? && is_gone()?) {
            return Ok(Fate::Gone);
        }
        Ok(Fate::HasClones)
    }

    /// Removes an image that nobody has open, or only somebody whom the cluster does not know to be dead yet. That is waited for,
    /// unless the work was asked to stop.
    fn remove_closed(&self, cx: &Cx<'_>, image: &Spelled) -> Result<(), Failure> {
        let remove = || change(cx, &self.settings().commands.remove(image));
        let is_busy = |removed: &Result<(), Failure>| {
            removed.as_ref().is_err_and(|failure| failure.is(Refusal::Busy)) && cx.checkpoint().is_ok()
        };
        patiently(DEAD, remove, is_busy)
    }

    /// Removes the snapshots of an image that a peer protected and nobody cloned. Tells whether there were any.
    fn unprotect_all(&self, cx: &Cx<'_>, image: &Spelled) -> Result<bool> {
        let snapshots: Option<Vec<Snapshot>> = ask_if_there(cx, &self.settings().commands.snapshots(image))?;
        let Some(snapshots) = snapshots else { return Ok(true) };
        let is_meant = |snapshot: &&Snapshot| snapshot.is_for_users() && snapshot.is_protected();
        snapshots.iter().filter(is_meant).try_fold(false, |has_removed, snapshot| {
            Ok(self.unprotect_and_remove(cx, &image.at(&snapshot.name))? | has_removed)
        })
    }

    /// Removes a protected snapshot unless somebody cloned it. Tells whether it did.
    fn unprotect_and_remove(&self, cx: &Cx<'_>, snapshot: &Spelled) -> Result<bool> {
        let commands = &self.settings().commands;
        let unprotected = change(cx, &commands.unprotect(snapshot));
        let is_free = unprotected.unless(&[Refusal::Busy, Refusal::Missing])?.is_some();
        if is_free {
            change_if_there(cx, &commands.remove_snapshot(snapshot))?;
        }
        Ok(is_free)
    }

    /// Follows a clone that is gone to what only it kept.
    fn remove_parents(&self, cx: &Cx<'_>, mut parent: Option<Parent>) -> Result<()> {
        let commands = &self.settings().commands;
        let namespace = commands.namespace.as_deref().unwrap_or_default();
        let is_ours = |of: &Parent| of.pool == commands.pool && of.pool_namespace == namespace;
        while let Some(of) = parent.take().filter(is_ours) {
            let image = Spelled::image(&of.image);
            if is_zombie_snapshot(&of.snapshot) {
                self.unprotect_and_remove(cx, &image.at(&of.snapshot))?;
            }
            if is_zombie(&of.image) {
                parent = self.remove_one_zombie(cx, &image)?;
            }
        }
        Ok(())
    }

    /// Removes a zombie unless it has clones; what it was cloned from when it is gone.
    fn remove_one_zombie(&self, cx: &Cx<'_>, image: &Spelled) -> Result<Option<Parent>> {
        let info: Option<Info> = ask_if_there(cx, &self.settings().commands.info(image))?;
        let Some(info) = info else { return Ok(None) };
        let fate = self.remove_image(cx, image, false)?;
        Ok(info.parent.filter(|_| fate == Fate::Gone))
    }

    /// Removes a zombie unless it has clones, and then what only it kept.
    pub(super) fn remove_zombie(&self, cx: &Cx<'_>, name: &str) -> Result<()> {
        let parent = self.remove_one_zombie(cx, &Spelled::image(name))?;
        self.remove_parents(cx, parent)
    }

    /// Removes a snapshot; one that a peer protected and somebody cloned is only put out of sight.
    pub(super) fn remove_snapshot(&self, cx: &Cx<'_>, snapshot: &Spelled) -> Result<()> {
        self.release_where(cx, |mapped| mapped.of == *snapshot)?;
        let commands = &self.settings().commands;
        let removed = change(cx, &commands.remove_snapshot(snapshot)).unless(&[Refusal::Missing]);
        if removed.unless(&[Refusal::Busy])?.is_some() || self.unprotect_and_remove(cx, snapshot)? {
            return Ok(());
        }
        let hidden = Spelled::image(&snapshot.image).at(zombie_snapshot());
        Ok(change(cx, &commands.rename_snapshot(snapshot, &hidden))?)
    }
}
