//! Objects, versions, locks, quota, multipart uploads, rebuilding, scrubbing.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

mod common;

use common::{delete, files, get, is_unusable, open, put, rebuilt};
use jiff::{SignedDuration, Timestamp};
use larder_base::{Cancel, ManualClock, SystemClock};
use larder_storage_buckets::{
    Bucket, BucketError, Complete, Delete, EtagMatch, Precondition, Put, Query, Record, Retention,
    RetentionMode, SMALL, Usage, Versioning,
};
use std::sync::Arc;

const LARGE: usize = SMALL * 3;

#[test]
fn what_was_put_is_read_back_after_the_bucket_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let objects = [
        ("small", vec![1; 10]),
        ("large", vec![2; LARGE]),
        ("empty", vec![]),
        ("a/../b//c.meta", vec![3; 5]),
    ];
    {
        let bucket = open(folder.path());
        for (key, bytes) in &objects {
            put(&bucket, key, bytes);
        }
    }
    let bucket = open(folder.path());
    for (key, bytes) in &objects {
        assert_eq!(&get(&bucket, key, None), bytes, "{key}");
    }
    assert_eq!(bucket.usage().unwrap(), Usage { bytes: 15 + LARGE as u64, objects: 4 });
}

#[test]
fn an_overwritten_object_stays_readable_for_who_reads_it_and_leaves_no_file_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = open(folder.path());
    put(&bucket, "key", &vec![1; LARGE]);
    let (_, mut reading) = bucket.read("key", None).unwrap();
    put(&bucket, "key", &vec![2; LARGE]);
    put(&bucket, "other", b"so that the writer works once more");
    put(&bucket, "other", b"again");
    assert_eq!(files(folder.path()), 1, "a file that is open needs no name");
    assert_eq!(reading.read(LARGE as u64 - 3, 3).unwrap().1, [1, 1, 1]);
    drop(reading);
    assert_eq!(get(&bucket, "key", None), vec![2; LARGE]);
}

#[test]
fn versions_markers_and_the_null_version_behave_as_in_s3() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = open(folder.path());
    put(&bucket, "key", b"before versioning");
    bucket.set_versioning(Versioning::Enabled).unwrap();
    let second = put(&bucket, "key", b"second");
    delete(&bucket, "key", None);
    assert!(bucket.find("key", None).unwrap().is_marker);
    assert_eq!(get(&bucket, "key", Some("null")), b"before versioning");
    assert_eq!(get(&bucket, "key", Some(&second.id)), b"second");
    let marker = bucket.find("key", None).unwrap().id;
    delete(&bucket, "key", Some(&marker));
    assert_eq!(get(&bucket, "key", None), b"second");
    bucket.set_versioning(Versioning::Suspended).unwrap();
    put(&bucket, "key", b"null again");
    let page = bucket.list_versions(&Query { limit: 10, ..Query::default() }).unwrap();
    assert_eq!(page.entries.len(), 2);
    assert!(matches!(bucket.find("key", Some("nonsense")), Err(BucketError::NoSuchVersion)));
}

#[test]
fn a_condition_is_checked_inside_the_change() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = open(folder.path());
    let attempt = |precondition| {
        let incoming = bucket.receive(0).unwrap();
        bucket.put(incoming.finish(), Put { key: "key".into(), precondition, ..Put::default() })
    };
    let absent = || Precondition { none_matches: Some(EtagMatch::Any), ..Precondition::default() };
    let etag = |etag: &str| Precondition {
        matches: Some(EtagMatch::Tags(vec![etag.into()])),
        ..Precondition::default()
    };
    assert!(matches!(attempt(etag("x")), Err(BucketError::NoSuchKey)));
    let first = attempt(absent()).unwrap();
    assert!(matches!(attempt(absent()), Err(BucketError::PreconditionFailed(_))));
    assert!(matches!(attempt(etag("x")), Err(BucketError::PreconditionFailed(_))));
    attempt(etag(&first.etag)).unwrap();
}

