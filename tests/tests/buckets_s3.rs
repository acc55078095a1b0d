//! The S3 endpoint with foreign clients: keys, sizes, accounts, snapshots, copies and backups, seen through objects.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use jiff::Timestamp;
use larder_base::signature::{self, Request, UNSIGNED_PAYLOAD};
use larder_tests::{Larderd, Pair, S3, request, require};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

const BUCKETS: &str = "/1.0/storage-pools/p1/buckets";

fn started() -> Larderd {
    let daemon = Larderd::start();
    daemon.make_pool("p1");
    daemon
}

fn make_bucket(daemon: &Larderd, body: &Value) -> Pair {
    Pair::of(&daemon.change("POST", BUCKETS, body))
}

fn admin_of(daemon: &Larderd, bucket: &str) -> Pair {
    Pair::of(&daemon.read(&format!("{BUCKETS}/{bucket}/keys/admin")))
}

#[test]
fn keys_open_their_bucket_as_far_as_their_role_goes() {
    if !require("keys_open_their_bucket_as_far_as_their_role_goes", &["curl"]) {
        return;
    }
    let daemon = started();
    let admin = make_bucket(&daemon, &json!({ "name": "photos" }));
    let other = make_bucket(&daemon, &json!({ "name": "other" }));
    let reader = daemon.change("POST", &format!("{BUCKETS}/photos/keys"), &json!({ "name": "reader" }));
    let s3 = S3::open(&daemon, admin);
    assert_eq!(daemon.read(&format!("{BUCKETS}/photos"))["s3_url"], json!(format!("{}/photos", s3.url)));
    s3.put("photos/a/b.txt", b"content");
    assert_eq!(s3.get("photos/a/b.txt"), b"content");
    assert!(s3.send("GET", "photos?list-type=2", b"").text().contains("<Key>a/b.txt</Key>"));

    // The bucket may also be the first label of the host.
    let host = format!("photos.localhost:{}", s3.url.rsplit(':').next().unwrap());
    let resolve = format!("{host}:127.0.0.1");
    let styled = S3 { url: format!("http://{host}"), ..s3.clone() }.and("--resolve").and(&resolve);
    assert_eq!(styled.get("a/b.txt"), b"content");

    let reader = s3.with(Pair::of(&reader));
    assert_eq!(reader.get("photos/a/b.txt"), b"content");
    for (method, path) in [("PUT", "photos/new"), ("DELETE", "photos/a/b.txt")] {
        let refused = reader.send(method, path, b"x");
        assert_eq!((refused.status, refused.code().as_str()), (403, "AccessDenied"), "{method}");
    }
    let stranger = s3.with(other).send("GET", "photos/a/b.txt", b"");
    assert_eq!((stranger.status, stranger.code().as_str()), (403, "AccessDenied"));
    let nobody = S3 { pair: None, ..s3.clone() }.send("GET", "photos/a/b.txt", b"");
    assert_eq!(nobody.status, 403);
    let wrong = Pair { secret: "wrong".to_owned(), ..s3.pair.clone().unwrap() };
    assert_eq!(s3.with(wrong).send("GET", "photos/a/b.txt", b"").code(), "SignatureDoesNotMatch");

    // A key that is deleted, or gets another role, is so at the next request.
    let keys = format!("{BUCKETS}/photos/keys/reader");
    daemon.change("PUT", &keys, &json!({ "role": "admin" }));
    reader.put("photos/new", b"x");
    daemon.change("DELETE", &keys, &Value::Null);
    assert_eq!(reader.send("GET", "photos/new", b"").code(), "InvalidAccessKeyId");
    assert_eq!(s3.send("DELETE", "photos/new", b"").status, 204);
    daemon.change("DELETE", &format!("{BUCKETS}/photos"), &Value::Null);
    assert_eq!(s3.send("GET", "photos/a/b.txt", b"").code(), "InvalidAccessKeyId");
}

