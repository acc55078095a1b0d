//! Snapshots, and what holds still for them.

use super::parse::Refusal;
use super::run::change;
use super::{Ceph, command};
use crate::filesystem::{is_mounted, is_writable};
use crate::parts::Part;
use crate::refusal::Outcome;
use larder_storage_driver::{Cx, Place, Result, StorageError};

impl Ceph {
    pub(super) fn snapshot_part(&self, cx: &Cx<'_>, at: &Place, part: Part) -> Result<()> {
        let snapshot = self.layout.spelled(at, part);
        let commands = &self.settings().commands;
        let make = || change(cx, &commands.snapshot(&snapshot));
        if make().unless(&[Refusal::Taken]).of(at.main())?.is_some() {
            return Ok(());
        }
        let main = self.layout.spelled(at, Part::main(&at.volume));
        if snapshot == main || self.is_there(cx, &main)? {
            return Err(StorageError::already_exists(at));
        }
        // Half of one that a run that was cut off began.
        self.remove_snapshot(cx, &snapshot)?;
        Ok(make()?)
    }

    /// Works while the filesystem of a volume in use holds still, with all that was written on the device.
    pub(super) fn frozen<T>(&self, cx: &Cx<'_>, of: &Place, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let target = self.mount_points.of(of);
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
}
