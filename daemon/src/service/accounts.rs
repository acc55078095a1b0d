//! Storage accounts: S3 users that make, list and delete buckets of their own over S3.

use super::buckets::{check_access_key, quota_of};
use super::store::cause_of;
use super::{KeyPair, Result, Service, ServiceError, Task, url};
use larder_base::{ByteSize, ProjectName};
use larder_catalog::documents::{AccountKey, BucketGrant, StorageAccount, Volume};
use larder_catalog::{AccountId, VolumeId};
use std::collections::HashSet;

/// What a new account shall be. An empty access key or secret key is made up.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Its name.
    pub name: String,
    /// What can be changed of it later.
    pub content: AccountContent,
    /// The access key of its first key pair.
    pub access_key: String,
    /// The secret key of its first key pair.
    pub secret_key: String,
}

/// What can be changed of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountContent {
    /// What S3 shows as the owner of things; the name when empty.
    pub display_name: String,
    /// Its e-mail address, or nothing.
    pub email: String,
    /// The pool in which its buckets are made.
    pub pool: String,
    /// How many bytes all of its buckets may hold together.
    pub quota: Option<u64>,
}

/// The URL of an account.
pub fn account_url(name: &str) -> String {
    url(&["storage-accounts", name], &"default")
}

impl Service {
    /// An account, or an error that names it.
    pub fn account(&self, name: &str) -> Result<StorageAccount> {
        self.store.account(name)?.ok_or_else(|| ServiceError::not_found(format!("storage account {name:?}")))
    }

    /// A key of an account, or an error that names it.
    pub fn account_key(&self, account: &StorageAccount, access_key: &str) -> Result<AccountKey> {
        let missing =
            || ServiceError::not_found(format!("access key {access_key:?} of account {:?}", account.name));
        self.store.account_key(account.id, access_key)?.ok_or_else(missing)
    }

    /// Makes an account with its first key pair.
    pub fn create_account(&self, task: &Task, new: NewAccount) -> Result<KeyPair> {
        check_name(&new.name)?;
        let content = self.checked_content(&new.name, new.content)?;
        let pair = KeyPair::random()?.with_given(&new.access_key, &new.secret_key)?;
        let account = StorageAccount {
            id: AccountId::random(),
            name: new.name,
            display_name: content.display_name,
            email: content.email,
            pool: content.pool,
            quota: content.quota,
            created_at: self.clock.now(),
        };
        let key = self.sealed_account_key(account.id, &pair)?;
        let cause = account_cause(task, "storage-account-created", &account.name);
        self.store.add_account(&account, &key, Some(cause))?;
        Ok(pair)
    }

    /// Changes an account.
    pub fn update_account(&self, task: &Task, old: &StorageAccount, content: AccountContent) -> Result<()> {
        let content = self.checked_content(&old.name, content)?;
        let AccountContent { display_name, email, pool, quota } = content;
        let new = StorageAccount { display_name, email, pool, quota, ..old.clone() };
        let cause = account_cause(task, "storage-account-updated", &old.name);
        self.store.change_account(old, &new, Some(cause))?;
        if new.quota.is_none() && old.quota.is_some() {
            for volume in self.buckets_of(old.id)? {
                if let Some(open) = self.buckets.opened(volume.id) {
                    open.set_quota(quota_of(&volume.config)?.map(ByteSize::as_bytes));
                }
            }
        }
        Ok(())
    }

    /// Deletes an account that owns no bucket, with its keys.
    pub fn delete_account(&self, task: &Task, account: &StorageAccount) -> Result<()> {
        let owned = self.buckets_of(account.id)?;
        if let Some(first) = owned.first() {
            return Err(ServiceError::bad(format!(
                "the storage account {} owns {} bucket(s), such as {}: delete them first",
                account.name,
                owned.len(),
                first.name
            )));
        }
        let cause = account_cause(task, "storage-account-deleted", &account.name);
        self.store.remove_account(account, Some(cause))
    }

