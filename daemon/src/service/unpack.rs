//! Unpacking what came from outside, in the jail.

use super::Service;
use larder_images::{UnpackError, UnpackRequest};
use larder_storage_driver::{Cx, ErrorKind, Result, StorageError};

impl Service {
    /// Unpacks an archive with the context's progress and cancel.
    pub(super) fn unpack(&self, cx: &Cx<'_>, request: &UnpackRequest<'_>) -> Result<()> {
        self.launcher.unpack(request, cx.cancel(), cx.progress()).map_err(|error| {
            let kind = match error {
                UnpackError::Cancelled => ErrorKind::Cancelled,
                UnpackError::NoHelper { .. } | UnpackError::NoJail { .. } | UnpackError::Open { .. } => {
                    ErrorKind::Unexpected
                }
                UnpackError::MissingTool { .. } => ErrorKind::Unavailable,
                _ => ErrorKind::Invalid,
            };
            StorageError::new(kind, "unpacking an archive").because(error)
        })
    }
}
