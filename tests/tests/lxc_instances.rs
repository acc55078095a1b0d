//! The unmodified `lxc` client (Debian's lxd-client) drives real containers of a running `larderd`.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, RealClient, TestImage, require_containers};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The exit code of a command in a container.
fn exit_code(lxc: &RealClient<'_>, arguments: &[&str]) -> Option<i32> {
    lxc.output(&[&["exec"], arguments].concat(), b"").status.code()
}

/// Whether a process of this machine, in a container or not, has just this command line.
fn is_running(command: &[&str]) -> bool {
    let line: String = command.iter().map(|word| format!("{word}\0")).collect();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut lines = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.any(|found| found == line)
}

fn list(lxc: &RealClient<'_>) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let instances = lxc.json(&["list"]);
    instances.as_array().unwrap().iter().map(|one| (text(&one["name"]), text(&one["status"]))).collect()
}

/// A client for a daemon that has an image; said and none where one of these can't be had.
fn client<'a>(test: &str, daemon: &'a Larderd) -> Option<RealClient<'a>> {
    if !require_containers(test) {
        return None;
    }
    let lxc = RealClient::lxc(test, daemon)?;
    let image = TestImage::make(test, daemon.scratch())?;
    let path = |path: std::path::PathBuf| path.display().to_string();
    lxc.run(&["image", "import", &path(image.metadata()), &path(image.rootfs()), "--alias", "busybox"]);
    Some(lxc)
}

#[test]
fn the_real_lxc_client_runs_containers() {
    let test = "the_real_lxc_client_runs_containers";
    let daemon = Larderd::start();
    let Some(lxc) = client(test, &daemon) else { return };
    lxc.run(&["launch", "busybox", "c1"]);
    assert_eq!(list(&lxc), [("c1".to_owned(), "Running".to_owned())]);

    assert_eq!(lxc.run(&["exec", "c1", "--", "id", "-u"]).trim(), "0");
    for (command, code) in [
        (&["c1", "--", "true"][..], 0),
        (&["c1", "--", "sh", "-c", "exit 3"], 3),
        (&["c1", "--", "/etc/passwd"], 126),
        (&["c1", "--", "no-such-program"], 127),
        (&["c1", "--", "sh", "-c", "kill -9 $$"], 137),
    ] {
        assert_eq!(exit_code(&lxc, command), Some(code), "{command:?}");
    }
    let echoed = lxc.output(&["exec", "c1", "--", "cat"], b"over stdin");
    assert_eq!(String::from_utf8_lossy(&echoed.stdout), "over stdin");
    assert_eq!(lxc.run(&["exec", "c1", "--env", "A=b", "--", "sh", "-c", "echo $A"]).trim(), "b");
    assert_eq!(lxc.run(&["exec", "c1", "--cwd", "/tmp", "--", "pwd"]).trim(), "/tmp");
    assert_eq!(lxc.run(&["exec", "c1", "--user", "1000", "--", "id", "-u"]).trim(), "1000");
    let noisy = lxc.output(&["exec", "c1", "--", "sh", "-c", "seq 20000; echo oops >&2"], b"");
    assert_eq!(String::from_utf8_lossy(&noisy.stdout).lines().count(), 20000);
    assert_eq!(String::from_utf8_lossy(&noisy.stderr).trim(), "oops");

    // The init is root inside and nobody's root outside.
    let state = daemon.read("/1.0/instances/c1/state");
    let status = std::fs::read_to_string(format!("/proc/{}/status", state["pid"])).unwrap();
    let uid: u32 = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok())
        .unwrap();
    assert!(uid >= 100_000, "{status}");

    let file = daemon.scratch().join("pushed");
    std::fs::write(&file, "pushed").unwrap();
    let path = file.display().to_string();
    lxc.run(&["file", "push", &path, "c1/root/deep/file", "--create-dirs", "--mode=0600"]);
    assert_eq!(lxc.run(&["exec", "c1", "--", "stat", "-c", "%a %u", "/root/deep/file"]).trim(), "600 0");
    assert_eq!(lxc.run(&["file", "pull", "c1/root/deep/file", "-"]), "pushed");
    // A link leads to the instance's own file, never to the host's.
    lxc.run(&["exec", "c1", "--", "ln", "-s", "/etc/passwd", "/root/link"]);
    let pulled = lxc.output(&["file", "pull", "c1/root/link", "-"], b"");
    let own = lxc.run(&["exec", "c1", "--", "cat", "/etc/passwd"]);
    assert!(!pulled.status.success() || String::from_utf8_lossy(&pulled.stdout) == own, "{pulled:?}");
    lxc.run(&["file", "delete", "c1/root/deep/file"]);
    assert!(lxc.refuse(&["file", "pull", "c1/root/deep/file", "-"]).contains("no such file"));

    lxc.run(&["pause", "c1"]);
    assert_eq!(list(&lxc)[0].1, "Frozen");
    assert!(lxc.refuse(&["exec", "c1", "--", "true"]).contains("frozen"));
    lxc.run(&["start", "c1"]);
    lxc.run(&["restart", "c1", "--force"]);
    assert_eq!(list(&lxc)[0].1, "Running");
    assert!(lxc.refuse(&["delete", "c1"]).contains("running"));
    lxc.run(&["stop", "c1", "--force"]);
    assert!(lxc.refuse(&["exec", "c1", "--", "true"]).contains("not running"));
    lxc.run(&["rename", "c1", "c2"]);
    lxc.run(&["delete", "c2"]);
    assert!(list(&lxc).is_empty());
}

