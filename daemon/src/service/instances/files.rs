//! Files in an instance's root, whether it runs or not.

use super::image_volume::ROOTFS;
use crate::service::{Kind, OpenPool, Result, Service, ServiceError, Task};
use larder_catalog::documents::Instance;
use larder_runtime::files::{FileRoot, FilesError};
use larder_runtime::shift;
use larder_storage_driver::{Mode, VolumeId};
use std::sync::Arc;

/// Keeps an instance's root volume attached until it is dropped. What is open in it must be closed before.
#[derive(Debug)]
pub struct FilesInUse {
    service: Arc<Service>,
    task: Task,
    pool: OpenPool,
    root: VolumeId,
}

impl Drop for FilesInUse {
    fn drop(&mut self) {
        if let Err(error) = self.service.with_cx(&self.task, |cx| self.pool.pool.detach(cx, &self.root)) {
            tracing::warn!(volume = %self.root.name, %error, "an instance's root could not be detached");
        }
    }
}

impl Service {
    /// Works on the files of an instance's root. Paths are resolved by the kernel inside it, whatever links it holds.
    pub fn with_instance_files<T>(
        &self,
        task: &Task,
        instance: &Instance,
        work: impl FnOnce(&FileRoot) -> std::result::Result<T, FilesError>,
    ) -> Result<T> {
        let (pool, id) = self.root_on_storage(instance)?;
        let outcome = self.attach_files(task, &pool, &id)?.and_then(|root| Ok(work(&root)?));
        let detached = self.with_cx(task, |cx| pool.pool.detach(cx, &id));
        let value = outcome?;
        detached?;
        Ok(value)
    }

    /// The files of an instance's root for as long as the second part of the answer is kept.
    pub fn use_instance_files(
        self: &Arc<Self>,
        task: &Task,
        instance: &Instance,
    ) -> Result<(FileRoot, FilesInUse)> {
        let (pool, root) = self.root_on_storage(instance)?;
        let files = self.attach_files(task, &pool, &root)?;
        let in_use = FilesInUse { service: Arc::clone(self), task: task.clone(), pool, root };
        Ok((files?, in_use))
    }

    fn root_on_storage(&self, instance: &Instance) -> Result<(OpenPool, VolumeId)> {
        let root = self.root_volume(instance)?;
        let pool = self.open_pool(&self.store.pool_by_id(root.volume.pool)?.name)?;
        Ok((pool, root.storage_id()?))
    }

    /// Attaches a root volume. The inner result is that of opening it: either way it must be detached.
    fn attach_files(&self, task: &Task, pool: &OpenPool, root: &VolumeId) -> Result<Result<FileRoot>> {
        let attached = self.with_cx(task, |cx| pool.pool.attach(cx, root, Mode::ReadWrite))?;
        let folder = attached.directory().map_err(ServiceError::from);
        Ok(folder.and_then(|folder| {
            let rootfs = folder.join(ROOTFS);
            Ok(FileRoot::open(&rootfs, shift::map_of(&rootfs)?)?)
        }))
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
