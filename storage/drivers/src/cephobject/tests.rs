//! What is read from real output, and which commands follow from it.

use super::parse::{Made, Refusal, read_made, read_names, read_stats, read_user, refusal};
use super::{CephObject, names};
use crate::PoolSetup;
use larder_base::host::{Host, HostError, ScriptedHost};
use larder_base::{ByteSize, Cancel, Progress, Ticket};
use larder_storage_driver::{
    Content, Cx, Driver, ErrorKind, ObjectAccess, ObjectBucket, ObjectKey, ObjectStore, Place, VolumeId,
    VolumeKind, VolumeSpec,
};
use std::sync::Arc;
use uuid::Uuid;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../../../fixtures/ceph/16.2.15/", $name)).split_once('\n').unwrap().1
    };
}

const IDENTITY: &str = "0c5d4c3a6f0f4f6f9c1e5b7d2a8e4f10";

fn driver() -> CephObject {
    let keys = [("cephobject.radosgw.endpoint", "http://gate:7480"), ("volatile.pool.identity", IDENTITY)];
    CephObject::new(PoolSetup::with_keys(&keys)).unwrap()
}

fn bucket() -> ObjectBucket {
    let (project, name) = ("default".parse().unwrap(), "b-1".parse().unwrap());
    let volume = VolumeId { kind: VolumeKind::Bucket, content: Content::Filesystem, project, name };
    ObjectBucket { volume, mark: Uuid::try_parse("3b1f8a52c7d94e0fa6b4c0d1e2f30415").unwrap() }
}

fn key(name: &str, may_write: bool, access_key: &str, secret_key: &str) -> ObjectKey {
    let (access_key, secret_key) = (access_key.to_owned(), secret_key.to_owned());
    ObjectKey { name: name.to_owned(), may_write, access_key, secret_key }
}

/// What the user of the fixture has.
fn recorded() -> ObjectAccess {
    let keys = vec![
        key("admin", true, "ADMINKEY", "admin/secret+1"),
        key("reader", false, "READERKEY", "reader-secret"),
    ];
    ObjectAccess { size: Some(ByteSize::from_mebibytes(10)), keys }
}

/// The words of `radosgw-admin` that bring a user to what is wanted.
fn steps(user: &str, access: &ObjectAccess) -> Vec<String> {
    let driver = driver();
    let settings = driver.settings();
    let name = names::user(IDENTITY, &bucket());
    let steps = super::store::steps_to(&settings, &name, &read_user(user).unwrap(), access);
    let short = |step: &larder_base::host::Cmd| {
        step.to_string()
            .replace(&name, "U")
            .replace("radosgw-admin --cluster ceph --id admin ", "")
            .replace(" --uid=U", "")
    };
    steps.iter().map(short).collect()
}

fn failed(code: i32, text: &str) -> HostError {
    let (command, exit) = ("radosgw-admin".to_owned(), format!("exit status: {code}"));
    HostError::Failed { command, exit, code: Some(code), stderr: text.trim().to_owned() }
}

#[test]
fn a_user_that_has_all_needs_no_step() {
    assert_eq!(steps(fixture!("user.json"), &recorded()), Vec::<String>::new());
    assert_eq!(steps(fixture!("user-suspended.json"), &recorded()), ["user enable"]);
}

#[test]
fn a_new_user_gets_its_keys_and_loses_the_one_that_nobody_knows() {
    let words = steps(fixture!("user-new.json"), &recorded());
    let own = &read_user(fixture!("user-new.json")).unwrap().keys[0].access_key;
    assert_eq!(
        words,
        [
            "subuser create --subuser U:admin --key-type=s3 --access=full --access-key=ADMINKEY".to_owned(),
            "subuser create --subuser U:reader --key-type=s3 --access=read --access-key=READERKEY".to_owned(),
            "quota set --quota-scope=bucket --max-size=10485760".to_owned(),
            "quota enable --quota-scope=bucket".to_owned(),
            format!("key rm --key-type=s3 --access-key={own}"),
        ]
    );
}

