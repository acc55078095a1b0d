//! Who uses which volume on this machine, counted: a driver is asked to attach once and to detach once.

use larder_storage_driver::{Attached, Cx, Driver, ErrorKind, Mode, Place, Result, StorageError};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug)]
struct Entry {
    users: usize,
    mode: Mode,
    attached: Attached,
}

type Slot = Arc<Mutex<Option<Entry>>>;

/// The attached places of one pool.
#[derive(Debug, Default)]
pub(crate) struct Attachments {
    slots: Mutex<HashMap<Place, Slot>>,
}

impl Attachments {
    pub(crate) fn attach(
        &self,
        driver: &dyn Driver,
        cx: &Cx<'_>,
        at: &Place,
        mode: Mode,
    ) -> Result<Attached> {
        let slot = Arc::clone(self.slots.lock().entry(at.clone()).or_default());
        // Held while the driver works: a second user of the same place waits, other places don't.
        let mut entry = slot.lock();
        if let Some(entry) = entry.as_mut() {
            if mode > entry.mode {
                return Err(StorageError::new(ErrorKind::InUse, format!("{at} is in use read-only")));
            }
            entry.users += 1;
            return Ok(entry.attached.clone());
        }
        let attached = driver.attach(cx, at, mode)?;
        *entry = Some(Entry { users: 1, mode, attached: attached.clone() });
        Ok(attached)
    }

    pub(crate) fn detach(&self, driver: &dyn Driver, cx: &Cx<'_>, at: &Place) -> Result<()> {
        let Some(slot) = self.slots.lock().get(at).cloned() else { return Ok(()) };
        let mut guard = slot.lock();
        match guard.as_mut() {
            Some(entry) if entry.users > 1 => entry.users -= 1,
            Some(_) => {
                // Whatever came of it, nobody uses it any more, and the next user attaches it anew.
                *guard = None;
                driver.detach(cx, at).or_else(|_| driver.detach(cx, at))?;
            }
            None => {}
        }
        Ok(())
    }

    /// How many use the place.
    pub(crate) fn users(&self, at: &Place) -> usize {
        let slot = self.slots.lock().get(at).cloned();
        slot.map_or(0, |slot| slot.lock().as_ref().map_or(0, |entry| entry.users))
    }

    /// Forgets a place that is gone.
    pub(crate) fn forget(&self, at: &Place) {
        self.slots.lock().remove(at);
    }
}
