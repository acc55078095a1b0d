//! Which filesystem is in a volume, once this run has seen it.

use super::{Filesystem, OnDevice};
use larder_storage_driver::{Cx, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;

/// What was seen, by identifiers: a volume keeps the filesystem that it was made with for as long as it is there, and no other ever
/// gets its identifier.
#[derive(Debug, Default)]
pub(crate) struct Inside {
    seen: Mutex<HashMap<String, Filesystem>>,
}

impl Inside {
    pub(crate) fn of(&self, id: &str) -> Option<Filesystem> {
        self.seen.lock().get(id).copied()
    }

    pub(crate) fn note(&self, id: &str, filesystem: Filesystem) {
        self.seen.lock().insert(id.to_owned(), filesystem);
    }

    pub(crate) fn forget(&self, id: &str) {
        self.seen.lock().remove(id);
    }

    /// What is on the device of a volume, which is looked at once.
    pub(crate) fn on_device(
        &self,
        cx: &Cx<'_>,
        id: &str,
        device: PathBuf,
        target: PathBuf,
    ) -> Result<OnDevice> {
        if let Some(filesystem) = self.of(id) {
            return Ok(OnDevice { filesystem, device, target });
        }
        let found = OnDevice::found(cx, device, target)?;
        self.note(id, found.filesystem);
        Ok(found)
    }
}
