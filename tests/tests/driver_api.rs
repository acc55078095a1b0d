//! What a person sees of a pool over the socket, whichever driver it has: the same trials for each of them, content compared
//! through backups, since not every driver shows a volume's files before they are asked for.
//!
//! `LARDER_SOAK_DRIVER` and `LARDER_SOAK_CONFIG` choose a driver and its pool's keys, as for the soak; without them every
//! driver that works here has its turn.

use larder_tests::{Larderd, Tar, files_in, request, require, upload_small_image, with_each_driver};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const VOLUMES: &str = "/1.0/storage-pools/here/volumes/custom";
const ELSEWHERE: &str = "/1.0/storage-pools/plain/volumes/custom";
const MEBIBYTE: u64 = 1 << 20;

/// Makes a volume from an uploaded file of a kind.
fn upload(daemon: &Larderd, name: &str, kind: &str, bytes: &[u8]) {
    let headers =
        [("Content-Type", "application/octet-stream"), ("X-Incus-name", name), ("X-Incus-type", kind)];
    let reply = request(&daemon.socket(), "POST", VOLUMES, &headers, bytes);
    let made = reply.map_err(|error| error.to_string()).and_then(|reply| daemon.finish(&reply));
    assert!(made.is_ok(), "{name}: {made:?}");
}

/// A volume `v1` that says `now`, with the snapshots `s0` and `s1` that say their names.
fn with_snapshots(daemon: &Larderd) {
    let described = |name: &str| json!({ "name": name, "content_type": "filesystem", "config": {} });
    let about = json!({ "name": "v1", "type": "custom", "content_type": "filesystem", "config": {} });
    // JSON is YAML.
    let index = json!({
        "name": "v1", "backend": "dir", "pool": "elsewhere", "type": "custom", "optimized": false,
        "snapshots": ["s0", "s1"],
        "config": { "volume": about, "volume_snapshots": [described("s0"), described("s1")] },
    });
    let mut tar = Tar::default().index(&index.to_string());
    for (folder, text) in [("volume-snapshots/s0", "s0"), ("volume-snapshots/s1", "s1"), ("volume", "now")] {
        tar = tar.folder(&format!("backup/{folder}/"));
        tar = tar.file(&format!("backup/{folder}/file"), text.as_bytes());
    }
    upload(daemon, "v1", "backup", &tar.end());
}

/// What is in a volume and its snapshots, by the names that a backup has for them.
fn content(daemon: &Larderd, volume: &str) -> BTreeMap<String, Vec<u8>> {
    daemon.change(
        "POST",
        &format!("{volume}/backups"),
        &json!({ "name": "b", "compression_algorithm": "none" }),
    );
    let exported = daemon.get(&format!("{volume}/backups/b/export"));
    daemon.change("DELETE", &format!("{volume}/backups/b"), &Value::Null);
    let mut files = files_in(&exported.body);
    files.remove("backup/index.yaml");
    files
}

/// What a volume's file says, then those of its snapshots.
fn texts(daemon: &Larderd, volume: &str) -> Vec<String> {
    let files = content(daemon, volume);
    assert!(files.keys().all(|name| name.ends_with("/file")), "{:?}", files.keys());
    files.into_values().map(|text| String::from_utf8_lossy(&text).into_owned()).collect()
}

fn copy(daemon: &Larderd, from: &str, volumes: &str, name: &str) {
    let source = json!({ "type": "copy", "name": "v1", "pool": from });
    daemon.change("POST", volumes, &json!({ "name": name, "type": "custom", "source": source }));
}

