//! Pools, volumes, snapshots, copies, moves, backups over the socket, good and bad input.

use larder_tests::{Larderd, request};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

const VOLUMES: &str = "/1.0/storage-pools/p1/volumes/custom";

fn started() -> Larderd {
    let daemon = Larderd::start();
    daemon.make_pool("p1");
    daemon
}

fn make_volume(daemon: &Larderd, name: &str) {
    daemon.change(
        "POST",
        VOLUMES,
        &json!({ "name": name, "type": "custom", "content_type": "filesystem", "config": {} }),
    );
}

fn content(daemon: &Larderd, pool: &str, volume: &str) -> std::path::PathBuf {
    daemon.directory().join("storage-pools").join(pool).join("custom").join(format!("default_{volume}"))
}

fn names(list: &Value) -> Vec<String> {
    let mut names: Vec<String> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    names
}

#[test]
fn the_root_and_the_server_answer_as_clients_expect() {
    let daemon = started();
    assert_eq!(daemon.read("/"), json!(["/1.0"]));
    let reply = daemon.get("/1.0");
    let server = reply.metadata();
    assert_eq!(server["api_version"], "1.0");
    assert_eq!(server["auth"], "trusted");
    assert!(
        server["api_extensions"].as_array().is_some_and(|list| list.iter().any(|name| name == "storage"))
    );
    for never in
        ["storage_and_network_operations", "storage_and_profile_operations", "project_delete_operation"]
    {
        assert!(
            !server["api_extensions"].as_array().is_some_and(|list| list.iter().any(|name| name == never)),
            "{never}"
        );
    }
    let envelope = reply.json();
    for field in ["type", "status", "status_code", "operation", "error_code", "error", "metadata"] {
        assert!(envelope.get(field).is_some(), "{field}");
    }
    for part in ["files", "files/x", "sftp", "rebuild", "nbd", "bitmaps"] {
        let reply = daemon.get(&format!("{VOLUMES}/v1/{part}"));
        assert_eq!(reply.status, 501, "{part}: {}", reply.error());
    }
    assert_eq!(daemon.get(&format!("{VOLUMES}/v1/no-such-thing")).status, 404);
    let missing = daemon.get("/1.0/no-such-thing");
    assert_eq!((missing.status, missing.json()["type"].clone()), (404, json!("error")));
}

#[test]
fn a_volume_lives_its_life() {
    let daemon = started();
    make_volume(&daemon, "v1");
    let volume = daemon.read(&format!("{VOLUMES}/v1"));
    assert_eq!((volume["name"].clone(), volume["content_type"].clone()), (json!("v1"), json!("filesystem")));
    assert_eq!(volume["used_by"], json!([]));

    std::fs::write(content(&daemon, "p1", "v1").join("file"), "one").unwrap();
    daemon.change("POST", &format!("{VOLUMES}/v1/snapshots"), &json!({ "name": "s0" }));
    std::fs::write(content(&daemon, "p1", "v1").join("file"), "two").unwrap();
    daemon.change("PUT", &format!("{VOLUMES}/v1"), &json!({ "restore": "s0" }));
    assert_eq!(std::fs::read_to_string(content(&daemon, "p1", "v1").join("file")).unwrap(), "one");

    let all = daemon.read(&format!("{VOLUMES}?recursion=1"));
    assert_eq!(names(&all), ["v1", "v1/s0"]);

    let reply = daemon.send("POST", &format!("{VOLUMES}/v1"), &json!({ "name": "v2" }));
    assert_eq!(reply.status, 201, "{}", reply.error());
    assert_eq!(daemon.get(&format!("{VOLUMES}/v1")).status, 404);
    assert_eq!(names(&daemon.read(&format!("{VOLUMES}/v2/snapshots?recursion=1"))), ["v2/s0"]);

    daemon.change("POST", &format!("{VOLUMES}/v2/snapshots/s0"), &json!({ "name": "s1" }));
    daemon.change("DELETE", &format!("{VOLUMES}/v2/snapshots/s1"), &Value::Null);
    assert_eq!(daemon.read(&format!("{VOLUMES}/v2/snapshots")), json!([]));
    daemon.change("DELETE", &format!("{VOLUMES}/v2"), &Value::Null);
    assert_eq!(daemon.read(VOLUMES), json!([]));
    assert!(!content(&daemon, "p1", "v2").exists());
}

