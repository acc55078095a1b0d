//! Going back to a snapshot, in place.

use super::layout::parts_of;
use super::parse::{self, SnapshotRow};
use super::run::run;
use super::{Zfs, command};
use larder_storage_driver::{Cx, ErrorKind, Need, Place, Result, StorageError};

impl Zfs {
    pub(super) fn roll_back(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        let datasets: Vec<String> =
            parts_of(&at.volume).iter().map(|part| self.layout.part(at, *part)).collect();
        let text = run(cx, &command::list_snapshots("name,clones", &datasets)).map_err(|failure| {
            match failure.refusal {
                Some(parse::Refusal::Missing) => StorageError::not_found(at.main()),
                _ => failure.into(),
            }
        })?;
        let rows = parse::snapshots(&text);
        let mut rollbacks = Vec::new();
        for part in parts_of(&at.volume) {
            let spelled = self.layout.spelled(at, *part);
            let has_newer = must_be_newest(at, &spelled, &rows)?;
            rollbacks.push((self.layout.part(at, *part), command::rollback(&spelled, has_newer)));
        }
        // All was looked at before the first part goes back.
        for (dataset, rollback) in rollbacks {
            self.unmount_all_of(cx, &dataset)?;
            run(cx, &rollback)?;
        }
        Ok(())
    }
}

/// Refuses when a younger snapshot would be lost. Tells whether there are younger ones that may be: those in the trash.
fn must_be_newest(at: &Place, spelled: &str, rows: &[SnapshotRow<'_>]) -> Result<bool> {
    let (dataset, tag) = spelled.split_once('@').unwrap_or((spelled, ""));
    let mut own = rows.iter().filter(|row| row.dataset == dataset);
    if !own.by_ref().any(|row| row.tag == tag) {
        return Err(StorageError::not_found(at));
    }
    let younger: Vec<_> = own.collect();
    if let Some(row) = younger.iter().find(|row| row.tag.starts_with("snapshot-")) {
        let name = row.tag.trim_start_matches("snapshot-");
        let message = format!(
            "{at} can't be restored because the snapshot {name} is younger: delete it, or set zfs.remove_snapshots"
        );
        return Err(StorageError::unsupported(Need::RestoreOlder, message));
    }
    if let Some(clone) = younger.iter().find_map(|row| row.clones.first()) {
        let message = format!(
            "{at} can't be restored because the volume was copied since, and the copy ({clone}) shares blocks with it: \
             delete the copy, or make copies with zfs.clone_copy=false"
        );
        return Err(StorageError::new(ErrorKind::InUse, message));
    }
    Ok(!younger.is_empty())
}
