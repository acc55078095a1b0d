//! Buckets: made, changed, deleted. A bucket is a volume of kind `bucket` with keys of its own; its objects are the S3
//! endpoint's. Its name is taken once over the whole server, because the endpoint finds it by that name alone.

mod keys;
mod open;
mod pair;

pub use keys::{BucketKeyChange, NewBucketKey};
pub(super) use open::OpenBuckets;
pub use pair::KeyPair;
pub(super) use pair::check_access_key;

use super::crash::{Point, point};
use super::pools::OpenPool;
use super::store::VolumeRecord;
use super::volumes::{VolumeChange, size_of};
use super::{Result, Service, ServiceError, Task, url};
use larder_base::{ByteSize, ProjectName, VolumeName};
use larder_catalog::AccountId;
use larder_catalog::documents::{Bucket, BucketKey, BucketRole, Volume, VolumeState};
use larder_storage_driver::{Config, Content, KeyScope, VolumeId, VolumeKind, VolumeSpec, check_config};
use larder_storage_pool::EmptyFill;

/// What the volume of a bucket may hold beyond the bucket's `size`: the index, and room to delete in when it is full.
const HEADROOM: u64 = 64 << 20;
/// The same as a part of the size.
const HEADROOM_PART: u64 = 16;

/// What a new bucket shall be.
#[derive(Debug, Clone)]
pub struct NewBucket {
    /// Its project (already the one that holds the buckets of the project asked for).
    pub project: ProjectName,
    /// Its name.
    pub name: VolumeName,
    /// For people.
    pub description: String,
    /// Its keys and values, without the pool's defaults.
    pub config: Config,
    /// The account that owns it; one without an owner gets a first admin key.
    pub owner: Option<AccountId>,
}

/// A bucket's name by the peers' rule (`^[a-z0-9][-.a-z0-9]{2,62}$`), narrowed to what S3 clients can address: it ends
/// with a letter or a digit, has no two dots in a row, and is no IP address.
pub fn bucket_name(text: &str) -> Result<VolumeName> {
    let refuse = |problem: &str| ServiceError::bad(format!("invalid bucket name {text:?}: {problem}"));
    if !(3..=63).contains(&text.len()) {
        return Err(refuse("it must be 3 to 63 characters long"));
    }
    if !text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.')) {
        return Err(refuse("only lower-case letters, digits, dashes and dots are allowed"));
    }
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !ends(text.bytes().next()) || !ends(text.bytes().last()) {
        return Err(refuse("it must begin and end with a letter or a digit"));
    }
    if text.contains("..") || text.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err(refuse("two dots in a row and IP addresses are not allowed"));
    }
    Ok(text.parse()?)
}

/// How much a bucket may hold: its `size`, where 0 means as much as there is.
pub(super) fn quota_of(config: &Config) -> Result<Option<ByteSize>> {
    Ok(size_of(config)?.filter(|size| size.as_bytes() > 0))
}

/// How large the volume of a bucket of this size is.
pub(super) fn volume_size(size: ByteSize) -> ByteSize {
    let bytes = size.as_bytes();
    ByteSize::from_bytes(bytes.saturating_add(bytes / HEADROOM_PART).saturating_add(HEADROOM))
}

/// Whether a volume key means something for a bucket.
fn is_for_buckets(name: &str) -> bool {
    let is_for_files = ["security.", "initial."].iter().any(|prefix| name.starts_with(prefix));
    !is_for_files && name != "snapshots.schedule"
}

impl Service {
    /// The project that holds the buckets of the project `name`: itself, or the default project.
    pub fn bucket_project(&self, name: &str) -> Result<ProjectName> {
        self.feature_project(name, "features.storage.buckets")
    }

