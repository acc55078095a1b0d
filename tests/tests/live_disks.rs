//! Disks come to running containers and go again, by the unmodified clients, through restarts and kills of the daemon.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, RealClient, TestImage, program, request, require_containers};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A daemon that has an image, a volume `data` and a running container `c1`; none, and said, where that can't be had.
fn prepared(test: &str, environment: &[(&str, &str)]) -> Option<Larderd> {
    if !require_containers(test) {
        return None;
    }
    let daemon = Larderd::start_with(environment);
    let image = TestImage::make(test, daemon.scratch())?;
    let lxc = RealClient::lxc(test, &daemon)?;
    let path = |path: PathBuf| path.display().to_string();
    lxc.run(&["image", "import", &path(image.metadata()), &path(image.rootfs()), "--alias", "busybox"]);
    lxc.run(&["storage", "volume", "create", "default", "data"]);
    lxc.run(&["launch", "busybox", "c1"]);
    Some(daemon)
}

/// Where the content of a custom volume is.
fn content(daemon: &Larderd, volume: &str) -> PathBuf {
    daemon.directory().join("storage-pools/default/custom").join(format!("default_{volume}"))
}

/// What a script prints in a container; it must succeed.
fn inside(client: &RealClient<'_>, name: &str, script: &str) -> String {
    client.run(&["exec", name, "--", "sh", "-c", script]).trim().to_owned()
}

/// Whether a path of a container has something mounted on it.
fn is_mounted(client: &RealClient<'_>, name: &str, path: &str) -> bool {
    let script = format!("grep -c ' {path} ' /proc/self/mountinfo || true");
    match inside(client, name, &script).as_str() {
        "0" => false,
        "1" => true,
        other => panic!("{path} is mounted {other} times"),
    }
}

const ADD_DATA: &[&str] =
    &["config", "device", "add", "c1", "data", "disk", "pool=default", "source=data", "path=/srv/data"];

#[test]
fn the_root_of_a_running_container_gets_the_size_that_its_disk_says() {
    let test = "the_root_of_a_running_container_gets_the_size_that_its_disk_says";
    let Some(daemon) = prepared(test, &[]) else { return };
    let lxc = RealClient::lxc(test, &daemon).unwrap();
    let size = || daemon.read("/1.0/storage-pools/default/volumes/container/c1")["config"]["size"].clone();
    assert_eq!(size(), Value::Null);
    lxc.run(&["profile", "device", "set", "default", "root", "size=3GiB"]);
    assert_eq!(size(), "3GiB");
    // Its own counts more.
    lxc.run(&["config", "device", "override", "c1", "root", "size=4GiB"]);
    assert_eq!(size(), "4GiB");
    // A restore brings the disk of then back, and the next start its size.
    lxc.run(&["snapshot", "c1", "s0"]);
    lxc.run(&["config", "device", "set", "c1", "root", "size=5GiB"]);
    assert_eq!(size(), "5GiB");
    lxc.run(&["stop", "--force", "c1"]);
    lxc.run(&["restore", "c1", "s0"]);
    lxc.run(&["start", "c1"]);
    assert_eq!(size(), "4GiB");
    assert_eq!(inside(&lxc, "c1", "echo up"), "up");
    lxc.run(&["delete", "--force", "c1"]);
}

