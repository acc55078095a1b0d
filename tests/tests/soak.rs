//! Many clients do random things to volumes at once, each against a plain model of its own; some names they fight over.
//! Nothing may diverge, and nothing may be left.
//!
//! `LARDER_SOAK_SECONDS` (10), `LARDER_SOAK_CLIENTS` (6), `LARDER_SOAK_DRIVER` (every driver that works here),
//! `LARDER_SOAK_SEED` (printed), and `LARDER_SOAK_CONFIG` (the pool's keys as JSON) say otherwise. `make soak DRIVER=btrfs`
//! is the long one.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test panics to fail, and tells its seed")]

use larder_tests::{Larderd, drivers, files_in, number, pool_config, request, tar};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const VOLUMES: &str = "/1.0/storage-pools/soak/volumes/custom";
/// How many volumes a client has at most.
const MANY: usize = 6;

/// What a volume should be: what its marker says, and what those of its snapshots say, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Volume {
    marker: String,
    snapshots: Vec<(String, String)>,
}

/// Numbers that look random and come again with the same seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % limit
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

struct Client<'a> {
    daemon: &'a Larderd,
    driver: &'a str,
    number: u64,
    random: Random,
    volumes: BTreeMap<String, Volume>,
    /// So that no name and no marker comes twice.
    made: u64,
    done: &'a AtomicU64,
}

