//! Requests to the gateway as configurations of `curl(1)`: for what `radosgw-admin` has no word for.
//!
//! A configuration holds signatures, so it goes through standard input; and what stands in it comes from backups too, so no value
//! can end its line.

use super::command::{LONG, QUICK};
use super::keys::Settings;
use jiff::Timestamp;
use larder_base::host::{Cmd, Input, Tool};
use larder_base::signature::{self, Request, UNSIGNED_PAYLOAD};
use larder_storage_driver::{ErrorKind, NewObject, ObjectFacts, ObjectKey, Result, StorageError};
use serde_json::json;
use std::collections::BTreeMap;

pub(crate) const CURL: Tool = Tool { name: "curl", package: "curl" };
/// Refuses every setting of the person who started the daemon.
const NO_CONFIGURATION: &str = "-q";
/// How long the gateway may take to make a bucket, and to give a sign of life (seconds).
const MAKING_LIMIT: u32 = 60;
const KNOCKING_LIMIT: u32 = 10;
/// How long it may take to let itself be reached, and how long nothing may move (seconds), where much is moved.
const PATIENCE: [&str; 3] = ["connect-timeout = 30", "speed-time = 300", "speed-limit = 1"];
/// How large an object may be that curl holds in memory.
const LARGEST_FOLDER: u64 = 64 << 20;
/// How many keys are asked for at once.
pub(super) const PAGE: usize = 1000;
/// What stands before the status in a line of its own, where several requests are answered in one output.
pub(super) const STATUS_MARK: char = '=';
/// The headers that an object is put with, each under the name that a backup has for it.
const HEADERS: [(&str, &str); 7] = [
    ("cache-control", "cache-control"),
    ("content-disposition", "content-disposition"),
    ("content-encoding", "content-encoding"),
    ("content-language", "content-language"),
    ("content-type", "content-type"),
    ("expires", "expires"),
    ("website-redirect", "x-amz-website-redirect-location"),
];
pub(super) const METADATA: &str = "x-amz-meta-";

/// The name that a backup has for a header which an object is told with.
pub(super) fn kept_header(name: &str) -> Option<&'static str> {
    HEADERS.iter().find(|(_, sent)| *sent == name).map(|(kept, _)| *kept)
}

impl Settings {
    /// Where a bucket is at the gateway.
    pub(super) fn bucket_url(&self, name: &str) -> String {
        format!("{}{}", self.endpoint, self.bucket_path(name))
    }

    fn bucket_path(&self, name: &str) -> String {
        format!("/{}{name}", self.prefix)
    }

    /// Where an object is. Nothing in a key is special, neither `..` nor an empty part.
    fn object_path(&self, bucket: &str, key: &str) -> String {
        format!("{}/{}", self.bucket_path(bucket), urlencoding::encode(key).replace("%2F", "/"))
    }

    /// What every request has.
    fn common(&self) -> Vec<String> {
        let mut lines: Vec<_> = ["proto = \"=http,https\"", "silent", "show-error", "globoff", "path-as-is"]
            .map(str::to_owned)
            .into();
        lines.extend(
            self.certificate.as_ref().map(|file| format!("cacert = {}", quoted(&file.display().to_string()))),
        );
        lines
    }

    /// A request as whoever has the key makes it. It is signed here: curl's own signatures differ from version to version, and
    /// with no version are they right for every key and header.
    fn signed(
        &self,
        key: &ObjectKey,
        method: &str,
        target: &str,
        headers: Vec<(String, String)>,
    ) -> Vec<String> {
        let (scheme, rest) = self.endpoint.split_once("://").unwrap_or_default();
        let (host, root) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let mut headers: BTreeMap<_, _> = headers.into_iter().collect();
        for (name, value) in [
            ("host", host),
            ("x-amz-content-sha256", UNSIGNED_PAYLOAD),
            ("x-amz-date", &signature::date(Timestamp::now())),
        ] {
            headers.insert(name.to_owned(), value.to_owned());
        }
        let target = format!("{root}{target}");
        let request = Request { method, target: &target, headers: &headers };
        let authorization = request.authorization(&key.access_key, &key.secret_key);
        let mut lines = self.common();
        lines.extend(headers.iter().map(|(name, value)| header(name, value)));
        lines.extend([header("authorization", &authorization), url(&format!("{scheme}://{host}{target}"))]);
        lines
    }

