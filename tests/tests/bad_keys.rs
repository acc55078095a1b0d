//! Bad input for every key of every driver, over the real daemon: 400, the key is named, and nothing is changed.
//!
//! Which keys there are, of which type and whether they may change, is asked of the daemon itself
//! (`/1.0/metadata/configuration`). `LARDER_TEST_POOLS` (JSON: keys of a pool by driver) adds drivers that need more than
//! a size.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, skip};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const POOLS: &str = "/1.0/storage-pools";
const VOLUMES: &str = "/1.0/storage-pools/p1/volumes/custom";

/// A key as the daemon tells it.
#[derive(Debug, Clone)]
struct Key {
    name: String,
    kind: String,
    /// What a value must be, in words; empty for any text.
    wanted: String,
    may_change: bool,
}

#[derive(Debug, Clone, Default)]
struct Keys {
    pool: Vec<Key>,
    volume: Vec<Key>,
}

impl Key {
    /// A value that is wrong for its type.
    fn wrong(&self) -> &'static str {
        match self.kind.as_str() {
            "string" if self.wanted.is_empty() => "a\0b",
            _ => "no such value",
        }
    }

    /// A value that is right for its type, and is not `now`.
    fn another(&self, now: Option<&str>) -> String {
        let words = self.wanted.strip_prefix("It must be one of ").unwrap_or_default();
        let words =
            words.trim_end_matches('.').split(", ").map(str::to_owned).filter(|word| !word.is_empty());
        let others = ["true", "false", "2", "3", "64KiB", "128KiB", "/elsewhere", "0750", "elsewhere"];
        let is_right = |value: &String| match self.kind.as_str() {
            "bool" => value == "true" || value == "false",
            "integer" => value.parse::<u32>().is_ok(),
            _ if self.wanted.contains("octal") => value.starts_with('0'),
            _ if self.wanted.contains("absolute path") => value.starts_with('/'),
            _ if self.wanted.contains("size") || self.wanted.contains("power") => value.ends_with("KiB"),
            _ => value.parse::<u32>().is_err(),
        };
        let all = words.chain(others.into_iter().map(str::to_owned).filter(is_right));
        all.into_iter().find(|value| now != Some(value.as_str())).unwrap()
    }
}

fn keys_of_all(daemon: &Larderd) -> BTreeMap<String, Keys> {
    let told = daemon.read("/1.0/metadata/configuration");
    let group = |group: &Value| -> Vec<Key> {
        let entries = group["keys"].as_array().into_iter().flatten();
        let entries = entries.flat_map(|entry| entry.as_object().unwrap());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = |(name, told): (&String, &Value)| Key {
            name: name.clone(),
            kind: text(&told["type"]),
            wanted: text(&told["longdesc"]),
            may_change: told["liveupdate"] == "yes",
        };
        entries.map(key).collect()
    };
    let groups = told["configs"].as_object().unwrap().iter();
    let of_drivers = groups.filter_map(|(name, groups)| Some((name.strip_prefix("storage-")?, groups)));
    of_drivers
        .map(|(driver, groups)| {
            let (pool, volume) = (group(&groups["pool-conf"]), group(&groups["volume-conf"]));
            assert!(!pool.is_empty() && !volume.is_empty(), "{driver} has no keys");
            (driver.to_owned(), Keys { pool, volume })
        })
        .collect()
}

/// Keys of a pool of each driver that can be had here.
fn pools_here(daemon: &Larderd) -> BTreeMap<String, Value> {
    let mut pools =
        BTreeMap::from([("dir".to_owned(), json!({})), ("btrfs".to_owned(), json!({ "size": "256MiB" }))]);
    let more: BTreeMap<String, Value> =
        serde_json::from_str(&std::env::var("LARDER_TEST_POOLS").unwrap_or("{}".to_owned())).unwrap();
    pools.extend(more);
    let server = daemon.read("/1.0");
    let supported = server["environment"]["storage_supported_drivers"].as_array().unwrap();
    pools.retain(|name, _| supported.iter().any(|driver| driver["Name"] == name.as_str()));
    pools
}

/// A daemon with a pool and a volume of the driver, and what must stay as it is.
struct Bench {
    daemon: Larderd,
    driver: String,
    tried: usize,
}

impl Bench {
    fn new(driver: &str, config: &Value) -> Self {
        let daemon = Larderd::start();
        daemon.change("POST", POOLS, &json!({ "name": "p1", "driver": driver, "config": config }));
        daemon.change("POST", VOLUMES, &json!({ "name": "v1", "config": { "user.note": "kept" } }));
        Self { daemon, driver: driver.to_owned(), tried: 0 }
    }

