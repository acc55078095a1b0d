//! Backups of volumes over the socket: what is stored, what is streamed, and what may come back in.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, Reply, Tar, WebSocket, request, upload_small_image};
use serde_json::{Value, json};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

const VOLUMES: &str = "/1.0/storage-pools/p1/volumes/custom";

fn started() -> Larderd {
    let daemon = Larderd::start();
    daemon.make_pool("p1");
    daemon
}

fn make_volume(daemon: &Larderd, name: &str, content: &str, config: &Value) {
    let body = json!({ "name": name, "type": "custom", "content_type": content, "config": config });
    daemon.change("POST", VOLUMES, &body);
}

fn content(daemon: &Larderd, volume: &str) -> PathBuf {
    daemon.directory().join("storage-pools/p1/custom").join(format!("default_{volume}"))
}

fn upload(daemon: &Larderd, more: &[(&str, &str)], bytes: &[u8]) -> Reply {
    let headers = [&[("Content-Type", "application/octet-stream")], more].concat();
    request(&daemon.socket(), "POST", VOLUMES, &headers, bytes).unwrap()
}

fn import(daemon: &Larderd, name: &str, bytes: &[u8]) -> Result<Value, String> {
    daemon.finish(&upload(daemon, &[("X-Incus-name", name)], bytes))
}

