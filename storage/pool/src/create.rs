//! New volumes: staged, filled, published.

use crate::Pool;
use crate::locks::LockMode;
use crate::undo;
use larder_base::SnapshotName;
use larder_base::host::FsAct;
use larder_storage_driver::{
    Attached, Cx, ErrorKind, KeyScope, Mode, Need, Place, Result, SnapshotKind, StorageError, VolumeSpec,
    check_config,
};

/// What puts the first content into a new volume: nothing, an image, a copy, a backup.
pub trait Fill {
    /// Fills `into`, an empty staged volume attached for writing.
    fn fill(&self, cx: &Cx<'_>, into: &Attached) -> Result<()>;
}

/// Leaves the volume empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptyFill;

impl Fill for EmptyFill {
    fn fill(&self, _: &Cx<'_>, _: &Attached) -> Result<()> {
        Ok(())
    }
}

impl<F: Fn(&Cx<'_>, &Attached) -> Result<()>> Fill for F {
    fn fill(&self, cx: &Cx<'_>, into: &Attached) -> Result<()> {
        self(cx, into)
    }
}

impl Pool {
    /// Makes a live volume with the content that `fill` puts in. All or nothing.
    ///
    /// Fails with kind `Invalid` or `Unsupported` before anything changed, with `AlreadyExists` when the name
    /// is taken.
    pub fn create_volume(&self, cx: &Cx<'_>, spec: &VolumeSpec, fill: &dyn Fill) -> Result<()> {
        self.create_with_snapshots(cx, spec, &[], fill)
    }

    /// The same, and calls `agree` once the volume is whole in staging and before it is published: what the caller
    /// commits there, with [`Intent::Publish`](crate::Intent::Publish), makes the creation certain, and what comes after
    /// is finished forward. When `agree` fails the staged volume is removed and its error is given back.
    pub fn create_agreed(
        &self,
        cx: &Cx<'_>,
        spec: &VolumeSpec,
        fill: &dyn Fill,
        agree: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        self.create_published(cx, spec, &[], fill, agree)
    }

    /// Makes a live volume with snapshots, oldest first, each with the content its own `Fill` puts in; the volume's own
    /// comes last. All or nothing: snapshots included. Fails as [`Pool::create_volume`] does.
    pub fn create_with_snapshots(
        &self,
        cx: &Cx<'_>,
        spec: &VolumeSpec,
        snapshots: &[(SnapshotName, &dyn Fill)],
        fill: &dyn Fill,
    ) -> Result<()> {
        self.create_published(cx, spec, snapshots, fill, &|| Ok(()))
    }

    fn create_published(
        &self,
        cx: &Cx<'_>,
        spec: &VolumeSpec,
        snapshots: &[(SnapshotName, &dyn Fill)],
        fill: &dyn Fill,
        agree: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        self.must_be_good()?;
        self.check_spec(spec)?;
        let _lock = self.lock(cx, &spec.id, LockMode::Exclusive)?;
        let live = Place::live(&spec.id);
        let staged = live.staged(cx.ticket());
        let outcome = undo::scope(cx, |undo| {
            undo.push("destroy the staged volume", |cx| self.withdraw(cx, &staged));
            self.driver.create(cx, &staged, spec)?;
            for (name, fill) in snapshots {
                cx.checkpoint()?;
                self.stage_snapshot(cx, &staged, spec, name, *fill)?;
            }
            cx.checkpoint()?;
            self.with_attached(cx, &staged, Mode::ReadWrite, |target| fill.fill(cx, target))?;
            cx.checkpoint()?;
            agree()?;
            self.publish(cx, &staged, &live)
        });
        self.judged(outcome).map_err(|error| error.while_doing(format!("creating the {}", spec.id)))
    }

    fn stage_snapshot(
        &self,
        cx: &Cx<'_>,
        staged: &Place,
        spec: &VolumeSpec,
        name: &SnapshotName,
        fill: &dyn Fill,
    ) -> Result<()> {
        match self.driver.capabilities().snapshot {
            SnapshotKind::Copied => {
                let target = staged.at_snapshot(name);
                self.driver.create(cx, &target, spec)?;
                self.with_attached(cx, &target, Mode::ReadWrite, |target| fill.fill(cx, target))
            }
            SnapshotKind::Native => {
                self.with_attached(cx, staged, Mode::ReadWrite, |target| fill.fill(cx, target))?;
                self.snapshot_natively(cx, staged, name)?;
                self.with_attached(cx, staged, Mode::ReadWrite, |target| empty(cx, target))
            }
        }
    }

    /// Checks all that can be known before the first change.
    pub(crate) fn check_spec(&self, spec: &VolumeSpec) -> Result<()> {
        let capabilities = self.driver.capabilities();
        let driver = self.driver.name();
        if !capabilities.contents.contains(&spec.id.content) {
            let need = Need::Content(spec.id.content);
            let message = format!("the {driver} driver keeps no volumes of content type {}", spec.id.content);
            return Err(StorageError::unsupported(need, message));
        }
        check_config(&spec.config, KeyScope::Volume, self.driver.config_keys(), driver)?;
        if spec.id.has_disk() && spec.size.is_some_and(|size| size.as_bytes() == 0) {
            return Err(StorageError::new(
                ErrorKind::Invalid,
                "a disk can't have a size of 0: give one such as 10GiB",
            ));
        }
        Ok(())
    }

    /// Renames staged to live. After a failure it looks: with the main part at its live name the volume is
    /// published, whatever the tool said; else what had moved is pulled back.
    pub(crate) fn publish(&self, cx: &Cx<'_>, staged: &Place, live: &Place) -> Result<()> {
        self.attachments.forget(staged);
        self.shift(cx, staged, live)
    }

    /// Destroys a staged place, after pulling back what an interrupted publish may have moved out of it.
    pub(crate) fn withdraw(&self, cx: &Cx<'_>, staged: &Place) -> Result<()> {
        let places = self.driver.list(cx).or_else(|_| self.driver.list(cx))?;
        let live = staged.within(larder_storage_driver::Area::Live);
        if places.contains(staged) && !places.contains(&live) {
            match self.driver.rename(cx, &live, staged).or_else(|_| self.driver.rename(cx, &live, staged)) {
                // An unfinished disk may look like a tree of files: the live volume of its name is another one.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
        self.destroy_unseen(cx, staged)
    }
}

/// Takes everything out of a volume's tree again; a disk is overwritten by what comes next.
fn empty(cx: &Cx<'_>, attached: &Attached) -> Result<()> {
    let Some(directory) = &attached.directory else { return Ok(()) };
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if attached.disk.as_ref() != Some(&path) {
            cx.act(&FsAct::remove_tree(path))?;
        }
    }
    Ok(())
}