#[test]
fn locks_hold_until_they_end() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let bucket = Bucket::open(folder.path(), None, clock.clone()).unwrap();
    bucket.set_versioning(Versioning::Enabled).unwrap();
    let locked = put(&bucket, "key", b"x");
    let until: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
    let retain = move |mode| {
        move |version: &mut larder_storage_buckets::Version| {
            version.record.retention = Some(Retention { mode, until });
            Ok(())
        }
    };
    let attempt = |may_bypass| {
        let version = Some(locked.id.clone());
        bucket.delete(Delete { key: "key".into(), version, may_bypass, ..Delete::default() })
    };
    bucket.update("key", Some(&locked.id), retain(RetentionMode::Compliance)).unwrap();
    assert!(matches!(attempt(true), Err(BucketError::Locked(_))));
    bucket.update("key", Some(&locked.id), retain(RetentionMode::Governance)).unwrap();
    assert!(matches!(attempt(false), Err(BucketError::Locked(_))));
    clock.advance(SignedDuration::from_hours(24));
    attempt(false).unwrap();
}

#[test]
fn a_locked_null_version_is_neither_replaced_nor_deleted_without_versioning() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let bucket = Bucket::open(folder.path(), None, clock.clone()).unwrap();
    let until: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
    let retain = move |version: &mut larder_storage_buckets::Version| {
        version.record.retention = Some(Retention { mode: RetentionMode::Compliance, until });
        Ok(())
    };
    let hold = |version: &mut larder_storage_buckets::Version| {
        version.record.legal_hold = Some(true);
        Ok(())
    };
    for key in ["retained", "held"] {
        put(&bucket, key, &vec![1; LARGE]);
    }
    bucket.update("retained", None, retain).unwrap();
    bucket.update("held", None, hold).unwrap();
    let overwrite = |key: &str| {
        let mut incoming = bucket.receive(0).unwrap();
        incoming.write(&[2; LARGE]).unwrap();
        bucket.put(incoming.finish(), Put { key: key.into(), ..Put::default() }).map(drop)
    };
    let complete = |key: &str| {
        let upload = upload_parts(&bucket, key, &[(1, vec![3; LARGE])]);
        let parts = bucket.parts(&upload, 0, 10).unwrap().into_iter().map(|part| part.part).collect();
        let record = Record { parts, ..Record::default() };
        bucket.complete(Complete { key: key.into(), upload, record, ..Complete::default() }).map(drop)
    };
    let remove = |key: &str| {
        bucket.delete(Delete { key: key.into(), may_bypass: true, ..Delete::default() }).map(drop)
    };
    for versioning in [Versioning::Off, Versioning::Suspended] {
        bucket.set_versioning(versioning).unwrap();
        for key in ["retained", "held"] {
            for outcome in [overwrite(key), complete(key), remove(key)] {
                assert!(matches!(outcome, Err(BucketError::Locked(_))), "{versioning:?} {key}: {outcome:?}");
            }
            assert_eq!(get(&bucket, key, None), vec![1; LARGE], "{versioning:?} {key}");
        }
    }
    clock.advance(SignedDuration::from_hours(24));
    overwrite("retained").unwrap();
    assert_eq!(get(&bucket, "retained", None), vec![2; LARGE]);
}

#[test]
fn the_quota_stops_writing_and_not_deleting() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Bucket::open(folder.path(), Some(100), Arc::new(SystemClock)).unwrap();
    put(&bucket, "key", &[0; 90]);
    assert!(matches!(
        bucket.receive(11),
        Err(BucketError::QuotaExceeded { quota: 100, used: 90, wanted: 11 })
    ));
    // A client that doesn't say how much comes.
    let mut incoming = bucket.receive(0).unwrap();
    incoming.write(&[0; 20]).unwrap();
    let outcome = bucket.put(incoming.finish(), Put { key: "other".into(), ..Put::default() });
    assert!(matches!(outcome, Err(BucketError::QuotaExceeded { used: 90, wanted: 20, .. })));
    delete(&bucket, "key", None);
    put(&bucket, "other", &[0; 100]);
    assert_eq!(bucket.usage().unwrap(), Usage { bytes: 100, objects: 1 });
}

