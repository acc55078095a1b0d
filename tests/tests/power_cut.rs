//! A machine that loses its power in the middle of a copy, a refresh, a resize or a restore, and what it finds when it is on
//! again: every volume whole, as it was or as it was to become; what was answered as done is done.
//!
//! Run by `tests/lab/power-cut` in guests, each of which looks at what the one before it left and then goes down itself. The
//! folder that `LARDER_POWER_CUT` names outlives them: `plan.json` in it says what to do, `cut.json` what was being done.
//! `LARDER_POWER_CUT_DISK` names the folder of the daemon, on a disk of the guest's that outlives it too.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test panics to fail, and tells what it does"
)]

use larder_tests::{Larderd, Tar, files_in, request, skip};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const POOL: &str = "/1.0/storage-pools/pool";
const VOLUMES: &str = "/1.0/storage-pools/pool/volumes/custom";
/// How much each volume and snapshot holds.
const BYTES: usize = 3 << 20;

/// Each volume and snapshot with the label of what is in it; of a disk, its size too.
type Seen = BTreeMap<String, String>;

/// What is going on when the power goes.
struct Story {
    name: &'static str,
    method: &'static str,
    path: &'static str,
    body: fn() -> Value,
    /// What has changed when it is done.
    goal: &'static [(&'static str, &'static str)],
    /// What is gone then.
    gone: &'static [&'static str],
}

const STORIES: &[Story] = &[
    Story {
        name: "copy",
        method: "POST",
        path: VOLUMES,
        body: || json!({ "name": "new", "type": "custom", "source": { "type": "copy", "name": "v1", "pool": "pool" } }),
        goal: &[("new", "now"), ("new/s0", "s0"), ("new/s1", "s1")],
        gone: &[],
    },
    Story {
        name: "refresh",
        method: "POST",
        path: VOLUMES,
        body: || {
            let source = json!({ "type": "copy", "name": "v1", "pool": "pool", "refresh": true });
            json!({ "name": "old", "type": "custom", "source": source })
        },
        goal: &[("old", "now"), ("old/s0", "s0"), ("old/s1", "s1")],
        gone: &["old/own"],
    },
    Story {
        name: "resize",
        method: "PATCH",
        path: "/1.0/storage-pools/pool/volumes/custom/disk",
        body: || json!({ "config": { "size": "96MiB" } }),
        goal: &[("disk", "empty, 96 MiB")],
        gone: &[],
    },
    Story {
        name: "restore",
        method: "PUT",
        path: "/1.0/storage-pools/pool/volumes/custom/v1",
        body: || json!({ "restore": "s1" }),
        goal: &[("v1", "s1")],
        gone: &[],
    },
];

/// Bytes that tell their label, no two blocks of them alike.
fn content(label: &str) -> Vec<u8> {
    let mut state = label.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3) | 1
    });
    let mut bytes = format!("{label}\n").into_bytes();
    while bytes.len() < BYTES {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes
}

/// The label of a file if all of it is as it should be.
fn label_of(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let label = String::from_utf8_lossy(&line[..line.len().min(40)]).into_owned();
    if content(&label) == bytes { label } else { format!("damaged: {} bytes, {label:?}", bytes.len()) }
}

/// A filesystem volume with snapshots, each holding its label.
fn import(daemon: &Larderd, name: &str, now: &str, snapshots: &[(&str, &str)]) {
    let described = |name: &str| json!({ "name": name, "content_type": "filesystem", "config": {} });
    let names: Vec<&str> = snapshots.iter().map(|(name, _)| *name).collect();
    let described: Vec<Value> = names.iter().map(|name| described(name)).collect();
    let about = json!({ "name": name, "type": "custom", "content_type": "filesystem", "config": {} });
    // JSON is YAML.
    let index = json!({
        "name": name, "backend": "dir", "pool": "elsewhere", "type": "custom", "optimized": false,
        "snapshots": names, "config": { "volume": about, "volume_snapshots": described },
    });
    let mut tar = Tar::default().index(&index.to_string());
    let folders = snapshots.iter().map(|(name, label)| (format!("volume-snapshots/{name}"), *label));
    for (folder, label) in folders.chain([("volume".to_owned(), now)]) {
        tar = tar.folder(&format!("backup/{folder}/"));
        tar = tar.file(&format!("backup/{folder}/file"), &content(label));
    }
    let headers = [("Content-Type", "application/octet-stream"), ("X-Incus-name", name)];
    let reply = request(&daemon.socket(), "POST", VOLUMES, &headers, &tar.end()).unwrap();
    daemon.finish(&reply).unwrap();
}

/// Makes the volumes that every story begins with, and tells what is to be seen of them.
fn prepare(daemon: &Larderd) -> Seen {
    import(daemon, "v1", "now", &[("s0", "s0"), ("s1", "s1")]);
    import(daemon, "old", "was", &[("own", "own")]);
    let disk =
        json!({ "name": "disk", "type": "custom", "content_type": "block", "config": { "size": "64MiB" } });
    daemon.change("POST", VOLUMES, &disk);
    let seen = [
        ("v1", "now"),
        ("v1/s0", "s0"),
        ("v1/s1", "s1"),
        ("old", "was"),
        ("old/own", "own"),
        ("disk", "empty, 64 MiB"),
    ];
    seen.into_iter().map(|(name, label)| (name.to_owned(), label.to_owned())).collect()
}

