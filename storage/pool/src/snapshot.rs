//! Snapshots: native where the technology has them, a staged copy elsewhere.

use crate::Pool;
use crate::content::copy_content;
use crate::locks::LockMode;
use crate::undo;
use larder_base::{ByteSize, SnapshotName};
use larder_storage_driver::{Cx, ErrorKind, Mode, Place, Quota, Result, SnapshotKind, VolumeId, VolumeSpec};
use larder_storage_tree::CopyMode;
use std::time::{Duration, Instant};

impl Pool {
    /// Makes a snapshot of a live volume, which may be in use. The caller has written down
    /// [`Intent::Snapshot`](crate::Intent::Snapshot).
    ///
    /// Fails with `AlreadyExists` when the volume has a snapshot of that name.
    pub fn snapshot(&self, cx: &Cx<'_>, volume: &VolumeId, name: &SnapshotName) -> Result<()> {
        self.must_be_good()?;
        let _lock = self.lock(cx, volume, LockMode::Exclusive)?;
        let live = Place::live(volume);
        let outcome = match self.driver.capabilities().snapshot {
            SnapshotKind::Native => self.snapshot_natively(cx, &live, name),
            SnapshotKind::Copied => self.snapshot_by_copy(cx, &live, name),
        };
        wait_for_another_time();
        self.judged(outcome)
            .map_err(|error| error.while_doing(format!("making the snapshot {name} of the {volume}")))
    }

    /// Makes a native snapshot in the volume's own area. After a failure it looks: listed means whole.
    pub(crate) fn snapshot_natively(&self, cx: &Cx<'_>, of: &Place, name: &SnapshotName) -> Result<()> {
        let Err(error) = self.driver.snapshot(cx, of, name) else { return Ok(()) };
        let is_refusal = matches!(
            error.kind(),
            ErrorKind::AlreadyExists | ErrorKind::NotFound | ErrorKind::Invalid | ErrorKind::Unsupported(_)
        );
        if is_refusal {
            return Err(error);
        }
        match self.settle_snapshot(&cx.uncancellable(), of, name) {
            Ok(true) => Ok(()),
            Ok(false) => Err(error),
            Err(stuck) => Err(error.with_undo_failures(vec![stuck])),
        }
    }

    /// Decides what became of an interrupted native snapshot: whole (its main part, which goes last, is there), or
    /// removed. Tells which.
    pub(crate) fn settle_snapshot(&self, cx: &Cx<'_>, of: &Place, name: &SnapshotName) -> Result<bool> {
        let at = of.at_snapshot(name);
        let places = self.driver.list(cx).or_else(|_| self.driver.list(cx))?;
        if places.contains(&at) {
            return Ok(true);
        }
        self.driver.destroy(cx, &at).or_else(|_| self.driver.destroy(cx, &at))?;
        Ok(false)
    }

    fn snapshot_by_copy(&self, cx: &Cx<'_>, live: &Place, name: &SnapshotName) -> Result<()> {
        let target = live.at_snapshot(name);
        let staged = target.staged(cx.ticket());
        let spec = self.spec_like(cx, live)?;
        undo::scope(cx, |undo| {
            undo.push("destroy the staged snapshot", |cx| self.destroy_unseen(cx, &staged));
            self.with_attached(cx, live, Mode::ReadOnly, |from| {
                self.driver.create(cx, &staged, &spec)?;
                self.with_attached(cx, &staged, Mode::ReadWrite, |to| {
                    copy_content(cx, &live.volume, from, to, CopyMode::Fresh, self.sharing(None))
                })
            })?;
            cx.checkpoint()?;
            self.publish(cx, &staged, &target)
        })
    }

    /// What a snapshot of `at` must be to hold it: a disk, or a filesystem on one, as large.
    pub(crate) fn spec_like(&self, cx: &Cx<'_>, at: &Place) -> Result<VolumeSpec> {
        let spec = VolumeSpec::new(at.volume.clone());
        if !at.volume.has_disk() && self.driver.capabilities().quota != Quota::Native {
            return Ok(spec);
        }
        let size = self.driver.usage(cx, at)?.total_bytes.map(ByteSize::from_bytes);
        Ok(VolumeSpec { size, ..spec })
    }
}

/// Waits until files that are written get another time than those written before: the kernel's clock for them goes in steps
/// of some milliseconds. What changes after a snapshot is then told from what was in it by its time alone, which is how a
/// copy that is brought from one snapshot to the next finds what to copy.
fn wait_for_another_time() {
    use rustix::time::{ClockId, clock_getres, clock_gettime};
    // Where a busy machine takes its time with the clock.
    const LIMIT: Duration = Duration::from_secs(2);
    const LEAST: Duration = Duration::from_micros(50);
    let began = Instant::now();
    let now = || clock_gettime(ClockId::RealtimeCoarse);
    let before = now();
    let step = clock_getres(ClockId::RealtimeCoarse);
    let longest = Duration::try_from(step).unwrap_or_default();
    while now() == before && began.elapsed() < LIMIT {
        // A clock that somebody sets back must not hold a snapshot up for as long.
        let left = Duration::try_from(before + step - clock_gettime(ClockId::Realtime)).unwrap_or_default();
        std::thread::sleep(left.min(longest).max(LEAST));
    }
}
