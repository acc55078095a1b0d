//! Removing volumes and snapshots, with or without clones.
//!
//! A snapshot that was cloned goes out of sight by itself, and for good with its last clone; an image whose snapshots have
//! clones is renamed to a zombie, as the peers do, and removed once its last clone goes. Snapshots that a peer protected are
//! let go first.

use super::Ceph;
use super::layout::{Spelled, is_zombie, is_zombie_snapshot, zombie, zombie_snapshot};
use super::parse::{Info, Parent, Refusal, read_info, read_snapshots};
use super::run::{run, run_if_there, run_unless};
use crate::spelling::Part;
use larder_storage_driver::{Cx, Place, Result};

/// What became of an image that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is gone.
    Gone,
    /// Its clones keep it; its own snapshots are gone.
    HasClones,
}

impl Ceph {
    pub(super) fn remove_volume(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        for part in Part::of(&at.volume) {
            let image = self.layout.spelled(at, *part);
            let Some(info) = self.info(cx, &image)? else { continue };
            match self.remove_image(cx, &image.image, info.snapshots > 0)? {
                Fate::Gone => self.remove_parents(cx, info.parent)?,
                Fate::HasClones => {
                    let hidden = Spelled::image(zombie());
                    run(cx, &self.settings().commands.rename(&image, &hidden))?;
                }
            }
        }
        Ok(())
    }

    fn info(&self, cx: &Cx<'_>, image: &Spelled) -> Result<Option<Info>> {
        let text = run_if_there(cx, &self.settings().commands.info(image))?;
        text.map(|text| read_info(&text)).transpose()
    }

    /// Removes an image with its snapshots, unless it has clones. `has_snapshots` saves a try that would be refused.
    pub(super) fn remove_image(&self, cx: &Cx<'_>, image: &str, has_snapshots: bool) -> Result<Fate> {
        self.release(cx, image)?;
        let commands = &self.settings().commands;
        let image = Spelled::image(image);
        let is_gone = || match run(cx, &commands.remove(&image)) {
            Ok(_) => Ok(true),
            Err(failure) if failure.is(Refusal::Missing) => Ok(true),
            Err(failure) if failure.is(Refusal::HasSnapshots) => Ok(false),
            Err(failure) => Err(larder_storage_driver::StorageError::from(failure)),
        };
        if !has_snapshots && is_gone()? {
            return Ok(Fate::Gone);
        }
        run_if_there(cx, &commands.remove_snapshots(&image))?;
        if is_gone()? || (self.unprotect(cx, &image)? && is_gone()?) {
            return Ok(Fate::Gone);
        }
        Ok(Fate::HasClones)
    }

    /// Removes the snapshots of an image that a peer protected and nobody cloned. Tells whether there were any.
    fn unprotect(&self, cx: &Cx<'_>, image: &Spelled) -> Result<bool> {
        let commands = &self.settings().commands;
        let Some(text) = run_if_there(cx, &commands.snapshots(image))? else { return Ok(true) };
        let mut has_removed = false;
        for snapshot in read_snapshots(&text)?.iter().filter(|snapshot| snapshot.is_protected) {
            let snapshot = image.at(&snapshot.name);
            if run_unless(cx, &commands.unprotect(&snapshot), &[Refusal::Busy, Refusal::Missing])? {
                run_if_there(cx, &commands.remove_snapshot(&snapshot))?;
                has_removed = true;
            }
        }
        Ok(has_removed)
    }

    /// Follows a clone that is gone to what only it kept.
    fn remove_parents(&self, cx: &Cx<'_>, mut parent: Option<Parent>) -> Result<()> {
        let commands = &self.settings().commands;
        while let Some(of) = parent.take() {
            let namespace = commands.namespace.as_deref().unwrap_or_default();
            if of.pool != commands.pool || of.pool_namespace != namespace {
                return Ok(());
            }
            let image = Spelled::image(&of.image);
            if is_zombie_snapshot(&of.snapshot) {
                let snapshot = image.at(&of.snapshot);
                if run_unless(cx, &commands.unprotect(&snapshot), &[Refusal::Busy, Refusal::Missing])? {
                    run_if_there(cx, &commands.remove_snapshot(&snapshot))?;
                }
            }
            if is_zombie(&of.image) {
                parent = self.remove_one_zombie(cx, &image)?;
            }
        }
        Ok(())
    }

    /// Removes a zombie unless it has clones; what it was cloned from when it is gone.
    fn remove_one_zombie(&self, cx: &Cx<'_>, image: &Spelled) -> Result<Option<Parent>> {
        let Some(info) = self.info(cx, image)? else { return Ok(None) };
        match self.remove_image(cx, &image.image, false)? {
            Fate::Gone => Ok(info.parent),
            Fate::HasClones => Ok(None),
        }
    }

    /// Removes a zombie unless it has clones, and then what only it kept.
    pub(super) fn remove_zombie(&self, cx: &Cx<'_>, name: &str) -> Result<()> {
        let parent = self.remove_one_zombie(cx, &Spelled::image(name))?;
        self.remove_parents(cx, parent)
    }

    pub(super) fn remove_snapshot(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        for part in Part::of(&at.volume) {
            let snapshot = self.layout.spelled(at, *part);
            self.release_where(cx, |mapped| mapped.of == snapshot)?;
            self.remove_one_snapshot(cx, &snapshot)?;
        }
        Ok(())
    }

    /// Removes a snapshot; one that a peer protected and somebody cloned is only put out of sight.
    pub(super) fn remove_one_snapshot(&self, cx: &Cx<'_>, snapshot: &Spelled) -> Result<()> {
        let commands = &self.settings().commands;
        match run(cx, &commands.remove_snapshot(snapshot)) {
            Ok(_) => Ok(()),
            Err(failure) if failure.is(Refusal::Missing) => Ok(()),
            Err(failure) if failure.is(Refusal::Busy) => {
                if run_unless(cx, &commands.unprotect(snapshot), &[Refusal::Busy])? {
                    return run_if_there(cx, &commands.remove_snapshot(snapshot)).map(drop);
                }
                let hidden = Spelled::image(&snapshot.image).at(zombie_snapshot());
                Ok(run(cx, &commands.rename_snapshot(snapshot, &hidden)).map(drop)?)
            }
            Err(failure) => Err(failure.into()),
        }
    }
}
