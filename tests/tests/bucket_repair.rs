//! Damage in a bucket: found by a scrub, and its index made anew from the objects, through the daemon.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, Pair, S3, host_of, require};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const BUCKETS: &str = "/1.0/storage-pools/p1/buckets";
const PHOTOS: &str = "/1.0/storage-pools/p1/buckets/photos";
const LARGE: usize = 3 << 20;

/// A daemon with a bucket and three objects in it.
fn started() -> (Larderd, S3) {
    let daemon = Larderd::start();
    daemon.make_pool("p1");
    let admin = Pair::of(&daemon.change("POST", BUCKETS, &json!({ "name": "photos" })));
    let s3 = S3::open(&daemon, admin);
    s3.put("photos/small", b"content");
    s3.put("photos/whole", &vec![1; LARGE / 2]);
    s3.clone()
        .header("x-amz-meta-note", "kept")
        .header("x-amz-tagging", "place=sea")
        .put("photos/a%20b/large", &vec![2; LARGE]);
    (daemon, s3)
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The bucket's index, or where it was.
fn index_of(daemon: &Larderd) -> PathBuf {
    let files = files(&daemon.directory().join("storage-pools"));
    let beside = files.into_iter().find(|path| path.ends_with("small.db")).unwrap();
    beside.with_file_name("index.db")
}

/// The file of the largest object.
fn largest(daemon: &Larderd) -> PathBuf {
    let data = index_of(daemon).with_file_name("data");
    files(&data).into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

fn scrub(daemon: &Larderd) -> Value {
    daemon.change("POST", &format!("{PHOTOS}/scrub"), &Value::Null)
}

fn rebuild(daemon: &Larderd) -> Value {
    daemon.change("POST", &format!("{PHOTOS}/rebuild-index"), &Value::Null)
}

fn damaged_keys(found: &Value) -> Vec<&str> {
    found["damaged"].as_array().unwrap().iter().map(|damage| damage["key"].as_str().unwrap()).collect()
}

/// Starts the daemon again, whose endpoint has another port then.
fn start_again(daemon: &mut Larderd, s3: &S3) -> S3 {
    daemon.spawn(&[]);
    S3 { url: format!("http://{}", host_of(daemon, PHOTOS)), ..s3.clone() }
}

/// Every object, with its metadata and tags.
fn assert_is_whole(s3: &S3) {
    assert_eq!(s3.get("photos/small"), b"content");
    assert!(s3.get("photos/whole") == vec![1; LARGE / 2]);
    assert!(s3.get("photos/a%20b/large") == vec![2; LARGE]);
    let head = s3.send("HEAD", "photos/a%20b/large", b"").text();
    assert!(head.contains("x-amz-meta-note: kept"), "{head}");
    let tags = s3.send("GET", "photos/a%20b/large?tagging=", b"").text();
    assert!(tags.contains("<Key>place</Key>") && tags.contains("<Value>sea</Value>"), "{tags}");
    assert_eq!(s3.send("GET", "photos?list-type=2", b"").text().matches("<Key>").count(), 3);
}

#[test]
fn a_scrub_names_the_object_that_is_damaged() {
    if !require("a_scrub_names_the_object_that_is_damaged", &["curl"]) {
        return;
    }
    let (daemon, s3) = started();
    let extensions = daemon.read("/1.0")["api_extensions"].clone();
    assert!(extensions.as_array().unwrap().contains(&json!("larder_bucket_repair")));
    let found = scrub(&daemon);
    assert_eq!((found["versions"].as_u64(), damaged_keys(&found).len()), (Some(3), 0), "{found}");
    assert_eq!(found["bytes"].as_u64(), Some((7 + LARGE + LARGE / 2) as u64));
    assert_eq!(found["entity_url"], PHOTOS);

    let path = largest(&daemon);
    let mut bytes = fs::read(&path).unwrap();
    bytes[LARGE / 2] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let found = scrub(&daemon);
    assert_eq!(damaged_keys(&found), ["a b/large"], "{found}");
    assert_eq!(found["damaged"][0]["version"], "null");
    assert!(found["damaged"][0]["problem"].as_str().unwrap().contains("MD5"), "{found}");

    fs::remove_file(&path).unwrap();
    let found = scrub(&daemon);
    assert_eq!((found["versions"].as_u64(), damaged_keys(&found)), (Some(3), vec!["a b/large"]), "{found}");
    assert_eq!(s3.get("photos/small"), b"content");

    for part in ["scrub", "rebuild-index"] {
        assert_eq!(daemon.refuse("POST", &format!("{BUCKETS}/nothing/{part}"), &Value::Null).0, 404);
        assert_eq!(daemon.get(&format!("{PHOTOS}/{part}")).status, 501);
    }
}

#[test]
fn a_bucket_whose_index_is_damaged_or_missing_gets_a_new_one() {
    if !require("a_bucket_whose_index_is_damaged_or_missing_gets_a_new_one", &["curl"]) {
        return;
    }
    let (mut daemon, s3) = started();
    // In use and whole.
    let rebuilt = rebuild(&daemon);
    assert_eq!((rebuilt["versions"].as_u64(), rebuilt["unused"].as_u64()), (Some(3), Some(0)), "{rebuilt}");
    assert_is_whole(&s3);

    let index = index_of(&daemon);
    let damages: [&dyn Fn(); 3] = [
        &|| fs::write(&index, b"this is no index".repeat(1000)).unwrap(),
        &|| fs::write(&index, b"").unwrap(),
        &|| fs::remove_file(&index).unwrap(),
    ];
    let mut s3 = s3;
    for damage in damages {
        daemon.stop();
        damage();
        s3 = start_again(&mut daemon, &s3);
        for path in ["photos/small", "photos?list-type=2"] {
            assert_eq!(s3.send("GET", path, b"").status, 503, "{path}");
        }
        assert_eq!(s3.send("PUT", "photos/new", b"x").status, 503);
        assert!(daemon.log().contains("rebuild the index"));
        let refused = daemon.refuse("POST", &format!("{PHOTOS}/scrub"), &Value::Null).1;
        assert!(refused.contains("rebuild the index"), "{refused}");
        let rebuilt = rebuild(&daemon);
        assert_eq!((rebuilt["versions"].as_u64(), &rebuilt["incomplete"]), (Some(3), &json!([])));
        assert_is_whole(&s3);
        assert!(damaged_keys(&scrub(&daemon)).is_empty());
    }
}

#[test]
fn a_rebuild_that_is_killed_hides_nothing() {
    if !require("a_rebuild_that_is_killed_hides_nothing", &["curl"]) {
        return;
    }
    let (mut daemon, mut s3) = started();
    for pause in [0, 1, 3, 10] {
        assert_eq!(daemon.send("POST", &format!("{PHOTOS}/rebuild-index"), &Value::Null).status, 202);
        std::thread::sleep(std::time::Duration::from_millis(pause));
        daemon.kill();
        s3 = start_again(&mut daemon, &s3);
        // It has an index with all of it, or none at all.
        match s3.send("GET", "photos/small", b"").status {
            200 => assert_is_whole(&s3),
            status => assert_eq!(status, 503),
        }
        assert_eq!(rebuild(&daemon)["versions"].as_u64(), Some(3));
        assert_is_whole(&s3);
    }
}