impl Client<'_> {
    fn new_name(&mut self, what: &str) -> String {
        self.made += 1;
        format!("{what}{}-{}", self.number, self.made)
    }

    fn some_volume(&mut self) -> Option<String> {
        let names: Vec<String> = self.volumes.keys().cloned().collect();
        if names.is_empty() { None } else { Some(self.random.pick(&names).clone()) }
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..=2 => self.import(),
            3..=5 => self.copy(),
            6..=8 => self.snapshot(),
            9..=10 => self.delete_snapshot(),
            11..=12 => self.restore(),
            13..=14 => self.rename(),
            15..=16 => self.delete(),
            17 => self.fight(),
            _ => {
                if let Some(name) = self.some_volume() {
                    self.check(&name);
                }
            }
        }
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    fn import(&mut self) {
        if self.volumes.len() >= MANY {
            return;
        }
        let name = self.new_name("v");
        let count = self.random.below(4);
        let snapshots = (0..count).map(|_| (self.new_name("s"), self.new_name("m"))).collect();
        let volume = Volume { marker: self.new_name("m"), snapshots };
        let headers = [("Content-Type", "application/octet-stream"), ("X-Incus-name", name.as_str())];
        let reply =
            request(&self.daemon.socket(), "POST", VOLUMES, &headers, &backup(&name, &volume)).unwrap();
        self.daemon.finish(&reply).unwrap();
        self.volumes.insert(name, volume);
    }

    fn copy(&mut self) {
        let Some(from) = self.some_volume().filter(|_| self.volumes.len() < MANY) else { return };
        let (source, to) = (self.volumes[&from].clone(), self.new_name("v"));
        let (path, only, copy) = match source.snapshots.is_empty() {
            false if self.random.below(3) == 0 => {
                let (snapshot, marker) = self.random.pick(&source.snapshots).clone();
                (format!("{from}/{snapshot}"), true, Volume { marker, snapshots: Vec::new() })
            }
            _ if self.random.below(2) == 0 => (from, true, Volume { snapshots: Vec::new(), ..source }),
            _ => (from, false, source),
        };
        let source = json!({ "type": "copy", "name": path, "pool": "soak", "volume_only": only });
        self.daemon.change("POST", VOLUMES, &json!({ "name": to, "type": "custom", "source": source }));
        self.volumes.insert(to, copy);
    }

    fn snapshot(&mut self) {
        let Some(name) = self.some_volume() else { return };
        let snapshot = self.new_name("s");
        self.daemon.change("POST", &format!("{VOLUMES}/{name}/snapshots"), &json!({ "name": snapshot }));
        let volume = self.volumes.get_mut(&name).unwrap();
        volume.snapshots.push((snapshot, volume.marker.clone()));
    }

    fn delete_snapshot(&mut self) {
        let Some(name) = self.some_volume().filter(|name| !self.volumes[name].snapshots.is_empty()) else {
            return;
        };
        let at = self.random.below(self.volumes[&name].snapshots.len());
        let (snapshot, _) = self.volumes.get_mut(&name).unwrap().snapshots.remove(at);
        self.daemon.change("DELETE", &format!("{VOLUMES}/{name}/snapshots/{snapshot}"), &Value::Null);
    }

    fn restore(&mut self) {
        let Some(name) = self.some_volume().filter(|name| !self.volumes[name].snapshots.is_empty()) else {
            return;
        };
        let snapshots = &self.volumes[&name].snapshots;
        // zfs only goes back to the newest one, and not over a copy that was made since.
        let is_zfs = self.driver == "zfs";
        let (snapshot, marker) = match is_zfs {
            true => snapshots.last().unwrap().clone(),
            false => self.random.pick(snapshots).clone(),
        };
        let reply = self.daemon.send("PUT", &format!("{VOLUMES}/{name}"), &json!({ "restore": snapshot }));
        match self.daemon.finish(&reply) {
            Ok(_) => self.volumes.get_mut(&name).unwrap().marker = marker,
            Err(error) => {
                assert!(
                    is_zfs && error.contains("was copied since"),
                    "restoring {name} to {snapshot}: {error}"
                );
            }
        }
    }

    fn rename(&mut self) {
        let Some(from) = self.some_volume() else { return };
        let to = self.new_name("v");
        self.daemon.change("POST", &format!("{VOLUMES}/{from}"), &json!({ "name": to }));
        let volume = self.volumes.remove(&from).unwrap();
        self.volumes.insert(to, volume);
    }

    fn delete(&mut self) {
        let Some(name) = self.some_volume() else { return };
        self.daemon.change("DELETE", &format!("{VOLUMES}/{name}"), &Value::Null);
        self.volumes.remove(&name);
    }

    /// Does something to a name that all clients want. It may be refused, but only for a reason of the others'.
    fn fight(&mut self) {
        let (one, other) =
            (format!("shared-{}", self.random.below(3)), format!("shared-{}", self.random.below(3)));
        let at = format!("{VOLUMES}/{one}");
        let (method, path, body) = match self.random.below(6) {
            0 | 1 => ("POST", VOLUMES.to_owned(), json!({ "name": one, "type": "custom", "config": {} })),
            2 => ("DELETE", at, Value::Null),
            3 => ("POST", at, json!({ "name": other })),
            4 => ("POST", format!("{at}/snapshots"), json!({ "name": "s" })),
            _ => {
                let source = json!({ "type": "copy", "name": other, "pool": "soak" });
                ("POST", VOLUMES.to_owned(), json!({ "name": one, "type": "custom", "source": source }))
            }
        };
        let reply = self.daemon.send(method, &path, &body);
        let outcome = self.daemon.finish(&reply);
        let is_a_loss = |error: &str| {
            ["already exists", "not found", "somebody else", "in use", "is on the pool"]
                .iter()
                .any(|words| error.contains(words))
        };
        if let Err(error) = outcome {
            assert!(reply.status < 500 && is_a_loss(&error), "{method} {path} {body}: {error}");
        }
    }

    /// Compares a volume with the model: what is listed, and what is in it.
    fn check(&self, name: &str) {
        let wanted = &self.volumes[name];
        let listed = self.daemon.read(&format!("{VOLUMES}/{name}/snapshots"));
        let mut listed: Vec<&str> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|url| url.as_str().unwrap().rsplit('/').next().unwrap())
            .collect();
        let mut expected: Vec<&str> = wanted.snapshots.iter().map(|(name, _)| name.as_str()).collect();
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected, "the snapshots of {name}");
        let backups = format!("{VOLUMES}/{name}/backups");
        self.daemon.change("POST", &backups, &json!({ "name": "check", "compression_algorithm": "none" }));
        let exported = self.daemon.get(&format!("{backups}/check/export"));
        self.daemon.change("DELETE", &format!("{backups}/check"), &Value::Null);
        let mut expected: BTreeMap<String, String> = wanted
            .snapshots
            .iter()
            .map(|(snapshot, marker)| (format!("backup/volume-snapshots/{snapshot}/marker"), marker.clone()))
            .collect();
        expected.insert("backup/volume/marker".to_owned(), wanted.marker.clone());
        assert_eq!(markers(&exported.body), expected, "what is in {name}");
    }
}

