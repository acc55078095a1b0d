//! What the tests of the bucket engine share.

#![allow(dead_code, reason = "each test uses its part")]
#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_base::{Cancel, SystemClock};
use larder_storage_buckets::{Bucket, BucketError, Delete, Put, Rebuilt, Version, rebuild};
use std::path::Path;
use std::sync::Arc;

/// Opens a bucket without a quota.
pub(crate) fn open(path: &Path) -> Bucket {
    Bucket::open(path, None, Arc::new(SystemClock)).unwrap()
}

/// Whether a bucket can't be opened for want of its index.
pub(crate) fn is_unusable(path: &Path) -> bool {
    let opened = Bucket::open(path, None, Arc::new(SystemClock));
    matches!(opened, Err(BucketError::IndexUnusable { .. }))
}

/// Rebuilds a bucket's index.
pub(crate) fn rebuilt(path: &Path) -> Rebuilt {
    rebuild(path, Arc::new(SystemClock), &Cancel::never(), &mut |_| ()).unwrap()
}

/// Puts bytes under a key.
pub(crate) fn put(bucket: &Bucket, key: &str, bytes: &[u8]) -> Version {
    let mut incoming = bucket.receive(bytes.len() as u64).unwrap();
    for chunk in bytes.chunks(7000) {
        incoming.write(chunk).unwrap();
    }
    bucket.put(incoming.finish(), Put { key: key.to_owned(), ..Put::default() }).unwrap()
}

/// The bytes of a key's current object or of a version.
pub(crate) fn get(bucket: &Bucket, key: &str, version: Option<&str>) -> Vec<u8> {
    let (_, mut content) = bucket.read(key, version).unwrap();
    let mut bytes = Vec::new();
    loop {
        let (_, chunk) = content.read(bytes.len() as u64, 5000).unwrap();
        if chunk.is_empty() {
            return bytes;
        }
        bytes.extend(chunk);
    }
}

/// Deletes a key.
pub(crate) fn delete(bucket: &Bucket, key: &str, version: Option<&str>) {
    let version = version.map(str::to_owned);
    bucket.delete(Delete { key: key.to_owned(), version, ..Delete::default() }).unwrap();
}

/// All files of a directory below `data` and `staging`.
pub(crate) fn files(path: &Path) -> usize {
    let shards = std::fs::read_dir(path.join("data")).unwrap().map(|entry| entry.unwrap().path());
    let folders = shards.chain([path.join("staging")]);
    folders.map(|folder| std::fs::read_dir(folder).unwrap().count()).sum()
}
