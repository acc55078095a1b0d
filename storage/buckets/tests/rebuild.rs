//! What ends a rebuild of the index before its time leaves no bucket that looks empty, and what is damaged stays where it is.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

mod common;

use common::{files, get, is_unusable, open, put, rebuilt};
use larder_base::{Cancel, SystemClock};
use larder_storage_buckets::{Bucket, BucketError, SMALL, rebuild};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LARGE: usize = SMALL * 3;

/// A bucket that was closed, with a small and a large object.
fn made() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let bucket = open(folder.path());
    put(&bucket, "small", b"x");
    put(&bucket, "large", &vec![5; LARGE]);
    folder
}

fn is_whole(bucket: &Bucket) -> bool {
    get(bucket, "small", None) == b"x" && get(bucket, "large", None) == vec![5; LARGE]
}

/// Whether nothing of a new index is there.
fn is_clean(path: &Path) -> bool {
    ["index.db.new", "index.db.new-wal", "index.db.new-shm"].iter().all(|name| !path.join(name).exists())
}

/// The file of the only object that has one.
fn only_file(path: &Path) -> PathBuf {
    let shards = fs::read_dir(path.join("data")).unwrap().map(|entry| entry.unwrap().path());
    let mut files = shards.flat_map(|shard| fs::read_dir(shard).unwrap()).map(|entry| entry.unwrap().path());
    files.next().unwrap()
}

#[test]
fn an_index_that_is_not_whole_is_never_taken_for_one() {
    let folder = made();
    let path = folder.path();
    // Killed while the new index was made: an empty one stands beside the old.
    fs::copy(empty_bucket().path().join("index.db"), path.join("index.db.new")).unwrap();
    fs::write(path.join("index.db.new-wal"), b"half").unwrap();
    assert!(is_whole(&open(path)) && is_clean(path));

    // Killed after the old one was set aside, with a journal of the old one that nobody has removed.
    fs::write(path.join("index.db.new"), b"half").unwrap();
    fs::rename(path.join("index.db"), path.join("index.db.old")).unwrap();
    fs::write(path.join("index.db-wal"), b"of the old one").unwrap();
    assert!(is_unusable(path) && is_unusable(path), "opening it makes no index");
    assert_eq!(rebuilt(path).versions, 2);
    assert!(is_whole(&open(path)) && is_clean(path));

    // Cut off to nothing, and never written to.
    fs::write(path.join("index.db"), b"").unwrap();
    assert!(is_unusable(path) && is_unusable(path));
    assert_eq!(rebuilt(path).versions, 2);
    // Once more, of one that is fine.
    assert_eq!(rebuilt(path).versions, 2);
    assert!(is_whole(&open(path)) && path.join("index.db.old").exists());
    assert_eq!(files(path), 1);
}

/// A folder with the index of an empty bucket.
fn empty_bucket() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    folder
}

#[test]
fn a_rebuild_that_is_cancelled_or_fails_changes_nothing() {
    let folder = made();
    let path = folder.path();
    let before = fs::read(path.join("index.db")).unwrap();
    let cancel = Cancel::new();
    let stop = cancel.clone();
    let outcome = rebuild(path, Arc::new(SystemClock), &cancel, &mut |_| stop.cancel());
    assert!(matches!(outcome, Err(BucketError::Cancelled(_))), "{outcome:?}");
    fs::write(path.join("settings.json"), b"not JSON").unwrap();
    let outcome = rebuild(path, Arc::new(SystemClock), &Cancel::never(), &mut |_| ());
    assert!(matches!(outcome, Err(BucketError::Damaged { .. })), "{outcome:?}");
    assert_eq!(fs::read(path.join("index.db")).unwrap(), before);
    assert!(!path.join("index.db.old").exists());
    assert!(is_whole(&open(path)) && is_clean(path));
}

#[test]
fn a_blob_that_does_not_tell_whose_it_is_stays_where_it_is() {
    let folder = made();
    let path = folder.path();
    let file = only_file(path);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..LARGE]).unwrap();
    let found = rebuilt(path);
    let id = file.file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!((found.versions, found.unused, found.unreadable), (1, 0, vec![id]));
    let bucket = open(path);
    assert!(matches!(bucket.find("large", None), Err(BucketError::NoSuchKey)));
    drop(bucket);
    // Who brings it back whole has the object again.
    fs::write(&file, &bytes).unwrap();
    assert_eq!(rebuilt(path).versions, 2);
    assert!(is_whole(&open(path)));
}

#[test]
fn a_scrub_names_what_is_missing_and_goes_on() {
    let folder = made();
    let path = folder.path();
    fs::remove_file(only_file(path)).unwrap();
    let bucket = open(path);
    let scrubbed = bucket.scrub(&Cancel::never(), &mut |_| ()).unwrap();
    assert_eq!((scrubbed.versions, scrubbed.bytes, scrubbed.damaged.len()), (2, 1, 1), "{scrubbed:?}");
    assert_eq!((scrubbed.damaged[0].key.as_str(), scrubbed.damaged[0].version.as_str()), ("large", "null"));
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(matches!(bucket.scrub(&cancel, &mut |_| ()), Err(BucketError::Cancelled(_))));
}