#[test]
fn uploads_under_way_share_the_quota() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Bucket::open(folder.path(), Some(100), Arc::new(SystemClock)).unwrap();
    put(&bucket, "key", &[0; 20]);
    let mut first = bucket.receive(50).unwrap();
    let is_refused = |more| {
        let Err(BucketError::QuotaExceeded { used, wanted, .. }) = bucket.receive(more) else { return false };
        (used, wanted) == (101 - more, more)
    };
    assert!(is_refused(31) && bucket.receive_at_once(31).is_none());
    // Who came first may go on to its end, and what is received still counts.
    first.write(&[1; 50]).unwrap();
    bucket.must_have_room_beside(50).unwrap();
    let staged = first.finish();
    assert!(is_refused(31));
    let second = bucket.receive(30).unwrap();
    assert!(is_refused(1));
    bucket.put(staged, Put { key: "first".into(), ..Put::default() }).unwrap();
    assert!(is_refused(1), "it counts once");
    drop(second);
    // Who didn't say how much would come counts by what came.
    let mut silent = bucket.receive(0).unwrap();
    silent.write(&[1; 25]).unwrap();
    assert!(is_refused(6));
    drop(silent);
    drop(bucket.receive(30).unwrap());
}

fn upload_parts(bucket: &Bucket, key: &str, parts: &[(u32, Vec<u8>)]) -> String {
    let upload = bucket.create_upload(key, &Record::default()).unwrap().id;
    for (number, bytes) in parts {
        let mut incoming = bucket.receive(0).unwrap();
        incoming.write(bytes).unwrap();
        bucket.put_part(key, &upload, *number, incoming.finish(), None).unwrap();
    }
    upload
}

#[test]
fn completing_an_upload_takes_the_named_parts_and_discards_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = open(folder.path());
    let parts = [(1, vec![1; LARGE]), (2, vec![2; LARGE]), (3, vec![3; 4])];
    let upload = upload_parts(&bucket, "key", &parts);
    let uploaded = bucket.parts(&upload, 0, 10).unwrap();
    assert_eq!(bucket.usage().unwrap(), Usage { bytes: 2 * LARGE as u64 + 4, objects: 0 });
    let wanted = [&uploaded[0], &uploaded[2]].map(|uploaded| uploaded.part.clone()).to_vec();
    let record = Record { parts: wanted, ..Record::default() };
    let complete = Complete { key: "key".into(), upload: upload.clone(), record, ..Complete::default() };
    bucket.complete(complete).unwrap();
    assert_eq!(get(&bucket, "key", None), [vec![1; LARGE], vec![3; 4]].concat());
    assert!(matches!(bucket.upload("key", &upload), Err(BucketError::NoSuchUpload)));
    assert!(bucket.completed("key", &upload).unwrap().is_some());
    assert_eq!(bucket.usage().unwrap(), Usage { bytes: LARGE as u64 + 4, objects: 1 });
    let other = upload_parts(&bucket, "other", &parts);
    bucket.abort_upload("other", &other).unwrap();
    put(&bucket, "x", b"so that the writer works once more");
    assert_eq!(files(folder.path()), 1);
    delete(&bucket, "key", None);
    drop(bucket);
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn a_reader_of_an_object_of_several_parts_keeps_those_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = open(folder.path());
    let sizes = [(1, vec![1; LARGE]), (2, vec![2; LARGE]), (3, vec![3; 4])];
    let upload = upload_parts(&bucket, "key", &sizes);
    let parts = bucket.parts(&upload, 0, 10).unwrap().into_iter().map(|part| part.part).collect();
    let record = Record { parts, ..Record::default() };
    bucket.complete(Complete { key: "key".into(), upload, record, ..Complete::default() }).unwrap();
    put(&bucket, "large", &[4; LARGE]);
    let (_, mut slow) = bucket.read("key", None).unwrap();
    assert_eq!(slow.read(0, 5).unwrap().1, [1; 5]);
    delete(&bucket, "large", None);
    put(&bucket, "x", b"so that the writer works once more");
    assert_eq!(files(folder.path()), 2, "another object's file is kept, or is the only one gone");
    delete(&bucket, "key", None);
    put(&bucket, "x", b"and again");
    put(&bucket, "x", b"and again");
    assert_eq!(slow.read(2 * LARGE as u64 - 2, 5).unwrap().1, [2; 2]);
    assert_eq!(slow.read(2 * LARGE as u64, 5).unwrap().1, [3; 4]);
    drop(slow);
    put(&bucket, "x", b"and again");
    put(&bucket, "x", b"and again");
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn a_part_that_stayed_in_staging_is_not_removed_when_its_upload_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let bucket = open(path);
    let upload =
        upload_parts(&bucket, "key", &[(1, vec![1; LARGE]), (2, vec![2; LARGE]), (3, vec![3; LARGE])]);
    let parts: Vec<_> = bucket.parts(&upload, 0, 10).unwrap().into_iter().map(|part| part.part).collect();
    let (kept, given_up) = (parts[..2].to_vec(), &parts[2]);
    let place = |id: &str| (path.join("data").join(&id[..2]).join(id), path.join("staging").join(id));
    let bytes = std::fs::read(place(&given_up.id).0).unwrap();
    let record = Record { parts: kept.clone(), ..Record::default() };
    bucket.complete(Complete { key: "key".into(), upload, record, ..Complete::default() }).unwrap();
    drop(bucket);
    // It could not be moved, the upload was forgotten a day later, and another part was never heard of.
    std::fs::rename(place(&kept[1].id).0, place(&kept[1].id).1).unwrap();
    std::fs::write(place(&given_up.id).1, bytes).unwrap();
    let index = rusqlite::Connection::open(path.join("index.db")).unwrap();
    assert_eq!(index.execute("DELETE FROM completed", []).unwrap(), 1);
    drop(index);
    let bucket = open(path);
    assert_eq!(get(&bucket, "key", None), [vec![1; LARGE], vec![2; LARGE]].concat());
    assert!(place(&kept[1].id).0.exists() && !place(&kept[1].id).1.exists(), "it is where it belongs");
    assert_eq!(files(path), 2);
}