#[test]
fn the_real_lxc_client_adds_changes_and_removes_disks_of_a_running_container() {
    let test = "the_real_lxc_client_adds_changes_and_removes_disks_of_a_running_container";
    let Some(daemon) = prepared(test, &[]) else { return };
    let lxc = RealClient::lxc(test, &daemon).unwrap();
    lxc.run(ADD_DATA);
    inside(&lxc, "c1", "echo inside > /srv/data/file; chown 7:8 /srv/data/file");
    let file = content(&daemon, "data").join("file");
    let made = std::fs::metadata(&file).unwrap();
    assert_eq!((made.uid(), made.gid()), (7, 8), "the volume holds the container's own ids");
    std::fs::write(content(&daemon, "data").join("host"), "outside").unwrap();
    assert_eq!(inside(&lxc, "c1", "cat /srv/data/host; stat -c ' %u' /srv/data/host"), "outside 0");
    assert!(lxc.refuse(&["storage", "volume", "delete", "default", "data"]).contains("in use"));

    lxc.run(&["config", "device", "set", "c1", "data", "readonly=true"]);
    let refused = lxc.output(&["exec", "c1", "--", "sh", "-c", "echo x > /srv/data/file"], b"");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Read-only"), "{refused:?}");
    lxc.run(&["config", "device", "set", "c1", "data", "readonly=false"]);
    inside(&lxc, "c1", "echo again > /srv/data/file");

    let host = daemon.scratch().join("of the host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "host").unwrap();
    let source = format!("source={}", host.join("file").display());
    lxc.run(&[
        "config",
        "device",
        "add",
        "c1",
        "file",
        "disk",
        &source,
        "path=/etc/one/file",
        "readonly=true",
    ]);
    assert_eq!(inside(&lxc, "c1", "cat /etc/one/file"), "host");

    // One that is in use goes for everybody but those who have it open.
    let hold = "exec 9</srv/data/file; cd /; echo ready; read x; cat <&9";
    let mut holder = lxc.spawn(&["exec", "c1", "--", "sh", "-c", hold]);
    holder.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    lxc.run(&["config", "device", "remove", "c1", "data"]);
    assert!(!is_mounted(&lxc, "c1", "/srv/data"));
    holder.stdin.as_mut().unwrap().write_all(b"go on\n").unwrap();
    let told = holder.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&told.stdout), "again\n");
    lxc.run(&["config", "device", "remove", "c1", "file"]);
    lxc.run(&["storage", "volume", "delete", "default", "data"]);

    lxc.run(&["config", "set", "c1", "limits.memory", "64MiB"]);
    assert_eq!(daemon.read("/1.0/instances/c1/state")["memory"]["total"], 64 << 20);
    lxc.run(&["delete", "--force", "c1"]);
}

#[test]
fn a_volume_goes_back_in_time_while_its_instance_is_stopped() {
    let test = "a_volume_goes_back_in_time_while_its_instance_is_stopped";
    let Some(daemon) = prepared(test, &[]) else { return };
    let lxc = RealClient::lxc(test, &daemon).unwrap();
    lxc.run(ADD_DATA);
    inside(&lxc, "c1", "echo then > /srv/data/file");
    lxc.run(&["storage", "volume", "snapshot", "default", "data", "s0"]);
    inside(&lxc, "c1", "echo now > /srv/data/file");
    let restore = ["storage", "volume", "restore", "default", "data", "s0"];
    assert!(lxc.refuse(&restore).contains("/1.0/instances/c1, which runs"));
    assert_eq!(inside(&lxc, "c1", "cat /srv/data/file"), "now");
    lxc.run(&["stop", "--force", "c1"]);
    lxc.run(&restore);
    lxc.run(&["start", "c1"]);
    assert_eq!(inside(&lxc, "c1", "cat /srv/data/file"), "then");
    lxc.run(&["delete", "--force", "c1"]);
}

#[test]
fn what_cannot_be_mounted_is_refused_and_changes_nothing() {
    let test = "what_cannot_be_mounted_is_refused_and_changes_nothing";
    let Some(daemon) = prepared(test, &[]) else { return };
    let lxc = RealClient::lxc(test, &daemon).unwrap();
    lxc.run(ADD_DATA);
    let before = daemon.read("/1.0/instances/c1")["devices"].clone();
    let disk = |keys: Value| json!({ "devices": { "new": keys } });
    daemon.make_pool("other");
    let root = |pool: &str, size: &str| json!({ "devices": { "root": { "type": "disk", "path": "/", "pool": pool, "size": size } } });
    let cases = [
        (disk(json!({ "type": "disk", "path": "data2", "pool": "default", "source": "data" })), "data2"),
        (
            disk(json!({ "type": "disk", "path": "/srv/data/", "pool": "default", "source": "data" })),
            "/srv/data",
        ),
        (disk(json!({ "type": "disk", "path": "/x", "pool": "default", "source": "nope" })), "nope"),
        (disk(json!({ "type": "disk", "path": "/x", "source": "/no/such/folder" })), "/no/such/folder"),
        (disk(json!({ "type": "disk", "path": "/proc", "pool": "default", "source": "data" })), "/proc"),
        (
            disk(json!({ "type": "disk", "path": "/etc/passwd", "pool": "default", "source": "data" })),
            "/etc/passwd",
        ),
        (root("other", ""), "root disk"),
        (root("default", "much"), "much"),
    ];
    for (body, word) in cases {
        let (code, text) = daemon.refuse("PATCH", "/1.0/instances/c1", &body);
        assert!(code == 400 && text.contains(word), "{body}: {code} {text} should name {word}");
        assert_eq!(daemon.read("/1.0/instances/c1")["devices"], before, "{body}");
    }
    assert!(is_mounted(&lxc, "c1", "/srv/data"));
    lxc.run(&["delete", "--force", "c1"]);
    lxc.run(&["storage", "volume", "delete", "default", "data"]);
}

