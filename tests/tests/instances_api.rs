//! Instances over the API, where none of them need run.

use larder_tests::{Larderd, request, upload_small_image};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

#[test]
fn a_pool_that_is_away_hides_no_instance() {
    let mut daemon = Larderd::start();
    daemon.make_pool("there");
    let elsewhere = tempfile::tempdir().unwrap();
    let (place, away) = (elsewhere.path().join("pool"), elsewhere.path().join("away"));
    std::fs::create_dir(&place).unwrap();
    let pool = json!({ "name": "lost", "driver": "dir", "config": { "source": place } });
    daemon.change("POST", "/1.0/storage-pools", &pool);
    let source = json!({ "type": "image", "fingerprint": upload_small_image(&daemon) });
    for (name, pool) in [("one", "there"), ("other", "lost")] {
        let root = json!({ "root": { "type": "disk", "path": "/", "pool": pool } });
        let new = json!({ "name": name, "source": source, "devices": root });
        daemon.change("POST", "/1.0/instances", &new);
    }
    daemon.stop();
    std::fs::rename(&place, &away).unwrap();
    daemon.spawn(&[]);
    assert_eq!(daemon.read("/1.0/storage-pools/lost")["status"], "Unavailable");
    let listed = daemon.read("/1.0/instances?recursion=2");
    let listed: Vec<_> = listed.as_array().into_iter().flatten().collect();
    let seen: Vec<_> = listed.iter().map(|one| (&one["name"], &one["status"])).collect();
    assert_eq!(seen, [(&json!("one"), &json!("Stopped")), (&json!("other"), &json!("Stopped"))]);
    let state = daemon.read("/1.0/instances/other/state");
    assert_eq!((&state["status"], &state["disk"]), (&json!("Stopped"), &json!({})));
    // What changes it says why it can't, and has changed nothing.
    let (code, error) = daemon.refuse("DELETE", "/1.0/instances/other?force=1", &Value::Null);
    assert_eq!(code, 202, "{error}");
    assert!(error.contains("the storage pool lost is not available"), "{error}");
    assert_eq!(daemon.read("/1.0/instances/other")["status"], "Stopped");
    daemon.stop();
    std::fs::rename(&away, &place).unwrap();
    daemon.spawn(&[]);
    let root = daemon.read("/1.0/storage-pools/lost/volumes/container/other");
    assert_eq!(root["used_by"], json!(["/1.0/instances/other"]));
    daemon.change("DELETE", "/1.0/instances/other", &Value::Null);
}

#[test]
fn a_snapshot_outlives_the_project_it_was_made_in() {
    let daemon = Larderd::start();
    daemon.make_pool("p");
    let shared = json!({ "features.profiles": "false", "features.images": "false" });
    daemon.change("POST", "/1.0/projects", &json!({ "name": "blue", "config": shared }));
    let new = json!({
        "name": "c", "source": { "type": "image", "fingerprint": upload_small_image(&daemon) },
        "devices": { "root": { "type": "disk", "path": "/", "pool": "p" } },
    });
    daemon.change("POST", "/1.0/instances?project=blue", &new);
    daemon.change("POST", "/1.0/instances/c/snapshots?project=blue", &json!({ "name": "s0" }));
    let moved = json!({ "name": "c", "project": "default", "migration": true });
    daemon.change("POST", "/1.0/instances/c?project=blue", &moved);
    daemon.change("DELETE", "/1.0/projects/blue", &Value::Null);
    let listed = daemon.read("/1.0/instances?recursion=2");
    assert_eq!(listed[0]["snapshots"][0]["name"], "s0", "{listed}");
    assert_eq!(daemon.read("/1.0/instances/c/snapshots/s0")["expanded_devices"]["root"]["pool"], "p");
}

#[test]
fn no_change_that_was_taken_is_lost_to_another() {
    const CLIENTS: usize = 6;
    let daemon = Larderd::start();
    daemon.make_pool("p");
    let new = json!({
        "name": "c", "source": { "type": "image", "fingerprint": upload_small_image(&daemon) },
        "devices": { "root": { "type": "disk", "path": "/", "pool": "p" } },
    });
    daemon.change("POST", "/1.0/instances", &new);
    let mut taken = Vec::new();
    for round in 0..10 {
        let key = |client: usize| format!("user.r{round}c{client}");
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let patch = |client| {
                let change = json!({ "config": { key(client): "yes" } });
                let reply = daemon.send("PATCH", "/1.0/instances/c", &change);
                daemon.finish(&reply)
            };
            let threads: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || patch(client))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(outcomes.iter().any(Result::is_ok), "nobody won: {outcomes:?}");
        for (client, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Ok(_) => taken.push(key(client)),
                Err(error) => assert!(error.contains("somebody else changed it"), "{error}"),
            }
        }
    }
    let config = daemon.read("/1.0/instances/c")["config"].clone();
    let kept: Vec<_> = taken.iter().filter(|key| config[key.as_str()] == "yes").collect();
    assert_eq!(kept.len(), taken.len(), "{config}");
}