#[test]
fn a_volume_lives_its_life_and_outlives_the_daemon() {
    with_each_driver(|daemon, driver| {
        with_snapshots(daemon);
        let v1 = format!("{VOLUMES}/v1");
        assert_eq!(texts(daemon, &v1), ["s0", "s1", "now"], "{driver}");
        for stop in [Larderd::stop, Larderd::kill] {
            stop(daemon);
            daemon.spawn(&[]);
            assert_eq!(texts(daemon, &v1), ["s0", "s1", "now"], "{driver}");
        }
        daemon.change("POST", &format!("{v1}/snapshots"), &json!({ "name": "s2" }));
        daemon.change("DELETE", &format!("{v1}/snapshots/s2"), &Value::Null);
        daemon.change("PUT", &v1, &json!({ "restore": "s1" }));
        assert_eq!(texts(daemon, &v1), ["s0", "s1", "s1"], "{driver}: restored");
        daemon.change("POST", &format!("{v1}/snapshots/s1"), &json!({ "name": "renamed" }));
        daemon.change("POST", &v1, &json!({ "name": "v2" }));
        assert_eq!(daemon.get(&v1).status, 404, "{driver}");
        assert_eq!(texts(daemon, &format!("{VOLUMES}/v2")), ["s1", "s0", "s1"], "{driver}: renamed");
        let (_, text) = daemon.refuse("DELETE", "/1.0/storage-pools/here", &Value::Null);
        assert!(text.contains("in use"), "{driver}: {text}");
    });
}

#[test]
fn copies_and_moves_keep_content_and_snapshots_near_and_far() {
    with_each_driver(|daemon, driver| {
        with_snapshots(daemon);
        copy(daemon, "here", VOLUMES, "near");
        copy(daemon, "here", ELSEWHERE, "far");
        daemon.change("POST", &format!("{VOLUMES}/v1"), &json!({ "name": "v1", "pool": "plain" }));
        copy(daemon, "plain", VOLUMES, "back");
        for copy in [
            format!("{VOLUMES}/near"),
            format!("{ELSEWHERE}/far"),
            format!("{ELSEWHERE}/v1"),
            format!("{VOLUMES}/back"),
        ] {
            assert_eq!(texts(daemon, &copy), ["s0", "s1", "now"], "{driver}: {copy}");
        }
        let source = json!({ "type": "copy", "name": "near", "pool": "here", "refresh": true });
        daemon.change("DELETE", &format!("{VOLUMES}/near/snapshots/s1"), &Value::Null);
        for volumes in [VOLUMES, ELSEWHERE] {
            let name = if volumes == VOLUMES { "back" } else { "far" };
            daemon.change("POST", volumes, &json!({ "name": name, "type": "custom", "source": source }));
            assert_eq!(texts(daemon, &format!("{volumes}/{name}")), ["s0", "now"], "{driver}: {name}");
        }
    });
}

#[test]
fn disks_hold_what_is_put_on_them_and_only_grow() {
    with_each_driver(|daemon, driver| {
        let iso: Vec<u8> = (0..MEBIBYTE).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect();
        upload(daemon, "cd", "iso", &iso);
        let cd = format!("{VOLUMES}/cd");
        assert_eq!(daemon.read(&cd)["content_type"], "iso");
        let exported = content(daemon, &cd);
        let disk = exported.values().next().map_or(&[][..], Vec::as_slice);
        assert!(exported.len() == 1 && disk.starts_with(&iso), "{driver}: {:?}", exported.keys());

        let wanted = json!({ "size": "64MiB" });
        let body = json!({ "name": "disk", "type": "custom", "content_type": "block", "config": wanted });
        daemon.change("POST", VOLUMES, &body);
        let at = format!("{VOLUMES}/disk");
        daemon.change("PATCH", &at, &json!({ "config": { "size": "96MiB" } }));
        let (code, text) = daemon.refuse("PATCH", &at, &json!({ "config": { "size": "64MiB" } }));
        assert!(code == 400 && text.contains("shrink"), "{driver}: {code} {text}");
        let exported = content(daemon, &at);
        assert_eq!(exported.values().map(|disk| disk.len() as u64).collect::<Vec<_>>(), [96 * MEBIBYTE]);
        let usage = daemon.read(&format!("{at}/state"))["usage"].clone();
        match driver {
            // It can't tell yet what a disk that nobody uses has written.
            "lvm" => assert_eq!(usage, Value::Null, "{driver}"),
            _ => assert_eq!(usage["total"], json!(96 * MEBIBYTE), "{driver}: {usage}"),
        }
    });
}