fn export(daemon: &Larderd, volume: &str, compression: &str) -> Vec<u8> {
    let body = json!({ "name": "b", "compression_algorithm": compression });
    daemon.change("POST", &format!("{VOLUMES}/{volume}/backups"), &body);
    let reply = daemon.get(&format!("{VOLUMES}/{volume}/backups/b/export"));
    assert_eq!(reply.status, 200, "{}", reply.error());
    daemon.change("DELETE", &format!("{VOLUMES}/{volume}/backups/b"), &Value::Null);
    reply.body
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn assert_nothing_left(daemon: &Larderd) {
    for area in ["staging", "trash"] {
        let left = files_in(&daemon.directory().join("storage-pools/p1/.larder").join(area));
        assert!(left.is_empty(), "{left:?}");
    }
    let left = files_in(&daemon.directory().join("backups"));
    assert!(left.is_empty(), "{left:?}");
}

/// As LXD on zfs writes it, cut down to what matters.
const INDEX: &str = "name: old\nbackend: zfs\npool: tank\ntype: custom\noptimized: false\noptimized_header: false\n\
    snapshots:\n- s0\nconfig:\n  volume:\n    config:\n      size: 1GiB\n      volatile.uuid: 8a1a\n      \
    zfs.blocksize: 8KiB\n      user.note: kept\n    description: from far\n    name: old\n    type: custom\n    \
    used_by: []\n    location: none\n    content_type: filesystem\n    project: default\n    \
    created_at: 2026-01-02T03:04:05.123456789Z\n  volume_snapshots:\n  - config:\n      zfs.blocksize: 8KiB\n    \
    description: before\n    expires_at: 0001-01-01T00:00:00Z\n    name: s0\n    content_type: filesystem\n    \
    created_at: 2026-01-01T00:00:00Z\n";

fn good() -> Tar {
    Tar::default()
        .index(INDEX)
        .folder("backup/volume-snapshots/s0/")
        .file("backup/volume-snapshots/s0/file", b"old")
        .folder("backup/volume/")
        .file("backup/volume/file", b"new")
}

#[test]
fn a_backup_of_another_driver_and_a_tar_of_files_become_volumes() {
    let daemon = started();
    daemon.finish(&upload(&daemon, &[], &good().end())).unwrap();
    let volume = daemon.read(&format!("{VOLUMES}/old"));
    assert_eq!(volume["config"], json!({ "size": "1GiB", "user.note": "kept" }));
    assert_eq!(volume["description"], "from far");
    assert_eq!(std::fs::read_to_string(content(&daemon, "old").join("file")).unwrap(), "new");
    let snapshot = daemon.read(&format!("{VOLUMES}/old/snapshots/s0"));
    assert_eq!(
        (&snapshot["description"], &snapshot["created_at"]),
        (&json!("before"), &json!("2026-01-01T00:00:00Z"))
    );
    daemon.change("PUT", &format!("{VOLUMES}/old"), &json!({ "restore": "s0" }));
    assert_eq!(std::fs::read_to_string(content(&daemon, "old").join("file")).unwrap(), "old");
    assert_nothing_left(&daemon);

    let files = Tar::default().folder("./").folder("./sub/").file("./sub/file", b"in a tar").end();
    daemon.finish(&upload(&daemon, &[("X-LXD-type", "tar"), ("X-LXD-name", "files")], &files)).unwrap();
    assert_eq!(std::fs::read_to_string(content(&daemon, "files").join("sub/file")).unwrap(), "in a tar");

    let taken = upload(&daemon, &[], &good().end());
    assert_eq!(taken.status, 409, "{}", taken.error());
    assert_nothing_left(&daemon);
}

#[test]
fn bad_uploads_are_refused_and_leave_nothing() {
    let daemon = started();
    make_volume(&daemon, "v1", "filesystem", &json!({}));
    let before = daemon.read(&format!("{VOLUMES}?recursion=1"));
    let whole = good().end();
    let start = || Tar::default().index(INDEX);
    let snapshot = |tar: Tar| tar.folder("backup/volume-snapshots/s0");
    let typed = |kind: &str| INDEX.replace("type: custom", &format!("type: {kind}"));
    let mut late = Tar::default();
    for number in 0..20 {
        late = late.file(&format!("backup/volume/{number}"), b"");
    }
    let mut followed = good().end();
    followed.resize(followed.len() + (3 << 20), 0);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), "no tar"),
        ("no tar", b"this is no tar".to_vec(), "no tar"),
        ("an empty tar", Tar::default().end(), "no tar"),
        ("cut in a header", whole[..whole.len() - 1024 - 700].to_vec(), "cut off"),
        ("cut between members", whole[..whole.len() - 1024 - 1024].to_vec(), "cut off"),
        ("cut in the manifest", whole[..700].to_vec(), "cut off"),
        ("without an end", whole[..whole.len() - 1024].to_vec(), "cut off"),
        ("something after the end", followed, "follows its end"),
        ("no manifest", Tar::default().folder("backup/volume/").end(), "index.yaml"),
        ("a late manifest", late.index(INDEX).end(), "beginning"),
        ("two manifests", good().index(INDEX).end(), "2 members"),
        ("a large manifest", Tar::default().index(&" ".repeat(2 << 20)).end(), "1 MiB"),
        ("no yaml", Tar::default().index("{[").end(), "index.yaml"),
        (
            "a container",
            Tar::default().index(&typed("container")).folder("backup/container").end(),
            "container",
        ),
        ("a bucket", Tar::default().index(&typed("bucket")).end(), "bucket"),
        (
            "optimized",
            Tar::default().index(&INDEX.replace("optimized: false", "optimized: true")).end(),
            "zfs",
        ),
        ("an unknown content", Tar::default().index(&INDEX.replace(": filesystem", ": tape")).end(), "tape"),
        ("a bad size", Tar::default().index(&INDEX.replace("1GiB", "huge")).end(), "huge"),
        (
            "our driver, its key",
            Tar::default().index(&INDEX.replace("backend: zfs", "backend: dir")).end(),
            "zfs.",
        ),
        ("a snapshot twice", Tar::default().index(&INDEX.replace("- s0\n", "- s0\n- s0\n")).end(), "twice"),
        ("a snapshot's name", Tar::default().index(&INDEX.replace("- s0\n", "- ../s0\n")).end(), "../s0"),
        ("no volume", snapshot(start()).end(), "backup/volume"),
        ("no snapshot", start().folder("backup/volume").end(), "backup/volume-snapshots/s0"),
        ("a file for a folder", snapshot(start()).file("backup/volume", b"x").end(), "no folder"),
        (
            "a link for a folder",
            snapshot(start()).with("backup/volume", b'2', "/etc", b"").end(),
            "no folder",
        ),
        ("more than there is room for", good().claiming_too_much("backup/volume/big").end(), "too large"),
        ("a way out", good().file("backup/volume/../../../../tmp/larder-out", b"x").end(), "outside"),
        ("an absolute name", good().file("/tmp/larder-out", b"x").end(), "outside"),
        (
            "a link out",
            good().with("backup/volume/l", b'2', "/tmp", b"").file("backup/volume/l/larder-out", b"x").end(),
            "unpacking",
        ),
        (
            "no disk",
            snapshot(Tar::default().index(&INDEX.replace(": filesystem", ": block"))).end(),
            "backup/volume-snapshots/s0.img",
        ),
    ];
    for (what, bytes, word) in &cases {
        let error = import(&daemon, "back", bytes).unwrap_err();
        assert!(error.contains(word), "{what}: {error} should name {word}");
        assert_eq!(daemon.read(&format!("{VOLUMES}?recursion=1")), before, "{what}");
        assert_nothing_left(&daemon);
    }
    assert!(!Path::new("/tmp/larder-out").exists());
    for (kind, name, bytes, word) in [
        ("iso", "cd", b"".as_slice(), "empty"),
        ("iso", "", b"iso", "name"),
        ("tar", "t", b"no tar", "archive"),
        ("tape", "t", b"x", "tape"),
    ] {
        let reply = upload(&daemon, &[("X-LXD-type", kind), ("X-LXD-name", name)], bytes);
        let error = daemon.finish(&reply).unwrap_err();
        assert!(error.contains(word), "{kind} {name}: {error}");
        assert_nothing_left(&daemon);
    }
    assert_eq!(daemon.read(&format!("{VOLUMES}?recursion=1")), before);
}

