//! The daemon's answers to the S3 endpoint: whose key, which bucket. They come from memory as long as the catalog's
//! revision is the one they were read at.

use crate::service::buckets::quota_of;
use crate::service::store::VolumeRecord;
use crate::service::{Kind, NewBucket, Requestor, Result, Service, ServiceError, Task, bucket_name};
use async_trait::async_trait;
use larder_base::ByteSize;
use larder_catalog::documents::{
    AccessKeyHome, AccountKey, Bucket as BucketDocument, BucketKey, BucketRole, StorageAccount, VolumeState,
};
use larder_catalog::{AccountId, Revision};
use larder_s3::{
    AccessKey, BucketEntry, Directory, DirectoryError, FoundBucket, Identity, IdentityName, Rights, Role,
};
use larder_storage_buckets::Bucket;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use uuid::Uuid;

/// How many keys and buckets are kept in memory.
const REMEMBERED: usize = 4096;

/// What was read at one revision of the catalog.
#[derive(Debug, Default)]
struct Memory {
    revision: Revision,
    keys: HashMap<String, Arc<AccessKey>>,
    buckets: HashMap<String, Remembered>,
}

/// A bucket without keeping it open: whoever closes it must become its last holder.
#[derive(Debug, Clone)]
struct Remembered {
    name: String,
    owner: Identity,
    created: jiff::Timestamp,
    bucket: Weak<Bucket>,
}

/// What the endpoint asks.
#[derive(Debug, Clone)]
pub struct S3Directory {
    service: Arc<Service>,
    memory: Arc<Mutex<Memory>>,
}

impl S3Directory {
    /// The answers of a service.
    pub fn new(service: Arc<Service>) -> Self {
        Self { service, memory: Arc::default() }
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Service) -> Result<T, DirectoryError> + Send + 'static,
    ) -> Result<T, DirectoryError> {
        let service = Arc::clone(&self.service);
        let panicked = |_| DirectoryError::Unavailable("the request panicked".to_owned());
        larder_s3::blocking::blocking(move || work(&service)).await.map_err(panicked)?
    }

    /// What memory says at the catalog's present revision, which is returned for remembering more.
    fn recall<T>(
        &self,
        look: impl FnOnce(&Memory) -> Option<T>,
    ) -> Result<(Revision, Option<T>), DirectoryError> {
        let revision = self.service.store().catalog().revision().map_err(|error| told(error.into()))?;
        let mut memory = self.memory.lock();
        if memory.revision != revision {
            *memory = Memory { revision, ..Memory::default() };
        }
        let found = look(&memory);
        Ok((revision, found))
    }

    /// Keeps what was read at `revision`, unless the catalog has gone on.
    fn remember(&self, revision: Revision, keep: impl FnOnce(&mut Memory)) {
        let mut memory = self.memory.lock();
        if memory.revision == revision && memory.keys.len() + memory.buckets.len() < REMEMBERED {
            keep(&mut memory);
        }
    }
}

impl Remembered {
    fn of(found: &FoundBucket) -> Self {
        let bucket = Arc::downgrade(&found.bucket);
        Self { name: found.name.clone(), owner: found.owner.clone(), created: found.created, bucket }
    }

    fn found(&self) -> Option<FoundBucket> {
        let Self { name, owner, created, bucket } = self.clone();
        Some(FoundBucket { name, owner, created, bucket: bucket.upgrade()? })
    }
}

#[async_trait]
impl Directory for S3Directory {
    async fn access_key(&self, id: &str) -> Result<Option<Arc<AccessKey>>, DirectoryError> {
        let (revision, found) = self.recall(|memory| memory.keys.get(id).cloned())?;
        if found.is_some() {
            return Ok(found);
        }
        let wanted = id.to_owned();
        let found = self.ask(move |service| service.s3_key(&wanted).map_err(told)).await?.map(Arc::new);
        if let Some(key) = &found {
            self.remember(revision, |memory| drop(memory.keys.insert(id.to_owned(), Arc::clone(key))));
        }
        Ok(found)
    }

