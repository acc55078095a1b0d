//! Buckets kept by a real Ceph object gateway: the API, the clients, and S3 at the gateway with the buckets' keys.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{GatewayWorld as World, Larderd, Pair, REMOTE_BUCKETS as BUCKETS, RealClient, S3};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[test]
fn a_bucket_lives_its_life_at_the_gateway() {
    let Some(world) = World::new("a_bucket_lives_its_life_at_the_gateway", "life-") else { return };
    let daemon = &world.daemon;
    let body =
        json!({ "name": "photos", "description": "d", "config": { "size": "1MiB", "user.note": "x" } });
    let reply = daemon.send("POST", BUCKETS, &body);
    assert_eq!(reply.status, 201, "{}", reply.error());
    assert_eq!(reply.header("location"), Some("/1.0/storage-pools/remote/buckets/photos"));
    let key = reply.metadata();
    assert_eq!((key["name"].as_str(), key["role"].as_str()), (Some("admin"), Some("admin")));
    let path = format!("{BUCKETS}/photos");
    let bucket = daemon.read(&path);
    let wanted = json!({
        "name": "photos", "description": "d", "config": { "size": "1MiB", "user.note": "x" },
        "s3_url": format!("{}/life-photos", world.gateway.url()), "location": "none", "project": "default",
    });
    assert_eq!(bucket, wanted);
    let full = daemon.read(&format!("{BUCKETS}?recursion=2"));
    assert_eq!((&full[0]["keys"], &full[0]["backups"]), (&json!([key]), &json!([])));
    assert_eq!(daemon.read("/1.0/storage-pools/remote")["used_by"], json!([path]));

    let admin = world.s3(&Pair::of(&key));
    let object = world.object("photos", "a/b");
    admin.put(&object, b"first");
    assert_eq!(admin.get(&object), b"first");
    let over = admin.send("PUT", &world.object("photos", "big"), &vec![7; 3 << 19]);
    assert_eq!((over.status, over.code().as_str()), (403, "QuotaExceeded"));
    // A key opens its bucket and makes no other.
    assert_eq!(admin.send("PUT", "life-another", b"").status, 403);

    let small = daemon.refuse("PUT", &path, &json!({ "config": { "size": "1B" } }));
    assert!(small.0 == 400 && small.1.contains("holds 5 bytes"), "{small:?}");
    daemon.change("PATCH", &path, &json!({ "config": { "size": "3MiB" } }));
    admin.put(&world.object("photos", "big"), &vec![7; 3 << 19]);
    daemon.change("PUT", &path, &json!({ "config": {}, "description": "e" }));
    admin.put(&world.object("photos", "bigger"), &vec![7; 5 << 20]);
    assert_eq!(daemon.read(&path)["description"], "e");

    daemon.change("DELETE", &path, &Value::Null);
    assert_eq!(daemon.get(&path).status, 404);
    assert_eq!(admin.send("GET", &object, b"").status, 403);
    assert_eq!(world.at_the_gateway(), (vec![], vec![]));
    world.bucket("photos", "1MiB");
    daemon.change("DELETE", &path, &Value::Null);
    daemon.change("DELETE", "/1.0/storage-pools/remote", &Value::Null);
}

