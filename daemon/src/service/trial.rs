//! A service without a daemon around it, for the tests of the use-cases.

use super::{Directories, NewPool, NewVolume, OpenPool, Requestor, Service, Task, VolumeRecord};
use larder_base::ManualClock;
use larder_base::host::{Host, SystemHost};
use larder_catalog::{Catalog, SqliteCatalog};
use larder_storage_driver::{Config, Content};
use std::path::PathBuf;
use std::sync::Arc;

/// A scratch folder, a catalog and a clock that outlive the service.
pub(super) struct World {
    folder: tempfile::TempDir,
    catalog: Arc<dyn Catalog>,
    pub(super) clock: Arc<ManualClock>,
}

impl World {
    pub(super) fn new() -> Self {
        let clock = Arc::new(ManualClock::at("2026-03-01T11:58:30Z".parse().unwrap()));
        let catalog = Arc::new(SqliteCatalog::in_memory().unwrap());
        Self { folder: tempfile::tempdir().unwrap(), catalog, clock }
    }

    /// A service over what is there.
    pub(super) fn start(&self) -> Service {
        self.start_on(Arc::new(SystemHost))
    }

    /// The same on another machine.
    pub(super) fn start_on(&self, host: Arc<dyn Host>) -> Service {
        let directories = Directories::new(self.folder.path());
        directories.prepare().unwrap();
        let launcher = larder_images::JailLauncher::new("/nonexistent".into());
        let (catalog, clock) = (Arc::clone(&self.catalog), Arc::clone(&self.clock));
        let service = Service::new(catalog, host, clock, directories, launcher).unwrap();
        service.store.ensure_default_project().unwrap();
        service.reconcile().unwrap();
        service
    }

    /// A service with pools of the driver dir.
    pub(super) fn with_pools(&self, names: &[&str]) -> Service {
        let service = self.start();
        for name in names {
            let new = NewPool {
                name: name.parse().unwrap(),
                driver: "dir".to_owned(),
                description: String::new(),
                config: Config::new(),
            };
            service.create_pool(&task(), new).unwrap();
        }
        service
    }

    /// Where such a pool is.
    pub(super) fn pool(&self, name: &str) -> PathBuf {
        self.folder.path().join("storage-pools").join(name)
    }
}

pub(super) fn task() -> Task {
    Task::quiet(Requestor::default())
}

/// A new volume with files, and these keys.
pub(super) fn new_volume(name: &str, keys: &[(&str, &str)]) -> NewVolume {
    NewVolume {
        project: larder_base::ProjectName::default_project(),
        name: name.parse().unwrap(),
        content: Content::Filesystem,
        description: String::new(),
        config: keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    }
}

/// The volumes of a pool as the catalog knows them.
pub(super) fn volumes_in(service: &Service, pool: &OpenPool) -> Vec<VolumeRecord> {
    service.store.volumes_in(&pool.document).unwrap()
}