#[test]
fn the_real_lxc_client_snapshots_and_copies_containers() {
    let test = "the_real_lxc_client_snapshots_and_copies_containers";
    let daemon = Larderd::start();
    let Some(lxc) = client(test, &daemon) else { return };
    lxc.run(&["storage", "volume", "create", "default", "data"]);
    lxc.run(&["init", "busybox", "c1", "-c", "user.note=kept", "-c", "limits.memory=64MiB"]);
    lxc.run(&["config", "device", "add", "c1", "data", "disk", "pool=default", "source=data", "path=/data"]);
    lxc.run(&["start", "c1"]);
    lxc.run(&["exec", "c1", "--", "sh", "-c", "echo one > /root/file; echo kept > /data/file"]);
    let inside = daemon.directory().join("storage-pools/default/custom/default_data/file");
    assert_eq!(std::fs::read_to_string(inside).unwrap(), "kept\n");
    assert!(lxc.refuse(&["storage", "volume", "delete", "default", "data"]).contains("in use"));

    lxc.run(&["snapshot", "c1", "s0"]);
    lxc.run(&["exec", "c1", "--", "sh", "-c", "echo two > /root/file"]);
    lxc.run(&["config", "set", "c1", "user.note", "changed"]);
    assert!(lxc.refuse(&["snapshot", "c1", "s0"]).contains("exists"));
    assert!(lxc.refuse(&["restore", "c1", "s0"]).contains("stop"));
    lxc.run(&["stop", "c1", "--force"]);
    lxc.run(&["copy", "c1", "c2"]);
    lxc.run(&["restore", "c1", "s0"]);
    assert_eq!(lxc.run(&["config", "get", "c1", "user.note"]).trim(), "kept");
    for (name, text) in [("c1", "one"), ("c2", "two")] {
        lxc.run(&["start", name]);
        assert_eq!(lxc.run(&["exec", name, "--", "cat", "/root/file"]).trim(), text, "{name}");
        assert_eq!(lxc.run(&["exec", name, "--", "cat", "/etc/hostname"]).trim(), name);
    }
    let shown: Value =
        serde_json::from_str(&lxc.run(&["query", "/1.0/instances/c2/snapshots?recursion=1"])).unwrap();
    assert_eq!(shown[0]["name"], "s0");
    lxc.run(&["copy", "c1/s0", "c3"]);
    lxc.run(&["delete", "c1/s0"]);
    for name in ["c1", "c2", "c3"] {
        lxc.run(&["delete", "--force", name]);
    }
    lxc.run(&["storage", "volume", "delete", "default", "data"]);
}

