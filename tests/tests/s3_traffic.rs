//! What the S3 endpoint tells of its requests: metrics, the access log, events; and how it ends.

use larder_tests::{Larderd, Pair, S3, WebSocket, require};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const BUCKETS: &str = "/1.0/storage-pools/p1/buckets";

/// A daemon with a bucket, and its admin.
fn started() -> (Larderd, S3) {
    let daemon = Larderd::start();
    daemon.make_pool("p1");
    let body = json!({ "name": "photos", "config": { "size": "100MiB" } });
    let admin = Pair::of(&daemon.change("POST", BUCKETS, &body));
    let s3 = S3::open(&daemon, admin);
    (daemon, s3)
}

/// The numbers by name and labels, and the types by name.
#[expect(clippy::unwrap_used, reason = "a test panics to fail")]
fn metrics(daemon: &Larderd) -> (BTreeMap<String, f64>, BTreeMap<String, String>) {
    let reply = daemon.get("/1.0/metrics");
    assert_eq!(reply.status, 200);
    assert!(
        reply.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text"))
    );
    let text = String::from_utf8(reply.body).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let (mut numbers, mut types) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(kind) => {
                let (name, kind) = kind.split_once(' ').unwrap();
                types.insert(name.to_owned(), kind.to_owned());
            }
            None if line.starts_with('#') => {}
            None => {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(numbers.insert(name.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
            }
        }
    }
    (numbers, types)
}

#[test]
fn each_bucket_has_its_numbers() {
    if !require("each_bucket_has_its_numbers", &["curl"]) {
        return;
    }
    let (daemon, s3) = started();
    s3.put("photos/one", &[1; 5000]);
    s3.put("photos/two", &[2; 100]);
    assert_eq!(s3.get("photos/one").len(), 5000);
    assert_eq!(s3.send("GET", "photos/none", b"").status, 404);
    for number in 0..3 {
        assert_eq!(s3.send("GET", &format!("made-up-{number}/x"), b"").status, 403);
    }
    let (numbers, types) = metrics(&daemon);
    let of = |name: &str, more: &str| {
        let labels = format!("{{project=\"default\",pool=\"p1\",bucket=\"photos\"{more}}}");
        let full = format!("larder_bucket_{name}{labels}");
        *numbers.get(&full).unwrap_or_else(|| panic!("no {full} in {numbers:#?}"))
    };
    assert_eq!(of("requests_total", ",method=\"PUT\""), 2.0);
    assert_eq!(of("requests_total", ",method=\"GET\""), 2.0);
    assert_eq!(of("errors_total", ",side=\"client\""), 1.0);
    assert_eq!(of("errors_total", ",side=\"server\""), 0.0);
    assert_eq!(of("broken_answers_total", ""), 0.0);
    assert_eq!(of("received_bytes_total", ""), 5100.0);
    assert!((5000.0..6000.0).contains(&of("sent_bytes_total", "")), "{}", of("sent_bytes_total", ""));
    assert_eq!(of("objects", ""), 2.0);
    assert_eq!(of("used_bytes", ""), 5100.0);
    assert_eq!(of("size_bytes", ""), f64::from(100 << 20));
    assert_eq!(of("request_duration_seconds_count", ""), 4.0);
    assert_eq!(of("request_duration_seconds_bucket", ",le=\"+Inf\""), 4.0);
    assert!(of("request_duration_seconds_sum", "") > 0.0);
    // Names that were made up are together under no name.
    let unnamed = "larder_bucket_errors_total{project=\"\",pool=\"\",bucket=\"\",side=\"client\"}";
    assert_eq!(numbers[unnamed], 3.0);
    assert!(!numbers.keys().any(|name| name.contains("made-up")), "{numbers:#?}");

    assert_eq!(types["larder_bucket_requests"], "counter");
    assert_eq!(types["larder_bucket_request_duration_seconds"], "histogram");
    assert!(numbers["larder_memory_resident_bytes"] > 1e6);
    assert!(numbers["larder_cpu_seconds_total"] > 0.0 && numbers["larder_uptime_seconds"] > 0.0);

    // A bucket that is gone has no numbers.
    assert_eq!(s3.send("DELETE", "photos/one", b"").status, 204);
    assert_eq!(s3.send("DELETE", "photos/two", b"").status, 204);
    daemon.change("DELETE", &format!("{BUCKETS}/photos"), &Value::Null);
    assert!(!metrics(&daemon).0.keys().any(|name| name.contains("photos")));
}