    /// Asks the gateway for a sign of life, without being anybody.
    pub(super) fn knock(&self) -> Cmd {
        let url = url(&format!("{}/", self.endpoint));
        curl(Cmd::reads(CURL), &[self.common(), vec![url, limit(KNOCKING_LIMIT), told_last()]].concat())
    }

    /// Makes a bucket, as its user.
    pub(super) fn make_bucket(&self, name: &str, key: &ObjectKey) -> Cmd {
        let mut lines = self.signed(key, "PUT", &self.bucket_path(name), Vec::new());
        lines.extend(["request = \"PUT\"".to_owned(), limit(MAKING_LIMIT), told_last()]);
        curl(Cmd::changes(CURL), &lines)
    }

    /// Lists the objects whose keys come after one. The keys come encoded, since XML can't spell them all.
    pub(super) fn list_objects(&self, bucket: &str, key: &ObjectKey, after: &str) -> Cmd {
        let query = format!(
            "encoding-type=url&list-type=2&max-keys={PAGE}&start-after={}",
            urlencoding::encode(after)
        );
        let mut lines = self.signed(key, "GET", &format!("{}?{query}", self.bucket_path(bucket)), Vec::new());
        lines.extend([limit(MAKING_LIMIT), told_last()]);
        curl(Cmd::reads(CURL), &lines)
    }

    /// Reads objects: of each its tags, then itself, with the headers before the bodies. Ends at the first that can't be had,
    /// with its status on standard error.
    pub(super) fn read_objects<'a>(
        &self,
        bucket: &str,
        key: &ObjectKey,
        names: impl Iterator<Item = &'a str>,
    ) -> Cmd {
        let requests = names.flat_map(|name| {
            let object = self.object_path(bucket, name);
            [format!("{object}?tagging="), object].map(|target| {
                let mut lines = self.signed(key, "GET", &target, Vec::new());
                lines.extend(["include", "fail"].into_iter().chain(PATIENCE).map(str::to_owned));
                lines
            })
        });
        curl(Cmd::reads(CURL), &one_after_the_other(requests)).limit(LONG).ends_with_us()
    }

    /// Writes objects, one after the other. Says the status of each in a line.
    pub(super) fn write_objects(&self, bucket: &str, key: &ObjectKey, objects: &[NewObject]) -> Result<Cmd> {
        let requests = objects.iter().map(|object| {
            let target = self.object_path(bucket, &object.key);
            let mut lines = self.signed(key, "PUT", &target, facts_of(object)?);
            lines.extend(PATIENCE.map(str::to_owned));
            lines.extend(bytes_of(object)?);
            lines.push(told_in_between());
            Ok(lines)
        });
        let requests = requests.collect::<Result<Vec<_>>>()?;
        let lines = one_after_the_other(requests.into_iter());
        Ok(curl(Cmd::changes(CURL), &lines).limit(LONG).ends_with_us())
    }

    /// Copies objects from bucket to bucket, one after the other. Says the status of each in a line.
    pub(super) fn copy_objects(&self, from: &str, into: &str, key: &ObjectKey, names: &[String]) -> Cmd {
        self.each(key, "PUT", names, |name| {
            let source = ("x-amz-copy-source".to_owned(), self.object_path(from, name));
            (self.object_path(into, name), vec![source])
        })
    }

    /// Removes objects, one after the other. Says the status of each in a line.
    pub(super) fn remove_objects(&self, bucket: &str, key: &ObjectKey, names: &[String]) -> Cmd {
        self.each(key, "DELETE", names, |name| (self.object_path(bucket, name), Vec::new()))
    }

    fn each(
        &self,
        key: &ObjectKey,
        method: &str,
        names: &[String],
        asked: impl Fn(&str) -> (String, Vec<(String, String)>),
    ) -> Cmd {
        let requests = names.iter().map(|name| {
            let (target, headers) = asked(name);
            let mut lines = self.signed(key, method, &target, headers);
            lines.extend(PATIENCE.map(str::to_owned));
            lines.extend([format!("request = \"{method}\""), told_in_between()]);
            lines
        });
        curl(Cmd::changes(CURL), &one_after_the_other(requests)).limit(LONG).ends_with_us()
    }

    /// Lets subusers of others do everything in a bucket, and nobody else but its owner: not even those whose users own objects
    /// in it.
    pub(super) fn admit(&self, bucket: &str, key: &ObjectKey, owner: &str, subusers: &[String]) -> Cmd {
        let named = |user: &str| format!("arn:aws:iam:::user/{user}");
        let mut known: Vec<_> = subusers.iter().map(|subuser| named(subuser)).collect();
        let bucket_name = format!("arn:aws:s3:::{}{bucket}", self.prefix);
        let all = json!([bucket_name, format!("{bucket_name}/*")]);
        let allow = json!({
            "Effect": "Allow", "Action": "s3:*", "Resource": all, "Principal": { "AWS": known },
        });
        known.push(named(owner));
        let deny = json!({
            "Effect": "Deny", "Action": "s3:*", "Resource": all, "NotPrincipal": { "AWS": known },
        });
        let policy = json!({ "Version": "2012-10-17", "Statement": [allow, deny] });
        let target = format!("{}?policy=", self.bucket_path(bucket));
        let mut lines = self.signed(key, "PUT", &target, Vec::new());
        lines.push(format!("data-binary = {}", quoted(&policy.to_string())));
        lines.extend(["request = \"PUT\"".to_owned(), limit(MAKING_LIMIT), told_last()]);
        curl(Cmd::changes(CURL), &lines)
    }
}

