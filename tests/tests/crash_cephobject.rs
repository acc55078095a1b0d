//! `kill -9` of the real daemon at every named point and every changing step of what it does to buckets at a real Ceph object
//! gateway. After the restart a bucket is there with all its keys or not at all, and catalog and gateway agree.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Gateway, Larderd, Pair, S3, Tar, request};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const BUCKETS: &str = "/1.0/storage-pools/p1/buckets";
const ALL: &[&str] = &["after_intent", "after_act", "after_commit"];
/// The changes of keys and sizes go one as the other.
const ACT: &[&str] = &["after_act"];

const THIRD: usize = 3;

/// A bucket: its size, its keys with their roles, its objects, its snapshots.
#[derive(Debug, PartialEq, Eq)]
struct SeenBucket {
    size: String,
    keys: BTreeMap<String, String>,
    objects: Vec<String>,
    snapshots: Vec<String>,
}

/// The buckets by name, and what is in their snapshots.
type Seen = (BTreeMap<String, SeenBucket>, Vec<Vec<String>>);

struct Story {
    name: &'static str,
    points: &'static [&'static str],
    prepare: fn(&World),
    act: fn(&Larderd),
}

fn send(daemon: &Larderd, method: &str, path: &str, body: &Value) {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    // The daemon may die at any moment: the answer, if one comes, is not looked at.
    let _ = request(&daemon.socket(), method, path, &[], &body);
}

/// The same of what is answered with an operation, to its end.
fn send_and_wait(daemon: &Larderd, method: &str, path: &str, body: &Value) {
    let Ok(reply) = request(&daemon.socket(), method, path, &[], body.to_string().as_bytes()) else { return };
    if let Some(operation) = reply.json()["operation"].as_str() {
        send(daemon, "GET", &format!("{operation}/wait"), &Value::Null);
    }
}

/// Uploads a backup of a bucket, with a key that is the daemon's own, and waits for its import.
fn import(daemon: &Larderd) {
    let scratch = daemon.scratch().display().to_string();
    let reader: String = scratch.chars().filter(char::is_ascii_alphanumeric).collect();
    let index = format!(
        "name: new\nbackend: cephobject\npool: p1\ntype: bucket\noptimized: false\nconfig:\n  bucket:\n    name: new\n    \
                 config:\n      size: 2MiB\n  bucket_keys:\n  - name: reader\n    role: read-only\n    access-key: {reader}\n    \
                 secret-key: secret-of-the-reader\n"
    );
    let objects = ["a", "dir/b", "dir/c"].map(|key| format!("backup/bucket/{key}"));
    let tar = Tar::default().index(&index).folder("backup/bucket");
    let tar = objects.iter().fold(tar, |tar, name| tar.file(name, name.as_bytes())).end();
    let headers = [("Content-Type", "application/octet-stream")];
    let Ok(reply) = request(&daemon.socket(), "POST", BUCKETS, &headers, &tar) else { return };
    send(daemon, "GET", &format!("{}/wait", reply.json()["operation"].as_str().unwrap()), &Value::Null);
}

/// Puts objects into the first bucket.
fn with_objects(world: &World) {
    for key in ["a", "dir/b", "gone"] {
        world.s3().put(&format!("{}first/{key}", world.prefix), key.as_bytes());
    }
}

/// The same with a snapshot of them, and others since.
fn with_a_snapshot(world: &World) {
    with_objects(world);
    world.daemon.change("POST", &format!("{BUCKETS}/first/snapshots"), &json!({ "name": "s0" }));
    world.s3().put(&format!("{}first/a", world.prefix), b"other");
    world.s3().put(&format!("{}first/new", world.prefix), b"new");
    world.s3().send("DELETE", &format!("{}first/gone", world.prefix), b"");
}