#[test]
fn a_key_may_what_its_role_says_until_it_goes() {
    let Some(world) = World::new("a_key_may_what_its_role_says_until_it_goes", "keys-") else { return };
    let daemon = &world.daemon;
    let admin = world.s3(&world.bucket("b-1", ""));
    let object = world.object("b-1", "k");
    admin.put(&object, b"here");
    let keys = format!("{BUCKETS}/b-1/keys");
    let secret = "quote\"back\\slash'";
    let given = json!({ "name": "läser:1", "access-key": "keys.reader-1", "secret-key": secret });
    let reply = daemon.send("POST", &keys, &given);
    assert_eq!(
        (reply.status, reply.metadata()["role"].as_str()),
        (201, Some("read-only")),
        "{}",
        reply.error()
    );
    let reader = world.s3(&Pair::of(&reply.metadata()));
    assert_eq!(reader.get(&object), b"here");
    for (method, path) in [("PUT", object.as_str()), ("DELETE", object.as_str()), ("PUT", "keys-b-2")] {
        assert_eq!(reader.send(method, path, b"x").code(), "AccessDenied", "{method} {path}");
    }
    // Names and access keys are taken once, whoever has them.
    assert_eq!(daemon.refuse("POST", &keys, &given).0, 409);
    let foreign = world.gateway.told("RADOSGW_KEYS").split(':').next().unwrap().to_owned();
    let taken = daemon.refuse("POST", &keys, &json!({ "name": "k2", "access-key": foreign }));
    assert!(taken.0 == 409, "{taken:?}");
    let named = |list: Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(named(daemon.read(&format!("{keys}?recursion=1"))), ["admin", "läser:1"]);

    // Another role, then another secret: the old one is worth nothing.
    let one = format!("{keys}/l%C3%A4ser%3A1");
    daemon.change("PUT", &one, &json!({ "role": "admin" }));
    reader.put(&object, b"there");
    daemon.change("PUT", &one, &json!({ "role": "read-only", "secret-key": "another-secret" }));
    assert_eq!(reader.send("GET", &object, b"").status, 403);
    let renewed = world.s3(&Pair { access: "keys.reader-1".to_owned(), secret: "another-secret".to_owned() });
    assert_eq!(renewed.get(&object), b"there");
    assert_eq!(renewed.send("PUT", &object, b"x").status, 403);
    let tag = daemon.get(&one).header("etag").unwrap().to_owned();
    let body = json!({ "access-key": "keys.reader-2" }).to_string();
    let stale = [("If-Match", "\"stale\""), ("Content-Type", "application/json")];
    let refused = larder_tests::request(&daemon.socket(), "PUT", &one, &stale, body.as_bytes()).unwrap();
    assert_eq!(refused.status, 412);
    let fresh = [("If-Match", tag.as_str()), ("Content-Type", "application/json")];
    let changed = larder_tests::request(&daemon.socket(), "PUT", &one, &fresh, body.as_bytes()).unwrap();
    assert_eq!(changed.status, 200, "{}", changed.error());
    assert_eq!(renewed.send("GET", &object, b"").status, 403);
    let moved = world.s3(&Pair { access: "keys.reader-2".to_owned(), secret: "another-secret".to_owned() });
    assert_eq!(moved.get(&object), b"there");

    daemon.change("DELETE", &one, &Value::Null);
    assert_eq!(moved.send("GET", &object, b"").code(), "InvalidAccessKeyId");
    assert_eq!(admin.get(&object), b"there");
    // No secret is in the log, nor was on a command line.
    let log = daemon.log();
    for secret in [secret, "another-secret", admin.pair.as_ref().unwrap().secret.as_str()] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
    assert!(
        log.contains("radosgw-admin") && log.contains("keys.reader-1"),
        "the log does not tell the commands"
    );
}