#[test]
fn a_file_that_could_not_be_moved_is_moved_with_the_next_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let bucket = open(path);
    let (data, aside) = (path.join("data"), path.join("aside"));
    std::fs::rename(&data, &aside).unwrap();
    let version = put(&bucket, "key", &vec![1; LARGE]);
    let staged = path.join("staging").join(&version.record.parts[0].id);
    assert!(staged.exists());
    assert_eq!(get(&bucket, "key", None), vec![1; LARGE]);
    std::fs::rename(&aside, &data).unwrap();
    put(&bucket, "other", b"x");
    assert!(!staged.exists(), "it was tried once more");
    assert_eq!((get(&bucket, "key", None), files(path)), (vec![1; LARGE], 1));
}

#[test]
fn the_index_is_rebuilt_from_the_objects_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let before = {
        let bucket = open(folder.path());
        put(&bucket, "null", &vec![1; LARGE]);
        bucket.set_versioning(Versioning::Enabled).unwrap();
        bucket.set_setting("policy", Some("{}")).unwrap();
        put(&bucket, "key", b"first");
        put(&bucket, "key", &vec![5; LARGE]);
        put(&bucket, "gone", b"x");
        delete(&bucket, "gone", None);
        for key in ["key", "null"] {
            let tag = |version: &mut larder_storage_buckets::Version| {
                version.record.tags = vec![("a".into(), "b".into())];
                Ok(())
            };
            bucket.update(key, None, tag).unwrap();
        }
        let upload = upload_parts(&bucket, "multi", &[(1, vec![1; LARGE]), (2, vec![2; 4])]);
        let parts = bucket.parts(&upload, 0, 10).unwrap().into_iter().map(|part| part.part).collect();
        let record = Record { parts, ..Record::default() };
        bucket.complete(Complete { key: "multi".into(), upload, record, ..Complete::default() }).unwrap();
        upload_parts(&bucket, "in progress", &[(1, vec![1; LARGE])]);
        snapshot(&bucket)
    };
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        let _ = std::fs::remove_file(folder.path().join(name));
    }
    assert!(is_unusable(folder.path()), "it would look empty");
    let rebuilt = rebuilt(folder.path());
    assert_eq!((rebuilt.versions, rebuilt.unused), (6, 1), "{rebuilt:?}");
    let bucket = open(folder.path());
    assert_eq!(snapshot(&bucket), before);
    assert_eq!(bucket.setting("policy").unwrap().as_deref(), Some("{}"));
    assert_eq!(bucket.versioning(), Versioning::Enabled);
    assert_eq!(bucket.find("null", None).unwrap().record.tags.len(), 1);
    assert_eq!(get(&bucket, "multi", None), [vec![1; LARGE], vec![2; 4]].concat());
    let scrubbed = bucket.scrub(&Cancel::never(), &mut |_| ()).unwrap();
    assert_eq!((scrubbed.versions, scrubbed.damaged.len()), (6, 0));
}