/// A portable backup of a volume.
fn backup(name: &str, volume: &Volume) -> Vec<u8> {
    let names: Vec<&str> = volume.snapshots.iter().map(|(name, _)| name.as_str()).collect();
    let volume_snapshots: Vec<Value> = names
        .iter()
        .map(|name| json!({ "name": name, "content_type": "filesystem", "config": {}, "description": "" }))
        .collect();
    let about = json!({ "name": name, "type": "custom", "content_type": "filesystem", "config": {}, "description": "" });
    // JSON is YAML.
    let index = json!({
        "name": name, "backend": "dir", "pool": "elsewhere", "type": "custom", "optimized": false,
        "snapshots": names, "config": { "volume": about, "volume_snapshots": volume_snapshots },
    });
    let mut members = vec![("backup/index.yaml".to_owned(), index.to_string())];
    for (snapshot, marker) in &volume.snapshots {
        members.push((format!("backup/volume-snapshots/{snapshot}/"), String::new()));
        members.push((format!("backup/volume-snapshots/{snapshot}/marker"), marker.clone()));
    }
    members.push(("backup/volume/".to_owned(), String::new()));
    members.push(("backup/volume/marker".to_owned(), volume.marker.clone()));
    let members: Vec<(&str, &[u8])> =
        members.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    tar(&members)
}

/// The markers in an uncompressed backup, by their names.
fn markers(archive: &[u8]) -> BTreeMap<String, String> {
    let files = files_in(archive).into_iter().filter(|(name, _)| name.ends_with("/marker"));
    files.map(|(name, text)| (name, String::from_utf8_lossy(&text).into_owned())).collect()
}

#[test]
fn random_verbs_of_many_clients_never_diverge_and_leave_nothing() {
    let seconds = number("LARDER_SOAK_SECONDS", 10);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    let seed = number("LARDER_SOAK_SEED", u64::from(now));
    let mut daemon = Larderd::start();
    for driver in &drivers(&daemon) {
        println!("soak: {driver} for {seconds} s, LARDER_SOAK_SEED={seed}");
        soak(&daemon, driver, seed, Duration::from_secs(seconds));
    }
    let scratch = daemon.scratch().to_owned();
    daemon.stop();
    // The kernel lets go of a loop device a moment after its last user.
    let patience = Instant::now() + Duration::from_secs(10);
    while !leaks(&scratch).is_empty() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(leaks(&scratch), Vec::<String>::new());
}

fn soak(daemon: &Larderd, driver: &str, seed: u64, time: Duration) {
    let pool = json!({ "name": "soak", "driver": driver, "config": pool_config(driver, "3GiB") });
    daemon.change("POST", "/1.0/storage-pools", &pool);
    let clients = number("LARDER_SOAK_CLIENTS", 6);
    let (done, end) = (AtomicU64::new(0), Instant::now() + time);
    std::thread::scope(|scope| {
        for number in 0..clients {
            let random = Random(seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1);
            let volumes = BTreeMap::new();
            let mut client = Client { daemon, driver, number, random, volumes, made: 0, done: &done };
            scope.spawn(move || {
                while Instant::now() < end {
                    client.step();
                }
                for name in client.volumes.keys() {
                    client.check(name);
                }
                for name in client.volumes.keys() {
                    client.daemon.change("DELETE", &format!("{VOLUMES}/{name}"), &Value::Null);
                }
            });
        }
    });
    let verbs = done.into_inner();
    println!("soak: {verbs} verbs");
    assert!(verbs >= clients, "nothing was done");
    // The list has the snapshots as well, which go with their volumes.
    let left = daemon.read(VOLUMES);
    let urls = left.as_array().unwrap().iter().map(|url| url.as_str().unwrap());
    for url in urls.filter(|url| !url.contains("/snapshots/")) {
        let name = url.rsplit('/').next().unwrap();
        assert!(name.starts_with("shared-"), "{name} is left");
        daemon.change("DELETE", &format!("{VOLUMES}/{name}"), &Value::Null);
    }
    daemon.change("DELETE", "/1.0/storage-pools/soak", &Value::Null);
    assert_eq!(daemon.read("/1.0/warnings?recursion=1"), json!([]), "warnings");
}

/// Mounts, loop devices, device-mapper nodes and processes that still have something to do with a folder that is over.
fn leaks(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let entries =
        |path: &str| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<String> = read(Path::new("/proc/self/mountinfo"))
        .lines()
        .filter(|line| line.contains(folder))
        .map(|line| format!("mount {line}"))
        .collect();
    for device in entries("/sys/block") {
        let backing = read(&device.join("loop/backing_file"));
        if backing.contains(folder) {
            found.push(format!("loop device {} of {backing}", device.display()));
        }
        let name = read(&device.join("dm/name"));
        if name.starts_with("soak") {
            found.push(format!("device-mapper node {name}"));
        }
    }
    for process in entries("/proc").filter(|path| path.join("cmdline").exists()) {
        let command = read(&process.join("cmdline"));
        if command.contains(folder) {
            found.push(format!("process {}", command.replace('\0', " ")));
        }
    }
    found
}
