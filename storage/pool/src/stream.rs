//! Copies between two pools of one technology by its own stream. Whatever a stream does not carry is copied file by file.

use crate::Pool;
use crate::copy::{CopyPlan, CopySource};
use crate::refresh::{RefreshPlan, RefreshedSnapshot};
use larder_base::SnapshotName;
use larder_storage_driver::{
    Cx, ErrorKind, Need, Place, Quota, Result, StorageError, Stream, VolumeSpec, piped,
};

/// The two ends of a stream, what goes through it, and what both ends have already.
struct Carrier<'a> {
    source: CopySource<'a>,
    from: &'a dyn Stream,
    to: &'a dyn Stream,
    staged: &'a Place,
    spec: &'a VolumeSpec,
    base: Option<Base>,
}

/// A snapshot on its way, and what it is known by.
type Known = (SnapshotName, String);

/// A snapshot that both ends have.
#[derive(Debug, Clone)]
struct Base {
    theirs: Place,
    ours: Place,
}

impl Carrier<'_> {
    fn theirs(&self) -> Option<&Place> {
        self.base.as_ref().map(|base| &base.theirs)
    }

    fn ours(&self) -> Option<&Place> {
        self.base.as_ref().map(|base| &base.ours)
    }

    /// Carries one snapshot or picture of the source to `at`.
    fn carry(&self, cx: &Cx<'_>, from: &Place, at: &Place) -> Result<()> {
        cx.checkpoint()?;
        let (sent, received) = piped(
            |into| self.from.send(cx, from, self.theirs(), into),
            |stream| self.to.receive(cx, at, self.ours(), self.spec, stream),
        )?;
        match (sent, received) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(error), Ok(())) | (Ok(()), Err(error)) => Err(error),
            // Each end fails when the other does: the one that knows more tells.
            (Err(sent), Err(received)) => {
                tracing::warn!(sent = %sent.chain(), received = %received.chain(), "both ends of a stream failed");
                Err(if received.kind() == ErrorKind::Unexpected { sent } else { received })
            }
        }
    }

    /// What snapshots of the source are known by; `None` when one of them can't be carried.
    fn known(&self, cx: &Cx<'_>, names: &[SnapshotName]) -> Result<Option<Vec<Known>>> {
        let live = Place::live(self.source.volume);
        let known = |name: &SnapshotName| {
            let identity = self.from.identity(cx, &live.at_snapshot(name))?;
            Ok(identity.map(|identity| (name.clone(), identity)))
        };
        names.iter().map(|name| known(name).transpose()).collect::<Option<Result<_>>>().transpose()
    }

    /// Carries snapshots, oldest first.
    fn carry_snapshots(&mut self, cx: &Cx<'_>, snapshots: &[Known]) -> Result<()> {
        let live = Place::live(self.source.volume);
        for (name, identity) in snapshots {
            let (theirs, ours) = (live.at_snapshot(name), self.staged.at_snapshot(name));
            self.carry(cx, &theirs, &ours)?;
            self.to.note(cx, &ours, identity)?;
            self.base = Some(Base { theirs, ours });
        }
        Ok(())
    }

    /// Carries snapshots, oldest first, and then the volume.
    fn carry_all(&mut self, cx: &Cx<'_>, snapshots: &[Known], last: &Place) -> Result<()> {
        self.carry_snapshots(cx, snapshots)?;
        self.carry(cx, last, self.staged)
    }
}

impl Pool {
    /// Stages a copy by a stream. Tells whether it did: if not, nothing is staged.
    pub(crate) fn stage_streamed(
        &self,
        cx: &Cx<'_>,
        staged: &Place,
        source: CopySource<'_>,
        plan: &CopyPlan<'_>,
    ) -> Result<bool> {
        match self.carrier(cx, staged, source, plan.spec)? {
            Some(carrier) => self.stage_carried(cx, carrier, &[], plan.snapshots),
            None => Ok(false),
        }
    }

    /// Stages what a refreshed copy shall be by a stream, as long as the two have a snapshot in common that it can be sent on
    /// top of. Tells whether it did: if not, nothing is staged.
    pub(crate) fn stage_refresh_streamed(
        &self,
        cx: &Cx<'_>,
        staged: &Place,
        source: CopySource<'_>,
        plan: &RefreshPlan<'_>,
    ) -> Result<bool> {
        let Some(mut carrier) = self.carrier(cx, staged, source, plan.spec)? else { return Ok(false) };
        carrier.base = self.common_base(cx, &carrier, plan)?;
        if carrier.base.is_none() {
            return Ok(false);
        }
        let (new, staying): (Vec<_>, Vec<_>) =
            plan.snapshots.iter().cloned().partition(|snapshot| snapshot.is_new);
        let names = |of: Vec<RefreshedSnapshot>| of.into_iter().map(|snapshot| snapshot.name).collect();
        let (new, staying): (Vec<_>, Vec<_>) = (names(new), names(staying));
        let along = if carrier.to.takes_over() { &[][..] } else { &staying };
        self.stage_carried(cx, carrier, along, &new)
    }