impl Story {
    fn goal(&self, before: &Seen) -> Seen {
        let mut seen = before.clone();
        seen.retain(|name, _| !self.gone.contains(&name.as_str()));
        seen.extend(self.goal.iter().map(|(name, label)| ((*name).to_owned(), (*label).to_owned())));
        seen
    }

    fn act(&self, daemon: &Larderd) {
        daemon.change(self.method, self.path, &(self.body)());
    }
}

/// The main volumes that are listed.
fn listed(daemon: &Larderd) -> Vec<String> {
    let listed = daemon.read(VOLUMES);
    let urls = listed.as_array().unwrap().iter().map(|url| url.as_str().unwrap().to_owned());
    urls.filter(|url| !url.contains("/snapshots/")).collect()
}

/// All that is there, read through backups.
fn seen(daemon: &Larderd) -> Seen {
    let mut seen = Seen::new();
    for volume in listed(daemon) {
        let name = volume.rsplit('/').next().unwrap();
        let backup = json!({ "name": "b", "compression_algorithm": "none" });
        daemon.change("POST", &format!("{volume}/backups"), &backup);
        let exported = daemon.get(&format!("{volume}/backups/b/export"));
        daemon.change("DELETE", &format!("{volume}/backups/b"), &Value::Null);
        for (member, bytes) in files_in(&exported.body) {
            let parts: Vec<&str> = member.split('/').collect();
            match parts[..] {
                [_, "volume", "file"] => seen.insert(name.to_owned(), label_of(&bytes)),
                [_, "volume-snapshots", snapshot, "file"] => {
                    seen.insert(format!("{name}/{snapshot}"), label_of(&bytes))
                }
                [_, "volume.img"] => seen.insert(name.to_owned(), label_of_disk(&bytes)),
                _ => None,
            };
        }
    }
    seen
}

fn label_of_disk(bytes: &[u8]) -> String {
    let is_empty = bytes.iter().all(|byte| *byte == 0);
    format!("{}, {} MiB", if is_empty { "empty" } else { "damaged" }, bytes.len() >> 20)
}

/// Waits until the daemon has finished or undone what was under way.
fn wait_until_settled(daemon: &Larderd) {
    let end = Instant::now() + Duration::from_secs(120);
    while daemon.read(POOL)["status"] != "Created" {
        assert!(Instant::now() < end, "the pool did not come back: {}\n{}", daemon.read(POOL), daemon.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Compares what the last guest left with what it was doing.
fn look(daemon: &Larderd, cut: &Value) {
    let story = STORIES.iter().find(|story| cut["story"] == story.name).unwrap();
    let before: Seen = serde_json::from_value(cut["before"].clone()).unwrap();
    let (goal, found) = (story.goal(&before), seen(daemon));
    let is_done = cut["answered"] == true;
    let what = format!("{} after {} ms, answered: {is_done}", story.name, cut["millis"]);
    assert!(
        found == goal || (!is_done && found == before),
        "{what}: found {found:#?}, before {before:#?}, goal {goal:#?}\n{}",
        daemon.log()
    );
    println!("\npower cut in {what}: {}", if found == goal { "done" } else { "as before" });
}

/// Writes into the folder that outlives the guest.
fn note(path: &Path, value: &Value) {
    let mut file = fs::File::create(path).unwrap();
    file.write_all(value.to_string().as_bytes()).unwrap();
    file.sync_all().unwrap();
}

/// Tells the story and stops the machine in the middle of it: nothing is written back.
fn go_down(daemon: &Larderd, story: &Story, after: Duration, before: &Seen, note_at: &Path) {
    let about = |answered: bool| json!({ "story": story.name, "millis": after.as_millis(), "before": before, "answered": answered });
    note(note_at, &about(false));
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            story.act(daemon);
            note(note_at, &about(true));
        });
        std::thread::sleep(after.saturating_sub(began.elapsed()));
        rustix::system::reboot(rustix::system::RebootCommand::PowerOff).unwrap();
    });
}

#[test]
fn a_machine_that_lost_its_power_finds_all_or_nothing() {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (Some(notes), Some(disk)) = (variable("LARDER_POWER_CUT"), variable("LARDER_POWER_CUT_DISK")) else {
        return skip("a_machine_that_lost_its_power_finds_all_or_nothing", "run by tests/lab/power-cut");
    };
    let read =
        |name: &str| -> Option<Value> { serde_json::from_slice(&fs::read(notes.join(name)).ok()?).ok() };
    let plan = read("plan.json").unwrap();
    let daemon = Larderd::start_in(&disk);
    match read("cut.json") {
        Some(cut) => {
            wait_until_settled(&daemon);
            look(&daemon, &cut);
            listed(&daemon).iter().for_each(|volume| {
                daemon.change("DELETE", volume, &Value::Null);
            });
            fs::remove_file(notes.join("cut.json")).unwrap();
        }
        None => {
            daemon.change("POST", "/1.0/storage-pools", &plan["pool"]);
        }
    }
    let Some(story) = STORIES.iter().find(|story| plan["story"] == story.name) else {
        daemon.change("DELETE", POOL, &Value::Null);
        return;
    };
    // How long it takes when the power stays on.
    prepare(&daemon);
    let began = Instant::now();
    story.act(&daemon);
    let whole = began.elapsed();
    listed(&daemon).iter().for_each(|volume| {
        daemon.change("DELETE", volume, &Value::Null);
    });
    let before = prepare(&daemon);
    let percent = u32::try_from(plan["percent"].as_u64().unwrap()).unwrap();
    go_down(&daemon, story, whole * percent / 100, &before, &notes.join("cut.json"));
}
