//! The unmodified `incus` client (Debian trixie's) drives a running `larderd`.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, RealClient, TestImage, require_containers};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

fn names(list: &Value) -> Vec<&str> {
    let mut names: Vec<&str> =
        list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Where the content of a custom volume is.
fn content(daemon: &Larderd, pool: &str, volume: &str) -> PathBuf {
    daemon.directory().join("storage-pools").join(pool).join("custom").join(format!("default_{volume}"))
}

/// Gives the daemon an image named `busybox`; false, and said, where none can be made.
fn with_image(test: &str, daemon: &Larderd, incus: &RealClient<'_>) -> bool {
    let Some(image) = TestImage::make(test, daemon.scratch()) else { return false };
    incus.run(&["image", "import", text(&image.metadata()), text(&image.rootfs()), "--alias", "busybox"]);
    true
}

#[test]
fn the_real_incus_client_drives_pools_and_volumes() {
    let daemon = Larderd::start();
    let Some(incus) = RealClient::incus("the_real_incus_client_drives_pools_and_volumes", &daemon) else {
        return;
    };
    for pool in ["p1", "p2"] {
        incus.run(&["storage", "create", pool, "dir"]);
    }
    let pools = incus.json(&["storage", "list"]);
    assert_eq!(names(&pools), ["default", "p1", "p2"]);
    assert_eq!((&pools[1]["driver"], &pools[1]["status"]), (&json!("dir"), &json!("Created")));
    assert!(incus.refuse(&["storage", "create", "p1", "dir"]).contains("already exists"));
    assert!(incus.run(&["storage", "info", "p1"]).contains("space used"));

    incus.run(&["storage", "volume", "create", "p1", "v1"]);
    incus.run(&["storage", "volume", "create", "p1", "disk", "--type=block", "size=16MiB"]);
    incus.run(&["storage", "volume", "set", "p1", "v1", "user.note=kept"]);
    assert_eq!(incus.run(&["storage", "volume", "get", "p1", "v1", "user.note"]).trim(), "kept");
    assert!(incus.refuse(&["storage", "volume", "create", "p1", "v1"]).contains("already exists"));
    let volumes = incus.json(&["storage", "volume", "list", "p1"]);
    assert_eq!(names(&volumes), ["disk", "v1"]);
    assert_eq!(
        (&volumes[0]["content_type"], &volumes[0]["config"]["size"]),
        (&json!("block"), &json!("16MiB"))
    );
    assert_eq!((&volumes[1]["content_type"], &volumes[1]["type"]), (&json!("filesystem"), &json!("custom")));

    snapshots_and_copies(&daemon, &incus);
    export_and_import(&daemon, &incus);

    incus.run(&["storage", "volume", "delete", "p1", "v1"]);
    assert!(incus.refuse(&["storage", "delete", "p2"]).contains("in use"));
    for volume in ["v3", "v5", "back"] {
        incus.run(&["storage", "volume", "delete", "p2", volume]);
    }
    incus.run(&["storage", "delete", "p2"]);
    assert_eq!(names(&incus.json(&["storage", "list"])), ["default", "p1"]);
}

fn snapshots_and_copies(daemon: &Larderd, incus: &RealClient<'_>) {
    let file = content(daemon, "p1", "v1").join("file");
    std::fs::write(&file, "one").unwrap();
    incus.run(&["storage", "volume", "snapshot", "create", "p1", "v1", "s0"]);
    std::fs::write(&file, "two").unwrap();
    let snapshots = incus.json(&["storage", "volume", "snapshot", "list", "p1", "v1"]);
    assert_eq!(names(&snapshots), ["v1/s0"]);
    assert_eq!(snapshots[0]["config"]["user.note"], "kept");
    let info = incus.run(&["storage", "volume", "info", "p1", "v1"]);
    assert!(info.contains("| s0 ") && !info.contains("0001/"), "{info}");
    incus.run(&["storage", "volume", "snapshot", "restore", "p1", "v1", "s0"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
    assert!(incus.refuse(&["storage", "volume", "snapshot", "restore", "p1", "v1", "nope"]).contains("nope"));

    incus.run(&["storage", "volume", "copy", "p1/v1", "p1/v2"]);
    incus.run(&["storage", "volume", "copy", "p1/v1", "p2/v3"]);
    assert_eq!(std::fs::read_to_string(content(daemon, "p2", "v3").join("file")).unwrap(), "one");
    incus.run(&["storage", "volume", "move", "p1/v2", "p2/v4"]);
    incus.run(&["storage", "volume", "rename", "p2", "v4", "v5"]);
    assert_eq!(names(&incus.json(&["storage", "volume", "list", "p2"])), ["v3", "v3/s0", "v5", "v5/s0"]);
    assert_eq!(names(&incus.json(&["storage", "volume", "list", "p1"])), ["disk", "v1", "v1/s0"]);
}

fn export_and_import(daemon: &Larderd, incus: &RealClient<'_>) {
    let file = daemon.scratch().join("backup.tar.gz");
    incus.run(&["storage", "volume", "export", "p1", "v1", text(&file)]);
    incus.run(&["storage", "volume", "import", "p2", text(&file), "back"]);
    assert_eq!(std::fs::read_to_string(content(daemon, "p2", "back").join("file")).unwrap(), "one");
    let snapshot = ["storage", "volume", "snapshot"];
    incus.run(&[&snapshot[..], &["rename", "p2", "back", "s0", "s1"]].concat());
    assert_eq!(names(&incus.json(&[&snapshot[..], &["list", "p2", "back"]].concat())), ["back/s1"]);
    incus.run(&[&snapshot[..], &["delete", "p2", "back", "s1"]].concat());
    assert_eq!(incus.json(&[&snapshot[..], &["list", "p2", "back"]].concat()), json!([]));
}

#[test]
fn the_real_incus_client_gets_back_the_images_it_gave() {
    let test = "the_real_incus_client_gets_back_the_images_it_gave";
    let daemon = Larderd::start();
    let Some(incus) = RealClient::incus(test, &daemon) else { return };
    let Some(image) = TestImage::make(test, daemon.scratch()) else { return };
    incus.run(&["image", "import", text(&image.unified()), "--alias", "whole"]);
    incus.run(&["image", "import", text(&image.metadata()), text(&image.rootfs()), "--alias", "split"]);
    let images = incus.json(&["image", "list"]);
    assert_eq!(images.as_array().unwrap().len(), 2);
    for one in images.as_array().unwrap() {
        assert_eq!((&one["type"], &one["properties"]["os"]), (&json!("container"), &json!("Busybox")));
    }

    // Exported under a name, a split image's second file has that name with an ending.
    let exported = daemon.scratch().join("exported");
    incus.run(&["image", "export", "split", text(&exported)]);
    let folder = daemon.scratch().join("whole");
    std::fs::create_dir(&folder).unwrap();
    incus.run(&["image", "export", "whole", text(&folder)]);
    let whole = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let pairs = [
        (image.metadata(), exported.clone()),
        (image.rootfs(), exported.with_extension("root")),
        (image.unified(), whole.clone()),
    ];
    for (given, got) in pairs {
        assert!(
            std::fs::read(&given).unwrap() == std::fs::read(&got).unwrap(),
            "{given:?} came back as another file"
        );
    }
    let fingerprint = whole.file_name().unwrap().to_str().unwrap().trim_end_matches(".tar.gz");
    assert!(incus.run(&["image", "info", "whole"]).contains(fingerprint));

    assert!(incus.refuse(&["image", "info", "nope"]).contains("not found"));
    incus.run(&["image", "alias", "rename", "split", "two-files"]);
    let aliases = incus.json(&["image", "alias", "list"]);
    assert_eq!(names(&aliases), ["two-files", "whole"]);
    incus.run(&["image", "delete", "two-files", "whole"]);
    assert_eq!(incus.json(&["image", "list"]), json!([]));
}

#[test]
fn the_real_incus_client_runs_containers() {
    let test = "the_real_incus_client_runs_containers";
    if !require_containers(test) {
        return;
    }
    let daemon = Larderd::start();
    let Some(incus) = RealClient::incus(test, &daemon) else { return };
    if !with_image(test, &daemon, &incus) {
        return;
    }
    incus.run(&["launch", "busybox", "c1", "-c", "user.note=kept"]);
    let list = incus.json(&["list"]);
    assert_eq!(names(&list), ["c1"]);
    assert_eq!((&list[0]["status"], &list[0]["type"]), (&json!("Running"), &json!("container")));
    assert_eq!(list[0]["config"]["user.note"], "kept");

    let cases: [(&[&str], i32); 5] = [
        (&["true"], 0),
        (&["sh", "-c", "exit 3"], 3),
        (&["/etc/passwd"], 126),
        (&["no-such-program"], 127),
        (&["sh", "-c", "kill -9 $$"], 137),
    ];
    for (command, code) in cases {
        let output = incus.output(&[&["exec", "c1", "--"], command].concat(), b"");
        assert_eq!(output.status.code(), Some(code), "{command:?}");
    }
    let given = "over stdin\n".repeat(20_000);
    let echoed = incus.output(&["exec", "c1", "--", "cat"], given.as_bytes());
    assert!(echoed.status.success());
    assert!(echoed.stdout == given.as_bytes(), "{} bytes came back", echoed.stdout.len());
    let options = ["exec", "c1", "--env", "NAME=given", "--user", "1000", "--cwd", "/tmp", "--"];
    let told = incus.run(&[&options[..], &["sh", "-c", "echo $NAME; id -u; pwd"]].concat());
    assert_eq!(told, "given\n1000\n/tmp\n");
    let both = incus.output(&["exec", "c1", "--", "sh", "-c", "echo out; echo err >&2"], b"");
    assert_eq!((both.stdout.as_slice(), both.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));

    assert!(incus.refuse(&["delete", "c1"]).contains("running"));
    incus.run(&["stop", "c1", "--force"]);
    assert_eq!(incus.json(&["list"])[0]["status"], "Stopped");
    incus.run(&["rename", "c1", "c2"]);
    incus.run(&["delete", "c2"]);
    assert_eq!(incus.json(&["list"]), json!([]));
}

#[test]
fn the_real_incus_client_moves_files() {
    let test = "the_real_incus_client_moves_files";
    if !require_containers(test) {
        return;
    }
    let daemon = Larderd::start();
    let Some(incus) = RealClient::incus(test, &daemon) else { return };
    if !with_image(test, &daemon, &incus) {
        return;
    }
    incus.run(&["launch", "busybox", "c1"]);
    let inside = |script: &str| incus.run(&["exec", "c1", "--", "sh", "-c", script]).trim_end().to_owned();
    let given = daemon.scratch().join("given");
    std::fs::write(&given, "content\n".repeat(200_000)).unwrap();
    incus.run(&[
        "file",
        "push",
        text(&given),
        "c1/root/deep/er/file",
        "--create-dirs",
        "--mode=0640",
        "--uid=5",
    ]);
    assert_eq!(inside("stat -c '%a %u %g %s' /root/deep/er/file"), "640 5 0 1600000");
    let got = daemon.scratch().join("got");
    incus.run(&["file", "pull", "c1/root/deep/er/file", text(&got)]);
    assert!(std::fs::read(&given).unwrap() == std::fs::read(&got).unwrap());
    let from_input = incus.output(&["file", "push", "-", "c1/root/deep/er/file"], b"shorter");
    assert!(from_input.status.success(), "{from_input:?}");
    assert_eq!(inside("cat /root/deep/er/file"), "shorter");
    assert_eq!(incus.run(&["file", "pull", "c1/root/deep/er/file", "-"]), "shorter");

    incus.run(&["file", "create", "--type=directory", "--mode=0750", "c1/root/made"]);
    incus.run(&["file", "create", "c1/root/made/empty"]);
    incus.run(&["file", "create", "--type=symlink", "c1/root/made/link", "empty"]);
    assert_eq!(inside("cd /root/made; stat -c %a .; stat -c %s empty; readlink link"), "750\n0\nempty");
    trees_and_links(&daemon, &incus);

    incus.run(&["file", "delete", "c1/root/made/link", "c1/root/made/empty", "c1/root/made"]);
    assert!(
        incus.refuse(&["file", "delete", "c1/root/deep"]).contains("c1") || inside("ls /root/deep") == "er"
    );
    incus.run(&["file", "delete", "--force", "c1/root/deep"]);
    assert_eq!(inside("ls -d /root/made /root/deep 2>/dev/null || echo none"), "none");
    assert!(incus.refuse(&["file", "pull", "c1/root/made/empty", "-"]).contains("not exist"));

    // Without the container, too; and nothing of it stays in use.
    incus.run(&["stop", "c1", "--force"]);
    incus.run(&["file", "push", text(&got), "c1/root/late"]);
    incus.run(&["delete", "c1"]);
}

fn trees_and_links(daemon: &Larderd, incus: &RealClient<'_>) {
    let tree = daemon.scratch().join("tree");
    std::fs::create_dir_all(tree.join("a/b")).unwrap();
    std::fs::write(tree.join("a/b/file"), "leaf").unwrap();
    std::fs::write(tree.join("top"), "top").unwrap();
    std::os::unix::fs::symlink("a/b/file", tree.join("link")).unwrap();
    incus.run(&["file", "push", "--recursive", text(&tree), "c1/root"]);
    let told = incus.run(&["exec", "c1", "--", "sh", "-c", "cd /root/tree; cat a/b/file top; readlink link"]);
    assert_eq!(told, "leaftopa/b/file\n");
    let back = daemon.scratch().join("back");
    std::fs::create_dir(&back).unwrap();
    incus.run(&["file", "pull", "--recursive", "c1/root/tree", text(&back)]);
    assert_eq!(std::fs::read_to_string(back.join("tree/a/b/file")).unwrap(), "leaf");
    assert_eq!(std::fs::read_link(back.join("tree/link")).unwrap(), Path::new("a/b/file"));

    // What links lead to is inside, whatever they say.
    let secret = daemon.scratch().join("secret");
    std::fs::write(&secret, "of the host").unwrap();
    let script =
        format!("ln -s /etc/shadow /root/shadow; ln -s {0} /root/out; ln -s / /root/top", text(&secret));
    incus.run(&["exec", "c1", "--", "sh", "-c", &script]);
    let host = std::fs::read("/etc/shadow").unwrap();
    let through_top = format!("c1/root/top{}", text(&secret));
    for path in ["c1/root/shadow", "c1/root/top/etc/shadow", "c1/root/out", through_top.as_str()] {
        let pulled = incus.output(&["file", "pull", path, "-"], b"").stdout;
        assert!(pulled != host && pulled != b"of the host", "{path} leads out");
    }
    // Not to the shadow file: should this go wrong, the host keeps its own.
    for path in ["c1/root/out", through_top.as_str()] {
        incus.output(&["file", "push", "-", path], b"evil");
    }
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "of the host");
}

#[test]
fn sftp_is_only_for_those_who_ask_for_it() {
    let test = "sftp_is_only_for_those_who_ask_for_it";
    if !require_containers(test) {
        return;
    }
    let daemon = Larderd::start();
    let Some(incus) = RealClient::incus(test, &daemon) else { return };
    if !with_image(test, &daemon, &incus) {
        return;
    }
    incus.run(&["create", "busybox", "c1"]);
    assert_eq!(daemon.refuse("GET", "/1.0/instances/c1/sftp", &Value::Null).0, 400);
    let ask = |path: &str, protocol: &str| {
        let headers = [("Upgrade", protocol), ("Connection", "Upgrade")];
        larder_tests::request(&daemon.socket(), "GET", path, &headers, b"").unwrap()
    };
    assert_eq!(ask("/1.0/instances/c1/sftp", "websocket").status, 400);
    assert_eq!(ask("/1.0/instances/nope/sftp", "sftp").status, 404);
}

#[test]
fn the_real_incus_client_attaches_volumes_and_goes_back_in_time() {
    let test = "the_real_incus_client_attaches_volumes_and_goes_back_in_time";
    if !require_containers(test) {
        return;
    }
    let daemon = Larderd::start();
    let Some(incus) = RealClient::incus(test, &daemon) else { return };
    if !with_image(test, &daemon, &incus) {
        return;
    }
    incus.run(&["storage", "volume", "create", "default", "data"]);
    incus.run(&["create", "busybox", "c1"]);
    incus.run(&["storage", "volume", "attach", "default", "data", "c1", "/data"]);
    incus.run(&["start", "c1"]);
    incus.run(&["exec", "c1", "--", "sh", "-c", "echo one > /root/file; echo kept > /data/file"]);
    assert_eq!(std::fs::read_to_string(content(&daemon, "default", "data").join("file")).unwrap(), "kept\n");
    assert!(incus.refuse(&["storage", "volume", "delete", "default", "data"]).contains("in use"));

    incus.run(&["snapshot", "create", "c1", "s0"]);
    incus.run(&["exec", "c1", "--", "sh", "-c", "echo two > /root/file"]);
    assert_eq!(names(&incus.json(&["snapshot", "list", "c1"])), ["s0"]);
    assert!(incus.refuse(&["snapshot", "create", "c1", "s0"]).contains("exists"));
    incus.run(&["stop", "c1", "--force"]);
    incus.run(&["copy", "c1", "c2"]);
    incus.run(&["copy", "c1/s0", "c3"]);
    incus.run(&["snapshot", "restore", "c1", "s0"]);
    incus.run(&["storage", "volume", "detach", "default", "data", "c1"]);
    for (name, text) in [("c1", "one"), ("c2", "two"), ("c3", "one")] {
        incus.run(&["start", name]);
        assert_eq!(incus.run(&["exec", name, "--", "cat", "/root/file"]).trim(), text, "{name}");
        assert_eq!(incus.run(&["exec", name, "--", "hostname"]).trim(), name);
    }
    incus.run(&["snapshot", "delete", "c1", "s0"]);
    assert_eq!(incus.json(&["snapshot", "list", "c1"]), json!([]));
    incus.run(&["delete", "--force", "c1", "c2", "c3"]);
    incus.run(&["storage", "volume", "delete", "default", "data"]);
    assert_eq!(incus.json(&["list"]), json!([]));
}

#[test]
fn the_real_incus_client_drives_profiles_and_projects() {
    let daemon = Larderd::start();
    let Some(incus) = RealClient::incus("the_real_incus_client_drives_profiles_and_projects", &daemon) else {
        return;
    };
    incus.run(&["profile", "create", "web"]);
    incus.run(&["profile", "set", "web", "user.note=kept"]);
    incus.run(&[
        "profile",
        "device",
        "add",
        "web",
        "data",
        "disk",
        "pool=default",
        "source=v1",
        "path=/data",
    ]);
    incus.run(&["profile", "copy", "web", "copied"]);
    incus.run(&["profile", "rename", "copied", "renamed"]);
    let profiles = incus.json(&["profile", "list"]);
    assert_eq!(names(&profiles), ["default", "renamed", "web"]);
    let renamed = profiles.as_array().unwrap().iter().find(|one| one["name"] == "renamed").unwrap();
    assert_eq!(
        (&renamed["config"]["user.note"], &renamed["devices"]["data"]["path"]),
        (&json!("kept"), &json!("/data"))
    );
    assert!(incus.refuse(&["profile", "create", "web"]).contains("already exists"));
    assert!(incus.refuse(&["profile", "delete", "default"]).contains("default"));
    incus.run(&["profile", "delete", "renamed"]);

    incus.run(&["project", "create", "blue"]);
    assert_eq!(names(&incus.json(&["project", "list"])), ["blue", "default"]);
    incus.run(&["storage", "volume", "create", "default", "v1", "--project", "blue"]);
    assert_eq!(names(&incus.json(&["storage", "volume", "list", "default", "--project", "blue"])), ["v1"]);
    assert_eq!(incus.json(&["storage", "volume", "list", "default"]), json!([]));
    assert_eq!(names(&incus.json(&["profile", "list", "--project", "blue"])), ["default"]);
    assert!(incus.refuse(&["project", "delete", "blue"]).contains("not empty"));
    incus.run(&["storage", "volume", "delete", "default", "v1", "--project", "blue"]);
    incus.run(&["project", "rename", "blue", "green"]);
    incus.run(&["project", "delete", "green"]);
    assert_eq!(names(&incus.json(&["project", "list"])), ["default"]);
}

#[test]
fn the_real_incus_client_hears_what_happens() {
    let daemon = Larderd::start();
    let Some(incus) = RealClient::incus("the_real_incus_client_hears_what_happens", &daemon) else { return };
    let mut monitor = incus.spawn(&["monitor", "--type=lifecycle", "--format=json"]);
    let output = BufReader::new(monitor.stdout.take().unwrap());
    let (told, heard) = mpsc::channel();
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
    // It doesn't say when it listens: something happens until it has heard.
    let first = (0..20).find_map(|number| {
        incus.run(&["profile", "set", "default", &format!("user.count={number}")]);
        heard.recv_timeout(Duration::from_millis(500)).ok()
    });
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    let event: Value = serde_json::from_str(&first.expect("nothing was heard")).unwrap();
    assert_eq!(
        (&event["type"], &event["metadata"]["action"]),
        (&json!("lifecycle"), &json!("profile-updated"))
    );
    assert_eq!(event["metadata"]["source"], "/1.0/profiles/default");
}

#[test]
fn the_real_incus_client_drives_buckets_and_their_keys() {
    let daemon = Larderd::start();
    let Some(incus) = RealClient::incus("the_real_incus_client_drives_buckets_and_their_keys", &daemon)
    else {
        return;
    };
    let made = incus.run(&["storage", "bucket", "create", "default", "photos", "size=1GiB"]);
    assert!(made.contains("Admin access key: ") && made.contains("Admin secret key: "), "{made}");
    assert!(incus.refuse(&["storage", "bucket", "create", "default", "photos"]).contains("already exists"));
    let buckets = incus.json(&["storage", "bucket", "list", "default"]);
    assert_eq!((names(&buckets), &buckets[0]["config"]["size"]), (vec!["photos"], &json!("1GiB")));
    assert_eq!(names(&incus.json(&["storage", "bucket", "list", "default", "--all-projects"])), ["photos"]);
    incus.run(&["storage", "bucket", "set", "default", "photos", "user.note=kept"]);
    assert_eq!(incus.run(&["storage", "bucket", "get", "default", "photos", "user.note"]).trim(), "kept");
    incus.run(&["storage", "bucket", "unset", "default", "photos", "user.note"]);
    assert!(incus.run(&["storage", "bucket", "show", "default", "photos"]).contains("size: 1GiB"));
    let key = ["storage", "bucket", "key", "create", "default", "photos", "reader", "--role=read-only"];
    let made = incus.run(&[&key[..], &["--access-key=READER", "--secret-key=a/b+c=d/e"]].concat());
    assert!(made.contains("READER") && made.contains("a/b+c=d/e"), "{made}");
    assert_eq!(
        names(&incus.json(&["storage", "bucket", "key", "list", "default", "photos"])),
        ["admin", "reader"]
    );
    assert!(
        incus.run(&["storage", "bucket", "key", "show", "default", "photos", "reader"]).contains("read-only")
    );
    incus.run(&["storage", "bucket", "key", "delete", "default", "photos", "reader"]);
    let file = daemon.scratch().join("photos.tar.gz");
    incus.run(&["storage", "bucket", "export", "default", "photos", text(&file)]);
    incus.run(&["storage", "bucket", "import", "default", text(&file), "back"]);
    assert_eq!(names(&incus.json(&["storage", "bucket", "list", "default"])), ["back", "photos"]);
    for bucket in ["back", "photos"] {
        incus.run(&["storage", "bucket", "delete", "default", bucket]);
    }
    assert_eq!(incus.json(&["storage", "bucket", "list", "default"]), json!([]));
}