#[test]
fn a_size_is_enforced_and_a_full_bucket_can_be_emptied() {
    if !require("a_size_is_enforced_and_a_full_bucket_can_be_emptied", &["curl"]) {
        return;
    }
    let daemon = started();
    let admin = make_bucket(&daemon, &json!({ "name": "small", "config": { "size": "1MiB" } }));
    let s3 = S3::open(&daemon, admin);
    s3.put("small/one", &vec![1; 700 << 10]);
    let refused = s3.send("PUT", "small/two", &vec![2; 700 << 10]);
    assert_eq!(refused.code(), "QuotaExceeded", "{}: {}", refused.status, refused.text());
    assert_eq!(s3.send("GET", "small/two", b"").status, 404);
    let path = format!("{BUCKETS}/small");
    let (code, error) = daemon.refuse("PATCH", &path, &json!({ "config": { "size": "100KiB" } }));
    assert!(code == 400 && error.contains("holds"), "{error}");
    daemon.change("PATCH", &path, &json!({ "config": { "size": "2MiB" } }));
    s3.put("small/two", &vec![2; 700 << 10]);
    for key in ["one", "two"] {
        assert_eq!(s3.send("DELETE", &format!("small/{key}"), b"").status, 204);
    }
    daemon.change("PATCH", &path, &json!({ "config": { "size": "1KiB" } }));
    assert_eq!(s3.send("PUT", "small/three", &[3; 2000]).code(), "QuotaExceeded");
}

#[test]
fn accounts_make_buckets_and_a_key_can_be_limited() {
    if !require("accounts_make_buckets_and_a_key_can_be_limited", &["curl"]) {
        return;
    }
    let daemon = started();
    let accounts = "/1.0/storage-accounts";
    let make = |name: &str| {
        let body = json!({ "name": name, "pool": "p1", "secret-key": "a/b+c=d/e", "quota": "1MiB" });
        Pair::of(&daemon.change("POST", accounts, &body))
    };
    let (ann, bob) = (make("ann"), make("bob"));
    let ann = S3::open(&daemon, ann);
    let bob = ann.with(bob);
    ann.put("ann-1", b"");
    ann.put("ann-2", b"");
    assert_eq!(bob.send("PUT", "ann-1", b"").code(), "BucketAlreadyExists");
    assert_eq!(bob.send("PUT", "Bad_Name", b"").status, 400);
    let listed = ann.send("GET", "", b"").text();
    assert!(listed.contains("<Name>ann-1</Name>") && listed.contains("<Name>ann-2</Name>"), "{listed}");
    assert!(!bob.send("GET", "", b"").text().contains("<Name>"));
    assert_eq!(daemon.read(&format!("{BUCKETS}/ann-1"))["account"], "ann");
    assert!(daemon.refuse("DELETE", &format!("{accounts}/ann"), &Value::Null).1.contains("ann-1"));
    ann.put("ann-1/file", b"x");
    assert_eq!(bob.send("GET", "ann-1/file", b"").code(), "AccessDenied");
    assert_eq!(ann.send("DELETE", "ann-1", b"").code(), "BucketNotEmpty");

    // The quota is over all buckets of the account.
    ann.put("ann-1/large", &vec![1; 600 << 10]);
    assert_eq!(ann.send("PUT", "ann-2/large", &vec![1; 600 << 10]).code(), "QuotaExceeded");
    daemon.change("PATCH", &format!("{accounts}/ann"), &json!({ "quota": "10MiB" }));
    ann.put("ann-2/large", &vec![1; 600 << 10]);

    let key = daemon.change("POST", &format!("{accounts}/bob/keys"), &json!({}));
    let limited = ann.with(Pair::of(&key));
    let path = format!("{accounts}/bob/keys/{}", key["access-key"].as_str().unwrap());
    let grants = json!([{ "bucket": "ann-1", "role": "read-only" }, { "bucket": "ann-2", "role": "admin" }]);
    daemon.change("PUT", &path, &json!({ "restricted": true, "grants": grants }));
    assert_eq!(limited.get("ann-1/file"), b"x");
    assert_eq!(limited.send("PUT", "ann-1/new", b"x").code(), "AccessDenied");
    limited.put("ann-2/new", b"x");
    assert_eq!(limited.send("PUT", "made-by-bob", b"").status, 403);

    for object in ["ann-1/file", "ann-1/large"] {
        assert_eq!(ann.send("DELETE", object, b"").status, 204);
    }
    assert_eq!(ann.send("DELETE", "ann-1", b"").status, 204);
    assert_eq!(daemon.get(&format!("{BUCKETS}/ann-1")).status, 404);
    assert_eq!(bob.send("PUT", "ann-1", b"").status, 200);
}