#[test]
fn keys_that_are_made_at_once_are_all_there() {
    let Some(world) = World::new("keys_that_are_made_at_once_are_all_there", "many-") else { return };
    let admin = world.s3(&world.bucket("b-1", ""));
    let object = world.object("b-1", "k");
    admin.put(&object, b"here");
    let daemon = &world.daemon;
    let pairs: Vec<Pair> = std::thread::scope(|scope| {
        let make = |number: u32| {
            let body = json!({ "name": format!("k{number}") });
            scope.spawn(move || Pair::of(&daemon.change("POST", &format!("{BUCKETS}/b-1/keys"), &body)))
        };
        let running: Vec<_> = (0..4).map(make).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for pair in &pairs {
        assert_eq!(world.s3(pair).get(&object), b"here");
    }
}

#[test]
fn what_the_gateway_can_not_is_refused_before_anything_changes() {
    let test = "what_the_gateway_can_not_is_refused_before_anything_changes";
    let Some(world) = World::new(test, "no-") else { return };
    let daemon = &world.daemon;
    let pair = world.bucket("b-1", "");
    daemon.change("POST", "/1.0/storage-pools/default/buckets", &json!({ "name": "here" }));
    let before = world.at_the_gateway();
    let other = "/1.0/storage-pools/default/buckets";
    let pools = "/1.0/storage-pools";
    let key = json!({ "name": "x", "driver": "cephobject", "config": { "cephobject.radosgw.endpoint": "gateway" } });
    let nowhere = json!({ "name": "x", "driver": "cephobject", "config": { "cephobject.radosgw.endpoint": "http://127.0.0.1:1" } });
    for (method, path, body, code) in [
        ("POST", BUCKETS, json!({ "name": "copy", "source": { "name": "here", "pool": "default" } }), 400),
        ("POST", other, json!({ "name": "copy", "source": { "name": "b-1", "pool": "remote" } }), 400),
        ("POST", BUCKETS, json!({ "name": "b-1" }), 409),
        ("POST", BUCKETS, json!({ "name": "b".repeat(61) }), 400),
        ("POST", BUCKETS, json!({ "name": "other", "config": { "snapshots.schedule": "@daily" } }), 400),
        ("POST", "/1.0/storage-pools/remote/volumes/custom", json!({ "name": "v1" }), 400),
        ("POST", "/1.0/storage-accounts", json!({ "name": "acc", "pool": "remote" }), 400),
        ("POST", pools, json!({ "name": "x", "driver": "cephobject", "config": {} }), 400),
        ("POST", pools, key, 400),
        ("POST", pools, nowhere, 503),
        (
            "PATCH",
            "/1.0/storage-pools/remote",
            json!({ "config": { "cephobject.bucket.name_prefix": "n-" } }),
            400,
        ),
        ("DELETE", "/1.0/storage-pools/remote", Value::Null, 400),
    ] {
        let (status, error) = daemon.refuse(method, path, &body);
        assert_eq!(status, code, "{method} {path} {body}: {error}");
    }
    let bytes = [("Content-Type", "application/octet-stream"), ("X-Incus-name", "imported")];
    let refused = larder_tests::request(&daemon.socket(), "POST", BUCKETS, &bytes, b"x").unwrap();
    assert_eq!(refused.status, 400, "{}", refused.error());
    assert_eq!(world.at_the_gateway(), before);
    assert_eq!(daemon.read("/1.0/storage-pools").as_array().unwrap().len(), 2);

    // A name that somebody else has at the gateway.
    let (access, secret) = world.gateway.told("RADOSGW_KEYS").split_once(':').unwrap();
    let stranger = world.s3(&Pair { access: access.to_owned(), secret: secret.to_owned() });
    assert_eq!(stranger.send("PUT", "no-theirs", b"").status, 200);
    let taken = daemon.refuse("POST", BUCKETS, &json!({ "name": "theirs" }));
    assert!(taken.0 == 409 && taken.1.contains("already exists"), "{taken:?}");
    assert_eq!(stranger.send("GET", "no-theirs", b"").status, 200);
    assert_eq!(stranger.send("DELETE", "no-theirs", b"").status, 204);
    assert_eq!(world.at_the_gateway(), before);

    // Our own endpoint knows nothing of the bucket, nor of its key, whatever else has that name.
    let same = Pair::of(&daemon.change("POST", other, &json!({ "name": "b-1" })));
    let ours = S3::open(daemon, same);
    ours.put("b-1/k", b"here");
    assert_eq!(ours.with(pair.clone()).send("GET", "b-1/k", b"").code(), "InvalidAccessKeyId");
    assert_eq!(world.s3(&pair).send("GET", &world.object("b-1", "k"), b"").code(), "NoSuchKey");
    daemon.change("DELETE", &format!("{other}/b-1"), &Value::Null);
    assert_eq!(world.at_the_gateway(), before);
}

#[test]
fn a_gateway_with_tls_is_trusted_by_its_certificate() {
    let Some(world) = World::new("a_gateway_with_tls_is_trusted_by_its_certificate", "tls-") else { return };
    let url = format!("https://{}", world.gateway.told("RADOSGW_TLS"));
    let certificate = world.gateway.told("RADOSGW_CERT");
    let with = |config: Value| json!({ "name": "safe", "driver": "cephobject", "config": config });
    let bare = with(json!({ "cephobject.radosgw.endpoint": url }));
    let refused = world.daemon.refuse("POST", "/1.0/storage-pools", &bare);
    assert!(refused.0 == 503 && refused.1.contains("certificate"), "{refused:?}");
    let trusted = json!({
        "cephobject.radosgw.endpoint": url, "cephobject.radosgw.endpoint_cert_file": certificate,
        "cephobject.bucket.name_prefix": "tls-",
    });
    world.daemon.change("POST", "/1.0/storage-pools", &with(trusted));
    let key = world.daemon.change("POST", "/1.0/storage-pools/safe/buckets", &json!({ "name": "b-1" }));
    assert_eq!(world.daemon.read("/1.0/storage-pools/safe/buckets/b-1")["s3_url"], format!("{url}/tls-b-1"));
    let mut s3 = S3::at(&url, Pair::of(&key));
    s3.more = vec!["--cacert".to_owned(), certificate.to_owned()];
    s3.put("tls-b-1/k", b"here");
    world.daemon.change("DELETE", "/1.0/storage-pools/safe/buckets/b-1", &Value::Null);
}

/// The verbs of a client. Debian's `lxc` has none for buckets.
fn drive(client: &RealClient<'_>, world: &World, bucket: &str) {
    client.run(&["storage", "bucket", "create", "remote", bucket, "size=1MiB"]);
    let shown = client.run(&["storage", "bucket", "show", "remote", bucket]);
    assert!(shown.contains(&format!("{}/{}{bucket}", world.gateway.url(), world.prefix)), "{shown}");
    assert!(client.run(&["storage", "bucket", "list", "remote"]).contains(bucket));
    client.run(&["storage", "bucket", "set", "remote", bucket, "size=2MiB"]);
    let (pair, name) = (["--access-key", "ACCESS", "--secret-key", "secret-of-it"], format!("{bucket}-key"));
    let access = format!("access-{bucket}");
    let given: Vec<&str> =
        pair.iter().map(|word| if *word == "ACCESS" { access.as_str() } else { word }).collect();
    let words =
        [&["storage", "bucket", "key", "create", "remote", bucket, &name, "--role", "admin"], &given[..]]
            .concat();
    client.run(&words);
    let s3 = world.s3(&Pair { access, secret: "secret-of-it".to_owned() });
    s3.put(&world.object(bucket, "k"), b"x");
    assert!(client.run(&["storage", "bucket", "key", "list", "remote", bucket]).contains(&name));
    assert!(client.run(&["storage", "bucket", "key", "show", "remote", bucket, &name]).contains("admin"));
    let file = world.daemon.scratch().join(format!("{bucket}.tar.gz")).display().to_string();
    client.run(&["storage", "bucket", "export", "remote", bucket, &file]);
    let back = format!("{bucket}-back");
    client.run(&["storage", "bucket", "import", "remote", &file, &back]);
    let key = world.daemon.read(&format!("{BUCKETS}/{back}/keys/admin"));
    assert_eq!(world.s3(&Pair::of(&key)).get(&world.object(&back, "k")), b"x");
    client.run(&["storage", "bucket", "delete", "remote", &back]);
    client.run(&["storage", "bucket", "key", "delete", "remote", bucket, &name]);
    assert_eq!(s3.send("GET", &world.object(bucket, "k"), b"").status, 403);
    client.run(&["storage", "bucket", "delete", "remote", bucket]);
}

#[test]
fn real_clients_do_what_they_can_with_buckets() {
    let test = "real_clients_do_what_they_can_with_buckets";
    let Some(world) = World::new(test, "cli-") else { return };
    drive(&RealClient::larder(&world.daemon), &world, "by-larder");
    if let Some(incus) = RealClient::incus(test, &world.daemon) {
        drive(&incus, &world, "by-incus");
    }
    assert_eq!(world.at_the_gateway(), (vec![], vec![]));
}

/// Waits until the pool says so. Whoever does not need the cluster is answered at once meanwhile.
fn wait_for_status(daemon: &Larderd, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(150);
    let buckets = "/1.0/storage-pools/default/buckets";
    while daemon.read("/1.0/storage-pools/remote")["status"] != wanted {
        assert!(Instant::now() < deadline, "the pool does not become {wanted}");
        let began = Instant::now();
        daemon.read(&format!("{BUCKETS}?recursion=1"));
        daemon.change("POST", buckets, &json!({ "name": "meanwhile" }));
        daemon.change("DELETE", &format!("{buckets}/meanwhile"), &Value::Null);
        assert!(began.elapsed() < Duration::from_secs(25), "others waited {:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Whether a warning tells of a pool that is away, or was.
fn is_warned(daemon: &Larderd, status: &str) -> bool {
    let warned = daemon.read("/1.0/warnings?recursion=1");
    let is_it = |one: &Value| one["status"] == status && one["type"] == "Storage pool unavailable";
    warned.as_array().unwrap().iter().any(is_it)
}

#[test]
fn a_gateway_that_does_not_answer_holds_nobody_up_and_comes_back() {
    let test = "a_gateway_that_does_not_answer_holds_nobody_up_and_comes_back";
    // Of its own: the others' goes on answering.
    let Some(mut world) = World::of_its_own(test, "away-") else { return };
    let pair = world.bucket("b-1", "");
    world.daemon.stop();
    world.gateway.hold("client.rgw", true);
    let began = Instant::now();
    world.daemon.spawn(&world.gateway.environment());
    let daemon = &world.daemon;
    assert_eq!(daemon.read("/1.0/storage-pools/remote")["status"], "Unavailable");
    assert!(began.elapsed() < Duration::from_secs(55), "the start took {:?}", began.elapsed());
    assert!(is_warned(daemon, "new"));
    assert_eq!(daemon.refuse("POST", BUCKETS, &json!({ "name": "b-2" })).0, 503);
    // What is known is told all the same.
    let url = format!("{}/away-b-1", world.gateway.url());
    assert_eq!(daemon.read(&format!("{BUCKETS}?recursion=1"))[0]["s3_url"], url);
    world.gateway.hold("client.rgw", false);
    wait_for_status(daemon, "Created");
    assert!(is_warned(daemon, "resolved"));
    world.s3(&pair).put(&world.object("b-1", "k"), b"x");
    world.bucket("b-2", "");
}

#[test]
fn a_cluster_that_stops_answering_holds_nobody_up_and_comes_back() {
    let test = "a_cluster_that_stops_answering_holds_nobody_up_and_comes_back";
    let Some(world) = World::of_its_own(test, "frozen-") else { return };
    let (daemon, pair) = (&world.daemon, world.bucket("b-1", ""));
    world.gateway.hold("osd.0", true);
    let made = std::thread::scope(|scope| {
        let asking = scope.spawn(|| daemon.send("POST", BUCKETS, &json!({ "name": "b-2" })));
        wait_for_status(daemon, "Unavailable");
        assert!(is_warned(daemon, "new"));
        let began = Instant::now();
        assert_eq!(daemon.refuse("POST", BUCKETS, &json!({ "name": "b-3" })).0, 503);
        assert!(began.elapsed() < Duration::from_secs(25), "refused after {:?}", began.elapsed());
        world.gateway.hold("osd.0", false);
        wait_for_status(daemon, "Created");
        asking.join().unwrap()
    });
    assert!(is_warned(daemon, "resolved"));
    world.s3(&pair).put(&world.object("b-1", "k"), b"x");
    // Who asked for the cluster meanwhile was answered in the end: all or nothing was done.
    match made.status {
        201 => world.s3(&Pair::of(&made.metadata())).put(&world.object("b-2", "k"), b"x"),
        503 => assert_eq!(daemon.get(&format!("{BUCKETS}/b-2")).status, 404),
        status => panic!("{status}: {}", made.error()),
    }
}
