//! Buckets and their keys in the catalog. A bucket's volume is written with it, by what writes volumes.

use super::{Store, VolumeRecord};
use crate::service::{Result, ServiceError};
use larder_catalog::documents::{
    AccessKeyHome, Agreement, Bucket, BucketKey, Pool, PoolStatus, Volume, VolumeState,
};
use larder_catalog::{CatalogError, Cause, SnapshotId, Stored, Transaction, VolumeId, keys};
use std::collections::HashMap;
use uuid::Uuid;

/// How many keys a bucket is made with at most, well below the catalog's limit.
const KEYS: usize = 16;

fn key_name(key: &BucketKey) -> larder_catalog::Key {
    keys::bucket_key_name(key.volume, &key.name)
}

fn put_key(transaction: Transaction, key: &BucketKey) -> Result<Transaction> {
    let home = AccessKeyHome::Bucket { volume: key.volume, id: key.id };
    Ok(transaction
        .guard_absent(key_name(key))
        .guard_absent(keys::access_key(&key.access_key))
        .put(key_name(key), super::pointer_to(&key.id)?)
        .put(keys::access_key(&key.access_key), super::pointer_to(&home)?)
        .put_document(key)?)
}

/// Which key of the catalog was taken, in the words of the request.
fn conflict(error: CatalogError, key: &BucketKey) -> ServiceError {
    match &error {
        CatalogError::Conflict { key: found } if *found == key_name(key) => {
            ServiceError::taken(format!("the bucket key {:?}", key.name))
        }
        CatalogError::Conflict { key: found } if *found == keys::access_key(&key.access_key) => {
            ServiceError::taken(format!("the access key {:?}", key.access_key))
        }
        _ => error.into(),
    }
}

impl Store {
    /// What a bucket has beside its volume.
    pub fn bucket(&self, volume: &Volume) -> Result<Option<Bucket>> {
        let stored = larder_catalog::get_document::<Bucket>(self.catalog.as_ref(), &keys::bucket(volume.id))?;
        Ok(stored.map(|stored| stored.document))
    }

    /// All buckets, in one scan, by volume.
    pub fn buckets(&self) -> Result<HashMap<VolumeId, Bucket>> {
        let stored = larder_catalog::list_documents::<Bucket>(self.catalog.as_ref(), &keys::buckets())?;
        Ok(stored.into_iter().map(|stored| (stored.document.volume, stored.document)).collect())
    }

    /// A bucket's volume by the name it has on the S3 endpoint, whatever pool and project it is in.
    pub fn bucket_volume(&self, name: &str) -> Result<Option<VolumeRecord>> {
        let Some(entry) = self.catalog.get(&keys::bucket_name(name))? else { return Ok(None) };
        let record = self.volume_by_id(super::pointer(&entry.value)?)?;
        Ok(record.filter(|record| record.volume.state != VolumeState::Creating))
    }

    /// Takes the name and the keys of a bucket, and its volume as being created. The name of one that is kept elsewhere is
    /// taken in its pool alone.
    pub(in crate::service) fn begin_bucket(
        &self,
        pool: &Pool,
        volume: &Volume,
        bucket: &Bucket,
        own: &[BucketKey],
    ) -> Result<()> {
        if own.len() > KEYS {
            return Err(ServiceError::bad(format!(
                "a bucket is made with at most {KEYS} keys, not {}",
                own.len()
            )));
        }
        let stored = larder_catalog::get_document::<Pool>(self.catalog.as_ref(), &keys::pool(pool.id))?;
        let stored = stored
            .filter(|stored| stored.document.status == PoolStatus::Created)
            .ok_or_else(|| ServiceError::not_found(format!("storage pool {:?}", pool.name)))?;
        let (name, by_name) = (super::volumes::name_key(volume), keys::bucket_name(&bucket.name));
        let mut transaction = Transaction::new()
            .guard_at(keys::pool(pool.id), stored.revision)
            .guard_absent(name.clone())
            .put(name.clone(), super::pointer_to(&volume.id)?)
            .put_document(volume)?
            .put_document(bucket)?;
        if bucket.elsewhere.is_none() {
            let pointer = super::pointer_to(&volume.id)?;
            transaction = transaction.guard_absent(by_name.clone()).put(by_name.clone(), pointer);
        }
        for key in own {
            transaction = put_key(transaction, key)?;
        }
        match self.catalog.transact(transaction) {
            Err(CatalogError::Conflict { key }) if key == name || key == by_name => {
                Err(ServiceError::taken(format!("the bucket {:?}", bucket.name)))
            }
            Err(CatalogError::Conflict { key }) => {
                let taken = own.iter().find(|one| keys::access_key(&one.access_key) == key);
                let name = taken.map_or("", |one| one.access_key.as_str());
                Err(ServiceError::taken(format!("the access key {name:?}")))
            }
            outcome => Ok(outcome.map(|_| ())?),
        }
    }

