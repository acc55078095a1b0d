//! What the endpoint asks the daemon: whose key this is, which bucket has this name, and to make or remove one.

use async_trait::async_trait;
use jiff::Timestamp;
use larder_storage_buckets::Bucket;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// Who owns buckets and objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Canonical id, as lists and access control lists show it.
    pub id: String,
    /// Name for people.
    pub display_name: String,
    /// E-mail, by which a grant may name the identity.
    pub email: Option<String>,
}

/// What a key of a bucket may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything in the bucket.
    Admin,
    /// Reading and listing.
    ReadOnly,
}

/// Where a key opens what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rights {
    /// An account's key: its own buckets, and what others grant it. It may make and remove buckets.
    Account,
    /// Keys of buckets: these by name, and nothing else at all.
    Buckets(BTreeMap<String, Role>),
}

/// An access key.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// The secret that requests are signed with.
    pub secret: String,
    /// Whose key it is.
    pub identity: Identity,
    /// What it opens.
    pub rights: Rights,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("AccessKey");
        shown.field("identity", &self.identity).field("rights", &self.rights).finish_non_exhaustive()
    }
}

/// A bucket that was found.
#[derive(Debug, Clone)]
pub struct FoundBucket {
    /// Its name on this endpoint.
    pub name: String,
    /// Its owner.
    pub owner: Identity,
    /// When it was made.
    pub created: Timestamp,
    /// Its objects.
    pub bucket: Arc<Bucket>,
}

/// A bucket in an account's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketEntry {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
}

/// Why the daemon refused.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// The name belongs to another owner's bucket.
    #[error("the bucket name is taken")]
    Taken,
    /// The owner has it already.
    #[error("you have this bucket already")]
    Owned,
    /// Objects are in it, or it has snapshots or backups.
    #[error("the bucket is not empty, or has snapshots or backups that the server's owner has to delete")]
    NotEmpty,
    /// There is no such bucket.
    #[error("there is no such bucket")]
    Missing,
    /// The account has as many buckets as it may, or may make none.
    #[error("the account may not have more buckets")]
    TooMany,
    /// It can't be told now; a client may try again.
    #[error("it can't be told now: {0}")]
    Unavailable(String),
}

/// How an identity is named in a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityName<'a> {
    /// By canonical id.
    Id(&'a str),
    /// By e-mail.
    Email(&'a str),
}

/// The seam to the daemon. Its answers may come from memory: it is asked at every request.
#[async_trait]
pub trait Directory: Send + Sync + fmt::Debug + 'static {
    /// An access key by its id.
    async fn access_key(&self, id: &str) -> Result<Option<Arc<AccessKey>>, DirectoryError>;

    /// An identity that grants may name.
    async fn identity(&self, name: IdentityName<'_>) -> Result<Option<Identity>, DirectoryError>;

    /// A bucket by its name, opened.
    async fn bucket(&self, name: &str) -> Result<Option<FoundBucket>, DirectoryError>;

    /// The buckets of an owner, by name.
    async fn buckets(&self, owner: &Identity) -> Result<Vec<BucketEntry>, DirectoryError>;

    /// The names of all buckets of this endpoint, for the work that lifecycles ask for.
    async fn all_buckets(&self) -> Result<Vec<String>, DirectoryError>;

    /// Makes a bucket for an account.
    async fn create_bucket(&self, owner: &Identity, name: &str) -> Result<FoundBucket, DirectoryError>;

    /// Removes an empty bucket for an account.
    async fn delete_bucket(&self, owner: &Identity, name: &str) -> Result<(), DirectoryError>;
}