    /// Carries snapshots that stay from the live volume to the staged one, which takes none over.
    fn carry_along(&self, cx: &Cx<'_>, carrier: &mut Carrier<'_>, names: &[SnapshotName]) -> Result<()> {
        let source = CopySource { pool: self, volume: &carrier.spec.id, snapshot: None };
        let mut own = Carrier { source, from: carrier.to, base: None, ..*carrier };
        let Some(known) = own.known(cx, names)? else {
            let message = format!("a snapshot of {} can't be carried", carrier.spec.id);
            return Err(StorageError::unsupported(Need::Stream, message));
        };
        own.carry_snapshots(cx, &known)?;
        if let (Some(base), Some(own)) = (&mut carrier.base, own.base) {
            base.ours = own.ours;
        }
        Ok(())
    }

    /// The newest snapshot that stays and that the source has too. Where snapshots can't leave their volume, only what comes after
    /// all those that stay can be built on them.
    fn common_base(
        &self,
        cx: &Cx<'_>,
        carrier: &Carrier<'_>,
        plan: &RefreshPlan<'_>,
    ) -> Result<Option<Base>> {
        let count = plan.snapshots.iter().filter(|snapshot| !snapshot.is_new).count();
        let are_first = plan.snapshots.iter().take(count).all(|snapshot| !snapshot.is_new);
        let candidates = match self.moves_snapshots() {
            true => count,
            false if are_first => 1,
            false => 0,
        };
        let there = carrier.source.pool.driver.list(cx)?;
        let staying = plan.snapshots.iter().rev().filter(|snapshot| !snapshot.is_new);
        for snapshot in staying.take(candidates) {
            let ours = Place::live(&plan.spec.id).at_snapshot(&snapshot.name);
            let theirs = Place::live(carrier.source.volume).at_snapshot(&snapshot.name);
            let known = carrier.to.identity(cx, &ours)?;
            if known.is_some() && there.contains(&theirs) && carrier.from.identity(cx, &theirs)? == known {
                return Ok(Some(Base { theirs, ours }));
            }
        }
        Ok(None)
    }

    /// The ends, where both pools have one and they understand each other.
    fn carrier<'a>(
        &'a self,
        cx: &Cx<'_>,
        staged: &'a Place,
        source: CopySource<'a>,
        spec: &'a VolumeSpec,
    ) -> Result<Option<Carrier<'a>>> {
        let (Some(from), Some(to)) = (source.pool.driver.stream(), self.driver.stream()) else {
            return Ok(None);
        };
        let content = &source.volume.content;
        if !from.contents().contains(content) || !to.contents().contains(content) {
            return Ok(None);
        }
        let (Some(there), Some(here)) = (from.end()?, to.end()?) else { return Ok(None) };
        let is_open = here.understands(&there) && self.surely_fits(cx, source, spec)?;
        Ok(is_open.then_some(Carrier { source, from, to, staged, spec, base: None }))
    }

    /// A stream is not stopped by a limit that is smaller than what it carries.
    fn surely_fits(&self, cx: &Cx<'_>, source: CopySource<'_>, spec: &VolumeSpec) -> Result<bool> {
        let limit = spec.size.filter(|_| self.driver.capabilities().quota != Quota::None);
        let Some(limit) = limit else { return Ok(true) };
        let most = source.pool.driver.usage(cx, &source.place())?.total_bytes;
        Ok(most.is_some_and(|most| most <= limit.as_bytes()))
    }

    /// Stages the snapshots of the own volume that come `along`, those of the source named, and the source itself.
    fn stage_carried(
        &self,
        cx: &Cx<'_>,
        mut carrier: Carrier<'_>,
        along: &[SnapshotName],
        names: &[SnapshotName],
    ) -> Result<bool> {
        let (source, staged) = (carrier.source, carrier.staged);
        let itself: Vec<SnapshotName> = source.snapshot.into_iter().cloned().collect();
        let (Some(known), Some(_)) = (carrier.known(cx, names)?, carrier.known(cx, &itself)?) else {
            return Ok(false);
        };
        let carried = carrier.to.begin(cx, staged, carrier.ours(), carrier.spec).and_then(|()| {
            self.carry_along(cx, &mut carrier, along)?;
            let live = Place::live(source.volume);
            match source.snapshot {
                Some(_) => carrier.carry_all(cx, &known, &source.place()),
                None => source
                    .pool
                    .with_picture(cx, carrier.from, &live, |picture| carrier.carry_all(cx, &known, picture)),
            }
        });
        match carried {
            Ok(()) => Ok(true),
            Err(error) if is_for_files(&error) => {
                tracing::warn!(volume = %staged.volume, error = %error.chain(), "no stream: copying files");
                self.destroy_unseen(cx, staged)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Works with a picture of a live volume of this pool, and destroys it whatever comes.
    fn with_picture<T>(
        &self,
        cx: &Cx<'_>,
        stream: &dyn Stream,
        live: &Place,
        work: impl FnOnce(&Place) -> Result<T>,
    ) -> Result<T> {
        let picture = stream.picture_place(live, cx.ticket());
        let outcome = stream.picture(cx, live, &picture).and_then(|()| work(&picture));
        match (outcome, self.destroy_unseen(cx, &picture)) {
            (outcome, Ok(())) => outcome,
            (Ok(_), Err(stuck)) => Err(stuck),
            (Err(error), Err(stuck)) => Err(error.with_undo_failures(vec![stuck])),
        }
    }
}

/// Whether copying files may do what a stream did not.
fn is_for_files(error: &StorageError) -> bool {
    error.undo_failures().is_empty()
        && matches!(error.kind(), ErrorKind::Unexpected | ErrorKind::Unsupported(_))
}
