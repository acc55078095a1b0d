//! Index and products as servers write them, and as they should not.

use super::*;
use crate::ImageKind;
use proptest::prelude::*;
use serde_json::{Value, json};

fn hash(digit: char) -> String {
    String::from(digit).repeat(64)
}

fn product(arch: &str, versions: &Value) -> Value {
    json!({
        "aliases": "alpine/3.20/default, alpine/3.20", "arch": arch, "os": "Alpine", "release": "3.20",
        "release_title": "3.20", "variant": "default", "support_eol": "2030-01-02", "version": 3.2,
        "requirements": {"secureboot": false, "nesting": "true"}, "versions": versions,
    })
}

fn split(metadata: &str, squashfs: char, tar: char) -> Value {
    json!({ "items": {
        metadata: { "ftype": metadata, "path": "images/meta", "size": 10, "sha256": hash('a'),
            "combined_squashfs_sha256": hash(squashfs), "combined_rootxz_sha256": hash(tar),
            "combined_disk-kvm-img_sha256": hash('d') },
        "root.squashfs": { "ftype": "squashfs", "path": "images/root.squashfs", "size": 100, "sha256": hash('b') },
        "root.tar.xz": { "ftype": "root.tar.xz", "path": "images/root.tar.xz", "size": 200, "sha256": hash('c') },
        "disk.qcow2": { "ftype": "disk-kvm.img", "path": "images/disk", "size": 300, "sha256": hash('e') },
    }})
}

fn products(products: &Value) -> ImageList {
    parse_products(json!({ "format": "products:1.0", "products": products }).to_string().as_bytes()).unwrap()
}

fn sample() -> ImageList {
    products(&json!({
        "alpine:3.20:amd64": product("amd64", &json!({
            "20260101_13:00": split("lxd.tar.xz", '1', '2'),
            "20260301_13:00": split("incus.tar.xz", '3', '4'),
            "latest": split("incus.tar.xz", '5', '6'),
        })),
        "alpine:3.20:arm64": product("arm64", &json!({ "20260201": split("lxd.tar.xz", '7', '8') })),
    }))
}

#[test]
fn one_version_is_several_images() {
    let list = sample();
    assert_eq!(list.images.len(), 9);
    assert_eq!(list.skipped, 1, "the version without a date");
    let image = &list.images[0];
    assert_eq!((image.fingerprint.as_str(), image.kind), (hash('3').as_str(), ImageKind::Container));
    assert_eq!((image.architecture.as_str(), image.size), ("x86_64", 110));
    assert_eq!(image.created_at.to_string(), "2026-03-01T00:00:00Z");
    assert_eq!(image.expires_at.unwrap().to_string(), "2030-01-02T00:00:00Z");
    assert_eq!(image.main.path, "images/meta");
    assert_eq!(image.rootfs.as_ref().unwrap().sha256.as_ref().unwrap().as_str(), hash('b'));
    let properties = &image.properties;
    assert_eq!(properties["description"], "Alpine 3.20 amd64 (20260301_13:00)");
    assert_eq!((properties["serial"].as_str(), properties["type"].as_str()), ("20260301_13:00", "squashfs"));
    assert_eq!(properties["requirements.secureboot"], "false");
}

#[test]
fn an_alias_means_the_newest_of_its_kind_and_architecture() {
    let list = sample();
    let find = |alias: &str, kind, architecture: &str| {
        list.by_alias(alias, kind, architecture).map(|image| image.fingerprint.as_str()[..1].to_owned())
    };
    assert_eq!(find("alpine/3.20", ImageKind::Container, "x86_64").as_deref(), Some("3"));
    assert_eq!(find("alpine/3.20", ImageKind::Container, "aarch64").as_deref(), Some("7"));
    assert_eq!(find("alpine/3.20/arm64", ImageKind::Container, "x86_64").as_deref(), Some("7"));
    assert_eq!(find("alpine/3.20/aarch64", ImageKind::Container, "x86_64").as_deref(), Some("7"));
    assert_eq!(find("alpine/3.20", ImageKind::VirtualMachine, "x86_64").as_deref(), Some("d"));
    assert_eq!(find("alpine/3.20", ImageKind::Container, "s390x"), None);
    assert_eq!(find("alpine", ImageKind::Container, "x86_64"), None);
    assert_eq!(list.by_fingerprint(&hash('8')[..12]).unwrap().architecture, "aarch64");
    assert_eq!(list.by_fingerprint(""), None);
    let newest = list.images[0].fingerprint.clone();
    let names = list.aliases_of(&newest, "x86_64");
    let expected = ["alpine/3.20/default", "alpine/3.20/default/amd64", "alpine/3.20", "alpine/3.20/amd64"];
    assert_eq!(names, expected);
    assert_eq!(list.aliases_of(&hash('1').parse().unwrap(), "x86_64"), Vec::<String>::new());
}

