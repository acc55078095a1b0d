//! Snapshots, restores and copies of buckets that a real Ceph object gateway keeps.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{GatewayWorld as World, Pair, REMOTE_BUCKETS as BUCKETS, RealClient, S3};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// An object: its bytes, and what is known of it in the order of the names.
type Object = (Vec<u8>, Vec<String>, String);

/// What is known of the objects beside their bytes.
const FACTS: &[(&str, &str)] = &[
    ("x-amz-meta-color", "blue"),
    ("x-amz-meta-of", "me"),
    ("cache-control", "max-age=7"),
    ("content-language", "de"),
    ("x-amz-tagging", "a%20b=%C3%BC%26&c=d"),
];

fn described(s3: &S3) -> S3 {
    FACTS.iter().fold(s3.clone(), |s3, (name, value)| s3.header(name, value))
}

/// The keys in a bucket, as they are in paths.
fn keys(s3: &S3, bucket: &str) -> Vec<String> {
    let listed = s3.send("GET", &format!("{bucket}?encoding-type=url&list-type=2"), b"");
    assert_eq!(listed.status, 200, "{}", listed.text());
    let text = listed.text();
    text.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap().replace("%2F", "/")).collect()
}

/// All that a bucket holds, as a client sees it.
fn content(s3: &S3, bucket: &str) -> BTreeMap<String, Object> {
    let object = |key: String| {
        let path = format!("{bucket}/{key}");
        let head = s3.send("HEAD", &path, b"").text();
        let is_fact = |line: &&str| {
            let line = line.to_ascii_lowercase();
            ["x-amz-meta-", "cache-control", "content-language", "content-type"]
                .iter()
                .any(|name| line.starts_with(name))
        };
        let mut facts: Vec<_> = head.lines().filter(is_fact).map(|line| line.trim().to_owned()).collect();
        facts.sort();
        (key, (s3.get(&path), facts, s3.send("GET", &format!("{path}?tagging="), b"").text()))
    };
    keys(s3, bucket).into_iter().map(object).collect()
}

/// Takes a snapshot of a bucket.
fn snapshot(world: &World, bucket: &str, name: &str) {
    world.daemon.change("POST", &format!("{BUCKETS}/{bucket}/snapshots"), &json!({ "name": name }));
}

fn restore(world: &World, bucket: &str, name: &str) {
    world.daemon.change("PUT", &format!("{BUCKETS}/{bucket}"), &json!({ "restore": name }));
}

/// Makes a copy; somebody who has its key.
fn copy(world: &World, name: &str, source: &str) -> S3 {
    let body = json!({ "name": name, "source": { "name": source } });
    world.s3(&Pair::of(&world.daemon.change("POST", BUCKETS, &body)))
}

/// How many snapshots the gateway has.
fn at_the_gateway(world: &World) -> usize {
    let (users, buckets) = world.at_the_gateway();
    let is_one = |name: &&String| name.contains("snapshot-");
    let count = buckets.iter().filter(is_one).count();
    assert_eq!(users.iter().filter(is_one).count(), count, "{users:?} {buckets:?}");
    for user in users.iter().filter(is_one) {
        let found = world.gateway.admin(&["user", "info", &format!("--uid={user}")]);
        assert_eq!((&found["keys"], &found["subusers"]), (&json!([]), &json!([])), "{user}");
    }
    count
}

