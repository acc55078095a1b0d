//! The life of a bucket over the socket and over S3, whichever driver keeps its volume: the same trials for each of them. In
//! the end nothing is left of it, as the tools of that technology tell.
//!
//! `LARDER_SOAK_DRIVER` and `LARDER_SOAK_CONFIG` choose a driver and its pool's keys, as for the soak; without them every
//! driver that works here has its turn.

use larder_tests::{Connection, Larderd, PART, Pair, S3, host_of, request, require, with_each_driver};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;

const BUCKETS: &str = "/1.0/storage-pools/here/buckets";
const ELSEWHERE: &str = "/1.0/storage-pools/plain/buckets";
const KIBIBYTE: usize = 1 << 10;
const MEBIBYTE: usize = 1 << 20;

/// Runs a trial for each driver, after which the pool must be as it was before.
fn with_each_pool(test: &str, trial: fn(&mut Larderd, &str)) {
    if !require(test, &["curl"]) {
        return;
    }
    with_each_driver(|daemon, driver| {
        // The first bucket may leave the place for all of them.
        make(daemon, BUCKETS, &json!({ "name": "first" }));
        daemon.change("DELETE", &format!("{BUCKETS}/first"), &Value::Null);
        let before = kept(daemon, driver);
        trial(daemon, driver);
        assert_eq!(kept(daemon, driver), before, "{driver}: something is left");
    });
}

