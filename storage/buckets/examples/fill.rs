//! Fills a bucket that nobody has open with many small objects, as fast as the engine takes them.
//!
//! ```sh
//! cargo run --release -p larder-storage-buckets --example fill -- FOLDER COUNT
//! ```

use larder_base::SystemClock;
use larder_storage_buckets::{Bucket, BucketError, Put, Record};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// As many as share one commit.
const WORKERS: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, count] = arguments.as_slice() else { return Err("usage: fill FOLDER COUNT".into()) };
    let count: usize = count.parse()?;
    let bucket = Bucket::open(Path::new(folder), None, Arc::new(SystemClock))?;
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), BucketError> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            let mut incoming = bucket.receive(8)?;
            incoming.write(&number.to_le_bytes())?;
            let key = format!("folder{:03}/object{number:09}", number % 1000);
            let record = Record { owner: "filler".to_owned(), ..Record::default() };
            bucket.put(incoming.finish(), Put { key, record, ..Put::default() })?;
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| BucketError::Closed)?)
    })?;
    Ok(())
}
