//! `kill -9` of the daemon while many clients put objects, whole and in parts: what was acknowledged is there bit for bit after the restart,
//! and nothing else is visible in part. `make crash-s3` runs more rounds; LARDER_SEED repeats one. On every local driver
//! that works here, or on the one that LARDER_SOAK_DRIVER names.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test panics to fail, and tells its seed")]

use larder_tests::{
    Connection, Larderd, PART, Pair, S3, between, host_of, number, require, with_each_driver,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const BUCKET: &str = "/1.0/storage-pools/here/buckets/bucket";
/// Keys of each writer: it overwrites its own again and again.
const KEYS: u64 = 40;

/// A small generator of numbers that look random (xorshift64*).
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn of(seed: u64, salt: u64) -> Self {
        Self((seed ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// What the `version`th content of a key is: every byte of it depends on both.
fn content(seed: u64, key: &str, version: u64) -> Vec<u8> {
    let salt = key.bytes().fold(version, |sum, byte| sum.wrapping_mul(131).wrapping_add(u64::from(byte)));
    let mut random = Random::of(seed, salt);
    // Around the size up to which objects lie together, and some large ones.
    let size = match random.below(64) {
        0 => PART as u64 + random.below(64 << 10),
        1..8 => random.below(400 << 10),
        _ => random.below(24 << 10),
    };
    let mut bytes = format!("{key} {version} ").into_bytes();
    while (bytes.len() as u64) < size {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes
}

/// The versions of a key: the last that was acknowledged, and the last that was tried.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    acknowledged: u64,
    tried: u64,
}

type Told = BTreeMap<String, Known>;

/// Puts objects until the connection breaks.
fn write(host: &str, seed: u64, writer: u64, mut told: Told, is_over: &AtomicBool) -> Told {
    let Some(mut connection) = Connection::open(host) else { return told };
    let mut random =
        Random::of(seed, writer + 1_000_000 + told.values().map(|known| known.tried).sum::<u64>());
    while !is_over.load(Ordering::Relaxed) {
        let key = format!("w{writer}/k{}", random.below(KEYS));
        let known = told.entry(key.clone()).or_default();
        known.tried += 1;
        let (path, in_parts) = (format!("bucket/{key}"), random.below(8) == 0);
        match connection.put(&path, &content(seed, &key, known.tried), in_parts) {
            Some((200, _)) => known.acknowledged = known.tried,
            Some((status, body)) => panic!("PUT {key}: {status}: {}", String::from_utf8_lossy(&body)),
            None => break,
        }
    }
    told
}

/// Every key that is listed.
fn listed(connection: &mut Connection) -> Vec<String> {
    let mut keys = Vec::new();
    loop {
        let after = keys.last().map(|key: &String| format!("&start-after={}", key.replace('/', "%2F")));
        let path = format!("bucket?list-type=2{}", after.unwrap_or_default());
        let (status, body) = connection.send("GET", &path, b"").unwrap();
        let text = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(status, 200, "{text}");
        keys.extend(text.split("<Key>").skip(1).map(|rest| rest.split('<').next().unwrap().to_owned()));
        if !text.contains("<IsTruncated>true") {
            return keys;
        }
    }
}

/// What is there is what was acknowledged, or what was tried after it, whole.
fn check(host: &str, seed: u64, told: &mut Told) {
    let mut connection = Connection::open(host).unwrap();
    let keys = listed(&mut connection);
    for (key, known) in told.iter() {
        let is_there = keys.contains(key);
        assert!(is_there || known.acknowledged == 0, "{key} was acknowledged and is gone");
    }
    for key in keys {
        let known = told.get_mut(&key).unwrap_or_else(|| panic!("{key} was never put"));
        let (status, body) = connection.send("GET", &format!("bucket/{key}"), b"").unwrap();
        assert_eq!(status, 200, "GET {key}");
        let versions = known.acknowledged.max(1)..=known.tried;
        let found = versions.clone().find(|version| body == content(seed, &key, *version));
        let version = found.unwrap_or_else(|| panic!("{key} is none of its versions {versions:?}"));
        *known = Known { acknowledged: version, tried: version };
    }
    told.retain(|_, known| known.acknowledged > 0);
}

/// Gives up what was never completed, which its client could have gone on with.
fn abort_uploads(host: &str) {
    let mut connection = Connection::open(host).unwrap();
    loop {
        let (_, body) = connection.send("GET", "bucket?uploads=", b"").unwrap();
        let text = String::from_utf8_lossy(&body).into_owned();
        let uploads = text.split("<Upload>").skip(1);
        let aborted = uploads.filter_map(|upload| {
            let (key, id) = (between(upload, "<Key>", "<")?, between(upload, "<UploadId>", "<")?);
            let (status, _) = connection.send("DELETE", &format!("bucket/{key}?uploadId={id}"), b"")?;
            assert_eq!(status, 204, "{upload}");
            Some(())
        });
        if aborted.count() == 0 {
            return;
        }
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    if !require("what_was_acknowledged_survives_kill_9", &["curl"]) {
        return;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("LARDER_SEED", u64::from(now.subsec_nanos()));
    with_each_driver(|daemon, driver| {
        println!("{driver}: seed {seed}: LARDER_SEED={seed} repeats it");
        let body = json!({ "name": "bucket", "config": { "size": "768MiB" } });
        let admin = Pair::of(&daemon.change("POST", "/1.0/storage-pools/here/buckets", &body));
        S3::open(daemon, admin).let_everybody_in("bucket");
        write_and_kill(daemon, seed);
        abort_uploads(&host_of(daemon, BUCKET));
        // Staging holds nothing once the bucket has been opened again.
        assert_eq!(
            std::fs::read_dir(volume(daemon).join("staging")).unwrap().count(),
            0,
            "{driver}: something is left in staging"
        );
    });
}

/// Where the bucket's volume is: mounted, or a folder of its pool.
fn volume(daemon: &Larderd) -> PathBuf {
    let mounted = daemon.mounts().into_iter().find(|point| point.ends_with("default_bucket"));
    let folder = || daemon.directory().join("storage-pools/here/buckets/default_bucket");
    mounted.map_or_else(folder, PathBuf::from)
}

fn write_and_kill(daemon: &mut Larderd, seed: u64) {
    let writers = number("LARDER_CRASH_WRITERS", 32);
    let mut random = Random::of(seed, 7);
    let mut told: Vec<Told> = vec![Told::new(); usize::try_from(writers).unwrap()];
    let mut acknowledged = 0;
    for round in 0..number("LARDER_CRASH_ROUNDS", 5) {
        let (host, is_over) = (host_of(daemon, BUCKET), AtomicBool::new(false));
        let pause = Duration::from_millis(200 + random.below(1500));
        told = std::thread::scope(|scope| {
            let start = |(writer, known): (usize, Told)| {
                let (host, is_over) = (&host, &is_over);
                scope.spawn(move || write(host, seed, writer as u64, known, is_over))
            };
            let writers: Vec<_> = told.drain(..).enumerate().map(start).collect();
            std::thread::sleep(pause);
            daemon.kill();
            is_over.store(true, Ordering::Relaxed);
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        daemon.spawn(&[]);
        let mut all: Told = told.iter().flat_map(Clone::clone).collect();
        acknowledged = all.values().map(|known| known.acknowledged).sum();
        check(&host_of(daemon, BUCKET), seed, &mut all);
        for (writer, known) in told.iter_mut().enumerate() {
            let own = format!("w{writer}/");
            *known =
                all.iter().filter(|(key, _)| key.starts_with(&own)).map(|(k, v)| (k.clone(), *v)).collect();
        }
        println!("round {round}: {} objects, {acknowledged} versions acknowledged", all.len());
    }
    assert!(acknowledged > 20, "only {acknowledged} objects were put: nothing was tried");
}
