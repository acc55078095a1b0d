//! The unmodified `lxc` client (Debian's lxd-client) drives the storage of a running `larderd`.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, RealClient};
use serde_json::Value;
use std::path::Path;

fn names(list: &Value) -> Vec<String> {
    let mut names: Vec<String> =
        list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn content(daemon: &Larderd, pool: &str, volume: &str) -> std::path::PathBuf {
    daemon.directory().join("storage-pools").join(pool).join("custom").join(format!("default_{volume}"))
}

#[test]
fn the_real_lxc_client_drives_pools_and_volumes() {
    let daemon = Larderd::start();
    let Some(lxc) = RealClient::lxc("the_real_lxc_client_drives_pools_and_volumes", &daemon) else { return };
    for pool in ["p1", "p2"] {
        lxc.run(&["storage", "create", pool, "dir"]);
    }
    let pools = lxc.json(&["storage", "list"]);
    assert_eq!(names(&pools), ["default", "p1", "p2"]);
    assert_eq!(pools[1]["driver"], "dir");
    assert_eq!(pools[1]["status"], "Created");
    assert!(lxc.refuse(&["storage", "create", "p1", "dir"]).contains("already exists"));
    assert!(lxc.run(&["storage", "info", "p1"]).contains("space used"));

    lxc.run(&["storage", "volume", "create", "p1", "v1"]);
    lxc.run(&["storage", "volume", "create", "p1", "disk", "--type=block", "size=16MiB"]);
    lxc.run(&["storage", "volume", "set", "p1", "v1", "user.note", "kept"]);
    assert_eq!(lxc.run(&["storage", "volume", "get", "p1", "v1", "user.note"]).trim(), "kept");
    assert!(lxc.refuse(&["storage", "volume", "create", "p1", "v1"]).contains("already exists"));

    let file = content(&daemon, "p1", "v1").join("file");
    std::fs::write(&file, "one").unwrap();
    lxc.run(&["storage", "volume", "snapshot", "p1", "v1", "s0"]);
    std::fs::write(&file, "two").unwrap();
    assert_eq!(names(&lxc.json(&["storage", "volume", "list", "p1"])), ["disk", "v1", "v1/s0"]);
    let info = lxc.run(&["storage", "volume", "info", "p1", "v1"]);
    assert!(info.contains("| s0 ") && !info.contains("0001/"), "{info}");
    lxc.run(&["storage", "volume", "restore", "p1", "v1", "s0"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");

    lxc.run(&["storage", "volume", "copy", "p1/v1", "p1/v2"]);
    lxc.run(&["storage", "volume", "copy", "p1/v1", "p2/v3"]);
    assert_eq!(names(&lxc.json(&["storage", "volume", "list", "p2"])), ["v3", "v3/s0"]);
    assert_eq!(std::fs::read_to_string(content(&daemon, "p2", "v3").join("file")).unwrap(), "one");
    lxc.run(&["storage", "volume", "move", "p1/v2", "p2/v4"]);
    lxc.run(&["storage", "volume", "rename", "p2", "v4", "v5"]);
    assert_eq!(names(&lxc.json(&["storage", "volume", "list", "p2"])), ["v3", "v3/s0", "v5", "v5/s0"]);

    export_and_import(&daemon, &lxc);

    lxc.run(&["storage", "volume", "delete", "p1", "v1/s0"]);
    lxc.run(&["storage", "volume", "delete", "p1", "v1"]);
    assert!(lxc.refuse(&["storage", "delete", "p2"]).contains("in use"));
    for volume in ["v3", "v5", "back"] {
        lxc.run(&["storage", "volume", "delete", "p2", volume]);
    }
    lxc.run(&["storage", "delete", "p2"]);
    assert_eq!(names(&lxc.json(&["storage", "list"])), ["default", "p1"]);
}

fn export_and_import(daemon: &Larderd, lxc: &RealClient<'_>) {
    let file = daemon.scratch().join("backup.tar.gz");
    lxc.run(&["storage", "volume", "export", "p1", "v1", &path(&file)]);
    assert!(std::fs::metadata(&file).unwrap().len() > 0);
    lxc.run(&["storage", "volume", "import", "p2", &path(&file), "back"]);
    assert_eq!(std::fs::read_to_string(content(daemon, "p2", "back").join("file")).unwrap(), "one");
    assert_eq!(
        names(&lxc.json(&["storage", "volume", "list", "p2"])),
        ["back", "back/s0", "v3", "v3/s0", "v5", "v5/s0"]
    );
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn the_real_lxc_client_drives_projects_and_warnings() {
    let daemon = Larderd::start();
    let Some(lxc) = RealClient::lxc("the_real_lxc_client_drives_projects_and_warnings", &daemon) else {
        return;
    };
    lxc.run(&["project", "create", "blue"]);
    assert_eq!(names(&lxc.json(&["project", "list"])), ["blue", "default"]);
    lxc.run(&["storage", "volume", "create", "default", "v1", "--project", "blue"]);
    assert_eq!(names(&lxc.json(&["storage", "volume", "list", "default", "--project", "blue"])), ["v1"]);
    assert_eq!(names(&lxc.json(&["storage", "volume", "list", "default"])), Vec::<String>::new());
    assert!(lxc.refuse(&["project", "delete", "blue"]).contains("not empty"));
    lxc.run(&["storage", "volume", "delete", "default", "v1", "--project", "blue"]);
    lxc.run(&["project", "rename", "blue", "green"]);
    lxc.run(&["project", "delete", "green"]);
    // ext4 without project quotas can't enforce a size: the warning says so, once.
    lxc.run(&["storage", "volume", "create", "default", "v2", "size=1GiB"]);
    assert!(lxc.json(&["warning", "list"]).is_array());
    lxc.run(&["query", "/1.0/resources"]);
    lxc.run(&["query", "/1.0/metadata/configuration"]);
}
