//! `kill -9` of the real daemon at every named point and every changing step of what it does, on each driver that keeps volumes
//! as folders. After the restart every live name is whole, nothing staged is left, catalog and pool agree, and what was there
//! before is there, as hashes of all contents tell.
//!
//! A debug build of larderd reads the plan in the file that `LARDER_CRASH_PLAN` names, at every point and step.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, request, require};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const VOLUMES: &str = "/1.0/storage-pools/p1/volumes/custom";
const POINTS: &[&str] = &["after_intent", "after_act", "after_commit"];

/// What is there: each volume and snapshot by name, with hashes of its files and a volume's size.
type Seen = BTreeMap<String, BTreeMap<String, String>>;

/// Where the stories are told.
struct Lab {
    driver: &'static str,
    /// The keys of its pools.
    config: fn() -> Value,
    /// Which stories; all when there are none.
    stories: &'static [&'static str],
    /// Stories that have nothing to do on its pools: only the catalog changes.
    of_the_catalog: &'static [&'static str],
}

/// The size of a tree is no more than a word in a folder without quotas.
const DIR: Lab = Lab { driver: "dir", config: || json!({}), stories: &[], of_the_catalog: &["resize"] };

const BTRFS: Lab = Lab {
    driver: "btrfs",
    config: || json!({ "size": "256MiB" }),
    stories: &[
        "copy",
        "copy across pools",
        "copy a disk across pools",
        "move across pools",
        "resize",
        "resize a disk",
        "restore",
        "refresh",
        "refresh across pools",
    ],
    of_the_catalog: &[],
};

struct Story {
    name: &'static str,
    /// What it needs beside the two volumes.
    prepare: fn(&Larderd),
    act: fn(&Larderd),
}

fn nothing(_: &Larderd) {}

/// A copy of `v1` on a pool, then a `v1` that went on: `s0` stays, `s1` is another, `s2` is new.
fn aged_copy(daemon: &Larderd, pool: &str) {
    let source = json!({ "type": "copy", "name": "v1", "pool": "p1" });
    let volumes = format!("/1.0/storage-pools/{pool}/volumes/custom");
    daemon.change("POST", &volumes, &json!({ "name": "copy", "source": source }));
    daemon.change("POST", &format!("{volumes}/copy/snapshots"), &json!({ "name": "own" }));
    daemon.change("DELETE", &format!("{VOLUMES}/v1/snapshots/s1"), &Value::Null);
    // A snapshot is told from an older one of its name by the second it was made in.
    std::thread::sleep(Duration::from_millis(1100));
    let folder = folder(daemon, "p1", "v1");
    for snapshot in ["s1", "s2"] {
        std::fs::write(folder.join("file"), format!("another {snapshot}")).unwrap();
        daemon.change("POST", &format!("{VOLUMES}/v1/snapshots"), &json!({ "name": snapshot }));
    }
    std::fs::write(folder.join("file"), "the newest").unwrap();
    std::fs::write(folder.join("another"), "file").unwrap();
}

fn refresh(daemon: &Larderd, pool: &str) {
    let source = json!({ "type": "copy", "name": "v1", "pool": "p1", "refresh": true });
    let volumes = format!("/1.0/storage-pools/{pool}/volumes/custom");
    send(daemon, "POST", &volumes, &json!({ "name": "copy", "source": source }));
}

fn send(daemon: &Larderd, method: &str, path: &str, body: &Value) {
    // The daemon may die at any moment: the answer, if one comes, is not looked at.
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let Ok(reply) = request(&daemon.socket(), method, path, &[], &body) else { return };
    if reply.status == 202 {
        let operation = reply.json()["operation"].as_str().unwrap_or_default().to_owned();
        let _ = request(&daemon.socket(), "GET", &format!("{operation}/wait"), &[], b"");
    }
}

