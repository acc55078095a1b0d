//! A client light enough that the server is what is measured: one thread and one kept connection a worker, signatures made
//! here, replies read and thrown away. It reads jobs from standard input, one JSON object a line, and answers each with one.
//!
//! ```sh
//! echo '{"do": "requests", "address": "127.0.0.1:9000", "method": "GET", "target": "/bucket/key{n}", "count": 1000}' \
//!     | cargo run --release -p larder-s3 --example load
//! ```

#![expect(clippy::print_stdout, reason = "it answers there")]

mod connection;

use connection::{Connection, Pair};
use larder_base::signature::UNSIGNED_PAYLOAD;
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Job {
    Requests(Requests),
    /// Files of so many bytes, each written and synced, and its folder after it.
    Files {
        folder: PathBuf,
        size: usize,
        count: usize,
        connections: usize,
    },
    /// What the hashes of so many bytes cost.
    Hashes {
        size: usize,
        count: usize,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Requests {
    address: String,
    #[serde(default)]
    pair: Option<Pair>,
    method: String,
    /// `{n}` stands for the request's number.
    target: String,
    #[serde(default)]
    first: usize,
    count: usize,
    #[serde(default = "one")]
    connections: usize,
    /// A body of so many bytes, or this one.
    #[serde(default)]
    size: usize,
    #[serde(default)]
    body: String,
    /// Whether the body is hashed and the hash signed.
    #[serde(default)]
    signs_body: bool,
    /// Whether the ETags and the last body are wanted.
    #[serde(default)]
    keeps: bool,
}

fn one() -> usize {
    1
}

#[derive(Debug, Default, Serialize)]
struct Outcome {
    requests: usize,
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Bytes of all bodies that came back.
    bytes: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    etags: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    body: String,
    /// What one hash of the bytes costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    md5_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256_ms: Option<f64>,
}

/// What one worker saw.
#[derive(Default)]
struct Seen {
    times: Vec<Duration>,
    bytes: usize,
    etags: Vec<(usize, String)>,
    body: Vec<u8>,
}

/// Has `connections` workers take `count` numbers, and puts together what they saw.
fn share<W>(
    connections: usize,
    count: usize,
    open: impl Fn() -> Result<W, Failure> + Sync,
    work: impl Fn(&mut W, usize, &mut Seen) -> Result<(), Failure> + Sync,
) -> Result<Outcome, Failure> {
    let next = AtomicUsize::new(0);
    let begin = Instant::now();
    let worker = || -> Result<Seen, Failure> {
        let (mut tool, mut seen) = (open()?, Seen::default());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(seen);
            }
            let start = Instant::now();
            work(&mut tool, number, &mut seen)?;
            seen.times.push(start.elapsed());
        }
    };
    let all: Vec<Result<Seen, Failure>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..connections).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or(Err("a worker panicked".into()))).collect()
    });
    let seconds = begin.elapsed().as_secs_f64();
    let mut whole = Seen::default();
    for seen in all {
        let seen = seen?;
        whole.times.extend(seen.times);
        whole.bytes += seen.bytes;
        whole.etags.extend(seen.etags);
        whole.body = seen.body;
    }
    whole.times.sort();
    whole.etags.sort();
    let at = |share: f64| {
        let index = (whole.times.len() as f64 * share) as usize;
        whole.times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    Ok(Outcome {
        requests: count,
        seconds,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        bytes: whole.bytes,
        etags: whole.etags.into_iter().map(|(_, etag)| etag).collect(),
        body: String::from_utf8_lossy(&whole.body).into_owned(),
        ..Outcome::default()
    })
}

/// Bytes that don't compress and aren't all alike.
fn bytes(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(|_| next()).collect()
}

impl Requests {
    fn run(self) -> Result<Outcome, Failure> {
        let body = if self.body.is_empty() { bytes(self.size) } else { self.body.clone().into_bytes() };
        let open = || Connection::open(&self.address, self.pair.as_ref());
        share(self.connections, self.count, open, |connection, number, seen| {
            let target = self.target.replace("{n}", &(self.first + number).to_string());
            // Hashed for each request, as a client would.
            let hash = if self.signs_body {
                hex::encode(Sha256::digest(&body))
            } else {
                UNSIGNED_PAYLOAD.to_owned()
            };
            let reply = connection.call(&self.method, &target, &body, &hash, self.keeps)?;
            if !(200..300).contains(&reply.status) {
                return Err(format!("{} {target}: {}", self.method, reply.status).into());
            }
            seen.bytes += reply.length;
            if self.keeps {
                seen.etags.push((number, reply.etag));
                seen.body = reply.body;
            }
            Ok(())
        })
    }
}

fn files(folder: &PathBuf, size: usize, count: usize, connections: usize) -> Result<Outcome, Failure> {
    let body = bytes(size);
    let open = || Ok(File::open(folder)?);
    share(connections, count, open, |parent, number, _| {
        let mut file =
            OpenOptions::new().write(true).create_new(true).open(folder.join(number.to_string()))?;
        file.write_all(&body)?;
        file.sync_all()?;
        Ok(parent.sync_all()?)
    })
}

/// Nanoseconds this thread was on a processor.
fn spent() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

fn hashes(size: usize, count: usize) -> Outcome {
    let bytes = bytes(size);
    let each = |hash: &dyn Fn() -> u8| {
        let before = spent();
        let sum = (0..count).fold(0_u8, |sum, _| sum ^ std::hint::black_box(hash()));
        std::hint::black_box(sum);
        (spent() - before) as f64 / 1e6 / count as f64
    };
    Outcome {
        md5_ms: Some(each(&|| Md5::digest(&bytes)[0])),
        sha256_ms: Some(each(&|| Sha256::digest(&bytes)[0])),
        ..Outcome::default()
    }
}

fn main() -> Result<(), Failure> {
    for line in std::io::stdin().lock().lines() {
        let outcome = match serde_json::from_str(&line?)? {
            Job::Requests(requests) => requests.run()?,
            Job::Files { folder, size, count, connections } => files(&folder, size, count, connections)?,
            Job::Hashes { size, count } => hashes(size, count),
        };
        println!("{}", serde_json::to_string(&outcome)?);
    }
    Ok(())
}
