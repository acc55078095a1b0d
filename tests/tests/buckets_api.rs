//! Buckets, their keys and storage accounts over the socket, good and bad input.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, request};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

const BUCKETS: &str = "/1.0/storage-pools/p1/buckets";
const ACCOUNTS: &str = "/1.0/storage-accounts";

fn started() -> Larderd {
    let daemon = Larderd::start();
    daemon.make_pool("p1");
    daemon
}

fn make_bucket(daemon: &Larderd, name: &str) -> Value {
    daemon.change("POST", BUCKETS, &json!({ "name": name, "config": {} }))
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn a_bucket_lives_its_life() {
    let daemon = started();
    let body = json!({ "name": "b-1", "description": "d", "config": { "size": "10MiB", "user.note": "x" } });
    let reply = daemon.send("POST", BUCKETS, &body);
    assert_eq!(reply.status, 201, "{}", reply.error());
    assert_eq!(reply.header("location"), Some("/1.0/storage-pools/p1/buckets/b-1"));
    let key = reply.metadata();
    assert_eq!((key["name"].as_str(), key["role"].as_str()), (Some("admin"), Some("admin")));
    assert_eq!(key["access-key"].as_str().map(str::len), Some(20));
    assert_eq!(key["secret-key"].as_str().map(str::len), Some(40));
    let path = format!("{BUCKETS}/b-1");
    let bucket = daemon.read(&path);
    let wanted = json!({
        "name": "b-1", "description": "d", "config": { "size": "10MiB", "user.note": "x" },
        "s3_url": "", "location": "none", "project": "default",
    });
    assert_eq!(bucket, wanted);
    assert_eq!(daemon.read(BUCKETS), json!([path]));
    assert_eq!(daemon.read(&format!("{BUCKETS}?recursion=1")), json!([bucket]));
    let full = daemon.read(&format!("{BUCKETS}?recursion=2"));
    assert_eq!((&full[0]["keys"], &full[0]["backups"]), (&json!([key]), &json!([])));
    assert_eq!(daemon.read(&format!("{path}?recursion=1"))["keys"], json!([key]));
    assert_eq!(
        names(&daemon.read(&format!("{BUCKETS}?recursion=1&filter=config.user.note%20eq%20x"))),
        ["b-1"]
    );
    assert_eq!(daemon.read(&format!("{BUCKETS}?filter=config.user.note%20eq%20y")), json!([]));

    daemon.change("PATCH", &path, &json!({ "config": { "size": "20MiB" } }));
    let bucket = daemon.read(&path);
    assert_eq!((&bucket["config"]["size"], &bucket["config"]["user.note"]), (&json!("20MiB"), &json!("x")));
    daemon.change("PUT", &path, &json!({ "config": {}, "description": "e" }));
    assert_eq!(
        (&daemon.read(&path)["config"], &daemon.read(&path)["description"]),
        (&json!({}), &json!("e"))
    );
    assert_eq!(daemon.read("/1.0/storage-pools/p1")["used_by"], json!([path]));
    assert!(daemon.refuse("DELETE", "/1.0/storage-pools/p1", &Value::Null).1.contains("in use"));
    // A bucket is no volume to the interface of volumes.
    assert_eq!(daemon.read("/1.0/storage-pools/p1/volumes"), json!([]));
    assert_eq!(daemon.get("/1.0/storage-pools/p1/volumes/bucket/b-1").status, 400);

    daemon.change("DELETE", &path, &Value::Null);
    assert_eq!(daemon.get(&path).status, 404);
    assert_eq!(daemon.read(BUCKETS), json!([]));
    // Name and access key are free again.
    make_bucket(&daemon, "b-1");
    let same = json!({ "name": "k", "access-key": key["access-key"], "secret-key": "12345678" });
    daemon.change("POST", &format!("{path}/keys"), &same);
    daemon.change("DELETE", &path, &Value::Null);
    daemon.change("DELETE", "/1.0/storage-pools/p1", &Value::Null);
}

#[test]
fn names_are_checked_and_taken_once_over_the_whole_server() {
    let daemon = started();
    daemon.make_pool("p2");
    daemon.change("POST", "/1.0/projects", &json!({ "name": "blue", "config": {} }));
    make_bucket(&daemon, "taken");
    for elsewhere in [BUCKETS, "/1.0/storage-pools/p2/buckets", "/1.0/storage-pools/p1/buckets?project=blue"]
    {
        let (code, error) = daemon.refuse("POST", elsewhere, &json!({ "name": "taken" }));
        assert_eq!(code, 409, "{elsewhere}: {error}");
        assert!(error.contains("taken"), "{error}");
    }
    for bad in ["", "ab", "Upper", "under_score", "-ab", "ab-", "a..b", "10.0.0.1", "a/b"] {
        let (code, error) = daemon.refuse("POST", BUCKETS, &json!({ "name": bad }));
        assert_eq!(code, 400, "{bad}: {error}");
        assert!(error.contains("bucket name"), "{error}");
    }
    for (key, value) in
        [("sise", "1GiB"), ("size", "big"), ("security.shifted", "true"), ("initial.uid", "1")]
    {
        let (code, error) =
            daemon.refuse("POST", BUCKETS, &json!({ "name": "new", "config": { key: value } }));
        assert_eq!(code, 400, "{key}: {error}");
        assert!(error.contains(key), "{error}");
    }
    assert_eq!(daemon.refuse("POST", "/1.0/storage-pools/none/buckets", &json!({ "name": "new" })).0, 404);
    assert_eq!(daemon.refuse("DELETE", &format!("{BUCKETS}/none"), &Value::Null).0, 404);
    assert_eq!(daemon.refuse("POST", BUCKETS, &json!({ "name": 7 })).0, 400);
}

#[test]
fn projects_have_their_own_buckets_or_share_those_of_the_default_one() {
    let daemon = started();
    daemon.change("POST", "/1.0/projects", &json!({ "name": "own", "config": {} }));
    let shares = json!({ "name": "shares", "config": { "features.storage.buckets": "false" } });
    daemon.change("POST", "/1.0/projects", &shares);
    make_bucket(&daemon, "first");
    daemon.change("POST", &format!("{BUCKETS}?project=own"), &json!({ "name": "second" }));
    daemon.change("POST", &format!("{BUCKETS}?project=shares"), &json!({ "name": "third" }));
    let listed = |query: &str| {
        let list = daemon.read(&format!("{BUCKETS}?recursion=1&{query}"));
        names(&list).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(listed(""), ["first", "third"]);
    assert_eq!(listed("project=own"), ["second"]);
    assert_eq!(listed("project=shares"), ["first", "third"]);
    assert_eq!(listed("all-projects=true"), ["first", "third", "second"]);
    assert_eq!(daemon.get(&format!("{BUCKETS}/second")).status, 404);
    assert!(daemon.refuse("DELETE", "/1.0/projects/own", &Value::Null).1.contains("buckets/second"));
}

#[test]
fn keys_are_made_shown_changed_and_deleted() {
    let daemon = started();
    make_bucket(&daemon, "bucket");
    let keys = format!("{BUCKETS}/bucket/keys");
    let body =
        json!({ "name": "reader", "description": "d", "access-key": "READER", "secret-key": "a/b+c=d/e" });
    let reply = daemon.send("POST", &keys, &body);
    assert_eq!(reply.status, 201, "{}", reply.error());
    assert_eq!(reply.header("location"), Some(format!("{keys}/reader").as_str()));
    let reader = json!({
        "name": "reader", "description": "d", "role": "read-only",
        "access-key": "READER", "secret-key": "a/b+c=d/e",
    });
    assert_eq!(reply.metadata(), reader);
    assert_eq!(daemon.read(&format!("{keys}/reader")), reader);
    assert_eq!(names(&daemon.read(&format!("{keys}?recursion=1"))), ["admin", "reader"]);
    assert_eq!(daemon.read(&keys), json!([format!("{keys}/admin"), format!("{keys}/reader")]));

    let change = json!({ "description": "e", "role": "admin", "access-key": "WRITER", "secret-key": "" });
    daemon.change("PUT", &format!("{keys}/reader"), &change);
    let changed = daemon.read(&format!("{keys}/reader"));
    assert_eq!((&changed["access-key"], &changed["secret-key"]), (&json!("WRITER"), &json!("a/b+c=d/e")));
    assert_eq!((&changed["role"], &changed["description"]), (&json!("admin"), &json!("e")));
    daemon.change("DELETE", &format!("{keys}/reader"), &Value::Null);
    assert_eq!(daemon.get(&format!("{keys}/reader")).status, 404);

    let taken = daemon.read(&format!("{keys}/admin"))["access-key"].clone();
    for (code, word, body) in [
        (409, "admin", json!({ "name": "admin" })),
        (409, "access key", json!({ "name": "new", "access-key": taken })),
        (400, "role", json!({ "name": "new", "role": "writer" })),
        (400, "access key", json!({ "name": "new", "access-key": "a b" })),
        (400, "secret key", json!({ "name": "new", "secret-key": "short" })),
        (400, "name", json!({ "name": "a/b" })),
        (400, "name", json!({ "name": "" })),
    ] {
        let (found, error) = daemon.refuse("POST", &keys, &body);
        assert_eq!(found, code, "{body}: {error}");
        assert!(error.contains(word), "{body}: {error}");
    }
    assert_eq!(daemon.refuse("POST", &format!("{BUCKETS}/none/keys"), &json!({ "name": "k" })).0, 404);
}

#[test]
fn etags_guard_buckets_and_keys() {
    let daemon = started();
    make_bucket(&daemon, "bucket");
    daemon.change("POST", ACCOUNTS, &json!({ "name": "ann", "pool": "p1", "access-key": "ANNKEY" }));
    for (path, body) in [
        (format!("{ACCOUNTS}/ann/keys/ANNKEY"), json!({ "restricted": true })),
        (format!("{BUCKETS}/bucket"), json!({ "config": {}, "description": "new" })),
        (format!("{BUCKETS}/bucket/keys/admin"), json!({ "description": "new", "role": "admin" })),
    ] {
        let etag = daemon.get(&path).header("etag").unwrap().to_owned();
        let put = |etag: &str| {
            let headers = [("If-Match", etag)];
            request(&daemon.socket(), "PUT", &path, &headers, body.to_string().as_bytes()).unwrap().status
        };
        assert_eq!(put("\"0000\""), 412, "{path}");
        assert_eq!(put(&etag), 200, "{path}");
        assert_eq!(put(&etag), 412, "{path}: it was changed since");
    }
}

#[test]
fn secrets_are_sealed_and_a_lost_key_is_told() {
    let mut daemon = started();
    let key = make_bucket(&daemon, "bucket");
    let secret = key["secret-key"].as_str().unwrap();
    let file = daemon.directory().join("secret.key");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let holds_secret = |folder: &std::path::Path| {
        std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
        })
    };
    assert!(!holds_secret(&daemon.directory().join("catalog")), "a secret is in the catalog in the clear");
    daemon.stop();
    let kept = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    daemon.spawn(&[]);
    let path = format!("{BUCKETS}/bucket/keys/admin");
    assert!(daemon.get(&path).error().contains("secret.key is missing"), "{}", daemon.get(&path).error());
    assert!(daemon.refuse("POST", BUCKETS, &json!({ "name": "other" })).1.contains("secret.key is missing"));
    assert_eq!(daemon.read(BUCKETS).as_array().map(Vec::len), Some(1), "buckets are listed all the same");
    std::fs::write(&file, [7; 32]).unwrap();
    assert!(daemon.get(&path).error().contains("can't be opened"), "{}", daemon.get(&path).error());
    std::fs::write(&file, kept).unwrap();
    assert_eq!(daemon.read(&path), key);
    make_bucket(&daemon, "other");
}

