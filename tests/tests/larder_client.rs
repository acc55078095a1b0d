//! Our own client against a running `larderd`, as a person uses it.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, program};
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
