//! `kill -9` of the real daemon at the named points of what it does with instances. After the restart an instance is whole
//! with its root volume, or neither is there.

use larder_tests::{Larderd, TestImage, request};
use serde_json::{Value, json};
use std::time::Duration;

const INSTANCES: &str = "/1.0/instances";
const EXPIRY: &str = "2099-01-01T00:00:00Z";
const POOLS: [&str; 2] = ["default", "p2"];

/// A daemon with an image, and an instance `old` with a snapshot; it dies when the plan's point is reached.
fn prepared(test: &str) -> Option<Larderd> {
    let mut daemon = Larderd::start();
    let image = TestImage::make(test, daemon.scratch())?;
    let bytes = std::fs::read(image.unified()).unwrap_or_default();
    let headers = [("Content-Type", "application/octet-stream")];
    let reply = request(&daemon.socket(), "POST", "/1.0/images", &headers, &bytes);
    let imported = daemon.finish(&reply.unwrap_or_else(|error| panic!("{error}")));
    let fingerprint = imported.unwrap_or_else(|error| panic!("{error}"))["fingerprint"].clone();
    daemon.change("POST", "/1.0/images/aliases", &json!({ "name": "busybox", "target": fingerprint }));
    daemon.make_pool("p2");
    let project =
        json!({ "name": "blue", "config": { "features.profiles": "false", "features.images": "false" } });
    daemon.change("POST", "/1.0/projects", &project);
    daemon.change("POST", INSTANCES, &instance("old"));
    let file = daemon.directory().join("storage-pools/default/containers/old/rootfs/moment");
    for moment in ["past", "present"] {
        std::fs::write(&file, moment).unwrap_or_else(|error| panic!("{error}"));
        daemon.change("PATCH", "/1.0/instances/old", &json!({ "config": { "user.moment": moment } }));
        if moment == "past" {
            daemon.change("POST", "/1.0/instances/old/snapshots", &json!({ "name": "s0" }));
        }
    }
    daemon.stop();
    let plan = daemon.scratch().join("crash-plan");
    let _ = std::fs::write(&plan, "");
    daemon.spawn(&[("LARDER_CRASH_PLAN", &plan.display().to_string())]);
    Some(daemon)
}

fn instance(name: &str) -> Value {
    json!({ "name": name, "source": { "type": "image", "alias": "busybox" } })
}

/// What is asked for to bring `copy` up to date, which is prepared for that story alone.
fn refresh() -> Value {
    json!({ "name": "copy", "source": { "type": "copy", "source": "old", "refresh": true } })
}

/// The last parts of a list's URLs.
fn names(daemon: &Larderd, path: &str) -> Vec<String> {
    let listed = daemon.read(path);
    let last =
        |url: &Value| url.as_str().and_then(|url| url.rsplit('/').next()).unwrap_or_default().to_owned();
    listed.as_array().into_iter().flatten().map(last).collect()
}

#[test]
fn a_killed_daemon_leaves_whole_instances_or_none() {
    let test = "a_killed_daemon_leaves_whole_instances_or_none";
    let stories: &[(&str, &str, Value, &str)] = &[
        ("POST", INSTANCES, instance("new"), "create"),
        ("POST", INSTANCES, json!({ "name": "new", "source": { "type": "copy", "source": "old" } }), "copy"),
        ("POST", "/1.0/instances/old", json!({ "name": "new" }), "rename"),
        (
            "POST",
            "/1.0/instances/old",
            json!({ "name": "new", "migration": true, "pool": "p2" }),
            "move to a pool",
        ),
        (
            "POST",
            "/1.0/instances/old",
            json!({ "name": "old", "migration": true, "project": "blue" }),
            "move to a project",
        ),
        ("POST", INSTANCES, refresh(), "refresh"),
        ("POST", "/1.0/instances/old/snapshots", json!({ "name": "s1", "expires_at": EXPIRY }), "snapshot"),
        ("PUT", "/1.0/instances/old", json!({ "restore": "s0" }), "restore"),
        ("DELETE", "/1.0/instances/old", Value::Null, "delete"),
    ];
    let mut hits = 0;
    for (method, path, body, story) in stories {
        for point in ["after_intent", "after_act", "after_commit"] {
            let Some(mut daemon) = prepared(test) else { return };
            if *story == "refresh" {
                daemon.change("POST", INSTANCES, &refresh());
                daemon.change("POST", "/1.0/instances/old/snapshots", &json!({ "name": "s1" }));
            }
            let plan = daemon.scratch().join("crash-plan");
            let _ = std::fs::write(&plan, format!("point {point}"));
            let sent = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
            if let Ok(reply) = request(&daemon.socket(), method, path, &[], &sent)
                && let Some(url) = reply.json()["operation"].as_str()
            {
                // It dies meanwhile.
                let _ = request(&daemon.socket(), "GET", &format!("{url}/wait"), &[], b"");
            }
            if !std::fs::read_to_string(&plan).unwrap_or_default().starts_with("hit") {
                continue;
            }
            hits += 1;
            assert!(daemon.wait_for_its_end(Duration::from_secs(10)), "{story} {point}: the daemon lives");
            daemon.spawn(&[]);
            check(&daemon, story, point);
        }
    }
    assert!(hits >= 14, "only {hits} points were hit");
}