#[test]
fn containers_outlive_the_daemon_and_are_found_again() {
    let test = "containers_outlive_the_daemon_and_are_found_again";
    let mut daemon = Larderd::start();
    match client(test, &daemon) {
        Some(lxc) => lxc.run(&["launch", "busybox", "c1"]),
        None => return,
    };
    let init = daemon.read("/1.0/instances/c1/state")["pid"].clone();
    let lives = |why: &str| assert!(std::path::Path::new(&format!("/proc/{init}")).exists(), "{why}");
    daemon.kill();
    lives("the container died with the daemon");
    daemon.spawn(&[]);
    assert_eq!(daemon.read("/1.0/instances/c1/state")["pid"], init);
    if let Some(lxc) = RealClient::lxc(test, &daemon) {
        assert_eq!(lxc.run(&["exec", "c1", "--", "echo", "still here"]).trim(), "still here");
    }
    // A command that would never end does not hold the daemon's end up.
    let mut endless = RealClient::lxc(test, &daemon).unwrap().spawn(&["exec", "c1", "--", "sleep", "987654"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_running(&["sleep", "987654"]) {
        assert!(Instant::now() < deadline, "the command does not run");
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon.stop();
    assert!(!daemon.log().contains("it does not end"), "{}", daemon.log());
    endless.wait().unwrap();
    lives("the container was stopped with the daemon");
    daemon.spawn(&[]);
    // It ends while a daemon that found it again looks on.
    if let Some(lxc) = RealClient::lxc(test, &daemon) {
        lxc.run(&["stop", "c1", "--force"]);
        assert_eq!(list(&lxc), [("c1".to_owned(), "Stopped".to_owned())]);
        lxc.run(&["delete", "c1"]);
    }
    assert_eq!(daemon.read("/1.0/storage-pools/default/volumes/container"), json!([]));
}

#[test]
fn what_shall_run_starts_when_its_pool_is_back() {
    let test = "what_shall_run_starts_when_its_pool_is_back";
    let mut daemon = Larderd::start();
    let place = daemon.scratch().join("elsewhere");
    let away = place.with_extension("away");
    {
        let Some(lxc) = client(test, &daemon) else { return };
        std::fs::create_dir(&place).unwrap();
        lxc.run(&["storage", "create", "late", "dir", &format!("source={}", place.display())]);
        for name in ["c1", "c2"] {
            lxc.run(&["init", "busybox", name, "-s", "late"]);
        }
        lxc.run(&["config", "set", "c1", "boot.autostart=true"]);
    }
    daemon.stop();
    std::fs::rename(&place, &away).unwrap();
    daemon.spawn(&[]);
    assert_eq!(daemon.read("/1.0/storage-pools/late")["status"], "Unavailable");
    assert_eq!(daemon.read("/1.0/instances/c1")["status"], "Stopped");
    std::fs::rename(&away, &place).unwrap();
    let lxc = RealClient::lxc(test, &daemon).unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while daemon.read("/1.0/instances/c1")["status"] != "Running" {
        assert!(Instant::now() < deadline, "it is not started");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(daemon.read("/1.0/instances/c2")["status"], "Stopped");
    lxc.run(&["delete", "--force", "c1", "c2"]);
}

#[test]
fn bad_input_for_instances_is_refused_and_changes_nothing() {
    let test = "bad_input_for_instances_is_refused_and_changes_nothing";
    let daemon = Larderd::start();
    if client(test, &daemon).is_none() {
        return;
    }
    let image = json!({ "type": "image", "alias": "busybox" });
    let instance = |name: &str, more: Value| {
        let mut body = json!({ "name": name, "type": "container", "source": image });
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        body
    };
    daemon.change("POST", "/1.0/instances", &instance("taken", json!({})));
    let cases = [
        (instance("a_b", json!({})), "a_b"),
        (instance("taken", json!({})), "taken"),
        (instance("x", json!({ "source": { "type": "image", "alias": "nope" } })), "nope"),
        (instance("x", json!({ "source": { "type": "spoon" } })), "spoon"),
        (instance("x", json!({ "source": { "type": "copy", "source": "nope" } })), "nope"),
        (instance("x", json!({ "type": "virtual-machine" })), "virtual-machine"),
        (instance("x", json!({ "profiles": ["nope"] })), "nope"),
        (instance("x", json!({ "config": { "limits.memory": "lots" } })), "lots"),
        (instance("x", json!({ "config": { "no.such.key": "1" } })), "no.such.key"),
        (instance("x", json!({ "devices": { "d": { "type": "gpu" } } })), "gpu"),
        (
            instance(
                "x",
                json!({ "devices": { "d": { "type": "disk", "path": "/d", "pool": "default", "source": "nope" } } }),
            ),
            "nope",
        ),
        (instance("x", json!({ "devices": { "root": { "type": "none" } } })), "root"),
    ];
    for (body, word) in cases {
        let (_, text) = daemon.refuse("POST", "/1.0/instances", &body);
        assert!(text.contains(word), "{body}: {text} should name {word}");
    }
    assert_eq!(daemon.read("/1.0/instances"), json!(["/1.0/instances/taken"]));
    assert_eq!(
        daemon.read("/1.0/storage-pools/default/volumes/container"),
        json!(["/1.0/storage-pools/default/volumes/container/taken"])
    );
    for path in ["/1.0/instances/nope", "/1.0/instances/nope/state", "/1.0/instances/taken/snapshots/nope"] {
        assert_eq!(daemon.get(path).status, 404, "{path}");
    }
    daemon.change("DELETE", "/1.0/instances/taken", &Value::Null);
}
