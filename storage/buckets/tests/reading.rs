//! Reading beside changes: connections that keep a transaction open neither show an old state nor hold up the logs.

mod common;

use common::{get, open, put};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// More than one log takes before SQLite writes it back, several times over.
const CHANGES: u32 = 1200;
const LOG: u64 = 12 << 20;

fn log_sizes(folder: &Path) -> [u64; 2] {
    ["index.db-wal", "small.db-wal"].map(|name| folder.join(name).metadata().map_or(0, |file| file.len()))
}

#[test]
fn who_reads_sees_what_was_acknowledged_and_the_logs_stay_short() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = open(folder.path());
    let number = |bytes: Vec<u8>| u32::from_le_bytes(bytes[..4].try_into().unwrap());
    let value = |number: u32| [number.to_le_bytes().to_vec(), vec![0; 3000]].concat();
    put(&bucket, "key", &value(0));
    let (acknowledged, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let readers = [(); 4].map(|()| {
            scope.spawn(|| {
                let mut reads = 0;
                while !is_over.load(Ordering::Acquire) {
                    let least = acknowledged.load(Ordering::Acquire);
                    let seen = number(get(&bucket, "key", None));
                    assert!(seen >= least, "{seen} was read after {least} was acknowledged");
                    reads += 1;
                }
                reads
            })
        });
        for change in 1..=CHANGES {
            put(&bucket, "key", &value(change));
            acknowledged.store(change, Ordering::Release);
        }
        is_over.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    let sizes = log_sizes(folder.path());
    assert!(sizes.iter().all(|size| *size < LOG), "the logs grew to {sizes:?}");
}

#[test]
fn idle_readers_do_not_keep_the_logs_from_being_written_back() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = open(folder.path());
    put(&bucket, "key", b"value");
    get(&bucket, "key", None);
    assert_ne!(log_sizes(folder.path()), [0, 0]);
    let stop = bucket.checkpoint().unwrap();
    assert_eq!(log_sizes(folder.path()), [0, 0]);
    assert_eq!(get(&bucket, "key", None), b"value");
    drop(stop);
    put(&bucket, "key", b"other");
    assert_eq!(get(&bucket, "key", None), b"other");
    let _stop = bucket.checkpoint().unwrap();
    assert_eq!(log_sizes(folder.path()), [0, 0]);
}
