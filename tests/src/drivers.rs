//! The drivers that a test tries: the one that `LARDER_SOAK_DRIVER` names, whose pool has the keys in `LARDER_SOAK_CONFIG`, or
//! every local one that works here.

use crate::server::Larderd;
use serde_json::{Value, json};

/// A variable of the environment that says something.
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A number in the environment, or another one where it has none.
///
/// # Panics
/// When it is no number.
pub fn number(name: &str, otherwise: u64) -> u64 {
    let parse = |text: String| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"));
    setting(name).map_or(otherwise, parse)
}

/// The names of the drivers.
///
/// # Panics
/// When there is none.
pub fn drivers(daemon: &Larderd) -> Vec<String> {
    if let Some(driver) = setting("LARDER_SOAK_DRIVER") {
        return vec![driver];
    }
    let supported = daemon.read("/1.0")["environment"]["storage_supported_drivers"].clone();
    let local = supported.as_array().into_iter().flatten().filter(|driver| driver["Remote"] != true);
    let names: Vec<_> = local.filter_map(|driver| driver["Name"].as_str()).map(str::to_owned).collect();
    assert!(!names.is_empty(), "no driver works here");
    names
}

/// What a pool of a driver is made with; `size` where nothing is said and it has one.
///
/// # Panics
/// When what is said is no JSON.
pub fn pool_config(driver: &str, size: &str) -> Value {
    match setting("LARDER_SOAK_CONFIG") {
        Some(text) => {
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("LARDER_SOAK_CONFIG: {error}"))
        }
        None if driver == "dir" => json!({}),
        None => json!({ "size": size }),
    }
}

/// Runs a trial on a daemon that has a pool `here` of each driver in turn, and a dir pool `plain`; deletes then what the trial
/// left in them.
pub fn with_each_driver(mut trial: impl FnMut(&mut Larderd, &str)) {
    let mut daemon = Larderd::start();
    daemon.make_pool("plain");
    for driver in drivers(&daemon) {
        let pool = json!({ "name": "here", "driver": driver, "config": pool_config(&driver, "1GiB") });
        daemon.change("POST", "/1.0/storage-pools", &pool);
        trial(&mut daemon, &driver);
        for kept in ["here/volumes/custom", "here/buckets", "plain/volumes/custom", "plain/buckets"] {
            let listed = daemon.read(&format!("/1.0/storage-pools/{kept}"));
            let urls = listed.as_array().into_iter().flatten().filter_map(Value::as_str);
            for url in urls.filter(|url| !url.contains("/snapshots/")) {
                daemon.change("DELETE", url, &Value::Null);
            }
        }
        daemon.change("DELETE", "/1.0/storage-pools/here", &Value::Null);
    }
}