#[test]
fn snapshots_without_a_name_get_one_and_may_expire() {
    let daemon = started();
    make_volume(&daemon, "v1");
    daemon.change("POST", &format!("{VOLUMES}/v1/snapshots"), &json!({}));
    daemon.change(
        "POST",
        &format!("{VOLUMES}/v1/snapshots"),
        &json!({ "expires_at": "2099-01-01T00:00:00Z" }),
    );
    let snapshots = daemon.read(&format!("{VOLUMES}/v1/snapshots?recursion=1"));
    assert_eq!(names(&snapshots), ["v1/snap0", "v1/snap1"]);
    let expiring = daemon.read(&format!("{VOLUMES}/v1/snapshots/snap1"));
    assert!(expiring["expires_at"].as_str().is_some_and(|text| text.starts_with("2099-01-01")), "{expiring}");
}

#[test]
fn copies_and_moves_within_and_across_pools_keep_content_and_snapshots() {
    let daemon = started();
    daemon.make_pool("p2");
    make_volume(&daemon, "v1");
    std::fs::write(content(&daemon, "p1", "v1").join("file"), "old").unwrap();
    daemon.change("POST", &format!("{VOLUMES}/v1/snapshots"), &json!({ "name": "s0" }));
    std::fs::write(content(&daemon, "p1", "v1").join("file"), "new").unwrap();

    let source = json!({ "type": "copy", "name": "v1", "pool": "p1" });
    daemon.change("POST", VOLUMES, &json!({ "name": "v2", "type": "custom", "source": source }));
    assert_eq!(names(&daemon.read(&format!("{VOLUMES}/v2/snapshots?recursion=1"))), ["v2/s0"]);
    let of_snapshot = json!({ "type": "copy", "name": "v1/s0", "pool": "p1" });
    daemon.change(
        "POST",
        "/1.0/storage-pools/p2/volumes/custom",
        &json!({ "name": "v3", "type": "custom", "source": of_snapshot }),
    );
    assert_eq!(std::fs::read_to_string(content(&daemon, "p2", "v3").join("file")).unwrap(), "old");
    // Who names a source wants a copy of it.
    let named = json!({ "name": "v1" });
    daemon.change("POST", VOLUMES, &json!({ "name": "v5", "type": "custom", "source": named }));
    assert_eq!(std::fs::read_to_string(content(&daemon, "p1", "v5").join("file")).unwrap(), "new");
    let alone = json!({ "type": "copy", "name": "v1", "pool": "p1", "volume_only": true });
    daemon.change(
        "POST",
        "/1.0/storage-pools/p2/volumes/custom",
        &json!({ "name": "v4", "type": "custom", "source": alone }),
    );
    assert_eq!(daemon.read("/1.0/storage-pools/p2/volumes/custom/v4/snapshots"), json!([]));

    daemon.change("POST", &format!("{VOLUMES}/v1"), &json!({ "name": "moved", "pool": "p2" }));
    assert_eq!(daemon.get(&format!("{VOLUMES}/v1")).status, 404);
    assert_eq!(std::fs::read_to_string(content(&daemon, "p2", "moved").join("file")).unwrap(), "new");
    let snapshots = daemon.read("/1.0/storage-pools/p2/volumes/custom/moved/snapshots?recursion=1");
    assert_eq!(names(&snapshots), ["moved/s0"]);
    assert!(!content(&daemon, "p1", "v1").exists());
}

