//! Images made of instances and their snapshots, by every client that there is.

use larder_tests::{Larderd, RealClient, TestImage, require_containers};
use serde_json::{Value, json};
use std::path::PathBuf;

fn clients<'a>(test: &str, daemon: &'a Larderd) -> Vec<(&'static str, RealClient<'a>)> {
    let found = [
        ("larder", Some(RealClient::larder(daemon))),
        ("lxc", RealClient::lxc(test, daemon)),
        ("incus", RealClient::incus(test, daemon)),
    ];
    found.into_iter().filter_map(|(name, client)| Some((name, client?))).collect()
}

fn rootfs(daemon: &Larderd, instance: &str) -> PathBuf {
    daemon.directory().join(format!("storage-pools/default/containers/{instance}/rootfs"))
}

fn read(daemon: &Larderd, instance: &str, file: &str) -> String {
    let path = rootfs(daemon, instance).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn instances_and_snapshots_become_images() {
    let test = "instances_and_snapshots_become_images";
    let can_run = require_containers(test);
    let daemon = Larderd::start();
    let Some(image) = TestImage::make(test, daemon.scratch()) else { return };
    let unified = image.unified().display().to_string();
    RealClient::larder(&daemon).run(&["image", "import", &unified, "--alias", "busybox"]);
    for (name, client) in clients(test, &daemon) {
        let alias = |of: &str| format!("{name}-{of}");
        client.run(&["init", "busybox", name]);
        let file = rootfs(&daemon, name).join("root/file");
        std::fs::write(&file, format!("{name} then")).unwrap();
        std::os::unix::fs::chown(&file, Some(1234), Some(5678)).unwrap();
        daemon.change("POST", &format!("/1.0/instances/{name}/snapshots"), &json!({ "name": "s0" }));
        std::fs::write(&file, format!("{name} now")).unwrap();

        let (now, then) = (alias("now"), alias("then"));
        client.run(&["publish", name, "--alias", &now, "description=Mine", "label=first"]);
        client.run(&["publish", &format!("{name}/s0"), "--alias", &then, "--compression", "zstd"]);
        let fingerprint = daemon.read(&format!("/1.0/images/aliases/{now}"))["target"].clone();
        let shown = daemon.read(&format!("/1.0/images/{}", fingerprint.as_str().unwrap()));
        assert_eq!(shown["properties"]["label"], "first", "{name}");
        assert_eq!(shown["properties"]["os"], "Busybox", "{name}: what the first image said");
        assert_eq!((&shown["type"], &shown["cached"]), (&json!("container"), &json!(false)));
        for (alias, text) in [(&now, "now"), (&then, "then")] {
            let made = format!("{name}-of-{text}");
            client.run(&["init", alias, &made]);
            assert_eq!(read(&daemon, &made, "root/file"), format!("{name} {text}"));
            let metadata = std::fs::metadata(rootfs(&daemon, &made).join("root/file")).unwrap();
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&metadata), 1234, "{name}");
            assert_eq!(read(&daemon, &made, "etc/hostname").trim(), made, "{name}: the templates came along");
            client.run(&["delete", &made]);
        }
        if can_run {
            client.run(&["start", name]);
            assert!(client.refuse(&["publish", name, "--alias", &alias("running")]).contains("running"));
            client.run(&["stop", name, "--force"]);
        }
        client.run(&["delete", name]);
    }
}

#[test]
fn what_can_not_be_published_is_named_and_leaves_nothing() {
    let test = "what_can_not_be_published_is_named_and_leaves_nothing";
    let daemon = Larderd::start();
    let Some(image) = TestImage::make(test, daemon.scratch()) else { return };
    let unified = image.unified().display().to_string();
    let larder = RealClient::larder(&daemon);
    larder.run(&["image", "import", &unified, "--alias", "busybox"]);
    larder.run(&["init", "busybox", "c1"]);
    let before = daemon.read("/1.0/images");
    let source = |kind: &str, name: &str| json!({ "source": { "type": kind, "name": name } });
    let mut squeezed = source("instance", "c1");
    squeezed["compression_algorithm"] = json!("squeeze");
    let mut split = source("instance", "c1");
    split["format"] = json!("split");
    let mut taken = source("instance", "c1");
    taken["aliases"] = json!([{ "name": "busybox" }]);
    for (body, word) in [
        (source("instance", "nope"), "nope"),
        (source("snapshot", "c1/nope"), "nope"),
        (source("snapshot", "c1"), "instance/snapshot"),
        (source("instance", "c1/s0"), "form instance"),
        (source("instance", ""), "form instance"),
        (squeezed, "squeeze"),
        (split, "split"),
        (taken, "busybox"),
    ] {
        let (status, error) = daemon.refuse("POST", "/1.0/images", &body);
        assert!(error.contains(word), "{body}: {status} {error}");
    }
    assert_eq!(daemon.read("/1.0/images"), before);
    let kept = std::fs::read_dir(daemon.directory().join("images")).unwrap().count();
    assert_eq!(kept, 1, "nothing but the first image");
    daemon.change("DELETE", "/1.0/instances/c1", &Value::Null);
}

/// Whether a running ephemeral container is the same one as before.
fn is_kept(daemon: &Larderd, name: &str, made_at: &Value) -> bool {
    let now = daemon.read(&format!("/1.0/instances/{name}"));
    (&now["created_at"], &now["ephemeral"], &now["status"]) == (made_at, &json!(true), &json!("Running"))
}

#[test]
fn an_ephemeral_container_outlives_restarts_and_its_publication() {
    let test = "an_ephemeral_container_outlives_restarts_and_its_publication";
    if !require_containers(test) {
        return;
    }
    let daemon = Larderd::start();
    let Some(image) = TestImage::make(test, daemon.scratch()) else { return };
    let larder = RealClient::larder(&daemon);
    larder.run(&["image", "import", &image.unified().display().to_string(), "--alias", "busybox"]);
    larder.run(&["launch", "busybox", "c1", "--ephemeral"]);
    let made_at = daemon.read("/1.0/instances/c1")["created_at"].clone();
    for round in 0..5 {
        larder.run(&["restart", "c1", "--force"]);
        assert!(is_kept(&daemon, "c1", &made_at), "round {round}");
    }
    let all = json!({ "state": { "action": "restart", "force": true } });
    daemon.change("PUT", "/1.0/instances", &all);
    assert!(is_kept(&daemon, "c1", &made_at));

    assert!(larder.refuse(&["publish", "c1", "--force", "--alias", "busybox"]).contains("busybox"));
    assert!(is_kept(&daemon, "c1", &made_at), "also when the publication fails");
    larder.run(&["publish", "c1", "--force", "--alias", "published"]);
    assert!(is_kept(&daemon, "c1", &made_at));
    daemon.read("/1.0/images/aliases/published");

    larder.run(&["stop", "c1", "--force"]);
    let is_gone = || daemon.get("/1.0/instances/c1").status == 404;
    let waiting = std::time::Instant::now();
    while !is_gone() && waiting.elapsed() < std::time::Duration::from_secs(60) {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(is_gone(), "it goes when it stops");
}