#[test]
fn files_come_back_as_they_were() {
    let daemon = started();
    make_volume(&daemon, "v1", "filesystem", &json!({}));
    let folder = content(&daemon, "v1");
    std::fs::write(folder.join("one"), "same").unwrap();
    std::fs::hard_link(folder.join("one"), folder.join("other")).unwrap();
    std::fs::write(folder.join("-rf * \u{e4}\n[x]"), "odd name").unwrap();
    std::os::unix::fs::chown(folder.join("one"), Some(100_000), Some(65_534)).unwrap();
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, folder.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    std::fs::write(folder.join("long".repeat(50)), vec![7; 100_000]).unwrap();

    for compression in ["none", "xz", "lzma", "bzip2"] {
        import(&daemon, "back", &export(&daemon, "v1", compression)).unwrap();
        let back = content(&daemon, "back");
        let (one, other) = (std::fs::metadata(back.join("one")), std::fs::metadata(back.join("other")));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(
            (one.ino(), one.nlink(), one.uid(), one.gid()),
            (other.ino(), 2, 100_000, 65_534),
            "{compression}"
        );
        assert_eq!(std::fs::read_to_string(back.join("-rf * \u{e4}\n[x]")).unwrap(), "odd name");
        assert_eq!(std::fs::metadata(back.join("pipe")).unwrap().mode(), 0o010_600);
        assert_eq!(std::fs::read(back.join("long".repeat(50))).unwrap(), vec![7; 100_000]);
        daemon.change("DELETE", &format!("{VOLUMES}/back"), &Value::Null);
    }
}

