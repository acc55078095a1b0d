//! Going back to a snapshot.

use crate::Pool;
use crate::content::{Sharing, copy_content};
use crate::locks::LockMode;
use crate::undo;
use larder_base::SnapshotName;
use larder_storage_driver::{
    Attached, CloneKind, Content, Cx, ErrorKind, Mode, Need, Place, Restore, Result, StorageError, Trees,
    VolumeId, VolumeSpec,
};
use larder_storage_tree::CopyMode;

impl Pool {
    /// Puts a live volume, which nobody uses, back to its snapshot `name`. `spec` is the volume as it shall be
    /// (its size); `newest` says whether no younger snapshot exists. The caller has written down
    /// [`Intent::Restore`](crate::Intent::Restore).
    pub fn restore(
        &self,
        cx: &Cx<'_>,
        spec: &VolumeSpec,
        name: &SnapshotName,
        is_newest: bool,
    ) -> Result<()> {
        self.must_be_good()?;
        let _lock = self.lock(cx, &spec.id, LockMode::Exclusive)?;
        let live = Place::live(&spec.id);
        self.must_be_unused(&live)?;
        let how = self.driver.capabilities().restore;
        if how == Restore::InPlaceNewest && !is_newest {
            let message =
                format!("{} can only go back to its newest snapshot: delete the younger ones first", spec.id);
            return Err(StorageError::unsupported(Need::RestoreOlder, message));
        }
        let outcome = self.restore_unlocked(cx, spec, name, how);
        self.judged(outcome)
            .map_err(|error| error.while_doing(format!("restoring the {} to {name}", spec.id)))
    }

    pub(crate) fn restore_unlocked(
        &self,
        cx: &Cx<'_>,
        spec: &VolumeSpec,
        name: &SnapshotName,
        how: Restore,
    ) -> Result<()> {
        match how {
            Restore::Exchange => match self.restore_by_exchange(cx, spec, name) {
                Err(error) if is_worth_repeating(&spec.id, &error) => {
                    // Half of a two-part exchange may have happened: only going on makes the volume whole again.
                    self.restore_by_exchange(&cx.uncancellable(), spec, name)
                        .map_err(|again| error.with_undo_failures(vec![again]))
                }
                other => other,
            },
            Restore::InPlace | Restore::InPlaceNewest => self.restore_in_place(cx, spec, name),
        }
    }

    fn restore_in_place(&self, cx: &Cx<'_>, spec: &VolumeSpec, name: &SnapshotName) -> Result<()> {
        let live = Place::live(&spec.id);
        match self.driver.restore(cx, &live, name) {
            Err(error) if is_refusal(&error) => return Err(error),
            // A rollback that has begun can only be finished.
            Err(error) => self
                .driver
                .restore(&cx.uncancellable(), &live, name)
                .map_err(|again| error.with_undo_failures(vec![again]))?,
            Ok(()) => {}
        }
        self.fit_again(&cx.uncancellable(), spec)
    }

    /// What was rolled back may be as large as it was then: it becomes as large as it shall be. A disk stays larger, and so does a
    /// filesystem with too much in it.
    fn fit_again(&self, cx: &Cx<'_>, spec: &VolumeSpec) -> Result<()> {
        let Some(size) = spec.size.filter(|_| spec.id.content != Content::Iso) else { return Ok(()) };
        let live = Place::live(&spec.id);
        match self.driver.resize(cx, &live, Some(size)) {
            Err(error) if is_too_much(&error) => {
                tracing::warn!(volume = %spec.id, error = %error.chain(), "what was restored keeps its size");
                Ok(())
            }
            Err(error) => self
                .driver
                .resize(cx, &live, Some(size))
                .map_err(|again| error.with_undo_failures(vec![again])),
            Ok(()) => Ok(()),
        }
    }

    fn restore_by_exchange(&self, cx: &Cx<'_>, spec: &VolumeSpec, name: &SnapshotName) -> Result<()> {
        let live = Place::live(&spec.id);
        let from = live.at_snapshot(name);
        let staged = live.staged(cx.ticket());
        undo::scope(cx, |undo| {
            undo.push("destroy the staged volume", |cx| self.destroy_unseen(cx, &staged));
            self.stage_restored(cx, &staged, &from, &live, spec)?;
            cx.checkpoint()?;
            // From here on `staged` may hold what was live before. Either way the other one goes.
            self.driver.exchange(&cx.uncancellable(), &staged, &live)
        })?;
        self.destroy_unseen(cx, &staged)
    }

    /// Builds what shall take the place of `live`, which nobody uses: its files that are the same in `from` get a second name
    /// where they can have one, until what is live now goes.
    fn stage_restored(
        &self,
        cx: &Cx<'_>,
        staged: &Place,
        from: &Place,
        live: &Place,
        spec: &VolumeSpec,
    ) -> Result<()> {
        match self.driver.capabilities().trees {
            Trees::Apart => self.stage_from(cx, staged, from, spec),
            Trees::Together => self.with_attached(cx, live, Mode::ReadOnly, |live| {
                self.stage_beside(cx, staged, from, spec, Some(live))
            }),
        }
    }

    /// Builds a staged volume with the content of another place of this pool.
    pub(crate) fn stage_from(
        &self,
        cx: &Cx<'_>,
        staged: &Place,
        from: &Place,
        spec: &VolumeSpec,
    ) -> Result<()> {
        match self.driver.capabilities().clone {
            CloneKind::Independent => self.driver.create_clone(cx, staged, from, spec),
            CloneKind::Dependent | CloneKind::None => self.stage_beside(cx, staged, from, spec, None),
        }
    }

    /// What copies within this pool may share.
    pub(crate) fn sharing<'a>(&self, alike: Option<&'a Attached>) -> Sharing<'a> {
        Sharing { alike, is_together: self.driver.capabilities().trees == Trees::Together }
    }

    fn stage_beside(
        &self,
        cx: &Cx<'_>,
        staged: &Place,
        from: &Place,
        spec: &VolumeSpec,
        alike: Option<&Attached>,
    ) -> Result<()> {
        self.with_attached(cx, from, Mode::ReadOnly, |source| {
            self.driver.create(cx, staged, spec)?;
            self.with_attached(cx, staged, Mode::ReadWrite, |target| {
                copy_content(cx, &spec.id, source, target, CopyMode::Fresh, self.sharing(alike))
            })
        })
    }
}

/// Whether a size was refused because what is there does not fit, so that nothing has changed.
pub(crate) fn is_too_much(error: &StorageError) -> bool {
    matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported(_))
}

fn is_worth_repeating(volume: &VolumeId, error: &StorageError) -> bool {
    volume.has_two_parts() && !is_refusal(error)
}

fn is_refusal(error: &StorageError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::Invalid
            | ErrorKind::Unsupported(_)
            | ErrorKind::InUse
            | ErrorKind::Cancelled
    )
}
