//! Two clients change one volume at the same moment: one wins, the other is told, and the pool holds what the catalog says.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, upload_small_image};
use serde_json::{Value, json};

const VOLUMES: &str = "/1.0/storage-pools/p/volumes/custom";
const ROUNDS: usize = 60;

/// Does both at once; how each ended.
fn at_once(daemon: &Larderd, requests: [(&str, &str, &Value); 2]) -> [Result<Value, String>; 2] {
    std::thread::scope(|scope| {
        let threads = requests
            .map(|(method, path, body)| scope.spawn(move || daemon.finish(&daemon.send(method, path, body))));
        threads.map(|thread| thread.join().unwrap())
    })
}

/// What there is below a folder of the pool.
fn on_the_pool(daemon: &Larderd, folder: &str) -> Vec<String> {
    let folder = daemon.directory().join("storage-pools/p").join(folder);
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn names(daemon: &Larderd, path: &str) -> Vec<String> {
    let listed = daemon.read(path);
    let mut names: Vec<String> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|url| url.as_str().unwrap().rsplit('/').next().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_volume_that_is_renamed_and_deleted_at_once_is_recorded_or_gone() {
    let daemon = Larderd::start();
    daemon.make_pool("p");
    let (mut renamed, mut deleted) = (0, 0);
    for round in 0..ROUNDS {
        let (old, new) = (format!("{VOLUMES}/v{round}"), json!({ "name": format!("w{round}") }));
        daemon.change("POST", VOLUMES, &json!({ "name": format!("v{round}"), "config": {} }));
        let ended = at_once(&daemon, [("POST", &old, &new), ("DELETE", &old, &Value::Null)]);
        let recorded: Vec<String> =
            names(&daemon, VOLUMES).iter().map(|name| format!("default_{name}")).collect();
        assert_eq!(on_the_pool(&daemon, "custom"), recorded, "after {ended:?}");
        assert!(ended.iter().any(Result::is_ok), "nobody won: {ended:?}");
        assert_eq!(recorded.is_empty(), ended[1].is_ok(), "{ended:?}");
        match recorded.is_empty() {
            true => deleted += 1,
            false => {
                renamed += 1;
                daemon.change("DELETE", &format!("{VOLUMES}/w{round}"), &Value::Null);
            }
        }
    }
    println!("{renamed} times the new name came first, {deleted} times the deletion");
    daemon.change("DELETE", "/1.0/storage-pools/p", &Value::Null);
}

#[test]
fn a_snapshot_that_is_renamed_and_deleted_at_once_is_recorded_or_gone() {
    let daemon = Larderd::start();
    daemon.make_pool("p");
    daemon.change("POST", VOLUMES, &json!({ "name": "v", "config": {} }));
    let snapshots = format!("{VOLUMES}/v/snapshots");
    for round in 0..ROUNDS {
        let (old, new) = (format!("{snapshots}/s{round}"), json!({ "name": format!("t{round}") }));
        daemon.change("POST", &snapshots, &json!({ "name": format!("s{round}") }));
        let ended = at_once(&daemon, [("POST", &old, &new), ("DELETE", &old, &Value::Null)]);
        let recorded = names(&daemon, &snapshots);
        assert_eq!(on_the_pool(&daemon, "custom-snapshots/default_v"), recorded, "after {ended:?}");
        assert!(ended.iter().any(Result::is_ok), "nobody won: {ended:?}");
        for name in recorded {
            daemon.change("DELETE", &format!("{snapshots}/{name}"), &Value::Null);
        }
    }
}

/// A daemon with an instance `c` that has a profile `n0`.
fn with_a_profile() -> Larderd {
    let daemon = Larderd::start();
    daemon.make_pool("p");
    let root = json!({ "root": { "type": "disk", "path": "/", "pool": "p" } });
    daemon.change("POST", "/1.0/profiles", &json!({ "name": "n0" }));
    let source = json!({ "type": "image", "fingerprint": upload_small_image(&daemon) });
    let new = json!({ "name": "c", "source": source, "profiles": ["n0"], "devices": root });
    daemon.change("POST", "/1.0/instances", &new);
    daemon
}

#[test]
fn a_profile_that_is_renamed_while_an_instance_gets_it_back_keeps_its_name() {
    let daemon = with_a_profile();
    daemon.change("POST", "/1.0/instances/c/snapshots", &json!({ "name": "s0" }));
    let mut name = "n0".to_owned();
    for round in 1..ROUNDS {
        // Every other time the instance has the profile now, too.
        let kept = if round % 2 == 0 { json!([]) } else { json!([name]) };
        daemon.change("PATCH", "/1.0/instances/c", &json!({ "profiles": kept, "description": "now" }));
        let renamed = format!("n{round}");
        let path = format!("/1.0/profiles/{name}");
        let (rename, restore) = (json!({ "name": renamed }), json!({ "restore": "s0" }));
        let [named, restored] =
            at_once(&daemon, [("POST", &path, &rename), ("PUT", "/1.0/instances/c", &restore)]);
        assert_eq!(restored.err(), None);
        match named {
            Ok(_) => name = renamed,
            Err(error) => assert!(error.contains("somebody else changed it"), "{error}"),
        }
        let now = daemon.read("/1.0/instances/c");
        assert_eq!((&now["profiles"], &now["description"]), (&json!([name]), &json!("")));
    }
}

#[test]
fn a_profile_that_is_renamed_while_its_instance_is_changed_keeps_its_name() {
    let daemon = with_a_profile();
    let (mut name, mut taken) = ("n0".to_owned(), Vec::new());
    for round in 1..ROUNDS {
        let (renamed, key) = (format!("n{round}"), format!("user.r{round}"));
        let path = format!("/1.0/profiles/{name}");
        let (rename, change) = (json!({ "name": renamed }), json!({ "config": { &key: "yes" } }));
        let ended = at_once(&daemon, [("POST", &path, &rename), ("PATCH", "/1.0/instances/c", &change)]);
        let mut refused = ended.iter().filter_map(|outcome| outcome.as_ref().err());
        let told = |error: &&String| error.contains("somebody else changed it");
        assert_eq!(refused.find(|error| !told(error)), None);
        if ended[0].is_ok() {
            name = renamed;
        }
        if ended[1].is_ok() {
            taken.push(key);
        }
        assert!(ended.iter().any(Result::is_ok), "nobody won: {ended:?}");
        let now = daemon.read("/1.0/instances/c");
        assert_eq!(now["profiles"], json!([name]), "after {ended:?}");
        let lost = taken.iter().find(|key| now["config"][key.as_str()] != "yes");
        assert_eq!(lost, None, "after {ended:?}");
    }
}
