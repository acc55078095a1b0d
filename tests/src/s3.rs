//! The S3 endpoint of a running daemon, spoken to with `curl`. What it sends is signed here, since its own signatures are not right
//! for every key.

use crate::server::Larderd;
use jiff::Timestamp;
use larder_base::signature::{self, Request, UNSIGNED_PAYLOAD};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// A pair of access key and secret key.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The access key.
    pub access: String,
    /// The secret key.
    pub secret: String,
}

impl Pair {
    /// As the API spells it.
    pub fn of(key: &Value) -> Self {
        let text = |name: &str| key[name].as_str().unwrap_or_default().to_owned();
        Self { access: text("access-key"), secret: text("secret-key") }
    }
}

/// Somebody with a key pair, at an endpoint.
#[derive(Debug, Clone)]
pub struct S3 {
    /// Scheme, host and port.
    pub url: String,
    /// The key pair; without one requests are not signed.
    pub pair: Option<Pair>,
    /// More headers, by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// More arguments for curl.
    pub more: Vec<String>,
}

/// An answer: the status and the body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status; 0 when there was no answer.
    pub status: u16,
    /// The body; when there was no answer, why.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The error's code in the body; empty when there is none.
    pub fn code(&self) -> String {
        let text = self.text();
        let code = text.split("<Code>").nth(1).and_then(|rest| rest.split("</Code>").next());
        code.unwrap_or_default().to_owned()
    }
}

impl S3 {
    /// Switches the endpoint on, without TLS on a port of the kernel's choice, and speaks to it with a key pair.
    pub fn open(daemon: &Larderd, pair: Pair) -> Self {
        let config = json!({ "core.storage_buckets_address": "127.0.0.1:0", "core.storage_buckets_plaintext": "true" });
        daemon.change("PATCH", "/1.0", &json!({ "config": config }));
        Self::at(&endpoint(daemon), pair)
    }

    /// Speaks to another server with a key pair.
    pub fn at(url: &str, pair: Pair) -> Self {
        Self { url: url.to_owned(), pair: Some(pair), headers: BTreeMap::new(), more: Vec::new() }
    }

    /// The same endpoint with another key pair.
    #[must_use]
    pub fn with(&self, pair: Pair) -> Self {
        Self { pair: Some(pair), ..self.clone() }
    }

    /// The same with another header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same with another argument for curl.
    #[must_use]
    pub fn and(mut self, argument: &str) -> Self {
        self.more.push(argument.to_owned());
        self
    }

    /// One request; only a PUT sends its body. `path` is the encoded path with its query, without the first slash.
    ///
    /// # Panics
    /// When curl does not start.
    pub fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let output = self.curl(method, path, body);
        let (body, status) = match output.stdout.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => (output.stdout[..end].to_vec(), &output.stdout[end + 1..]),
            None => (Vec::new(), output.stdout.as_slice()),
        };
        match String::from_utf8_lossy(status).trim().parse().unwrap_or(0) {
            0 => Answer { status: 0, body: output.stderr },
            status => Answer { status, body },
        }
    }

    /// Allows everybody everything in a bucket, without signatures.
    ///
    /// # Panics
    /// When it fails.
    pub fn let_everybody_in(&self, bucket: &str) {
        let resources = [format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/*")];
        let statement =
            json!([{ "Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": resources }]);
        let policy = json!({ "Version": "2012-10-17", "Statement": statement }).to_string();
        let answer = self.send("PUT", &format!("{bucket}?policy="), policy.as_bytes());
        assert!(matches!(answer.status, 200 | 204), "{}: {}", answer.status, answer.text());
    }

    fn curl(&self, method: &str, path: &str, body: &[u8]) -> Output {
        #[expect(clippy::disallowed_methods, reason = "the test runs the client as a person would")]
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "60", "--write-out", "\n%{http_code}"]);
        command.args(["--path-as-is", "--globoff"]);
        for (name, value) in self.signed(method, path) {
            command.arg("--header").arg(format!("{name}: {value}"));
        }
        // A file: what curl reads from a pipe it sends without a length.
        let file = tempfile::NamedTempFile::new().unwrap_or_else(|error| panic!("no file: {error}"));
        std::fs::write(file.path(), body).unwrap_or_else(|error| panic!("no file: {error}"));
        match method {
            "HEAD" => command.arg("--head"),
            // To what looks like a folder curl uploads a file of the file's name.
            "PUT" if is_like_a_folder(path) => {
                command.args(["--request", "PUT", "--data-binary"]).arg(format!("@{}", file.path().display()))
            }
            "PUT" => command.arg("--upload-file").arg(file.path()),
            _ => command.args(["--request", method]),
        };
        command.args(&self.more).arg(format!("{}/{path}", self.url)).stdin(Stdio::null());
        command.output().unwrap_or_else(|error| panic!("curl did not start: {error}"))
    }

    /// The headers of a request, with its signature. It has a number of its own, as SDKs have it: no two are the same.
    fn signed(&self, method: &str, path: &str) -> BTreeMap<String, String> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let mut headers = self.headers.clone();
        headers.entry("content-type".to_owned()).or_insert_with(|| "binary/octet-stream".to_owned());
        let Some(pair) = &self.pair else { return headers };
        let host = self.url.split("://").nth(1).unwrap_or_default();
        headers.insert("host".to_owned(), host.to_owned());
        headers.insert("x-amz-content-sha256".to_owned(), UNSIGNED_PAYLOAD.to_owned());
        headers.insert("x-amz-date".to_owned(), signature::date(Timestamp::now()));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
        headers.insert("amz-sdk-invocation-id".to_owned(), number);
        headers.insert("amz-sdk-request".to_owned(), "attempt=1".to_owned());
        let request = Request { method, target: &format!("/{path}"), headers: &headers };
        let authorization = request.authorization(&pair.access, &pair.secret);
        headers.insert("authorization".to_owned(), authorization);
        headers
    }

    /// Puts an object, which must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub fn put(&self, path: &str, body: &[u8]) {
        let answer = self.send("PUT", path, body);
        assert_eq!(answer.status, 200, "PUT {path}: {}", answer.text());
    }

    /// Gets an object, which must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub fn get(&self, path: &str) -> Vec<u8> {
        let answer = self.send("GET", path, b"");
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        answer.body
    }
}

fn is_like_a_folder(path: &str) -> bool {
    path.contains('/') && matches!(path.rsplit('/').next(), Some("" | "." | ".."))
}

/// Where the daemon's endpoint is, found in the URL of a bucket that is made for asking.
fn endpoint(daemon: &Larderd) -> String {
    let buckets = "/1.0/storage-pools/default/buckets";
    daemon.change("POST", buckets, &json!({ "name": "where-is-it" }));
    let url = endpoint_of(daemon, &format!("{buckets}/where-is-it"));
    daemon.change("DELETE", &format!("{buckets}/where-is-it"), &Value::Null);
    url
}

/// Where the bucket at an API path is served: the URL without the bucket's name.
fn endpoint_of(daemon: &Larderd, path: &str) -> String {
    let bucket = daemon.read(path);
    let url = bucket["s3_url"].as_str().unwrap_or_default();
    let (url, _) = url.rsplit_once('/').unwrap_or_else(|| panic!("no endpoint in {bucket}"));
    url.to_owned()
}

/// The same as `host:port`, of an endpoint without TLS.
///
/// # Panics
/// When it is none.
pub fn host_of(daemon: &Larderd, path: &str) -> String {
    let url = endpoint_of(daemon, path);
    url.strip_prefix("http://").unwrap_or_else(|| panic!("{url} has TLS")).to_owned()
}