    async fn identity(&self, name: IdentityName<'_>) -> Result<Option<Identity>, DirectoryError> {
        match name {
            IdentityName::Id(id) => {
                let id = id.to_owned();
                self.ask(move |service| service.s3_identity(&id).map_err(told)).await
            }
            IdentityName::Email(email) => {
                let email = email.to_owned();
                self.ask(move |service| {
                    let account = service.store().account_by_email(&email).map_err(told)?;
                    Ok(account.as_ref().map(identity_of))
                })
                .await
            }
        }
    }

    async fn bucket(&self, name: &str) -> Result<Option<FoundBucket>, DirectoryError> {
        let (revision, found) = self.recall(|memory| memory.buckets.get(name).and_then(Remembered::found))?;
        if found.is_some() {
            return Ok(found);
        }
        let wanted = name.to_owned();
        let found = self.ask(move |service| service.s3_bucket(&wanted).map_err(told)).await?;
        let Some((bucket, is_lasting)) = found else { return Ok(None) };
        if is_lasting {
            let kept = Remembered::of(&bucket);
            self.remember(revision, |memory| drop(memory.buckets.insert(name.to_owned(), kept)));
        }
        Ok(Some(bucket))
    }

    async fn buckets(&self, owner: &Identity) -> Result<Vec<BucketEntry>, DirectoryError> {
        let id = owner.id.clone();
        self.ask(move |service| service.s3_buckets_of(&id).map_err(told)).await
    }

    async fn all_buckets(&self) -> Result<Vec<String>, DirectoryError> {
        self.ask(|service| service.s3_all_buckets().map_err(told)).await
    }

    async fn create_bucket(&self, owner: &Identity, name: &str) -> Result<FoundBucket, DirectoryError> {
        let (owner, name) = (owner.id.clone(), name.to_owned());
        self.ask(move |service| service.s3_create_bucket(&owner, &name)).await
    }

    async fn delete_bucket(&self, owner: &Identity, name: &str) -> Result<(), DirectoryError> {
        let (owner, name) = (owner.id.clone(), name.to_owned());
        self.ask(move |service| service.s3_delete_bucket(&owner, &name)).await
    }
}

fn told(error: ServiceError) -> DirectoryError {
    DirectoryError::Unavailable(error.message)
}

/// A canonical user id, as S3 shows it.
fn canonical(id: Uuid) -> String {
    id.simple().to_string()
}

fn account_id(id: &str) -> Option<AccountId> {
    Some(AccountId::from(Uuid::try_parse(id).ok()?))
}

fn identity_of(account: &StorageAccount) -> Identity {
    Identity {
        id: canonical(account.id.as_uuid()),
        display_name: account.display_name.clone(),
        email: Some(account.email.clone()).filter(|email| !email.is_empty()),
    }
}

fn role_of(role: BucketRole) -> Role {
    match role {
        BucketRole::Admin => Role::Admin,
        BucketRole::ReadOnly => Role::ReadOnly,
    }
}

/// Somebody who came over S3.
fn task_of(name: &str) -> Task {
    let requestor =
        Requestor { username: name.to_owned(), protocol: "s3".to_owned(), address: String::new() };
    Task::quiet(requestor)
}

impl Service {
    /// The owner of a bucket: its account, or else the bucket stands for itself.
    fn s3_owner(&self, bucket: &BucketDocument) -> Result<Identity> {
        let account = bucket.owner.map(|owner| self.store().account_by_id(owner)).transpose()?.flatten();
        Ok(account.as_ref().map_or_else(
            || Identity {
                id: canonical(bucket.volume.as_uuid()),
                display_name: bucket.name.clone(),
                email: None,
            },
            identity_of,
        ))
    }

