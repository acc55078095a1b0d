//! Operations and events over the socket.

use larder_tests::{Larderd, WebSocket};
use serde_json::{Value, json};

const VOLUMES: &str = "/1.0/storage-pools/p1/volumes/custom";

fn started() -> Larderd {
    let daemon = Larderd::start();
    daemon.make_pool("p1");
    daemon
}

fn make_volume(daemon: &Larderd, name: &str) {
    daemon.change("POST", VOLUMES, &json!({ "name": name, "type": "custom", "config": {} }));
}

#[test]
fn what_is_committed_is_told_in_order() {
    let daemon = started();
    let mut events = WebSocket::open(&daemon.socket(), "/1.0/events?type=lifecycle").unwrap();
    // The listener stands before the upgrade is answered: nothing that follows is missed.
    make_volume(&daemon, "v1");
    daemon.change("POST", &format!("{VOLUMES}/v1"), &json!({ "name": "v2" }));
    daemon.change("POST", &format!("{VOLUMES}/v2/snapshots"), &json!({ "name": "s0" }));
    daemon.change("DELETE", &format!("{VOLUMES}/v2"), &Value::Null);
    let told: Vec<Value> = (0..4).map(|_| events.next_json().unwrap()).collect();
    let actions: Vec<&str> = told.iter().map(|event| event["metadata"]["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        [
            "storage-volume-created",
            "storage-volume-renamed",
            "storage-volume-snapshot-created",
            "storage-volume-deleted",
        ]
    );
    let renamed = &told[1];
    assert_eq!(renamed["type"], "lifecycle");
    assert_eq!(renamed["project"], "default");
    assert_eq!(renamed["metadata"]["source"], format!("{VOLUMES}/v2"));
    assert_eq!(renamed["metadata"]["context"]["old_name"], "v1");
    assert_eq!(renamed["metadata"]["requestor"]["protocol"], "unix");
    assert_eq!(renamed["metadata"]["requestor"]["username"], "root");
}

#[test]
fn a_refused_request_tells_of_nothing() {
    let daemon = started();
    let mut events = WebSocket::open(&daemon.socket(), "/1.0/events?type=lifecycle").unwrap();
    daemon.refuse("POST", VOLUMES, &json!({ "name": "v1", "config": { "size": "huge" } }));
    make_volume(&daemon, "v2");
    let first = events.next_json().unwrap();
    assert_eq!(first["metadata"]["name"], "v2", "{first}");
}

#[test]
fn an_operation_is_told_of_from_beginning_to_end() {
    let daemon = started();
    make_volume(&daemon, "v1");
    let mut events = WebSocket::open(&daemon.socket(), "/1.0/events?type=operation").unwrap();
    let source = json!({ "type": "copy", "name": "v1", "pool": "p1" });
    let reply = daemon.send("POST", VOLUMES, &json!({ "name": "v2", "source": source }));
    assert_eq!(reply.status, 202);
    let url = reply.json()["operation"].as_str().unwrap().to_owned();
    assert_eq!(reply.header("location"), Some(url.as_str()));
    let id = url.rsplit('/').next().unwrap().to_owned();
    let mut codes = Vec::new();
    while codes.last() != Some(&200) {
        let event = events.find(|event| event["metadata"]["id"] == id.as_str()).expect("the end");
        codes.push(event["metadata"]["status_code"].as_u64().unwrap());
    }
    codes.dedup();
    assert_eq!(codes, [105, 103, 200]);
    let ended = daemon.read(&url);
    assert_eq!(ended["class"], "task");
    assert_eq!(ended["metadata"]["entity_url"], format!("{VOLUMES}/v2"));
    assert_eq!(ended["resources"]["storage_volumes"], json!([format!("{VOLUMES}/v2")]));
    let listed = daemon.read("/1.0/operations");
    assert!(listed["success"].as_array().is_some_and(|urls| urls.contains(&json!(url))), "{listed}");
}

#[test]
fn a_failure_is_the_operations_and_waiting_still_succeeds() {
    let daemon = started();
    make_volume(&daemon, "v1");
    let (status, text) =
        daemon.refuse("POST", &format!("{VOLUMES}/v1/backups"), &json!({ "compression_algorithm": "zip" }));
    assert!((400..500).contains(&status) || status == 202, "{status}");
    assert!(text.contains("zip"), "{text}");
    for (path, code) in [
        ("/1.0/operations/nonsense", 404),
        ("/1.0/operations/00000000-0000-0000-0000-000000000000", 404),
        ("/1.0/operations/00000000-0000-0000-0000-000000000000/wait", 404),
        ("/1.0/operations?project=none", 404),
        ("/1.0/events?type=gossip", 400),
        ("/1.0/events?project=none&type=lifecycle", 404),
        ("/1.0/events?project=default&all-projects=true", 400),
        ("/1.0/events", 400),
    ] {
        assert_eq!(daemon.get(path).status, code, "{path}");
    }
    assert_eq!(WebSocket::open(&daemon.socket(), "/1.0/events?type=gossip").err(), Some(400));
}

#[test]
fn events_of_other_projects_are_told_only_on_request() {
    let daemon = started();
    daemon.change("POST", "/1.0/projects", &json!({ "name": "blue", "config": {} }));
    let mut own = WebSocket::open(&daemon.socket(), "/1.0/events?type=lifecycle").unwrap();
    let mut all = WebSocket::open(&daemon.socket(), "/1.0/events?type=lifecycle&all-projects=true").unwrap();
    daemon.change("POST", &format!("{VOLUMES}?project=blue"), &json!({ "name": "hidden", "config": {} }));
    make_volume(&daemon, "seen");
    assert_eq!(own.next_json().unwrap()["metadata"]["name"], "seen");
    assert_eq!(all.next_json().unwrap()["metadata"]["name"], "hidden");
}
