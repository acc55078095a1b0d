//! Going back to a snapshot, in place.

use super::parse::{self, SnapshotRow};
use super::run::run;
use super::{Zfs, command};
use crate::spelling::Part;
use larder_base::ByteSize;
use larder_storage_driver::{Cx, ErrorKind, Need, Place, Result, StorageError};

impl Zfs {
    pub(super) fn roll_back(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        let text = self.snapshots_of(cx, at)?;
        let rows = parse::snapshots(&text);
        let mut rollbacks = Vec::new();
        for part in Part::of(&at.volume) {
            let younger = self.younger(at, *part, &rows)?;
            must_be_newest(at, &younger)?;
            must_have_no_clones(at, &younger)?;
            // What else is younger lies in the trash.
            let rollback = command::rollback(&self.layout.spelled(at, *part), !younger.is_empty());
            rollbacks.push((*part, rollback));
        }
        let old_size = self.size_of_zvol(cx, at)?;
        // All was looked at before the first part goes back.
        for (part, rollback) in rollbacks {
            self.unmount_all_of(cx, &at.main(), part)?;
            run(cx, &rollback)?;
        }
        // The size of a zvol goes back too. That of a disk is the pool's affair.
        match old_size {
            Some(size) => self.set_size(cx, &at.main(), Some(size)),
            None => Ok(()),
        }
    }

    /// The size of a filesystem volume that is a zvol.
    fn size_of_zvol(&self, cx: &Cx<'_>, at: &Place) -> Result<Option<ByteSize>> {
        if at.volume.has_disk() {
            return Ok(None);
        }
        let text = self.look_at(cx, "volsize", &self.layout.part(at, Part::Filesystem), at)?;
        let bytes = parse::values("volsize", &text).number("volsize")?;
        Ok((bytes > 0).then(|| ByteSize::from_bytes(bytes)))
    }

    /// Refuses when something was cloned from the volume since the snapshot: a clone can't be pulled away from under its
    /// users, and the rollback would have to.
    pub(super) fn must_be_free_of_clones(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        let text = self.snapshots_of(cx, at)?;
        let rows = parse::snapshots(&text);
        for part in Part::of(&at.volume) {
            must_have_no_clones(at, &self.younger(at, *part, &rows)?)?;
        }
        Ok(())
    }

    fn snapshots_of(&self, cx: &Cx<'_>, at: &Place) -> Result<String> {
        let datasets: Vec<String> =
            Part::of(&at.volume).iter().map(|part| self.layout.part(at, *part)).collect();
        run(cx, &command::list_snapshots("name,clones", &datasets)).map_err(|failure| match failure.refusal {
            Some(parse::Refusal::Missing) => StorageError::not_found(at.main()),
            _ => failure.into(),
        })
    }

    /// The snapshots of a part that are younger than `at`.
    fn younger<'a>(
        &self,
        at: &Place,
        part: Part,
        rows: &'a [SnapshotRow<'a>],
    ) -> Result<Vec<&'a SnapshotRow<'a>>> {
        let spelled = self.layout.spelled(at, part);
        let (dataset, tag) = spelled.split_once('@').unwrap_or((&spelled, ""));
        let own: Vec<_> = rows.iter().filter(|row| row.dataset == dataset).collect();
        let position = own.iter().position(|row| row.tag == tag);
        position.map(|position| own[position + 1..].to_vec()).ok_or_else(|| StorageError::not_found(at))
    }
}

fn must_be_newest(at: &Place, younger: &[&SnapshotRow<'_>]) -> Result<()> {
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

fn must_have_no_clones(at: &Place, younger: &[&SnapshotRow<'_>]) -> Result<()> {
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
