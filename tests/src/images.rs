//! A small image and an image server, made by the project's own scripts.

use crate::http::request;
use crate::server::{Larderd, require, skip};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// What the scripts can't do without.
const TOOLS: &[&str] = &["busybox", "mksquashfs", "xz", "tar", "openssl", "python3"];
/// How a script ends when a program it needs is missing or not fit.
pub(crate) const MISSING: i32 = 3;

/// A script of the project: beside this crate, or in the folder that `LARDER_SCRIPTS` names where the sources are not.
pub(crate) fn script(name: &str) -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    std::env::var_os("LARDER_SCRIPTS").map_or_else(beside, PathBuf::from).join(name)
}

/// A busybox image: whole, and the same in two files.
#[derive(Debug, Clone)]
pub struct TestImage {
    folder: PathBuf,
}

impl TestImage {
    /// Makes one in `scratch`. Without the tools it says that `test` is skipped.
    ///
    /// # Panics
    /// When the script fails.
    pub fn make(test: &str, scratch: &Path) -> Option<Self> {
        if !require(test, TOOLS) {
            return None;
        }
        let folder = scratch.join("image");
        #[expect(clippy::disallowed_methods, reason = "the test runs the script as a person would")]
        let output = std::process::Command::new(script("make-image")).arg(&folder).output();
        let output = output.unwrap_or_else(|error| panic!("make-image did not start: {error}"));
        let error = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(MISSING) {
            skip(test, error.trim());
            return None;
        }
        assert!(output.status.success(), "make-image failed: {error}");
        Some(Self { folder })
    }

    /// The whole image.
    pub fn unified(&self) -> PathBuf {
        self.folder.join("busybox.tar.gz")
    }

    /// The first of two files: what it is.
    pub fn metadata(&self) -> PathBuf {
        self.folder.join("busybox.meta.tar.xz")
    }

    /// The second of two files: the root.
    pub fn rootfs(&self) -> PathBuf {
        self.folder.join("busybox.squashfs")
    }

    /// An image server that has it.
    ///
    /// # Panics
    /// When it does not start.
    pub fn serve(&self) -> ImageServer {
        #[expect(clippy::disallowed_methods, reason = "the test runs the script as a person would")]
        let child = std::process::Command::new(script("image-server"))
            .arg(&self.folder)
            .env("TMPDIR", self.folder.parent().unwrap_or(&self.folder))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap_or_else(|error| panic!("image-server did not start: {error}"));
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            panic!("image-server has no pipes");
        };
        let mut server =
            ImageServer { child, input: Some(input), output: BufReader::new(output), told: Value::Null };
        server.told = server.line();
        server
    }
}

/// An image server on this machine. Stopped when this is dropped.
#[derive(Debug)]
pub struct ImageServer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    told: Value,
}

impl ImageServer {
    /// Its address.
    pub fn url(&self) -> &str {
        self.told["url"].as_str().unwrap_or_default()
    }

    /// A file of certificate authorities that knows its certificate, for `SSL_CERT_FILE`.
    pub fn bundle(&self) -> &str {
        self.told["bundle"].as_str().unwrap_or_default()
    }

    /// Publishes a newer version; its fingerprint.
    ///
    /// # Panics
    /// When it does not.
    pub fn publish_second(&mut self) -> String {
        let written = self.input.as_mut().map(|input| input.write_all(b"second\n"));
        assert!(matches!(written, Some(Ok(()))), "image-server does not listen");
        self.line()["fingerprint"].as_str().unwrap_or_default().to_owned()
    }

    /// Ends it.
    pub fn stop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        let _ = self.output.read_line(&mut line);
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("image-server told {line:?}: {error}"))
    }
}

impl Drop for ImageServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A tar file with these members; a name that ends in a slash is a directory.
pub fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    const BLOCK: usize = 512;
    let mut bytes = Vec::new();
    for (name, content) in members {
        let is_directory = name.ends_with('/');
        let mut header = [0_u8; BLOCK];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, if is_directory { "0000755" } else { "0000644" });
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", content.len()));
        put(136, "00000000000");
        put(148, "        ");
        put(156, if is_directory { "5" } else { "0" });
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes.resize(bytes.len() + 2 * BLOCK, 0);
    bytes
}

/// The body of a form with these parts, and the content type that goes with it.
pub fn form(parts: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    const BOUNDARY: &str = "----the-boundary-of-a-test";
    let mut bytes = Vec::new();
    for (name, content) in parts {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}.file\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(content);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={BOUNDARY}"), bytes)
}

/// Uploads an image whose root is a folder with one file, for instances that don't run. Returns its fingerprint.
///
/// # Panics
/// When it is not taken.
pub fn upload_small_image(daemon: &Larderd) -> String {
    let about = b"architecture: x86_64\ncreation_date: 1767225600\n";
    let image = tar(&[("metadata.yaml", about), ("rootfs/", b""), ("rootfs/file", b"text")]);
    let headers = [("Content-Type", "application/octet-stream")];
    let reply = request(&daemon.socket(), "POST", "/1.0/images", &headers, &image);
    let made = reply.map_err(|error| error.to_string()).and_then(|reply| daemon.finish(&reply));
    let made = made.unwrap_or_else(|error| panic!("the image: {error}"));
    made["fingerprint"].as_str().unwrap_or_default().to_owned()
}