#[test]
fn a_disk_stays_through_a_restart_and_a_reboot_and_goes_then() {
    let test = "a_disk_stays_through_a_restart_and_a_reboot_and_goes_then";
    let Some(mut daemon) = prepared(test, &[]) else { return };
    let lxc = |daemon: &Larderd, arguments: &[&str]| RealClient::lxc(test, daemon).unwrap().run(arguments);
    let reboot = |daemon: &Larderd| {
        let init = daemon.read("/1.0/instances/c1/state")["pid"].clone();
        RealClient::lxc(test, daemon).unwrap().output(&["exec", "c1", "--", "reboot", "-f"], b"");
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let state = daemon.read("/1.0/instances/c1/state");
            if state["status"] == "Running" && state["pid"] != init && state["pid"] != 0 {
                return;
            }
            assert!(Instant::now() < deadline, "no other init: {state}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let eventually = |daemon: &Larderd, path: &str, wanted: bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        let client = RealClient::lxc(test, daemon).unwrap();
        while is_mounted(&client, "c1", path) != wanted {
            assert!(Instant::now() < deadline, "{path} mounted: {}\n{}", !wanted, daemon.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    lxc(&daemon, ADD_DATA);
    daemon.kill();
    daemon.spawn(&[]);
    lxc(&daemon, &["exec", "c1", "--", "sh", "-c", "echo kept > /srv/data/file"]);
    reboot(&daemon);
    eventually(&daemon, "/srv/data", true);
    // From its start on it has this one; then it goes while it runs, and a reboot does not bring it back.
    lxc(&daemon, &["restart", "--force", "c1"]);
    assert!(is_mounted(&RealClient::lxc(test, &daemon).unwrap(), "c1", "/srv/data"));
    lxc(&daemon, &["config", "device", "remove", "c1", "data"]);
    reboot(&daemon);
    eventually(&daemon, "/srv/data", false);
    lxc(&daemon, &["storage", "volume", "delete", "default", "data"]);
    lxc(&daemon, &["delete", "--force", "c1"]);
}

#[test]
fn running_containers_follow_their_profile() {
    let test = "running_containers_follow_their_profile";
    let Some(daemon) = prepared(test, &[]) else { return };
    let lxc = RealClient::lxc(test, &daemon).unwrap();
    lxc.run(&["profile", "create", "shared"]);
    lxc.run(&["profile", "add", "c1", "shared"]);
    lxc.run(&["launch", "busybox", "c2", "-p", "default", "-p", "shared"]);
    lxc.run(&["init", "busybox", "c3", "-p", "default", "-p", "shared"]);
    let add = ["profile", "device", "add", "shared", "data", "disk", "pool=default"];
    lxc.run(&[&add[..], &["source=data", "path=/data"]].concat());
    inside(&lxc, "c1", "echo from c1 > /data/file");
    assert_eq!(inside(&lxc, "c2", "cat /data/file"), "from c1");
    let used = |volume: &str| {
        let told = daemon.read(&format!("/1.0/storage-pools/default/volumes/custom/{volume}"));
        let mut users: Vec<Value> = told["used_by"].as_array().unwrap().clone();
        users.sort_by_key(Value::to_string);
        Value::from(users)
    };
    let (instances, profile) = (["c1", "c2", "c3"], "/1.0/profiles/shared");
    let users = instances.iter().map(|name| format!("/1.0/instances/{name}")).chain([profile.to_owned()]);
    assert_eq!(used("data"), json!(users.collect::<Vec<_>>()));

    // One that can't follow is named; the others have followed.
    lxc.run(&["storage", "volume", "create", "default", "more"]);
    inside(&lxc, "c2", "mkdir /more; mount -t tmpfs none /more");
    let add = ["profile", "device", "add", "shared", "more", "disk", "pool=default"];
    let error = lxc.refuse(&[&add[..], &["source=more", "path=/more"]].concat());
    assert!(error.contains("instances/c2") && error.contains("/more") && !error.contains("c1"), "{error}");
    assert!(is_mounted(&lxc, "c1", "/more"));
    // A profile that would leave an instance without a root is refused whole.
    assert!(lxc.refuse(&["profile", "device", "remove", "default", "root"]).contains("root disk"));

    lxc.run(&["profile", "set", "shared", "limits.memory", "96MiB"]);
    assert_eq!(daemon.read("/1.0/instances/c1/state")["memory"]["total"], 96 << 20);
    inside(&lxc, "c2", "umount /more");
    lxc.run(&["profile", "device", "remove", "shared", "more"]);
    lxc.run(&["profile", "device", "remove", "shared", "data"]);
    assert!(
        !is_mounted(&lxc, "c1", "/data")
            && !is_mounted(&lxc, "c1", "/more")
            && !is_mounted(&lxc, "c2", "/data")
    );
    for volume in ["data", "more"] {
        assert_eq!(used(volume), json!([]));
        lxc.run(&["storage", "volume", "delete", "default", volume]);
    }
    lxc.run(&["delete", "--force", "c1", "c2", "c3"]);
}

#[test]
fn the_incus_client_and_our_own_attach_to_running_containers() {
    let test = "the_incus_client_and_our_own_attach_to_running_containers";
    let Some(daemon) = prepared(test, &[]) else { return };
    let Some(incus) = RealClient::incus(test, &daemon) else { return };
    incus.run(&["storage", "volume", "attach", "default", "data", "c1", "/data"]);
    inside(&incus, "c1", "echo one > /data/file");
    incus.run(&["storage", "volume", "detach", "default", "data", "c1"]);
    assert!(!is_mounted(&incus, "c1", "/data"));
    let larder = |arguments: &[&str]| {
        #[expect(clippy::disallowed_methods, reason = "the test runs the client as a person would")]
        let mut command = std::process::Command::new(program("larder"));
        let command = command.args(arguments).env("LARDER_DIR", daemon.directory());
        let output = command.env("LARDER_CONF", daemon.scratch().join("conf")).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    larder(&["storage", "volume", "attach", "default", "data", "c1", "/again"]);
    assert_eq!(inside(&incus, "c1", "cat /again/file"), "one");
    larder(&["storage", "volume", "detach", "default", "data", "c1"]);
    larder(&["config", "device", "add", "c1", "data", "disk", "pool=default", "source=data", "path=/third"]);
    larder(&["config", "device", "set", "c1", "data", "readonly=true"]);
    assert!(is_mounted(&incus, "c1", "/third"));
    larder(&["config", "device", "remove", "c1", "data"]);
    assert!(!is_mounted(&incus, "c1", "/third"));
    larder(&["storage", "volume", "delete", "default", "data"]);
    larder(&["delete", "--force", "c1"]);
}

#[test]
fn a_killed_daemon_leaves_container_and_document_alike() {
    let test = "a_killed_daemon_leaves_container_and_document_alike";
    let plan_folder = tempfile::tempdir().unwrap();
    let plan = plan_folder.path().join("plan");
    std::fs::write(&plan, "").unwrap();
    let environment = [("LARDER_CRASH_PLAN", plan.to_str().unwrap())];
    let Some(mut daemon) = prepared(test, &environment) else { return };
    daemon.change("POST", "/1.0/storage-pools/default/volumes/custom", &json!({ "name": "more" }));
    let disk = |volume: &str, path: &str| json!({ "type": "disk", "path": path, "pool": "default", "source": volume });
    let instance = daemon.read("/1.0/instances/c1");
    let with = |devices: Value| {
        let mut body = instance.clone();
        body["devices"] = devices;
        body
    };
    let stories = [
        ("add", with(json!({})), with(json!({ "d": disk("data", "/data") }))),
        ("remove", with(json!({ "d": disk("data", "/data") })), with(json!({}))),
        ("move", with(json!({ "d": disk("data", "/data") })), with(json!({ "d": disk("data", "/moved") }))),
        (
            "exchange",
            with(json!({ "d": disk("data", "/data") })),
            with(json!({ "d": disk("more", "/data") })),
        ),
    ];
    for (story, before, after) in &stories {
        for point in ["after_intent", "after_act", "after_commit"] {
            daemon.change("PUT", "/1.0/instances/c1", before);
            std::fs::write(&plan, format!("point {point}")).unwrap();
            if let Ok(reply) =
                request(&daemon.socket(), "PUT", "/1.0/instances/c1", &[], after.to_string().as_bytes())
                && let Some(url) = reply.json()["operation"].as_str()
            {
                // It dies meanwhile.
                let _ = request(&daemon.socket(), "GET", &format!("{url}/wait"), &[], b"");
            }
            assert!(std::fs::read_to_string(&plan).unwrap().starts_with("hit"), "{story} {point}");
            assert!(daemon.wait_for_its_end(Duration::from_secs(10)), "{story} {point}: the daemon lives");
            std::fs::write(&plan, "").unwrap();
            daemon.spawn(&environment);
            check(test, &daemon, &format!("{story} {point}"));
        }
    }
    daemon.change("PUT", "/1.0/instances/c1", &with(json!({})));
    for volume in ["data", "more"] {
        daemon.change("DELETE", &format!("/1.0/storage-pools/default/volumes/custom/{volume}"), &Value::Null);
    }
    daemon.change("DELETE", "/1.0/instances/c1?force=1", &Value::Null);
}

/// What the document says is mounted, and nothing else; and exactly the volumes that it names can't be deleted.
fn check(test: &str, daemon: &Larderd, story: &str) {
    let lxc = RealClient::lxc(test, daemon).unwrap();
    let device = daemon.read("/1.0/instances/c1")["devices"]["d"].clone();
    for path in ["/data", "/moved"] {
        assert_eq!(is_mounted(&lxc, "c1", path), device["path"] == path, "{story}: {path}, {device}");
    }
    for volume in ["data", "more"] {
        let url = format!("/1.0/storage-pools/default/volumes/custom/{volume}");
        if device["source"] == volume {
            std::fs::write(content(daemon, volume).join("which"), volume).unwrap();
            let path = device["path"].as_str().unwrap();
            assert_eq!(inside(&lxc, "c1", &format!("cat {path}/which")), volume, "{story}");
            assert!(daemon.refuse("DELETE", &url, &Value::Null).1.contains("in use"), "{story}");
        } else {
            daemon.change("DELETE", &url, &Value::Null);
            daemon.change("POST", "/1.0/storage-pools/default/volumes/custom", &json!({ "name": volume }));
        }
    }
}

#[test]
fn limits_that_can_not_be_applied_are_not_stored() {
    let test = "limits_that_can_not_be_applied_are_not_stored";
    let Some(daemon) = prepared(test, &[]) else { return };
    let larder = RealClient::larder(&daemon);
    larder.run(&["config", "set", "c1", "limits.processes=200"]);
    let before = daemon.read("/1.0/instances/c1");
    larder.refuse(&["config", "set", "c1", "limits.processes=100", "limits.cpu=1000-1001"]);
    assert_eq!(daemon.read("/1.0/instances/c1"), before);
    larder.run(&["config", "set", "c1", "limits.processes=100"]);
    assert_eq!(daemon.read("/1.0/instances/c1")["config"]["limits.processes"], "100");
}
