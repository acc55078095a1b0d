//! A bucket's keys: made, shown, changed, deleted.

use super::KeyPair;
use crate::service::pools::OpenPool;
use crate::service::store::{VolumeRecord, cause_of};
use crate::service::{Result, Service, ServiceError, Task, url};
use larder_catalog::documents::{BucketKey, BucketRole, Volume};
use larder_storage_driver::ObjectAccess;
use uuid::Uuid;

/// What a new key shall be. An empty access key or secret key is made up.
#[derive(Debug, Clone)]
pub struct NewBucketKey {
    /// Its name.
    pub name: String,
    /// For people.
    pub description: String,
    /// What it may do.
    pub role: BucketRole,
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
}

/// What a change of a key changes. An empty access key or secret key stays as it is.
#[derive(Debug, Clone)]
pub struct BucketKeyChange {
    /// For people.
    pub description: String,
    /// What it may do.
    pub role: BucketRole,
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
}

impl Service {
    /// A bucket's key by name, or an error that names it.
    pub fn bucket_key(&self, volume: &Volume, name: &str) -> Result<BucketKey> {
        let missing = || ServiceError::not_found(format!("key {name:?} of bucket {:?}", volume.name));
        self.store.bucket_key(volume, name)?.ok_or_else(missing)
    }

    /// A key with its secret in the clear.
    pub fn unsealed(&self, key: &BucketKey) -> Result<KeyPair> {
        Ok(KeyPair {
            name: key.name.clone(),
            description: key.description.clone(),
            role: key.role,
            access_key: key.access_key.clone(),
            secret_key: self.sealer.open(&key.access_key, &key.sealed_secret)?,
        })
    }

    pub(super) fn sealed_key(&self, volume: &Volume, pair: &KeyPair) -> Result<BucketKey> {
        Ok(BucketKey {
            id: Uuid::new_v4(),
            volume: volume.id,
            name: pair.name.clone(),
            description: pair.description.clone(),
            role: pair.role,
            access_key: pair.access_key.clone(),
            sealed_secret: self.seal(&pair.access_key, &pair.secret_key)?,
        })
    }

    /// Seals a secret; the first one of a server makes the key for it.
    pub(in crate::service) fn seal(&self, access_key: &str, secret: &str) -> Result<String> {
        if self.store.has_no_secrets()? {
            self.sealer.ensure_key()?;
        }
        self.sealer.seal(access_key, secret)
    }

    /// Makes a key.
    pub fn create_bucket_key(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        new: NewBucketKey,
    ) -> Result<KeyPair> {
        check_key_name(&new.name)?;
        let pair =
            KeyPair { name: new.name, description: new.description, role: new.role, ..KeyPair::random()? };
        let pair = pair.with_given(&new.access_key, &new.secret_key)?;
        let key = self.sealed_key(&record.volume, &pair)?;
        let url = self.bucket_key_url(pool, &record.volume, &key.name);
        let cause = cause_of(task, "storage-bucket-key-created", &url, &record.volume.project);
        let add = |access: &mut ObjectAccess| {
            if access.keys.iter().any(|other| other.name == pair.name) {
                return Err(ServiceError::taken(format!("the bucket key {:?}", pair.name)));
            }
            self.access_key_must_be_free(&pair.access_key)?;
            access.keys.push(pair.object_key());
            Ok(())
        };
        self.agreed(task, pool, record, add, || self.store.add_bucket_key(&key, Some(cause)))?;
        Ok(pair)
    }

    /// Changes a key.
    pub fn update_bucket_key(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        old: &BucketKey,
        change: BucketKeyChange,
    ) -> Result<()> {
        let pair = self.unsealed(old)?.with_given(&change.access_key, &change.secret_key)?;
        let new = BucketKey {
            description: change.description,
            role: change.role,
            sealed_secret: self.seal(&pair.access_key, &pair.secret_key)?,
            access_key: pair.access_key.clone(),
            ..old.clone()
        };
        let pair = KeyPair { role: new.role, ..pair };
        let url = self.bucket_key_url(pool, &record.volume, &new.name);
        let cause = cause_of(task, "storage-bucket-key-updated", &url, &record.volume.project);
        let replace = |access: &mut ObjectAccess| {
            if old.access_key != new.access_key {
                self.access_key_must_be_free(&new.access_key)?;
            }
            let mut keys = access.keys.iter_mut();
            let key = keys.find(|key| key.name == old.name).ok_or_else(ServiceError::overtaken)?;
            *key = pair.object_key();
            Ok(())
        };
        self.agreed(task, pool, record, replace, || self.store.change_bucket_key(old, &new, Some(cause)))
    }

    /// Deletes a key. From here on nobody can use it.
    pub fn delete_bucket_key(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        key: &BucketKey,
    ) -> Result<()> {
        let url = self.bucket_key_url(pool, &record.volume, &key.name);
        let cause = cause_of(task, "storage-bucket-key-deleted", &url, &record.volume.project);
        let remove = |access: &mut ObjectAccess| {
            access.keys.retain(|other| other.name != key.name);
            Ok(())
        };
        self.agreed(task, pool, record, remove, || self.store.remove_bucket_key(key, Some(cause)))
    }

    fn access_key_must_be_free(&self, access_key: &str) -> Result<()> {
        match self.store.access_key_home(access_key)? {
            None => Ok(()),
            Some(_) => Err(ServiceError::taken(format!("the access key {access_key:?}"))),
        }
    }

    fn bucket_key_url(&self, pool: &OpenPool, volume: &Volume, key: &str) -> String {
        url(&["storage-pools", &pool.document.name, "buckets", &volume.name, "keys", key], &volume.project)
    }
}

/// A key's name stands in URLs.
fn check_key_name(name: &str) -> Result<()> {
    match name.parse::<larder_base::VolumeName>() {
        Ok(_) => Ok(()),
        Err(error) => Err(ServiceError::bad(format!("invalid bucket key name {name:?}: {}", error.problem))),
    }
}
