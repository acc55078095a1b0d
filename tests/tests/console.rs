//! The console of a running container, at a terminal: had by one, and taken by force.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, RealClient, TestImage, program, require, require_containers};
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

/// The client at the console of `c1`, on a terminal of its own.
fn at_the_console(daemon: &Larderd, options: &str) -> Child {
    let command = format!("{} console c1 {options}", program("larder").display());
    #[expect(clippy::disallowed_methods, reason = "the test runs the client as a person would")]
    Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env("LARDER_SOCKET", daemon.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Its exit code, once it has ended.
fn ended(client: &mut Child) -> Option<i32> {
    let begin = Instant::now();
    while begin.elapsed() < LIMIT {
        if let Some(status) = client.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it does not end");
}

#[test]
fn a_console_is_had_by_one_and_taken_by_force() {
    let test = "a_console_is_had_by_one_and_taken_by_force";
    if !require_containers(test) || !require(test, &["script"]) {
        return;
    }
    let daemon = Larderd::start();
    let Some(image) = TestImage::make(test, daemon.scratch()) else { return };
    let larder = RealClient::larder(&daemon);
    larder.run(&["image", "import", &image.unified().display().to_string(), "--alias", "busybox"]);
    larder.run(&["launch", "busybox", "c1"]);
    let settle = || {
        let begin = Instant::now();
        while !larder.run(&["operation", "list"]).contains("Showing console") {
            assert!(begin.elapsed() < LIMIT, "nobody has the console");
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_secs(4));
    };

    let mut first = at_the_console(&daemon, "");
    settle();
    assert_eq!(first.try_wait().unwrap(), None, "it has the console");
    let mut second = at_the_console(&daemon, "");
    assert_ne!(ended(&mut second), Some(0), "somebody has it already");
    assert_eq!(first.try_wait().unwrap(), None);

    let mut third = at_the_console(&daemon, "--force");
    ended(&mut first);
    settle();
    assert_eq!(third.try_wait().unwrap(), None, "it has the console now");
    third.stdin.as_mut().unwrap().write_all(b"\x01q").unwrap();
    assert_eq!(ended(&mut third), Some(0), "who detaches has not failed");
}