fn stories() -> Vec<Story> {
    vec![
        Story {
            name: "create",
            prepare: nothing,
            act: |d| send(d, "POST", VOLUMES, &json!({ "name": "new", "config": {} })),
        },
        Story {
            name: "copy",
            prepare: nothing,
            act: |d| {
                let source = json!({ "type": "copy", "name": "v1", "pool": "p1" });
                send(d, "POST", VOLUMES, &json!({ "name": "new", "source": source }));
            },
        },
        Story {
            name: "copy across pools",
            prepare: nothing,
            act: |d| {
                let source = json!({ "type": "copy", "name": "v1", "pool": "p1" });
                send(
                    d,
                    "POST",
                    "/1.0/storage-pools/p2/volumes/custom",
                    &json!({ "name": "new", "source": source }),
                );
            },
        },
        Story {
            name: "copy a disk across pools",
            prepare: nothing,
            act: |d| {
                let source = json!({ "type": "copy", "name": "disk", "pool": "p1" });
                let body = json!({ "name": "new", "content_type": "block", "source": source });
                send(d, "POST", "/1.0/storage-pools/p2/volumes/custom", &body);
            },
        },
        Story {
            name: "resize",
            prepare: nothing,
            act: |d| send(d, "PATCH", &format!("{VOLUMES}/v1"), &json!({ "config": { "size": "64MiB" } })),
        },
        Story {
            name: "resize a disk",
            prepare: nothing,
            act: |d| send(d, "PATCH", &format!("{VOLUMES}/disk"), &json!({ "config": { "size": "2MiB" } })),
        },
        Story {
            name: "move across pools",
            prepare: nothing,
            act: |d| send(d, "POST", &format!("{VOLUMES}/v1"), &json!({ "name": "v1", "pool": "p2" })),
        },
        Story {
            name: "snapshot",
            prepare: nothing,
            act: |d| send(d, "POST", &format!("{VOLUMES}/v1/snapshots"), &json!({ "name": "s9" })),
        },
        Story {
            name: "restore",
            prepare: nothing,
            act: |d| send(d, "PUT", &format!("{VOLUMES}/v1"), &json!({ "restore": "s0" })),
        },
        Story {
            name: "rename",
            prepare: nothing,
            act: |d| send(d, "POST", &format!("{VOLUMES}/v1"), &json!({ "name": "new" })),
        },
        Story {
            name: "rename snapshot",
            prepare: nothing,
            act: |d| send(d, "POST", &format!("{VOLUMES}/v1/snapshots/s0"), &json!({ "name": "s9" })),
        },
        Story {
            name: "delete",
            prepare: nothing,
            act: |d| send(d, "DELETE", &format!("{VOLUMES}/v1"), &Value::Null),
        },
        Story {
            name: "delete snapshot",
            prepare: nothing,
            act: |d| send(d, "DELETE", &format!("{VOLUMES}/v1/snapshots/s0"), &Value::Null),
        },
        Story { name: "refresh", prepare: |d| aged_copy(d, "p1"), act: |d| refresh(d, "p1") },
        Story { name: "refresh across pools", prepare: |d| aged_copy(d, "p2"), act: |d| refresh(d, "p2") },
        Story {
            name: "import",
            prepare: nothing,
            act: |d| {
                let Ok(bytes) = std::fs::read(d.scratch().join("backup.tar")) else { return };
                let headers = [("Content-Type", "application/octet-stream"), ("X-LXD-name", "new")];
                let Ok(reply) = request(&d.socket(), "POST", VOLUMES, &headers, &bytes) else { return };
                let operation = reply.json()["operation"].as_str().unwrap_or_default().to_owned();
                let _ = request(&d.socket(), "GET", &format!("{operation}/wait"), &[], b"");
            },
        },
    ]
}

fn plan(daemon: &Larderd) -> PathBuf {
    daemon.scratch().join("crash-plan")
}

fn started(lab: &Lab) -> Larderd {
    let daemon = Larderd::start();
    for name in ["p1", "p2"] {
        let body = json!({ "name": name, "driver": lab.driver, "config": (lab.config)() });
        daemon.change("POST", "/1.0/storage-pools", &body);
    }
    daemon
}

