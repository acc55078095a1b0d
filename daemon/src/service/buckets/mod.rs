//! Buckets: made, changed, deleted. A bucket is a volume of kind `bucket` with keys of its own; its objects are the S3
//! endpoint's. Its name is taken once over the whole server, because the endpoint finds it by that name alone. In a pool whose
//! technology keeps and serves objects itself (`elsewhere`) buckets are made there, and the endpoint knows nothing of them.

mod elsewhere;
mod keys;
mod open;
mod pair;
mod repair;
mod snapshots;

pub use elsewhere::Elsewhere;
pub(super) use elsewhere::Opened;
pub use keys::{BucketKeyChange, NewBucketKey};
pub(super) use open::Closed;
pub(super) use open::OpenBuckets;
pub use pair::KeyPair;
pub(super) use pair::check_access_key;

use super::copies::leave_behind;
use super::crash::{Point, point};
use super::pools::OpenPool;
use super::store::VolumeRecord;
use super::volumes::{VolumeChange, size_of};
use super::{Kind, Result, Service, ServiceError, Task, VolumeSource, url};
use larder_base::{ByteSize, ProjectName, VolumeName};
use larder_catalog::AccountId;
use larder_catalog::documents::{Agreement, Bucket, BucketRole, Volume, VolumeState};
use larder_storage_buckets::WriteStop;
use larder_storage_driver::{
    Attached, Config, Content, Cx, Driver, KeyScope, VolumeId, VolumeKind, VolumeSpec, check_config,
};
use larder_storage_pool::{CopyPlan, CopySource, EmptyFill};
use std::sync::Arc;

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

/// A bucket that is about to be made.
#[derive(Debug)]
struct Planned {
    spec: VolumeSpec,
    volume: Volume,
    bucket: Bucket,
    keys: Vec<KeyPair>,
}

impl Planned {
    /// The key that its maker is told.
    fn told(self) -> Option<KeyPair> {
        self.keys.into_iter().next()
    }
}

/// A bucket to which nothing is written as long as this lives.
#[derive(Debug)]
pub(super) struct Still {
    _stop: WriteStop,
    _bucket: Arc<larder_storage_buckets::Bucket>,
}

