//! Storage buckets and their keys.

use crate::{Config, StorageVolumeBackup};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

wire! {
    /// A bucket.
    pub struct StorageBucket {
        /// Its keys and values.
        pub config: Config,
        /// For people.
        pub description: String,
        /// Its name.
        pub name: String,
        /// Where it is reached over S3; empty while the endpoint is off.
        pub s3_url: String,
        /// The member that has it; `none` on a single machine.
        pub location: String,
        /// Its project.
        pub project: String,
        /// The storage account that owns it; left out when none does.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub account: String,
    }

    /// A new bucket: empty unless `source` says where its content comes from.
    pub struct StorageBucketsPost {
        /// Its keys and values.
        pub config: Config,
        /// For people.
        pub description: String,
        /// Its name.
        pub name: String,
        /// What it is a copy of; an empty name: of nothing.
        pub source: StorageBucketSource,
    }

    /// What a new bucket is a copy of.
    pub struct StorageBucketSource {
        /// The bucket, or `bucket/snapshot`.
        pub name: String,
        /// Its pool; the target's when empty.
        pub pool: String,
        /// Its project; the request's when empty.
        pub project: String,
    }

    /// What can be changed of a bucket, or the snapshot to go back to.
    pub struct StorageBucketPut {
        /// Its keys and values.
        pub config: Config,
        /// For people.
        pub description: String,
        /// The snapshot to go back to; then nothing else counts.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub restore: String,
    }

    /// A bucket's key.
    pub struct StorageBucketKey {
        /// For people.
        pub description: String,
        /// `admin` or `read-only`.
        pub role: String,
        /// The access key.
        #[serde(rename = "access-key")]
        pub access_key: String,
        /// The secret key.
        #[serde(rename = "secret-key")]
        pub secret_key: String,
        /// Its name.
        pub name: String,
    }

    /// A new key. An empty access key or secret key is made up.
    pub struct StorageBucketKeysPost {
        /// For people.
        pub description: String,
        /// `admin`, or `read-only` (also when empty).
        pub role: String,
        /// The access key.
        #[serde(rename = "access-key")]
        pub access_key: String,
        /// The secret key.
        #[serde(rename = "secret-key")]
        pub secret_key: String,
        /// Its name.
        pub name: String,
    }

    /// What can be changed of a key. An empty access key or secret key stays as it is.
    pub struct StorageBucketKeyPut {
        /// For people.
        pub description: String,
        /// `admin`, or `read-only` (also when empty).
        pub role: String,
        /// The access key.
        #[serde(rename = "access-key")]
        pub access_key: String,
        /// The secret key.
        #[serde(rename = "secret-key")]
        pub secret_key: String,
    }

    /// A stored backup of a bucket.
    pub struct StorageBucketBackup {
        /// Its name.
        pub name: String,
        /// When it was made.
        pub created_at: Timestamp,
        /// When it goes; [`ZERO_TIME`](crate::ZERO_TIME) for never.
        pub expires_at: Timestamp,
    }

    /// A new backup of a bucket.
    pub struct StorageBucketBackupsPost {
        /// Its name; made up when empty.
        pub name: String,
        /// When it goes; never when absent or zero.
        pub expires_at: Option<Timestamp>,
        /// How to compress; as the server's keys say when empty.
        pub compression_algorithm: String,
    }

    /// What a look at every byte of a bucket found.
    pub struct StorageBucketScrub {
        /// Versions that were looked at.
        pub versions: u64,
        /// Bytes that were read.
        pub bytes: u64,
        /// What is damaged.
        pub damaged: Vec<StorageBucketDamage>,
    }

    /// A version of an object that is not what was written.
    pub struct StorageBucketDamage {
        /// The object's key.
        pub key: String,
        /// The version's id.
        pub version: String,
        /// What is wrong with it.
        pub problem: String,
    }

    /// What a new index of a bucket was made of.
    pub struct StorageBucketRebuild {
        /// Versions and delete markers that are in it.
        pub versions: u64,
        /// Keys of versions that are not, because bytes of them are missing.
        pub incomplete: Vec<String>,
        /// Files and small objects that don't tell whose they are, because that part of them is damaged; they stay.
        pub unreadable: Vec<String>,
        /// Files and small objects of no version, which were removed.
        pub unused: u64,
    }
}

/// A bucket with all that hangs on it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StorageBucketFull {
    /// The bucket.
    #[serde(flatten)]
    pub bucket: StorageBucket,
    /// Its stored backups.
    #[serde(default, deserialize_with = "crate::wire::read")]
    pub backups: Vec<StorageBucketBackup>,
    /// Its keys.
    #[serde(default, deserialize_with = "crate::wire::read")]
    pub keys: Vec<StorageBucketKey>,
}

impl From<StorageVolumeBackup> for StorageBucketBackup {
    fn from(backup: StorageVolumeBackup) -> Self {
        Self { name: backup.name, created_at: backup.created_at, expires_at: backup.expires_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_spelled_as_the_peers_spell_it() {
        let text =
            r#"{"name":"admin","role":"admin","access-key":"AK","secret-key":"SK","description":null}"#;
        let key: StorageBucketKey = serde_json::from_str(text).unwrap();
        assert_eq!(
            (key.access_key.as_str(), key.secret_key.as_str(), key.description.as_str()),
            ("AK", "SK", "")
        );
        let written = serde_json::to_string(&key).unwrap();
        assert!(written.contains(r#""access-key":"AK""#), "{written}");
        let bucket = serde_json::to_string(&StorageBucket::default()).unwrap();
        assert_eq!(
            bucket,
            r#"{"config":{},"description":"","name":"","s3_url":"","location":"","project":""}"#
        );
    }

    #[test]
    fn what_a_repair_found_is_spelled_so() {
        let (key, version, problem) = ("a/b".to_owned(), "null".to_owned(), "its MD5 is another".to_owned());
        let damaged = vec![StorageBucketDamage { key, version, problem }];
        let scrubbed = StorageBucketScrub { versions: 2, bytes: 9, damaged };
        assert_eq!(
            serde_json::to_string(&scrubbed).unwrap(),
            r#"{"versions":2,"bytes":9,"damaged":[{"key":"a/b","version":"null","problem":"its MD5 is another"}]}"#
        );
        let rebuilt =
            StorageBucketRebuild { incomplete: vec!["a/b".to_owned()], ..StorageBucketRebuild::default() };
        assert_eq!(
            serde_json::to_string(&rebuilt).unwrap(),
            r#"{"versions":0,"incomplete":["a/b"],"unreadable":[],"unused":0}"#
        );
    }
}
