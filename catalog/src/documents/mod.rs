//! The kinds of documents.

mod bucket;
mod image;
mod instance;
mod pool;
mod server;
mod volume;

pub use bucket::{
    AccessKeyHome, AccountKey, Agreement, Bucket, BucketGrant, BucketKey, BucketRole, StorageAccount,
};
pub use image::{Image, ImageAlias, ImageFiles, UpdateSource};
pub use instance::{Instance, InstanceSnapshot, InstanceState, Profile};
pub use pool::{Pool, PoolStatus};
pub use server::{Kept, Project, ServerConfig, Warning, WarningStatus};
pub use volume::{Backup, Intent, Snapshot, Volume, VolumeState};

/// Keys and values as clients give them.
pub type Config = std::collections::BTreeMap<String, String>;
/// Devices: a name and its keys and values.
pub type Devices = std::collections::BTreeMap<String, Config>;