#[test]
fn accounts_have_keys_that_can_be_limited_to_some_buckets() {
    let daemon = started();
    let body = json!({
        "name": "ann", "display_name": "Ann A", "email": "ann@example.org", "pool": "p1", "quota": "1GiB",
        "access-key": "ANNKEY", "secret-key": "a/b+c=d/e",
    });
    let reply = daemon.send("POST", ACCOUNTS, &body);
    assert_eq!(reply.status, 201, "{}", reply.error());
    assert_eq!(reply.metadata(), json!({ "access-key": "ANNKEY", "secret-key": "a/b+c=d/e" }));
    let path = format!("{ACCOUNTS}/ann");
    let account = daemon.read(&path);
    assert_eq!((&account["display_name"], &account["quota"]), (&json!("Ann A"), &json!("1GiB")));
    assert_eq!((&account["access_keys"], &account["used_by"]), (&json!(["ANNKEY"]), &json!([])));
    assert_eq!(account["id"].as_str().map(str::len), Some(32));
    assert_eq!(names(&daemon.read(&format!("{ACCOUNTS}?recursion=1"))), ["ann"]);

    for (code, word, body) in [
        (409, "ann", json!({ "name": "ann", "pool": "p1" })),
        (409, "ann@example.org", json!({ "name": "bob", "pool": "p1", "email": "ann@example.org" })),
        (409, "ANNKEY", json!({ "name": "bob", "pool": "p1", "access-key": "ANNKEY" })),
        (404, "none", json!({ "name": "bob", "pool": "none" })),
        (400, "e-mail", json!({ "name": "bob", "pool": "p1", "email": "nobody" })),
        (400, "quota", json!({ "name": "bob", "pool": "p1", "quota": "much" })),
        (400, "name", json!({ "name": "a/b", "pool": "p1" })),
    ] {
        let (found, error) = daemon.refuse("POST", ACCOUNTS, &body);
        assert_eq!(found, code, "{body}: {error}");
        assert!(error.contains(word), "{body}: {error}");
    }
    daemon.change("PATCH", &path, &json!({ "quota": "" }));
    assert_eq!(daemon.read(&path)["quota"], json!(""));
    assert_eq!(daemon.read(&path)["email"], json!("ann@example.org"));

    let second = daemon.change("POST", &format!("{path}/keys"), &json!({}));
    let key = format!("{path}/keys/{}", second["access-key"].as_str().unwrap());
    make_bucket(&daemon, "bucket");
    let limit = json!({ "restricted": true, "grants": [{ "bucket": "bucket", "role": "admin" }] });
    daemon.change("PUT", &key, &limit);
    assert_eq!(daemon.read(&key)["grants"], limit["grants"]);
    let twice = json!([{ "bucket": "bucket" }, { "bucket": "bucket" }]);
    assert_eq!(daemon.refuse("PUT", &key, &json!({ "restricted": true, "grants": twice })).0, 400);
    assert_eq!(daemon.refuse("PUT", &key, &json!({ "grants": [{ "bucket": "bucket" }] })).0, 400);
    assert_eq!(
        daemon.refuse("PUT", &key, &json!({ "restricted": true, "grants": [{ "bucket": "no" }] })).0,
        404
    );
    // A bucket that goes takes its grant along, and a limited key stays limited.
    daemon.change("DELETE", &format!("{BUCKETS}/bucket"), &Value::Null);
    let left = daemon.read(&key);
    assert_eq!((&left["restricted"], &left["grants"]), (&json!(true), &json!([])));
    daemon.change("DELETE", &key, &Value::Null);
    assert_eq!(daemon.get(&key).status, 404);
    daemon.change("DELETE", &path, &Value::Null);
    assert_eq!(daemon.read(ACCOUNTS), json!([]));
}