#[test]
fn a_pool_that_is_away_takes_no_more_of_an_account_than_its_room() {
    if !require("a_pool_that_is_away_takes_no_more_of_an_account_than_its_room", &["curl"]) {
        return;
    }
    let mut daemon = started();
    let elsewhere = tempfile::tempdir().unwrap();
    let (place, away) = (elsewhere.path().join("pool"), elsewhere.path().join("away"));
    std::fs::create_dir(&place).unwrap();
    let lost = json!({ "name": "lost", "driver": "dir", "config": { "source": place } });
    daemon.change("POST", "/1.0/storage-pools", &lost);
    let account = json!({ "name": "ann", "pool": "lost", "quota": "1MiB" });
    let pair = Pair::of(&daemon.change("POST", "/1.0/storage-accounts", &account));
    let ann = S3::open(&daemon, pair.clone());
    ann.put("ann-1", b"");
    daemon.change("PATCH", "/1.0/storage-accounts/ann", &json!({ "pool": "p1" }));
    ann.put("ann-2", b"");
    ann.put("ann-2/file", b"x");

    daemon.stop();
    std::fs::rename(&place, &away).unwrap();
    daemon.spawn(&[]);
    let ann = S3::open(&daemon, pair.clone());
    assert_eq!(ann.get("ann-2/file"), b"x");
    assert_eq!(ann.send("PUT", "ann-2/more", b"y").code(), "QuotaExceeded");
    assert_eq!(ann.send("DELETE", "ann-2/file", b"").status, 204);
    daemon.stop();
    std::fs::rename(&away, &place).unwrap();
    daemon.spawn(&[]);
    S3::open(&daemon, pair).put("ann-2/more", b"y");
}

/// How many names each file has that is larger than what the index takes.
fn names_of_large_files(folder: &Path) -> Vec<u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let about = entry.metadata().unwrap();
            if about.is_dir() {
                folders.push(entry.path());
            } else if about.len() > 300 << 10 && !entry.file_name().to_string_lossy().contains(".db") {
                found.insert(about.ino(), about.nlink());
            }
        }
    }
    found.into_values().collect()
}

