//! Backups of buckets that a real Ceph object gateway keeps: there, to a pool that larderd serves itself, and back.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{
    GatewayWorld as World, Larderd, Pair, REMOTE_BUCKETS as BUCKETS, Reply, S3, Tar, request,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const NEAR: &str = "/1.0/storage-pools/default/buckets";
/// Keys that are no paths, whatever they look like.
const ODD: &[&str] = &[
    "a",
    "a/",
    "a/b",
    "../up",
    "/root",
    "x//y",
    "./dot",
    "..",
    "ä ö.meta",
    "q?x=1&y+z%25",
    "[1]{2}#",
    "index.yaml",
];

/// What is known of each beside its bytes. Names of which one goes on with a dash or a digit come in another order when they are
/// signed than when their lines are sorted.
const FACTS: &[(&str, &str)] = &[
    ("x-amz-meta-color", "grün  und blau"),
    ("x-amz-meta-of", "me"),
    ("x-amz-meta-part", "1"),
    ("x-amz-meta-part-2", "2"),
    ("x-amz-meta-part2", "3"),
    ("cache-control", "max-age=7"),
    ("content-language", "de"),
    ("x-amz-tagging", "a%20b=%C3%BC%26"),
];

fn encoded(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    key.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn keys() -> Vec<String> {
    let long = ["k".repeat(1024), "ü".repeat(300)];
    ODD.iter().map(|key| (*key).to_owned()).chain(long).collect()
}

fn exported(daemon: &Larderd, bucket: &str) -> Vec<u8> {
    daemon.change("POST", &format!("{bucket}/backups"), &json!({ "name": "k0" }));
    let file = daemon.get(&format!("{bucket}/backups/k0/export"));
    assert_eq!(file.status, 200, "{}", file.error());
    daemon.change("DELETE", &format!("{bucket}/backups/k0"), &Value::Null);
    file.body
}

fn uploaded(daemon: &Larderd, buckets: &str, name: &str, bytes: &[u8]) -> Reply {
    let headers = [("Content-Type", "application/octet-stream"), ("X-Incus-name", name)];
    request(&daemon.socket(), "POST", buckets, &headers, bytes).unwrap()
}

fn import(daemon: &Larderd, buckets: &str, name: &str, bytes: &[u8]) -> Result<Value, String> {
    daemon.finish(&uploaded(daemon, buckets, name, bytes))
}

fn admin_of(daemon: &Larderd, bucket: &str) -> Pair {
    Pair::of(&daemon.read(&format!("{bucket}/keys/admin")))
}

/// What was put is there, with all that is known of it.
fn must_have(s3: &S3, bucket: &str, large: &[u8], at: &str) {
    for key in keys() {
        let path = format!("{bucket}/{}", encoded(&key));
        assert_eq!(s3.get(&path), key.as_bytes(), "{at}: {key}");
        let head = s3.send("HEAD", &path, b"").text().to_lowercase();
        // The endpoint here spells what is not ASCII as AWS does.
        let color =
            if at == "near" { "x-amz-meta-color: =?utf-8?" } else { "x-amz-meta-color: grün  und blau" };
        for line in [
            color,
            "x-amz-meta-of: me",
            "x-amz-meta-part: 1",
            "x-amz-meta-part-2: 2",
            "x-amz-meta-part2: 3",
            "cache-control: max-age=7",
            "content-language: de",
        ] {
            assert!(head.contains(line), "{at}: {key}: {line}: {head}");
        }
        let tags = s3.send("GET", &format!("{path}?tagging="), b"").text();
        assert!(tags.contains("<Key>a b</Key><Value>ü&amp;</Value>"), "{at}: {key}: {tags}");
    }
    assert!(s3.get(&format!("{bucket}/large")) == large, "{at}");
    let listed = s3.send("GET", &format!("{bucket}?list-type=2"), b"").text();
    assert_eq!(listed.matches("<Contents>").count(), keys().len() + 1, "{at}: {listed}");
}

#[test]
fn every_object_goes_there_and_back() {
    let Some(world) = World::new("every_object_goes_there_and_back", "backup-") else { return };
    let (daemon, large) = (&world.daemon, vec![9; 6 << 20]);
    let first = world.s3(&world.bucket("odd", "16MiB"));
    let describing = FACTS.iter().fold(first.clone(), |s3, (name, value)| s3.header(name, value));
    for key in keys() {
        describing.put(&world.object("odd", &encoded(&key)), key.as_bytes());
    }
    first.put(&world.object("odd", "large"), &large);
    must_have(&first, &world.object("odd", "").replace('/', ""), &large, "before");

    let file = exported(daemon, &format!("{BUCKETS}/odd"));
    import(daemon, NEAR, "odd", &file).unwrap();
    let near = S3::open(daemon, admin_of(daemon, &format!("{NEAR}/odd")));
    must_have(&near, "odd", &large, "near");
    assert_eq!(daemon.read(&format!("{NEAR}/odd"))["config"]["size"], "16MiB");

    let file = exported(daemon, &format!("{NEAR}/odd"));
    import(daemon, BUCKETS, "back", &file).unwrap();
    let back = first.with(admin_of(daemon, &format!("{BUCKETS}/back")));
    must_have(&back, "backup-back", &large, "back");
    assert_eq!(daemon.read(&format!("{BUCKETS}/back"))["config"]["size"], "16MiB");
    let over = back.send("PUT", "backup-back/over", &vec![1; 11 << 20]);
    assert_eq!(over.code(), "QuotaExceeded");
    // The name is another's here, there it is taken.
    assert!(import(daemon, BUCKETS, "back", &file).unwrap_err().starts_with("409"), "it was imported twice");
    for bucket in ["odd", "back"] {
        daemon.change("DELETE", &format!("{BUCKETS}/{bucket}"), &Value::Null);
    }
    assert_eq!(world.at_the_gateway(), (vec![], vec![]));
}

/// A backup as the peers write it, with a key that may only read.
fn from_a_peer(size: &str, access: &str) -> Tar {
    let index = format!(
        "name: theirs\nbackend: cephobject\npool: remote\ntype: bucket\noptimized: false\nconfig:\n  bucket:\n    name: theirs\n    \
         description: d\n    config:\n      size: {size}\n  bucket_keys:\n  - name: reader\n    role: read-only\n    \
         access-key: {access}\n    secret-key: peers-secret\n"
    );
    Tar::default().file("backup/index.yaml", index.as_bytes()).folder("backup/bucket")
}

#[test]
fn a_peers_backup_brings_its_keys_or_is_refused_whole() {
    let test = "a_peers_backup_brings_its_keys_or_is_refused_whole";
    let Some(world) = World::new(test, "peer-") else { return };
    let daemon = &world.daemon;
    let file = from_a_peer("1MiB", "peer.reader").file("backup/bucket/dir/one", b"1").end();
    import(daemon, BUCKETS, "theirs", &file).unwrap();
    let reader = world.s3(&Pair { access: "peer.reader".to_owned(), secret: "peers-secret".to_owned() });
    assert_eq!(reader.get(&world.object("theirs", "dir/one")), b"1");
    assert_eq!(reader.send("PUT", &world.object("theirs", "two"), b"2").code(), "AccessDenied");
    let before = world.at_the_gateway();
    assert_eq!((before.0.len(), before.1.len()), (1, 1));
    // The key that filled it is gone.
    let user = world.gateway.admin(&["user", "info", &format!("--uid={}", before.0[0])]);
    assert_eq!((user["keys"].as_array().unwrap().len(), user["subusers"].as_array().unwrap().len()), (1, 1));
    assert_eq!(user["subusers"][0]["permissions"], "read");

    let large = from_a_peer("1KiB", "peer.other").file("backup/bucket/one", &[1; 2000]).end();
    assert!(import(daemon, BUCKETS, "large", &large).unwrap_err().contains("too large"));
    let taken = from_a_peer("1MiB", "peer.reader").file("backup/bucket/one", b"1").end();
    assert!(import(daemon, BUCKETS, "taken", &taken).unwrap_err().contains("peer.reader"));
    let foreign = world.gateway.told("RADOSGW_KEYS").split(':').next().unwrap();
    let foreign = from_a_peer("1MiB", foreign).file("backup/bucket/one", b"1").end();
    assert!(import(daemon, BUCKETS, "foreign", &foreign).unwrap_err().contains("already exists"));
    let cut = import(daemon, BUCKETS, "cut", &file[..file.len() - 1500]).unwrap_err();
    assert!(cut.contains("damaged"), "{cut}");
    assert_eq!(world.at_the_gateway(), before);
    assert_eq!(daemon.read(BUCKETS).as_array().unwrap().len(), 1);
    // Nobody's key, nobody's backup.
    daemon.change("DELETE", &format!("{BUCKETS}/theirs/keys/reader"), &Value::Null);
    let refused = daemon.refuse("POST", &format!("{BUCKETS}/theirs/backups"), &json!({ "name": "k0" }));
    assert!(refused.1.contains("has no key"), "{refused:?}");
}

#[test]
fn a_cancelled_import_leaves_nothing_and_many_objects_are_all_there() {
    let test = "a_cancelled_import_leaves_nothing_and_many_objects_are_all_there";
    let Some(world) = World::new(test, "many-objects-") else { return };
    let daemon = &world.daemon;
    let names: Vec<_> = (0..1100).map(|number| format!("dir/{number:04}")).collect();
    let tar = |tar: Tar, name: &String| tar.file(&format!("backup/bucket/{name}"), name.as_bytes());
    let file = names.iter().fold(from_a_peer("1MiB", "many.reader"), tar).end();

    let reply = uploaded(daemon, BUCKETS, "many", &file);
    let operation = reply.json()["operation"].as_str().unwrap().to_owned();
    let deadline = Instant::now() + Duration::from_secs(180);
    while world.at_the_gateway().1.is_empty() {
        assert!(Instant::now() < deadline, "no bucket is made: {}", daemon.read(&operation));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(daemon.send("DELETE", &operation, &Value::Null).status, 200);
    assert!(daemon.finish(&reply).is_err(), "it was not cancelled");
    assert_eq!(world.at_the_gateway(), (vec![], vec![]));
    assert_eq!(daemon.read(BUCKETS), json!([]));

    import(daemon, BUCKETS, "many", &file).unwrap();
    let stored = exported(daemon, &format!("{BUCKETS}/many"));
    import(daemon, NEAR, "many", &stored).unwrap();
    daemon.change(
        "POST",
        &format!("{NEAR}/many/keys"),
        &json!({ "name": "k", "access-key": "near.reader", "secret-key": "peers-secret" }),
    );
    let near = S3::open(daemon, Pair { access: "near.reader".to_owned(), secret: "peers-secret".to_owned() });
    let first = near.send("GET", "many?list-type=2", b"").text();
    let second = near.send("GET", "many?list-type=2&start-after=dir%2F0999", b"").text();
    assert_eq!([first, second].map(|text| text.matches("<Contents>").count()), [1000, 100]);
    for name in [&names[0], &names[199], &names[200], &names[999], &names[1000], &names[1099]] {
        assert_eq!(near.get(&format!("many/{name}")), name.as_bytes());
    }
}
