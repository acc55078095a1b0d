//! Copies: within a pool, between pools, with snapshots. New bytes or shared blocks, the same for the caller.

use crate::Pool;
use crate::content::{Sharing, copy_content};
use crate::locks::LockMode;
use crate::undo;
use larder_base::{ByteSize, SnapshotName};
use larder_storage_driver::{
    CloneKind, Content, Cx, ErrorKind, Mode, Need, Place, Quota, Result, SnapshotKind, StorageError,
    VolumeId, VolumeSpec,
};
use larder_storage_tree::CopyMode;

/// What is copied.
#[derive(Debug, Clone, Copy)]
pub struct CopySource<'a> {
    /// The pool it is in.
    pub pool: &'a Pool,
    /// The live volume.
    pub volume: &'a VolumeId,
    /// One of its snapshots, to copy as it was then; `None` for as it is.
    pub snapshot: Option<&'a SnapshotName>,
}

impl CopySource<'_> {
    pub(crate) fn place(&self) -> Place {
        let live = Place::live(self.volume);
        match self.snapshot {
            Some(snapshot) => live.at_snapshot(snapshot),
            None => live,
        }
    }
}

/// What the copy shall be.
#[derive(Debug, Clone)]
pub struct CopyPlan<'a> {
    /// The new volume.
    pub spec: &'a VolumeSpec,
    /// Which snapshots come along, oldest first. Empty when a snapshot is the source.
    pub snapshots: &'a [SnapshotName],
}

impl Pool {
    /// Makes a live copy, in this pool, of a volume or snapshot in this or another pool. All or nothing: snapshots
    /// included. The source stays usable.
    pub fn copy_volume(&self, cx: &Cx<'_>, source: CopySource<'_>, plan: &CopyPlan<'_>) -> Result<()> {
        self.must_be_good()?;
        self.check_spec(plan.spec)?;
        let id = &plan.spec.id;
        if source.volume.content != id.content {
            let message = format!("a {} volume can't become a {} volume", source.volume.content, id.content);
            return Err(StorageError::new(ErrorKind::Invalid, message));
        }
        if source.pool.name == self.name && source.volume == id {
            return Err(StorageError::already_exists(id));
        }
        let theirs = [(source.volume, LockMode::Shared)];
        let _lock = self.lock_with(cx, &[(id, LockMode::Exclusive)], source.pool, &theirs)?;
        let live = Place::live(id);
        let staged = live.staged(cx.ticket());
        let outcome = undo::scope(cx, |undo| {
            undo.push("destroy the staged copy", |cx| self.withdraw(cx, &staged));
            self.stage_copy(cx, &staged, source, plan)?;
            cx.checkpoint()?;
            self.publish(cx, &staged, &live)
        });
        self.judged(outcome)
            .map_err(|error| error.while_doing(format!("copying the {} to the {id}", source.volume)))
    }

    fn stage_copy(
        &self,
        cx: &Cx<'_>,
        staged: &Place,
        source: CopySource<'_>,
        plan: &CopyPlan<'_>,
    ) -> Result<()> {
        let is_same_pool = source.pool.name == self.name;
        let can_clone = self.driver.capabilities().clone != CloneKind::None;
        if is_same_pool && can_clone && plan.snapshots.is_empty() {
            match self.driver.create_clone(cx, staged, &source.place(), plan.spec) {
                // These two can't share blocks.
                Err(error) if error.kind() == ErrorKind::Unsupported(Need::Clone) => {}
                other => return other,
            }
        }
        if is_same_pool && can_clone {
            let (from, names) = (source.place(), plan.snapshots);
            match self.driver.create_clone_with_snapshots(cx, staged, &from, names, plan.spec) {
                Err(error) if matches!(error.kind(), ErrorKind::Unsupported(_)) => {}
                other => return other,
            }
        }
        self.stage_contents(cx, staged, source, plan)
    }