fn prepared(lab: &Lab, story: &Story) -> Larderd {
    let mut daemon = started(lab);
    let disk = json!({ "name": "disk", "content_type": "block", "config": { "size": "1MiB" } });
    daemon.change("POST", VOLUMES, &disk);
    let file = folder(&daemon, "p1", "disk").join("root.img");
    std::fs::File::options()
        .write(true)
        .open(file)
        .and_then(|file| file.write_all_at(b"disk", 8192))
        .unwrap();
    for name in ["v1", "other"] {
        daemon.change("POST", VOLUMES, &json!({ "name": name, "config": {} }));
        let folder = folder(&daemon, "p1", name);
        for snapshot in ["s0", "s1"] {
            std::fs::write(folder.join("file"), format!("{name} {snapshot}")).unwrap();
            daemon.change("POST", &format!("{VOLUMES}/{name}/snapshots"), &json!({ "name": snapshot }));
        }
        std::fs::write(folder.join("file"), format!("{name} now")).unwrap();
    }
    daemon.change(
        "POST",
        &format!("{VOLUMES}/v1/backups"),
        &json!({ "name": "b", "compression_algorithm": "none" }),
    );
    let backup = daemon.get(&format!("{VOLUMES}/v1/backups/b/export"));
    daemon.change("DELETE", &format!("{VOLUMES}/v1/backups/b"), &Value::Null);
    std::fs::write(daemon.scratch().join("backup.tar"), &backup.body).unwrap();
    (story.prepare)(&daemon);
    daemon.stop();
    let plan = plan(&daemon);
    std::fs::write(&plan, "").unwrap();
    daemon.spawn(&[("LARDER_CRASH_PLAN", plan.to_str().unwrap())]);
    daemon
}

fn folder(daemon: &Larderd, pool: &str, volume: &str) -> PathBuf {
    daemon.directory().join("storage-pools").join(pool).join("custom").join(format!("default_{volume}"))
}

fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let read = |entry: std::fs::DirEntry| {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        let mut hash = DefaultHasher::new();
        bytes.hash(&mut hash);
        let told = format!("{} bytes, {:x}", bytes.len(), hash.finish());
        (entry.file_name().to_string_lossy().into_owned(), told)
    };
    entries.flatten().map(read).collect()
}

/// What the API says, each with what the pool has for it; fails when they differ.
fn seen(daemon: &Larderd) -> Seen {
    let mut seen = Seen::new();
    for pool in ["p1", "p2"] {
        let root = daemon.directory().join("storage-pools").join(pool);
        let mut on_disk: Vec<String> = Vec::new();
        for kind in ["custom", "custom-snapshots"] {
            for entry in std::fs::read_dir(root.join(kind)).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().replacen("default_", "", 1);
                match kind {
                    "custom" => on_disk.push(name),
                    _ => on_disk.extend(
                        std::fs::read_dir(entry.path())
                            .into_iter()
                            .flatten()
                            .flatten()
                            .map(|snapshot| format!("{name}/{}", snapshot.file_name().to_string_lossy())),
                    ),
                }
            }
        }
        let listed = daemon.read(&format!("/1.0/storage-pools/{pool}/volumes/custom?recursion=1"));
        let sizes: BTreeMap<_, _> = (listed.as_array().unwrap().iter())
            .filter_map(|item| Some((item["name"].as_str()?, item["config"]["size"].as_str()?)))
            .collect();
        let mut in_catalog: Vec<String> =
            listed.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect();
        in_catalog.sort();
        on_disk.sort();
        assert_eq!(in_catalog, on_disk, "catalog and pool {pool} disagree");
        for name in in_catalog {
            let path = match name.split_once('/') {
                Some((volume, snapshot)) => {
                    root.join("custom-snapshots").join(format!("default_{volume}")).join(snapshot)
                }
                None => root.join("custom").join(format!("default_{name}")),
            };
            let mut told = files(&path);
            told.extend(sizes.get(name.as_str()).map(|size| ("(size)".to_owned(), (*size).to_owned())));
            seen.insert(format!("{pool} {name}"), told);
        }
        for area in ["staging", "trash"] {
            let left: Vec<_> = std::fs::read_dir(root.join(".larder").join(area))
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .collect();
            assert!(left.is_empty(), "left behind: {left:?}");
        }
    }
    seen
}

/// Runs one story with a plan; whether the daemon died of it.
fn crash(lab: &Lab, story: &Story, words: &str, before: &Seen, goal: &Seen) -> bool {
    let mut daemon = prepared(lab, story);
    assert_eq!(&seen(&daemon), before, "the preparation differs");
    std::fs::write(plan(&daemon), words).unwrap();
    (story.act)(&daemon);
    let hit = std::fs::read_to_string(plan(&daemon)).unwrap_or_default().starts_with("hit");
    if !hit {
        return false;
    }
    assert!(daemon.wait_for_its_end(Duration::from_secs(10)), "{}: {words}: the daemon lives", story.name);
    daemon.spawn(&[]);
    let after = seen(&daemon);
    assert!(
        &after == before || &after == goal,
        "{} at {words}: neither before nor after:\n{after:#?}\nbefore: {before:#?}\ngoal: {goal:#?}",
        story.name
    );
    // And it goes on working.
    daemon.change("POST", VOLUMES, &json!({ "name": "later", "config": {} }));
    daemon.change("DELETE", &format!("{VOLUMES}/other"), &Value::Null);
    true
}

