//! Storage pools: made, opened, changed, deleted.

use super::claim::Claim;
use super::store::{VolumeRecord, cause_of};
use super::volumes::check_immutable;
use super::{Result, Service, ServiceError, Task};
use larder_base::PoolName;
use larder_catalog::documents::{Pool as PoolDocument, PoolStatus, VolumeState};
use larder_storage_driver::{
    Config, ConfigKey, Driver, KeyScope, StorageError, VolumeKind, check_config, is_true,
};
use larder_storage_drivers::PoolSetup;
use larder_storage_pool::Pool;
use std::sync::Arc;

/// A pool that is open, with its document as it was when the work began.
#[derive(Debug, Clone)]
pub struct OpenPool {
    /// What the catalog says of it.
    pub document: PoolDocument,
    /// The pool itself.
    pub pool: Arc<Pool>,
}

/// What a new pool shall be.
#[derive(Debug, Clone)]
pub struct NewPool {
    /// Its name.
    pub name: PoolName,
    /// The driver's name.
    pub driver: String,
    /// For people.
    pub description: String,
    /// Its keys.
    pub config: Config,
}

/// What a pool holds.
struct Held {
    /// The volumes with unpacked images.
    images: Vec<VolumeRecord>,
    /// The volumes that are on their way out.
    sentenced: Vec<VolumeRecord>,
    /// URLs of all else that is on it or refers to it.
    users: Vec<String>,
}

impl Service {
    /// A pool ready for work. Fails with `Unavailable` when it could not be opened, or does not answer.
    pub fn open_pool(&self, name: &str) -> Result<OpenPool> {
        let document = self.pool_document(name)?;
        let open = self.pools.read().get(&document.name).cloned();
        let open = open.filter(|_| !self.unreachable.read().contains(&document.name));
        let pool = open.ok_or_else(|| ServiceError {
            kind: super::error::Kind::Unavailable,
            message: format!(
                "the storage pool {name} is not available: see the warnings (larder warning list)"
            ),
        })?;
        Ok(OpenPool { document, pool })
    }

    /// What the catalog says of a pool.
    pub fn pool_document(&self, name: &str) -> Result<PoolDocument> {
        let missing = || ServiceError::not_found(format!("storage pool {name:?}"));
        let found = self.store.pool(name)?.ok_or_else(missing)?;
        if found.status == PoolStatus::Creating { Err(missing()) } else { Ok(found) }
    }

    /// Whether a pool takes part in requests now.
    pub fn pool_is_open(&self, name: &str) -> bool {
        self.pools.read().contains_key(name) && !self.unreachable.read().contains(name)
    }

    /// Makes a pool on disk, or takes over one that is there (`source.recover`), and records it. All or nothing.
    pub fn create_pool(&self, task: &Task, new: NewPool) -> Result<()> {
        let mut config = new.config;
        // Volatile keys are ours to give.
        config.retain(|key, value| !value.is_empty() && !key.starts_with("volatile."));
        let driver = self.load_driver(&new.name, &new.driver, &config)?;
        check_config(&config, KeyScope::Pool, driver.config_keys(), driver.name())?;
        super::schedule::Schedule::of_volumes(&config, "volume.snapshots.schedule")?;
        let recorded = driver.recorded_config();
        let mut document = PoolDocument {
            id: larder_catalog::PoolId::random(),
            name: new.name.to_string(),
            driver: new.driver,
            description: new.description,
            // Until the pool is made, with what only making it needs: a start that finds it unfinished goes on.
            config: config.into_iter().chain(recorded.clone()).collect(),
            status: PoolStatus::Creating,
            created_at: self.clock.now(),
        };
        self.store.begin_pool(&document)?;
        let pool = match self.make_pool(task, &document, driver) {
            Ok(pool) => pool,
            Err(error) => {
                self.store.forget_pool(&document, None)?;
                return Err(error);
            }
        };
        document.config = recorded;
        document.status = PoolStatus::Created;
        let url = format!("/1.0/storage-pools/{}", document.name);
        let cause =
            cause_of(task, "storage-pool-created", &url, &larder_base::ProjectName::default_project());
        self.store.change_pool(&document, Some(cause))?;
        self.pools.write().insert(document.name.clone(), Arc::new(pool));
        Ok(())
    }

