//! Another size for a volume.

use crate::Pool;
use crate::locks::LockMode;
use crate::restore::is_too_much;
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
            let cx = &cx.uncancellable();
            match error.kind() {
                ErrorKind::NotFound | ErrorKind::Invalid | ErrorKind::Unsupported(_) => Err(error),
                // Full, in use or cancelled: the old size is valid, so go back.
                ErrorKind::NoSpace | ErrorKind::InUse | ErrorKind::Cancelled => {
                    Err(self.with_old_size(cx, &live, old, error))
                }
                // What only stumbled is finished; what is refused as often as it is tried is not.
                _ => match self.driver.resize(cx, &live, new) {
                    Ok(()) => Ok(()),
                    Err(_) => Err(self.with_old_size(cx, &live, old, error)),
                },
            }
        });
        self.judged(outcome).map_err(|error| error.while_doing(format!("resizing the {volume}")))
    }

    /// Goes back to the old size after a failure, and tells of that too when it fails.
    fn with_old_size(
        &self,
        cx: &Cx<'_>,
        live: &Place,
        old: Option<ByteSize>,
        error: StorageError,
    ) -> StorageError {
        match self.driver.resize(cx, live, old) {
            Ok(()) => error,
            // What has grown all the same stays so.
            Err(stuck) if is_too_much(&stuck) => error,
            Err(stuck) => error.with_undo_failures(vec![stuck]),
        }
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
