//! `kill -9` of the daemon while it puts a volume of many files back to a snapshot, at whatever moment: after the next start the
//! volume is as the snapshot, or as before if the change had not begun. What both share while the new tree is built is shared
//! with nobody afterwards, and nothing is left of it.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, request};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

const POOL: &str = "p1";
const VOLUMES: &str = "/1.0/storage-pools/p1/volumes/custom";
const FILES: usize = 3000;

fn root(daemon: &Larderd) -> PathBuf {
    daemon.directory().join("storage-pools").join(POOL)
}

fn live(daemon: &Larderd) -> PathBuf {
    root(daemon).join("custom/default_v1")
}

/// All files below a folder with what is in them; none of them may have another name.
fn files(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for part in fs::read_dir(folder).unwrap() {
        for entry in fs::read_dir(part.unwrap().path()).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(fs::metadata(&path).unwrap().nlink(), 1, "{} has another name", path.display());
            let text = fs::read_to_string(&path).unwrap();
            found.insert(path.strip_prefix(folder).unwrap().to_owned(), text);
        }
    }
    found
}

fn path(number: usize) -> String {
    format!("part{}/file{number}", number % 30)
}

/// Writes every tenth file in place and another tenth anew, removes some, and makes some.
fn change(tree: &Path, turn: usize) {
    for number in (0..FILES).step_by(10) {
        fs::write(tree.join(path(number)), format!("in place, {turn}")).unwrap();
        let anew = tree.join(path(number + 1));
        fs::remove_file(&anew).unwrap();
        fs::write(anew, format!("anew, {turn}")).unwrap();
    }
    for number in (5..FILES).step_by(100) {
        fs::remove_file(tree.join(path(number))).unwrap();
        fs::write(tree.join(format!("part1/more{number}")), "more").unwrap();
    }
}

fn restore(daemon: &Larderd) {
    daemon.change("PUT", &format!("{VOLUMES}/v1"), &json!({ "restore": "s0" }));
}

#[test]
fn a_daemon_killed_within_a_restore_leaves_the_whole_past_or_the_present() {
    let mut daemon = Larderd::start();
    daemon.change("POST", "/1.0/storage-pools", &json!({ "name": POOL, "driver": "dir" }));
    daemon.change("POST", VOLUMES, &json!({ "name": "v1", "config": {} }));
    let tree = live(&daemon);
    for number in 0..FILES {
        let file = tree.join(path(number));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("past {number}")).unwrap();
    }
    let past = files(&tree);
    daemon.change("POST", &format!("{VOLUMES}/v1/snapshots"), &json!({ "name": "s0" }));
    let snapshot = root(&daemon).join("custom-snapshots/default_v1/s0");
    change(&tree, 0);
    let began = Instant::now();
    restore(&daemon);
    let whole = began.elapsed();
    assert!(files(&tree) == past, "not even a whole restore brings the past back");

    let mut cut = 0;
    for percent in [2, 15, 30, 45, 60, 75, 90] {
        change(&tree, percent);
        let present = files(&tree);
        let socket = daemon.socket();
        let asking = std::thread::spawn(move || {
            let body = json!({ "restore": "s0" }).to_string();
            request(&socket, "PUT", &format!("{VOLUMES}/v1"), &[], body.as_bytes())
        });
        std::thread::sleep(whole * u32::try_from(percent).unwrap() / 100);
        let is_unfinished = fs::read_dir(root(&daemon).join(".larder/staging")).unwrap().count() > 0;
        daemon.kill();
        let _ = asking.join();
        cut += usize::from(is_unfinished);
        daemon.spawn(&[]);
        assert_eq!(daemon.read(&format!("{VOLUMES}/v1"))["name"], "v1");
        let found = files(&tree);
        assert!(found == past || found == present, "after {percent} %: neither before nor after");
        assert!(files(&snapshot) == past, "after {percent} %: the snapshot has changed");
        for area in ["staging", "trash"] {
            let left = fs::read_dir(root(&daemon).join(".larder").join(area)).unwrap().count();
            assert_eq!(left, 0, "after {percent} %: left in {area}");
        }
        // What is written to the volume now reaches nothing else.
        restore(&daemon);
        change(&tree, 0);
        assert!(files(&snapshot) == past, "the volume and its snapshot share a file");
        restore(&daemon);
        assert!(files(&tree) == past);
    }
    assert!(cut > 0, "every restore was over, or had not begun, when the daemon was killed ({whole:?})");
}