fn check(daemon: &Larderd, story: &str, point: &str) {
    let mut instances = names(daemon, &format!("{INSTANCES}?all-projects=true"));
    instances.sort();
    let mut roots: Vec<String> = Vec::new();
    for pool in POOLS {
        let path = format!(
            "/1.0/storage-pools/{pool}/volumes?all-projects=true&recursion=1&filter=type+eq+container"
        );
        let listed = daemon.read(&path);
        for root in listed.as_array().into_iter().flatten() {
            let (name, project) =
                (root["name"].as_str().unwrap_or("?"), root["project"].as_str().unwrap_or("?"));
            if name.contains('/') {
                continue;
            }
            let (suffix, prefix) = match project {
                "default" => (String::new(), String::new()),
                _ => (format!("?project={project}"), format!("{project}_")),
            };
            let folder = daemon.directory().join(format!("storage-pools/{pool}/containers/{prefix}{name}"));
            let hostname = folder.join("rootfs/etc/hostname");
            assert!(hostname.is_file(), "{story} {point}: {} is not whole", hostname.display());
            let snapshots = names(daemon, &format!("{INSTANCES}/{name}/snapshots{suffix}"));
            let on_volume = format!("/1.0/storage-pools/{pool}/volumes/container/{name}/snapshots{suffix}");
            assert_eq!(snapshots, names(daemon, &on_volume), "{story} {point}: the snapshots of {name}");
            let one = daemon.read(&format!("{INSTANCES}/{name}{suffix}"));
            assert_eq!(one["expanded_devices"]["root"]["pool"], pool, "{story} {point}: the pool of {name}");
            if name == "old" {
                let moment = std::fs::read_to_string(folder.join("rootfs/moment")).unwrap_or_default();
                assert_eq!(
                    one["config"]["user.moment"], *moment,
                    "{story} {point}: root and settings differ"
                );
            }
            if story == "snapshot" && snapshots.iter().any(|snapshot| snapshot == "s1") {
                let made = daemon.read(&format!("{INSTANCES}/{name}/snapshots/s1"));
                assert_eq!(made["expires_at"], EXPIRY, "{point}: the snapshot has lost its expiry");
            }
            roots.push(format!("{name}{suffix}"));
        }
    }
    roots.sort();
    assert_eq!(instances, roots, "{story} {point}: instances and root volumes differ");
    let expected: &[&[&str]] = match story {
        "create" | "copy" => &[&["new", "old"], &["old"]],
        "refresh" => &[&["copy", "old"]],
        "rename" | "move to a pool" => &[&["new"], &["old"]],
        "move to a project" => &[&["old?project=blue"], &["old"]],
        "delete" => &[&["old"], &[]],
        _ => &[&["old"]],
    };
    assert!(expected.iter().any(|names| *names == instances), "{story} {point}: {instances:?}");
    // And it goes on working.
    daemon.change("POST", INSTANCES, &instance("later"));
    daemon.change("DELETE", "/1.0/instances/later", &Value::Null);
}
