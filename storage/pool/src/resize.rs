//! Another size for a volume.

use crate::Pool;
use crate::locks::LockMode;
use larder_base::ByteSize;
use larder_storage_driver::{Cx, ErrorKind, Need, Place, Result, Shrink, StorageError, VolumeId};

impl Pool {
    /// Changes a live volume's size from `old` to `new` (`None` lifts a filesystem's limit). The caller has written
    /// down [`Intent::Resize`](crate::Intent::Resize).
    ///
    /// A disk only grows unless the driver can shrink, and never while it is in use.
    pub fn resize(
        &self,
        cx: &Cx<'_>,
        volume: &VolumeId,
        old: Option<ByteSize>,
        new: Option<ByteSize>,
    ) -> Result<()> {
        self.must_be_good()?;
        let _lock = self.lock(cx, volume, LockMode::Exclusive)?;
        let live = Place::live(volume);
        if volume.has_disk() {
            self.check_disk_resize(&live, old, new)?;
        }
        let outcome = self.driver.resize(cx, &live, new).or_else(|error| {
            let cx = cx.uncancellable();
            match error.kind() {
                ErrorKind::NotFound | ErrorKind::Invalid | ErrorKind::Unsupported(_) => Err(error),
                // Full, in use or cancelled: the old size is valid, so go back.
                ErrorKind::NoSpace | ErrorKind::InUse | ErrorKind::Cancelled => {
                    match self.driver.resize(&cx, &live, old) {
                        Ok(()) => Err(error),
                        // A disk that has grown all the same stays so.
                        Err(stuck) if stuck.kind() == ErrorKind::Unsupported(Need::Shrink) => Err(error),
                        Err(stuck) => Err(error.with_undo_failures(vec![stuck])),
                    }
                }
                _ => {
                    self.driver.resize(&cx, &live, new).map_err(|again| error.with_undo_failures(vec![again]))
                }
            }
        });
        self.judged(outcome).map_err(|error| error.while_doing(format!("resizing the {volume}")))
    }

    fn check_disk_resize(&self, live: &Place, old: Option<ByteSize>, new: Option<ByteSize>) -> Result<()> {
        let Some(new) = new.filter(|size| size.as_bytes() > 0) else {
            return Err(StorageError::new(ErrorKind::Invalid, "a disk needs a size: give one such as 10GiB"));
        };
        self.must_be_unused(live)?;
        if self.driver.capabilities().shrink == Shrink::No && old.is_some_and(|old| new < old) {
            let message = format!("the {} can't shrink to {new}: a disk only grows", live.volume);
            return Err(StorageError::unsupported(Need::Shrink, message));
        }
        Ok(())
    }
}