#[test]
fn a_backup_goes_out_and_comes_back_the_same() {
    let daemon = started();
    make_volume(&daemon, "v1");
    let folder = content(&daemon, "p1", "v1");
    std::fs::create_dir(folder.join("sub")).unwrap();
    std::fs::write(folder.join("sub/file"), "kept").unwrap();
    std::fs::set_permissions(folder.join("sub/file"), std::fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).unwrap();
    daemon.change("POST", &format!("{VOLUMES}/v1/snapshots"), &json!({ "name": "s0" }));
    std::fs::write(folder.join("sub/file"), "changed").unwrap();

    for compression in ["none", "gzip", "zstd"] {
        let made = json!({ "name": "b0", "compression_algorithm": compression });
        daemon.change("POST", &format!("{VOLUMES}/v1/backups"), &made);
        let export = daemon.get(&format!("{VOLUMES}/v1/backups/b0/export"));
        assert_eq!(export.status, 200, "{}", export.error());
        daemon.change("DELETE", &format!("{VOLUMES}/v1/backups/b0"), &Value::Null);

        let headers =
            [("Content-Type", "application/octet-stream"), ("X-LXD-name", "back"), ("X-Incus-name", "back")];
        let reply = request(&daemon.socket(), "POST", VOLUMES, &headers, &export.body).unwrap();
        daemon.finish(&reply).unwrap();
        let back = content(&daemon, "p1", "back");
        assert_eq!(std::fs::read_to_string(back.join("sub/file")).unwrap(), "changed", "{compression}");
        assert_eq!(std::fs::metadata(back.join("sub/file")).unwrap().permissions().mode() & 0o7777, 0o4751);
        assert_eq!(std::fs::read_link(back.join("link")).unwrap().to_str(), Some("/etc/passwd"));
        assert_eq!(names(&daemon.read(&format!("{VOLUMES}/back/snapshots?recursion=1"))), ["back/s0"]);
        daemon.change("PUT", &format!("{VOLUMES}/back"), &json!({ "restore": "s0" }));
        assert_eq!(std::fs::read_to_string(back.join("sub/file")).unwrap(), "kept");
        daemon.change("DELETE", &format!("{VOLUMES}/back"), &Value::Null);
    }
}

#[test]
fn block_and_iso_volumes() {
    let daemon = started();
    let block =
        json!({ "name": "disk", "type": "custom", "content_type": "block", "config": { "size": "64MiB" } });
    daemon.change("POST", VOLUMES, &block);
    let state = daemon.read(&format!("{VOLUMES}/disk/state"));
    assert_eq!(state["usage"]["total"], json!(64 << 20));
    daemon.change("PATCH", &format!("{VOLUMES}/disk"), &json!({ "config": { "size": "128MiB" } }));
    assert_eq!(daemon.read(&format!("{VOLUMES}/disk/state"))["usage"]["total"], json!(128 << 20));
    let (code, text) =
        daemon.refuse("PATCH", &format!("{VOLUMES}/disk"), &json!({ "config": { "size": "1MiB" } }));
    assert!(code == 400 && text.contains("shrink"), "{code} {text}");

    let iso = vec![7; 1 << 20];
    let headers = [("Content-Type", "application/octet-stream"), ("X-LXD-name", "cd"), ("X-LXD-type", "iso")];
    let reply = request(&daemon.socket(), "POST", VOLUMES, &headers, &iso).unwrap();
    daemon.finish(&reply).unwrap();
    assert_eq!(daemon.read(&format!("{VOLUMES}/cd"))["content_type"], "iso");
}

