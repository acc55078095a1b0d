//! Clients that people have, each from its package, on the S3 endpoint: a tree with odd names, empty and large files goes up
//! and comes back, and a second sync moves nothing.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_tests::{Larderd, Pair, RealClient, S3, skip};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Larger than what every client sends in one piece.
const LARGE: usize = 20_000_000;

/// A daemon with an account, and a tree to send.
struct World {
    daemon: Larderd,
    s3: S3,
    pair: Pair,
}

impl World {
    fn new() -> Self {
        let daemon = Larderd::start();
        let body =
            json!({ "name": "clients", "pool": "default", "secret-key": "h7GhxuBLTrlh/VUyx+SPUKUV8r==" });
        let pair = Pair::of(&daemon.change("POST", "/1.0/storage-accounts", &body));
        let s3 = S3::open(&daemon, pair.clone());
        let world = Self { daemon, s3, pair };
        make_tree(&world.source());
        world
    }

    fn client(&self, test: &str, name: &str) -> Option<RealClient<'_>> {
        RealClient::of_s3(test, &self.daemon, name, &self.pair)
    }

    fn source(&self) -> PathBuf {
        self.daemon.scratch().join("source")
    }

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.daemon.scratch().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn host(&self) -> &str {
        self.s3.url.strip_prefix("http://").unwrap()
    }
}

fn make_tree(root: &Path) {
    fs::create_dir_all(root.join("folder/deeper")).unwrap();
    let large: Vec<u8> = (0..LARGE).map(|at| (at * 31 + at / 257) as u8).collect();
    fs::write(root.join("folder/large"), large).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    let odd = [
        "a b+é.txt",
        "n.meta",
        "folder/~#&=%41?;,:@$!*'()",
        "folder/日本語 ☃.txt",
        "folder/deeper/.hidden",
        "folder/deeper/quote\"and`tick",
        "-dash",
        "folder.tmp",
    ];
    for name in odd {
        fs::write(root.join(name), name).unwrap();
    }
}