    /// All that the API says of pools and volumes, and what there is on disk.
    fn seen(&self) -> (Value, Value, BTreeSet<std::path::PathBuf>) {
        let pools = self.daemon.read(&format!("{POOLS}?recursion=1"));
        let volumes = self.daemon.read(&format!("{VOLUMES}?recursion=1"));
        let below = |folder: &str| {
            let entries = std::fs::read_dir(self.daemon.directory().join(folder)).into_iter().flatten();
            entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>()
        };
        let folders = ["disks", "storage-pools", "storage-pools/p1", "storage-pools/p1/custom"];
        let areas = ["staging", "trash"].map(|area| format!("storage-pools/p1/.larder/{area}"));
        let disk = folders.into_iter().map(str::to_owned).chain(areas);
        (pools, volumes, disk.flat_map(|folder| below(&folder)).collect())
    }

    /// Asks for one wrong thing in one way.
    fn must_refuse(&mut self, method: &str, path: &str, body: &Value, name: &str) {
        self.tried += 1;
        let (code, text) = self.daemon.refuse(method, path, body);
        let case = format!("{}: {method} {path} {body}", self.driver);
        assert_eq!(code, 400, "{case}: {text}");
        assert!(text.contains(name), "{case}: {name} is not named: {text}");
    }

    fn new_pool(&mut self, name: &str, value: &str) {
        let body = json!({ "name": "p2", "driver": self.driver, "config": { name: value } });
        self.must_refuse("POST", POOLS, &body, name);
    }

    fn change_pool(&mut self, name: &str, value: &str) {
        self.must_refuse("PATCH", &format!("{POOLS}/p1"), &json!({ "config": { name: value } }), name);
    }

    fn new_volume(&mut self, name: &str, value: &str) {
        self.must_refuse("POST", VOLUMES, &json!({ "name": "v2", "config": { name: value } }), name);
    }

    fn change_volume(&mut self, name: &str, value: &str) {
        self.must_refuse("PATCH", &format!("{VOLUMES}/v1"), &json!({ "config": { name: value } }), name);
        let all = json!({ "config": { "user.note": "kept", name: value }, "description": "" });
        self.must_refuse("PUT", &format!("{VOLUMES}/v1"), &all, name);
    }

    fn wrong_pool_key(&mut self, name: &str, value: &str) {
        self.new_pool(name, value);
        self.change_pool(name, value);
    }

    fn wrong_volume_key(&mut self, name: &str, value: &str) {
        self.new_volume(name, value);
        self.change_volume(name, value);
        self.wrong_pool_key(&format!("volume.{name}"), value);
    }

    fn try_all(&mut self, all: &BTreeMap<String, Keys>) {
        let own = all[&self.driver].clone();
        for key in &own.pool {
            self.wrong_pool_key(&key.name, key.wrong());
        }
        for key in &own.volume {
            self.wrong_volume_key(&key.name, key.wrong());
        }
        self.wrong_pool_key("no.such.key", "1");
        self.wrong_volume_key("no.such.key", "1");
        for other in all.values() {
            for key in other.pool.iter().filter(|key| own.pool.iter().all(|known| known.name != key.name)) {
                self.wrong_pool_key(&key.name, "1");
            }
            for key in other.volume.iter().filter(|key| own.volume.iter().all(|known| known.name != key.name))
            {
                self.wrong_volume_key(&key.name, "1");
            }
        }
        self.change_what_stays(&own);
    }

    /// What may not change after creation.
    fn change_what_stays(&mut self, own: &Keys) {
        let (pool, volume) =
            (self.daemon.read(&format!("{POOLS}/p1")), self.daemon.read(&format!("{VOLUMES}/v1")));
        for key in own.pool.iter().filter(|key| !key.may_change) {
            self.change_pool(&key.name, &key.another(pool["config"][&key.name].as_str()));
        }
        for key in own.volume.iter().filter(|key| !key.may_change) {
            self.change_volume(&key.name, &key.another(volume["config"][&key.name].as_str()));
        }
    }
}

#[test]
fn bad_input_is_refused_named_and_changes_nothing() {
    let daemon = Larderd::start();
    let (all, pools) = (keys_of_all(&daemon), pools_here(&daemon));
    drop(daemon);
    for driver in all.keys().filter(|driver| !pools.contains_key(*driver)) {
        skip(
            &format!("bad_input_is_refused_named_and_changes_nothing ({driver})"),
            "not here, or no LARDER_TEST_POOLS",
        );
    }
    assert!(pools.contains_key("dir"), "{pools:?}");
    for (driver, config) in pools {
        let mut bench = Bench::new(&driver, &config);
        let before = bench.seen();
        bench.try_all(&all);
        assert_eq!(bench.seen(), before, "{driver}: something changed");
        assert!(bench.tried > 200, "{driver}: only {} tries", bench.tried);
    }
}