#[test]
fn a_snapshot_of_a_bucket_is_the_bucket_as_it_was() {
    if !require("a_snapshot_of_a_bucket_is_the_bucket_as_it_was", &["curl"]) {
        return;
    }
    let daemon = started();
    let admin = make_bucket(&daemon, &json!({ "name": "bucket" }));
    let s3 = S3::open(&daemon, admin);
    let large = vec![7; 300 << 10];
    s3.put("bucket/small", b"old");
    s3.put("bucket/large", &large);
    let path = format!("{BUCKETS}/bucket");
    daemon.change("POST", &format!("{path}/snapshots"), &json!({ "name": "s0" }));
    daemon.change("POST", &format!("{path}/snapshots"), &json!({ "expires_at": "2099-01-01T00:00:00Z" }));
    let listed = daemon.read(&format!("{path}/snapshots"));
    assert_eq!(listed, json!([format!("{path}/snapshots/s0"), format!("{path}/snapshots/snap0")]));
    // Objects in files of their own are shared by all that have them, and stay as they are.
    let tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    assert_eq!(s3.send("PUT", "bucket/large?tagging=", tags).status, 200);
    assert_eq!(names_of_large_files(&daemon.directory().join("storage-pools/p1")), [3]);
    s3.put("bucket/small", b"new");
    assert_eq!(s3.send("DELETE", "bucket/large", b"").status, 204);
    s3.put("bucket/later", b"x");

    // A copy of the snapshot, and one of now.
    let copy = |name: &str, source: &str| {
        make_bucket(&daemon, &json!({ "name": name, "source": { "name": source } }))
    };
    let then = s3.with(copy("then", "bucket/s0"));
    assert_eq!(then.get("then/small"), b"old");
    assert_eq!(then.get("then/large"), large);
    assert_eq!(then.send("GET", "then/later", b"").status, 404);
    assert!(!then.send("GET", "then/large?tagging=", b"").text().contains("<Key>"));
    let now = s3.with(copy("now", "bucket"));
    assert_eq!((now.get("now/small"), now.get("now/later")), (b"new".to_vec(), b"x".to_vec()));

    daemon.change("PUT", &path, &json!({ "restore": "s0" }));
    assert_eq!(s3.get("bucket/small"), b"old");
    assert_eq!(s3.get("bucket/large"), large);
    assert_eq!(s3.send("GET", "bucket/later", b"").status, 404);
    s3.put("bucket/after", b"y");
    assert_eq!(daemon.refuse("PUT", &path, &json!({ "restore": "none" })).0, 404);
    assert_eq!(daemon.refuse("POST", &format!("{path}/snapshots"), &json!({ "name": "s0" })).0, 409);
    daemon.change("POST", &format!("{path}/snapshots/snap0"), &json!({ "name": "s1" }));
    daemon.change("PATCH", &format!("{path}/snapshots/s1"), &json!({ "description": "kept" }));
    let patched = daemon.read(&format!("{path}/snapshots/s1"));
    assert_eq!(
        (patched["description"].as_str(), patched["expires_at"].as_str()),
        (Some("kept"), Some("2099-01-01T00:00:00Z"))
    );
    for snapshot in ["s0", "s1"] {
        daemon.change("DELETE", &format!("{path}/snapshots/{snapshot}"), &Value::Null);
    }
    assert_eq!(s3.get("bucket/after"), b"y");
}

#[test]
fn a_backup_brings_every_object_back() {
    if !require("a_backup_brings_every_object_back", &["curl"]) {
        return;
    }
    let daemon = started();
    let admin = make_bucket(&daemon, &json!({ "name": "bucket", "config": { "size": "10MiB" } }));
    let s3 = S3::open(&daemon, admin);
    let large = vec![9; 300 << 10];
    s3.clone().header("x-amz-meta-who", "me").put("bucket/dir/one", b"1");
    s3.put("bucket/large", &large);
    let path = format!("{BUCKETS}/bucket");
    daemon.change("POST", &format!("{path}/backups"), &json!({ "name": "b0" }));
    assert_eq!(daemon.read(&format!("{path}?recursion=1"))["backups"][0]["name"], "b0");
    let file = daemon.get(&format!("{path}/backups/b0/export"));
    assert_eq!(file.status, 200);
    let import = |name: &str, bytes: &[u8]| {
        let headers = [("Content-Type", "application/octet-stream"), ("X-Incus-name", name)];
        let reply = request(&daemon.socket(), "POST", BUCKETS, &headers, bytes).unwrap();
        if reply.status >= 400 {
            Err((reply.status, reply.error()))
        } else {
            daemon.finish(&reply).map_err(|e| (0, e))
        }
    };
    import("back", &file.body).unwrap();
    let back = s3.with(admin_of(&daemon, "back"));
    assert_eq!(back.get("back/large"), large);
    assert!(back.send("HEAD", "back/dir/one", b"").text().to_lowercase().contains("x-amz-meta-who: me"));
    assert_eq!(daemon.read(&format!("{BUCKETS}/back"))["config"]["size"], "10MiB");
    assert_eq!(import("back", &file.body).unwrap_err().0, 409);
    assert_eq!(import("Bad_Name", &file.body).unwrap_err().0, 400);
    let cut = import("cut", &file.body[..file.body.len() / 2]).unwrap_err();
    assert!(cut.1.contains("damaged"), "{cut:?}");
    assert_eq!(daemon.get(&format!("{BUCKETS}/cut")).status, 404);
    daemon.change("DELETE", &format!("{path}/backups/b0"), &Value::Null);
}