/// Every file below a folder with its content.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Fails unless two folders have the same files.
fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (files(one), files(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, content) in one {
        assert!(other[&name] == content, "{} has another content", name.display());
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Must succeed; all that it printed.
fn told(client: &RealClient<'_>, arguments: &[&str]) -> String {
    let output = client.output(arguments, b"");
    let both = [output.stdout, output.stderr].concat();
    let both = String::from_utf8_lossy(&both).into_owned();
    assert!(output.status.success(), "{arguments:?}: {both}");
    both
}

#[test]
fn the_real_aws_cli_syncs_a_tree() {
    let world = World::new();
    let Some(aws) = world.client("the_real_aws_cli_syncs_a_tree", "aws") else { return };
    let aws = aws.with("AWS_EC2_METADATA_DISABLED", "true").with("AWS_CONFIG_FILE", "/dev/null");
    let (source, back) = (text(&world.source()), world.folder("back"));
    let run = |words: &[&str]| told(&aws, &[&["--endpoint-url", world.s3.url.as_str()], words].concat());
    run(&["s3", "mb", "s3://aws-bucket"]);
    assert!(run(&["s3", "sync", &source, "s3://aws-bucket/d"]).contains("upload:"));
    assert_eq!(run(&["s3", "sync", &source, "s3://aws-bucket/d"]).trim(), "");
    run(&["s3", "sync", "s3://aws-bucket/d", &text(&back)]);
    assert_same(&world.source(), &back);
    run(&["s3", "cp", "--recursive", "s3://aws-bucket/d", "s3://aws-bucket/e"]);
    run(&["s3", "mv", "s3://aws-bucket/e/folder/large", "s3://aws-bucket/moved"]);
    let listed = run(&["s3", "ls", "--recursive", "s3://aws-bucket/"]);
    assert!(listed.contains("e/a b+é.txt") && !listed.contains("e/folder/large"), "{listed}");
    let url = run(&["s3", "presign", "s3://aws-bucket/d/n.meta"]);
    let nobody = S3 { pair: None, ..world.s3.clone() };
    assert_eq!(nobody.get(url.trim().strip_prefix(&format!("{}/", world.s3.url)).unwrap()), b"n.meta");
    run(&["s3", "rm", "--recursive", "s3://aws-bucket"]);
    run(&["s3", "rb", "s3://aws-bucket"]);
}

#[test]
fn the_real_curl_signs_by_itself() {
    let world = World::new();
    let Some(curl) = world.client("the_real_curl_signs_by_itself", "curl") else { return };
    let user = format!("{}:{}", world.pair.access, world.pair.secret);
    let base = [
        "--silent",
        "--show-error",
        "--fail-with-body",
        "--aws-sigv4",
        "aws:amz:us-east-1:s3",
        "--user",
        &user,
    ];
    let run = |words: &[&str], path: &str| {
        told(&curl, &[&base[..], words, &[&format!("{}/{path}", world.s3.url)]].concat())
    };
    // Its signature leaves the hash of the body to the header.
    let unhashed = ["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"];
    run(&[&unhashed[..], &["--request", "PUT"]].concat(), "curl-bucket");
    let back = world.folder("back").join("file");
    for name in ["n.meta", "empty", "folder/large", "-dash"] {
        let file = world.source().join(name);
        run(&[&unhashed[..], &["--upload-file", &text(&file)]].concat(), &format!("curl-bucket/{name}"));
        run(&["--output", &text(&back)], &format!("curl-bucket/{name}"));
        assert!(fs::read(&back).unwrap() == fs::read(&file).unwrap(), "{name}");
    }
    let listed = run(&[], "curl-bucket?list-type=2");
    assert_eq!(listed.matches("<Contents>").count(), 4, "{listed}");
    let range = run(&["--range", "1-3"], "curl-bucket/-dash");
    assert_eq!(range, "das");
    for name in ["n.meta", "empty", "folder/large", "-dash"] {
        run(&["--request", "DELETE"], &format!("curl-bucket/{name}"));
    }
    run(&["--request", "DELETE"], "curl-bucket");
}

#[test]
fn the_real_boto3_round_trips_a_tree() {
    let test = "the_real_boto3_round_trips_a_tree";
    let world = World::new();
    let Some(python) = world.client(test, "python3") else { return };
    if !python.output(&["-c", "import boto3"], b"").status.success() {
        return skip(test, "not installed: python3-boto3");
    }
    let back = world.folder("back");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/boto3_tree.py");
    let first = told(&python, &[script, &world.s3.url, &text(&world.source()), &text(&back)]);
    assert_eq!(first.trim(), "first moved 10, second moved 0, deleted 10");
    assert_same(&world.source(), &back);
}

#[test]
fn the_real_rclone_syncs_checks_copies_and_moves() {
    let world = World::new();
    let Some(rclone) = world.client("the_real_rclone_syncs_checks_copies_and_moves", "rclone") else {
        return;
    };
    let endpoint = format!("--s3-endpoint={}", world.s3.url);
    let base = ["--config=/dev/null", "--s3-provider=Other", "--s3-env-auth", endpoint.as_str()];
    let run = |words: &[&str]| told(&rclone, &[&base[..], words].concat());
    let source = text(&world.source());
    run(&["mkdir", ":s3:rclone-bucket"]);
    assert!(run(&["-v", "sync", &source, ":s3:rclone-bucket/d"]).contains("Copied"));
    let second = run(&["-v", "sync", &source, ":s3:rclone-bucket/d"]);
    assert!(!second.contains("Copied"), "{second}");
    run(&["check", "--download", &source, ":s3:rclone-bucket/d"]);
    run(&["copy", ":s3:rclone-bucket/d", ":s3:rclone-bucket/e"]);
    run(&["move", ":s3:rclone-bucket/e", ":s3:rclone-bucket/f"]);
    run(&["check", "--download", &source, ":s3:rclone-bucket/f"]);
    assert_eq!(run(&["lsf", ":s3:rclone-bucket/e"]).trim(), "");
    let back = world.folder("back");
    run(&["sync", ":s3:rclone-bucket/f", &text(&back)]);
    assert_same(&world.source(), &back);
    let piped = rclone.output(&[&base[..], &["rcat", ":s3:rclone-bucket/piped"]].concat(), b"piped");
    assert!(piped.status.success(), "{}", String::from_utf8_lossy(&piped.stderr));
    assert_eq!(world.s3.get("rclone-bucket/piped"), b"piped");
    run(&["purge", ":s3:rclone-bucket"]);
}

#[test]
fn the_real_s3cmd_syncs_a_tree() {
    let world = World::new();
    let Some(s3cmd) = world.client("the_real_s3cmd_syncs_a_tree", "s3cmd") else { return };
    let access = format!("--access_key={}", world.pair.access);
    let secret = format!("--secret_key={}", world.pair.secret);
    let (host, label) = (format!("--host={}", world.host()), format!("--host-bucket={}", world.host()));
    let own = ["--config=/dev/null", "--no-ssl", "--region=us-east-1"];
    let base = [&own[..], &[access.as_str(), &secret, &host, &label]].concat();
    let run = |words: &[&str]| told(&s3cmd, &[base.as_slice(), words].concat());
    let source = format!("{}/", text(&world.source()));
    run(&["mb", "s3://s3cmd-bucket"]);
    assert!(run(&["sync", &source, "s3://s3cmd-bucket/d/"]).contains("upload:"));
    let second = run(&["sync", &source, "s3://s3cmd-bucket/d/"]);
    assert!(!second.contains("upload:"), "{second}");
    let back = world.folder("back");
    run(&["sync", "s3://s3cmd-bucket/d/", &format!("{}/", text(&back))]);
    assert_same(&world.source(), &back);
    run(&["del", "--recursive", "--force", "s3://s3cmd-bucket"]);
    run(&["rb", "s3://s3cmd-bucket"]);
}

#[test]
fn the_real_restic_backs_up_checks_and_restores() {
    let world = World::new();
    let Some(restic) = world.client("the_real_restic_backs_up_checks_and_restores", "restic") else { return };
    let restic = restic
        .with("RESTIC_PASSWORD", "secret")
        .with("RESTIC_REPOSITORY", &format!("s3:{}/restic-bucket", world.s3.url))
        .with("RESTIC_CACHE_DIR", &text(&world.folder("cache")));
    let (source, back) = (text(&world.source()), world.folder("back"));
    let run = |words: &[&str]| told(&restic, words);
    run(&["init"]);
    run(&["backup", &source]);
    fs::write(world.source().join("later"), "later").unwrap();
    run(&["backup", &source]);
    run(&["check", "--read-data"]);
    run(&["restore", "latest", "--target", &text(&back)]);
    assert_same(&world.source(), &back.join(source.trim_start_matches('/')));
    run(&["forget", "--keep-last", "1", "--prune"]);
    run(&["check", "--read-data"]);
}

#[test]
fn the_real_curl_round_trips_a_tree() {
    let world = World::new();
    if world.client("the_real_curl_round_trips_a_tree", "curl").is_none() {
        return;
    }
    world.s3.put("curl-bucket", b"");
    let name = |path: &Path| path.to_str().unwrap().split('/').map(encoded).collect::<Vec<_>>().join("/");
    for (path, content) in files(&world.source()) {
        let object = format!("curl-bucket/{}", name(&path));
        world.s3.put(&object, &content);
        assert!(world.s3.get(&object) == content, "{object}");
    }
    let part = world.s3.clone().and("--range").and("5-9").send("GET", "curl-bucket/n.meta", b"");
    assert_eq!((part.status, part.text().as_str()), (206, "a"));
}

/// Percent-encoded, as it is signed.
fn encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}