#[test]
fn a_change_is_the_difference() {
    let wanted = ObjectAccess { size: None, keys: vec![key("reader", true, "OTHERKEY", "reader-secret")] };
    assert_eq!(
        steps(fixture!("user.json"), &wanted),
        [
            "subuser modify --subuser U:reader --access=full",
            "key create --key-type=s3 --subuser U:reader --access-key=OTHERKEY",
            "quota disable --quota-scope=bucket",
            "key rm --key-type=s3 --access-key=READERKEY",
            "subuser rm --purge-keys --subuser U:admin",
        ]
    );
    let mut secret = recorded();
    secret.keys[1].secret_key = "another-secret".to_owned();
    assert_eq!(
        steps(fixture!("user.json"), &secret),
        ["key create --key-type=s3 --subuser U:reader --access-key=READERKEY"]
    );
}

#[test]
fn names_and_sizes() {
    let users = read_names(fixture!("users.json")).unwrap();
    assert_eq!(names::places(IDENTITY, &users), [Place::live(&bucket().volume)]);
    assert_eq!(read_names(fixture!("buckets.json")).unwrap(), ["b-1"]);
    let owner = names::user(IDENTITY, &bucket());
    assert_eq!(read_stats(fixture!("stats.json")).unwrap(), (owner.clone(), 6000));
    assert_eq!(read_stats(fixture!("stats-empty.json")).unwrap(), (owner, 0));
}

#[test]
fn refusals_are_told_apart() {
    for (code, text, told) in [
        (22, fixture!("no-user.txt"), Some(Refusal::Missing)),
        (2, fixture!("no-user-to-suspend.txt"), Some(Refusal::Missing)),
        (254, fixture!("no-user-to-list.txt"), Some(Refusal::Missing)),
        (2, fixture!("no-user-to-remove.txt"), Some(Refusal::Missing)),
        (210, fixture!("no-bucket.txt"), Some(Refusal::Missing)),
        (251, fixture!("no-subuser.txt"), Some(Refusal::Missing)),
        (236, fixture!("no-key.txt"), Some(Refusal::Missing)),
        (17, fixture!("user-exists.txt"), Some(Refusal::Exists)),
        (241, fixture!("key-is-taken.txt"), Some(Refusal::KeyIsTaken)),
        (1, fixture!("no-cluster.txt"), Some(Refusal::Unreachable)),
        (22, "something else", None),
    ] {
        assert_eq!(refusal(&failed(code, text)), told, "{text}");
    }
}

#[test]
fn the_gateway_tells_whose_a_bucket_is() {
    assert_eq!(read_made(fixture!("made.txt")), Made::Ours);
    assert_eq!(read_made(fixture!("made-taken.txt")), Made::Taken);
    assert_eq!(read_made(fixture!("made-refused.txt")), Made::Refused("400 TooManyBuckets".to_owned()));
    assert_eq!(read_made(""), Made::Refused(" ".to_owned()));
}

#[test]
fn output_that_is_not_understood_is_not_repeated() {
    let text = fixture!("user.json").replace("\"suspended\": 0", "\"suspended\": {}");
    let Err(error) = read_user(&text) else { panic!("it was read") };
    assert!(!error.chain().contains("secret") && error.chain().contains("line 5"), "{}", error.chain());
}

#[test]
fn other_volumes_are_refused_before_any_change() {
    let host: Arc<dyn Host> = Arc::new(ScriptedHost::default());
    let ticket = Ticket::new("none", Uuid::nil(), Uuid::nil());
    let cx = Cx::new(host.as_ref(), Progress::silent(), Cancel::never(), ticket.clone());
    let volume = VolumeId::custom(Content::Filesystem, "default".parse().unwrap(), "v1".parse().unwrap());
    let at = Place::live(&volume).staged(&ticket);
    let error = Driver::create(&driver(), &cx, &at, &VolumeSpec::new(volume)).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Unsupported(_)) && error.to_string().contains("buckets alone"),
        "{error}"
    );
}

#[test]
fn a_name_with_its_prefix_must_fit() {
    let keys =
        [("cephobject.radosgw.endpoint", "http://gate"), ("cephobject.bucket.name_prefix", "a-long-prefix-")];
    let driver = CephObject::new(PoolSetup::with_keys(&keys)).unwrap();
    let named = |name: &str| VolumeId { name: name.parse().unwrap(), ..bucket().volume };
    driver.check(&named(&"b".repeat(49))).unwrap();
    assert!(driver.check(&named(&"b".repeat(50))).unwrap_err().to_string().contains("63"));
    assert_eq!(driver.url(&named("b-1")), "http://gate/a-long-prefix-b-1");
}