    fn s3_key(&self, access_key: &str) -> Result<Option<AccessKey>> {
        match self.store().access_key_home(access_key)? {
            None => Ok(None),
            Some(AccessKeyHome::Bucket { volume, id }) => match self.store().bucket_key_by_id(volume, id)? {
                Some(key) => self.s3_bucket_key(&key),
                None => Ok(None),
            },
            Some(AccessKeyHome::Account { account }) => {
                let key = self.store().account_key(account, access_key)?;
                match (key, self.store().account_by_id(account)?) {
                    (Some(key), Some(account)) => self.s3_account_key(&key, &account).map(Some),
                    _ => Ok(None),
                }
            }
        }
    }

    fn s3_bucket_key(&self, key: &BucketKey) -> Result<Option<AccessKey>> {
        let Some(record) = self.store().volume_by_id(key.volume)? else { return Ok(None) };
        let Some(bucket) = self.store().bucket(&record.volume)? else { return Ok(None) };
        if bucket.elsewhere.is_some() {
            return Ok(None);
        }
        Ok(Some(AccessKey {
            secret: self.unsealed(key)?.secret_key,
            identity: self.s3_owner(&bucket)?,
            rights: Rights::Buckets(BTreeMap::from([(bucket.name, role_of(key.role))])),
        }))
    }

    fn s3_account_key(&self, key: &AccountKey, account: &StorageAccount) -> Result<AccessKey> {
        let rights = match &key.grants {
            None => Rights::Account,
            Some(grants) => {
                let mut buckets = BTreeMap::new();
                for grant in grants {
                    if let Some(record) = self.store().volume_by_id(grant.volume)? {
                        buckets.insert(record.volume.name, role_of(grant.role));
                    }
                }
                Rights::Buckets(buckets)
            }
        };
        Ok(AccessKey { secret: self.account_secret(key)?, identity: identity_of(account), rights })
    }

    fn s3_identity(&self, id: &str) -> Result<Option<Identity>> {
        let Some(account) = account_id(id) else { return Ok(None) };
        if let Some(account) = self.store().account_by_id(account)? {
            return Ok(Some(identity_of(&account)));
        }
        let buckets = self.store().buckets()?;
        let own = buckets.get(&larder_catalog::VolumeId::from(account.as_uuid()));
        own.filter(|bucket| bucket.owner.is_none() && bucket.elsewhere.is_none())
            .map(|bucket| self.s3_owner(bucket))
            .transpose()
    }

    /// A bucket with what is known of it, and whether that lasts: what an account's quota leaves for the bucket depends on
    /// its other buckets.
    fn s3_found(&self, record: &VolumeRecord) -> Result<(FoundBucket, bool)> {
        let missing = || ServiceError::not_found(format!("bucket {:?}", record.volume.name));
        let document = self.store().bucket(&record.volume)?.ok_or_else(missing)?;
        let bucket = self.open_bucket(&task_of(""), record)?;
        let account = document.owner.map(|owner| self.store().account_by_id(owner)).transpose()?.flatten();
        let limit = account.and_then(|account| Some((account.id, account.quota?)));
        if let Some((account, limit)) = limit {
            let left = self.left_by_others(account, limit, record)?;
            let own = quota_of(&record.volume.config)?.map_or(u64::MAX, ByteSize::as_bytes);
            bucket.set_quota(Some(left.min(own)));
        }
        let owner = self.s3_owner(&document)?;
        let found = FoundBucket { owner, name: document.name, created: record.volume.created_at, bucket };
        Ok((found, limit.is_none()))
    }