/// The index of a bucket, wherever its pool has it.
fn index_of(folder: &Path, bucket: &str) -> Option<PathBuf> {
    let entries: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
    entries.into_iter().map(|entry| entry.path()).find_map(|path| match path.is_dir() {
        true => index_of(&path, bucket),
        false => (path.ends_with("index.db") && path.to_string_lossy().contains(bucket)).then_some(path),
    })
}

#[test]
fn a_broken_bucket_hides_no_other_number() {
    if !require("a_broken_bucket_hides_no_other_number", &["curl", "python3"]) {
        return;
    }
    let (daemon, s3) = started();
    let broken = Pair::of(&daemon.change("POST", BUCKETS, &json!({ "name": "broken" })));
    s3.put("photos/one", b"x");
    let broken = s3.with(broken);
    broken.put("broken/one", b"x");
    let index = index_of(&daemon.directory().join("storage-pools"), "broken").expect("an index");
    let code =
        "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute('DROP TABLE usage'); c.commit()";
    #[expect(clippy::disallowed_methods, reason = "the test breaks the bucket by other means than its own")]
    let damaged = std::process::Command::new("python3").args(["-c", code]).arg(index).status();
    assert!(damaged.is_ok_and(|status| status.success()));
    // A change ends what was read before, whatever becomes of it.
    broken.send("PUT", "broken/two", b"x");
    let (numbers, _) = metrics(&daemon);
    let objects = |bucket: &str| {
        numbers.get(&format!("larder_bucket_objects{{project=\"default\",pool=\"p1\",bucket=\"{bucket}\"}}"))
    };
    assert_eq!((objects("photos"), objects("broken")), (Some(&1.0), None));
    assert!(numbers["larder_uptime_seconds"] > 0.0);
}

