//! Snapshots and going back to them.

use super::parse::Refusal;
use super::run::{run, run_if_there};
use super::{Ceph, command};
use crate::filesystem::{is_mounted, is_writable};
use crate::spelling::Part;
use larder_base::SnapshotName;
use larder_storage_driver::{Cx, Place, Result, StorageError};

impl Ceph {
    pub(super) fn make_snapshot(&self, cx: &Cx<'_>, of: &Place, name: &SnapshotName) -> Result<()> {
        let at = of.at_snapshot(name);
        self.layout.check(&at)?;
        self.frozen(cx, of, || {
            Part::of(&of.volume).iter().try_for_each(|part| self.snapshot_part(cx, &at, *part))
        })
    }

    fn snapshot_part(&self, cx: &Cx<'_>, at: &Place, part: Part) -> Result<()> {
        let snapshot = self.layout.spelled(at, part);
        let commands = &self.settings().commands;
        match run(cx, &commands.snapshot(&snapshot)) {
            Ok(_) => Ok(()),
            Err(failure) if failure.is(Refusal::Missing) => Err(StorageError::not_found(at.main())),
            Err(failure) if failure.is(Refusal::Taken) => {
                if part == Part::main(&at.volume) || self.is_there(cx, at)? {
                    return Err(StorageError::already_exists(at));
                }
                // Half of one that a run that was cut off began.
                self.remove_one_snapshot(cx, &snapshot)?;
                Ok(run(cx, &commands.snapshot(&snapshot)).map(drop)?)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Works while the filesystem of a volume in use holds still, with all that was written on the device.
    pub(super) fn frozen<T>(&self, cx: &Cx<'_>, of: &Place, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let target = self.layout.mount_point(of);
        if of.snapshot.is_some() || !is_mounted(&target) || !is_writable(&target) {
            return work();
        }
        let thaw = || cx.uncancellable().run(&command::freeze(&target, false));
        if let Err(error) = cx.run(&command::freeze(&target, true)) {
            let _ = thaw();
            return Err(error);
        }
        let outcome = work();
        // A first failure is answered with a second try: what stays frozen hangs its users.
        let thawed = thaw().or_else(|_| thaw());
        let value = outcome?;
        thawed.map(|_| value)
    }

    /// The filesystem of a virtual machine goes back before its disk. The size goes back too.
    pub(super) fn roll_back(&self, cx: &Cx<'_>, at: &Place, name: &SnapshotName) -> Result<()> {
        for part in Part::of(&at.volume) {
            let (image, snapshot) =
                (self.layout.spelled(at, *part), self.layout.spelled(&at.at_snapshot(name), *part));
            self.release_where(cx, |mapped| mapped.of == image)?;
            if run_if_there(cx, &self.settings().commands.roll_back(&snapshot))?.is_none() {
                return Err(StorageError::not_found(at.at_snapshot(name)));
            }
        }
        Ok(())
    }
}
