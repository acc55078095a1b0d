//! Buckets, who may use them, and the accounts that own some. A bucket's volume is a document of its own; what is here is
//! what a bucket has beside it.

use crate::{AccountId, Document, Key, SnapshotId, VolumeId, keys};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a bucket has beside its volume, which bears its name, project, keys and values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its volume, of kind `bucket`.
    pub volume: VolumeId,
    /// Its name, unique over the server; of one that is kept elsewhere, in its pool.
    pub name: String,
    /// The account that owns it; `None` for one made through the API, which belongs to its own keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<AccountId>,
    /// Set where the pool's own technology keeps and serves the objects: the S3 endpoint knows nothing of such a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<Agreement>,
}

/// Whether a technology that keeps a bucket itself has what the catalog says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Agreement {
    /// It has.
    Agreed,
    /// A change has begun there: it may have a part of what the catalog does not say yet.
    Changing,
    /// It is being put back to one of its snapshots: it holds a part of that, and is closed.
    Restoring {
        /// Which one.
        snapshot: SnapshotId,
    },
}

impl Document for Bucket {
    const KIND: &'static str = "bucket";

    fn key(&self) -> Key {
        keys::bucket(self.volume)
    }
}

/// What a key may do in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BucketRole {
    /// Everything.
    Admin,
    /// Read and list.
    ReadOnly,
}

/// A pair of access key and secret key that opens one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketKey {
    /// Its id.
    pub id: Uuid,
    /// The bucket's volume.
    pub volume: VolumeId,
    /// Its name.
    pub name: String,
    /// For people.
    pub description: String,
    /// What it may do.
    pub role: BucketRole,
    /// The access key, unique over the server.
    pub access_key: String,
    /// The secret key, sealed.
    pub sealed_secret: String,
}

impl Document for BucketKey {
    const KIND: &'static str = "bucket key";

    fn key(&self) -> Key {
        keys::bucket_key(self.volume, self.id)
    }
}

/// An S3 user: makes, lists and deletes buckets of its own over S3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageAccount {
    /// Its id; without dashes it is the canonical user id of S3.
    pub id: AccountId,
    /// Its name, unique over the server.
    pub name: String,
    /// What S3 shows as the owner of things.
    pub display_name: String,
    /// Its e-mail address; empty when nobody gave one. Unique over the server otherwise.
    pub email: String,
    /// The pool in which its buckets are made.
    pub pool: String,
    /// How many bytes all of its buckets may hold together; `None` without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Document for StorageAccount {
    const KIND: &'static str = "storage account";

    fn key(&self) -> Key {
        keys::account(self.id)
    }
}

/// A pair of access key and secret key of an account. It acts for the account, or opens some buckets alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountKey {
    /// The account.
    pub account: AccountId,
    /// The access key, unique over the server.
    pub access_key: String,
    /// The secret key, sealed.
    pub sealed_secret: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The buckets that it opens, whoever owns them, each once, and nothing else; `None` when it acts for its account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<BucketGrant>>,
}

impl Document for AccountKey {
    const KIND: &'static str = "account key";

    fn key(&self) -> Key {
        keys::account_key(self.account, &self.access_key)
    }
}

/// A bucket that a key of an account opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketGrant {
    /// The bucket's volume.
    pub volume: VolumeId,
    /// What it may do there.
    pub role: BucketRole,
}

/// Where the key pair of an access key stands: the value under the access key's own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum AccessKeyHome {
    /// A bucket has it.
    Bucket {
        /// The bucket's volume.
        volume: VolumeId,
        /// The key's id.
        id: Uuid,
    },
    /// An account has it.
    Account {
        /// The account.
        account: AccountId,
    },
}
