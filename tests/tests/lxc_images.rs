//! The real `lxc` client (Debian's lxd-client) drives the images of a running `larderd`.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{ImageServer, Larderd, RealClient, TestImage, require};
use serde_json::Value;
use std::path::Path;

/// `lxc` with a configuration of its own, one daemon, and an image server that both trust.
struct World {
    daemon: Larderd,
    server: ImageServer,
    image: TestImage,
    _scratch: tempfile::TempDir,
}

impl World {
    fn start(test: &str) -> Option<Self> {
        if !require(test, &["lxc"]) {
            return None;
        }
        let scratch = tempfile::tempdir().unwrap();
        let image = TestImage::make(test, scratch.path())?;
        let server = image.serve();
        let daemon = Larderd::start_with(&[("SSL_CERT_FILE", server.bundle())]);
        Some(Self { daemon, server, image, _scratch: scratch })
    }

    fn lxc(&self) -> RealClient<'_> {
        let lxc = RealClient::lxc("the lxc client's images", &self.daemon).unwrap();
        lxc.with("SSL_CERT_FILE", self.server.bundle())
    }

    fn run(&self, arguments: &[&str]) -> String {
        self.lxc().run(arguments)
    }

    fn refuse(&self, arguments: &[&str]) -> String {
        self.lxc().refuse(arguments)
    }

    fn images(&self) -> Vec<Value> {
        let text = self.run(&["image", "list", "--format", "json"]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The fingerprint of the image with an alias.
    fn fingerprint(&self, alias: &str) -> String {
        let has =
            |image: &&Value| image["aliases"].as_array().unwrap().iter().any(|own| own["name"] == alias);
        let images = self.images();
        images.iter().find(has).unwrap()["fingerprint"].as_str().unwrap().to_owned()
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// SHA-256 of the files one after the other.
fn sha256(files: &[&Path]) -> String {
    let all = files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect::<Vec<u8>>();
    let joined = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(joined.path(), all).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the hash of another program than the one that is tested")]
    let output = std::process::Command::new("sha256sum").arg(joined.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

#[test]
fn the_real_lxc_client_imports_and_exports_images() {
    let Some(world) = World::start("the_real_lxc_client_imports_and_exports_images") else { return };
    let (unified, metadata, rootfs) = (world.image.unified(), world.image.metadata(), world.image.rootfs());
    world.run(&["image", "import", &text(&unified), "--alias", "whole"]);
    world.run(&["image", "import", &text(&metadata), &text(&rootfs), "--alias", "split", "label=mine"]);
    let (whole, split) = (world.fingerprint("whole"), world.fingerprint("split"));
    assert_eq!(whole, sha256(&[&unified]));
    assert_eq!(split, sha256(&[&metadata, &rootfs]));
    assert_eq!(world.images().len(), 2);
    assert!(world.refuse(&["image", "import", &text(&unified)]).contains("already exists"));

    let info = world.run(&["image", "info", "split"]);
    assert!(info.contains(&split) && info.contains("os: Busybox") && info.contains("label: mine"), "{info}");
    world.run(&["image", "show", "whole"]);
    world.run(&["image", "export", "whole", "out"]);
    let folder = world.daemon.scratch();
    assert_eq!(sha256(&[&folder.join("out.tar.gz")]), whole);
    world.run(&["image", "export", "split", "two"]);
    assert_eq!(sha256(&[&folder.join("two"), &folder.join("two.root")]), split);

    world.run(&["image", "delete", "whole", &split[..12]]);
    assert!(world.images().is_empty());
    assert_eq!(std::fs::read_dir(world.daemon.directory().join("images")).unwrap().count(), 0);
    assert!(world.refuse(&["image", "info", "whole"]).contains("not found"));
}

#[test]
fn the_real_lxc_client_names_and_describes_images() {
    let Some(world) = World::start("the_real_lxc_client_names_and_describes_images") else { return };
    world.run(&["image", "import", &text(&world.image.unified()), "--alias", "first/one", "--public"]);
    let fingerprint = world.fingerprint("first/one");
    world.run(&["image", "alias", "create", "second", &fingerprint[..12]]);
    world.run(&["image", "alias", "rename", "second", "third/3"]);
    assert!(world.refuse(&["image", "alias", "create", "third/3", &fingerprint]).contains("already exists"));
    let list = world.run(&["image", "alias", "list", "--format", "csv"]);
    assert!(list.contains("first/one") && list.contains("third/3") && !list.contains("second"), "{list}");
    world.run(&["image", "set-property", "third/3", "label", "a note"]);
    assert_eq!(world.run(&["image", "get-property", "first/one", "label"]).trim(), "a note");
    assert_eq!(world.run(&["image", "get-property", "first/one", "os"]).trim(), "Busybox");
    world.run(&["image", "unset-property", "first/one", "label"]);
    assert_eq!(world.images()[0]["properties"]["label"], Value::Null);
    assert_eq!(world.images()[0]["public"], true);
    world.run(&["image", "alias", "delete", "third/3"]);
    assert!(!world.run(&["image", "alias", "list", "--format", "csv"]).contains("third/3"));
    assert_eq!(world.run(&["image", "list", "os=Busybox", "--format", "csv"]).lines().count(), 1);
    world.run(&["image", "delete", "first/one"]);
    assert_eq!(world.run(&["image", "alias", "list", "--format", "csv"]).trim(), "");
}

#[test]
fn the_real_lxc_client_copies_from_an_image_server() {
    let Some(mut world) = World::start("the_real_lxc_client_copies_from_an_image_server") else { return };
    let url = world.server.url().to_owned();
    world.run(&["remote", "add", "demo", &url, "--protocol=simplestreams"]);
    let offered = world.run(&["image", "list", "demo:", "--format", "csv"]);
    assert!(offered.contains("busybox"), "{offered}");
    // Not with `--alias`: of the forms in which a server offers an image this client takes one by chance, and gives the alias to
    // that one whatever the daemon took.
    world.run(&["image", "copy", "demo:busybox/1.0", "local:", "--auto-update"]);
    let fingerprint = world.images()[0]["fingerprint"].as_str().unwrap().to_owned();
    world.run(&["image", "alias", "create", "mine", &fingerprint]);
    assert_eq!(world.fingerprint("mine"), fingerprint);
    assert!(world.images()[0]["auto_update"].as_bool().unwrap());
    world.run(&["image", "copy", "demo:busybox/1.0", "local:"]);
    assert_eq!(world.images().len(), 1);
    world.run(&["image", "refresh", "mine"]);
    assert_eq!(world.fingerprint("mine"), fingerprint);
    let newer = world.server.publish_second();
    world.run(&["image", "refresh", "mine"]);
    assert_eq!(world.fingerprint("mine"), newer);
    world.run(&["image", "delete", "mine"]);
    assert!(world.images().is_empty());
}