fn snapshot_stories() -> Vec<Story> {
    vec![
        Story {
            name: "take a snapshot",
            points: ALL,
            prepare: with_objects,
            act: |d| {
                send_and_wait(d, "POST", &format!("{BUCKETS}/first/snapshots"), &json!({ "name": "s0" }));
            },
        },
        Story {
            name: "delete a snapshot",
            points: ALL,
            prepare: with_a_snapshot,
            act: |d| send_and_wait(d, "DELETE", &format!("{BUCKETS}/first/snapshots/s0"), &Value::Null),
        },
        Story {
            name: "restore",
            points: ALL,
            prepare: with_a_snapshot,
            act: |d| send(d, "PUT", &format!("{BUCKETS}/first"), &json!({ "restore": "s0" })),
        },
        Story {
            name: "copy a snapshot",
            points: ALL,
            prepare: with_a_snapshot,
            act: |d| send(d, "POST", BUCKETS, &json!({ "name": "new", "source": { "name": "first/s0" } })),
        },
        Story {
            name: "copy a bucket",
            points: ALL,
            prepare: with_objects,
            act: |d| send(d, "POST", BUCKETS, &json!({ "name": "new", "source": { "name": "first" } })),
        },
        Story {
            name: "delete a bucket with a snapshot",
            points: ALL,
            prepare: with_a_snapshot,
            act: |d| send(d, "DELETE", &format!("{BUCKETS}/first"), &Value::Null),
        },
    ]
}

fn stories() -> Vec<Story> {
    vec![
        Story {
            name: "create",
            points: ALL,
            prepare: |_| {},
            act: |d| send(d, "POST", BUCKETS, &json!({ "name": "new", "config": { "size": "2MiB" } })),
        },
        Story { name: "import", points: ALL, prepare: |_| {}, act: import },
        Story {
            name: "create a key",
            points: ACT,
            prepare: |_| {},
            act: |d| send(d, "POST", &format!("{BUCKETS}/first/keys"), &json!({ "name": "k1" })),
        },
        Story {
            name: "change a key",
            points: ACT,
            prepare: |_| {},
            act: |d| {
                let body = json!({ "role": "admin", "secret-key": "another-secret" });
                send(d, "PUT", &format!("{BUCKETS}/first/keys/k0"), &body);
            },
        },
        Story {
            name: "delete a key",
            points: &[],
            prepare: |_| {},
            act: |d| send(d, "DELETE", &format!("{BUCKETS}/first/keys/k0"), &Value::Null),
        },
        Story {
            name: "resize",
            points: ACT,
            prepare: |_| {},
            act: |d| send(d, "PATCH", &format!("{BUCKETS}/first"), &json!({ "config": { "size": "3MiB" } })),
        },
        Story {
            name: "delete",
            points: ALL,
            prepare: |_| {},
            act: |d| send(d, "DELETE", &format!("{BUCKETS}/first"), &Value::Null),
        },
    ]
}

/// A daemon, and what the names of its buckets begin with at the gateway.
struct World {
    gateway: Arc<Gateway>,
    daemon: Larderd,
    prefix: String,
    /// Where the daemon is told when to die.
    plan: tempfile::NamedTempFile,
}

