//! Files in an instance's root, whether it runs or not.

use super::image_volume::ROOTFS;
use crate::service::{Kind, Result, Service, ServiceError, Task};
use larder_catalog::documents::Instance;
use larder_runtime::files::{FileRoot, FilesError};
use larder_storage_driver::Mode;

impl Service {
    /// Works on the files of an instance's root. Paths are resolved by the kernel inside it, whatever links it holds.
    pub fn with_instance_files<T>(
        &self,
        task: &Task,
        instance: &Instance,
        work: impl FnOnce(&FileRoot) -> std::result::Result<T, FilesError>,
    ) -> Result<T> {
        let root = self.root_volume(instance)?;
        let pool = self.open_pool(&self.store.pool_by_id(root.volume.pool)?.name)?;
        let id = root.storage_id()?;
        let attached = self.with_cx(task, |cx| pool.pool.attach(cx, &id, Mode::ReadWrite))?;
        let outcome = attached
            .directory()
            .map_err(ServiceError::from)
            .and_then(|folder| Ok(work(&FileRoot::open(&folder.join(ROOTFS), None)?)?));
        let detached = self.with_cx(task, |cx| pool.pool.detach(cx, &id));
        let value = outcome?;
        detached?;
        Ok(value)
    }
}

impl From<FilesError> for ServiceError {
    fn from(error: FilesError) -> Self {
        let kind = match &error {
            FilesError::NotFound(_) => Kind::NotFound,
            FilesError::Io { .. } => Kind::Internal,
            _ => Kind::BadRequest,
        };
        Self { kind, message: crate::service::store::chain(&error) }
    }
}