    /// Makes an empty bucket. All or nothing; returns the first admin key of a bucket without an owner.
    pub fn create_bucket(&self, task: &Task, pool: &OpenPool, new: NewBucket) -> Result<Option<KeyPair>> {
        let name = bucket_name(new.name.as_str())?;
        let driver = pool.pool.driver();
        let mut config = new.config;
        config.retain(|_, value| !value.is_empty());
        check_bucket_config(pool, &config)?;
        for (key, value) in &pool.document.config {
            if let Some(bare) = key.strip_prefix("volume.").filter(|bare| is_for_buckets(bare)) {
                config.entry(bare.to_owned()).or_insert_with(|| value.clone());
            }
        }
        if !driver.capabilities().contents.contains(&Content::Filesystem) {
            let message =
                format!("the {} driver keeps no buckets: it has no volumes of files", driver.name());
            return Err(ServiceError::bad(message));
        }
        let id = VolumeId {
            kind: VolumeKind::Bucket,
            content: Content::Filesystem,
            project: new.project.clone(),
            name: name.clone(),
        };
        let spec = VolumeSpec { id, size: quota_of(&config)?.map(volume_size), config: config.clone() };
        let volume = Volume {
            id: larder_catalog::VolumeId::random(),
            pool: pool.document.id,
            project: new.project,
            kind: VolumeKind::Bucket.as_str().to_owned(),
            content: Content::Filesystem.as_str().to_owned(),
            name: name.to_string(),
            description: new.description,
            config,
            state: VolumeState::Creating,
            created_at: self.clock.now(),
            takes_over: None,
        };
        let bucket = Bucket { volume: volume.id, name: name.to_string(), owner: new.owner };
        let first = match new.owner {
            None => Some(self.first_key(&volume)?),
            Some(_) => None,
        };
        let sealed = first.as_ref().map(|(key, _)| key);
        self.store.begin_bucket(&pool.document, &volume, &bucket, sealed)?;
        point(Point::Intent);
        self.make_begun(task, pool, &volume, &[], |cx| pool.pool.create_volume(cx, &spec, &EmptyFill))?;
        Ok(first.map(|(_, pair)| pair))
    }

    /// The admin key that a bucket made through the API begins with.
    fn first_key(&self, volume: &Volume) -> Result<(BucketKey, KeyPair)> {
        let pair = KeyPair {
            name: "admin".to_owned(),
            description: "Admin user".to_owned(),
            role: BucketRole::Admin,
            ..KeyPair::random()?
        };
        Ok((self.sealed_key(volume, &pair)?, pair))
    }

    /// Changes keys and description. The new size counts at once.
    pub fn update_bucket(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        change: VolumeChange,
    ) -> Result<()> {
        check_bucket_config(pool, &change.config)?;
        let (old, new) = (quota_of(&record.volume.config)?, quota_of(&change.config)?);
        if let Some(new) = new.filter(|new| old.is_none_or(|old| *new < old)) {
            let used = self.open_bucket(task, record)?.usage().map_err(ServiceError::from)?.bytes;
            if used > new.as_bytes() {
                return Err(ServiceError::bad(format!(
                    "the bucket {} can't have a size of {new}: it holds {used} bytes",
                    record.volume.name
                )));
            }
        }
        self.update_volume(task, pool, record, change)?;
        if let Some(open) = self.buckets.opened(record.volume.id) {
            open.set_quota(new.map(ByteSize::as_bytes));
        }
        Ok(())
    }

    /// Deletes a bucket with its objects, keys, snapshots and backups.
    pub fn delete_bucket(&self, task: &Task, pool: &OpenPool, record: &VolumeRecord) -> Result<()> {
        let _closed = self.close_bucket(task, pool, record)?;
        self.delete_volume(task, pool, record)
    }

    /// The URL of a bucket.
    pub fn bucket_url(&self, pool: &str, volume: &Volume) -> String {
        url(&["storage-pools", pool, "buckets", &volume.name], &volume.project)
    }
}

fn check_bucket_config(pool: &OpenPool, config: &Config) -> Result<()> {
    let driver = pool.pool.driver();
    check_config(config, KeyScope::Volume, driver.config_keys(), driver.name())?;
    match config.iter().find(|(key, value)| !is_for_buckets(key) && !value.is_empty()) {
        None => Ok(()),
        Some((key, _)) => Err(ServiceError::bad(format!("the key {key:?} means nothing for a bucket"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_s3_clients_can_address() {
        for good in ["abc", "0ab", "my-bucket.example", &"a".repeat(63)] {
            assert!(bucket_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "ab",
            &"a".repeat(64),
            "Abc",
            "a_b",
            "-ab",
            "ab-",
            "a..b",
            "ab.",
            "192.168.0.1",
            "a/b",
            "añb",
        ] {
            let error = bucket_name(bad).unwrap_err();
            assert!(error.message.contains(bad), "{error}");
        }
    }

    #[test]
    fn a_volume_has_room_beside_its_bucket() {
        let size = |text: &str| text.parse::<ByteSize>().unwrap();
        assert_eq!(volume_size(size("16MiB")), size("81MiB"));
        assert_eq!(volume_size(ByteSize::from_bytes(u64::MAX)), ByteSize::from_bytes(u64::MAX));
    }
}