/// A daemon with two pools, `p` and `q`, and an instance `c` on the first.
fn between_two_pools() -> Larderd {
    let daemon = Larderd::start();
    for pool in ["p", "q"] {
        daemon.make_pool(pool);
    }
    let new = json!({
        "name": "c", "source": { "type": "image", "fingerprint": upload_small_image(&daemon) },
        "devices": { "root": { "type": "disk", "path": "/", "pool": "p" } },
    });
    daemon.change("POST", "/1.0/instances", &new);
    daemon
}

#[test]
fn open_files_keep_an_instance_where_and_as_it_is() {
    let daemon = between_two_pools();
    daemon.change("POST", "/1.0/instances/c/snapshots", &json!({ "name": "s0" }));
    let mut session = UnixStream::connect(daemon.socket()).unwrap();
    let upgrade =
        "GET /1.0/instances/c/sftp HTTP/1.1\r\nHost: x\r\nUpgrade: sftp\r\nConnection: Upgrade\r\n\r\n";
    session.write_all(upgrade.as_bytes()).unwrap();
    let mut status = [0; 12];
    session.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
    let (moving, restoring) =
        (json!({ "name": "c", "pool": "q", "migration": true }), json!({ "restore": "s0" }));
    for (method, body) in [("POST", &moving), ("PUT", &restoring)] {
        let (_, error) = daemon.refuse(method, "/1.0/instances/c", body);
        assert!(error.contains("SFTP session: close it first"), "{error}");
    }
    assert_eq!(daemon.read("/1.0/storage-pools/q/volumes/container"), json!([]));
    drop(session);
    let deadline = Instant::now() + Duration::from_secs(20);
    while daemon.finish(&daemon.send("PUT", "/1.0/instances/c", &restoring)).is_err() {
        assert!(Instant::now() < deadline, "the session is not seen to end");
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.change("POST", "/1.0/instances/c", &moving);
    assert_eq!(daemon.read("/1.0/storage-pools/p/volumes/container"), json!([]));
}

#[test]
fn a_move_with_wrong_settings_is_none_and_logs_go_along_with_a_right_one() {
    let daemon = between_two_pools();
    let before = daemon.read("/1.0/instances/c");
    for (mut wrong, word) in [
        (json!({ "config": { "nonsense": "1" } }), "nonsense"),
        (json!({ "profiles": ["nope"] }), "nope"),
        (
            json!({ "devices": { "data": { "type": "disk", "path": "/d", "pool": "p", "source": "no" } } }),
            "no",
        ),
    ] {
        wrong["name"] = json!("d");
        for pool in ["p", "q"] {
            wrong["pool"] = json!(pool);
            let (status, error) = daemon.refuse("POST", "/1.0/instances/c", &wrong);
            assert!(error.contains(word), "{status} {error}");
            assert_eq!(daemon.read("/1.0/instances/c"), before);
        }
    }
    let logs = daemon.directory().join("logs/c");
    std::fs::create_dir_all(&logs).unwrap();
    std::fs::write(logs.join("console.log"), "hello").unwrap();
    daemon.change("POST", "/1.0/instances/c", &json!({ "name": "d", "config": { "user.moved": "yes" } }));
    assert_eq!(daemon.read("/1.0/instances/d")["config"]["user.moved"], "yes");
    assert_eq!(daemon.get("/1.0/instances/d/console").body, b"hello");
    assert!(!logs.exists());
}

#[test]
fn a_snapshot_is_changed_only_if_it_is_as_it_was_read() {
    let daemon = Larderd::start();
    daemon.make_pool("p");
    let new = json!({
        "name": "c", "source": { "type": "image", "fingerprint": upload_small_image(&daemon) },
        "devices": { "root": { "type": "disk", "path": "/", "pool": "p" } },
    });
    daemon.change("POST", "/1.0/instances", &new);
    daemon.change("POST", "/1.0/instances/c/snapshots", &json!({ "name": "s0" }));
    let path = "/1.0/instances/c/snapshots/s0";
    let read = daemon.get(path);
    let etag = read.header("etag").unwrap();
    let put = |etag: &str, year: u32| {
        let body = json!({ "expires_at": format!("{year}-01-01T00:00:00Z") }).to_string();
        request(&daemon.socket(), "PUT", path, &[("If-Match", etag)], body.as_bytes()).unwrap()
    };
    daemon.finish(&put(etag, 2099)).unwrap();
    assert_eq!(put(etag, 2100).status, 412);
    daemon.change("POST", path, &json!({ "name": "s1" }));
    assert_eq!(daemon.read("/1.0/instances/c/snapshots/s1")["expires_at"], "2099-01-01T00:00:00Z");
}
