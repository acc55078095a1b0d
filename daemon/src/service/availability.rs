//! Pools that are out of reach for a while: told of in a warning, left alone, and taken up again by themselves.

use super::warnings::WarningType;
use super::{Result, Service, Task};
use larder_catalog::documents::{Pool as PoolDocument, PoolStatus};
use larder_storage_pool::Pool;
use std::sync::Arc;

impl Service {
    /// Asks every pool whether it answers, and opens those that could not be opened before. Tells how many came back. A pool
    /// that stays away is asked again the next time.
    pub fn look_after_pools(&self) -> Result<usize> {
        let mut back = 0;
        for document in self.store.pools()? {
            if document.status != PoolStatus::Created {
                continue;
            }
            let open = self.pools.read().get(&document.name).cloned();
            let has_come_back = match open {
                Some(pool) => self.ask(&document, &pool)?,
                None => self.try_again(&document)?,
            };
            back += usize::from(has_come_back);
        }
        if back > 0 {
            self.finish_moves()?;
        }
        Ok(back)
    }

    /// Whether an open pool answers again that did not before.
    fn ask(&self, document: &PoolDocument, pool: &Arc<Pool>) -> Result<bool> {
        let task = Task::quiet(super::work::Requestor::default());
        let answer = self.with_cx(&task, |cx| pool.driver().must_answer(cx));
        let url = format!("/1.0/storage-pools/{}", document.name);
        match answer {
            Ok(()) => {
                let was_away = self.unreachable.write().remove(&document.name);
                if was_away {
                    self.warnings().resolve(WarningType::PoolUnavailable, &url)?;
                }
                Ok(was_away)
            }
            Err(error) => {
                if self.unreachable.write().insert(document.name.clone()) {
                    tracing::error!(pool = document.name, error = %error.chain(), "a storage pool does not answer");
                    self.warnings().note(WarningType::PoolUnavailable, "default", &url, &error.chain())?;
                }
                Ok(false)
            }
        }
    }

    fn try_again(&self, document: &PoolDocument) -> Result<bool> {
        match self.open_and_settle(document) {
            Ok(()) => {
                let url = format!("/1.0/storage-pools/{}", document.name);
                self.warnings().resolve(WarningType::PoolUnavailable, &url)?;
                tracing::info!(pool = document.name, "a storage pool is available again");
                Ok(true)
            }
            Err(error) => {
                tracing::debug!(pool = document.name, %error, "a storage pool is still not available");
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Directories, Kind, NewPool, Requestor};
    use larder_base::SystemClock;
    use larder_base::host::SystemHost;
    use larder_catalog::documents::WarningStatus;
    use larder_catalog::{Catalog, SqliteCatalog};
    use larder_storage_driver::Config;
    use std::path::PathBuf;

    /// A daemon with a pool whose folder can be taken away.
    struct World {
        folder: tempfile::TempDir,
        catalog: Arc<dyn Catalog>,
    }

    impl World {
        fn new() -> (Self, Service) {
            let folder = tempfile::tempdir().unwrap();
            let world = Self { folder, catalog: Arc::new(SqliteCatalog::in_memory().unwrap()) };
            let service = world.start();
            let new = NewPool {
                name: "p1".parse().unwrap(),
                driver: "dir".to_owned(),
                description: String::new(),
                config: Config::new(),
            };
            service.create_pool(&Task::quiet(Requestor::default()), new).unwrap();
            (world, service)
        }

        fn start(&self) -> Service {
            let directories = Directories::new(self.folder.path());
            directories.prepare().unwrap();
            let launcher = larder_images::JailLauncher::new("/nonexistent".into());
            let (host, clock) = (Arc::new(SystemHost), Arc::new(SystemClock));
            let service =
                Service::new(Arc::clone(&self.catalog), host, clock, directories, launcher).unwrap();
            service.reconcile().unwrap();
            service
        }

        fn paths(&self) -> (PathBuf, PathBuf) {
            let pool = self.folder.path().join("storage-pools/p1");
            (pool.clone(), pool.with_extension("away"))
        }

        fn take_away(&self) {
            let (here, away) = self.paths();
            std::fs::rename(here, away).unwrap();
        }

        fn bring_back(&self) {
            let (here, away) = self.paths();
            std::fs::rename(away, here).unwrap();
        }
    }

    fn warnings(service: &Service) -> Vec<(WarningStatus, u64)> {
        let all = service.store.warnings().unwrap();
        let of_pools = all.iter().filter(|warning| warning.kind == WarningType::PoolUnavailable.as_str());
        of_pools.map(|warning| (warning.status, warning.count)).collect()
    }

    #[test]
    fn an_open_pool_that_does_not_answer_is_refused_and_comes_back() {
        let (world, service) = World::new();
        assert_eq!(service.look_after_pools().unwrap(), 0);
        world.take_away();
        for _ in 0..2 {
            assert_eq!(service.look_after_pools().unwrap(), 0);
            assert_eq!(service.open_pool("p1").unwrap_err().kind, Kind::Unavailable);
            assert!(!service.pool_is_open("p1"));
            assert_eq!(warnings(&service), [(WarningStatus::New, 1)]);
        }
        world.bring_back();
        assert_eq!(service.look_after_pools().unwrap(), 1);
        service.open_pool("p1").unwrap();
        assert_eq!(warnings(&service), [(WarningStatus::Resolved, 1)]);
    }

    #[test]
    fn a_pool_that_was_away_at_the_start_comes_back() {
        let (world, service) = World::new();
        drop(service);
        world.take_away();
        let service = world.start();
        assert_eq!(service.look_after_pools().unwrap(), 0);
        assert_eq!(service.open_pool("p1").unwrap_err().kind, Kind::Unavailable);
        world.bring_back();
        assert_eq!(service.look_after_pools().unwrap(), 1);
        service.open_pool("p1").unwrap();
        assert_eq!(warnings(&service), [(WarningStatus::Resolved, 1)]);
    }
}
