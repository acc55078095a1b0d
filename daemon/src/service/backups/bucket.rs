//! Buckets to backups and back.

use super::manifest::{self, DescribedKey};
use super::pack;
use super::survey::{self, Wanted};
use super::{BackupImport, NewBackup, STAGE, elsewhere, objects};
use crate::service::buckets::{quota_of, with_defaults};
use crate::service::{
    KeyPair, NewBucket, OpenPool, Result, Service, ServiceError, Task, VolumeRecord, bucket_name,
};
use larder_base::{ByteSize, ProjectName, VolumeName};
use larder_catalog::documents::BucketRole;
use larder_storage_buckets::Bucket;
use larder_storage_driver::{Attached, Cx, VolumeKind};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// An import of a bucket of which all is checked that can be known without reading the whole file.
#[derive(Debug, Clone)]
pub struct CheckedBucket {
    file: PathBuf,
    new: NewBucket,
    /// With their secrets, where the backup has them.
    keys: Vec<KeyPair>,
}

impl CheckedBucket {
    /// The new bucket's name.
    pub fn name(&self) -> &VolumeName {
        &self.new.name
    }
}

impl Service {
    pub(super) fn write_bucket_backup(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        new: &NewBackup,
        output: impl Write + Send,
    ) -> Result<()> {
        let text = manifest::write_bucket(&pool.document, &record.volume)?;
        let mut index = tempfile::NamedTempFile::new_in(self.directories().backups())?;
        index.write_all(text.as_bytes())?;
        if let Some(opened) = self.opened_elsewhere(pool, record)? {
            return pack::through(STAGE, new.compression, output, task, |output| {
                Ok(self.with_cx(task, |cx| elsewhere::write(cx, &opened, index.path(), &output))?)
            });
        }
        let bucket = self.open_bucket(task, record)?;
        pack::through(STAGE, new.compression, output, task, |output| {
            objects::write(&bucket, index.path(), &output, &task.cancel)
        })
    }

    /// Looks at the beginning of an uploaded backup of a bucket: what it would become, and whether that can be.
    pub fn check_bucket_import(&self, pool: &OpenPool, import: BackupImport) -> Result<CheckedBucket> {
        let (described, keys) = manifest::read_bucket(&survey::read_manifest(&import.file)?)?;
        let name = match import.name {
            Some(name) => name,
            None => bucket_name(&described.name)?,
        };
        self.bucket_name_must_be_free(pool, &import.project, &name)?;
        let mut config = described.config;
        // Another driver's own keys mean nothing here.
        let known = pool.pool.driver().config_keys();
        config.retain(|key, _| key.starts_with("user.") || known.iter().any(|known| known.name == key));
        let new = NewBucket {
            project: import.project,
            name,
            description: described.description,
            config,
            owner: None,
        };
        let keys = keys.into_iter().map(pair_of).collect::<Result<_>>()?;
        Ok(CheckedBucket { file: import.file, new, keys })
    }

    /// Refuses a name that a bucket of the server has; in a pool that keeps its buckets elsewhere, one that a bucket of the pool
    /// has.
    pub fn bucket_name_must_be_free(
        &self,
        pool: &OpenPool,
        project: &ProjectName,
        name: &VolumeName,
    ) -> Result<()> {
        let found = match pool.pool.objects() {
            None => self.store().bucket_volume(name.as_str())?,
            Some(_) => {
                self.store().volume(&pool.document, project, VolumeKind::Bucket.as_str(), name.as_str())?
            }
        };
        match found {
            Some(_) => Err(ServiceError::taken(format!("the bucket {:?}", name.as_str()))),
            None => Ok(()),
        }
    }

    /// Makes a bucket from an uploaded backup. All or nothing; the backup is read whole before the first change.
    pub fn import_bucket(&self, task: &Task, pool: &OpenPool, import: CheckedBucket) -> Result<()> {
        let CheckedBucket { file, new, keys } = import;
        let config = with_defaults(pool, new.config.clone());
        let quota = quota_of(&config)?.map_or(u64::MAX, ByteSize::as_bytes);
        if let Some(store) = pool.pool.objects() {
            let found = survey::survey(&file, &Wanted::Objects, quota, task)?;
            must_be_taken(found.largest_object, store.largest_object())?;
            let folder = self.directories().backups();
            return self.create_filled_bucket_elsewhere(task, pool, new, &keys, |cx, into| {
                elsewhere::read(cx, into, &file, &folder)
            });
        }
        let usage = self.with_cx(task, |cx| pool.pool.usage(cx))?;
        let room = usage.total_bytes.saturating_sub(usage.used_bytes);
        survey::survey(&file, &Wanted::Objects, room.min(quota), task)?;
        let clock = Arc::clone(&self.clock);
        self.create_filled_bucket(task, pool, new, &keys, |owner, cx: &Cx<'_>, into: &Attached| {
            let bucket =
                Bucket::open(into.directory()?, None, Arc::clone(&clock)).map_err(ServiceError::from)?;
            let outcome = objects::read(&bucket, &file, owner, cx.cancel());
            cx.checkpoint()?;
            Ok(outcome?)
        })
    }
}

/// Refuses a backup with an object that can't be put at once.
fn must_be_taken(largest: u64, limit: ByteSize) -> Result<()> {
    match largest <= limit.as_bytes() {
        true => Ok(()),
        false => Err(ServiceError::bad(format!(
            "the backup has an object of {largest} bytes: one of at most {limit} can be imported here"
        ))),
    }
}

fn pair_of(key: DescribedKey) -> Result<KeyPair> {
    let role = match key.role.as_str() {
        "admin" => BucketRole::Admin,
        _ => BucketRole::ReadOnly,
    };
    let pair = KeyPair::random()?.with_given(&key.access_key, &key.secret_key)?;
    Ok(KeyPair { name: key.name, description: key.description, role, ..pair })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_can_not_be_put_at_once_is_refused() {
        let limit = ByteSize::from_bytes(5 << 30);
        must_be_taken(5 << 30, limit).unwrap();
        let error = must_be_taken((5 << 30) + 1, limit).unwrap_err();
        assert!(error.message.contains("5368709121 bytes") && error.message.contains("5GiB"), "{error}");
    }
}
