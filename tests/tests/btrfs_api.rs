//! Pools on btrfs over the socket: made, grown, refused; volumes, snapshots, copies to and from another driver, restarts,
//! and a container with its root there.

use larder_tests::{
    Larderd, Pair, RealClient, S3, TestImage, request, require, require_containers, skip, upload_small_image,
};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

const POOL: &str = "/1.0/storage-pools/fast";
const VOLUMES: &str = "/1.0/storage-pools/fast/volumes/custom";

/// A daemon with a btrfs pool `fast` and a dir pool `plain`; said and none where there can be no such pool.
fn started(test: &str) -> Option<Larderd> {
    if !rustix::process::geteuid().is_root() {
        skip(test, "needs root");
        return None;
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.lines().any(|line| line.trim() == "btrfs") {
        skip(test, "the kernel has no btrfs");
        return None;
    }
    if !require(test, &["mkfs.btrfs", "blkid", "wipefs"]) {
        return None;
    }
    let daemon = Larderd::start();
    daemon.make_pool("plain");
    daemon.change("POST", "/1.0/storage-pools", &pool("fast", &json!({ "size": "256MiB" })));
    Some(daemon)
}

fn pool(name: &str, config: &Value) -> Value {
    json!({ "name": name, "driver": "btrfs", "config": config })
}

fn total(daemon: &Larderd) -> Value {
    daemon.read(&format!("{POOL}/resources"))["space"]["total"].clone()
}

fn content(daemon: &Larderd, pool: &str, volume: &str) -> PathBuf {
    daemon.directory().join("storage-pools").join(pool).join("custom").join(format!("default_{volume}"))
}

/// Deletes all volumes of a pool, each with its snapshots.
fn delete_all(daemon: &Larderd, pool: &str) {
    let listed = daemon.read(&format!("/1.0/storage-pools/{pool}/volumes/custom"));
    let urls = listed.as_array().into_iter().flatten().filter_map(Value::as_str);
    for url in urls.filter(|url| !url.contains("/snapshots/")) {
        daemon.change("DELETE", url, &Value::Null);
    }
}

#[test]
fn a_root_is_as_large_as_its_disk_says() {
    let test = "a_root_is_as_large_as_its_disk_says";
    let Some(daemon) = started(test) else { return };
    let root = |size: Option<&str>| {
        let mut root = json!({ "type": "disk", "path": "/", "pool": "fast" });
        root.as_object_mut().unwrap().extend(size.map(|size| ("size".to_owned(), json!(size))));
        json!({ "devices": { "root": root } })
    };
    let source = json!({ "type": "image", "fingerprint": upload_small_image(&daemon) });
    let devices = &root(Some("64MiB"))["devices"];
    daemon.change("POST", "/1.0/instances", &json!({ "name": "c", "source": source, "devices": devices }));
    let volume = format!("{POOL}/volumes/container/c");
    let told = || {
        let total = daemon.read(&format!("{volume}/state"))["usage"]["total"].as_u64().unwrap_or(0);
        (daemon.read(&volume)["config"]["size"].as_str().map(str::to_owned), total >> 20)
    };
    assert_eq!(told(), (Some("64MiB".to_owned()), 64));
    daemon.change("PATCH", "/1.0/instances/c", &root(Some("96MiB")));
    assert_eq!(told(), (Some("96MiB".to_owned()), 96));
    let (code, error) = daemon.refuse("PATCH", "/1.0/instances/c", &root(Some("much")));
    assert!([200, 400].contains(&code) || error.contains("much"), "{code} {error}");
    assert_eq!(told(), (Some("96MiB".to_owned()), 96));
    assert_eq!(daemon.read("/1.0/instances/c")["devices"]["root"]["size"], "96MiB");
    // Without a size there is no limit.
    let whole = json!({ "devices": root(None)["devices"], "profiles": ["default"] });
    daemon.change("PUT", "/1.0/instances/c", &whole);
    assert_eq!(told().0, None);
    daemon.change("DELETE", "/1.0/instances/c", &Value::Null);
}

/// A root disk on the pool `fast` with some keys more.
fn root_with(keys: &[(&str, &str)]) -> Value {
    let mut root = json!({ "type": "disk", "path": "/", "pool": "fast" });
    let keys = keys.iter().map(|(key, value)| ((*key).to_owned(), json!(value)));
    root.as_object_mut().into_iter().for_each(|root| root.extend(keys.clone()));
    json!({ "root": root })
}

/// How btrfs compresses what is in a folder of the pool `fast`.
fn compression(daemon: &Larderd, place: &str) -> String {
    let path = daemon.directory().join("storage-pools/fast").join(place);
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(&path, "btrfs.compression", &mut value).unwrap_or(0);
    String::from_utf8_lossy(&value[..length]).into_owned()
}

#[test]
fn a_root_has_the_keys_that_its_pool_and_its_disk_say() {
    let test = "a_root_has_the_keys_that_its_pool_and_its_disk_say";
    let Some(daemon) = started(test) else { return };
    let image = upload_small_image(&daemon);
    let source = json!({ "type": "image", "fingerprint": image });
    let says = |keys: Value| daemon.change("PATCH", POOL, &json!({ "config": keys }));
    let make = |name: &str, disk: &[(&str, &str)]| {
        let new = json!({ "name": name, "source": source, "devices": root_with(disk) });
        daemon.change("POST", "/1.0/instances", &new)
    };
    let keys =
        |kind: &str, name: &str| daemon.read(&format!("{POOL}/volumes/{kind}/{name}"))["config"].clone();
    says(
        json!({ "volume.size": "64MiB", "volume.btrfs.compression": "zstd", "volume.snapshots.expiry": "1d" }),
    );
    make("c1", &[]);
    assert_eq!(keys("container", "c1"), json!({ "btrfs.compression": "zstd", "size": "64MiB" }));
    assert_eq!(keys("image", &image), json!({ "btrfs.compression": "zstd" }));
    let state = daemon.read(&format!("{POOL}/volumes/container/c1/state"));
    assert_eq!(state["usage"]["total"], json!(64 << 20), "{state}");
    let rootfs = |name: &str| compression(&daemon, &format!("containers/{name}/rootfs"));
    assert_eq!(rootfs("c1"), "zstd");
    // The image is unpacked anew for what the pool says now; one root that wants something else is unpacked for itself.
    says(json!({ "volume.btrfs.compression": "lzo" }));
    make("c2", &[("size", "32MiB")]);
    assert_eq!(keys("container", "c2"), json!({ "btrfs.compression": "lzo", "size": "32MiB" }));
    make("c3", &[("initial.btrfs.compression", "zlib")]);
    assert_eq!(keys("container", "c3"), json!({ "btrfs.compression": "zlib", "size": "64MiB" }));
    assert_eq!(keys("image", &image), json!({ "btrfs.compression": "lzo" }));
    assert_eq!([rootfs("c1"), rootfs("c2"), rootfs("c3")], ["zstd", "lzo", "zlib"]);
    // A copy in the pool is made as its source; elsewhere as it is there.
    for (name, pool, has) in [
        ("near", "fast", json!({ "btrfs.compression": "zstd", "size": "64MiB" })),
        ("far", "plain", json!({ "size": "64MiB" })),
    ] {
        let mut devices = root_with(&[]);
        devices["root"]["pool"] = json!(pool);
        let source = json!({ "type": "copy", "source": "c1" });
        daemon.change(
            "POST",
            "/1.0/instances",
            &json!({ "name": name, "source": source, "devices": devices }),
        );
        assert_eq!(
            daemon.read(&format!("/1.0/storage-pools/{pool}/volumes/container/{name}"))["config"],
            has
        );
    }
    daemon.change("POST", "/1.0/instances/c3", &json!({ "name": "c3", "pool": "plain", "migration": true }));
    let moved = daemon.read("/1.0/storage-pools/plain/volumes/container/c3")["config"].clone();
    assert_eq!(moved, json!({ "size": "64MiB" }));
    // So is one that comes back from a backup.
    daemon.change(
        "POST",
        "/1.0/instances/c1/backups",
        &json!({ "name": "b", "compression_algorithm": "none" }),
    );
    let exported = daemon.get("/1.0/instances/c1/backups/b/export").body;
    let headers =
        [("Content-Type", "application/octet-stream"), ("X-Incus-name", "back"), ("X-Incus-pool", "fast")];
    let imported = request(&daemon.socket(), "POST", "/1.0/instances", &headers, &exported);
    let imported = imported.map_err(|error| error.to_string()).and_then(|reply| daemon.finish(&reply));
    assert!(imported.is_ok(), "{imported:?}");
    assert_eq!(keys("container", "back"), json!({ "btrfs.compression": "zstd", "size": "64MiB" }));
    assert_eq!(rootfs("back"), "zstd");
    // Without a size of its own a disk is as large as its pool says.
    let bare = json!({ "devices": root_with(&[]), "profiles": ["default"] });
    daemon.change("PUT", "/1.0/instances/c2", &bare);
    assert_eq!(keys("container", "c2")["size"], "64MiB");
}

#[test]
fn keys_for_a_new_root_are_checked() {
    let test = "keys_for_a_new_root_are_checked";
    let Some(daemon) = started(test) else { return };
    let source = json!({ "type": "image", "fingerprint": upload_small_image(&daemon) });
    for (key, value) in [
        ("initial.zfs.blocksize", "8KiB"),
        ("initial.btrfs.compression", "much"),
        ("initial.size", "1GiB"),
        ("initial.security.shifted", "true"),
    ] {
        let new = json!({ "name": "c", "source": source, "devices": root_with(&[(key, value)]) });
        let (_, error) = daemon.refuse("POST", "/1.0/instances", &new);
        assert!(error.contains(key.trim_start_matches("initial.")), "{key}: {error}");
        assert_eq!(daemon.read("/1.0/instances"), json!([]), "{key}");
    }
    let made = root_with(&[("initial.btrfs.compression", "zstd")]);
    daemon.change("POST", "/1.0/instances", &json!({ "name": "c", "source": source, "devices": made }));
    let other = json!({ "devices": root_with(&[("initial.btrfs.compression", "lzo")]) });
    let (_, error) = daemon.refuse("PATCH", "/1.0/instances/c", &other);
    assert!(error.contains("initial.btrfs.compression is for a new volume"), "{error}");
    daemon.change("PUT", "/1.0/instances/c", &json!({ "devices": root_with(&[]), "profiles": ["default"] }));
}

#[test]
fn a_pool_on_a_file_is_told_grown_and_removed() {
    let Some(mut daemon) = started("a_pool_on_a_file_is_told_grown_and_removed") else { return };
    let file = daemon.directory().join("disks/fast.img");
    let told = daemon.read(POOL);
    assert_eq!((&told["driver"], &told["status"]), (&json!("btrfs"), &json!("Created")));
    assert_eq!(told["config"]["source"], json!(file.display().to_string()));
    assert_eq!(total(&daemon), json!(256_u64 << 20));

    daemon.change("PATCH", POOL, &json!({ "config": { "size": "320MiB" } }));
    assert_eq!(total(&daemon), json!(320_u64 << 20));
    // What was filled in stays when it is left out.
    daemon.change("PUT", POOL, &json!({ "config": { "user.note": "kept" }, "description": "" }));
    let config = daemon.read(POOL)["config"].clone();
    assert_eq!((&config["size"], &config["user.note"]), (&json!("320MiB"), &json!("kept")));
    for (keys, word) in [
        (json!({ "size": "128MiB" }), "shrink"),
        (json!({ "source": "/dev/sdz" }), "source"),
        (json!({ "btrfs.mount_options": "no_such_option" }), "mount"),
        (json!({ "size": "much" }), "size"),
    ] {
        let (code, text) = daemon.refuse("PATCH", POOL, &json!({ "config": keys }));
        assert!(code >= 400 && text.contains(word), "{code}: {text}");
        assert_eq!(daemon.read(POOL)["config"], config, "{text}");
    }
    let (code, text) = daemon.refuse(
        "POST",
        "/1.0/storage-pools",
        &pool("other", &json!({ "source": daemon.directory().display().to_string() })),
    );
    assert!(code == 400 && text.contains("not on btrfs"), "{code}: {text}");
    let (code, text) =
        daemon.refuse("POST", "/1.0/storage-pools", &pool("other", &json!({ "size": "1MiB" })));
    assert!(code == 400 && text.contains("128MiB"), "{code}: {text}");

    daemon.stop();
    daemon.spawn(&[]);
    assert_eq!(total(&daemon), json!(320_u64 << 20));
    daemon.change("DELETE", POOL, &Value::Null);
    assert!(!file.exists());
    assert!(!daemon.directory().join("storage-pools/fast").exists());
}

#[test]
fn volumes_go_between_btrfs_and_dir_and_survive_a_restart() {
    let Some(mut daemon) = started("volumes_go_between_btrfs_and_dir_and_survive_a_restart") else { return };
    let file = |daemon: &Larderd, pool: &str, volume: &str| content(daemon, pool, volume).join("file");
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let config = json!({ "size": "64MiB", "btrfs.compression": "zstd" });
    daemon.change("POST", VOLUMES, &json!({ "name": "v1", "type": "custom", "config": config }));
    assert_eq!(fs::metadata(content(&daemon, "fast", "v1")).map(|found| found.ino()).ok(), Some(256));
    assert!(fs::write(file(&daemon, "fast", "v1"), "one").is_ok());
    daemon.change("POST", &format!("{VOLUMES}/v1/snapshots"), &json!({ "name": "s0" }));
    assert!(fs::write(file(&daemon, "fast", "v1"), "two").is_ok());
    let state = daemon.read(&format!("{VOLUMES}/v1/state"));
    assert_eq!(state["usage"]["total"], json!(64 << 20), "{state}");

    for (from, to, name) in [("fast", "fast", "near"), ("fast", "plain", "far"), ("plain", "fast", "back")] {
        let of = if from == "plain" { "far" } else { "v1" };
        let source = json!({ "type": "copy", "name": of, "pool": from });
        let body = json!({ "name": name, "type": "custom", "source": source, "config": {} });
        daemon.change("POST", &format!("/1.0/storage-pools/{to}/volumes/custom"), &body);
        assert_eq!(read(file(&daemon, to, name)), "two", "{name}");
        let snapshot = format!("storage-pools/{to}/custom-snapshots/default_{name}/s0/file");
        assert_eq!(read(daemon.directory().join(snapshot)), "one", "{name}");
    }
    daemon.kill();
    daemon.spawn(&[]);
    daemon.change("PUT", &format!("{VOLUMES}/v1"), &json!({ "restore": "s0" }));
    assert_eq!(read(file(&daemon, "fast", "v1")), "one");
    assert_eq!(daemon.read(&format!("{VOLUMES}/v1/state"))["usage"]["total"], json!(64 << 20));
    daemon.change("POST", &format!("{VOLUMES}/v1"), &json!({ "name": "v2" }));
    daemon.change("DELETE", &format!("{VOLUMES}/v2/snapshots/s0"), &Value::Null);
    let (_, text) = daemon.refuse("DELETE", POOL, &Value::Null);
    assert!(text.contains("in use"), "{text}");
    delete_all(&daemon, "fast");
    // What nobody wrote down is not destroyed with its pool.
    let stray = content(&daemon, "fast", "stray");
    assert!(fs::create_dir(&stray).is_ok());
    let (_, text) = daemon.refuse("DELETE", POOL, &Value::Null);
    assert!(text.contains("stray") && stray.is_dir(), "{text}");
    assert!(fs::remove_dir(&stray).is_ok());
    daemon.change("DELETE", POOL, &Value::Null);
}

#[test]
fn a_bucket_on_btrfs_is_filled_restored_and_deleted() {
    let test = "a_bucket_on_btrfs_is_filled_restored_and_deleted";
    if !require(test, &["curl"]) {
        return;
    }
    let Some(mut daemon) = started(test) else { return };
    let buckets = "/1.0/storage-pools/fast/buckets";
    let path = format!("{buckets}/bucket");
    let made = json!({ "name": "bucket", "config": { "size": "4MiB" } });
    let s3 = S3::open(&daemon, Pair::of(&daemon.change("POST", buckets, &made)));
    let folder = daemon.directory().join("storage-pools/fast/buckets/default_bucket");
    assert_eq!(fs::metadata(&folder).map(|found| found.ino()).ok(), Some(256), "no subvolume");
    let (old, new) = (vec![1; 2 << 20], vec![2; 1 << 20]);
    s3.put("bucket/small", b"old");
    s3.put("bucket/large", &old);
    daemon.change("POST", &format!("{path}/snapshots"), &json!({ "name": "s0" }));
    s3.put("bucket/small", b"new");
    s3.put("bucket/large", &new);

    // What is over its size is refused at the door; what is there stays, can be deleted, and makes room.
    let refused = s3.send("PUT", "bucket/more", &vec![3; 4 << 20]);
    assert_eq!(refused.code(), "QuotaExceeded", "{}: {}", refused.status, refused.text());
    assert!(s3.get("bucket/large") == new);
    s3.put("bucket/later", &old);
    assert_eq!(s3.send("PUT", "bucket/last", &old).code(), "QuotaExceeded");
    assert_eq!(s3.send("DELETE", "bucket/later", b"").status, 204);
    s3.put("bucket/last", &old);

    // A copy of the snapshot on another driver, and the bucket itself as it was.
    let source = json!({ "name": "far", "source": { "name": "bucket/s0", "pool": "fast" } });
    let far = daemon.change("POST", "/1.0/storage-pools/plain/buckets", &source);
    assert!(s3.with(Pair::of(&far)).get("far/large") == old);
    daemon.change("PUT", &path, &json!({ "restore": "s0" }));
    assert_eq!(s3.get("bucket/small"), b"old");
    assert!(s3.get("bucket/large") == old);
    assert_eq!(s3.send("GET", "bucket/last", b"").status, 404);
    daemon.kill();
    daemon.spawn(&[]);
    let s3 = S3::open(&daemon, s3.pair.clone().unwrap_or_else(|| panic!("no pair")));
    assert!(s3.get("bucket/large") == old);
    let (_, text) = daemon.refuse("DELETE", POOL, &Value::Null);
    assert!(text.contains("in use"), "{text}");
    daemon.change("DELETE", &path, &Value::Null);
    assert!(!folder.exists());
    assert_eq!(s3.send("GET", "bucket/small", b"").code(), "InvalidAccessKeyId");
    daemon.change("DELETE", POOL, &Value::Null);
}

#[test]
fn a_containers_root_is_on_btrfs() {
    let test = "a_containers_root_is_on_btrfs";
    if !require_containers(test) {
        return;
    }
    let Some(daemon) = started(test) else { return };
    let Some(lxc) = RealClient::lxc(test, &daemon) else { return };
    let Some(image) = TestImage::make(test, daemon.scratch()) else { return };
    let path = |path: PathBuf| path.display().to_string();
    lxc.run(&["image", "import", &path(image.metadata()), &path(image.rootfs()), "--alias", "busybox"]);
    lxc.run(&["launch", "busybox", "c1", "--storage", "fast"]);
    lxc.run(&["exec", "c1", "--", "sh", "-c", "echo one > /root/file"]);
    lxc.run(&["snapshot", "c1", "s0"]);
    lxc.run(&["exec", "c1", "--", "sh", "-c", "echo two > /root/file"]);
    lxc.run(&["copy", "c1", "c2"]);
    lxc.run(&["stop", "c1", "--force"]);
    lxc.run(&["restore", "c1", "s0"]);
    for (name, text) in [("c1", "one"), ("c2", "two")] {
        lxc.run(&["start", name]);
        assert_eq!(lxc.run(&["exec", name, "--", "cat", "/root/file"]).trim(), text, "{name}");
        lxc.run(&["delete", name, "--force"]);
    }
}