/// All that a pool has, as the tools of its technology tell, and what is mounted.
fn kept(daemon: &Larderd, driver: &str) -> Vec<String> {
    let pool = daemon.read("/1.0/storage-pools/here");
    let key = |name: &str| pool["config"][name].as_str().unwrap_or_default().to_owned();
    let root = daemon.directory().join("storage-pools/here").display().to_string();
    let words = match driver {
        "lvm" => format!("lvs --noheadings -o lv_name {}", key("lvm.vg_name")),
        "zfs" => format!("zfs list -H -t all -o name -r {}", key("zfs.pool_name")),
        "ceph" => format!("rbd ls {}", key("ceph.osd.pool_name")),
        "btrfs" => format!("btrfs subvolume list {root}"),
        _ => format!("find {root} -mindepth 2"),
    };
    let mut words = words.split(' ');
    #[expect(clippy::disallowed_methods, reason = "the test asks as a person would")]
    let output = Command::new(words.next().unwrap_or_default()).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{driver}: {error}"));
    assert!(output.status.success(), "{driver}: {}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = told.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut kept: Vec<String> = lines.map(str::to_owned).chain(daemon.mounts()).collect();
    kept.sort();
    kept
}

/// What an object has in it: every stretch tells whose it is and where.
fn content(key: &str, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + MEBIBYTE);
    while bytes.len() < length {
        bytes.extend(format!("{key} {}\n", bytes.len()).repeat(1000).into_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The keys of a bucket, as S3 lists them.
fn keys(s3: &S3, bucket: &str) -> Vec<String> {
    let text = s3.send("GET", &format!("{bucket}?list-type=2"), b"").text();
    text.split("<Key>").skip(1).filter_map(|rest| rest.split('<').next()).map(str::to_owned).collect()
}

fn make(daemon: &Larderd, buckets: &str, body: &Value) -> Pair {
    Pair::of(&daemon.change("POST", buckets, body))
}

/// Puts objects in parts, which all may.
fn put_in_parts(daemon: &Larderd, bucket: &str, key: &str, length: usize) {
    let host = host_of(daemon, &format!("{BUCKETS}/{bucket}"));
    let put = Connection::open(&host)
        .and_then(|mut connection| connection.put(&format!("{bucket}/{key}"), &content(key, length), true));
    assert!(matches!(put, Some((200, _))), "{key}: {put:?}");
}

/// Begins to put an object, which all may, and does not go on.
fn endless_upload(daemon: &Larderd, bucket: &str) -> TcpStream {
    let host = host_of(daemon, &format!("{BUCKETS}/{bucket}"));
    let head =
        format!("PUT /{bucket}/endless HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nbegun");
    let begun = TcpStream::connect(host).and_then(|mut upload| {
        upload.write_all(head.as_bytes())?;
        Ok(upload)
    });
    begun.unwrap_or_else(|error| panic!("no upload: {error}"))
}

/// A bucket must have just these objects, whole.
fn must_have(s3: &S3, bucket: &str, objects: &[(&str, usize)], driver: &str) {
    let mut wanted: Vec<&str> = objects.iter().map(|(key, _)| *key).collect();
    wanted.sort_unstable();
    assert_eq!(keys(s3, bucket), wanted, "{driver}: {bucket}");
    for (key, length) in objects {
        let found = s3.get(&format!("{bucket}/{key}"));
        assert!(found == content(key, *length), "{driver}: {bucket}/{key} has {} other bytes", found.len());
    }
}

/// Ends the daemon in some way and takes all mounts away, as a restart of the machine does; starts it again.
fn restart(daemon: &mut Larderd, stop: fn(&mut Larderd), pair: &Pair) -> S3 {
    stop(daemon);
    daemon.unmount();
    daemon.spawn(&[]);
    S3::open(daemon, pair.clone())
}

#[test]
fn a_bucket_takes_what_its_size_allows_and_outlives_the_daemon() {
    with_each_pool("a_bucket_takes_what_its_size_allows_and_outlives_the_daemon", |daemon, driver| {
        let pair = make(daemon, BUCKETS, &json!({ "name": "photos", "config": { "size": "16MiB" } }));
        let (s3, path) = (S3::open(daemon, pair.clone()), format!("{BUCKETS}/photos"));
        s3.let_everybody_in("photos");
        let mut objects =
            vec![("small", 100), ("dir/middle", 300 * KIBIBYTE), ("large", PART + 70 * KIBIBYTE)];
        for (key, length) in &objects[..2] {
            s3.put(&format!("photos/{key}"), &content(key, *length));
        }
        put_in_parts(daemon, "photos", "large", objects[2].1);
        must_have(&s3, "photos", &objects, driver);

        // Full: nothing more fits, and what is there can be deleted.
        s3.put("photos/filling", &vec![1; 10 * MEBIBYTE]);
        for length in [MEBIBYTE, 40 * MEBIBYTE] {
            let refused = s3.send("PUT", "photos/more", &vec![2; length]);
            assert_eq!(refused.code(), "QuotaExceeded", "{driver}: {}: {}", refused.status, refused.text());
        }
        assert_eq!(s3.send("DELETE", "photos/filling", b"").status, 204, "{driver}");
        must_have(&s3, "photos", &objects, driver);

        // More than the volume of the first size could hold.
        let (code, text) = daemon.refuse("PATCH", &path, &json!({ "config": { "size": "1MiB" } }));
        assert!(code == 400 && text.contains("holds"), "{driver}: {code} {text}");
        daemon.change("PATCH", &path, &json!({ "config": { "size": "160MiB" } }));
        for key in ["grown-1", "grown-2", "grown-3"] {
            put_in_parts(daemon, "photos", key, 40 * MEBIBYTE);
            objects.push((key, 40 * MEBIBYTE));
        }
        let mut s3 = s3;
        for stop in [Larderd::stop, Larderd::kill] {
            s3 = restart(daemon, stop, &pair);
            must_have(&s3, "photos", &objects, driver);
        }
        for (key, _) in objects.drain(3..) {
            assert_eq!(s3.send("DELETE", &format!("photos/{key}"), b"").status, 204, "{driver}");
        }
        // Not every filesystem shrinks in use: it is told so, or done, and either way the bucket goes on.
        let upload = endless_upload(daemon, "photos");
        let reply = daemon.send("PATCH", &path, &json!({ "config": { "size": "32MiB" } }));
        let refused = daemon.finish(&reply).err().unwrap_or_default();
        assert!(refused.is_empty() || refused.contains("in use"), "{driver}: {refused}");
        must_have(&s3, "photos", &objects, driver);
        drop(upload);
        daemon.change("PATCH", &path, &json!({ "config": { "size": "16MiB" } }));
        must_have(&s3, "photos", &objects, driver);
        assert_eq!(
            s3.send("PUT", "photos/more", &vec![2; 12 * MEBIBYTE]).code(),
            "QuotaExceeded",
            "{driver}"
        );
        daemon.change("DELETE", &path, &Value::Null);
        assert_eq!(daemon.get(&path).status, 404, "{driver}");
    });
}

#[test]
fn snapshots_are_restored_and_copied_near_and_far() {
    with_each_pool("snapshots_are_restored_and_copied_near_and_far", |daemon, driver| {
        let pair = make(daemon, BUCKETS, &json!({ "name": "photos", "config": { "size": "16MiB" } }));
        let (s3, path) = (S3::open(daemon, pair.clone()), format!("{BUCKETS}/photos"));
        let then = [("first", 200), ("second", 300 * KIBIBYTE)];
        for (key, length) in then {
            s3.put(&format!("photos/{key}"), &content(key, length));
        }
        daemon.change("POST", &format!("{path}/snapshots"), &json!({ "name": "s0" }));
        s3.put("photos/first", b"overwritten");
        assert_eq!(s3.send("DELETE", "photos/second", b"").status, 204);
        s3.put("photos/later", &content("later", 3000));
        daemon.change("POST", &format!("{path}/snapshots"), &json!({ "name": "s1" }));

        let copy = |buckets: &str, name: &str, source: Value| {
            s3.with(make(daemon, buckets, &json!({ "name": name, "source": source })))
        };
        let near = copy(BUCKETS, "near", json!({ "name": "photos/s0" }));
        let far = copy(ELSEWHERE, "far", json!({ "name": "photos/s0", "pool": "here" }));
        let back = copy(BUCKETS, "back", json!({ "name": "far", "pool": "plain" }));
        let now = copy(BUCKETS, "now", json!({ "name": "photos" }));
        for (copy, name) in [(&near, "near"), (&far, "far"), (&back, "back")] {
            must_have(copy, name, &then, driver);
        }
        assert_eq!((keys(&now, "now"), now.get("now/first")), (keys(&s3, "photos"), b"overwritten".to_vec()));
        daemon.change("DELETE", &format!("{BUCKETS}/now"), &Value::Null);

        // The newest one, of which nothing was copied since: not every technology goes back further.
        s3.put("photos/later", b"too late");
        daemon.change("PUT", &path, &json!({ "restore": "s1" }));
        assert_eq!(s3.get("photos/later"), content("later", 3000), "{driver}: restored");
        assert_eq!(s3.get("photos/first"), b"overwritten", "{driver}: restored");
        daemon.change("DELETE", &format!("{path}/snapshots/s1"), &Value::Null);
        daemon.change("PUT", &path, &json!({ "restore": "s0" }));
        must_have(&s3, "photos", &then, driver);
        s3.put("photos/after", &content("after", 10));
        let s3 = restart(daemon, Larderd::kill, &pair);
        must_have(&s3, "photos", &[then[0], then[1], ("after", 10)], driver);

        // What was copied outlives where it came from.
        daemon.change("DELETE", &path, &Value::Null);
        let Some(pair) = near.pair else { return };
        let near = restart(daemon, Larderd::stop, &pair);
        near.put("near/after", &content("after", 10));
        must_have(&near, "near", &[then[0], then[1], ("after", 10)], driver);
        for url in ["near", "back"].map(|name| format!("{BUCKETS}/{name}")) {
            daemon.change("DELETE", &url, &Value::Null);
        }
        daemon.change("DELETE", &format!("{ELSEWHERE}/far"), &Value::Null);
    });
}

#[test]
fn backups_bring_all_objects_back_near_and_far() {
    with_each_pool("backups_bring_all_objects_back_near_and_far", |daemon, driver| {
        let pair = make(daemon, BUCKETS, &json!({ "name": "photos", "config": { "size": "16MiB" } }));
        let s3 = S3::open(daemon, pair);
        let objects = [("dir/first", 200), ("second", 300 * KIBIBYTE), ("third", 6 * MEBIBYTE)];
        for (key, length) in objects {
            s3.put(&format!("photos/{key}"), &content(key, length));
        }
        let import = |from: &str, buckets: &str, name: &str| {
            daemon.change("POST", &format!("{from}/backups"), &json!({ "name": "b0" }));
            let file = daemon.get(&format!("{from}/backups/b0/export"));
            daemon.change("DELETE", &format!("{from}/backups/b0"), &Value::Null);
            let headers = [("Content-Type", "application/octet-stream"), ("X-Incus-name", name)];
            let reply = request(&daemon.socket(), "POST", buckets, &headers, &file.body);
            let made = reply.map_err(|error| error.to_string()).and_then(|reply| daemon.finish(&reply));
            assert!(made.is_ok(), "{driver}: {name}: {made:?}");
            let key = daemon.read(&format!("{buckets}/{name}/keys/admin"));
            must_have(&s3.with(Pair::of(&key)), name, &objects, driver);
        };
        import(&format!("{BUCKETS}/photos"), BUCKETS, "near");
        import(&format!("{BUCKETS}/photos"), ELSEWHERE, "far");
        import(&format!("{ELSEWHERE}/far"), BUCKETS, "back");
        assert_eq!(daemon.read(&format!("{BUCKETS}/back"))["config"]["size"], "16MiB", "{driver}");
        for url in ["photos", "near", "back"].map(|name| format!("{BUCKETS}/{name}")) {
            daemon.change("DELETE", &url, &Value::Null);
        }
        daemon.change("DELETE", &format!("{ELSEWHERE}/far"), &Value::Null);
    });
}