#[test]
fn the_endpoint_goes_where_the_configuration_says() {
    if !require("the_endpoint_goes_where_the_configuration_says", &["curl"]) {
        return;
    }
    let mut daemon = started();
    let admin = make_bucket(&daemon, &json!({ "name": "bucket" }));
    let config = |address: &str, plaintext: &str| json!({ "config": { "core.storage_buckets_address": address, "core.storage_buckets_plaintext": plaintext } });
    for (address, plaintext, word) in [
        ("nonsense:port", "", "address"),
        ("0.0.0.0:0", "true", "loopback"),
        (":0", "true", "loopback"),
        ("127.0.0.1:0", "maybe", "plaintext"),
    ] {
        let (code, error) = daemon.refuse("PATCH", "/1.0", &config(address, plaintext));
        assert_eq!(code, 400, "{address}: {error}");
        assert!(error.contains(word), "{address}: {error}");
    }
    let plain = S3::open(&daemon, admin);
    plain.put("bucket/file", b"content");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, error) =
        daemon.refuse("PATCH", "/1.0", &config(&taken.local_addr().unwrap().to_string(), "true"));
    assert!(code == 400 && error.contains("can't be listened on"), "{error}");
    assert_eq!(plain.get("bucket/file"), b"content", "a refused address changes nothing");

    daemon.change("PATCH", "/1.0", &config("127.0.0.1:0", "false"));
    let url = daemon.read(&format!("{BUCKETS}/bucket"))["s3_url"].as_str().unwrap().to_owned();
    let url = url.strip_suffix("/bucket").unwrap().to_owned();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let certificate = daemon.directory().join("server.crt").display().to_string();
    let encrypted = S3 { url, ..plain.clone() }.and("--cacert").and(&certificate);
    wait(|| encrypted.send("GET", "bucket/file", b"").status == 200);
    assert_eq!(encrypted.get("bucket/file"), b"content");

    let port = encrypted.url.rsplit(':').next().unwrap().to_owned();
    daemon.change("PATCH", "/1.0", &config(&format!("127.0.0.1:{port}"), "true"));
    daemon.stop();
    daemon.spawn(&[]);
    let again = S3 { url: format!("http://127.0.0.1:{port}"), ..plain };
    wait(|| again.send("GET", "bucket/file", b"").status == 200);
    daemon.change("PATCH", "/1.0", &config("", ""));
    wait(|| again.send("GET", "bucket/file", b"").status == 0);
    assert_eq!(daemon.read(&format!("{BUCKETS}/bucket"))["s3_url"], "");
}