    /// What an account's other buckets leave of its quota. While one of them can't be counted that is nothing: what is there can
    /// be read and deleted, and nothing is added that may be too much.
    fn left_by_others(&self, account: AccountId, quota: u64, besides: &VolumeRecord) -> Result<u64> {
        let mut left = quota;
        for volume in self.buckets_of(account)? {
            if volume.id == besides.volume.id || volume.state != VolumeState::Ready {
                continue;
            }
            let Some(record) = self.store().volume_by_id(volume.id)? else { continue };
            let usage = self.open_bucket(&task_of(""), &record).and_then(|bucket| Ok(bucket.usage()?));
            match usage {
                Ok(usage) => left = left.saturating_sub(usage.bytes),
                Err(error) => {
                    tracing::warn!(bucket = volume.name, %error, "a bucket can't be counted: its account has no room");
                    return Ok(0);
                }
            }
        }
        Ok(left)
    }

    fn s3_bucket(&self, name: &str) -> Result<Option<(FoundBucket, bool)>> {
        let Some(record) = self.store().bucket_volume(name)? else { return Ok(None) };
        match self.s3_found(&record) {
            Err(error) if error.kind == Kind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    fn s3_buckets_of(&self, owner: &str) -> Result<Vec<BucketEntry>> {
        let Some(owner) = account_id(owner) else { return Ok(Vec::new()) };
        let owned = self.buckets_of(owner)?.into_iter();
        let ready = owned.filter(|volume| volume.state != VolumeState::Creating);
        Ok(ready.map(|volume| BucketEntry { name: volume.name, created: volume.created_at }).collect())
    }

    fn s3_all_buckets(&self) -> Result<Vec<String>> {
        let buckets = self.store().buckets()?;
        let is_ours = |id| buckets.get(&id).is_some_and(|bucket| bucket.elsewhere.is_none());
        let volumes = self.store().volumes()?.into_iter().map(|record| record.volume);
        let ours = volumes.filter(|volume| is_ours(volume.id) && volume.state == VolumeState::Ready);
        Ok(ours.map(|volume| volume.name).collect())
    }

    fn s3_create_bucket(&self, owner: &str, name: &str) -> Result<FoundBucket, DirectoryError> {
        let account = account_id(owner).map(|id| self.store().account_by_id(id)).transpose().map_err(told)?;
        let account = account.flatten().ok_or(DirectoryError::TooMany)?;
        if let Some(record) = self.store().bucket_volume(name).map_err(told)? {
            let document = self.store().bucket(&record.volume).map_err(told)?;
            let is_own = document.is_some_and(|bucket| bucket.owner == Some(account.id));
            return Err(if is_own { DirectoryError::Owned } else { DirectoryError::Taken });
        }
        let made = bucket_name(name).and_then(|name| {
            let pool = self.open_pool(&account.pool)?;
            let new = NewBucket {
                project: larder_base::ProjectName::default_project(),
                name,
                description: String::new(),
                config: larder_storage_driver::Config::new(),
                owner: Some(account.id),
            };
            self.create_bucket(&task_of(&account.name), &pool, new)
        });
        match made {
            Err(error) if error.kind == Kind::Conflict => Err(DirectoryError::Taken),
            Err(error) => Err(told(error)),
            Ok(_) => {
                let found = self.s3_bucket(name).map_err(told)?;
                found.map(|(bucket, _)| bucket).ok_or(DirectoryError::Missing)
            }
        }
    }

    fn s3_delete_bucket(&self, owner: &str, name: &str) -> Result<(), DirectoryError> {
        let account = account_id(owner).map(|id| self.store().account_by_id(id)).transpose().map_err(told)?;
        let account = account.flatten().ok_or(DirectoryError::Missing)?;
        let record = self.store().bucket_volume(name).map_err(told)?.ok_or(DirectoryError::Missing)?;
        let pool = self.store().pool_by_id(record.volume.pool).and_then(|pool| self.open_pool(&pool.name));
        let pool = pool.map_err(told)?;
        let task = task_of(&account.name);
        self.delete_empty_bucket(&task, &pool, &record).map_err(|error| match error.kind {
            Kind::NotFound => DirectoryError::Missing,
            Kind::Conflict => DirectoryError::NotEmpty,
            _ => told(error),
        })
    }
}
