//! Profiles over the socket: their life, their projects, good and bad input.

use larder_tests::{Larderd, WebSocket, request};
use serde_json::{Value, json};

const PROFILES: &str = "/1.0/profiles";

fn root(pool: &str) -> Value {
    json!({ "root": { "path": "/", "pool": pool, "type": "disk" } })
}

fn make(daemon: &Larderd, path: &str, name: &str) {
    daemon.change("POST", path, &json!({ "name": name, "config": {}, "devices": {} }));
}

#[test]
fn a_new_server_has_a_default_profile_with_a_root_disk() {
    let daemon = Larderd::start();
    assert_eq!(daemon.read(PROFILES), json!(["/1.0/profiles/default"]));
    let profile = daemon.read(&format!("{PROFILES}/default"));
    assert_eq!((&profile["devices"], &profile["config"]), (&root("default"), &json!({})));
    assert_eq!((&profile["used_by"], &profile["project"]), (&json!([]), &json!("default")));
    let extensions = daemon.read("/1.0")["api_extensions"].to_string();
    assert!(extensions.contains("\"profiles_all_projects\""), "{extensions}");
}

#[test]
fn a_profile_lives_its_life() {
    let mut daemon = Larderd::start();
    let new = json!({
        "name": "small",
        "description": "for little things",
        "config": { "limits.memory": "1GiB", "user.note": "" },
        "devices": root("default"),
    });
    let reply = daemon.send("POST", PROFILES, &new);
    assert_eq!(
        (reply.status, reply.header("location")),
        (201, Some("/1.0/profiles/small")),
        "{}",
        reply.error()
    );
    let path = format!("{PROFILES}/small");
    assert_eq!(daemon.read(&path)["config"], json!({ "limits.memory": "1GiB" }), "an empty value is none");

    let source = json!({ "path": "/data", "source": "/srv", "type": "disk" });
    let patch =
        json!({ "config": { "limits.memory": "", "limits.cpu": "2" }, "devices": { "data": source } });
    let reply = daemon.send("PATCH", &path, &patch);
    assert_eq!((reply.status, &reply.json()["type"]), (200, &json!("sync")), "{}", reply.error());
    let patched = daemon.read(&path);
    assert_eq!(patched["config"], json!({ "limits.cpu": "2" }));
    assert_eq!(patched["description"], "for little things");
    assert_eq!(patched["devices"].as_object().map(serde_json::Map::len), Some(2), "{patched}");

    daemon.change("PUT", &path, &json!({ "config": { "user.a": "b" }, "devices": {} }));
    let put = daemon.read(&path);
    assert_eq!(
        (&put["config"], &put["description"], &put["devices"]),
        (&json!({ "user.a": "b" }), &json!(""), &json!({}))
    );

    let reply = daemon.send("POST", &path, &json!({ "name": "tiny" }));
    assert_eq!(
        (reply.status, reply.header("location")),
        (201, Some("/1.0/profiles/tiny")),
        "{}",
        reply.error()
    );
    assert_eq!(daemon.get(&path).status, 404);
    daemon.stop();
    daemon.spawn(&[]);
    assert_eq!(daemon.read(&format!("{PROFILES}/tiny"))["config"], json!({ "user.a": "b" }));
    let found = daemon.read(&format!("{PROFILES}?recursion=1&filter=name%20eq%20tiny"));
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");

    let reply = daemon.send("DELETE", &format!("{PROFILES}/tiny"), &Value::Null);
    assert_eq!((reply.status, &reply.json()["type"]), (200, &json!("sync")), "{}", reply.error());
    assert_eq!(daemon.read(PROFILES), json!(["/1.0/profiles/default"]));
}

