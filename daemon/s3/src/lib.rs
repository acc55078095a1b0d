//! The S3 protocol over buckets: signatures, access, and every operation, for whoever tells it of keys and buckets.
//!
//! [`Endpoint`] answers connections; [`Directory`] is what it asks the daemon. Objects are `larder-storage-buckets`.

mod acl;
mod authorization;
pub mod blocking;
mod bucket_access;
mod buckets;
mod checksum;
mod chunk_signature;
mod chunk_trailer;
mod chunks;
mod conditions;
mod config;
mod copy;
mod cors;
mod delete;
mod describe;
mod directory;
mod document;
mod emit;
mod encryption;
mod endpoint;
mod face;
mod form;
mod form_policy;
mod from_file;
mod gate;
mod ingest;
pub mod lifecycle;
mod limits;
pub mod linger;
mod lists;
mod multipart;
mod objects;
mod pace;
mod policy;
mod policy_actions;
mod policy_condition;
mod post;
mod properties;
mod read;
mod replay;
mod reply;
mod request;
mod settings;
mod shortcut;
mod support;
mod traffic;
mod unsigned;

pub use directory::{
    AccessKey, BucketEntry, Directory, DirectoryError, FoundBucket, Identity, IdentityName, Rights, Role,
};
pub use endpoint::Endpoint;
pub use face::{Face, Options};
pub use gate::Peer;
pub use limits::{Admitted, Patience};
pub use replay::Repeats;
pub use traffic::{Answered, Watcher};
