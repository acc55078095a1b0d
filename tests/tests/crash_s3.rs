//! `kill -9` of the daemon while many clients put objects, whole and in parts: what was acknowledged is there bit for bit after the restart,
//! and nothing else is visible in part. `make crash-s3` runs more rounds; LARDER_SEED repeats one.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, Pair, S3, require};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const WRITERS: u64 = 32;
/// Keys of each writer: it overwrites its own again and again.
const KEYS: u64 = 40;
/// The least that all parts but the last must have.
const PART: usize = 5 << 20;

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

/// One connection without signatures: the bucket's policy lets everybody in.
struct Connection {
    stream: BufReader<TcpStream>,
    /// The last that was told.
    etag: String,
}

/// What stands between two marks.
fn between<'t>(text: &'t str, begin: &str, end: &str) -> Option<&'t str> {
    text.split(begin).nth(1)?.split(end).next()
}

impl Connection {
    fn open(host: &str) -> Option<Self> {
        let stream = TcpStream::connect(host).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Self { stream: BufReader::new(stream), etag: String::new() })
    }

    /// Puts an object, in parts when it is large or when asked to. Status and body of what failed or came last.
    fn put(&mut self, path: &str, body: &[u8], in_parts: bool) -> Option<(u16, Vec<u8>)> {
        if !in_parts && body.len() < PART {
            return self.send("PUT", path, body);
        }
        let (status, begun) = self.send("POST", &format!("{path}?uploads="), b"")?;
        let begun = String::from_utf8_lossy(&begun).into_owned();
        let Some(upload) = between(&begun, "<UploadId>", "<") else { return Some((status, begun.into())) };
        let mut parts = String::new();
        for (at, part) in body.chunks(PART).enumerate() {
            let number = at + 1;
            let answer = self.send("PUT", &format!("{path}?partNumber={number}&uploadId={upload}"), part)?;
            if answer.0 != 200 {
                return Some(answer);
            }
            let etag = &self.etag;
            parts += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
        }
        let list = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let (status, body) = self.send("POST", &format!("{path}?uploadId={upload}"), list.as_bytes())?;
        // An error may come after the head.
        let is_done = String::from_utf8_lossy(&body).contains("</CompleteMultipartUploadResult>");
        Some((if is_done { status } else { 0 }, body))
    }

    /// Status and body; `None` when the connection broke.
    fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
        let head =
            format!("{method} /{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body).ok()?;
        let mut line = String::new();
        self.stream.read_line(&mut line).ok()?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            line.clear();
            self.stream.read_line(&mut line).ok()?;
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if let Some(value) = header.strip_prefix("etag:") {
                value.trim().clone_into(&mut self.etag);
            }
            is_chunked |= header.starts_with("transfer-encoding:") && header.contains("chunked");
        }
        if is_chunked {
            return Some((status, self.chunks()?));
        }
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).ok()?;
        Some((status, bytes))
    }

    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).ok()?;
            let length = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; length + 2];
            self.stream.read_exact(&mut chunk).ok()?;
            if length == 0 {
                return Some(bytes);
            }
            bytes.extend(&chunk[..length]);
        }
    }
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

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    if !require("what_was_acknowledged_survives_kill_9", &["curl"]) {
        return;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("LARDER_SEED", u64::from(now.subsec_nanos()));
    let rounds = number("LARDER_CRASH_ROUNDS", 5);
    println!("seed {seed}: LARDER_SEED={seed} repeats it");
    let mut daemon = Larderd::start();
    let buckets = "/1.0/storage-pools/default/buckets";
    let admin = Pair::of(&daemon.change("POST", buckets, &json!({ "name": "bucket" })));
    let s3 = S3::open(&daemon, admin);
    let resources = json!(["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"]);
    let statement = json!([{ "Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": resources }]);
    let policy = json!({ "Version": "2012-10-17", "Statement": statement }).to_string();
    let answer = s3.send("PUT", "bucket?policy=", policy.as_bytes());
    assert!(matches!(answer.status, 200 | 204), "{}: {}", answer.status, answer.text());
    let mut random = Random::of(seed, 7);
    let mut told: Vec<Told> = vec![Told::new(); usize::try_from(WRITERS).unwrap()];
    let mut host = s3.url.strip_prefix("http://").unwrap().to_owned();
    let mut acknowledged = 0;
    for round in 0..rounds {
        let is_over = AtomicBool::new(false);
        let pause = Duration::from_millis(200 + random.below(1500));
        told = std::thread::scope(|scope| {
            let start = |(writer, known): (usize, Told)| {
                let (host, is_over) = (host.clone(), &is_over);
                scope.spawn(move || write(&host, seed, writer as u64, known, is_over))
            };
            let writers: Vec<_> = told.drain(..).enumerate().map(start).collect();
            std::thread::sleep(pause);
            daemon.kill();
            is_over.store(true, Ordering::Relaxed);
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        daemon.spawn(&[]);
        let url = daemon.read(&format!("{buckets}/bucket"))["s3_url"].as_str().unwrap().to_owned();
        host = url.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/bucket")).unwrap().to_owned();
        let mut all: Told = told.iter().flat_map(Clone::clone).collect();
        acknowledged = all.values().map(|known| known.acknowledged).sum();
        check(&host, seed, &mut all);
        for (writer, known) in told.iter_mut().enumerate() {
            let own = format!("w{writer}/");
            *known =
                all.iter().filter(|(key, _)| key.starts_with(&own)).map(|(k, v)| (k.clone(), *v)).collect();
        }
        println!("round {round}: {} objects, {acknowledged} versions acknowledged", all.len());
    }
    assert!(acknowledged > 20, "only {acknowledged} objects were put: nothing was tried");
    abort_uploads(&host);
    // Staging holds nothing once the bucket has been opened again.
    let folder = daemon.directory().join("storage-pools/default/buckets/default_bucket/staging");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "something is left in staging");
}