#[test]
fn what_happens_to_a_profile_is_told_in_order() {
    let daemon = Larderd::start();
    let mut events = WebSocket::open(&daemon.socket(), "/1.0/events?type=lifecycle").unwrap();
    make(&daemon, PROFILES, "small");
    daemon.change("PUT", &format!("{PROFILES}/small"), &json!({ "description": "x" }));
    daemon.change("POST", &format!("{PROFILES}/small"), &json!({ "name": "tiny" }));
    daemon.change("DELETE", &format!("{PROFILES}/tiny"), &Value::Null);
    let told: Vec<Value> = (0..4).map(|_| events.next_json().unwrap()["metadata"].clone()).collect();
    let actions: Vec<_> = told.iter().map(|event| event["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["profile-created", "profile-updated", "profile-renamed", "profile-deleted"]);
    assert_eq!(
        (&told[2]["source"], &told[2]["context"]["old_name"]),
        (&json!("/1.0/profiles/tiny"), &json!("small"))
    );
}

#[test]
fn an_etag_guards_against_lost_updates() {
    let daemon = Larderd::start();
    let path = format!("{PROFILES}/default");
    let etag = daemon.get(&path).header("etag").map(str::to_owned).expect("an ETag");
    let body = json!({ "description": "first", "config": {}, "devices": {} }).to_string();
    let put = |etag: &str| {
        let headers = [("Content-Type", "application/json"), ("If-Match", etag)];
        request(&daemon.socket(), "PUT", &path, &headers, body.as_bytes()).unwrap().status
    };
    assert_eq!(put("\"wrong\""), 412);
    assert_eq!(put(&etag), 200);
    assert_eq!(put(&etag), 412, "it has changed since");
}

#[test]
fn projects_have_profiles_of_their_own_or_share() {
    let daemon = Larderd::start();
    daemon.change("POST", "/1.0/projects", &json!({ "name": "blue", "config": {} }));
    let shared = json!({ "features.profiles": "false" });
    daemon.change("POST", "/1.0/projects", &json!({ "name": "green", "config": shared }));
    let (blue, green) = (format!("{PROFILES}?project=blue"), format!("{PROFILES}?project=green"));
    assert_eq!(daemon.read(&blue), json!(["/1.0/profiles/default?project=blue"]));
    assert_eq!(daemon.read(&format!("{PROFILES}/default?project=blue"))["devices"], json!({}));
    assert_eq!(daemon.read(&green), json!(["/1.0/profiles/default"]));

    make(&daemon, &green, "shared");
    assert_eq!(daemon.read(&format!("{PROFILES}/shared"))["project"], "default");
    let reply = daemon.send("POST", &blue, &json!({ "name": "own" }));
    assert_eq!(reply.header("location"), Some("/1.0/profiles/own?project=blue"), "{}", reply.error());
    assert_eq!(daemon.get(&format!("{PROFILES}/own")).status, 404);
    let everywhere = daemon.read(&format!("{PROFILES}?all-projects=true"));
    let all = ["own?project=blue", "default?project=blue", "default", "shared"]
        .map(|name| format!("{PROFILES}/{name}"));
    assert!(all.iter().all(|url| everywhere.to_string().contains(url.as_str())), "{everywhere}");
    assert_eq!(everywhere.as_array().map(Vec::len), Some(all.len()));

    let (code, text) = daemon.refuse("DELETE", "/1.0/projects/blue", &Value::Null);
    assert!(code == 400 && text.contains("/1.0/profiles/own"), "{code} {text}");
    daemon.change("DELETE", &format!("{PROFILES}/own?project=blue"), &Value::Null);
    daemon.change("PUT", &format!("{PROFILES}/default?project=blue"), &json!({ "devices": root("default") }));
    daemon.change("POST", "/1.0/projects/blue", &json!({ "name": "azure" }));
    let moved = "/1.0/profiles/default?project=azure";
    assert_eq!(daemon.read(moved)["devices"], root("default"), "it moves along with its project");
    assert_eq!(daemon.read("/1.0/projects/azure")["used_by"], json!([moved]));
    let listed = daemon.read("/1.0/projects?recursion=1&filter=name%20eq%20azure");
    assert_eq!(listed[0]["used_by"], json!([moved]), "{listed}");
    daemon.change("DELETE", "/1.0/projects/azure", &Value::Null);
    assert_eq!(daemon.get(moved).status, 404);
    let left = daemon.read(&format!("{PROFILES}?all-projects=true")).to_string();
    assert!(!left.contains("azure"), "its default profile went with it: {left}");
}

#[test]
fn a_project_gains_and_loses_its_default_profile_with_the_feature() {
    let daemon = Larderd::start();
    daemon.change("POST", "/1.0/projects", &json!({ "name": "blue", "config": {} }));
    let set = |value: &str| {
        daemon.change("PATCH", "/1.0/projects/blue", &json!({ "config": { "features.profiles": value } }));
        daemon.read(&format!("{PROFILES}?project=blue"))
    };
    assert_eq!(set("false"), json!(["/1.0/profiles/default"]));
    assert_eq!(daemon.read("/1.0/projects/blue")["used_by"], json!([]));
    assert_eq!(set("true"), json!(["/1.0/profiles/default?project=blue"]));
    make(&daemon, &format!("{PROFILES}?project=blue"), "own");
    let body = json!({ "config": { "features.profiles": "false" } });
    assert_eq!(daemon.refuse("PATCH", "/1.0/projects/blue", &body).0, 400);
}

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let daemon = Larderd::start();
    make(&daemon, PROFILES, "small");
    let before = daemon.read(&format!("{PROFILES}?recursion=1"));
    let (small, default) = (format!("{PROFILES}/small"), format!("{PROFILES}/default"));
    let all = PROFILES.to_owned();
    let disk = |name: &str, keys: Value| json!({ "name": "x", "devices": { name: keys } });
    let cases: Vec<(&str, &String, Value, u16, &str)> = vec![
        ("POST", &all, json!({ "name": "" }), 400, "empty"),
        ("POST", &all, json!({ "name": "a/b" }), 400, "a/b"),
        ("POST", &all, json!({ "name": ".." }), 400, "\"..\""),
        ("POST", &all, json!({ "name": "small" }), 409, "small"),
        ("POST", &all, json!({ "name": "default" }), 409, "default"),
        ("POST", &all, json!({ "name": "x", "config": { "limits.memry": "1GiB" } }), 400, "limits.memry"),
        ("POST", &all, json!({ "name": "x", "config": { "limits.memory": "lots" } }), 400, "lots"),
        ("POST", &all, json!({ "name": "x", "config": { "volatile.uuid": "1" } }), 400, "volatile.uuid"),
        ("POST", &all, json!({ "name": "x", "config": [] }), 400, "config"),
        ("POST", &all, json!({ "name": "x", "devices": root("none") }), 400, "none"),
        ("POST", &all, disk("root", json!({ "type": "disk", "path": "/" })), 400, "root"),
        ("POST", &all, disk("d", json!({ "type": "spoon" })), 400, "spoon"),
        ("PUT", &small, json!({ "devices": root("none") }), 400, "none"),
        ("PUT", &small, json!({ "config": { "no.such.key": "1" } }), 400, "no.such.key"),
        ("POST", &small, json!({ "name": "default" }), 409, "default"),
        ("POST", &small, json!({ "name": "small" }), 409, "small"),
        ("POST", &small, json!({ "name": "a b" }), 400, "a b"),
        ("POST", &default, json!({ "name": "other" }), 400, "default"),
        ("DELETE", &default, Value::Null, 400, "default"),
    ];
    for (method, path, body, code, word) in cases {
        let (got, text) = daemon.refuse(method, path, &body);
        assert_eq!(got, code, "{method} {path} {body}: {text}");
        assert!(text.contains(word), "{method} {path} {body}: {text} should name {word}");
    }
    for (method, path) in
        [("GET", "none"), ("PUT", "none"), ("DELETE", "none"), ("GET", "small?project=none")]
    {
        let body = if method == "PUT" { json!({}) } else { Value::Null };
        assert_eq!(daemon.send(method, &format!("{PROFILES}/{path}"), &body).status, 404, "{method} {path}");
    }
    assert_eq!(daemon.read(&format!("{PROFILES}?recursion=1")), before);
}

#[test]
fn a_volume_that_a_profile_names_stays() {
    let daemon = Larderd::start();
    let volumes = "/1.0/storage-pools/default/volumes/custom";
    daemon.change("POST", "/1.0/projects", &json!({ "name": "blue", "config": {} }));
    for project in ["", "?project=blue"] {
        daemon.change("POST", &format!("{volumes}{project}"), &json!({ "name": "v1" }));
    }
    let disk = |path: &str| json!({ "type": "disk", "pool": "default", "source": "v1", "path": path });
    let devices = json!({ "one": disk("/one"), "other": disk("/other") });
    daemon.change("POST", PROFILES, &json!({ "name": "small", "devices": devices }));
    let volume = format!("{volumes}/v1");
    let users = json!(["/1.0/profiles/small"]);
    assert_eq!(daemon.read(&volume)["used_by"], users);
    assert_eq!(daemon.read(&format!("{volumes}?recursion=1"))[0]["used_by"], users);
    assert_eq!(daemon.read(&format!("{volume}?project=blue"))["used_by"], json!([]), "it is another's");

    daemon.make_pool("p2");
    for (method, body) in [
        ("DELETE", Value::Null),
        ("POST", json!({ "name": "v2" })),
        ("POST", json!({ "name": "v1", "pool": "p2" })),
    ] {
        let (code, error) = daemon.refuse(method, &volume, &body);
        assert!(code == 400 && error.contains("/1.0/profiles/small"), "{method} {body}: {code} {error}");
    }
    // What is in it may change: nobody has it.
    daemon.change("POST", &format!("{volume}/snapshots"), &json!({ "name": "s0" }));
    daemon.change("PUT", &volume, &json!({ "restore": "s0" }));

    daemon.change("DELETE", &format!("{volume}?project=blue"), &Value::Null);
    daemon.change("PUT", &format!("{PROFILES}/small"), &json!({ "devices": {} }));
    assert_eq!(daemon.read(&volume)["used_by"], json!([]));
    daemon.change("DELETE", &volume, &Value::Null);
}
