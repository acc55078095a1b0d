//! What many volumes and instances cost: programs that are started are counted, by the kernel where there shall be none.
//!
//! `LARDER_SOAK_DRIVER` and `LARDER_SOAK_CONFIG` choose a driver and its pool's keys, as for the soak.

use larder_tests::{Larderd, upload_small_image, with_each_driver};
use serde_json::json;
use std::time::Duration;

const VOLUMES: &str = "/1.0/storage-pools/here/volumes/custom";

/// How many volumes: in the guest lab each takes a second or more.
fn number_for(driver: &str) -> usize {
    if matches!(driver, "dir" | "btrfs") { 1000 } else { 12 }
}

/// What grows whenever a process that the daemon started has ended: the memory that such processes have touched in all.
fn touched_by_children(daemon: &Larderd) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields[8].parse().unwrap_or_else(|error| panic!("{stat}: {error}"))
}

/// How many commands the daemon has run, as it logs them.
fn commands_run(daemon: &Larderd) -> usize {
    daemon.log().lines().filter(|line| line.contains("larder_base::host::system")).count()
}

#[test]
fn a_list_with_usage_starts_no_process_for_each_volume_and_an_idle_daemon_none() {
    with_each_driver(|daemon, driver| {
        let number = number_for(driver);
        for one in 0..number {
            daemon.change("POST", VOLUMES, &json!({ "name": format!("v{one}"), "config": {} }));
        }
        let (touched, commands) = (touched_by_children(daemon), commands_run(daemon));
        let listed = daemon.read(&format!("{VOLUMES}?recursion=2"));
        let listed = listed.as_array().map_or(&[][..], Vec::as_slice);
        assert_eq!(listed.len(), number, "{driver}");
        let run = commands_run(daemon) - commands;
        if matches!(driver, "dir" | "btrfs") {
            assert_eq!(
                (run, touched_by_children(daemon)),
                (0, touched),
                "{driver}: the list started programs"
            );
        } else {
            assert!(run <= 1, "{driver}: a list of {number} volumes ran {run} commands");
            let is_told = |volume: &&serde_json::Value| volume["state"]["usage"]["total"].is_u64();
            assert_eq!(listed.iter().filter(is_told).count(), number, "{driver}: {listed:?}");
        }
        // A cluster is asked now and then whether it is still there: that is no idleness of ours.
        if !driver.starts_with("ceph") {
            let touched = touched_by_children(daemon);
            std::thread::sleep(Duration::from_secs(3));
            assert_eq!(touched_by_children(daemon), touched, "{driver}: an idle daemon started programs");
        }
    });
}

#[test]
fn a_list_of_instances_with_their_usage_asks_the_pool_once() {
    with_each_driver(|daemon, driver| {
        let image = upload_small_image(daemon);
        let source = json!({ "type": "image", "fingerprint": image });
        let root = json!({ "root": { "type": "disk", "path": "/", "pool": "here" } });
        let names = ["c1", "c2", "c3"];
        for name in names {
            let new = json!({ "name": name, "source": source, "devices": root });
            daemon.change("POST", "/1.0/instances", &new);
        }
        let commands = commands_run(daemon);
        let listed = daemon.read("/1.0/instances?recursion=2");
        let run = commands_run(daemon) - commands;
        assert_eq!(listed.as_array().map(Vec::len), Some(names.len()), "{driver}: {listed:?}");
        assert!(run <= 1, "{driver}: a list of {} instances ran {run} commands", names.len());
        for name in names {
            daemon.change("DELETE", &format!("/1.0/instances/{name}"), &serde_json::Value::Null);
        }
        daemon.change("DELETE", &format!("/1.0/images/{image}"), &serde_json::Value::Null);
    });
}