    /// The same without a clone: by a stream, or with every byte written.
    pub(crate) fn stage_contents(
        &self,
        cx: &Cx<'_>,
        staged: &Place,
        source: CopySource<'_>,
        plan: &CopyPlan<'_>,
    ) -> Result<()> {
        let spec = &holding(cx, plan.spec, &[(source.pool, source.place())])?;
        let plan = &CopyPlan { spec, ..plan.clone() };
        if self.stage_streamed(cx, staged, source, plan)? {
            return Ok(());
        }
        self.driver.create(cx, staged, spec)?;
        match self.driver.capabilities().snapshot {
            SnapshotKind::Copied => self.stage_copied_snapshots(cx, staged, source, plan)?,
            SnapshotKind::Native => self.stage_native_snapshots(cx, staged, source, plan)?,
        }
        let mode = match self.driver.capabilities().snapshot {
            SnapshotKind::Native if !plan.snapshots.is_empty() => CopyMode::Refresh,
            _ => CopyMode::Fresh,
        };
        self.fill_from(cx, staged, source, &source.place(), mode)
    }

    /// Each snapshot is a tree of its own.
    fn stage_copied_snapshots(
        &self,
        cx: &Cx<'_>,
        staged: &Place,
        source: CopySource<'_>,
        plan: &CopyPlan<'_>,
    ) -> Result<()> {
        for name in plan.snapshots {
            cx.checkpoint()?;
            self.stage_copied_snapshot(cx, staged, source, name, plan.spec.size)?;
        }
        Ok(())
    }

    pub(crate) fn stage_copied_snapshot(
        &self,
        cx: &Cx<'_>,
        staged: &Place,
        source: CopySource<'_>,
        name: &SnapshotName,
        size: Option<ByteSize>,
    ) -> Result<()> {
        let target = staged.at_snapshot(name);
        let from = Place::live(source.volume).at_snapshot(name);
        let mut like = source.pool.spec_like(cx, &from)?;
        if self.driver.capabilities().quota == Quota::Native {
            like.size = like.size.or(size);
        }
        self.driver.create(cx, &target, &VolumeSpec { id: staged.volume.clone(), ..like })?;
        self.fill_from(cx, &target, source, &from, CopyMode::Fresh)
    }

    /// The volume is brought to each snapshot's state in turn, so that blocks are shared where the technology can.
    fn stage_native_snapshots(
        &self,
        cx: &Cx<'_>,
        staged: &Place,
        source: CopySource<'_>,
        plan: &CopyPlan<'_>,
    ) -> Result<()> {
        let mut mode = CopyMode::Fresh;
        for name in plan.snapshots {
            cx.checkpoint()?;
            let from = Place::live(source.volume).at_snapshot(name);
            self.fill_from(cx, staged, source, &from, mode)?;
            self.snapshot_natively(cx, staged, name)?;
            mode = CopyMode::Refresh;
        }
        Ok(())
    }

    pub(crate) fn fill_from(
        &self,
        cx: &Cx<'_>,
        target: &Place,
        source: CopySource<'_>,
        from: &Place,
        mode: CopyMode,
    ) -> Result<()> {
        let is_own = std::ptr::eq(self, source.pool);
        let sharing = if is_own { self.sharing(None) } else { Sharing::default() };
        self.fill_sharing(cx, target, source, from, (mode, sharing))
    }

    /// The same, with what may be shared.
    pub(crate) fn fill_sharing(
        &self,
        cx: &Cx<'_>,
        target: &Place,
        source: CopySource<'_>,
        from: &Place,
        (mode, sharing): (CopyMode, Sharing<'_>),
    ) -> Result<()> {
        source.pool.with_attached(cx, from, Mode::ReadOnly, |read| {
            self.with_attached(cx, target, Mode::ReadWrite, |write| {
                copy_content(cx, &target.volume, read, write, mode, sharing)
            })
        })
    }
}

/// What a volume must be to hold the disks at `places` too: one may be larger than what is recorded of it, as it lies on a device
/// that has whole extents alone, or came from such a one.
pub(crate) fn holding(cx: &Cx<'_>, spec: &VolumeSpec, places: &[(&Pool, Place)]) -> Result<VolumeSpec> {
    let mut spec = spec.clone();
    if !spec.id.has_disk() {
        return Ok(spec);
    }
    let mut wanted = match spec.id.content {
        Content::Iso => spec.size.unwrap_or_default(),
        Content::Block | Content::Filesystem => spec.disk_size(),
    };
    for (pool, place) in places {
        let found = ByteSize::from_bytes(pool.driver.usage(cx, place)?.total_bytes.unwrap_or_default());
        if found > wanted {
            wanted = found;
            spec.size = Some(found);
        }
    }
    Ok(spec)
}