/// Several requests to one curl, which ends at the first that fails.
fn one_after_the_other(requests: impl Iterator<Item = Vec<String>>) -> Vec<String> {
    let mut lines = vec!["fail-early".to_owned()];
    for request in requests {
        lines.extend(request);
        lines.push("next".to_owned());
    }
    lines.pop();
    lines
}

fn curl(cmd: Cmd, lines: &[String]) -> Cmd {
    cmd.args([NO_CONFIGURATION, "--config", "-"])
        .input(Input::Bytes(lines.join("\n").into_bytes()))
        .limit(QUICK)
}

fn url(url: &str) -> String {
    format!("url = {}", quoted(url))
}

fn limit(seconds: u32) -> String {
    format!("max-time = {seconds}")
}

/// Prints the status after the body.
fn told_last() -> String {
    "write-out = \"\\n%{http_code}\"".to_owned()
}

/// Prints it in a line of its own, marked, where others follow.
fn told_in_between() -> String {
    format!("write-out = \"\\n{STATUS_MARK}%{{http_code}}\\n\"")
}

/// A header. To curl a colon without a value is the absence of one.
fn header(name: &str, value: &str) -> String {
    let line = if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") };
    format!("header = {}", quoted(&line))
}

/// Where curl reads an object. What it uploads gets the file's name behind a URL that leads to a folder, as curl sees it; an object
/// with such a key, which is empty as a rule, it has to read whole before it sends it.
fn bytes_of(object: &NewObject) -> Result<Vec<String>> {
    let file = object.file.display().to_string();
    if !matches!(object.key.rsplit('/').next(), Some("" | "." | "..")) {
        return Ok(vec![format!("upload-file = {}", quoted(&file))]);
    }
    let size = std::fs::metadata(&object.file).map_err(StorageError::from)?.len();
    if size > LARGEST_FOLDER {
        let message = format!(
            "the object {:?} is too large for a key that ends as a folder's name does: at most {} MiB",
            object.key,
            LARGEST_FOLDER >> 20
        );
        return Err(StorageError::new(ErrorKind::Invalid, message));
    }
    Ok(vec!["request = \"PUT\"".to_owned(), format!("data-binary = {}", quoted(&format!("@{file}")))])
}

/// The headers that say what is known of an object. Storage classes are left out, since each gateway has its own.
fn facts_of(object: &NewObject) -> Result<Vec<(String, String)>> {
    let ObjectFacts { headers, metadata, tags, storage_class: _ } = &object.facts;
    let kept = |name: &str| headers.get(name).map(String::as_str);
    let mut pairs: Vec<(String, String)> = HEADERS
        .iter()
        .filter_map(|(name, sent)| Some(((*sent).to_owned(), kept(name)?.trim().to_owned())))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    if kept("content-type").is_none_or(|kind| kind.trim().is_empty()) {
        pairs.push(("content-type".to_owned(), "binary/octet-stream".to_owned()));
    }
    pairs.extend(metadata.iter().map(|(name, value)| (format!("{METADATA}{name}"), value.trim().to_owned())));
    if !tags.is_empty() {
        let spelt = tags
            .iter()
            .map(|(name, value)| format!("{}={}", urlencoding::encode(name), urlencoding::encode(value)));
        pairs.push(("x-amz-tagging".to_owned(), spelt.collect::<Vec<_>>().join("&")));
    }
    match pairs.iter().find(|(name, value)| !is_header(name, value)) {
        None => Ok(pairs),
        Some((name, _)) => Err(StorageError::new(
            ErrorKind::Invalid,
            format!(
                "the object {:?} has a header {name:?} that can't be sent: a name has letters, digits, dashes, dots and \
                 underscores, and a value no control characters",
                object.key
            ),
        )),
    }
}

