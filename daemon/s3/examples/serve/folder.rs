//! A directory of accounts and buckets in a folder: each bucket a folder of its name, its owner in a file beside it.

use async_trait::async_trait;
use jiff::Timestamp;
use larder_base::SystemClock;
use larder_s3::{
    AccessKey, BucketEntry, Directory, DirectoryError, FoundBucket, Identity, IdentityName, Rights, Role,
};
use larder_storage_buckets::Bucket;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An account of the configuration.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Account {
    /// Canonical id.
    pub(crate) id: String,
    /// Name for people.
    pub(crate) display_name: String,
    /// E-mail.
    pub(crate) email: Option<String>,
    /// Secrets by access key.
    #[serde(default)]
    pub(crate) keys: BTreeMap<String, String>,
}

/// A key of buckets: secret and roles.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BucketKey {
    /// The secret.
    pub(crate) secret: String,
    /// Whose buckets they are.
    pub(crate) owner: String,
    /// Buckets that may be written, or only read.
    pub(crate) buckets: BTreeMap<String, bool>,
}

/// Who may come.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Configuration {
    /// Accounts.
    pub(crate) accounts: Vec<Account>,
    /// Keys of buckets, by access key; true for those that may write.
    #[serde(default)]
    pub(crate) bucket_keys: BTreeMap<String, BucketKey>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Owned {
    owner: String,
    created: Timestamp,
}

/// Accounts by configuration, buckets by folder.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    configuration: Configuration,
    open: Mutex<BTreeMap<String, FoundBucket>>,
}

fn failed(error: impl std::fmt::Display) -> DirectoryError {
    DirectoryError::Unavailable(error.to_string())
}

impl Folder {
    /// Opens what is in the folder.
    pub(crate) fn open(root: &Path, configuration: Configuration) -> Result<Self, DirectoryError> {
        fs::create_dir_all(root).map_err(failed)?;
        let folder = Self { root: root.to_owned(), configuration, open: Mutex::default() };
        for entry in fs::read_dir(root).map_err(failed)?.flatten() {
            if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(".owner")) {
                let text = fs::read(entry.path()).map_err(failed)?;
                let owned: Owned = serde_json::from_slice(&text).map_err(failed)?;
                folder.open_bucket(name, &owned)?;
            }
        }
        Ok(folder)
    }

    fn owner_file(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.owner"))
    }

    fn find(&self, id: &str) -> Option<Identity> {
        let account = self.configuration.accounts.iter().find(|account| account.id == id)?;
        Some(identity(account))
    }

    fn open_bucket(&self, name: &str, owned: &Owned) -> Result<FoundBucket, DirectoryError> {
        let path = self.root.join(name);
        fs::create_dir_all(&path).map_err(failed)?;
        let bucket = Bucket::open(&path, None, Arc::new(SystemClock)).map_err(failed)?;
        let owner = self.find(&owned.owner).ok_or_else(|| failed(format!("no account {}", owned.owner)))?;
        let found =
            FoundBucket { name: name.to_owned(), owner, created: owned.created, bucket: Arc::new(bucket) };
        self.open.lock().insert(name.to_owned(), found.clone());
        Ok(found)
    }
}

fn identity(account: &Account) -> Identity {
    Identity {
        id: account.id.clone(),
        display_name: account.display_name.clone(),
        email: account.email.clone(),
    }
}

#[async_trait]
impl Directory for Folder {
    async fn access_key(&self, id: &str) -> Result<Option<Arc<AccessKey>>, DirectoryError> {
        let of_account = self.configuration.accounts.iter().find_map(|account| {
            let secret = account.keys.get(id)?.clone();
            Some(AccessKey { secret, identity: identity(account), rights: Rights::Account })
        });
        let of_buckets = || {
            let key = self.configuration.bucket_keys.get(id)?;
            let role = |may_write: bool| if may_write { Role::Admin } else { Role::ReadOnly };
            let buckets = key.buckets.iter().map(|(name, may_write)| (name.clone(), role(*may_write)));
            let rights = Rights::Buckets(buckets.collect());
            Some(AccessKey { secret: key.secret.clone(), identity: self.find(&key.owner)?, rights })
        };
        Ok(of_account.or_else(of_buckets).map(Arc::new))
    }

    async fn identity(&self, name: IdentityName<'_>) -> Result<Option<Identity>, DirectoryError> {
        let found = self.configuration.accounts.iter().find(|account| match name {
            IdentityName::Id(id) => account.id == id,
            IdentityName::Email(email) => account.email.as_deref() == Some(email),
        });
        Ok(found.map(identity))
    }

    async fn bucket(&self, name: &str) -> Result<Option<FoundBucket>, DirectoryError> {
        Ok(self.open.lock().get(name).cloned())
    }

    async fn buckets(&self, owner: &Identity) -> Result<Vec<BucketEntry>, DirectoryError> {
        let open = self.open.lock();
        let own = open.values().filter(|found| found.owner.id == owner.id);
        Ok(own.map(|found| BucketEntry { name: found.name.clone(), created: found.created }).collect())
    }

    async fn all_buckets(&self) -> Result<Vec<String>, DirectoryError> {
        Ok(self.open.lock().keys().cloned().collect())
    }

    async fn create_bucket(&self, owner: &Identity, name: &str) -> Result<FoundBucket, DirectoryError> {
        if let Some(found) = self.open.lock().get(name) {
            let is_own = found.owner.id == owner.id;
            return Err(if is_own { DirectoryError::Owned } else { DirectoryError::Taken });
        }
        let owned = Owned { owner: owner.id.clone(), created: Timestamp::now() };
        let text = serde_json::to_vec(&owned).map_err(failed)?;
        fs::write(self.owner_file(name), text).map_err(failed)?;
        self.open_bucket(name, &owned)
    }

    async fn delete_bucket(&self, _owner: &Identity, name: &str) -> Result<(), DirectoryError> {
        let found = self.open.lock().remove(name).ok_or(DirectoryError::Missing)?;
        if !found.bucket.is_empty().map_err(failed)? {
            self.open.lock().insert(name.to_owned(), found);
            return Err(DirectoryError::NotEmpty);
        }
        drop(found);
        fs::remove_file(self.owner_file(name)).map_err(failed)?;
        fs::remove_dir_all(self.root.join(name)).map_err(failed)
    }
}
