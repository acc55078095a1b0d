//! `kill -9` of the real daemon at every named point and every changing step of what it does to buckets. After the restart
//! a bucket is there with its key or not at all, catalog and pool agree, and nothing is left behind.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, request};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const BUCKETS: &str = "/1.0/storage-pools/p1/buckets";
const POINTS: &[&str] = &["after_intent", "after_act", "after_commit"];

/// Each bucket with the names of its keys and snapshots.
type Seen = BTreeMap<String, (Vec<String>, Vec<String>)>;

struct Story {
    name: &'static str,
    act: fn(&Larderd),
}

fn send(daemon: &Larderd, method: &str, path: &str, body: &Value) {
    // The daemon may die at any moment: the answer, if one comes, is not looked at.
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let Ok(reply) = request(&daemon.socket(), method, path, &[], &body) else { return };
    if reply.status == 202 {
        let operation = reply.json()["operation"].as_str().unwrap_or_default().to_owned();
        let _ = request(&daemon.socket(), "GET", &format!("{operation}/wait"), &[], b"");
    }
}

fn stories() -> Vec<Story> {
    vec![
        Story { name: "create", act: |d| send(d, "POST", BUCKETS, &json!({ "name": "new" })) },
        Story {
            name: "copy",
            act: |d| send(d, "POST", BUCKETS, &json!({ "name": "new", "source": { "name": "first/s0" } })),
        },
        Story {
            name: "snapshot",
            act: |d| send(d, "POST", &format!("{BUCKETS}/first/snapshots"), &json!({ "name": "s9" })),
        },
        Story { name: "delete", act: |d| send(d, "DELETE", &format!("{BUCKETS}/first"), &Value::Null) },
    ]
}

fn plan(daemon: &Larderd) -> PathBuf {
    daemon.scratch().join("crash-plan")
}

fn prepared() -> Larderd {
    let mut daemon = Larderd::start();
    daemon.make_pool("p1");
    for name in ["first", "second"] {
        daemon.change("POST", BUCKETS, &json!({ "name": name }));
    }
    daemon.change("POST", &format!("{BUCKETS}/first/snapshots"), &json!({ "name": "s0" }));
    daemon.stop();
    let plan = plan(&daemon);
    std::fs::write(&plan, "").unwrap();
    daemon.spawn(&[("LARDER_CRASH_PLAN", plan.to_str().unwrap())]);
    daemon
}

fn entries(folder: PathBuf) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Each bucket with the names of its keys and snapshots; fails when the pool disagrees.
fn seen(daemon: &Larderd) -> Seen {
    let root = daemon.directory().join("storage-pools/p1");
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    let mut seen = Seen::new();
    for bucket in names(&daemon.read(&format!("{BUCKETS}?recursion=1"))) {
        let keys = names(&daemon.read(&format!("{BUCKETS}/{bucket}/keys?recursion=1")));
        let snapshots = names(&daemon.read(&format!("{BUCKETS}/{bucket}/snapshots?recursion=1")));
        let on_disk = entries(root.join("buckets-snapshots").join(format!("default_{bucket}")));
        let own: Vec<_> = snapshots.iter().map(|name| name.rsplit('/').next().unwrap().to_owned()).collect();
        assert_eq!(own, on_disk, "catalog and pool disagree about the snapshots of {bucket}");
        seen.insert(bucket, (keys, snapshots));
    }
    let on_disk = entries(root.join("buckets"));
    let listed: Vec<_> = seen.keys().map(|name| format!("default_{name}")).collect();
    assert_eq!(listed, on_disk, "catalog and pool disagree");
    for area in ["staging", "trash"] {
        assert_eq!(entries(root.join(".larder").join(area)), Vec::<String>::new(), "left in {area}");
    }
    seen
}

/// Runs one story with a plan; whether the daemon died of it.
fn crash(story: &Story, words: &str, goal: &Seen) -> bool {
    let mut daemon = prepared();
    let before = seen(&daemon);
    std::fs::write(plan(&daemon), words).unwrap();
    (story.act)(&daemon);
    if !std::fs::read_to_string(plan(&daemon)).unwrap_or_default().starts_with("hit") {
        return false;
    }
    assert!(daemon.wait_for_its_end(Duration::from_secs(10)), "{}: {words}: the daemon lives", story.name);
    daemon.spawn(&[]);
    let after = seen(&daemon);
    assert!(
        &after == goal || after == before,
        "{} at {words}: neither before nor after: {after:#?}",
        story.name
    );
    assert!(after.values().all(|(keys, _)| keys == &["admin"]), "{} at {words}: {after:#?}", story.name);
    // And it goes on working: the names are free or taken as it says.
    daemon.change("POST", BUCKETS, &json!({ "name": "later" }));
    daemon.change("DELETE", &format!("{BUCKETS}/second"), &Value::Null);
    true
}

#[test]
fn a_killed_daemon_leaves_a_bucket_whole_or_not_at_all() {
    for story in stories() {
        let daemon = prepared();
        let before = seen(&daemon);
        (story.act)(&daemon);
        let goal = seen(&daemon);
        assert_ne!(before, goal, "{}: the story changes nothing", story.name);
        drop(daemon);
        let points = POINTS.iter().filter(|point| crash(&story, &format!("point {point}"), &goal)).count();
        assert!(points > 0, "{}: no point was hit", story.name);
        let mut step = 0;
        while crash(&story, &format!("step {step}"), &goal) {
            step += 1;
        }
        assert!(step > 0, "{}: no step was hit", story.name);
    }
}
