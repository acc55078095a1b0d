//! Snapshots, made while what is mounted holds still.

use super::Ceph;
use crate::cluster::{Refusal, change};
use crate::filesystem::held_still;
use crate::parts::Part;
use crate::refusal::Outcome;
use larder_storage_driver::{Cx, Place, Result, StorageError};

impl Ceph {
    /// Makes a snapshot of a volume at a place where snapshots can be: its own, or the trash.
    pub(super) fn snapshot_at(&self, cx: &Cx<'_>, of: &Place, at: &Place) -> Result<()> {
        self.check(at)?;
        held_still(cx, &self.mount_points.of(of), || {
            Part::of(&of.volume).iter().try_for_each(|part| self.snapshot_part(cx, at, *part))
        })
    }

    fn snapshot_part(&self, cx: &Cx<'_>, at: &Place, part: Part) -> Result<()> {
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
}