    /// The volumes of an account's buckets, by name.
    pub fn buckets_of(&self, account: AccountId) -> Result<Vec<Volume>> {
        let buckets = self.store.buckets()?;
        let is_own = |id: VolumeId| buckets.get(&id).is_some_and(|bucket| bucket.owner == Some(account));
        let mut owned: Vec<_> = self
            .store
            .volumes()?
            .into_iter()
            .map(|record| record.volume)
            .filter(|one| is_own(one.id))
            .collect();
        owned.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(owned)
    }

    /// Gives an account another key pair.
    pub fn add_account_key(
        &self,
        task: &Task,
        account: &StorageAccount,
        access_key: &str,
        secret_key: &str,
    ) -> Result<KeyPair> {
        let pair = KeyPair::random()?.with_given(access_key, secret_key)?;
        let key = self.sealed_account_key(account.id, &pair)?;
        let cause = account_cause(task, "storage-account-updated", &account.name);
        self.store.add_account_key(account, &key, Some(cause))?;
        Ok(pair)
    }

    /// Takes a key pair from an account.
    pub fn remove_account_key(&self, task: &Task, account: &StorageAccount, key: &AccountKey) -> Result<()> {
        let cause = account_cause(task, "storage-account-updated", &account.name);
        self.store.remove_account_key(key, Some(cause))
    }

    /// Limits a key of an account to some buckets, whoever owns them; with `None` it acts for its account again.
    pub fn grant_buckets(
        &self,
        task: &Task,
        account: &StorageAccount,
        key: &AccountKey,
        grants: Option<Vec<BucketGrant>>,
    ) -> Result<()> {
        let named = grants.iter().flatten().map(|grant| grant.volume);
        let unique: HashSet<VolumeId> = named.clone().collect();
        if unique.len() != named.count() {
            return Err(ServiceError::bad("a bucket is granted twice: name each once"));
        }
        let cause = account_cause(task, "storage-account-updated", &account.name);
        self.store.change_account_key(&AccountKey { grants, ..key.clone() }, Some(cause))
    }

    fn sealed_account_key(&self, account: AccountId, pair: &KeyPair) -> Result<AccountKey> {
        check_access_key(&pair.access_key)?;
        Ok(AccountKey {
            account,
            access_key: pair.access_key.clone(),
            sealed_secret: self.seal(&pair.access_key, &pair.secret_key)?,
            created_at: self.clock.now(),
            grants: None,
        })
    }

    /// The secret of an account's key, in the clear.
    pub fn account_secret(&self, key: &AccountKey) -> Result<String> {
        self.sealer.open(&key.access_key, &key.sealed_secret)
    }

    fn checked_content(&self, name: &str, content: AccountContent) -> Result<AccountContent> {
        let mut content = content;
        if content.display_name.is_empty() {
            content.display_name = name.to_owned();
        }
        let is_text = |text: &str| text.len() <= 255 && !text.chars().any(char::is_control);
        if !is_text(&content.display_name) {
            return Err(ServiceError::bad("invalid display name: at most 255 bytes, no control characters"));
        }
        let is_email = |text: &str| {
            let parts: Vec<&str> = text.split('@').collect();
            let is_whole = parts.len() == 2 && parts.iter().all(|part| !part.is_empty());
            is_whole && is_text(text) && !text.contains(char::is_whitespace)
        };
        let is_fine = content.email.is_empty() || is_email(&content.email);
        if !is_fine {
            return Err(ServiceError::bad(format!("invalid e-mail address {:?}", content.email)));
        }
        if self.elsewhere(&self.pool_document(&content.pool)?)?.is_some() {
            return Err(ServiceError::bad(format!(
                "the storage pool {} keeps its buckets elsewhere, where no storage account of this server makes any: give a \
                 pool of another driver",
                content.pool
            )));
        }
        Ok(content)
    }
}

fn account_cause(task: &Task, action: &str, name: &str) -> larder_catalog::Cause {
    cause_of(task, action, &account_url(name), &ProjectName::default_project())
}

/// An account's name stands in URLs.
fn check_name(name: &str) -> Result<()> {
    match name.parse::<larder_base::VolumeName>() {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(ServiceError::bad(format!("invalid storage account name {name:?}: {}", error.problem)))
        }
    }
}