    /// Adds to the last transaction of a volume what goes with it when it is a bucket; its keys go before.
    pub(super) fn forget_bucket(&self, volume: &Volume, transaction: Transaction) -> Result<Transaction> {
        let Some(bucket) = self.bucket(volume)? else { return Ok(transaction) };
        for key in self.bucket_keys(volume)? {
            self.remove_bucket_key(&key, None)?;
        }
        self.withdraw_grants(volume.id)?;
        let transaction = transaction.delete_document(&bucket);
        Ok(match bucket.elsewhere {
            None => transaction.delete(keys::bucket_name(&bucket.name)),
            Some(_) => transaction,
        })
    }

    /// Says whether the technology that keeps a bucket has what the catalog says of it.
    pub(in crate::service) fn bucket_is(&self, volume: &Volume, agreement: Agreement) -> Result<()> {
        let bucket = self.bucket(volume)?.ok_or_else(|| ServiceError::not_found("the bucket"))?;
        let told = Bucket { elsewhere: Some(agreement), ..bucket };
        let transaction = Transaction::new().guard_present(keys::bucket(volume.id)).put_document(&told)?;
        self.commit(transaction, None)
    }

    /// Writes down that a bucket is being put back to one of its snapshots; [`Store::end_restore`] takes it back.
    pub(in crate::service) fn begin_restore(
        &self,
        record: &VolumeRecord,
        snapshot: SnapshotId,
    ) -> Result<()> {
        let marked = Volume { state: VolumeState::Restoring, ..record.volume.clone() };
        let bucket = self.bucket(&marked)?.ok_or_else(|| ServiceError::not_found("the bucket"))?;
        let told = Bucket { elsewhere: Some(Agreement::Restoring { snapshot }), ..bucket };
        let transaction = Transaction::new()
            .guard_at(keys::volume(marked.id), record.revision)
            .put_document(&marked)?
            .put_document(&told)?;
        self.commit(transaction, None)
    }

    /// A bucket is ready, and what the catalog says of it.
    pub(in crate::service) fn end_restore(&self, volume: &Volume, cause: Option<Cause>) -> Result<()> {
        let ready = Volume { state: VolumeState::Ready, ..volume.clone() };
        let bucket = self.bucket(&ready)?.ok_or_else(|| ServiceError::not_found("the bucket"))?;
        let told = Bucket { elsewhere: Some(Agreement::Agreed), ..bucket };
        let transaction = Transaction::new()
            .guard_present(keys::volume(ready.id))
            .put_document(&ready)?
            .put_document(&told)?;
        self.commit(transaction, cause)
    }

