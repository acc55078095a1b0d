//! Backups of instances: made, stored, exported and imported by every client that there is; and hostile ones, which are
//! refused before anything is made of them.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, RealClient, Reply, Tar, TestImage, request, require_containers};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const INSTANCES: &str = "/1.0/instances";

/// Every client that there is, with a name for messages.
fn clients<'a>(test: &str, daemon: &'a Larderd) -> Vec<(&'static str, RealClient<'a>)> {
    let found = [
        ("larder", Some(RealClient::larder(daemon))),
        ("lxc", RealClient::lxc(test, daemon)),
        ("incus", RealClient::incus(test, daemon)),
    ];
    found.into_iter().filter_map(|(name, client)| Some((name, client?))).collect()
}

fn root(daemon: &Larderd, pool: &str, instance: &str) -> PathBuf {
    daemon.directory().join(format!("storage-pools/{pool}/containers/{instance}"))
}

fn upload(daemon: &Larderd, more: &[(&str, &str)], bytes: &[u8]) -> Reply {
    let headers = [&[("Content-Type", "application/octet-stream")][..], more].concat();
    request(&daemon.socket(), "POST", INSTANCES, &headers, bytes).unwrap()
}

fn assert_nothing_left(daemon: &Larderd) {
    let entries = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    for area in ["staging", "trash"] {
        let left = entries(&daemon.directory().join("storage-pools/default/.larder").join(area));
        assert!(left.is_empty(), "{left:?}");
    }
    let left = entries(&daemon.directory().join("backups"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn instances_come_back_from_their_backups() {
    let test = "instances_come_back_from_their_backups";
    let can_run = require_containers(test);
    let daemon = Larderd::start();
    let Some(image) = TestImage::make(test, daemon.scratch()) else { return };
    daemon.make_pool("p2");
    let unified = image.unified().display().to_string();
    RealClient::larder(&daemon).run(&["image", "import", &unified, "--alias", "busybox"]);
    for (name, client) in clients(test, &daemon) {
        let one = format!("{INSTANCES}/{name}");
        client.run(&["init", "busybox", name, "-c", "user.note=then"]);
        let file = root(&daemon, "default", name).join("rootfs/root/file");
        std::fs::write(&file, "then").unwrap();
        std::os::unix::fs::chown(&file, Some(1234), Some(5678)).unwrap();
        daemon.change("POST", &format!("{one}/snapshots"), &json!({ "name": "s0" }));
        std::fs::write(&file, "now").unwrap();
        daemon.change("PATCH", &one, &json!({ "config": { "user.note": "now" } }));
        let before = daemon.read(&one);

        let backup = daemon.scratch().join(format!("{name}.tar.gz")).display().to_string();
        client.run(&["export", name, &backup]);
        assert_eq!(daemon.read(&format!("{one}/backups")), json!([]), "{name}: the client's own backup went");
        client.run(&["delete", name]);
        client.run(&["import", &backup]);
        let after = daemon.read(&one);
        for field in ["created_at", "devices", "profiles", "description", "architecture", "ephemeral"] {
            assert_eq!(after[field], before[field], "{name}: {field}");
        }
        assert_eq!(after["config"]["user.note"], "now");
        assert_ne!(after["config"]["volatile.uuid"], before["config"]["volatile.uuid"], "{name}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "now", "{name}");
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&file).unwrap());
        assert_eq!(owner, 1234, "{name}");
        let noted = root(&daemon, "default", name).join("backup.yaml");
        assert!(!noted.exists(), "{name}: what the peers note is not kept");
        assert_eq!(daemon.read(&format!("{one}/snapshots/s0"))["config"]["user.note"], "then", "{name}");
        daemon.change("PUT", &one, &json!({ "restore": "s0" }));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "then", "{name}");

        assert!(client.refuse(&["import", &backup]).contains("exists"), "{name}");
        let other = format!("{name}-other");
        client.run(&["import", &backup, &other, "--storage", "p2"]);
        assert!(root(&daemon, "p2", &other).join("rootfs/root/file").is_file(), "{name}");
        assert_eq!(daemon.read(&format!("{INSTANCES}/{other}"))["devices"]["root"]["pool"], "p2", "{name}");
        if can_run {
            client.run(&["start", &other]);
            assert_eq!(client.run(&["exec", &other, "--", "cat", "/root/file"]).trim(), "now", "{name}");
            client.run(&["stop", &other, "--force"]);
        }
        for instance in [name, &other] {
            client.run(&["delete", instance]);
        }
    }
    assert_nothing_left(&daemon);
}

#[test]
fn a_stored_backup_of_an_instance_lives_its_life() {
    let test = "a_stored_backup_of_an_instance_lives_its_life";
    let daemon = Larderd::start();
    let Some(image) = TestImage::make(test, daemon.scratch()) else { return };
    let unified = image.unified().display().to_string();
    let larder = RealClient::larder(&daemon);
    larder.run(&["image", "import", &unified, "--alias", "busybox"]);
    larder.run(&["init", "busybox", "c1"]);
    let backups = "/1.0/instances/c1/backups";
    daemon.change("POST", backups, &json!({ "name": "b0", "compression_algorithm": "none" }));
    daemon.change("POST", backups, &json!({ "compression_algorithm": "zstd", "instance_only": true }));
    assert_eq!(daemon.read(backups), json!([format!("{backups}/b0"), format!("{backups}/backup0")]));
    assert_eq!(daemon.read(&format!("{backups}/backup0"))["instance_only"], true);
    assert_eq!(daemon.read("/1.0/instances/c1?recursion=1")["backups"].as_array().unwrap().len(), 2);
    let (status, error) = daemon.refuse("POST", backups, &json!({ "name": "b0" }));
    assert!(status == 409 && error.contains("b0"), "{status} {error}");
    let past = json!({ "name": "late", "expires_at": "2001-01-01T00:00:00Z" });
    assert!(daemon.refuse("POST", backups, &past).1.contains("passed"));
    let optimized = json!({ "name": "o", "optimized_storage": true });
    daemon.change("POST", backups, &optimized);
    assert_eq!(daemon.read(&format!("{backups}/o"))["optimized_storage"], false);
    daemon.change("DELETE", &format!("{backups}/o"), &Value::Null);
    daemon.change("POST", &format!("{backups}/b0"), &json!({ "name": "b1" }));
    let exported = daemon.get(&format!("{backups}/b1/export"));
    assert_eq!(&exported.body[257..262], b"ustar");
    let direct = [("Accept", "application/octet-stream"), ("Content-Type", "application/json")];
    let wanted = json!({ "compression_algorithm": "none" }).to_string();
    let streamed = request(&daemon.socket(), "POST", backups, &direct, wanted.as_bytes()).unwrap();
    assert_eq!(&streamed.body[257..262], b"ustar");
    assert_eq!(daemon.get(&format!("{backups}/b0")).status, 404);
    daemon.change("DELETE", &format!("{backups}/b1"), &Value::Null);
    daemon.change("DELETE", "/1.0/instances/c1", &Value::Null);
    // Its backups go with it.
    assert_nothing_left(&daemon);
}

/// As LXD on zfs writes it, cut down to what matters.
const INDEX: &str = "name: old\nbackend: zfs\npool: tank\ntype: container\noptimized: false\noptimized_header: false\n\
    snapshots: [s0]\nconfig:\n  container:\n    architecture: x86_64\n    config: {user.note: now, volatile.eth0.hwaddr: x}\n    \
    devices: {}\n    ephemeral: false\n    profiles: [default]\n    created_at: 2026-01-02T03:04:05.123456789Z\n    \
    name: old\n    type: container\n  snapshots:\n  - {name: s0, config: {user.note: then}, devices: {}, profiles: [default], \
    expires_at: 0001-01-01T00:00:00Z, created_at: 2026-01-01T00:00:00Z}\n";

fn index() -> String {
    INDEX.replace("x86_64", std::env::consts::ARCH)
}

fn good(index: &str) -> Tar {
    Tar::default()
        .index(index)
        .folder("backup/snapshots/s0/")
        .folder("backup/snapshots/s0/rootfs/")
        .file("backup/snapshots/s0/rootfs/file", b"then")
        .folder("backup/container/")
        .file("backup/container/backup.yaml", b"container: {config: {security.privileged: 'true'}}")
        .folder("backup/container/rootfs/")
        .file("backup/container/rootfs/file", b"now")
}

#[test]
fn a_backup_of_a_peer_becomes_an_instance() {
    let daemon = Larderd::start();
    let bytes = good(&index()).end();
    daemon.finish(&upload(&daemon, &[("X-Incus-name", "new")], &bytes)).unwrap();
    let new = daemon.read(&format!("{INSTANCES}/new"));
    assert_eq!(new["config"]["user.note"], "now");
    assert_eq!(new["config"].get("volatile.eth0.hwaddr"), None);
    assert_eq!(new["config"].get("security.privileged"), None, "a second manifest counts for nothing");
    assert_eq!(new["created_at"], "2026-01-02T03:04:05.123456789Z");
    let root = root(&daemon, "default", "new");
    assert_eq!(std::fs::read_to_string(root.join("rootfs/file")).unwrap(), "now");
    assert!(!root.join("backup.yaml").exists());
    let snapshot = daemon.read(&format!("{INSTANCES}/new/snapshots/s0"));
    assert_eq!(
        (&snapshot["config"]["user.note"], &snapshot["created_at"]),
        (&json!("then"), &json!("2026-01-01T00:00:00Z"))
    );
    let devices = ("X-LXD-devices", "root=size%3D3GiB");
    daemon.finish(&upload(&daemon, &[("X-LXD-name", "other"), devices], &bytes)).unwrap();
    assert_eq!(daemon.read(&format!("{INSTANCES}/other"))["devices"]["root"]["size"], "3GiB");
}

#[test]
fn hostile_backups_are_refused_and_leave_nothing() {
    let daemon = Larderd::start();
    daemon.change("POST", "/1.0/projects", &json!({ "name": "bare", "config": {} }));
    let index = index();
    let with = |old: &str, new: &str| good(&index.replace(old, new)).end();
    let whole = good(&index).end();
    let bare = |tar: Tar| tar.folder("backup/snapshots/s0").folder("backup/snapshots/s0/rootfs");
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no tar", b"this is no tar".to_vec(), "no tar"),
        ("cut off", whole[..whole.len() - 1024].to_vec(), "cut off"),
        ("two manifests", good(&index).index(&index).end(), "2 members"),
        ("a volume", with("type: container\no", "type: custom\no"), "custom"),
        ("a machine", with("type: container\no", "type: virtual-machine\no"), "virtual machine"),
        ("optimized", with("optimized: false", "optimized: true"), "zfs"),
        ("another machine's", with(std::env::consts::ARCH, "s390x"), "s390x"),
        ("a name with a way out", with("name: old\n    t", "name: ../old\n    t"), "old"),
        ("a snapshot's way out", with("[s0]", "[../s0]"), "../s0"),
        ("a snapshot twice", with("[s0]", "[s0, s0]"), "twice"),
        ("a profile that is not here", with("[default]\n    created", "[nope]\n    created"), "nope"),
        ("a snapshot's raw settings", with("user.note: then", "raw.lxc: lxc.hook.start=/bin/sh"), "raw.lxc"),
        (
            "a snapshot's odd device",
            with("devices: {}, profiles", "devices: {d: {type: unix-block}}, profiles"),
            "unix-block",
        ),
        ("raw settings", with("user.note: now", "raw.lxc: lxc.hook.start=/bin/sh"), "raw.lxc"),
        (
            "a device that is not there",
            with("devices: {}\n", "devices: {d: {type: disk, path: /d, pool: default, source: nope}}\n"),
            "nope",
        ),
        (
            "a device of an odd kind",
            with("devices: {}\n", "devices: {d: {type: unix-block}}\n"),
            "unix-block",
        ),
        ("no root", bare(Tar::default().index(&index)).folder("backup/container").end(), "rootfs"),
        (
            "a link for a root",
            bare(Tar::default().index(&index))
                .folder("backup/container")
                .with("backup/container/rootfs", b'2', "/etc", b"")
                .end(),
            "rootfs",
        ),
        (
            "a link for the metadata",
            good(&index).with("backup/container/metadata.yaml", b'2', "/etc/passwd", b"").end(),
            "metadata.yaml",
        ),
        (
            "a way out",
            good(&index).file("backup/container/../../../../tmp/larder-out", b"x").end(),
            "outside",
        ),
        (
            "a link out",
            good(&index)
                .with("backup/container/l", b'2', "/tmp", b"")
                .file("backup/container/l/larder-out", b"x")
                .end(),
            "unpacking",
        ),
        (
            "more than there is room for",
            good(&index).claiming_too_much("backup/container/big").end(),
            "too large",
        ),
    ];
    for (what, bytes, word) in &cases {
        let error = daemon.finish(&upload(&daemon, &[], bytes)).unwrap_err();
        assert!(error.contains(word), "{what}: {error} should name {word}");
        assert_eq!(daemon.read(INSTANCES), json!([]), "{what}");
        assert_eq!(daemon.read("/1.0/storage-pools/default/volumes/container"), json!([]), "{what}");
        assert_nothing_left(&daemon);
    }
    assert!(!Path::new("/tmp/larder-out").exists());
    for (header, word) in [(("X-LXD-pool", "nope"), "nope"), (("X-LXD-name", "a_b"), "a_b")] {
        let error = daemon.finish(&upload(&daemon, &[header], &whole)).unwrap_err();
        assert!(error.contains(word), "{header:?}: {error}");
    }
    assert_nothing_left(&daemon);
}
