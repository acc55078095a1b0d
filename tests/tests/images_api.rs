//! `/1.0/images` of a running `larderd`: uploads, exports, aliases, properties and what a restart finds.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, TestImage, form, request, tar, upload_small_image};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, SystemTime};

const BYTES: (&str, &str) = ("Content-Type", "application/octet-stream");

/// A whole image without anything in its root.
fn small(name: &str) -> Vec<u8> {
    tar(&[("metadata.yaml", about(name).as_bytes()), ("rootfs/", b""), ("rootfs/file", name.as_bytes())])
}

fn about(name: &str) -> String {
    format!("architecture: x86_64\ncreation_date: 1767225600\nproperties: {{os: busybox, name: {name}}}\n")
}

/// Uploads an image; its fingerprint, or the status and text of the failure.
fn upload(
    daemon: &Larderd,
    project: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<String, (u16, String)> {
    let path = format!("/1.0/images?project={project}");
    let reply = request(&daemon.socket(), "POST", &path, headers, body).unwrap();
    if reply.status != 202 {
        return Err((reply.status, reply.error()));
    }
    let metadata = daemon.finish(&reply).map_err(|error| (reply.status, error))?;
    Ok(metadata["fingerprint"].as_str().unwrap().to_owned())
}

fn import(daemon: &Larderd, body: &[u8]) -> String {
    upload(daemon, "default", &[BYTES], body).unwrap()
}

fn refused(daemon: &Larderd, headers: &[(&str, &str)], body: &[u8]) -> String {
    upload(daemon, "default", headers, body).unwrap_err().1
}

/// The names in the directory of image files.
fn kept(daemon: &Larderd) -> Vec<String> {
    let entries = std::fs::read_dir(daemon.directory().join("images")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn sha256(bytes: &[u8], scratch: &Path) -> String {
    let file = scratch.join("bytes-to-hash");
    std::fs::write(&file, bytes).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the hash of another program than the one that is tested")]
    let output = std::process::Command::new("sha256sum").arg(&file).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

#[test]
fn a_whole_image_comes_back_as_it_was_uploaded() {
    let daemon = Larderd::start();
    let image = small("one");
    let headers = [
        BYTES,
        ("X-LXD-public", "1"),
        ("X-LXD-filename", "one.tar"),
        ("X-LXD-properties", "label=a+b%26c&os=Busybox"),
        ("X-LXD-aliases", "alias=small%2Fone&alias=uno"),
    ];
    let fingerprint = upload(&daemon, "default", &headers, &image).unwrap();
    assert_eq!(fingerprint, sha256(&image, daemon.scratch()));
    let shown = daemon.read(&format!("/1.0/images/{}", &fingerprint[..12]));
    assert_eq!(shown["fingerprint"], fingerprint.as_str());
    assert_eq!(shown["size"], image.len());
    assert_eq!(
        (&shown["public"], &shown["cached"], &shown["type"]),
        (&json!(true), &json!(false), &json!("container"))
    );
    assert_eq!(shown["filename"], "one.tar");
    assert_eq!(shown["properties"], json!({"os": "Busybox", "name": "one", "label": "a b&c"}));
    assert_eq!(shown["created_at"], "2026-01-01T00:00:00Z");
    let aliases: Vec<&str> =
        shown["aliases"].as_array().unwrap().iter().map(|alias| alias["name"].as_str().unwrap()).collect();
    assert_eq!(aliases, ["small/one", "uno"]);
    let exported = daemon.get(&format!("/1.0/images/{fingerprint}/export"));
    assert_eq!(exported.status, 200);
    assert!(exported.body == image, "other bytes came back");
    assert!(exported.header("content-disposition").unwrap().contains(&format!("{fingerprint}.tar")));
    assert_eq!(kept(&daemon), [fingerprint]);
}

#[test]
fn a_split_image_comes_back_as_two_files() {
    let test = "a_split_image_comes_back_as_two_files";
    let scratch = tempfile::tempdir().unwrap();
    let Some(image) = TestImage::make(test, scratch.path()) else { return };
    let daemon = Larderd::start();
    let (metadata, rootfs) =
        (std::fs::read(image.metadata()).unwrap(), std::fs::read(image.rootfs()).unwrap());
    let (kind, body) = form(&[("metadata", &metadata), ("rootfs", &rootfs)]);
    let fingerprint = upload(&daemon, "default", &[("Content-Type", &kind)], &body).unwrap();
    assert_eq!(fingerprint, sha256(&[metadata.clone(), rootfs.clone()].concat(), scratch.path()));
    assert_eq!(kept(&daemon), [fingerprint.clone(), format!("{fingerprint}.rootfs")]);
    let whole = import(&daemon, &std::fs::read(image.unified()).unwrap());
    assert_eq!(daemon.read(&format!("/1.0/images/{whole}"))["properties"]["os"], "Busybox");
    let exported = daemon.get(&format!("/1.0/images/{fingerprint}/export"));
    let kind = exported.header("content-type").unwrap().to_owned();
    assert!(kind.starts_with("multipart/form-data; boundary="), "{kind}");
    // What it gives out it also takes, as the same image.
    daemon.change("DELETE", &format!("/1.0/images/{fingerprint}"), &Value::Null);
    assert_eq!(kept(&daemon), [whole]);
    let again = upload(&daemon, "default", &[("Content-Type", &kind)], &exported.body).unwrap();
    assert_eq!(again, fingerprint);
}

#[test]
fn what_is_no_image_leaves_nothing() {
    let daemon = Larderd::start();
    let image = small("one");
    let wrong = "0".repeat(64);
    let error = refused(&daemon, &[BYTES, ("X-LXD-fingerprint", &wrong)], &image);
    assert!(error.contains(&wrong) && error.contains(&sha256(&image, daemon.scratch())), "{error}");
    assert!(refused(&daemon, &[BYTES, ("X-LXD-fingerprint", "../x")], &image).contains("64 hexadecimal"));
    let error = refused(&daemon, &[BYTES], &image[..700]);
    assert!(error.contains("damaged or cut off") && !error.contains(".part"), "{error}");
    let error = refused(&daemon, &[BYTES], &tar(&[("rootfs/", b"")]));
    assert!(error.contains("metadata.yaml"), "{error}");
    let error = refused(&daemon, &[BYTES], &tar(&[("metadata.yaml", about("one").as_bytes())]));
    assert!(error.contains("no root"), "{error}");
    let error = refused(&daemon, &[BYTES], b"");
    assert!(error.contains("the image file"), "{error}");
    let error = refused(&daemon, &[BYTES], &tar(&[("metadata.yaml", b"architecture: [1"), ("rootfs/", b"")]));
    assert!(error.contains("metadata.yaml"), "{error}");
    let metadata = tar(&[("metadata.yaml", about("one").as_bytes())]);
    for parts in [
        vec![("metadata", metadata.as_slice())],
        vec![("metadata", metadata.as_slice()), ("rootfs", b"neither of them")],
        vec![("rootfs", b"hsqs"), ("metadata", metadata.as_slice())],
        vec![("metadata", image.as_slice()), ("rootfs", b"hsqs")],
        vec![("metadata", metadata.as_slice()), ("other", b"hsqs")],
    ] {
        let (kind, body) = form(&parts);
        assert!(!refused(&daemon, &[("Content-Type", &kind)], &body).is_empty());
    }
    let (kind, body) = form(&[("metadata", &metadata), ("rootfs", b"hsqs")]);
    assert!(!refused(&daemon, &[("Content-Type", &kind)], &body[..body.len() - 20]).is_empty());
    assert!(kept(&daemon).is_empty(), "{:?}", kept(&daemon));
    assert_eq!(daemon.read("/1.0/images"), json!([]));
    assert_eq!(daemon.read("/1.0/images/aliases"), json!([]));
}

#[test]
fn an_image_is_there_once_and_a_taken_alias_brings_none() {
    let daemon = Larderd::start();
    let image = small("one");
    let first = upload(&daemon, "default", &[BYTES, ("X-LXD-aliases", "alias=mine")], &image).unwrap();
    assert!(refused(&daemon, &[BYTES], &image).contains("already exists"));
    let error = refused(&daemon, &[BYTES, ("X-LXD-aliases", "alias=mine")], &small("two"));
    assert!(error.contains("mine") && error.contains("already exists"), "{error}");
    assert_eq!(kept(&daemon), [first.as_str()]);
    let again = daemon.get(&format!("/1.0/images/{first}/export"));
    assert!(again.body == image, "the image that was there is damaged");
}

#[test]
fn the_beginning_of_a_fingerprint_must_mean_one_image() {
    let daemon = Larderd::start();
    let mut known: Vec<String> = Vec::new();
    // Of seventeen fingerprints two begin alike.
    let shared = loop {
        let new = import(&daemon, &small(&known.len().to_string()));
        if known.iter().any(|old| old[..1] == new[..1]) {
            break new[..1].to_owned();
        }
        known.push(new);
    };
    let reply = daemon.get(&format!("/1.0/images/{shared}"));
    assert_eq!(reply.status, 400);
    assert!(reply.error().contains("several"), "{}", reply.error());
    assert_eq!(daemon.refuse("DELETE", &format!("/1.0/images/{shared}"), &Value::Null).0, 400);
    for missing in ["0123456789abcdef", "%2e%2e"] {
        for (method, path) in
            [("GET", ""), ("DELETE", ""), ("PATCH", ""), ("GET", "/export"), ("POST", "/refresh")]
        {
            let (status, error) = daemon.refuse(method, &format!("/1.0/images/{missing}{path}"), &json!({}));
            assert_eq!(status, 404, "{method} {missing}{path}: {error}");
        }
    }
}

#[test]
fn aliases_are_made_moved_renamed_and_deleted() {
    let daemon = Larderd::start();
    let (one, two) = (import(&daemon, &small("one")), import(&daemon, &small("two")));
    let all = "/1.0/images/aliases";
    daemon.change("POST", all, &json!({"name": "a/b/c", "target": one, "description": "first"}));
    assert_eq!(daemon.refuse("POST", all, &json!({"name": "a/b/c", "target": one})).0, 409);
    assert_eq!(daemon.refuse("POST", all, &json!({"name": "x", "target": "0".repeat(64)})).0, 404);
    for wrong in ["", "a//b", "../a", "a b", "/a"] {
        assert_eq!(daemon.refuse("POST", all, &json!({"name": wrong, "target": one})).0, 400, "{wrong:?}");
    }
    assert_eq!(daemon.read(all), json!(["/1.0/images/aliases/a%2Fb%2Fc"]));
    let expected = json!({"name": "a/b/c", "target": one, "description": "first", "type": "container"});
    for path in ["/1.0/images/aliases/a/b/c", "/1.0/images/aliases/a%2Fb%2Fc"] {
        assert_eq!(daemon.read(path), expected, "{path}");
    }
    let etag = daemon.get("/1.0/images/aliases/a/b/c").header("etag").unwrap().to_owned();
    daemon.change("PATCH", "/1.0/images/aliases/a/b/c", &json!({"description": "second"}));
    daemon.change("PUT", "/1.0/images/aliases/a/b/c", &json!({"description": "third", "target": two}));
    let body = json!({"target": one}).to_string();
    let stale = [("Content-Type", "application/json"), ("If-Match", etag.as_str())];
    let reply =
        request(&daemon.socket(), "PUT", "/1.0/images/aliases/a/b/c", &stale, body.as_bytes()).unwrap();
    assert_eq!(reply.status, 412);
    daemon.change("POST", "/1.0/images/aliases/a/b/c", &json!({"name": "d/e"}));
    assert_eq!(daemon.get("/1.0/images/aliases/a/b/c").status, 404);
    assert_eq!(daemon.read("/1.0/images/aliases/d/e")["target"], two.as_str());
    daemon.change("POST", all, &json!({"name": "other", "target": two}));
    assert_eq!(daemon.refuse("POST", "/1.0/images/aliases/other", &json!({"name": "d/e"})).0, 409);
    daemon.change("DELETE", "/1.0/images/aliases/d/e", &Value::Null);
    assert_eq!(daemon.refuse("DELETE", "/1.0/images/aliases/d/e", &Value::Null).0, 404);
    daemon.change("DELETE", &format!("/1.0/images/{two}"), &Value::Null);
    assert_eq!(daemon.read(all), json!([]), "the aliases go with their image");
}

#[test]
fn properties_change_and_an_old_etag_does_not() {
    let daemon = Larderd::start();
    let path = format!("/1.0/images/{}", import(&daemon, &small("one")));
    let etag = daemon.get(&path).header("etag").unwrap().to_owned();
    daemon.change("PATCH", &path, &json!({"properties": {"label": "new"}}));
    let shown = daemon.read(&path);
    assert_eq!(shown["properties"], json!({"os": "busybox", "name": "one", "label": "new"}));
    assert_eq!(shown["public"], false);
    let stale = [("Content-Type", "application/json"), ("If-Match", etag.as_str())];
    let body = json!({"public": true, "properties": {}}).to_string();
    for method in ["PUT", "PATCH"] {
        let reply = request(&daemon.socket(), method, &path, &stale, body.as_bytes()).unwrap();
        assert_eq!(reply.status, 412, "{method}");
    }
    daemon.change(
        "PUT",
        &path,
        &json!({"public": true, "properties": {"os": "other"}, "expires_at": "2030-01-01T00:00:00Z"}),
    );
    let shown = daemon.read(&path);
    assert_eq!((&shown["public"], &shown["expires_at"]), (&json!(true), &json!("2030-01-01T00:00:00Z")));
    assert_eq!(shown["properties"], json!({"os": "other"}));
    daemon.change("PATCH", &path, &json!({"public": false}));
    assert_eq!(daemon.read(&path)["properties"], json!({"os": "other"}));
    assert_eq!(daemon.read(&path)["public"], false);
}

#[test]
fn lists_are_filtered_and_projects_have_their_own() {
    let daemon = Larderd::start();
    let one = import(&daemon, &small("one"));
    let other =
        tar(&[("metadata.yaml", about("two").replace("busybox", "alpine").as_bytes()), ("rootfs/", b"")]);
    let two = import(&daemon, &other);
    let list = |query: &str| daemon.read(&format!("/1.0/images?{query}"));
    assert_eq!(list("filter=properties.os%20eq%20busybox"), json!([format!("/1.0/images/{one}")]));
    assert_eq!(list("recursion=1&filter=properties.os+eq+alpine")[0]["fingerprint"], two.as_str());
    assert_eq!(daemon.get("/1.0/images?filter=properties.os%20is%20x").status, 400);

    daemon.change("POST", "/1.0/projects", &json!({"name": "own", "config": {"features.images": "true"}}));
    daemon.change(
        "POST",
        "/1.0/projects",
        &json!({"name": "shared", "config": {"features.images": "false"}}),
    );
    assert_eq!(list("project=own"), json!([]));
    assert_eq!(list("project=shared").as_array().unwrap().len(), 2);
    assert_eq!(daemon.get(&format!("/1.0/images/{one}?project=own")).status, 404);
    let source = json!({"type": "image", "mode": "pull", "fingerprint": one, "project": "default"});
    daemon.change("POST", "/1.0/images?project=own", &json!({"source": source}));
    assert_eq!(upload(&daemon, "own", &[BYTES], &other).unwrap(), two);
    assert_eq!(list("recursion=1&all-projects=true").as_array().unwrap().len(), 4);
    // The files stay for the project that still has them.
    daemon.change("DELETE", &format!("/1.0/images/{one}"), &Value::Null);
    assert!(kept(&daemon).contains(&one));
    assert_eq!(daemon.get(&format!("/1.0/images/{one}/export?project=own")).body, small("one"));
    daemon.change("DELETE", &format!("/1.0/images/{one}?project=own"), &Value::Null);
    assert_eq!(kept(&daemon), [two.as_str()]);
}

#[test]
fn a_project_with_images_stays() {
    let daemon = Larderd::start();
    daemon.change("POST", "/1.0/projects", &json!({"name": "own", "config": {"features.images": "true"}}));
    let fingerprint = upload(&daemon, "own", &[BYTES], &small("one")).unwrap();
    assert!(daemon.refuse("DELETE", "/1.0/projects/own", &Value::Null).1.contains("not empty"));
    assert!(daemon.refuse("POST", "/1.0/projects/own", &json!({"name": "other"})).1.contains("not empty"));
    daemon.change("DELETE", &format!("/1.0/images/{fingerprint}?project=own"), &Value::Null);
    daemon.change("DELETE", "/1.0/projects/own", &Value::Null);
}

#[test]
fn a_restart_finds_all_and_removes_what_nobody_knows() {
    let mut daemon = Larderd::start();
    let image = small("one");
    let fingerprint = upload(&daemon, "default", &[BYTES, ("X-LXD-aliases", "alias=mine")], &image).unwrap();
    daemon.kill();
    let images = daemon.directory().join("images");
    let leave = |name: &str| {
        let file = std::fs::File::create(images.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3 * 24 * 3600)).unwrap();
    };
    leave("upload-0000.part");
    leave(&"1".repeat(64));
    leave(&format!("{}.rootfs", "2".repeat(64)));
    leave(&format!("{}.rootfs.part", "3".repeat(64)));
    leave(&format!("{}.part.origin", "3".repeat(64)));
    daemon.spawn(&[]);
    assert_eq!(kept(&daemon), [fingerprint.as_str()]);
    assert_eq!(daemon.read("/1.0/images/aliases/mine")["target"], fingerprint.as_str());
    assert!(daemon.get(&format!("/1.0/images/{fingerprint}/export")).body == image);
}

/// Has an image unpacked on a pool, by an instance that goes again.
fn unpack(daemon: &Larderd, pool: &str, image: &str) {
    let root = json!({ "root": { "type": "disk", "path": "/", "pool": pool } });
    let source = json!({ "type": "image", "fingerprint": image });
    daemon.change("POST", "/1.0/instances", &json!({ "name": "c1", "source": source, "devices": root }));
    daemon.change("DELETE", "/1.0/instances/c1", &Value::Null);
}

#[test]
fn an_unpacked_image_goes_alone_or_with_its_pool() {
    let mut daemon = Larderd::start();
    daemon.make_pool("p1");
    let image = upload_small_image(&daemon);
    let unpacked = format!("/1.0/storage-pools/p1/volumes/image/{image}");
    unpack(&daemon, "p1", &image);
    assert_eq!(daemon.refuse("PATCH", &unpacked, &json!({ "description": "x" })).0, 400);
    daemon.change("DELETE", &unpacked, &Value::Null);
    assert_eq!(daemon.get(&unpacked).status, 404);
    unpack(&daemon, "p1", &image);
    daemon.change("DELETE", "/1.0/storage-pools/p1", &Value::Null);
    assert_eq!(daemon.get("/1.0/storage-pools/p1").status, 404);

    // One that is away takes along what it has.
    let elsewhere = tempfile::tempdir().unwrap();
    let place = elsewhere.path().join("pool");
    std::fs::create_dir(&place).unwrap();
    let pool = json!({ "name": "lost", "driver": "dir", "config": { "source": place } });
    daemon.change("POST", "/1.0/storage-pools", &pool);
    unpack(&daemon, "lost", &image);
    daemon.stop();
    std::fs::rename(&place, elsewhere.path().join("away")).unwrap();
    daemon.spawn(&[]);
    daemon.change("DELETE", "/1.0/storage-pools/lost", &Value::Null);
    assert_eq!(daemon.read("/1.0/storage-volumes"), json!([]));
    assert_eq!(daemon.read("/1.0/images"), json!([format!("/1.0/images/{image}")]));
}

#[test]
fn an_unpacked_image_belongs_to_the_projects_that_know_the_image() {
    let daemon = Larderd::start();
    let image = upload_small_image(&daemon);
    daemon.change("POST", "/1.0/projects", &json!({"name": "blue", "config": {}}));
    let shared = json!({"name": "green", "config": {"features.images": "false"}});
    daemon.change("POST", "/1.0/projects", &shared);
    unpack(&daemon, "default", &image);
    let unpacked = format!("/1.0/storage-pools/default/volumes/image/{image}");
    let own = format!("/1.0/images/{image}");
    let users = |query: &str| {
        let listed = daemon.read(&format!("/1.0/storage-pools/default/volumes?recursion=1&{query}"));
        let listed: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["used_by"].clone()).collect();
        listed
    };
    assert_eq!(users(""), [json!([own])]);
    assert_eq!(users("project=green"), [json!([own])]);
    assert_eq!(users("project=blue"), [Value::Null; 0]);
    let source = json!({"type": "image", "mode": "pull", "fingerprint": image, "project": "default"});
    daemon.change("POST", "/1.0/images?project=blue", &json!({"source": source}));
    let theirs = format!("{own}?project=blue");
    assert_eq!(users("project=blue"), [json!([theirs])]);
    assert_eq!(daemon.read(&format!("{unpacked}?project=blue"))["used_by"], json!([theirs]));
    assert_eq!(daemon.read(&unpacked)["used_by"], json!([own]));
    let everybodys = users("all-projects=true");
    assert_eq!(everybodys.len(), 1);
    let told = everybodys[0].to_string();
    assert!(told.contains(&format!("{own}\"")) && told.contains(&theirs), "{told}");
}
