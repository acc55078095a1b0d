//! A process that puts and deletes is killed at any moment: what it acknowledged is there and whole, what it didn't is there
//! whole or not at all, and no file is left that nothing names.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test panics to fail, and its child tells by printing"
)]

mod common;

use common::{delete, files, get, open, put, rebuilt};
use larder_base::Cancel;
use larder_storage_buckets::{Bucket, BucketError, Home, Query, SMALL};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const TEST: &str = "a_kill_loses_nothing_acknowledged_and_leaves_no_half_object_and_no_orphan";
const CHILD: &str = "LARDER_BUCKET_CRASH_CHILD";
const WRITERS: usize = 4;
const KEYS: u64 = 3;

/// Every second object lies in a file, every fifth step deletes.
fn bytes_of(writer: usize, number: u64) -> Vec<u8> {
    let size = if number.is_multiple_of(2) { SMALL * 2 } else { 100 };
    format!("{writer} {number} ").into_bytes().into_iter().cycle().take(size).collect()
}

fn key_of(writer: usize, number: u64) -> String {
    format!("{writer}/{}", number % KEYS)
}

fn write_for_ever(bucket: &Bucket, writer: usize, from: u64) {
    for number in from.. {
        let key = key_of(writer, number);
        if number.is_multiple_of(5) {
            delete(bucket, &key, None);
        } else {
            put(bucket, &key, &bytes_of(writer, number));
        }
        println!("acknowledged {writer} {number}");
    }
}

fn be_the_child(path: &Path, from: u64) {
    let bucket = open(path);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let bucket = &bucket;
            scope.spawn(move || write_for_ever(bucket, writer, from));
        }
    });
}

/// What must be there after the last acknowledged number of a writer, or after the next one.
fn check(bucket: &Bucket, writer: usize, from: u64, last: u64) {
    for slot in 0..KEYS {
        let key = format!("{writer}/{slot}");
        let acknowledged = (from..=last).rev().find(|number| number % KEYS == slot);
        let next = (last + 1) % KEYS == slot;
        let found = match bucket.read(&key, None) {
            Ok(_) => Some(get(bucket, &key, None)),
            Err(BucketError::NoSuchKey) => None,
            Err(error) => panic!("{key}: {error}"),
        };
        let content = |number: u64| (!number.is_multiple_of(5)).then(|| bytes_of(writer, number));
        let is_fine = acknowledged.is_some_and(|number| found == content(number))
            || (next && found == content(last + 1))
            || acknowledged.is_none();
        assert!(is_fine, "{key} after {last}: {:?} bytes", found.map(|bytes| bytes.len()));
    }
}

#[test]
fn a_kill_loses_nothing_acknowledged_and_leaves_no_half_object_and_no_orphan() {
    if let Some(child) = std::env::var_os(CHILD) {
        let text = child.to_string_lossy().into_owned();
        let (from, path) = text.split_once(' ').unwrap();
        return be_the_child(Path::new(path), from.parse().unwrap());
    }
    let rounds: u64 =
        std::env::var("LARDER_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let folder = tempfile::tempdir().unwrap();
    let mut from = 1;
    for round in 0..rounds {
        let last = run_and_kill(folder.path(), from, Duration::from_millis(40 + round * 37 % 200));
        let bucket = open(folder.path());
        for writer in 0..WRITERS {
            check(&bucket, writer, from, last.get(&writer).copied().unwrap_or(from - 1));
        }
        let scrubbed = bucket.scrub(&Cancel::never(), &mut |_| ()).unwrap();
        assert_eq!(scrubbed.damaged, []);
        from = last.values().max().copied().unwrap_or(from) + 2;
        let in_files = files_named(&bucket);
        drop(bucket);
        assert_eq!(files(folder.path()), in_files, "round {round}: a file that nothing names");
    }
    assert!(from > 2 * rounds, "the child hardly worked");
}

/// The last bytes of an object's file: what the object says of itself.
fn header_in(path: &Path, id: &str) -> Vec<u8> {
    let bytes = fs::read(path.join("data").join(&id[..2]).join(id)).unwrap();
    bytes[SMALL * 2..].to_vec()
}

/// A MiB in which every 20 bytes look like the end of a large header.
fn many_magics() -> Vec<u8> {
    let footer = [&(1_u32 << 19).to_le_bytes(), [0; 8].as_slice(), b"LARDEROB"].concat();
    footer.repeat((1 << 20) / footer.len() * 2)
}

#[test]
fn what_a_client_was_sending_is_not_taken_for_a_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let bucket = open(path);
    let other = put(&bucket, "other", &vec![1; SMALL * 2]);
    let gone = put(&bucket, "gone", &vec![2; SMALL * 2]);
    let headers = [&other, &gone].map(|version| header_in(path, &version.record.parts[0].id));
    delete(&bucket, "gone", None);
    drop(bucket);
    // The daemon was killed while these came in: headers of an object that is there and of one that is not.
    let leave = || {
        let ends = headers.iter().cloned().chain([many_magics(), [many_magics(), vec![0]].concat()]);
        for (number, end) in ends.enumerate() {
            fs::write(path.join(format!("staging/{number:032x}")), [vec![7; 100], end].concat()).unwrap();
        }
    };
    let began = Instant::now();
    leave();
    let bucket = open(path);
    assert_eq!(files(path), 1, "only the object's own file is left");
    assert_eq!(get(&bucket, "other", None), vec![1; SMALL * 2]);
    drop(bucket);
    leave();
    let found = rebuilt(path);
    assert_eq!((found.versions, found.incomplete, found.unused), (1, vec![], 0));
    let bucket = open(path);
    assert_eq!(files(path), 1);
    assert!(matches!(bucket.find("gone", None), Err(BucketError::NoSuchKey)));
    assert_eq!(get(&bucket, "other", None), vec![1; SMALL * 2]);
    drop(bucket);
    // A file of an object whose own header is damaged, before which a client has put others.
    let damaged = path.join("data").join("00").join("0".repeat(32));
    fs::create_dir_all(damaged.parent().unwrap()).unwrap();
    fs::write(&damaged, [many_magics(), headers[1].clone(), vec![0]].concat()).unwrap();
    let found = rebuilt(path);
    assert_eq!((found.versions, found.unreadable), (1, vec!["0".repeat(32)]));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

fn files_named(bucket: &Bucket) -> usize {
    let page = bucket.list(&Query { limit: 1000, ..Query::default() }).unwrap();
    let found = page.entries.iter().map(|entry| bucket.find(entry.key(), None).unwrap());
    found.filter(|version| version.record.parts[0].home == Home::File).count()
}

#[expect(clippy::disallowed_methods, reason = "the test kills a process of its own program")]
fn run_and_kill(path: &Path, from: u64, after: Duration) -> BTreeMap<usize, u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([TEST, "--exact", "--nocapture"])
        .env(CHILD, format!("{from} {}", path.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (begins, began) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut last = BTreeMap::new();
        for line in output.lines().map_while(Result::ok) {
            let Some(rest) = line.split("acknowledged ").nth(1) else { continue };
            let Some((writer, number)) = rest.split_once(' ') else { continue };
            if let (Ok(writer), Ok(number)) = (writer.parse(), number.parse()) {
                // Only the first is waited for.
                let _ = begins.send(());
                last.insert(writer, number);
            }
        }
        last
    });
    began.recv().unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}