    /// A bucket's keys, by name.
    pub fn bucket_keys(&self, volume: &Volume) -> Result<Vec<BucketKey>> {
        let mut found: Vec<_> = self.stored_keys(volume)?.into_iter().map(|stored| stored.document).collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    fn stored_keys(&self, volume: &Volume) -> Result<Vec<Stored<BucketKey>>> {
        Ok(larder_catalog::list_documents(self.catalog.as_ref(), &keys::bucket_keys_of(volume.id))?)
    }

    /// The keys of all buckets, in one scan, by volume.
    pub fn bucket_keys_by_volume(&self) -> Result<HashMap<VolumeId, Vec<BucketKey>>> {
        let stored =
            larder_catalog::list_documents::<BucketKey>(self.catalog.as_ref(), &keys::bucket_keys())?;
        let mut by_volume: HashMap<_, Vec<BucketKey>> = HashMap::new();
        for stored in stored {
            by_volume.entry(stored.document.volume).or_default().push(stored.document);
        }
        for keys in by_volume.values_mut() {
            keys.sort_by(|one, other| one.name.cmp(&other.name));
        }
        Ok(by_volume)
    }

    /// A bucket's key by name.
    pub fn bucket_key(&self, volume: &Volume, name: &str) -> Result<Option<BucketKey>> {
        Ok(self.bucket_keys(volume)?.into_iter().find(|key| key.name == name))
    }

    /// A bucket's key by id.
    pub(in crate::service) fn bucket_key_by_id(
        &self,
        volume: VolumeId,
        id: Uuid,
    ) -> Result<Option<BucketKey>> {
        let stored =
            larder_catalog::get_document::<BucketKey>(self.catalog.as_ref(), &keys::bucket_key(volume, id))?;
        Ok(stored.map(|stored| stored.document))
    }

    /// Whose an access key is.
    pub(in crate::service) fn access_key_home(&self, access_key: &str) -> Result<Option<AccessKeyHome>> {
        let entry = self.catalog.get(&keys::access_key(access_key))?;
        entry.map(|entry| super::pointer(&entry.value)).transpose()
    }

    /// Whether no secret was ever sealed.
    pub(in crate::service) fn has_no_secrets(&self) -> Result<bool> {
        let has_none = |prefix| Ok::<_, ServiceError>(self.catalog.list(&prefix)?.is_empty());
        Ok(has_none(keys::bucket_keys())? && has_none(keys::account_keys())?)
    }

    pub(in crate::service) fn add_bucket_key(&self, key: &BucketKey, cause: Option<Cause>) -> Result<()> {
        let transaction = put_key(Transaction::new(), key)?.guard_present(keys::bucket(key.volume));
        match self.commit_raw(transaction, cause) {
            Err(CatalogError::Conflict { key: found }) if found == keys::bucket(key.volume) => {
                Err(ServiceError::not_found("the bucket"))
            }
            Err(error) => Err(conflict(error, key)),
            Ok(()) => Ok(()),
        }
    }

    /// Replaces a key by one of the same id and name.
    pub(in crate::service) fn change_bucket_key(
        &self,
        old: &BucketKey,
        new: &BucketKey,
        cause: Option<Cause>,
    ) -> Result<()> {
        let mut transaction = Transaction::new().guard_present(keys::bucket_key(old.volume, old.id));
        if old.access_key != new.access_key {
            let home = AccessKeyHome::Bucket { volume: new.volume, id: new.id };
            transaction = transaction
                .guard_absent(keys::access_key(&new.access_key))
                .delete(keys::access_key(&old.access_key))
                .put(keys::access_key(&new.access_key), super::pointer_to(&home)?);
        }
        self.commit_raw(transaction.put_document(new)?, cause).map_err(|error| conflict(error, new))
    }

    pub(in crate::service) fn remove_bucket_key(&self, key: &BucketKey, cause: Option<Cause>) -> Result<()> {
        let transaction = Transaction::new().delete(key_name(key)).delete(keys::access_key(&key.access_key));
        self.commit(transaction.delete_document(key), cause)
    }

    fn commit_raw(&self, transaction: Transaction, cause: Option<Cause>) -> Result<(), CatalogError> {
        let transaction = match cause {
            Some(cause) => transaction.because(cause),
            None => transaction,
        };
        self.catalog.transact(transaction).map(|_| ())
    }
}