#[test]
fn bad_input_is_refused_with_the_peers_code_and_changes_nothing() {
    let daemon = started();
    make_volume(&daemon, "v1");
    daemon.change("POST", &format!("{VOLUMES}/v1/snapshots"), &json!({ "name": "s0" }));
    let before = daemon.read(&format!("{VOLUMES}?recursion=1"));
    let volume = |name: &str, more: Value| {
        let mut body = json!({ "name": name, "type": "custom", "content_type": "filesystem", "config": {} });
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        body
    };
    let cases: Vec<(&str, String, Value, u16, &str)> = vec![
        ("POST", VOLUMES.into(), volume("", json!({})), 400, "empty"),
        ("POST", VOLUMES.into(), volume("..", json!({})), 400, "\"..\""),
        ("POST", VOLUMES.into(), volume("a/b", json!({})), 400, "a/b"),
        ("POST", VOLUMES.into(), volume("v1", json!({})), 409, "v1"),
        ("POST", VOLUMES.into(), volume("x", json!({ "content_type": "tape" })), 400, "tape"),
        ("POST", VOLUMES.into(), volume("x", json!({ "config": { "size": "huge" } })), 400, "huge"),
        ("POST", VOLUMES.into(), volume("x", json!({ "config": { "sise": "1GiB" } })), 400, "sise"),
        ("POST", VOLUMES.into(), volume("x", json!({ "config": [] })), 400, "config"),
        ("POST", VOLUMES.into(), json!("text"), 400, ""),
        ("POST", "/1.0/storage-pools/none/volumes/custom".into(), volume("x", json!({})), 404, "none"),
        (
            "POST",
            "/1.0/storage-pools/p1/volumes/container".into(),
            volume("x", json!({ "type": "container" })),
            400,
            "custom",
        ),
        (
            "POST",
            "/1.0/storage-pools/p1/volumes/spoon".into(),
            volume("x", json!({ "type": "spoon" })),
            400,
            "spoon",
        ),
        ("GET", format!("{VOLUMES}/none"), Value::Null, 404, "none"),
        ("DELETE", format!("{VOLUMES}/none"), Value::Null, 404, "none"),
        ("PUT", format!("{VOLUMES}/v1"), json!({ "restore": "none" }), 404, "none"),
        ("POST", format!("{VOLUMES}/v1"), json!({ "name": "v1" }), 409, "v1"),
        ("POST", format!("{VOLUMES}/v1/snapshots"), json!({ "name": "s0" }), 409, "s0"),
        ("POST", format!("{VOLUMES}/v1/snapshots"), json!({ "name": "a b" }), 400, "a b"),
        ("DELETE", "/1.0/storage-pools/p1".into(), Value::Null, 400, "in use"),
        ("POST", "/1.0/storage-pools".into(), json!({ "name": "p1", "driver": "dir" }), 409, "p1"),
        ("POST", "/1.0/storage-pools".into(), json!({ "name": "p9", "driver": "tape" }), 400, "tape"),
        (
            "POST",
            "/1.0/storage-pools".into(),
            json!({ "name": "p9", "driver": "dir", "config": { "lvm.vg_name": "x" } }),
            400,
            "lvm.vg_name",
        ),
        ("PUT", "/1.0".into(), json!({ "config": { "no.such.key": "1" } }), 400, "no.such.key"),
        ("POST", "/1.0/projects".into(), json!({ "name": "a_b" }), 400, "a_b"),
        ("POST", "/1.0/projects".into(), json!({ "name": "default" }), 409, "default"),
        ("DELETE", "/1.0/projects/default".into(), Value::Null, 400, "default"),
    ];
    for (method, path, body, code, word) in cases {
        let (got, text) = daemon.refuse(method, &path, &body);
        assert_eq!(got, code, "{method} {path} {body}: {text}");
        assert!(text.contains(word) && !text.is_empty(), "{method} {path} {body}: {text} should name {word}");
    }
    let broken =
        request(&daemon.socket(), "POST", VOLUMES, &[("Content-Type", "application/json")], b"{\"name\":")
            .unwrap();
    assert_eq!(broken.status, 400, "{}", broken.error());
    let headers = [("Content-Type", "application/octet-stream"), ("X-LXD-name", "back")];
    let reply = request(&daemon.socket(), "POST", VOLUMES, &headers, b"this is no tar").unwrap();
    assert!(daemon.finish(&reply).is_err());
    assert_eq!(daemon.read(&format!("{VOLUMES}?recursion=1")), before);
    assert_eq!(daemon.get("/1.0/storage-pools/p9").status, 404);
    assert_nothing_left(&daemon, "p1");
}