fn wait(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not become so in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reads an object by what somebody has captured of a request.
fn captured(s3: &S3, path: &str) -> S3 {
    let pair = s3.pair.as_ref().unwrap();
    let host = s3.url.split("://").nth(1).unwrap();
    let date = signature::date(Timestamp::now());
    let headers = [
        ("content-type", "text/plain"),
        ("host", host),
        ("x-amz-content-sha256", UNSIGNED_PAYLOAD),
        ("x-amz-date", &date),
    ];
    let mut headers = BTreeMap::from(headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let request = Request { method: "GET", target: &format!("/{path}"), headers: &headers };
    let authorization = request.authorization(&pair.access, &pair.secret);
    headers.insert("authorization".to_owned(), authorization);
    S3 { pair: None, headers, ..s3.clone() }
}

#[test]
fn no_signature_is_taken_twice_where_that_is_wanted() {
    if !require("no_signature_is_taken_twice_where_that_is_wanted", &["curl"]) {
        return;
    }
    let daemon = started();
    let s3 = S3::open(&daemon, make_bucket(&daemon, &json!({ "name": "bucket" })));
    s3.put("bucket/key", b"x");
    s3.put("bucket/other", b"x");
    let anew = |value: &str| json!({ "config": { "larder.storage_buckets_each_signed_anew": value } });
    let read = |reading: &S3, key: &str| reading.send("GET", &format!("bucket/{key}"), b"");
    let (code, error) = daemon.refuse("PATCH", "/1.0", &anew("perhaps"));
    assert!(code == 400 && error.contains("larder.storage_buckets_each_signed_anew"), "{error}");
    // What is signed in the second in which the daemon began may be from before.
    std::thread::sleep(Duration::from_secs(1));
    let reading = captured(&s3, "bucket/key");
    // A client may mean the same twice within the second.
    assert_eq!((read(&reading, "key").status, read(&reading, "key").status), (200, 200));
    daemon.change("PATCH", "/1.0", &anew("true"));
    let refused = (503, "SlowDown".to_owned());
    // What was taken before the change is known, once it has come to the endpoint.
    let answer =
        std::iter::repeat_with(|| read(&reading, "key")).find(|answer| answer.status != 200).unwrap();
    assert_eq!((answer.status, answer.code()), refused);
    let fresh = captured(&s3, "bucket/other");
    assert_eq!(read(&fresh, "other").status, 200);
    let answer = read(&fresh, "other");
    assert_eq!((answer.status, answer.code()), refused);
    s3.put("bucket/key", b"y");
}

#[test]
fn lifecycles_are_followed_by_the_day_that_is_set() {
    if !require("lifecycles_are_followed_by_the_day_that_is_set", &["curl"]) {
        return;
    }
    let mut daemon = started();
    let admin = make_bucket(&daemon, &json!({ "name": "bucket" }));
    let s3 = S3::open(&daemon, admin);
    let day = |seconds: &str| json!({ "config": { "storage.buckets_lifecycle_day_seconds": seconds } });
    for bad in ["0", "soon", "-1"] {
        let (code, error) = daemon.refuse("PATCH", "/1.0", &day(bad));
        assert!(code == 400 && error.contains("storage.buckets_lifecycle_day_seconds"), "{bad}: {error}");
    }
    let rule = |id: &str, prefix: &str, action: &str| {
        format!(
            "<Rule><ID>{id}</ID><Status>Enabled</Status><Filter><Prefix>{prefix}</Prefix></Filter>{action}</Rule>"
        )
    };
    let rules = [
        rule("old", "old/", "<Expiration><Days>1</Days></Expiration>"),
        rule(
            "past",
            "past/",
            "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>",
        ),
        rule(
            "parts",
            "",
            "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
        ),
    ];
    let document = format!("<LifecycleConfiguration>{}</LifecycleConfiguration>", rules.concat());
    s3.put(
        "bucket?versioning=",
        b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
    );
    s3.put("bucket?lifecycle=", document.as_bytes());
    for key in ["old/one", "kept/one", "past/one", "past/one"] {
        s3.put(&format!("bucket/{key}"), b"x");
    }
    assert_eq!(s3.send("POST", "bucket/upload?uploads=", b"").status, 200);
    let count = |query: &str, word: &str| {
        s3.send("GET", &format!("bucket?{query}"), b"").text().matches(word).count()
    };
    // With real days nothing is due.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!((count("versions=", "<Version>"), count("uploads=", "<Upload>")), (4, 1));
    daemon.change("PATCH", "/1.0", &day("1"));
    wait(|| s3.send("GET", "bucket/old/one", b"").status == 404);
    wait(|| (count("prefix=past%2F&versions=", "<Version>"), count("uploads=", "<Upload>")) == (1, 0));
    assert_eq!(s3.get("bucket/kept/one"), b"x");
    // A day that was set is kept, and one that is unset is a real one.
    s3.put("bucket/old/two", b"x");
    daemon.stop();
    daemon.spawn(&[]);
    let again = S3::open(&daemon, s3.pair.clone().unwrap());
    wait(|| again.send("GET", "bucket/old/two", b"").status == 404);
    daemon.change("PATCH", "/1.0", &day(""));
    again.put("bucket/old/three", b"x");
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(again.get("bucket/old/three"), b"x");
}