#[test]
fn a_unified_file_is_its_own_fingerprint() {
    let item =
        json!({ "ftype": "lxd_combined.tar.gz", "path": "images/all", "size": 7, "sha256": hash('9') });
    let list =
        products(&json!({ "a": product("amd64", &json!({ "20260101": { "items": { "all": item } } })) }));
    let image = &list.images[0];
    assert_eq!(
        (image.fingerprint.as_str(), image.rootfs.as_ref(), image.size),
        (hash('9').as_str(), None, 7)
    );
}

#[test]
fn an_older_name_of_the_combined_hash_is_known() {
    let items = json!({
        "meta": { "ftype": "lxd.tar.xz", "path": "m", "size": 1, "combined_sha256": hash('2') },
        "root": { "ftype": "root.tar.xz", "path": "r", "size": 1 },
    });
    let list = products(&json!({ "a": product("amd64", &json!({ "20260101": { "items": items } })) }));
    assert_eq!(list.images[0].fingerprint.as_str(), hash('2'));
}

#[test]
fn what_is_broken_is_left_out_and_counted() {
    let bad_path =
        json!({ "ftype": "lxd_combined.tar.gz", "path": "../../x", "size": 7, "sha256": hash('9') });
    let bad_size = json!({ "ftype": "lxd_combined.tar.gz", "path": "x", "size": -7, "sha256": hash('9') });
    let bad_hash = json!({ "ftype": "lxd_combined.tar.gz", "path": "x", "size": 7, "sha256": "x" });
    let version = |item: &Value| json!({ "20260101": { "items": { "all": item } } });
    let list = products(&json!({
        "a": product("amd64", &version(&bad_path)),
        "b": product("amd64", &version(&bad_size)),
        "c": product("amd64", &version(&bad_hash)),
        "d": product("z80", &version(&bad_hash)),
        "e": 5,
    }));
    assert_eq!((list.images.len(), list.skipped), (0, 5));
}

#[test]
fn an_index_tells_where_images_are() {
    let index = json!({ "format": "index:1.0", "index": {
        "images": { "datatype": "image-downloads", "path": "streams/v1/images.json", "products": ["a"] },
        "empty": { "datatype": "image-downloads", "path": "streams/v1/empty.json", "products": [] },
        "ids": { "datatype": "image-ids", "path": "streams/v1/ids.json", "products": ["a"] },
        "evil": { "datatype": "image-downloads", "path": "https://example.org/x", "products": ["a"] },
    }});
    assert_eq!(parse_index(index.to_string().as_bytes()).unwrap(), ["streams/v1/images.json"]);
    assert!(matches!(parse_index(b"{\"index\": {}}"), Err(StreamsError::NoImages)));
    assert!(matches!(parse_index(b"<html>"), Err(StreamsError::Malformed(_))));
    let deep = "[".repeat(1 << 20);
    assert!(matches!(parse_products(deep.as_bytes()), Err(StreamsError::Malformed(_))));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-f0-9]{0,70}".prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        let key = prop_oneof![
            "\\PC{0,10}",
            prop::sample::select(vec![
                "products", "versions", "items", "ftype", "path", "20260101", "arch", "index"
            ])
            .prop_map(str::to_owned),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..6).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn any_document_is_an_answer(value in any_json(), version in "\\PC{0,12}") {
        let _ = parse_index(value.to_string().as_bytes());
        let _ = parse_index(json!({ "index": { "x": value } }).to_string().as_bytes());
        let _ = parse_products(json!({ "products": value }).to_string().as_bytes());
        let versions = json!({ version: { "items": value } });
        let _ = products(&json!({ "a": product("amd64", &versions), "b": value }));
        let _ = products(&json!({ "a": product("amd64", &value) }));
    }

    #[test]
    fn any_bytes_are_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_index(&bytes);
        let _ = parse_products(&bytes);
    }
}