#[test]
fn the_file_of_an_object_never_changes() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = open(folder.path());
    let id = put(&bucket, "key", &vec![1; LARGE]).record.parts[0].id.clone();
    let path = folder.path().join("data").join(&id[..2]).join(&id);
    let before = std::fs::read(&path).unwrap();
    for value in ["first", "second"] {
        let tag = |version: &mut larder_storage_buckets::Version| {
            version.record.tags = vec![("a".into(), value.into())];
            Ok(())
        };
        bucket.update("key", None, tag).unwrap();
    }
    assert!(std::fs::read(&path).unwrap() == before);
    drop(bucket);
    let headers = || {
        let small = rusqlite::Connection::open(folder.path().join("small.db")).unwrap();
        let count: i64 = small.query_row("SELECT count(*) FROM headers", [], |row| row.get(0)).unwrap();
        count
    };
    assert_eq!(headers(), 1);
    let rebuilt = rebuilt(folder.path());
    assert_eq!((rebuilt.versions, rebuilt.unused), (1, 0));
    let bucket = open(folder.path());
    assert_eq!(bucket.find("key", None).unwrap().record.tags, [("a".to_owned(), "second".to_owned())]);
    // With the object its header goes.
    delete(&bucket, "key", None);
    drop(bucket);
    assert_eq!((files(folder.path()), headers()), (0, 0));
}

fn snapshot(bucket: &Bucket) -> Vec<larder_storage_buckets::Version> {
    let page = bucket.list_versions(&Query { limit: 1000, ..Query::default() }).unwrap();
    let keys = page.entries.iter().filter_map(|entry| match entry {
        larder_storage_buckets::Entry::Item(item) => Some((item.key.clone(), item.id.clone())),
        larder_storage_buckets::Entry::Prefix(_) => None,
    });
    keys.map(|(key, id)| bucket.find(&key, Some(&id)).unwrap()).collect()
}

#[test]
fn a_scrub_finds_the_byte_that_changed() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = open(folder.path());
    put(&bucket, "whole", &vec![1; LARGE]);
    let version = put(&bucket, "damaged", &vec![1; LARGE]);
    let id = &version.record.parts[0].id;
    let path = folder.path().join("data").join(&id[..2]).join(id);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[LARGE / 2] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let scrubbed = bucket.scrub(&Cancel::never(), &mut |_| ()).unwrap();
    assert_eq!(scrubbed.versions, 2);
    assert_eq!(scrubbed.damaged.iter().map(|damage| damage.key.as_str()).collect::<Vec<_>>(), ["damaged"]);
}

#[test]
fn a_copy_made_under_a_checkpoint_is_a_bucket_of_that_moment() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Arc::new(open(folder.path()));
    put(&bucket, "key", &vec![1; LARGE]);
    let stop = bucket.checkpoint().unwrap();
    let (sender, written) = std::sync::mpsc::channel();
    let other = Arc::clone(&bucket);
    let thread = std::thread::spawn(move || {
        put(&other, "late", b"x");
        sender.send(()).unwrap();
    });
    assert!(written.recv_timeout(std::time::Duration::from_millis(200)).is_err(), "it was written meanwhile");
    let copy = tempfile::tempdir().unwrap();
    copy_folder(folder.path(), copy.path());
    drop(stop);
    thread.join().unwrap();
    let snapshot = open(copy.path());
    assert_eq!(get(&snapshot, "key", None), vec![1; LARGE]);
    assert!(matches!(snapshot.find("late", None), Err(BucketError::NoSuchKey)));
    assert_eq!(get(&bucket, "late", None), b"x");
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        // What SQLite needs is in its files once they are written back.
        if entry.path().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else if !entry.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
