//! Images from a simplestreams server over https, by a running `larderd`.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{ImageServer, Larderd, TestImage};
use serde_json::{Value, json};

/// An image server, and a daemon that trusts it.
struct World {
    daemon: Larderd,
    server: ImageServer,
    _scratch: tempfile::TempDir,
}

impl World {
    fn start(test: &str) -> Option<Self> {
        let scratch = tempfile::tempdir().unwrap();
        let server = TestImage::make(test, scratch.path())?.serve();
        let daemon = Larderd::start_with(&[("SSL_CERT_FILE", server.bundle())]);
        Some(Self { daemon, server, _scratch: scratch })
    }

    fn body(&self, name: &str) -> Value {
        let source = json!({"type": "image", "mode": "pull", "protocol": "simplestreams",
            "server": self.server.url(), "alias": name, "image_type": "container"});
        json!({"source": source, "auto_update": true, "aliases": [{"name": "mine"}]})
    }

    fn fetch(&self, name: &str) -> String {
        let metadata = self.daemon.change("POST", "/1.0/images", &self.body(name));
        metadata["fingerprint"].as_str().unwrap().to_owned()
    }

    fn refresh(&self, fingerprint: &str) -> Value {
        let path = format!("/1.0/images/{fingerprint}/refresh");
        self.daemon.change("POST", &path, &Value::Null)["refreshed"].clone()
    }

    fn refuse(&self, name: &str) -> String {
        self.daemon.refuse("POST", "/1.0/images", &self.body(name)).1
    }

    fn kept(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.daemon.directory().join("images")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn an_image_is_fetched_once_and_refreshed() {
    let Some(mut world) = World::start("an_image_is_fetched_once_and_refreshed") else { return };
    let first = world.fetch("busybox/1.0");
    let shown = world.daemon.read(&format!("/1.0/images/{first}"));
    assert_eq!(shown["properties"]["os"], "Busybox");
    assert_eq!(shown["properties"]["serial"], "20260101_00:00");
    assert_eq!((&shown["auto_update"], &shown["cached"]), (&json!(true), &json!(false)));
    let source = &shown["update_source"];
    assert_eq!((&source["server"], &source["alias"]), (&json!(world.server.url()), &json!("busybox/1.0")));
    assert_eq!((&source["protocol"], &source["image_type"]), (&json!("simplestreams"), &json!("container")));
    assert_eq!(world.kept(), [first.clone(), format!("{first}.rootfs")]);
    // Again, and by its fingerprint, it is there already.
    assert_eq!(world.fetch("busybox/1.0"), first);
    assert_eq!(world.fetch(&first), first);

    assert_eq!(world.refresh(&first), false);
    let second = world.server.publish_second();
    assert_eq!(world.refresh(&first), true);
    assert_eq!(world.daemon.get(&format!("/1.0/images/{first}")).status, 404);
    assert_eq!(world.daemon.read("/1.0/images/aliases/mine")["target"], second.as_str());
    let shown = world.daemon.read(&format!("/1.0/images/{second}"));
    assert_eq!(shown["properties"]["serial"], "20260201_00:00");
    assert_eq!(shown["update_source"]["alias"], "busybox/1.0");
    assert_eq!(world.kept(), [second.clone(), format!("{second}.rootfs")]);
    assert_eq!(world.refresh(&second), false);
}

#[test]
fn an_image_that_is_not_there_is_named() {
    let Some(mut world) = World::start("an_image_that_is_not_there_is_named") else { return };
    let error = world.refuse("alpine/3.22");
    assert!(error.contains("alpine/3.22") && error.contains("not found"), "{error}");
    let mut body = world.body("busybox");
    body["source"]["image_type"] = json!("virtual-machine");
    let (_, error) = world.daemon.refuse("POST", "/1.0/images", &body);
    assert!(error.contains("virtual-machine") && error.contains("not found"), "{error}");
    body["source"]["server"] = json!("not an address");
    assert!(world.daemon.refuse("POST", "/1.0/images", &body).1.contains("not an address"));
    // The list that is known is not asked for ever: a name of today's version is not in it.
    let second = world.server.publish_second();
    assert_eq!(world.fetch(&second), second);
    assert_eq!(world.daemon.read(&format!("/1.0/images/{second}"))["properties"]["serial"], "20260201_00:00");
}

#[test]
fn a_server_that_is_gone_or_not_trusted_leaves_nothing() {
    let test = "a_server_that_is_gone_or_not_trusted_leaves_nothing";
    let scratch = tempfile::tempdir().unwrap();
    let Some(image) = TestImage::make(test, scratch.path()) else { return };
    let server = image.serve();
    // Without the bundle nobody vouches for it.
    let mut world = World { daemon: Larderd::start(), server, _scratch: scratch };
    let error = world.refuse("busybox");
    assert!(error.contains(world.server.url()) && error.contains("certificate"), "{error}");
    world.server.stop();
    let error = world.refuse("busybox");
    assert!(error.contains(world.server.url()) && error.contains("refused"), "{error}");
    assert!(world.kept().is_empty(), "{:?}", world.kept());
    assert_eq!(world.daemon.read("/1.0/images"), json!([]));
}
