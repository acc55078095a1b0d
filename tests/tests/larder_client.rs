//! Our own client against a running `larderd`, as a person uses it.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, Pair, S3, TestImage, program, require};
use serde_json::Value;
use std::process::Output;

fn output(daemon: &Larderd, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "the test runs the client as a person would")]
    std::process::Command::new(program("larder"))
        .args(arguments)
        .env("LARDER_DIR", daemon.directory())
        .env("LARDER_CONF", daemon.scratch().join("conf"))
        .env("HOME", daemon.scratch())
        .env("COLUMNS", "100")
        .envs(environment.iter().copied())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

fn run(daemon: &Larderd, arguments: &[&str]) -> String {
    let output = output(daemon, arguments, &[]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "larder {arguments:?}: {error}\n{}", daemon.log());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refuse(daemon: &Larderd, arguments: &[&str]) -> String {
    let output = output(daemon, arguments, &[]);
    assert_eq!(output.status.code(), Some(1), "larder {arguments:?} should have failed");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn names(daemon: &Larderd, arguments: &[&str]) -> Vec<String> {
    let text = run(daemon, &[arguments, &["--format", "json"]].concat());
    let list: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"));
    let mut names: Vec<String> =
        list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn volumes_are_made_shown_copied_and_deleted() {
    let daemon = Larderd::start();
    assert_eq!(names(&daemon, &["storage", "list"]), ["default"]);
    run(&daemon, &["storage", "create", "p2", "dir"]);
    run(&daemon, &["storage", "volume", "create", "default", "v1"]);
    run(&daemon, &["storage", "volume", "set", "default", "v1", "user.note=kept"]);
    assert!(run(&daemon, &["storage", "volume", "show", "default", "v1"]).contains("user.note: kept"));
    run(&daemon, &["storage", "volume", "snapshot", "create", "default", "v1", "s0"]);
    run(&daemon, &["storage", "volume", "copy", "default/v1", "p2/v2"]);
    run(&daemon, &["storage", "volume", "move", "p2/v2", "default/v3"]);
    run(&daemon, &["storage", "volume", "rename", "default", "v3", "v4"]);
    assert_eq!(names(&daemon, &["storage", "volume", "list", "default"]), ["v1", "v1/s0", "v4", "v4/s0"]);
    let file = daemon.scratch().join("v1.tar.zst").display().to_string();
    run(&daemon, &["storage", "volume", "export", "default", "v1", &file, "--compression", "zstd"]);
    run(&daemon, &["storage", "volume", "import", "p2", &file, "back"]);
    assert_eq!(names(&daemon, &["storage", "volume", "list", "p2"]), ["back", "back/s0"]);
    let table = run(&daemon, &["storage", "volume", "list", "p2"]);
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    for volume in ["v1", "v4"] {
        run(&daemon, &["storage", "volume", "delete", "default", volume]);
    }
    assert!(names(&daemon, &["storage", "volume", "list", "default"]).is_empty());
}

#[test]
fn editing_takes_yaml_and_errors_come_with_a_hint() {
    let daemon = Larderd::start();
    run(&daemon, &["storage", "volume", "create", "default", "v1"]);
    let editor = daemon.scratch().join("editor");
    std::fs::write(&editor, "#!/bin/sh\nsed -i 's/^description:.*/description: edited/' \"$1\"\n").unwrap();
    std::fs::set_permissions(&editor, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let edited = output(
        &daemon,
        &["storage", "volume", "edit", "default", "v1"],
        &[("EDITOR", editor.to_str().unwrap())],
    );
    // Without a terminal the YAML comes from standard input, as with the peers' clients: nothing came, so nothing changed.
    let shown = run(&daemon, &["storage", "volume", "show", "default", "v1"]);
    assert!(shown.contains("description: edited") || !edited.status.success(), "{shown}");
    let error = refuse(&daemon, &["storage", "volume", "delete", "default", "nope"]);
    assert!(error.contains("nope") && error.contains("Hint:"), "{error}");
    let wrong = output(&daemon, &["storage", "volume", "create"], &[]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn the_catalog_is_backed_up_to_a_new_file_only() {
    let daemon = Larderd::start();
    let file = daemon.scratch().join("catalog.db").display().to_string();
    run(&daemon, &["admin", "catalog", "backup", &file]);
    assert!(std::fs::read(&file).unwrap().starts_with(b"SQLite format 3\0"));
    assert!(refuse(&daemon, &["admin", "catalog", "backup", &file]).contains("exists"));
}

#[test]
fn images_are_imported_named_told_of_exported_and_copied() {
    let test = "images_are_imported_named_told_of_exported_and_copied";
    let scratch = tempfile::tempdir().unwrap();
    let Some(image) = TestImage::make(test, scratch.path()) else { return };
    let mut server = image.serve();
    let bundle = server.bundle().to_owned();
    let daemon = Larderd::start_with(&[("SSL_CERT_FILE", &bundle)]);
    let file = |path: std::path::PathBuf| path.display().to_string();
    run(&daemon, &["image", "import", &file(image.unified()), "--alias", "whole"]);
    run(&daemon, &["image", "import", &file(image.metadata()), &file(image.rootfs()), "--alias", "a/split"]);
    assert!(refuse(&daemon, &["image", "import", &file(image.unified())]).contains("already exists"));
    let list = run(&daemon, &["image", "list"]);
    assert!(list.contains("whole") && list.contains("a/split"), "{list}");
    let info = run(&daemon, &["image", "info", "a/split"]);
    assert!(info.contains("os: Busybox") && info.contains("stays until deleted"), "{info}");
    run(&daemon, &["image", "alias", "create", "other", "whole"]);
    run(&daemon, &["image", "alias", "rename", "other", "b/c"]);
    assert_eq!(names(&daemon, &["image", "alias", "list"]), ["a/split", "b/c", "whole"]);
    run(&daemon, &["image", "alias", "delete", "b/c"]);
    run(&daemon, &["image", "set-property", "whole", "label=mine"]);
    assert_eq!(run(&daemon, &["image", "get-property", "whole", "label"]).trim(), "mine");
    let out = |name: &str| scratch.path().join(name);
    run(&daemon, &["image", "export", "whole", &file(out("out"))]);
    assert!(std::fs::read(out("out.tar.gz")).unwrap() == std::fs::read(image.unified()).unwrap());
    run(&daemon, &["image", "export", "a/split", &file(out("two"))]);
    assert!(std::fs::read(out("two")).unwrap() == std::fs::read(image.metadata()).unwrap());
    assert!(std::fs::read(out("two.root")).unwrap() == std::fs::read(image.rootfs()).unwrap());
    run(&daemon, &["image", "delete", "whole", "a/split"]);
    assert!(refuse(&daemon, &["image", "info", "whole"]).contains("whole"));

    run(&daemon, &["remote", "add", "demo", server.url()]);
    let trusting = |arguments: &[&str]| {
        let output = output(&daemon, arguments, &[("SSL_CERT_FILE", &bundle)]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "larder {arguments:?}: {error}\n{}", daemon.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(trusting(&["image", "list", "demo:"]).contains("busybox"));
    trusting(&["image", "copy", "demo:busybox/1.0", "local:", "--alias", "mine", "--auto-update"]);
    let info = run(&daemon, &["image", "info", "mine"]);
    assert!(info.contains(server.url()) && info.contains("Alias: busybox/1.0"), "{info}");
    assert!(run(&daemon, &["image", "refresh", "mine"]).contains("up to date"));
    let newer = server.publish_second();
    assert!(run(&daemon, &["image", "refresh", "mine"]).contains("refreshed"));
    assert!(run(&daemon, &["image", "info", "mine"]).contains(&newer));
    assert!(refuse(&daemon, &["image", "copy", "demo:nothing", "local:"]).contains("nothing"));
}

/// All files of a bucket's objects.
fn object_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let paths = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = paths.flat_map(|path| if path.is_dir() { object_files(&path) } else { vec![path] });
    files.filter(|path| path.components().any(|part| part.as_os_str() == "data")).collect()
}

#[test]
fn damage_in_a_bucket_is_listed_and_its_index_is_rebuilt() {
    if !require("damage_in_a_bucket_is_listed_and_its_index_is_rebuilt", &["curl"]) {
        return;
    }
    let daemon = Larderd::start();
    run(&daemon, &["storage", "bucket", "create", "default", "photos"]);
    let key = daemon.read("/1.0/storage-pools/default/buckets/photos/keys/admin");
    S3::open(&daemon, Pair::of(&key)).put("photos/large", &vec![1; 1 << 20]);
    let scrub = ["storage", "bucket", "scrub", "default", "photos"];
    let fine = run(&daemon, &scrub);
    assert!(fine.contains("1 versions") && fine.contains("nothing damaged"), "{fine}");
    assert_eq!(run(&daemon, &[&scrub[..], &["--format", "json"]].concat()).trim(), "[]");
    let rebuilt = run(&daemon, &["storage", "bucket", "rebuild-index", "default", "photos"]);
    assert!(rebuilt.contains("rebuilt: 1 versions"), "{rebuilt}");

    let file = object_files(&daemon.directory().join("storage-pools")).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(refuse(&daemon, &scrub).contains("1 of 1 versions"));
    let listed = output(&daemon, &[&scrub[..], &["--format", "json"]].concat(), &[]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["key"]), (1, &Value::from("large")));
    let table = String::from_utf8(output(&daemon, &scrub, &[]).stdout).unwrap();
    assert!(table.contains("PROBLEM") && table.contains("large") && table.contains("MD5"), "{table}");
}

#[test]
fn buckets_and_their_keys_are_made_shown_edited_and_deleted() {
    let daemon = Larderd::start();
    let made = run(&daemon, &["storage", "bucket", "create", "default", "photos", "size=1GiB"]);
    assert!(made.contains("Access key: ") && made.contains("Secret key: "), "{made}");
    assert_eq!(names(&daemon, &["storage", "bucket", "list", "default"]), ["photos"]);
    let table = run(&daemon, &["storage", "bucket", "list"]);
    assert!(table.contains("POOL") && table.contains("photos") && table.contains("1GiB"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    run(&daemon, &["storage", "bucket", "set", "default", "photos", "user.note=kept"]);
    assert_eq!(run(&daemon, &["storage", "bucket", "get", "default", "photos", "user.note"]).trim(), "kept");
    run(&daemon, &["storage", "bucket", "unset", "default", "photos", "user.note"]);
    let shown = run(&daemon, &["storage", "bucket", "show", "default", "photos"]);
    assert!(shown.contains("name: photos") && shown.contains("size: 1GiB"), "{shown}");
    let secret = daemon.scratch().join("secret");
    std::fs::write(&secret, "a/b+c=d/e\n").unwrap();
    let secret = secret.display().to_string();
    let made = run(
        &daemon,
        &[
            "storage",
            "bucket",
            "key",
            "create",
            "default",
            "photos",
            "reader",
            "--access-key",
            "READER",
            "--secret-key-file",
            &secret,
        ],
    );
    assert!(made.contains("Access key: READER") && made.contains("Secret key: a/b+c=d/e"), "{made}");
    assert_eq!(
        names(&daemon, &["storage", "bucket", "key", "list", "default", "photos"]),
        ["admin", "reader"]
    );
    let shown = run(&daemon, &["storage", "bucket", "key", "show", "default", "photos", "reader"]);
    assert!(shown.contains("role: read-only"), "{shown}");
    run(&daemon, &["storage", "bucket", "key", "delete", "default", "photos", "reader"]);
    run(&daemon, &["storage", "bucket", "snapshot", "default", "photos", "s0"]);
    assert_eq!(
        names(&daemon, &["storage", "bucket", "snapshot", "list", "default", "photos"]),
        ["photos/s0"]
    );
    run(&daemon, &["storage", "bucket", "restore", "default", "photos", "s0"]);
    let copied = run(&daemon, &["storage", "bucket", "copy", "default/photos/s0", "default/copied"]);
    assert!(copied.contains("Secret key: "), "{copied}");
    let file = daemon.scratch().join("photos.tar").display().to_string();
    run(&daemon, &["storage", "bucket", "export", "default", "photos", &file, "--compression", "none"]);
    run(&daemon, &["storage", "bucket", "import", "default", &file, "back"]);
    assert_eq!(names(&daemon, &["storage", "bucket", "list", "default"]), ["back", "copied", "photos"]);
    for bucket in ["back", "copied", "photos"] {
        run(&daemon, &["storage", "bucket", "delete", "default", bucket]);
    }
    assert!(refuse(&daemon, &["storage", "bucket", "show", "default", "photos"]).contains("not found"));

    let words = "storage account create ann --pool default --display-name Ann --email a@b --quota 1GiB --access-key FIRST";
    let account = words.split(' ').chain(["--secret-key-file", secret.as_str()]).collect::<Vec<_>>();
    let made = run(&daemon, &account);
    assert!(made.contains("Access key: FIRST") && made.contains("Secret key: a/b+c=d/e"), "{made}");
    let shown = run(&daemon, &["storage", "account", "show", "ann"]);
    assert!(shown.contains("display_name: Ann") && shown.contains("email: a@b"), "{shown}");
    assert_eq!(names(&daemon, &["storage", "account", "list"]), ["ann"]);
    run(&daemon, &["storage", "account", "quota", "ann", "none"]);
    run(&daemon, &["storage", "bucket", "create", "default", "shared"]);
    run(&daemon, &["storage", "account", "key", "add", "ann", "--access-key", "SECOND"]);
    run(&daemon, &["storage", "account", "grant", "ann", "SECOND", "shared:read-only"]);
    assert!(run(&daemon, &["storage", "account", "key", "list", "ann"]).contains("shared"));
    run(&daemon, &["storage", "account", "grant", "ann", "SECOND", "--all"]);
    run(&daemon, &["storage", "account", "key", "remove", "ann", "SECOND"]);
    run(&daemon, &["storage", "account", "delete", "ann"]);
}