impl World {
    fn prepared(gateway: &Arc<Gateway>) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let prefix = format!("w{}-", NEXT.fetch_add(1, Ordering::Relaxed));
        let plan = tempfile::NamedTempFile::new().unwrap();
        let environment =
            [&gateway.environment()[..], &[("LARDER_CRASH_PLAN", plan.path().to_str().unwrap())]].concat();
        let daemon = Larderd::start_with(&environment);
        let config =
            json!({ "cephobject.radosgw.endpoint": gateway.url(), "cephobject.bucket.name_prefix": prefix });
        let pool = json!({ "name": "p1", "driver": "cephobject", "config": config });
        daemon.change("POST", "/1.0/storage-pools", &pool);
        daemon.change("POST", BUCKETS, &json!({ "name": "first", "config": { "size": "1MiB" } }));
        daemon.change("POST", &format!("{BUCKETS}/first/keys"), &json!({ "name": "k0" }));
        Self { gateway: Arc::clone(gateway), daemon, prefix, plan }
    }

    /// Somebody with the admin's key of the first bucket.
    fn s3(&self) -> S3 {
        let key = self.daemon.read(&format!("{BUCKETS}/first/keys/admin"));
        S3::at(&self.gateway.url(), Pair::of(&key))
    }

    /// The users of the pool's buckets, and those of its snapshots.
    fn users(&self) -> (Vec<String>, Vec<String>) {
        let pool = self.daemon.read("/1.0/storage-pools/p1");
        let identity = pool["config"]["volatile.pool.identity"].as_str().unwrap().to_owned();
        let users = self.gateway.names(&["user", "list"], &identity);
        users.into_iter().partition(|user| !user.contains(".default_snapshot-"))
    }

    fn snapshots_of(&self, bucket: &str) -> Vec<String> {
        let listed = self.daemon.read(&format!("{BUCKETS}/{bucket}/snapshots"));
        listed
            .as_array()
            .unwrap()
            .iter()
            .map(|url| url.as_str().unwrap().rsplit('/').next().unwrap().to_owned())
            .collect()
    }

    /// What is in the snapshots, to which nobody may have a key.
    fn in_snapshots(&self, users: &[String]) -> Vec<Vec<String>> {
        let held = users.iter().map(|user| {
            let found = self.gateway.admin(&["user", "info", &format!("--uid={user}")]);
            assert_eq!((&found["keys"], &found["subusers"]), (&json!([]), &json!([])), "{user}");
            self.objects_in(user.split_once(".default_").unwrap().1)
        });
        let mut held: Vec<_> = held.collect();
        held.sort();
        held
    }

    /// What the catalog says; fails when the gateway does not have just that.
    fn seen(&self) -> Seen {
        let (users, hidden) = self.users();
        let mut seen = BTreeMap::new();
        let full = self.daemon.read(&format!("{BUCKETS}?recursion=2"));
        for bucket in full.as_array().unwrap() {
            let name = bucket["name"].as_str().unwrap();
            let user = users.iter().find(|user| user.ends_with(&format!(".default_{name}"))).unwrap();
            let size = bucket["config"]["size"].as_str().unwrap_or_default();
            let keys = bucket["keys"].as_array().unwrap();
            self.must_agree(user, name, size, keys);
            let text = |key: &Value, field: &str| key[field].as_str().unwrap().to_owned();
            let keys = keys.iter().map(|key| (text(key, "name"), text(key, "role"))).collect();
            let (objects, snapshots) = (self.objects_in(name), self.snapshots_of(name));
            seen.insert(name.to_owned(), SeenBucket { size: size.to_owned(), keys, objects, snapshots });
        }
        assert_eq!(users.len(), seen.len(), "catalog and gateway disagree: {users:?}");
        let mut buckets = self.gateway.names(&["bucket", "list"], &self.prefix);
        buckets.retain(|name| !name.contains("-snapshot-"));
        let listed: Vec<_> = seen.keys().map(|name| format!("{}{name}", self.prefix)).collect();
        assert_eq!(listed, buckets, "catalog and gateway disagree");
        let known: usize = seen.values().map(|bucket| bucket.snapshots.len()).sum();
        assert_eq!(known, hidden.len(), "catalog and gateway disagree: {hidden:?}");
        (seen, self.in_snapshots(&hidden))
    }

    fn objects_in(&self, bucket: &str) -> Vec<String> {
        let list = self.gateway.admin(&["bucket", "list", &format!("--bucket={}{bucket}", self.prefix)]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let object = |object: &Value| format!("{} {}", text(&object["name"]), text(&object["meta"]["etag"]));
        list.as_array().unwrap().iter().map(object).collect()
    }

    /// Deletions and restores go on while the daemon works.
    fn wait_for_the_rest(&self) {
        let deadline = Instant::now() + Duration::from_secs(240);
        let is_closed = || self.daemon.send("PATCH", &format!("{BUCKETS}/first"), &json!({})).status == 503;
        let has_more_snapshots = || {
            let buckets = self.daemon.read(&format!("{BUCKETS}?recursion=1"));
            let names = buckets.as_array().unwrap().iter().map(|bucket| bucket["name"].as_str().unwrap());
            self.users().1.len() > names.map(|name| self.snapshots_of(name).len()).sum()
        };
        while is_closed() || has_more_snapshots() {
            assert!(Instant::now() < deadline, "a restore or a deletion does not end");
            std::thread::sleep(Duration::from_millis(100));
        }
        let is_listed = |path: &Value| path.as_str().unwrap().starts_with(BUCKETS);
        let used = || self.daemon.read("/1.0/storage-pools/p1")["used_by"].as_array().unwrap().clone();
        while used().iter().filter(|path| is_listed(path)).count()
            > self.daemon.read(BUCKETS).as_array().unwrap().len()
        {
            assert!(Instant::now() < deadline, "a deletion does not end");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn must_agree(&self, user: &str, bucket: &str, size: &str, keys: &[Value]) {
        let found = self.gateway.admin(&["user", "info", &format!("--uid={user}")]);
        let triple = |key: &Value, user: String, access: &str, secret: &str| {
            (user, key[access].as_str().unwrap().to_owned(), key[secret].as_str().unwrap().to_owned())
        };
        let sorted = |mut keys: Vec<(String, String, String)>| {
            keys.sort();
            keys
        };
        let own = keys.iter().map(|key| {
            triple(key, format!("{user}:{}", key["name"].as_str().unwrap()), "access-key", "secret-key")
        });
        let theirs = found["keys"].as_array().unwrap().iter();
        let theirs = theirs
            .map(|key| triple(key, key["user"].as_str().unwrap().to_owned(), "access_key", "secret_key"));
        assert_eq!(sorted(own.collect()), sorted(theirs.collect()), "the keys of {bucket}");
        for subuser in found["subusers"].as_array().unwrap() {
            let key =
                keys.iter().find(|key| subuser["id"] == format!("{user}:{}", key["name"].as_str().unwrap()));
            let role = if subuser["permissions"] == "read" { "read-only" } else { "admin" };
            assert_eq!(key.unwrap()["role"], role, "{bucket}: {subuser}");
        }
        let quota = found["bucket_quota"]["max_size"].as_u64().map(|bytes| format!("{}MiB", bytes >> 20));
        assert_eq!(quota.as_deref(), Some(size), "the quota of {bucket}");
        assert_eq!((&found["suspended"], &found["max_buckets"]), (&json!(0), &json!(-1)), "{bucket}");
    }
}

/// Runs one story with a plan; whether the daemon died of it.
fn crash(gateway: &Arc<Gateway>, story: &Story, words: &str, goal: &Seen) -> bool {
    let mut world = World::prepared(gateway);
    (story.prepare)(&world);
    let before = world.seen();
    std::fs::write(world.plan.path(), words).unwrap();
    (story.act)(&world.daemon);
    if !std::fs::read_to_string(world.plan.path()).unwrap_or_default().starts_with("hit") {
        return false;
    }
    let has_ended = world.daemon.wait_for_its_end(Duration::from_secs(10));
    assert!(has_ended, "{}: {words}: the daemon lives", story.name);
    world.daemon.spawn(&gateway.environment());
    world.wait_for_the_rest();
    let after = world.seen();
    assert!(
        &after == goal || after == before,
        "{} at {words}: neither before nor after: {after:#?}",
        story.name
    );
    // And it goes on working: what is as before can be done again.
    if after == *goal {
        let later = json!({ "name": "later", "config": { "size": "1MiB" } });
        world.daemon.change("POST", BUCKETS, &later);
    } else {
        (story.act)(&world.daemon);
        assert_eq!(&world.seen(), goal, "{} at {words}: once more", story.name);
    }
    true
}

#[test]
fn a_killed_daemon_and_the_gateway_agree_after_the_restart() {
    let test = "a_killed_daemon_and_the_gateway_agree_after_the_restart";
    let Some(gateway) = Gateway::shared(test) else { return };
    must_agree_after_every_crash(&gateway, stories());
}

#[test]
fn a_killed_daemon_leaves_snapshots_whole_or_none() {
    let test = "a_killed_daemon_leaves_snapshots_whole_or_none";
    let Some(gateway) = Gateway::shared(test) else { return };
    must_agree_after_every_crash(&gateway, snapshot_stories());
}

fn must_agree_after_every_crash(gateway: &Arc<Gateway>, stories: Vec<Story>) {
    for story in stories {
        let world = World::prepared(gateway);
        (story.prepare)(&world);
        let before = world.seen();
        (story.act)(&world.daemon);
        let goal = world.seen();
        drop(world);
        assert_ne!(before, goal, "{}: the story changes nothing", story.name);
        for point in story.points {
            assert!(
                crash(gateway, &story, &format!("point {point}"), &goal),
                "{}: {point} not hit",
                story.name
            );
        }
        let hit = steps().take_while(|step| crash(gateway, &story, &format!("step {step}"), &goal)).count();
        // A story with fewer steps than a third begins with has its first.
        assert!(hit > 0 || crash(gateway, &story, "step 0", &goal), "{}: no step was hit", story.name);
    }
}

/// The steps to die at: all, or, where only a share of the faults is wanted, a third, which another seed lets be another one.
fn steps() -> std::iter::StepBy<std::ops::RangeFrom<usize>> {
    let seed = std::env::var("LARDER_FAULT_SEED").unwrap_or_default();
    let first = seed.bytes().map(usize::from).sum::<usize>() % THIRD;
    match std::env::var_os("LARDER_FAULT_SHARE").is_some_and(|share| share != "100") {
        true => (first..).step_by(THIRD),
        false => (0..).step_by(1),
    }
}