#[test]
fn the_access_log_is_off_until_it_is_wanted() {
    if !require("the_access_log_is_off_until_it_is_wanted", &["curl"]) {
        return;
    }
    let (daemon, s3) = started();
    let path = daemon.directory().join("logs/s3-access.log");
    s3.put("photos/before", b"x");
    assert!(!path.exists());
    let switch = |value: &str| {
        let config = json!({ "config": { "larder.storage_buckets_access_log": value } });
        daemon.change("PATCH", "/1.0", &config);
    };
    daemon.refuse("PATCH", "/1.0", &json!({ "config": { "larder.storage_buckets_access_log": "perhaps" } }));
    switch("true");
    s3.put("photos/one", b"content");
    assert_eq!(s3.send("GET", "photos/none?X-Amz-Security-Token=secret", b"").status, 404);
    assert_eq!(s3.send("GET", "photos/none", b"").status, 404);
    switch("false");
    s3.put("photos/after", b"x");
    // What was told before it is switched off is written.
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(!text.contains("secret"), "{text}");
    let put = &lines[0];
    assert_eq!((put["method"].as_str(), put["target"].as_str()), (Some("PUT"), Some("/photos/one")));
    assert_eq!((put["status"].as_u64(), put["received"].as_u64()), (Some(200), Some(7)));
    assert_eq!(put["access_key"], s3.pair.as_ref().unwrap().access.as_str());
    assert_eq!((put["bucket"].as_str(), put["client"].as_str()), (Some("photos"), Some("127.0.0.1")));
    assert!(put["user_agent"].as_str().is_some_and(|agent| agent.starts_with("curl/")));
    assert_eq!(put["request"].as_str().map(str::len), Some(32));
    assert_eq!((lines[2]["status"].as_u64(), lines[2]["code"].as_str()), (Some(404), Some("NoSuchKey")));
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_happens_to_buckets_is_told() {
    if !require("what_happens_to_buckets_is_told", &["curl"]) {
        return;
    }
    let (daemon, s3) = started();
    let account = daemon.change("POST", "/1.0/storage-accounts", &json!({ "name": "ann", "pool": "p1" }));
    let mut events = WebSocket::open(&daemon.socket(), "/1.0/events?type=lifecycle").unwrap();
    let bucket = format!("{BUCKETS}/photos");
    daemon.change("PATCH", &bucket, &json!({ "description": "holidays" }));
    daemon.change("POST", &format!("{bucket}/keys"), &json!({ "name": "reader" }));
    daemon.change("POST", &format!("{bucket}/snapshots"), &json!({ "name": "s0" }));
    daemon.change("PUT", &bucket, &json!({ "restore": "s0" }));
    daemon.change("DELETE", &bucket, &Value::Null);
    let ann = s3.with(Pair::of(&account));
    ann.put("anns-own", b"");
    assert_eq!(ann.send("DELETE", "anns-own", b"").status, 204);
    let told: Vec<Value> = (0..7).map(|_| events.next_json().unwrap()["metadata"].clone()).collect();
    let actions: Vec<&str> = told.iter().map(|event| event["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        [
            "storage-bucket-updated",
            "storage-bucket-key-created",
            "storage-bucket-snapshot-created",
            "storage-bucket-restored",
            "storage-bucket-deleted",
            "storage-bucket-created",
            "storage-bucket-deleted",
        ]
    );
    assert_eq!(told[0]["source"], bucket);
    assert_eq!(
        (told[5]["name"].as_str(), told[5]["requestor"]["protocol"].as_str()),
        (Some("anns-own"), Some("s3"))
    );
    assert_eq!(told[5]["requestor"]["username"], "ann");
}

const SIZE: usize = 1 << 20;
const GO_ON: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// An upload of which the first half is under way. Anybody may write into the bucket, so it needs no signature.
#[expect(clippy::unwrap_used, reason = "a test panics to fail")]
fn begin_upload(s3: &S3) -> TcpStream {
    let policy = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::photos/*" }
    ] });
    let answer = s3.send("PUT", "photos?policy=", policy.to_string().as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text());
    let address = s3.url.trim_start_matches("http://");
    let mut upload = TcpStream::connect(address).unwrap();
    let head = format!(
        "PUT /photos/slow HTTP/1.1\r\nhost: {address}\r\ncontent-length: {SIZE}\r\nexpect: 100-continue\r\n\r\n"
    );
    upload.write_all(head.as_bytes()).unwrap();
    let mut told = [0; GO_ON.len()];
    upload.read_exact(&mut told).unwrap();
    assert_eq!(String::from_utf8_lossy(&told), GO_ON);
    upload.write_all(&[7; SIZE / 2]).unwrap();
    upload
}

#[test]
fn a_stopping_daemon_ends_what_it_began() {
    if !require("a_stopping_daemon_ends_what_it_began", &["curl"]) {
        return;
    }
    let (mut daemon, s3) = started();
    // Somebody who keeps a connection holds nothing up.
    let mut idle = TcpStream::connect(s3.url.trim_start_matches("http://")).unwrap();
    let mut upload = begin_upload(&s3);
    let asked = Instant::now();
    let rest = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        upload.write_all(&[7; SIZE / 2]).unwrap();
        let mut answer = String::new();
        upload.read_to_string(&mut answer).unwrap();
        answer
    });
    daemon.stop();
    let took = asked.elapsed();
    let answer = rest.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(took >= Duration::from_millis(500), "{took:?}");
    assert!(!daemon.log().contains("S3 requests that take too long are cut"));
    assert_eq!(idle.read(&mut [0; 16]).unwrap_or(0), 0);
    daemon.spawn(&[]);
    let again = S3::open(&daemon, s3.pair.clone().unwrap());
    assert_eq!(again.get("photos/slow").len(), SIZE);
}

#[test]
fn what_takes_too_long_is_cut_when_the_daemon_stops() {
    if !require("what_takes_too_long_is_cut_when_the_daemon_stops", &["curl"]) {
        return;
    }
    let (mut daemon, s3) = started();
    let mut upload = begin_upload(&s3);
    let asked = Instant::now();
    daemon.stop();
    let took = asked.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(30)).contains(&took), "{took:?}");
    assert_eq!(upload.read(&mut [0; 16]).unwrap_or(0), 0, "it was answered");
    assert!(daemon.log().contains("S3 requests that take too long are cut"));
    daemon.spawn(&[]);
    let again = S3::open(&daemon, s3.pair.clone().unwrap());
    assert_eq!(again.send("GET", "photos/slow", b"").status, 404);
}