#[test]
fn a_snapshot_is_what_was_there_and_comes_back_so() {
    let Some(world) = World::new("a_snapshot_is_what_was_there_and_comes_back_so", "held-") else { return };
    let (daemon, pair) = (&world.daemon, world.bucket("b-1", "40MiB"));
    let s3 = world.s3(&pair);
    for key in
        ["a", "a/b/..%20x", "folder/", "../up", "%C3%A4%20%C3%B6", "q%3Fx%3D1%26y%2Bz%2525", "..", "gone"]
    {
        described(&s3).put(&world.object("b-1", key), key.as_bytes());
    }
    s3.put(&world.object("b-1", "large"), &vec![7; 9 << 20]);
    let before = content(&s3, "held-b-1");
    assert_eq!(before.len(), 9, "{:?}", before.keys());
    snapshot(&world, "b-1", "s0");
    assert_eq!(at_the_gateway(&world), 1);
    assert_eq!(content(&s3, "held-b-1"), before);

    // Nothing of it is to be seen or reached for those who have the bucket's keys.
    let hidden = world.at_the_gateway().1.into_iter().find(|name| name.contains("snapshot-")).unwrap();
    for path in [format!("{hidden}?list-type=2"), format!("{hidden}/a")] {
        assert_eq!(s3.send("GET", &path, b"").code(), "AccessDenied");
    }
    let tagged = s3.send("PUT", &format!("{hidden}/a?tagging="), b"<Tagging><TagSet></TagSet></Tagging>");
    assert_eq!(tagged.code(), "AccessDenied");
    assert_eq!(s3.send("DELETE", &format!("{hidden}/a"), b"").code(), "AccessDenied");
    assert!(!s3.send("GET", "", b"").text().contains("snapshot-"));

    // What is other now: bytes, metadata alone, tags alone, gone, new.
    s3.put(&world.object("b-1", "a"), b"other");
    s3.clone().header("x-amz-meta-color", "red").put(&world.object("b-1", "folder/"), b"folder/");
    let tags = b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>";
    s3.put(&world.object("b-1", "%C3%A4%20%C3%B6?tagging="), tags);
    assert_eq!(s3.send("DELETE", &world.object("b-1", "gone"), b"").status, 204);
    s3.put(&world.object("b-1", "new"), b"new");
    let changed = content(&s3, "held-b-1");
    snapshot(&world, "b-1", "s1");
    restore(&world, "b-1", "s0");
    assert_eq!(content(&s3, "held-b-1"), before);
    restore(&world, "b-1", "s1");
    assert_eq!(content(&s3, "held-b-1"), changed);
    let over = s3.send("PUT", &world.object("b-1", "over"), &vec![7; 32 << 20]);
    assert_eq!(over.code(), "QuotaExceeded");

    // Copies of the bucket and of its snapshots have keys of their own.
    let now = copy(&world, "copy", "b-1");
    assert_eq!(content(&now, "held-copy"), changed);
    let then = copy(&world, "then", "b-1/s0");
    assert_eq!(content(&then, "held-then"), before);
    assert_eq!(then.send("GET", &world.object("b-1", "a"), b"").status, 403);
    assert_eq!(s3.send("GET", &world.object("then", "a"), b"").status, 403);
    assert_eq!(daemon.read(&format!("{BUCKETS}/then"))["config"]["size"], "40MiB");
    assert_eq!(at_the_gateway(&world), 2);
    // A copy stands on its own.
    daemon.change("DELETE", &format!("{BUCKETS}/b-1"), &Value::Null);
    assert_eq!(at_the_gateway(&world), 0);
    assert_eq!(content(&then, "held-then"), before);
    for bucket in ["copy", "then"] {
        daemon.change("DELETE", &format!("{BUCKETS}/{bucket}"), &Value::Null);
    }
    assert_eq!(world.at_the_gateway(), (vec![], vec![]));
}