fn assert_nothing_left(daemon: &Larderd, pool: &str) {
    for area in ["staging", "trash"] {
        let folder = daemon.directory().join("storage-pools").join(pool).join(".larder").join(area);
        let left: Vec<_> =
            std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn an_etag_guards_against_lost_updates() {
    let daemon = started();
    make_volume(&daemon, "v1");
    let path = format!("{VOLUMES}/v1");
    let etag = daemon.get(&path).header("etag").map(str::to_owned).expect("an ETag");
    let body = json!({ "description": "first", "config": {} }).to_string();
    let put = |etag: &str| {
        let headers = [("Content-Type", "application/json"), ("If-Match", etag)];
        request(&daemon.socket(), "PUT", &path, &headers, body.as_bytes()).unwrap().status
    };
    assert_eq!(put("\"wrong\""), 412);
    assert_eq!(put(&etag), 200);
}

#[test]
fn projects_have_volumes_of_their_own() {
    let daemon = started();
    daemon.change("POST", "/1.0/projects", &json!({ "name": "blue", "config": {} }));
    make_volume(&daemon, "v1");
    let own = format!("{VOLUMES}?project=blue");
    daemon.change("POST", &own, &json!({ "name": "v1", "type": "custom", "config": {} }));
    assert_eq!(daemon.read(&own), json!(["/1.0/storage-pools/p1/volumes/custom/v1?project=blue"]));
    let everywhere = daemon.read(&format!("{VOLUMES}?recursion=1&all-projects=true"));
    assert_eq!(names(&everywhere), ["v1", "v1"]);
    let (code, _) = daemon.refuse("DELETE", "/1.0/projects/blue", &Value::Null);
    assert_eq!(code, 400);
    daemon.change("DELETE", &format!("{VOLUMES}/v1?project=blue"), &Value::Null);
    daemon.change("DELETE", "/1.0/projects/blue", &Value::Null);
    assert_eq!(daemon.get("/1.0/projects/blue").status, 404);
    assert_eq!(daemon.get(&own).status, 404, "a project that does not exist");
}

#[test]
fn filters_select() {
    let daemon = started();
    for name in ["alpha", "beta"] {
        make_volume(&daemon, name);
    }
    let found = daemon.read(&format!("{VOLUMES}?recursion=1&filter=name%20eq%20alpha"));
    assert_eq!(names(&found), ["alpha"]);
    let found = daemon.read(&format!("{VOLUMES}?filter=name%20ne%20alpha"));
    assert_eq!(found, json!(["/1.0/storage-pools/p1/volumes/custom/beta"]));
    assert_eq!(daemon.get(&format!("{VOLUMES}?filter=name%20is")).status, 400);
}

#[test]
fn everything_is_there_after_a_restart() {
    let mut daemon = started();
    make_volume(&daemon, "v1");
    daemon.change("POST", &format!("{VOLUMES}/v1/snapshots"), &json!({ "name": "s0" }));
    daemon.change("PATCH", "/1.0", &json!({ "config": { "user.note": "kept" } }));
    let before =
        (daemon.read(&format!("{VOLUMES}?recursion=1")), daemon.read("/1.0/storage-pools?recursion=1"));
    daemon.stop();
    daemon.spawn(&[]);
    let after =
        (daemon.read(&format!("{VOLUMES}?recursion=1")), daemon.read("/1.0/storage-pools?recursion=1"));
    assert_eq!(before, after);
    assert_eq!(daemon.read("/1.0")["config"]["user.note"], "kept");
}

#[test]
fn a_catalog_backup_opens_as_a_catalog() {
    let mut daemon = started();
    make_volume(&daemon, "v1");
    let backup = daemon.send("POST", "/1.0/catalog/backups", &json!({}));
    assert_eq!(backup.status, 200);
    make_volume(&daemon, "later");
    daemon.stop();
    for entry in std::fs::read_dir(daemon.directory().join("catalog")).unwrap().flatten() {
        std::fs::remove_file(entry.path()).unwrap();
    }
    std::fs::write(daemon.directory().join("catalog/larder.db"), &backup.body).unwrap();
    daemon.spawn(&[]);
    assert_eq!(names(&daemon.read(&format!("{VOLUMES}?recursion=1"))), ["v1"]);
    assert!(content(&daemon, "p1", "later").exists(), "an orphan is reported, never destroyed");
    let warnings = daemon.read("/1.0/warnings?recursion=1").to_string();
    assert!(warnings.contains("later"), "{warnings}");
}

#[test]
fn nobody_else_on_the_host_reaches_a_volume() {
    let daemon = started();
    make_volume(&daemon, "v1");
    let path = content(&daemon, "p1", "v1").join("secret");
    std::fs::write(&path, "secret").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    // SAFETY: the child only makes system calls before it ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let path = std::ffi::CString::new(path.to_string_lossy().into_owned()).unwrap_or_default();
        // SAFETY: as above; `path` lives until the end.
        unsafe {
            libc::setresgid(65534, 65534, 65534);
            libc::setresuid(65534, 65534, 65534);
            let file = libc::open(path.as_ptr(), libc::O_RDONLY);
            libc::_exit(i32::from(file >= 0));
        }
    }
    let mut status = 0;
    // SAFETY: `child` is ours.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0, "uid 65534 could open a volume's file");
}

#[test]
fn a_snapshot_tells_its_own_name_and_goes_in_the_future_only() {
    let daemon = Larderd::start();
    let volumes = "/1.0/storage-pools/default/volumes/custom";
    daemon.change("POST", volumes, &json!({ "name": "v1" }));
    let snapshots = format!("{volumes}/v1/snapshots");
    daemon.change("POST", &snapshots, &json!({ "name": "s0", "expires_at": "2999-01-01T00:00:00Z" }));
    let one = format!("{snapshots}/s0");
    assert_eq!(daemon.read(&one)["name"], "s0");
    assert_eq!(daemon.read(&format!("{snapshots}?recursion=1"))[0]["name"], "v1/s0");

    let past = "2001-01-01T00:00:00Z";
    for (method, path, body) in [
        ("POST", &snapshots, json!({ "name": "s1", "expires_at": past })),
        ("PUT", &one, json!({ "description": "changed", "expires_at": past })),
        ("PATCH", &one, json!({ "description": "changed", "expires_at": past })),
    ] {
        let (status, error) = daemon.refuse(method, path, &body);
        assert!(status == 400 && error.contains("passed"), "{method} {path}: {status} {error}");
    }
    let unchanged = daemon.read(&one);
    assert_eq!(
        (&unchanged["description"], &unchanged["expires_at"]),
        (&json!(""), &json!("2999-01-01T00:00:00Z"))
    );
    assert_eq!(daemon.read(&snapshots), json!([one]));
    // None at all is fine.
    daemon.change("PUT", &one, &json!({ "description": "stays" }));
    assert_eq!(daemon.read(&one)["expires_at"], "0001-01-01T00:00:00Z");
}

#[test]
fn a_fixed_key_that_is_left_out_stays() {
    let daemon = started();
    let path = format!("{VOLUMES}/v1");
    let made = json!({ "name": "v1", "config": { "initial.uid": "1000", "user.note": "old" } });
    daemon.change("POST", VOLUMES, &made);
    daemon.change("PUT", &path, &json!({ "config": { "user.note": "new" } }));
    let kept = json!({ "initial.uid": "1000", "user.note": "new" });
    assert_eq!(daemon.read(&path)["config"], kept);
    let (code, error) = daemon.refuse("PUT", &path, &json!({ "config": { "initial.uid": "0" } }));
    assert!(code == 400 && error.contains("initial.uid"), "{code} {error}");
    assert_eq!(daemon.read(&path)["config"], kept);
}

#[test]
fn a_full_volume_has_its_snapshots_in_it() {
    let mut daemon = Larderd::start();
    let elsewhere = tempfile::tempdir().unwrap();
    let place = elsewhere.path().join("pool");
    std::fs::create_dir(&place).unwrap();
    let pool = json!({ "name": "p1", "driver": "dir", "config": { "source": place } });
    daemon.change("POST", "/1.0/storage-pools", &pool);
    make_volume(&daemon, "v1");
    let snapshots = format!("{VOLUMES}/v1/snapshots");
    daemon.change("POST", &snapshots, &json!({ "name": "s0" }));
    assert_eq!(names(&daemon.read(&format!("{VOLUMES}?recursion=1"))), ["v1", "v1/s0"]);
    let listed = daemon.read(&format!("{snapshots}?recursion=1"));
    assert_eq!((&listed[0]["name"], &listed[0]["expires_at"]), (&json!("v1/s0"), &Value::Null));
    let both = |daemon: &Larderd| {
        let all = daemon.read(&format!("{VOLUMES}?recursion=2"));
        assert_eq!(names(&all), ["v1"]);
        let one = daemon.read(&format!("{VOLUMES}/v1?recursion=1"));
        assert_eq!(all[0], one);
        one
    };
    let full = both(&daemon);
    assert_eq!(names(&full["snapshots"]), ["s0"]);
    assert_eq!(full["snapshots"][0].get("expires_at"), Some(&Value::Null));
    assert!(full["state"].get("usage").is_some(), "{full}");

    daemon.stop();
    std::fs::rename(&place, elsewhere.path().join("away")).unwrap();
    daemon.spawn(&[]);
    assert_eq!(both(&daemon)["state"], json!({ "usage": null }));
}
