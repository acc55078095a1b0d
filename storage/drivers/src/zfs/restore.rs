//! Going back to a snapshot, in place.

use super::parse::{self, SnapshotRow};
use super::run::{change, run};
use super::{Zfs, command};
use crate::parts::Part;
use crate::refusal::Outcome;
use larder_storage_driver::{Cx, ErrorKind, Need, Place, Result, StorageError};

impl Zfs {
    pub(super) fn roll_back(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        let younger = self.younger(cx, at)?;
        must_be_newest(at, &younger)?;
        must_have_no_clones(at, &younger)?;
        // All was looked at before the first part goes back. What is younger lies in the trash.
        for part in Part::of(&at.volume) {
            self.unmount_all_of(cx, &at.main(), *part)?;
            change(cx, &command::rollback(&self.layout.spelled(at, *part)))?;
        }
        // The sizes of zvols go back too: they are the pool's affair.
        Ok(())
    }

    /// The snapshots of all parts of a volume that are younger than one of it.
    pub(super) fn younger(&self, cx: &Cx<'_>, than: &Place) -> Result<Vec<SnapshotRow>> {
        let datasets: Vec<String> =
            Part::of(&than.volume).iter().map(|part| self.layout.part(than, *part)).collect();
        let text = run(cx, &command::list_snapshots("name,clones", &datasets)).of(than.main())?;
        let (rows, mut younger) = (parse::snapshots(&text), Vec::new());
        for (part, dataset) in Part::of(&than.volume).iter().zip(datasets) {
            let spelled = self.layout.spelled(than, *part);
            let mut own = rows.iter().filter(|row| row.dataset == dataset);
            let is_it = |row: &&SnapshotRow| spelled.ends_with(&format!("@{}", row.tag));
            own.by_ref().find(is_it).ok_or_else(|| StorageError::not_found(than))?;
            younger.extend(own.cloned());
        }
        Ok(younger)
    }
}

fn must_be_newest(at: &Place, younger: &[SnapshotRow]) -> Result<()> {
    match younger.iter().find_map(|row| row.tag.strip_prefix("snapshot-")) {
        None => Ok(()),
        Some(name) => {
            let message = format!(
                "{at} can't be restored because the snapshot {name} is younger: delete it, or set zfs.remove_snapshots"
            );
            Err(StorageError::unsupported(Need::RestoreOlder, message))
        }
    }
}

/// Refuses when something was cloned from the volume since the snapshot: a clone can't be pulled away from under its users, and
/// the rollback would have to.
pub(super) fn must_have_no_clones(at: &Place, younger: &[SnapshotRow]) -> Result<()> {
    match younger.iter().find_map(|row| row.clones.first()) {
        None => Ok(()),
        Some(clone) => {
            let message = format!(
                "{at} can't be restored because the volume was copied since, and the copy ({clone}) shares blocks with \
                 it: delete the copy, or make copies with zfs.clone_copy=false"
            );
            Err(StorageError::new(ErrorKind::InUse, message))
        }
    }
}
