//! Real clients: Debian's, and those that the project's own scripts get.

use crate::images::{MISSING, script};
use crate::s3::Pair;
use crate::server::{Larderd, program, require, skip};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// Whether containers can run here; says what is missing otherwise.
pub fn require_containers(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        skip(test, "needs root");
        return false;
    }
    let places = ["/usr/lib/x86_64-linux-gnu/liblxc.so.1", "/usr/lib/aarch64-linux-gnu/liblxc.so.1"];
    if !places.iter().any(|place| Path::new(place).exists()) {
        skip(test, "not installed: liblxc1");
        return false;
    }
    require(test, &["busybox", "mksquashfs", "xz", "newuidmap"])
}

/// A real client that talks to one daemon, with a home of its own.
#[derive(Debug)]
pub struct RealClient<'a> {
    daemon: &'a Larderd,
    /// What runs it.
    words: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

impl<'a> RealClient<'a> {
    /// Our own client, as it was built.
    pub fn larder(daemon: &'a Larderd) -> Self {
        let environment = vec![
            ("LARDER_DIR", daemon.directory().display().to_string()),
            ("LARDER_CONF", format!("{}/conf", daemon.scratch().display())),
        ];
        Self { daemon, words: vec![program("larder").display().to_string()], environment }
    }

    /// Debian's `lxc` client. Where it is not installed, says that `test` is skipped.
    pub fn lxc(test: &str, daemon: &'a Larderd) -> Option<Self> {
        if !require(test, &["lxc"]) {
            return None;
        }
        let environment = vec![
            ("LXD_DIR", daemon.directory().display().to_string()),
            ("LXD_CONF", format!("{}/lxc", daemon.scratch().display())),
        ];
        Some(Self { daemon, words: vec!["lxc".to_owned()], environment })
    }

    /// A program of the system's packages that talks to the daemon's S3 endpoint. Where it is not installed, says that
    /// `test` is skipped.
    pub fn of_s3(test: &str, daemon: &'a Larderd, name: &str, pair: &Pair) -> Option<Self> {
        if !require(test, &[name]) {
            return None;
        }
        let environment = vec![
            ("AWS_ACCESS_KEY_ID", pair.access.clone()),
            ("AWS_SECRET_ACCESS_KEY", pair.secret.clone()),
            ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
            ("LC_ALL", "C.UTF-8".to_owned()),
        ];
        Some(Self { daemon, words: vec![format!("/usr/bin/{name}")], environment })
    }

    /// The same with another variable in its environment.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// The `incus` client. Where it can't be had, says that `test` is skipped.
    pub fn incus(test: &str, daemon: &'a Larderd) -> Option<Self> {
        let scratch = daemon.scratch().display();
        let environment = vec![
            ("INCUS_SOCKET", daemon.socket().display().to_string()),
            ("INCUS_CONF", format!("{scratch}/incus")),
        ];
        Some(Self { daemon, words: got(test, "get-incus")?, environment })
    }

    /// A python that has pylxd. Where it can't be had, says that `test` is skipped.
    pub fn pylxd(test: &str, daemon: &'a Larderd) -> Option<Self> {
        // It warns about each field that it does not know.
        let environment = vec![("PYLXD_WARNINGS", "none".to_owned())];
        Some(Self { daemon, words: got(test, "get-pylxd")?, environment })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        #[expect(clippy::disallowed_methods, reason = "the test runs the client as a person would")]
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(arguments);
        command.current_dir(self.daemon.scratch()).env_remove("LXD_SOCKET");
        // Not every S3 client can read every bundle, and the endpoint here has no TLS.
        command.env_remove("AWS_CA_BUNDLE");
        command.env("HOME", self.daemon.scratch()).envs(self.environment.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts it; what it prints is the caller's to read.
    ///
    /// # Panics
    /// When it does not start.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap_or_else(|error| panic!("{}: {error}", self.words[0]))
    }

    /// Runs it with this on its standard input.
    ///
    /// # Panics
    /// When it does not start.
    pub fn output(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self.spawn(arguments);
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read is not told.
            let _ = stdin.write_all(input);
        }
        child.wait_with_output().unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// Must succeed; what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments, b"");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}{error}\n{}", self.daemon.log());
        told
    }

    /// Must fail with exit code 1; the error it printed.
    ///
    /// # Panics
    /// When it does not.
    pub fn refuse(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments, b"");
        assert_eq!(output.status.code(), Some(1), "{arguments:?} should have failed");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// What it printed as JSON.
    ///
    /// # Panics
    /// When it fails or is no JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.run(&[arguments, &["--format", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }
}

/// The words that run what a script gets, one a line.
fn got(test: &str, name: &str) -> Option<Vec<String>> {
    #[expect(clippy::disallowed_methods, reason = "the test runs the script as a person would")]
    let output = Command::new(script(name)).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{name} did not start: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(MISSING) {
        skip(test, error.trim());
        return None;
    }
    assert!(output.status.success(), "{name} failed: {error}");
    Some(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}
