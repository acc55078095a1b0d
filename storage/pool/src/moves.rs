//! Renames, the trash, and what is kept: one name for another, with all parts and snapshots.

use crate::Pool;
use crate::locks::LockMode;
use larder_base::{KeptId, SnapshotName};
use larder_storage_driver::{Area, Cx, ErrorKind, Place, Result, StorageError, VolumeId};

impl Pool {
    /// Gives a live volume another name (and project) in this pool. The caller has written down
    /// [`Intent::Move`](crate::Intent::Move).
    pub fn rename_volume(&self, cx: &Cx<'_>, from: &VolumeId, to: &VolumeId) -> Result<()> {
        self.must_be_good()?;
        let wanted = [(from, LockMode::Exclusive), (to, LockMode::Exclusive)];
        let _lock = self.lock_with(cx, &wanted, self, &[])?;
        self.move_unused(cx, &Place::live(from), &Place::live(to))
            .map_err(|error| error.while_doing(format!("renaming the {from} to {}", to.name)))
    }

    /// Gives a live snapshot another name.
    pub fn rename_snapshot(
        &self,
        cx: &Cx<'_>,
        volume: &VolumeId,
        from: &SnapshotName,
        to: &SnapshotName,
    ) -> Result<()> {
        self.must_be_good()?;
        let _lock = self.lock(cx, volume, LockMode::Exclusive)?;
        let live = Place::live(volume);
        self.move_unused(cx, &live.at_snapshot(from), &live.at_snapshot(to))
            .map_err(|error| error.while_doing(format!("renaming the snapshot {from} of the {volume}")))
    }

    /// Moves a live volume with its snapshots, or one live snapshot, into the trash: from here on its name is free.
    /// The caller has written down [`Intent::Move`](crate::Intent::Move), records the outcome and then calls
    /// [`Pool::destroy`] with the place returned.
    pub fn trash(&self, cx: &Cx<'_>, live: &Place) -> Result<Place> {
        self.must_be_good()?;
        let _lock = self.lock(cx, &live.volume, LockMode::Exclusive)?;
        let trash = live.trashed(cx.ticket());
        self.move_unused(cx, live, &trash)
            .map_err(|error| error.while_doing(format!("deleting the {live}")))?;
        Ok(trash)
    }

    /// Destroys what lies in the trash or is kept. Ok when it is gone already.
    pub fn destroy(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        self.destroy_unseen(cx, at).map_err(|error| error.while_doing(format!("destroying the {at}")))
    }

    /// Puts a live volume out of sight under `kept`, with its snapshots; nothing sweeps it. The caller has written
    /// down [`Intent::Move`](crate::Intent::Move).
    pub fn keep(&self, cx: &Cx<'_>, volume: &VolumeId, kept: KeptId) -> Result<Place> {
        self.must_be_good()?;
        let _lock = self.lock(cx, volume, LockMode::Exclusive)?;
        let to = Place::new(Area::Kept(kept), volume);
        self.move_unused(cx, &Place::live(volume), &to)
            .map_err(|error| error.while_doing(format!("keeping the {volume} out of sight")))?;
        Ok(to)
    }

    /// Brings back what [`Pool::keep`] put out of sight. Fails with `AlreadyExists` when the name was taken since.
    pub fn bring_back(&self, cx: &Cx<'_>, volume: &VolumeId, kept: KeptId) -> Result<()> {
        self.must_be_good()?;
        let _lock = self.lock(cx, volume, LockMode::Exclusive)?;
        let outcome = self.shift(cx, &Place::new(Area::Kept(kept), volume), &Place::live(volume));
        self.judged(outcome).map_err(|error| error.while_doing(format!("bringing back the {volume}")))
    }

    fn move_unused(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        self.must_be_unused(from)?;
        if from == to {
            // The tool of ZFS calls that a success.
            return Err(StorageError::already_exists(to));
        }
        let outcome = self.shift(cx, from, to);
        if outcome.is_ok() {
            self.attachments.forget(from);
        }
        self.judged(outcome)
    }

    /// Moves a place; after a failure it looks. Once the main part has moved it finishes forward, else it goes back,
    /// and only what can be neither is an undo failure.
    pub(crate) fn shift(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        let Err(error) = self.driver.rename(cx, from, to) else { return Ok(()) };
        if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound | ErrorKind::Invalid) {
            // Refused before the first step.
            return Err(error);
        }
        let cx = cx.uncancellable();
        let places = match self.driver.list(&cx).or_else(|_| self.driver.list(&cx)) {
            Ok(places) => places,
            Err(blind) => return Err(error.with_undo_failures(vec![blind])),
        };
        if places.contains(to) && !places.contains(from) && self.driver.rename(&cx, from, to).is_ok() {
            return Ok(());
        }
        match self.driver.rename(&cx, to, from) {
            Ok(()) => Err(error),
            Err(stuck) => Err(error.with_undo_failures(vec![stuck])),
        }
    }
}
