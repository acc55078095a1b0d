//! Containers where filesystems can't be mounted with mapped ids: owners of files are changed instead, once, whatever ends
//! the daemon meanwhile, and changed back where ids can be mapped. A switch of debug builds makes every filesystem such a
//! one.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, RealClient, TestImage, request, require_containers};
use serde_json::json;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const NO_MAPPED_IDS: &[(&str, &str)] = &[("LARDER_NO_MAPPED_IDS", "1")];

/// A daemon that maps no ids and has an image; none, and said, where that can't be had.
fn prepared(test: &str) -> Option<Larderd> {
    if !require_containers(test) {
        return None;
    }
    let daemon = Larderd::start_with(NO_MAPPED_IDS);
    let image = TestImage::make(test, daemon.scratch())?;
    let lxc = RealClient::lxc(test, &daemon)?;
    let path = |path: PathBuf| path.display().to_string();
    lxc.run(&["image", "import", &path(image.metadata()), &path(image.rootfs()), "--alias", "busybox"]);
    Some(daemon)
}

fn rootfs(daemon: &Larderd, name: &str) -> PathBuf {
    daemon.directory().join("storage-pools/default/containers").join(name).join("rootfs")
}

fn owner(path: &Path) -> (u32, u32) {
    let found = std::fs::symlink_metadata(path).unwrap();
    (found.uid(), found.gid())
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The host's id of the user 0 of a running instance.
fn first_id(daemon: &Larderd, name: &str) -> u32 {
    let pid = daemon.read(&format!("/1.0/instances/{name}/state"))["pid"].clone();
    // The owner of the folder is right only after the init's last exec, which may be after its start was told of.
    let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    map.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn inside(client: &RealClient<'_>, name: &str, script: &str) -> String {
    client.run(&["exec", name, "--", "sh", "-c", script]).trim().to_owned()
}

#[test]
fn a_root_is_shifted_at_its_start_and_back_where_ids_are_mapped() {
    let test = "a_root_is_shifted_at_its_start_and_back_where_ids_are_mapped";
    let Some(mut daemon) = prepared(test) else { return };
    let lxc = RealClient::lxc(test, &daemon).unwrap();
    lxc.run(&["init", "busybox", "c1"]);
    let tool = rootfs(&daemon, "c1").join("bin/tool");
    std::fs::write(&tool, "x").unwrap();
    chown(&tool, Some(5), Some(6)).unwrap();
    std::fs::set_permissions(&tool, PermissionsExt::from_mode(0o6711)).unwrap();
    lxc.run(&["start", "c1"]);
    let base = first_id(&daemon, "c1");
    assert!(base >= 65_536);
    assert_eq!((owner(&tool), mode(&tool)), ((base + 5, base + 6), 0o6711));
    assert_eq!(inside(&lxc, "c1", "stat -c '%u %g %a' /bin/tool"), "5 6 6711");
    assert_eq!(inside(&lxc, "c1", "stat -c '%u %g' /etc/hostname / /bin/busybox"), "0 0\n0 0\n0 0");
    let told = daemon.read("/1.0/instances/c1")["config"]["volatile.last_state.idmap"].clone();
    assert!(told.as_str().unwrap().contains(&format!("\"Hostid\":{base}")), "{told}");

    // Files are seen with the instance's own ids from outside, too.
    let file = daemon.scratch().join("pushed");
    std::fs::write(&file, "pushed").unwrap();
    lxc.run(&["file", "push", &file.display().to_string(), "c1/root/deep/file", "--create-dirs", "--uid=7"]);
    assert_eq!(inside(&lxc, "c1", "stat -c %u /root/deep/file"), "7");

    // A copy and a snapshot say themselves how they are.
    lxc.run(&["snapshot", "c1", "s0"]);
    lxc.run(&["stop", "--force", "c1"]);
    lxc.run(&["copy", "c1", "c2"]);
    lxc.run(&["start", "c2"]);
    assert_eq!(inside(&lxc, "c2", "stat -c '%u %g %a' /bin/tool; stat -c %u /etc/hostname"), "5 6 6711\n0");
    lxc.run(&["delete", "--force", "c2"]);

    daemon.stop();
    daemon.spawn(&[]);
    let lxc = RealClient::lxc(test, &daemon).unwrap();
    for before in [&["start", "c1"][..], &["restore", "c1", "s0"], &["start", "c1"]] {
        lxc.run(before);
        if before[0] == "restore" {
            assert_eq!(owner(&tool), (base + 5, base + 6), "as it was then");
            continue;
        }
        assert_eq!((owner(&tool), mode(&tool)), ((5, 6), 0o6711));
        assert_eq!(
            inside(&lxc, "c1", "stat -c '%u %g %a' /bin/tool; stat -c %u /etc/hostname"),
            "5 6 6711\n0"
        );
        lxc.run(&["stop", "--force", "c1"]);
    }
    lxc.run(&["config", "set", "c1", "security.privileged", "true"]);
    lxc.run(&["restore", "c1", "s0"]);
    lxc.run(&["config", "set", "c1", "security.privileged", "true"]);
    lxc.run(&["start", "c1"]);
    assert_eq!(owner(&tool), (5, 6), "a privileged one has the host's ids");
    lxc.run(&["delete", "--force", "c1"]);
}

#[test]
fn a_volume_is_shifted_once_and_not_under_somebody_else() {
    let test = "a_volume_is_shifted_once_and_not_under_somebody_else";
    let Some(mut daemon) = prepared(test) else { return };
    let lxc = RealClient::lxc(test, &daemon).unwrap();
    lxc.run(&["storage", "volume", "create", "default", "data"]);
    let file = daemon.directory().join("storage-pools/default/custom/default_data/file");
    std::fs::write(&file, "x").unwrap();
    for name in ["c1", "c2"] {
        lxc.run(&["launch", "busybox", name]);
        lxc.run(&["storage", "volume", "attach", "default", "data", name, "/data"]);
        assert_eq!(inside(&lxc, name, "stat -c %u /data /data/file; echo y >> /data/file"), "0\n0");
    }
    let base = first_id(&daemon, "c1");
    assert_eq!(owner(&file), (base, base));
    lxc.run(&["launch", "busybox", "c3", "-c", "security.privileged=true"]);
    let attach = ["storage", "volume", "attach", "default", "data", "c3", "/data"];
    assert!(lxc.refuse(&attach).contains("another map of ids"));
    assert_eq!(owner(&file), (base, base));
    let export = ["storage", "volume", "export", "default", "data"];
    let backup = daemon.scratch().join("backup").display().to_string();
    assert!(lxc.refuse(&[&export[..], &[&backup]].concat()).contains("ids"), "owners would be lost");
    lxc.run(&["delete", "--force", "c1", "c2"]);
    lxc.run(&attach);
    assert_eq!(owner(&file), (0, 0));
    lxc.run(&[&export[..], &[&backup]].concat());
    lxc.run(&["delete", "--force", "c3"]);

    lxc.run(&["launch", "busybox", "c1"]);
    lxc.run(&["storage", "volume", "attach", "default", "data", "c1", "/data"]);
    lxc.run(&["stop", "--force", "c1"]);
    assert_eq!(owner(&file), (base, base));
    daemon.stop();
    daemon.spawn(&[]);
    let lxc = RealClient::lxc(test, &daemon).unwrap();
    lxc.run(&["start", "c1"]);
    assert_eq!(owner(&file), (0, 0));
    assert_eq!(inside(&lxc, "c1", "stat -c %u /data/file"), "0");
    lxc.run(&["delete", "--force", "c1"]);
    lxc.run(&["storage", "volume", "delete", "default", "data"]);
}

#[test]
fn a_daemon_killed_while_it_shifts_finishes_or_takes_back() {
    let test = "a_daemon_killed_while_it_shifts_finishes_or_takes_back";
    let Some(mut daemon) = prepared(test) else { return };
    daemon.change(
        "POST",
        "/1.0/instances",
        &json!({ "name": "c1", "source": { "type": "image", "alias": "busybox" } }),
    );
    let many = rootfs(&daemon, "c1").join("many");
    let file = |number: u32| many.join(format!("{}/{number}", number % 40));
    const FILES: u32 = 8000;
    for number in 0..FILES {
        std::fs::create_dir_all(file(number).parent().unwrap()).unwrap();
        std::fs::write(file(number), "").unwrap();
        chown(file(number), Some(number % 500), Some(number % 300)).unwrap();
        std::fs::set_permissions(file(number), PermissionsExt::from_mode(0o4700 + number % 8)).unwrap();
    }
    let begin = |daemon: &Larderd| {
        let body = json!({ "action": "start" }).to_string();
        let _ = request(&daemon.socket(), "PUT", "/1.0/instances/c1/state", &[], body.as_bytes());
    };
    let mut partly = 0;
    // To the host's ids and back, ended at many places, and a last time to its end.
    let is_shifted = |number: u32| owner(&file(number)).0 >= 65_536;
    for round in 0..12 {
        // Killed when a file has changed its side, or later: the walk goes by folders, in an order of the filesystem's.
        let told = is_shifted(round);
        let deadline = Instant::now() + Duration::from_secs(2);
        begin(&daemon);
        while is_shifted(round) == told && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(u64::from(round % 4)));
        daemon.kill();
        let shifted = (0..FILES).filter(|number| is_shifted(*number)).count();
        partly += usize::from((1..FILES as usize).contains(&shifted));
        daemon.spawn(if round % 2 == 0 { &[] } else { NO_MAPPED_IDS });
        if daemon.read("/1.0/instances/c1")["status"] == "Running" {
            daemon.change("PUT", "/1.0/instances/c1/state", &json!({ "action": "stop", "force": true }));
        }
    }
    assert!(partly >= 2, "only {partly} kills were in the middle");
    for environment in [NO_MAPPED_IDS, &[]] {
        daemon.stop();
        daemon.spawn(environment);
        daemon.change("PUT", "/1.0/instances/c1/state", &json!({ "action": "start" }));
        let base = if environment.is_empty() { 0 } else { first_id(&daemon, "c1") };
        for number in 0..FILES {
            assert_eq!(owner(&file(number)), (base + number % 500, base + number % 300), "{number}");
            assert_eq!(mode(&file(number)), 0o4700 + number % 8, "{number}");
        }
        daemon.change("PUT", "/1.0/instances/c1/state", &json!({ "action": "stop", "force": true }));
    }
    daemon.change("DELETE", "/1.0/instances/c1", &serde_json::Value::Null);
}
