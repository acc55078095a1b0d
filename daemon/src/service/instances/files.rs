//! Files in an instance's root, whether it runs or not.

use super::image_volume::ROOTFS;
use crate::service::{Kind, OpenPool, Result, Service, ServiceError, Task, VolumeRecord};
use larder_catalog::documents::Instance;
use larder_runtime::files::{FileRoot, FilesError};
use larder_runtime::shift;
use larder_storage_driver::{Mode, VolumeId};
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Keeps an instance's root volume attached until it is dropped. What is open in it must be closed before.
#[derive(Debug)]
pub struct FilesInUse {
    service: Arc<Service>,
    task: Task,
    pool: OpenPool,
    root: VolumeId,
    of: larder_catalog::VolumeId,
}

impl Drop for FilesInUse {
    fn drop(&mut self) {
        if let Entry::Occupied(mut sessions) = self.service.instances.browsed.lock().entry(self.of) {
            *sessions.get_mut() -= 1;
            if *sessions.get() == 0 {
                sessions.remove();
            }
        }
        let detached =
            self.service.with_cx(&self.task, |cx| self.pool.pool.detach(&cx.uncancellable(), &self.root));
        if let Err(error) = detached {
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
        let (pool, root) = self.root_on_storage(instance)?;
        let id = root.storage_id()?;
        let outcome = self.attach_files(task, &pool, &id)?.and_then(|root| Ok(work(&root)?));
        let detached = self.with_cx(task, |cx| pool.pool.detach(&cx.uncancellable(), &id));
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
        let (pool, record) = self.root_on_storage(instance)?;
        let (root, of) = (record.storage_id()?, record.volume.id);
        let files = self.attach_files(task, &pool, &root)?;
        *self.instances.browsed.lock().entry(of).or_default() += 1;
        let in_use = FilesInUse { service: Arc::clone(self), task: task.clone(), pool, root, of };
        Ok((files?, in_use))
    }

    /// Refuses what would take a volume away from who has its files open.
    pub(in crate::service) fn must_not_be_browsed(&self, record: &VolumeRecord) -> Result<()> {
        match self.instances.browsed.lock().contains_key(&record.volume.id) {
            false => Ok(()),
            true => Err(ServiceError::bad(format!(
                "the files of the volume {} are open in an SFTP session: close it first",
                record.volume.name
            ))),
        }
    }

    fn root_on_storage(&self, instance: &Instance) -> Result<(OpenPool, VolumeRecord)> {
        let root = self.root_volume(instance)?;
        root.must_be_whole()?;
        let pool = self.open_pool(&self.store.pool_by_id(root.volume.pool)?.name)?;
        Ok((pool, root))
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
