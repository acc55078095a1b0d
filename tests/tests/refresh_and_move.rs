//! Copies that are brought up to date, and instances that move between pools and projects, by every client that there is.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, RealClient, TestImage, require_containers};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Every client that there is, with a name for messages.
fn clients<'a>(test: &str, daemon: &'a Larderd) -> Vec<(&'static str, RealClient<'a>)> {
    let found = [
        ("larder", Some(RealClient::larder(daemon))),
        ("lxc", RealClient::lxc(test, daemon)),
        ("incus", RealClient::incus(test, daemon)),
    ];
    found.into_iter().filter_map(|(name, client)| Some((name, client?))).collect()
}

fn volume_file(daemon: &Larderd, pool: &str, volume: &str) -> PathBuf {
    daemon.directory().join(format!("storage-pools/{pool}/custom/default_{volume}/file"))
}

/// A file in the root of an instance.
fn root_file(daemon: &Larderd, pool: &str, instance: &str) -> PathBuf {
    daemon.directory().join(format!("storage-pools/{pool}/containers/{instance}/rootfs/root/file"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn last_names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|url| url.as_str().unwrap().rsplit('/').next().unwrap()).collect()
}

#[test]
fn volumes_are_brought_up_to_date() {
    let daemon = Larderd::start();
    daemon.make_pool("p2");
    let volumes = "/1.0/storage-pools/default/volumes/custom";
    for (name, client) in clients("volumes_are_brought_up_to_date", &daemon) {
        let (source, copy) = (format!("default/{name}"), format!("p2/{name}"));
        let snapshots = format!("{volumes}/{name}/snapshots");
        client.run(&["storage", "volume", "create", "default", name]);
        std::fs::write(volume_file(&daemon, "default", name), "one").unwrap();
        for snapshot in ["s0", "s1"] {
            daemon.change("POST", &snapshots, &json!({ "name": snapshot }));
        }
        client.run(&["storage", "volume", "copy", &source, &copy]);
        std::fs::write(volume_file(&daemon, "default", name), "two, later").unwrap();
        daemon.change("DELETE", &format!("{snapshots}/s0"), &Value::Null);
        daemon.change("POST", &snapshots, &json!({ "name": "s2" }));
        assert!(client.refuse(&["storage", "volume", "copy", &source, &copy]).contains("exists"), "{name}");
        client.run(&["storage", "volume", "copy", &source, &copy, "--refresh"]);
        assert_eq!(read(volume_file(&daemon, "p2", name)), "two, later", "{name}");
        let there = daemon.read(&format!("/1.0/storage-pools/p2/volumes/custom/{name}/snapshots"));
        assert_eq!(last_names(&there), ["s1", "s2"], "{name}");
        // A refresh of what is not there yet is a copy.
        client.run(&["storage", "volume", "copy", &source, &format!("p2/{name}-new"), "--refresh"]);
        assert_eq!(read(volume_file(&daemon, "p2", &format!("{name}-new"))), "two, later");
    }
}

#[test]
fn snapshots_older_than_the_newest_of_the_copy_can_stay_behind() {
    let test = "snapshots_older_than_the_newest_of_the_copy_can_stay_behind";
    let daemon = Larderd::start();
    daemon.make_pool("p2");
    let volumes = "/1.0/storage-pools/default/volumes/custom";
    // The lxc of Debian 12 has no word for it.
    for (name, client) in clients(test, &daemon).into_iter().filter(|(name, _)| *name != "lxc") {
        let (source, copy) = (format!("default/{name}"), format!("p2/{name}"));
        let make = |snapshot: &str| {
            daemon.change("POST", &format!("{volumes}/{name}/snapshots"), &json!({ "name": snapshot }));
        };
        client.run(&["storage", "volume", "create", "default", name]);
        make("s0");
        make("s1");
        client.run(&["storage", "volume", "copy", &source, &copy]);
        let there = format!("/1.0/storage-pools/p2/volumes/custom/{name}/snapshots");
        daemon.change("DELETE", &format!("{there}/s0"), &Value::Null);
        make("s2");
        client.run(&["storage", "volume", "copy", &source, &copy, "--refresh", "--refresh-exclude-older"]);
        assert_eq!(last_names(&daemon.read(&there)), ["s1", "s2"], "{name}");
        client.run(&["storage", "volume", "copy", &source, &copy, "--refresh"]);
        assert_eq!(last_names(&daemon.read(&there)), ["s0", "s1", "s2"], "{name}");
    }
}

#[test]
fn an_instance_gets_other_settings_while_it_moves() {
    let test = "an_instance_gets_other_settings_while_it_moves";
    let daemon = Larderd::start();
    let Some(image) = TestImage::make(test, daemon.scratch()) else { return };
    daemon.make_pool("p2");
    let unified = image.unified().display().to_string();
    RealClient::larder(&daemon).run(&["image", "import", &unified, "--alias", "busybox"]);
    daemon.change(
        "POST",
        "/1.0/profiles",
        &json!({ "name": "other", "config": { "user.profile": "other" } }),
    );
    // The lxc of Debian 12 does not send them.
    for (name, client) in clients(test, &daemon).into_iter().filter(|(name, _)| *name != "lxc") {
        let new = format!("{name}-new");
        client.run(&["init", "busybox", name, "-c", "user.note=old", "-c", "user.kept=yes"]);
        let words = ["-c", "user.note=new", "-d", "root,size=3GiB", "-p", "default", "-p", "other"];
        client.run(&[&["move", name, &new, "--storage", "p2"], words.as_slice()].concat());
        let moved = daemon.read(&format!("/1.0/instances/{new}"));
        for (key, value) in [("user.note", "new"), ("user.kept", "yes")] {
            assert_eq!(moved["config"][key], value, "{name}: {moved}");
        }
        assert_eq!(moved["profiles"], json!(["default", "other"]), "{name}: {moved}");
        let root = &moved["devices"]["root"];
        assert_eq!((&root["pool"], &root["size"]), (&json!("p2"), &json!("3GiB")), "{name}: {moved}");
        client.run(&["delete", &new]);
    }
}

#[test]
fn what_can_not_be_refreshed_is_named_and_stays() {
    let daemon = Larderd::start();
    let volumes = "/1.0/storage-pools/default/volumes/custom";
    for (name, content) in [("files", "filesystem"), ("other", "filesystem"), ("disk", "block")] {
        let config = if content == "block" { json!({ "size": "1MiB" }) } else { json!({}) };
        let body = json!({ "name": name, "content_type": content, "config": config });
        daemon.change("POST", volumes, &body);
    }
    daemon.change("POST", &format!("{volumes}/files/snapshots"), &json!({ "name": "s0" }));
    let source = |name: &str| json!({ "type": "copy", "name": name, "refresh": true });
    for (target, from, word) in
        [("files", "files", "itself"), ("other", "files/s0", "s0"), ("files", "disk", "block")]
    {
        let (status, error) =
            daemon.refuse("POST", volumes, &json!({ "name": target, "source": source(from) }));
        assert!(error.contains(word), "{status} {error}");
    }
    assert_eq!(daemon.read(&format!("{volumes}/other/snapshots")), json!([]));
}

#[test]
fn instances_are_brought_up_to_date_and_move() {
    let test = "instances_are_brought_up_to_date_and_move";
    let can_run = require_containers(test);
    let daemon = Larderd::start();
    let Some(image) = TestImage::make(test, daemon.scratch()) else { return };
    daemon.make_pool("p2");
    let unified = image.unified().display().to_string();
    RealClient::larder(&daemon).run(&["image", "import", &unified, "--alias", "busybox"]);
    let project =
        json!({ "name": "blue", "config": { "features.profiles": "false", "features.images": "false" } });
    daemon.change("POST", "/1.0/projects", &project);
    for (name, client) in clients(test, &daemon) {
        let copy = format!("{name}-copy");
        client.run(&["init", "busybox", name, "-c", "user.note=kept"]);
        std::fs::write(root_file(&daemon, "default", name), "one").unwrap();
        daemon.change("POST", &format!("/1.0/instances/{name}/snapshots"), &json!({ "name": "s0" }));
        client.run(&["copy", name, &copy]);
        std::fs::write(root_file(&daemon, "default", name), "two, later").unwrap();
        daemon.change("DELETE", &format!("/1.0/instances/{name}/snapshots/s0"), &Value::Null);
        daemon.change("POST", &format!("/1.0/instances/{name}/snapshots"), &json!({ "name": "s1" }));
        client.run(&["copy", name, &copy, "--refresh"]);
        assert_eq!(read(root_file(&daemon, "default", &copy)), "two, later", "{name}");
        assert_eq!(last_names(&daemon.read(&format!("/1.0/instances/{copy}/snapshots"))), ["s1"]);
        let hostname =
            daemon.directory().join(format!("storage-pools/default/containers/{copy}/rootfs/etc/hostname"));
        assert_eq!(read(hostname).trim(), copy, "{name}");

        moves(&daemon, name, &client);
        if can_run {
            client.run(&["start", &copy]);
            assert!(client.refuse(&["copy", name, &copy, "--refresh"]).contains("stop"), "{name}");
            assert!(client.refuse(&["move", &copy, "--storage", "p2"]).contains("stop"), "{name}");
            client.run(&["stop", &copy, "--force"]);
        }
        client.run(&["delete", name]);
        client.run(&["delete", &copy]);
    }
    assert_eq!(daemon.read("/1.0/storage-pools/p2/volumes/container"), json!([]));
}

/// To the other pool, to a project and back, under another name and back.
fn moves(daemon: &Larderd, name: &str, client: &RealClient<'_>) {
    let before = daemon.read(&format!("/1.0/instances/{name}"));
    client.run(&["move", name, "--storage", "p2"]);
    assert_eq!(read(root_file(daemon, "p2", name)), "two, later", "{name}");
    assert!(!root_file(daemon, "default", name).exists(), "{name}");
    let after = daemon.read(&format!("/1.0/instances/{name}"));
    assert_eq!(after["devices"]["root"]["pool"], "p2", "{name}");
    for field in ["created_at", "config", "profiles"] {
        assert_eq!(after[field], before[field], "{name}: {field}");
    }
    assert_eq!(last_names(&daemon.read(&format!("/1.0/instances/{name}/snapshots"))), ["s1"]);
    let snapshot = daemon.read(&format!("/1.0/instances/{name}/snapshots/s1"));
    assert_eq!(snapshot["config"]["user.note"], "kept", "{name}");

    client.run(&["move", name, "--target-project", "blue"]);
    assert_eq!(daemon.get(&format!("/1.0/instances/{name}")).status, 404, "{name}");
    assert_eq!(daemon.read(&format!("/1.0/instances/{name}?project=blue"))["project"], "blue");
    assert_eq!(read(root_file(daemon, "p2", &format!("blue_{name}"))), "two, later", "{name}");
    let other = format!("{name}-moved");
    client.run(&["move", name, &other, "--project", "blue", "--target-project", "default"]);
    client.run(&["move", &other, name]);
    assert_eq!(read(root_file(daemon, "p2", name)), "two, later", "{name}");
    assert!(client.refuse(&["move", name, "--storage", "nope"]).contains("nope"), "{name}");
    assert_eq!(last_names(&daemon.read(&format!("/1.0/instances/{name}/snapshots"))), ["s1"]);
}