/// The admin key that a bucket made through the API begins with.
fn first_key() -> Result<KeyPair> {
    let (name, description) = ("admin".to_owned(), "Admin user".to_owned());
    Ok(KeyPair { name, description, role: BucketRole::Admin, ..KeyPair::random()? })
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

/// What a bucket's keys and values come to with those of its pool for what nobody said.
pub(super) fn with_defaults(pool: &OpenPool, mut config: Config) -> Config {
    for (key, value) in &pool.document.config {
        if let Some(bare) = key.strip_prefix("volume.").filter(|bare| is_for_buckets(bare)) {
            config.entry(bare.to_owned()).or_insert_with(|| value.clone());
        }
    }
    config
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
        let planned = self.plan_bucket(pool, new, &[])?;
        if pool.pool.objects().is_some() {
            self.make_bucket_elsewhere(task, pool, &planned)?;
            return Ok(planned.told());
        }
        let make = |cx: &Cx<'_>| pool.pool.create_volume(cx, &planned.spec, &EmptyFill);
        self.make_bucket(task, pool, &planned, make)?;
        Ok(planned.told())
    }

    /// Makes a bucket whose content `fill` puts in; it is told the canonical id of the bucket's owner. `keys` are the
    /// bucket's keys; without one it gets an admin key.
    pub(super) fn create_filled_bucket(
        &self,
        task: &Task,
        pool: &OpenPool,
        new: NewBucket,
        keys: &[KeyPair],
        fill: impl Fn(&str, &Cx<'_>, &Attached) -> larder_storage_driver::Result<()>,
    ) -> Result<()> {
        must_serve_here(pool)?;
        let planned = self.plan_bucket(pool, new, keys)?;
        let owner = planned.volume.id.as_uuid().simple().to_string();
        let fill = |cx: &Cx<'_>, into: &Attached| fill(&owner, cx, into);
        self.make_bucket(task, pool, &planned, |cx| pool.pool.create_volume(cx, &planned.spec, &fill))
    }

    /// Makes a bucket that is a copy of another, or of one of its snapshots, with an admin key of its own.
    pub fn copy_bucket(
        &self,
        task: &Task,
        target: &OpenPool,
        source: &VolumeSource,
        mut new: NewBucket,
    ) -> Result<Option<KeyPair>> {
        if source.pool.pool.objects().is_some() && source.pool.document.id == target.document.id {
            return self.copy_bucket_elsewhere(task, target, source, new);
        }
        must_serve_here(&source.pool)?;
        must_serve_here(target)?;
        leave_behind(&mut new.config, &source.record.volume, target);
        if let Some(name) = &source.snapshot {
            let found = self.store.snapshot(&source.record.volume, name.as_str())?;
            let bucket = &source.record.volume.name;
            found.ok_or_else(|| ServiceError::not_found(format!("snapshot {name} of bucket {bucket:?}")))?;
        }
        let planned = self.plan_bucket(target, new, &[])?;
        let from = source.record.storage_id()?;
        let _still = match source.snapshot {
            None => Some(self.stop_writes(task, &source.record)?),
            Some(_) => None,
        };
        self.make_bucket(task, target, &planned, |cx| {
            let source =
                CopySource { pool: &source.pool.pool, volume: &from, snapshot: source.snapshot.as_ref() };
            target.pool.copy_volume(cx, source, &CopyPlan { spec: &planned.spec, snapshots: &[] })
        })?;
        Ok(planned.told())
    }

    /// Stops writing to a bucket, with all of it on stable storage, until what is returned is dropped.
    pub(super) fn stop_writes(&self, task: &Task, record: &VolumeRecord) -> Result<Still> {
        let bucket = self.open_bucket(task, record)?;
        Ok(Still { _stop: bucket.checkpoint()?, _bucket: bucket })
    }

    /// Records a bucket as being created, does the work, records the outcome.
    fn make_bucket(
        &self,
        task: &Task,
        pool: &OpenPool,
        planned: &Planned,
        work: impl FnOnce(&Cx<'_>) -> larder_storage_driver::Result<()>,
    ) -> Result<()> {
        let _claim = self.claim_volume(task, &planned.volume)?;
        self.begin_bucket(pool, planned)?;
        self.make_begun(task, pool, &planned.volume, &[], work)
    }

    fn begin_bucket(&self, pool: &OpenPool, planned: &Planned) -> Result<()> {
        let sealed = planned.keys.iter().map(|pair| self.sealed_key(&planned.volume, pair));
        let sealed = sealed.collect::<Result<Vec<_>>>()?;
        self.store.begin_bucket(&pool.document, &planned.volume, &planned.bucket, &sealed)?;
        point(Point::Intent);
        Ok(())
    }

    /// Checks a new bucket and fills in what nobody said: the pool's defaults and an admin key.
    fn plan_bucket(&self, pool: &OpenPool, new: NewBucket, keys: &[KeyPair]) -> Result<Planned> {
        let name = bucket_name(new.name.as_str())?;
        let driver = pool.pool.driver();
        let mut config = new.config;
        config.retain(|_, value| !value.is_empty());
        check_bucket_config(pool, &config)?;
        let config = with_defaults(pool, config);
        let id = VolumeId {
            kind: VolumeKind::Bucket,
            content: Content::Filesystem,
            project: new.project.clone(),
            name: name.clone(),
        };
        check_keeper(driver, &id, new.owner)?;
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
        let elsewhere = driver.objects().map(|_| Agreement::Agreed);
        let bucket = Bucket { volume: volume.id, name: name.to_string(), owner: new.owner, elsewhere };
        let keys = match (keys, new.owner) {
            ([], None) => vec![first_key()?],
            (keys, _) => keys.to_vec(),
        };
        Ok(Planned { spec, volume, bucket, keys })
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
        let smaller = new.filter(|new| old.is_none_or(|old| *new < old));
        if pool.pool.objects().is_some() {
            if let Some(smaller) = smaller {
                must_fit(record, smaller, self.used_elsewhere_of(task, pool, record)?)?;
            }
            return self.update_bucket_elsewhere(task, pool, record, change, new);
        }
        let _closed = match smaller {
            Some(smaller) => self.closed_to_shrink(task, pool, record, smaller)?,
            None => None,
        };
        self.update_volume(task, pool, record, change)?;
        if let Some(open) = self.buckets.opened(record.volume.id) {
            open.set_quota(new.map(ByteSize::as_bytes));
        }
        Ok(())
    }

    /// Closes a bucket that gets smaller: not every filesystem shrinks in use. Nothing is returned when its requests don't end
    /// in time; a volume that can shrink all the same does.
    fn closed_to_shrink(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        size: ByteSize,
    ) -> Result<Option<Closed<'_>>> {
        // Opened, so that it is asked itself once nobody else can put anything in.
        let open = self.open_bucket(task, record)?;
        must_fit(record, size, open.usage().map_err(ServiceError::from)?.bytes)?;
        drop(open);
        let fits = |bucket: &larder_storage_buckets::Bucket| must_fit(record, size, bucket.usage()?.bytes);
        match self.close_bucket_when(task, pool, record, fits) {
            Ok(closed) => Ok(Some(closed)),
            Err(error) if error.kind == Kind::Unavailable => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a bucket with its objects, keys, snapshots and backups.
    pub fn delete_bucket(&self, task: &Task, pool: &OpenPool, record: &VolumeRecord) -> Result<()> {
        if pool.pool.objects().is_some() {
            return self.delete_bucket_elsewhere(task, pool, record);
        }
        let _closed = self.close_bucket(task, pool, record)?;
        self.delete_volume(task, pool, record)
    }

    /// Deletes a bucket in which nothing is. Fails with [`Kind::Conflict`] when something is, or was and can be brought back: its
    /// snapshots and backups are not the clients' of the endpoint to delete.
    pub fn delete_empty_bucket(&self, task: &Task, pool: &OpenPool, record: &VolumeRecord) -> Result<()> {
        let volume = &record.volume;
        if !self.store.snapshots_of(volume)?.is_empty() || !self.store.backups_of(volume)?.is_empty() {
            let message = format!("the bucket {:?} has snapshots or backups: delete them first", volume.name);
            return Err(ServiceError { kind: Kind::Conflict, message });
        }
        // Opened, so that it is asked itself once nobody else can put anything in.
        drop(self.open_bucket(task, record)?);
        let is_empty = |bucket: &larder_storage_buckets::Bucket| match bucket.is_empty()? {
            true => Ok(()),
            false => {
                let message = format!("the bucket {:?} is not empty", record.volume.name);
                Err(ServiceError { kind: Kind::Conflict, message })
            }
        };
        let _closed = self.close_bucket_when(task, pool, record, is_empty)?;
        self.delete_volume(task, pool, record)
    }

    /// The URL of a bucket.
    pub fn bucket_url(&self, pool: &str, volume: &Volume) -> String {
        url(&["storage-pools", pool, "buckets", &volume.name], &volume.project)
    }
}

/// Refuses a size that is less than what a bucket holds.
fn must_fit(record: &VolumeRecord, size: ByteSize, used: u64) -> Result<()> {
    if used <= size.as_bytes() {
        return Ok(());
    }
    let name = &record.volume.name;
    Err(ServiceError::bad(format!("the bucket {name} can't have a size of {size}: it holds {used} bytes")))
}

/// Refuses a bucket that the driver can't keep.
fn check_keeper(driver: &dyn Driver, id: &VolumeId, owner: Option<AccountId>) -> Result<()> {
    let refuse = |why: &str| Err(ServiceError::bad(format!("the {} driver keeps no {why}", driver.name())));
    match driver.objects() {
        Some(_) if owner.is_some() => refuse("buckets of storage accounts"),
        Some(objects) => Ok(objects.check(id)?),
        None if driver.capabilities().contents.contains(&Content::Filesystem) => Ok(()),
        None => refuse("buckets: it has no volumes of files"),
    }
}

/// Refuses what is done with the objects of a bucket, where this daemon does not keep them.
pub fn must_serve_here(pool: &OpenPool) -> Result<()> {
    match pool.pool.objects() {
        None => Ok(()),
        Some(_) => Err(ServiceError::bad(format!(
            "the buckets of the storage pool {} are kept elsewhere: use an S3 client at their s3_url, or a backup",
            pool.document.name
        ))),
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