#[test]
fn disks_come_back_with_their_snapshots_and_holes() {
    let daemon = started();
    make_volume(&daemon, "disk", "block", &json!({ "size": "64MiB" }));
    let open = |volume: &str| {
        let path = content(&daemon, volume).join("root.img");
        std::fs::File::options().read(true).write(true).open(path).unwrap()
    };
    let at = |volume: &str, offset: u64| {
        let mut bytes = [0; 4];
        open(volume).read_exact_at(&mut bytes, offset).unwrap();
        bytes
    };
    open("disk").write_all_at(b"old!", 0).unwrap();
    daemon.change("POST", &format!("{VOLUMES}/disk/snapshots"), &json!({ "name": "s0" }));
    open("disk").write_all_at(&[0; 4], 0).unwrap();
    open("disk").write_all_at(b"new!", 40 << 20).unwrap();

    import(&daemon, "back", &export(&daemon, "disk", "zstd")).unwrap();
    assert_eq!((at("back", 0), &at("back", 40 << 20)), ([0; 4], b"new!"));
    let size = open("back").metadata().unwrap();
    assert_eq!(size.len(), 64 << 20);
    assert!(size.blocks() * 512 <= 4 << 20, "{} blocks", size.blocks());
    assert_eq!(daemon.read(&format!("{VOLUMES}/back"))["config"]["size"], "64MiB");
    daemon.change("PUT", &format!("{VOLUMES}/back"), &json!({ "restore": "s0" }));
    assert_eq!((&at("back", 0), at("back", 40 << 20)), (b"old!", [0; 4]));
}

#[test]
fn a_backup_can_be_the_reply_itself() {
    let daemon = started();
    make_volume(&daemon, "v1", "filesystem", &json!({}));
    std::fs::write(content(&daemon, "v1").join("file"), vec![b'x'; 1 << 20]).unwrap();
    let direct = |body: Value| {
        let headers = [("Content-Type", "application/json"), ("Accept", "application/octet-stream")];
        let path = format!("{VOLUMES}/v1/backups");
        request(&daemon.socket(), "POST", &path, &headers, body.to_string().as_bytes()).unwrap()
    };
    let reply = direct(json!({ "compression_algorithm": "zstd", "volume_only": true }));
    assert_eq!(reply.status, 200, "{}", reply.error());
    assert_eq!(reply.header("content-disposition"), Some("attachment; filename=\"v1.tar.zst\""));
    import(&daemon, "back", &reply.body).unwrap();
    assert_eq!(std::fs::read(content(&daemon, "back").join("file")).unwrap(), vec![b'x'; 1 << 20]);
    assert_eq!(daemon.read(&format!("{VOLUMES}/v1/backups")), json!([]));
    assert_nothing_left(&daemon);

    let refused = direct(json!({ "compression_algorithm": "rar" }));
    assert!(refused.status == 400 && refused.error().contains("rar"), "{}", refused.error());
}