fn tell_all(lab: &Lab) {
    let mut hits = 0;
    let is_told = |story: &Story| lab.stories.is_empty() || lab.stories.contains(&story.name);
    for story in stories().into_iter().filter(is_told) {
        let daemon = prepared(lab, &story);
        let before = seen(&daemon);
        (story.act)(&daemon);
        let goal = seen(&daemon);
        assert_ne!(before, goal, "{}: the story changes nothing", story.name);
        drop(daemon);
        let points = POINTS
            .iter()
            .filter(|point| crash(lab, &story, &format!("point {point}"), &before, &goal))
            .count();
        assert!(points > 0, "{}: no point was hit", story.name);
        let mut step = 0;
        while crash(lab, &story, &format!("step {step}"), &before, &goal) {
            step += 1;
        }
        let is_of_the_catalog = lab.of_the_catalog.contains(&story.name);
        assert_eq!(step == 0, is_of_the_catalog, "{}: {step} steps were hit", story.name);
        hits += points + step;
    }
    assert!(hits > 40, "only {hits} crashes");
}

#[test]
fn a_killed_daemon_leaves_all_or_nothing() {
    tell_all(&DIR);
}

#[test]
fn a_killed_daemon_leaves_all_or_nothing_on_btrfs() {
    if require("a_killed_daemon_leaves_all_or_nothing_on_btrfs", &["mkfs.btrfs"]) {
        tell_all(&BTRFS);
    }
}

/// How many programs carry a stream from or into a folder.
fn streams_below(folder: &Path) -> usize {
    let folder = folder.to_string_lossy();
    let commands = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let commands = commands.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    commands.filter(|command| command.contains("btrfs\0") && command.contains(&*folder)).count()
}

/// Nothing of a program that goes on alone may come out after the next start has swept.
#[test]
fn a_daemon_killed_while_a_stream_flows_leaves_nothing() {
    let test = "a_daemon_killed_while_a_stream_flows_leaves_nothing";
    if !require(test, &["mkfs.btrfs", "btrfs"]) {
        return;
    }
    let mut daemon = started(&Lab { config: || json!({ "size": "512MiB" }), ..BTRFS });
    daemon.change("POST", VOLUMES, &json!({ "name": "v1", "config": {} }));
    let noise: Vec<u8> =
        (0..1_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    for number in 0..48 {
        std::fs::write(folder(&daemon, "p1", "v1").join(format!("file{number}")), &noise).unwrap();
    }
    daemon.change("POST", &format!("{VOLUMES}/v1/snapshots"), &json!({ "name": "s0" }));
    const TARGET: &str = "/1.0/storage-pools/p2/volumes/custom";
    let before = seen(&daemon);
    let copy = json!({ "name": "new", "source": { "type": "copy", "name": "v1", "pool": "p1" } });
    daemon.change("POST", TARGET, &copy);
    assert_eq!(files(&folder(&daemon, "p2", "new")), files(&folder(&daemon, "p1", "v1")));
    let goal = seen(&daemon);
    daemon.change("DELETE", &format!("{TARGET}/new"), &Value::Null);
    let mut cut = 0;
    for pause in [0, 10, 50, 200] {
        let (socket, body) = (daemon.socket(), copy.to_string());
        let asking = std::thread::spawn(move || {
            let _ = request(&socket, "POST", TARGET, &[], body.as_bytes());
        });
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while streams_below(&daemon.directory()) < 2 {
            assert!(std::time::Instant::now() < deadline, "no stream flows");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(pause));
        daemon.kill();
        let _ = asking.join();
        daemon.spawn(&[]);
        assert_eq!(streams_below(&daemon.directory()), 0, "a stream goes on without its daemon");
        let after = seen(&daemon);
        // A quick machine has made the whole copy before the later kills.
        if after == goal {
            daemon.change("DELETE", &format!("{TARGET}/new"), &Value::Null);
        } else {
            assert!(after == before, "after {pause} ms there is {:?}", after.keys().collect::<Vec<_>>());
            cut += 1;
        }
    }
    assert!(cut > 0, "every copy was complete before the daemon was killed");
    daemon.change("POST", TARGET, &copy);
    assert_eq!(seen(&daemon), goal);
}