#[test]
fn wrong_input_is_refused_by_name_and_changes_nothing() {
    with_each_driver(|daemon, driver| {
        with_snapshots(daemon);
        let v1 = format!("{VOLUMES}/v1");
        let before = daemon.read(&format!("{VOLUMES}?recursion=1"));
        for (method, path, body, word) in [
            ("POST", VOLUMES, json!({ "name": "v1", "type": "custom" }), "v1"),
            (
                "POST",
                VOLUMES,
                json!({ "name": "v2", "type": "custom", "config": { "size": "much" } }),
                "size",
            ),
            (
                "POST",
                VOLUMES,
                json!({ "name": "v2", "type": "custom", "config": { "no.such": "1" } }),
                "no.such",
            ),
            ("PATCH", &v1, json!({ "config": { "no.such": "1" } }), "no.such"),
            ("PATCH", "/1.0/storage-pools/here", json!({ "config": { "no.such": "1" } }), "no.such"),
            ("PUT", &v1, json!({ "restore": "none" }), "none"),
            ("POST", &format!("{v1}/snapshots"), json!({ "name": "s0" }), "s0"),
            ("DELETE", &format!("{v1}/snapshots/none"), Value::Null, "none"),
        ] {
            let (code, text) = daemon.refuse(method, path, &body);
            assert!(code >= 400 && text.contains(word), "{driver}: {method} {path} {body}: {code} {text}");
        }
        assert_eq!(daemon.read(&format!("{VOLUMES}?recursion=1")), before, "{driver}");
        assert_eq!(texts(daemon, &v1), ["s0", "s1", "now"], "{driver}");
    });
}

/// A key that says how a volume of a driver is made, with two values; none where there is no such key for roots.
fn made_by(driver: &str) -> Option<[&'static str; 3]> {
    match driver {
        "btrfs" => Some(["btrfs.compression", "zstd", "lzo"]),
        "lvm" | "ceph" => Some(["block.filesystem", "xfs", "ext4"]),
        "zfs" => Some(["zfs.blocksize", "64KiB", "32KiB"]),
        _ => None,
    }
}

#[test]
fn roots_are_made_as_the_pool_and_their_disks_say() {
    let test = "roots_are_made_as_the_pool_and_their_disks_say";
    with_each_driver(|daemon, driver| {
        let Some([key, said, other]) = made_by(driver) else { return };
        if key == "block.filesystem" && !require(test, &["mkfs.xfs"]) {
            return;
        }
        let known = daemon.read("/1.0/images?recursion=1")[0]["fingerprint"].as_str().map(str::to_owned);
        let image = known.unwrap_or_else(|| upload_small_image(daemon));
        let source = json!({ "type": "image", "fingerprint": image });
        let make = |name: &str, keys: Value| {
            let mut root = json!({ "type": "disk", "path": "/", "pool": "here" });
            root.as_object_mut()
                .into_iter()
                .for_each(|root| root.extend(keys.as_object().cloned().unwrap_or_default()));
            let new = json!({ "name": name, "source": source, "devices": { "root": root } });
            daemon.change("POST", "/1.0/instances", &new);
            let read = daemon.get(&format!("/1.0/instances/{name}/files?path=/file"));
            assert_eq!(read.body, b"text", "{driver}: {name}");
            daemon.read(&format!("/1.0/storage-pools/here/volumes/container/{name}"))["config"][key].clone()
        };
        assert_eq!(make("plain", json!({})), Value::Null, "{driver}");
        let keys = json!({ "config": { format!("volume.{key}"): said, "volume.size": "512MiB" } });
        daemon.change("PATCH", "/1.0/storage-pools/here", &keys);
        assert_eq!(make("said", json!({})), said, "{driver}");
        assert_eq!(make("other", json!({ format!("initial.{key}"): other })), other, "{driver}");
        assert_eq!(make("small", json!({ "size": "400MiB" })), said, "{driver}");
        let copy = json!({ "name": "copy", "source": { "type": "copy", "source": "other" } });
        daemon.change("POST", "/1.0/instances", &copy);
        let copied = daemon.read("/1.0/storage-pools/here/volumes/container/copy")["config"].clone();
        assert_eq!((&copied[key], &copied["size"]), (&json!(other), &json!("512MiB")), "{driver}");
        for name in ["plain", "said", "other", "small", "copy"] {
            daemon.change("DELETE", &format!("/1.0/instances/{name}"), &Value::Null);
        }
    });
}