    /// Makes what a document in creation says, or takes over what is there. Repeatable.
    pub(super) fn make_pool(
        &self,
        task: &Task,
        document: &PoolDocument,
        driver: Box<dyn Driver>,
    ) -> Result<Pool> {
        let name: PoolName = document.name.parse()?;
        let locks = Arc::clone(&self.locks);
        let is_recovered = document.config.get("source.recover").is_some_and(|value| is_true(value));
        Ok(self.with_cx(task, |cx| match is_recovered {
            true => Pool::adopt(cx, name, driver, locks),
            false => Pool::create(cx, name, driver, locks),
        })?)
    }

    /// Changes keys and description.
    pub fn update_pool(
        &self,
        task: &Task,
        open: &OpenPool,
        config: Config,
        description: String,
    ) -> Result<()> {
        let _claim = self.alone_with_pool(task, &open.document)?;
        let driver = open.pool.driver();
        let mut config = config;
        config.retain(|_, value| !value.is_empty());
        for (key, value) in &open.document.config {
            if stays(driver.config_keys(), key) {
                config.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        check_config(&config, KeyScope::Pool, driver.config_keys(), driver.name())?;
        super::schedule::Schedule::of_volumes(&config, "volume.snapshots.schedule")?;
        check_immutable(driver.config_keys(), KeyScope::Pool, &open.document.config, &config)?;
        self.with_cx(task, |cx| open.pool.change(cx, &open.document.config, &config))?;
        let document = PoolDocument { config, description, ..open.document.clone() };
        let url = format!("/1.0/storage-pools/{}", document.name);
        let cause =
            cause_of(task, "storage-pool-updated", &url, &larder_base::ProjectName::default_project());
        self.store.change_pool(&document, Some(cause))
    }

    /// Waits until nobody else changes or deletes a pool; refuses one that is not what it was any more.
    fn alone_with_pool(
        &self,
        task: &Task,
        known: &PoolDocument,
    ) -> Result<Claim<'_, larder_catalog::PoolId>> {
        let claim = self.pool_claims.take_unless(known.id, &task.cancel).map_err(StorageError::from)?;
        match self.store.pool_by_id(known.id)? == *known {
            true => Ok(claim),
            false => Err(ServiceError::overtaken()),
        }
    }

    /// Deletes an empty pool. Images that are unpacked in it go along: they are unpacked anew wherever they are needed.
    pub fn delete_pool(&self, task: &Task, name: &str) -> Result<()> {
        let document = self.pool_document(name)?;
        let _claim = self.alone_with_pool(task, &document)?;
        // From here on no volume can be recorded in it.
        let leaving = PoolDocument { status: PoolStatus::Deleting, ..document.clone() };
        self.store.change_pool(&leaving, None)?;
        let stay = |error: ServiceError| -> ServiceError {
            match self.store.change_pool(&document, None) {
                Ok(()) => error,
                Err(worse) => worse,
            }
        };
        let Held { images, sentenced, users } = self.held_by(&document).map_err(stay)?;
        if !users.is_empty() {
            let some: Vec<_> = users.iter().take(5).cloned().collect();
            return Err(stay(ServiceError::bad(format!(
                "the storage pool {name} is in use by {}",
                some.join(", ")
            ))));
        }
        self.bury_left_on(&document, &sentenced).map_err(stay)?;
        self.remove_unpacked(task, &document, &images).map_err(stay)?;
        if let Some(pool) = self.pools.read().get(&document.name).cloned() {
            self.must_hold_nothing(task, &pool).map_err(stay)?;
            self.with_cx(task, |cx| pool.destroy_pool(cx)).map_err(|error| stay(error.into()))?;
        }
        self.pools.write().remove(&document.name);
        self.unreachable.write().remove(&document.name);
        let url = format!("/1.0/storage-pools/{name}");
        let cause =
            cause_of(task, "storage-pool-deleted", &url, &larder_base::ProjectName::default_project());
        self.forget_pool(&document, cause)
    }

    /// What a pool holds. An image that is being unpacked is in use, as is all that is being made.
    fn held_by(&self, pool: &PoolDocument) -> Result<Held> {
        let volumes = self.store.volumes_in(pool)?.into_iter();
        let is_unpacked = |record: &VolumeRecord| {
            record.volume.kind == VolumeKind::Image.as_str() && record.volume.state == VolumeState::Ready
        };
        let (images, others): (Vec<_>, Vec<_>) = volumes.partition(is_unpacked);
        let (sentenced, others): (Vec<_>, Vec<_>) = others.into_iter().partition(VolumeRecord::is_sentenced);
        let mut users: Vec<String> =
            others.iter().map(|record| self.user_url(&pool.name, &record.volume)).collect();
        users.extend(self.store.used_by(&pool.id.to_string())?);
        Ok(Held { images, sentenced, users })
    }

    /// Deletes unpacked images of a pool; where the pool is not open they are forgotten with it.
    fn remove_unpacked(&self, task: &Task, document: &PoolDocument, images: &[VolumeRecord]) -> Result<()> {
        let pool = self.pools.read().get(&document.name).cloned();
        let open = pool.map(|pool| OpenPool { document: document.clone(), pool });
        for image in images {
            match &open {
                // A ticket of its own for each, since what lies in the trash is named after it.
                Some(open) => self.delete_volume(&Task::quiet(task.requestor.clone()), open, image)?,
                None => self.store.forget_volume(image.volume.id)?,
            }
        }
        Ok(())
    }

    /// What is live on a pool without being recorded, as on one that was recovered, is nobody's to destroy.
    fn must_hold_nothing(&self, task: &Task, pool: &Pool) -> Result<()> {
        let places = self.with_cx(task, |cx| pool.at_stake(cx))?;
        if places.is_empty() {
            return Ok(());
        }
        let some: Vec<_> = places.iter().take(5).map(ToString::to_string).collect();
        Err(ServiceError::bad(format!(
            "the storage pool {} holds what is not recorded: move it elsewhere or remove it first: {}",
            pool.name(),
            some.join("; ")
        )))
    }

    /// URLs of what is on or refers to a pool, as far as it can be asked for.
    pub fn pool_users(&self, pool: &PoolDocument) -> Result<Vec<String>> {
        let mut volumes = self.store.volumes_in(pool)?;
        volumes.retain(VolumeRecord::is_listed);
        let mut users: Vec<String> =
            volumes.iter().map(|record| self.user_url(&pool.name, &record.volume)).collect();
        users.extend(self.store.used_by(&pool.id.to_string())?);
        Ok(users)
    }

    pub(super) fn load_driver(
        &self,
        name: &PoolName,
        driver: &str,
        config: &Config,
    ) -> Result<Box<dyn Driver>> {
        let setup = PoolSetup {
            name: name.clone(),
            root: self.directories.pool(name),
            disks: self.directories.disks(),
            ceph_conf: self.directories.ceph_conf().map(ToOwned::to_owned),
            config: config.clone(),
        };
        Ok(larder_storage_drivers::load(driver, setup)?)
    }
}

/// Whether leaving a pool's key out is no change: it can't change, or was filled in by us when nobody gave it.
fn stays(keys: &[ConfigKey], name: &str) -> bool {
    let is_fixed = |key: &ConfigKey| key.name == name && key.scope == KeyScope::Pool && !key.mutable;
    name == "size" || name.starts_with("volatile.") || keys.iter().any(is_fixed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::trial::{World, task};

    fn config(key: &str) -> Config {
        Config::from([(key.to_owned(), "x".to_owned())])
    }

    #[test]
    fn of_two_changes_of_one_pool_the_second_begins_with_what_the_first_left() {
        let world = World::new();
        let service = world.with_pools(&["p1"]);
        let (one, other) = (service.open_pool("p1").unwrap(), service.open_pool("p1").unwrap());
        service.update_pool(&task(), &one, config("user.one"), String::new()).unwrap();
        let refused = service.update_pool(&task(), &other, config("user.other"), String::new());
        assert_eq!(refused.unwrap_err(), ServiceError::overtaken());
        let config = service.pool_document("p1").unwrap().config;
        assert!(config.contains_key("user.one") && !config.contains_key("user.other"), "{config:?}");
    }

    #[test]
    fn a_pool_that_is_being_deleted_is_not_changed_back() {
        let world = World::new();
        let service = world.with_pools(&["p1"]);
        let open = service.open_pool("p1").unwrap();
        service.delete_pool(&task(), "p1").unwrap();
        let refused = service.update_pool(&task(), &open, Config::new(), String::new());
        assert_eq!(refused.unwrap_err().kind, crate::service::Kind::NotFound);
        assert!(service.store.pools().unwrap().is_empty());
    }
}