#[test]
fn the_api_of_snapshots_is_that_of_local_buckets() {
    let test = "the_api_of_snapshots_is_that_of_local_buckets";
    let Some(mut world) = World::new(test, "api-") else { return };
    let s3 = world.s3(&world.bucket("b-1", ""));
    s3.put(&world.object("b-1", "k"), b"here");
    let path = format!("{BUCKETS}/b-1/snapshots");
    let daemon = &world.daemon;
    daemon.change(
        "PATCH",
        &format!("{BUCKETS}/b-1"),
        &json!({ "config": { "snapshots.expiry": "1d", "snapshots.pattern": "auto%d" } }),
    );
    daemon.change("POST", &path, &json!({ "description": "d" }));
    let shown = daemon.read(&format!("{path}/auto0"));
    assert_eq!((&shown["description"], &shown["name"]), (&json!("d"), &json!("auto0")));
    assert!(shown["expires_at"].as_str().unwrap() > "2026", "{shown}");
    daemon.change("PUT", &format!("{path}/auto0"), &json!({ "description": "e", "expires_at": null }));
    assert_eq!(daemon.refuse("POST", &path, &json!({ "name": "auto0" })).0, 409);
    daemon.change("POST", &path, &json!({ "name": "s1" }));
    let before = world.at_the_gateway();
    daemon.change("POST", &format!("{path}/auto0"), &json!({ "name": "kept" }));
    assert_eq!(world.at_the_gateway(), before, "a name is the catalog's alone");
    assert_eq!(daemon.refuse("POST", &format!("{path}/kept"), &json!({ "name": "s1" })).0, 409);
    let names = || {
        daemon
            .read(&path)
            .as_array()
            .unwrap()
            .iter()
            .map(|url| url.as_str().unwrap().rsplit('/').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(), ["kept", "s1"]);

    daemon.change("PATCH", &format!("{BUCKETS}/b-1"), &json!({ "config": { "size": "1MiB" } }));
    let bucket = format!("{BUCKETS}/b-1");
    for (method, path, body, code) in [
        ("PUT", bucket.as_str(), json!({ "restore": "nope" }), 404),
        ("POST", BUCKETS, json!({ "name": "copy", "source": { "name": "b-1/nope" } }), 404),
        ("POST", BUCKETS, json!({ "name": "b-1", "source": { "name": "b-1/s1" } }), 409),
        (
            "POST",
            BUCKETS,
            json!({ "name": "copy", "config": { "size": "1B" }, "source": { "name": "b-1/s1" } }),
            400,
        ),
        (
            "POST",
            BUCKETS,
            json!({ "name": "copy", "config": { "size": "1B" }, "source": { "name": "b-1" } }),
            400,
        ),
        ("DELETE", &format!("{path}/nope"), Value::Null, 404),
        // Its objects are the gateway's to look after.
        ("POST", &format!("{bucket}/scrub"), Value::Null, 400),
        ("POST", &format!("{bucket}/rebuild-index"), Value::Null, 400),
    ] {
        let (status, error) = daemon.refuse(method, path, &body);
        assert_eq!(status, code, "{method} {path} {body}: {error}");
    }
    daemon.change("DELETE", &format!("{path}/s1"), &Value::Null);
    assert_eq!((names(), at_the_gateway(&world)), (vec!["kept".to_owned()], 1));

    // What the catalog knows is not told of as unknown, and goes when its time has come.
    let soon = jiff::Timestamp::now() + Duration::from_secs(20);
    daemon.change("PUT", &format!("{path}/kept"), &json!({ "expires_at": soon.to_string() }));
    world.daemon.stop();
    world.daemon.spawn(&world.gateway.environment());
    let daemon = &world.daemon;
    assert_eq!(daemon.read("/1.0/warnings"), json!([]));
    let deadline = Instant::now() + Duration::from_secs(260);
    while at_the_gateway_any(&world) {
        assert!(Instant::now() < deadline, "it does not expire");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(s3.get(&world.object("b-1", "k")), b"here");
}

fn at_the_gateway_any(world: &World) -> bool {
    world.at_the_gateway().0.iter().any(|name| name.contains("snapshot-"))
}

#[test]
fn a_snapshot_is_of_one_moment_while_clients_write() {
    let test = "a_snapshot_is_of_one_moment_while_clients_write";
    let Some(world) = World::new(test, "busy-") else { return };
    let s3 = world.s3(&world.bucket("b-1", ""));
    for number in 0..40 {
        s3.put(&world.object("b-1", &format!("m-{number:02}")), b"x");
    }
    for key in ["a", "z", "m-20"] {
        s3.put(&world.object("b-1", key), b"0");
    }
    let is_over = AtomicBool::new(false);
    // Each round writes the last key, then the first; and what is there in one round is gone in the next.
    let write = || {
        let (mut round, mut longest, mut refused) = (0_u32, Duration::ZERO, None::<Instant>);
        let mut send = |method: &str, key: &str, body: &str| loop {
            let answer = s3.send(method, &world.object("b-1", key), body.as_bytes());
            if matches!(answer.status, 200 | 204) {
                longest = longest.max(refused.take().map_or(Duration::ZERO, |since| since.elapsed()));
                return;
            }
            assert_eq!(answer.code(), "AccessDenied", "{}", answer.text());
            refused.get_or_insert_with(Instant::now);
        };
        while !is_over.load(Ordering::SeqCst) {
            round += 1;
            send("PUT", "z", &round.to_string());
            send("PUT", "m-20", &round.to_string());
            send("PUT", "a", &round.to_string());
            send(if round % 2 == 0 { "DELETE" } else { "PUT" }, "even", &round.to_string());
        }
        (round, longest)
    };
    let (rounds, longest) = std::thread::scope(|scope| {
        let writer = scope.spawn(write);
        // Also when it fails, or nobody would learn that.
        let made = catch_unwind(AssertUnwindSafe(|| {
            snapshot(&world, "b-1", "snap-0");
            snapshot(&world, "b-1", "snap-1");
        }));
        is_over.store(true, Ordering::SeqCst);
        made.unwrap_or_else(|panic| resume_unwind(panic));
        writer.join().unwrap()
    });
    assert!(rounds > 2 && longest < Duration::from_secs(60), "{rounds} {longest:?}");
    for name in ["snap-0", "snap-1"] {
        let then = copy(&world, name, &format!("b-1/{name}"));
        let number = |key: &str| {
            String::from_utf8(then.get(&world.object(name, key))).unwrap().parse::<u32>().unwrap()
        };
        let (last, middle, first) = (number("z"), number("m-20"), number("a"));
        assert!(last >= middle && middle >= first && last <= first + 1, "{name}: {last} {middle} {first}");
        let even = then.send("GET", &world.object(name, "even"), b"");
        let seen = if even.status == 200 { even.text().parse::<u32>().unwrap() } else { 0 };
        assert!(seen == 0 || seen == first || seen + 1 == last, "{name}: {seen} {first}");
        assert_eq!(keys(&then, &format!("busy-{name}")).len(), 42 + usize::from(seen > 0));
    }
}

#[test]
fn a_bucket_with_versions_goes_back_and_keeps_its_history() {
    let test = "a_bucket_with_versions_goes_back_and_keeps_its_history";
    let Some(world) = World::new(test, "old-") else { return };
    let s3 = world.s3(&world.bucket("b-1", ""));
    let on = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    s3.put("old-b-1?versioning=", on);
    for (key, body) in [("a", "1"), ("a", "2"), ("b", "1"), ("c", "1")] {
        s3.put(&world.object("b-1", key), body.as_bytes());
    }
    assert_eq!(s3.send("DELETE", &world.object("b-1", "c"), b"").status, 204);
    let before = content(&s3, "old-b-1");
    assert_eq!(before.keys().collect::<Vec<_>>(), ["a", "b"]);
    snapshot(&world, "b-1", "s0");
    s3.put(&world.object("b-1", "a"), b"3");
    s3.put(&world.object("b-1", "c"), b"2");
    assert_eq!(s3.send("DELETE", &world.object("b-1", "b"), b"").status, 204);
    restore(&world, "b-1", "s0");
    assert_eq!(content(&s3, "old-b-1"), before);
    let versions = s3.send("GET", "old-b-1?versions=", b"").text();
    assert_eq!(versions.matches("<Version>").count(), 4 + 2 + 2, "{versions}");
    world.daemon.change("DELETE", &format!("{BUCKETS}/b-1"), &Value::Null);
    assert_eq!(world.at_the_gateway(), (vec![], vec![]));
}

#[test]
fn what_the_gateway_does_not_copy_leaves_all_as_it_was() {
    let test = "what_the_gateway_does_not_copy_leaves_all_as_it_was";
    let Some(world) = World::new(test, "not-") else { return };
    let s3 = world.s3(&world.bucket("b-1", ""));
    // Of somebody else, whom the bucket lets in, and who keeps it to himself.
    s3.let_everybody_in("not-b-1");
    let (access, secret) = world.gateway.told("RADOSGW_KEYS").split_once(':').unwrap();
    let stranger = world.s3(&Pair { access: access.to_owned(), secret: secret.to_owned() });
    stranger.put(&world.object("b-1", "theirs"), b"x");
    let denied = br#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::not-b-1/theirs"}]}"#;
    let answer = s3.send("PUT", "not-b-1?policy=", denied);
    assert!(matches!(answer.status, 200 | 204), "{}", answer.text());
    let before = world.at_the_gateway();
    let path = format!("{BUCKETS}/b-1/snapshots");
    let reply = world.daemon.send("POST", &path, &json!({ "name": "s0" }));
    let failed = world.daemon.finish(&reply).unwrap_err();
    assert!(failed.contains("theirs") && failed.contains("AccessDenied"), "{failed}");
    assert_eq!((world.daemon.read(&path), world.at_the_gateway()), (json!([]), before));
    s3.put(&world.object("b-1", "mine"), b"x");
    assert!(matches!(s3.send("DELETE", "not-b-1?policy=", b"").status, 200 | 204));
    assert_eq!(s3.send("DELETE", &world.object("b-1", "theirs"), b"").status, 204);
    snapshot(&world, "b-1", "s0");
    // With a long prefix there is no room for a snapshot's name.
    let config = json!({ "cephobject.radosgw.endpoint": world.gateway.url(), "cephobject.bucket.name_prefix": "not-this-time-but-later-" });
    world.daemon.change(
        "POST",
        "/1.0/storage-pools",
        &json!({ "name": "long", "driver": "cephobject", "config": config }),
    );
    world.daemon.change("POST", "/1.0/storage-pools/long/buckets", &json!({ "name": "b-2" }));
    let reply = world.daemon.send("POST", "/1.0/storage-pools/long/buckets/b-2/snapshots", &json!({}));
    let failed = world.daemon.finish(&reply).unwrap_err();
    assert!(failed.contains("63"), "{failed}");
    world.daemon.change("DELETE", "/1.0/storage-pools/long/buckets/b-2", &Value::Null);
}

#[test]
fn our_client_takes_snapshots_at_the_gateway() {
    let Some(world) = World::new("our_client_takes_snapshots_at_the_gateway", "own-") else { return };
    let s3 = world.s3(&world.bucket("b-1", ""));
    s3.put(&world.object("b-1", "k"), b"first");
    let client = RealClient::larder(&world.daemon);
    client.run(&["storage", "bucket", "snapshot", "remote", "b-1", "s0"]);
    s3.put(&world.object("b-1", "k"), b"second");
    assert!(client.run(&["storage", "bucket", "snapshot", "list", "remote", "b-1"]).contains("s0"));
    client.run(&["storage", "bucket", "copy", "remote/b-1/s0", "remote/b-2"]);
    client.run(&["storage", "bucket", "snapshot", "restore", "remote", "b-1", "s0"]);
    assert_eq!(s3.get(&world.object("b-1", "k")), b"first");
    client.run(&["storage", "bucket", "snapshot", "rename", "remote", "b-1", "s0", "s1"]);
    client.run(&["storage", "bucket", "snapshot", "delete", "remote", "b-1", "s1"]);
    assert_eq!(at_the_gateway(&world), 0);
}