#[test]
fn a_reader_that_goes_away_ends_the_work() {
    use std::io::{Read, Write};
    let daemon = started();
    make_volume(&daemon, "disk", "block", &json!({ "size": "1GiB" }));
    let mut stream = std::os::unix::net::UnixStream::connect(daemon.socket()).unwrap();
    let body = json!({ "compression_algorithm": "none" }).to_string();
    let head = format!(
        "POST {VOLUMES}/disk/backups HTTP/1.1\r\nHost: x\r\nAccept: application/octet-stream\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 4096]).unwrap();
    let running = |daemon: &Larderd| daemon.read("/1.0/operations")["running"].as_array().map_or(0, Vec::len);
    assert_eq!(running(&daemon), 1);
    drop(stream);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while running(&daemon) > 0 {
        assert!(std::time::Instant::now() < deadline, "the export still runs: {}", daemon.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_nothing_left(&daemon);
    daemon.change("DELETE", &format!("{VOLUMES}/disk"), &Value::Null);
}

#[test]
fn a_stored_backup_lives_its_life() {
    let mut daemon = started();
    make_volume(&daemon, "v1", "filesystem", &json!({}));
    let backups = format!("{VOLUMES}/v1/backups");
    let folder = daemon.directory().join("backups");
    daemon.change("POST", &backups, &json!({}));
    let wanted = json!({
        "expires_at": "2099-01-01T00:00:00Z", "volume_only": true, "optimized_storage": true,
        "compression_algorithm": "pigz -9 --rsyncable",
    });
    daemon.change("POST", &backups, &wanted);
    assert_eq!(daemon.read(&backups), json!([format!("{backups}/backup0"), format!("{backups}/backup1")]));
    let list = daemon.read(&format!("{backups}?recursion=1"));
    assert_eq!(
        (&list[0]["name"], &list[0]["expires_at"]),
        (&json!("backup0"), &json!("0001-01-01T00:00:00Z"))
    );
    assert_eq!(
        (&list[1]["volume_only"], &list[1]["expires_at"]),
        (&json!(true), &json!("2099-01-01T00:00:00Z"))
    );
    assert_eq!(list[1]["optimized_storage"], false, "no driver has a form of its own");
    assert_eq!(daemon.get(&format!("{backups}/backup1/export")).body[..2], [0x1f, 0x8b]);
    let reply = daemon.get(&format!("{backups}/backup0/export"));
    assert_eq!(reply.header("content-disposition"), Some("attachment; filename=\"v1.tar.gz\""));
    assert_eq!(reply.body[..2], [0x1f, 0x8b]);

    daemon.change("POST", &format!("{backups}/backup0"), &json!({ "name": "kept" }));
    assert_eq!(daemon.get(&format!("{backups}/backup0")).status, 404);
    for (method, path, body, word) in [
        ("POST", backups.clone(), json!({ "name": "kept" }), "kept"),
        ("POST", backups.clone(), json!({ "name": "a/b" }), "a/b"),
        ("POST", backups.clone(), json!({ "name": "x", "expires_at": "2001-01-01T00:00:00Z" }), "expiry"),
        ("POST", backups.clone(), json!({ "name": "x", "compression_algorithm": "rar" }), "rar"),
        ("POST", backups.clone(), json!({ "name": "x", "version": 2 }), "version"),
        ("POST", format!("{backups}/kept"), json!({ "name": "backup1" }), "backup1"),
        ("DELETE", format!("{backups}/none"), Value::Null, "none"),
        ("GET", format!("{backups}/none/export"), Value::Null, "none"),
    ] {
        let (_, text) = daemon.refuse(method, &path, &body);
        assert!(text.contains(word), "{method} {path} {body}: {text}");
    }
    assert_eq!(files_in(&folder).len(), 2);

    // What a run that was cut off would leave.
    std::fs::write(folder.join("upload-1"), "x").unwrap();
    std::fs::write(folder.join("2.part"), "x").unwrap();
    daemon.stop();
    daemon.spawn(&[]);
    assert_eq!(files_in(&folder).len(), 2);
    assert_eq!(daemon.get(&format!("{backups}/kept/export")).body, reply.body);
    daemon.change("DELETE", &format!("{backups}/kept"), &Value::Null);
    assert_eq!(files_in(&folder).len(), 1);
    daemon.change("DELETE", &format!("{VOLUMES}/v1"), &Value::Null);
    assert_nothing_left(&daemon);
}

#[test]
fn a_stored_backup_is_there_while_its_pool_is_away() {
    let mut daemon = Larderd::start();
    let elsewhere = tempfile::tempdir().unwrap();
    let (place, away) = (elsewhere.path().join("pool"), elsewhere.path().join("away"));
    std::fs::create_dir(&place).unwrap();
    let pool = json!({ "name": "p1", "driver": "dir", "config": { "source": place } });
    daemon.change("POST", "/1.0/storage-pools", &pool);
    make_volume(&daemon, "v1", "filesystem", &json!({}));
    let root = json!({ "root": { "type": "disk", "path": "/", "pool": "p1" } });
    let source = json!({ "type": "image", "fingerprint": upload_small_image(&daemon) });
    daemon.change("POST", "/1.0/instances", &json!({ "name": "c1", "source": source, "devices": root }));
    let places = [format!("{VOLUMES}/v1/backups"), "/1.0/instances/c1/backups".to_owned()];
    for backups in &places {
        daemon.change("POST", backups, &json!({ "name": "b" }));
    }
    daemon.stop();
    std::fs::rename(&place, &away).unwrap();
    daemon.spawn(&[]);
    for backups in &places {
        assert_eq!(daemon.read(backups), json!([format!("{backups}/b")]));
        assert_eq!(daemon.read(&format!("{backups}/b"))["name"], "b");
        daemon.change("POST", &format!("{backups}/b"), &json!({ "name": "c" }));
        assert_eq!(daemon.get(&format!("{backups}/c/export")).body[..2], [0x1f, 0x8b]);
        daemon.change("DELETE", &format!("{backups}/c"), &Value::Null);
        assert_eq!(daemon.read(backups), json!([]));
        let (code, error) = daemon.refuse("POST", backups, &json!({ "name": "d" }));
        assert!(code == 503 && error.contains("p1"), "a new one needs the pool: {code} {error}");
    }
    assert!(files_in(&daemon.directory().join("backups")).is_empty());
    daemon.stop();
    std::fs::rename(&away, &place).unwrap();
    daemon.spawn(&[]);
    daemon.change("DELETE", "/1.0/instances/c1", &Value::Null);
}

#[test]
fn a_download_of_a_backup_is_told() {
    let daemon = started();
    make_volume(&daemon, "v1", "filesystem", &json!({}));
    daemon.change("POST", "/1.0/storage-pools/p1/buckets", &json!({ "name": "bucket" }));
    let (volume, bucket) = (format!("{VOLUMES}/v1"), "/1.0/storage-pools/p1/buckets/bucket".to_owned());
    for (of, action) in
        [(volume, "storage-volume-backup-retrieved"), (bucket, "storage-bucket-backup-retrieved")]
    {
        daemon.change("POST", &format!("{of}/backups"), &json!({ "name": "b" }));
        let mut events = WebSocket::open(&daemon.socket(), "/1.0/events?type=lifecycle").unwrap();
        assert_eq!(daemon.get(&format!("{of}/backups/none/export")).status, 404);
        assert_eq!(daemon.get(&format!("{of}/backups/b/export")).status, 200);
        let told = events.next_json().unwrap()["metadata"].clone();
        assert_eq!(
            (&told["action"], &told["source"], &told["name"]),
            (&json!(action), &json!(format!("{of}/backups/b")), &json!("b"))
        );
        assert_eq!(told["requestor"]["protocol"], "unix");
    }
}

#[test]
fn a_killed_daemon_leaves_no_half_backup() {
    let mut daemon = started();
    let plan = daemon.scratch().join("crash-plan");
    make_volume(&daemon, "v1", "filesystem", &json!({}));
    let (backups, folder) = (format!("{VOLUMES}/v1/backups"), daemon.directory().join("backups"));
    let die = |daemon: &mut Larderd, words: &str, method: &str, path: &str| {
        std::fs::write(&plan, "").unwrap();
        daemon.stop();
        daemon.spawn(&[("LARDER_CRASH_PLAN", &plan.display().to_string())]);
        std::fs::write(&plan, words).unwrap();
        let _ = request(&daemon.socket(), method, path, &[], b"{\"name\": \"b\"}");
        assert!(daemon.wait_for_its_end(std::time::Duration::from_secs(10)), "{words} was not reached");
        assert_eq!(files_in(&folder).len(), 1, "{words}");
        daemon.spawn(&[]);
        assert_eq!(daemon.read(&backups), json!([]), "{words}");
        assert_nothing_left(daemon);
    };
    // The file is whole, and no document tells of it.
    die(&mut daemon, "point after_act", "POST", &backups);
    daemon.change("POST", &backups, &json!({ "name": "b" }));
    // The document is gone, the file is not yet.
    die(&mut daemon, "point after_commit", "DELETE", &format!("{backups}/b"));
}