fn is_header(name: &str, value: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.bytes().all(is_plain) && !value.chars().any(char::is_control)
}

/// A value in curl's configuration: one line, whatever is in it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PoolSetup;
    use proptest::prelude::*;

    fn settings() -> Settings {
        let keys = [
            ("cephobject.radosgw.endpoint", "https://gate:8443/rgw/"),
            ("cephobject.bucket.name_prefix", "l-"),
        ];
        Settings::of(&PoolSetup::with_keys(&keys)).unwrap()
    }

    fn key() -> ObjectKey {
        let (access_key, secret_key) = ("ACCESS".to_owned(), "secret\"\\x".to_owned());
        ObjectKey { name: "k".to_owned(), may_write: true, access_key, secret_key }
    }

    fn object(key: &str) -> NewObject {
        NewObject { key: key.to_owned(), file: "/dev/null".into(), facts: ObjectFacts::default() }
    }

    #[test]
    fn a_command_line_tells_nothing() {
        let settings = settings();
        for cmd in [
            settings.make_bucket("b", &key()),
            settings.list_objects("b", &key(), "a b"),
            settings.read_objects("b", &key(), ["a"].into_iter()),
            settings.write_objects("b", &key(), &[object("a")]).unwrap(),
            settings.copy_objects("b", "c", &key(), &["a".to_owned()]),
            settings.remove_objects("b", &key(), &["a".to_owned()]),
            settings.admit("b", &key(), "o", &["u:k".to_owned()]),
        ] {
            assert_eq!(cmd.to_string(), "curl -q --config -");
        }
        assert_eq!(quoted("secret\"\\x"), "\"secret\\\"\\\\x\"");
    }

    #[test]
    fn a_key_is_no_path() {
        let settings = settings();
        assert_eq!(settings.bucket_url("b"), "https://gate:8443/rgw/l-b");
        assert_eq!(settings.object_path("b", "../x//ä ?#[1]"), "/l-b/../x//%C3%A4%20%3F%23%5B1%5D");
        let lines = settings.signed(&key(), "GET", "/l-b/..", Vec::new());
        for line in ["path-as-is", "header = \"host: gate:8443\"", "url = \"https://gate:8443/rgw/l-b/..\""] {
            assert!(lines.iter().any(|other| other == line), "{line}: {lines:?}");
        }
        assert!(!lines.iter().any(|line| line.contains("secret")), "{lines:?}");
        for (key, is_held) in [("a/", true), ("..", true), ("a/.", true), ("a", false), ("a/..b", false)] {
            assert_eq!(bytes_of(&object(key)).unwrap().len(), if is_held { 2 } else { 1 }, "{key}");
        }
    }

    #[test]
    fn what_can_not_be_a_header_is_refused() {
        for (name, value) in
            [("a\nurl = x", "v"), ("a", "v\r\nx-amz-acl: public-read"), ("a b", "v"), ("a", "\0")]
        {
            let mut bad = object("k");
            bad.facts.metadata.insert(name.to_owned(), value.to_owned());
            let error = settings().write_objects("b", &key(), &[bad]).unwrap_err();
            assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("\"k\""), "{error}");
        }
        let mut plain = object("k");
        plain.facts.tags.push(("a b".to_owned(), "c&d".to_owned()));
        plain.facts.headers.insert("x-amz-acl".to_owned(), "public-read".to_owned());
        plain.facts.metadata.insert("empty".to_owned(), " ".to_owned());
        let wanted = [
            ("content-type", "binary/octet-stream"),
            ("x-amz-meta-empty", ""),
            ("x-amz-tagging", "a%20b=c%26d"),
        ];
        assert_eq!(
            facts_of(&plain).unwrap(),
            wanted.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(header("x-amz-meta-empty", ""), "header = \"x-amz-meta-empty;\"");
    }

    proptest! {
        #[test]
        fn a_value_is_one_line(text in ".{0,40}") {
            let quoted = quoted(&text.replace('x', "\n").replace('y', "\r"));
            prop_assert!(!quoted.contains(['\n', '\r']));
            let inner = &quoted[1..quoted.len() - 1];
            prop_assert!(!inner.replace("\\\\", "").replace("\\\"", "").contains('"'));
        }
    }
}
