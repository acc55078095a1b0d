//! Looking at what an image server has, as far as lists need it.
//!
//! Only the lists are read here, over HTTPS. Images are always fetched by the server they go to, which checks
//! them.

use crate::failure::Told;
use crate::fields::Fields;
use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;

/// No list we know of has a tenth of it.
const LARGEST_LIST_BYTES: usize = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const WHOLE_TIMEOUT: Duration = Duration::from_secs(300);

/// The files that hold a root, by preference: its type, the field with the fingerprint, the image's type.
const ROOTS: &[(&str, &[&str], &str)] = &[
    ("squashfs", &["combined_squashfs_sha256"], "container"),
    ("root.tar.xz", &["combined_rootxz_sha256", "combined_sha256"], "container"),
    ("disk-kvm.img", &["combined_disk-kvm-img_sha256"], "virtual-machine"),
    ("disk1.img", &["combined_disk1-img_sha256"], "virtual-machine"),
    ("uefi1.img", &["combined_uefi1-img_sha256"], "virtual-machine"),
];
/// The files that say what an image is.
const METADATA: &[&str] = &["incus.tar.xz", "lxd.tar.xz"];

/// All images of an image server, in the form the API lists images. `url` is its https address.
pub(crate) async fn images(url: &str) -> Result<Vec<Value>> {
    let agent = concat!("larder/", env!("CARGO_PKG_VERSION"));
    let client = reqwest::Client::builder()
        .https_only(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(WHOLE_TIMEOUT)
        .user_agent(agent)
        .build()
        .context("can't speak HTTPS")?;
    let index = fetch(&client, url, "streams/v1/index.json").await?;
    let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
    let mut images = Vec::new();
    for stream in index["index"].as_object().into_iter().flatten().map(|(_, stream)| stream) {
        if stream.text("datatype") == "image-downloads" && stream.count("products") > 0 {
            images.extend(listed(&fetch(&client, url, stream.text("path")).await?, &machine));
        }
    }
    Ok(images)
}

/// Whether a name is a fingerprint or the beginning of one, as long as lists show it; no alias looks like it.
pub(crate) fn is_fingerprint(name: &str) -> bool {
    name.len() >= 12 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The image of a type that a name means among those of an image server.
pub(crate) fn find<'a>(images: &'a [Value], name: &str, kind: &str) -> Result<&'a Value> {
    let is_meant = |image: &&Value| {
        let begins = is_fingerprint(name) && image.text("fingerprint").starts_with(name);
        let has = |alias: &Value| alias.text("name") == name;
        image.text("type") == kind && (begins || image.items("aliases").iter().any(has))
    };
    images.iter().find(is_meant).ok_or_else(|| {
        let message = format!("the image server has no image {name:?} for a {}", kind.replace('-', " "));
        Told::new(message, "see what there is with: larder image list REMOTE:").into()
    })
}

async fn fetch(client: &reqwest::Client, base: &str, path: &str) -> Result<Value> {
    let url = format!("{}/{path}", base.trim_end_matches('/'));
    let unreachable = |error: reqwest::Error| {
        // The URL stands in our own words.
        let cause = anyhow::Error::from(error.without_url());
        cause.context(Told::new(
            format!("can't read {url}"),
            "see the address of the remote with: larder remote list",
        ))
    };
    let mut response = client.get(&url).send().await.map_err(unreachable)?;
    if !response.status().is_success() {
        bail!("{url}: the image server answered {}", response.status());
    }
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if text.len() + chunk.len() > LARGEST_LIST_BYTES {
            bail!("{url} is larger than any list of images");
        }
        text.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&text).with_context(|| format!("{url} is not a list of images"))
}

/// One image of one version of a product.
struct Found<'a> {
    product: &'a Value,
    version: &'a str,
    kind: &'static str,
    fingerprint: &'a str,
    size: u64,
}

/// The images of a list of products, the newest first. Of several images with one alias the newest has it.
fn listed(document: &Value, machine: &str) -> Vec<Value> {
    let mut found: Vec<Found<'_>> = document["products"]
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|(_, product)| versions(product))
        .collect();
    found.sort_by(|one, other| other.version.cmp(one.version));
    let mut taken = HashSet::new();
    found.iter().map(|image| described(image, machine, &mut taken)).collect()
}

fn versions(product: &Value) -> Vec<Found<'_>> {
    let mut found: Vec<Found<'_>> = Vec::new();
    for (version, content) in product["versions"].as_object().into_iter().flatten() {
        let items = || content["items"].as_object().into_iter().flatten().map(|(_, item)| item);
        let of_type = |ftype: &str| items().find(|item| item.text("ftype") == ftype);
        let Some(metadata) = METADATA.iter().find_map(|ftype| of_type(ftype)) else { continue };
        for (ftype, fields, kind) in ROOTS {
            let fingerprint = fields.iter().map(|field| metadata.text(field)).find(|text| !text.is_empty());
            let (Some(root), Some(fingerprint)) = (of_type(ftype), fingerprint) else { continue };
            if found.iter().any(|image| image.version == version && image.kind == *kind) {
                continue;
            }
            let size = metadata.number("size").saturating_add(root.number("size"));
            found.push(Found { product, version, kind, fingerprint, size });
        }
    }
    found
}

fn described(image: &Found<'_>, machine: &str, taken: &mut HashSet<(String, &'static str)>) -> Value {
    let product = image.product;
    let arch = product.text("arch");
    let mut aliases = Vec::new();
    for alias in product.text("aliases").split(',').map(str::trim).filter(|alias| !alias.is_empty()) {
        // Without an architecture a name means the image for this machine.
        let short = (kernel_name(arch) == machine).then(|| alias.to_owned());
        for name in short.into_iter().chain([format!("{alias}/{arch}")]) {
            if taken.insert((name.clone(), image.kind)) {
                aliases.push(json!({"name": name, "description": ""}));
            }
        }
    }
    let (os, release, version) = (product.text("os"), product.text("release"), image.version);
    let mut properties = json!({
        "os": os, "release": release, "architecture": arch, "serial": version,
        "description": format!("{os} {release} {arch} ({version})"),
    });
    if !product.text("variant").is_empty() {
        properties["variant"] = product["variant"].clone();
    }
    json!({
        "fingerprint": image.fingerprint,
        "type": image.kind,
        "architecture": kernel_name(arch),
        "size": image.size,
        "public": true,
        "auto_update": false,
        "cached": false,
        "aliases": aliases,
        "properties": properties,
        "created_at": built(version),
        "uploaded_at": built(version),
        "expires_at": day(product.text("support_eol")),
    })
}

/// The kernel's name for an architecture Debian has a name for.
fn kernel_name(arch: &str) -> &str {
    match arch {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "armhf" => "armv7l",
        "i386" => "i686",
        "ppc64el" => "ppc64le",
        "loong64" => "loongarch64",
        other => other,
    }
}

/// The moment in a version such as `20260822_13:00` or `20260822`.
fn built(version: &str) -> Option<Timestamp> {
    let moment = DateTime::strptime("%Y%m%d_%H:%M", version).ok();
    let date = || Some(Date::strptime("%Y%m%d", version.get(..8)?).ok()?.at(0, 0, 0, 0));
    at(moment.or_else(date)?)
}

fn day(text: &str) -> Option<Timestamp> {
    at(Date::strptime("%Y-%m-%d", text).ok()?.at(0, 0, 0, 0))
}

fn at(moment: DateTime) -> Option<Timestamp> {
    moment.to_zoned(TimeZone::UTC).ok().map(|moment| moment.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(arch: &str) -> Value {
        let version = |fingerprint: &str| {
            json!({"items": {
                "incus.tar.xz": {"ftype": "incus.tar.xz", "size": 1000,
                    "combined_squashfs_sha256": fingerprint, "combined_rootxz_sha256": "other",
                    "combined_disk-kvm-img_sha256": format!("{fingerprint}-vm")},
                "root.squashfs": {"ftype": "squashfs", "size": 5000},
                "root.tar.xz": {"ftype": "root.tar.xz", "size": 6000},
                "disk.qcow2": {"ftype": "disk-kvm.img", "size": 9000},
                "delta": {"ftype": "squashfs.vcdiff", "size": 1},
            }})
        };
        let (old, new) = (version(&format!("old-{arch}")), version(&format!("new-{arch}")));
        json!({"aliases": "alpine/3.22/default,alpine/3.22", "arch": arch, "os": "Alpine", "release": "3.22",
            "variant": "default", "support_eol": "2027-05-01",
            "versions": {"20261121_13:00": old, "20261122_13:00": new}})
    }

    fn names(image: &Value) -> Vec<&str> {
        image.items("aliases").iter().map(|alias| alias.text("name")).collect()
    }

    #[test]
    fn each_version_is_an_image_a_type_and_the_newest_has_the_aliases() {
        let document = json!({"products": {"a": product("amd64"), "b": product("arm64")}});
        let images = listed(&document, "x86_64");
        assert_eq!(images.len(), 8, "two products, two versions, two types");
        let of =
            |fingerprint: &str| images.iter().find(|image| image.text("fingerprint") == fingerprint).unwrap();
        let new = of("new-amd64");
        assert_eq!(
            names(new),
            ["alpine/3.22/default", "alpine/3.22/default/amd64", "alpine/3.22", "alpine/3.22/amd64"]
        );
        assert_eq!(names(of("new-arm64")), ["alpine/3.22/default/arm64", "alpine/3.22/arm64"]);
        assert_eq!(names(of("new-amd64-vm")), names(new), "a name may mean one image of each type");
        assert!(names(of("old-amd64")).is_empty());
        assert_eq!(
            (new.text("type"), new.number("size"), new.text("architecture")),
            ("container", 6000, "x86_64")
        );
        assert_eq!(new.text("uploaded_at"), "2026-11-22T13:00:00Z");
        assert_eq!(new["properties"].text("description"), "Alpine 3.22 amd64 (20261122_13:00)");
    }

    #[test]
    fn fingerprints_are_told_from_aliases() {
        assert!(is_fingerprint("3f5cb05a1122"));
        for alias in ["alpine/3.22", "3f5cb05a", "debian", "cafe", "alpine-edge12"] {
            assert!(!is_fingerprint(alias), "{alias}");
        }
    }

    #[test]
    fn a_name_means_the_image_of_the_right_type() {
        let image = |kind: &str, alias: &str| {
            let aliases = [json!({"name": "a"}), json!({"name": alias})];
            json!({"type": kind, "fingerprint": format!("3f5cb05a1122{kind}"), "aliases": aliases})
        };
        let images = [image("container", "c"), image("virtual-machine", "v")];
        assert_eq!(names(find(&images, "a", "virtual-machine").unwrap()), ["a", "v"]);
        assert_eq!(names(find(&images, "3f5cb05a1122", "container").unwrap()), ["a", "c"]);
        assert!(find(&images, "c", "virtual-machine").is_err());
    }

    #[test]
    fn what_is_incomplete_is_left_out() {
        let no_metadata = json!({"versions": {"20261121": {"items": {"r": {"ftype": "squashfs"}}}}});
        let no_root = json!({"versions": {"1": {"items": {"m": {"ftype": "lxd.tar.xz",
            "combined_squashfs_sha256": "x"}}}}});
        assert!(listed(&json!({"products": {"a": no_metadata, "b": no_root, "c": 5}}), "x86_64").is_empty());
        assert!(listed(&json!(null), "x86_64").is_empty());
        assert_eq!(built("20261121").unwrap().to_string(), "2026-11-21T00:00:00Z");
        assert_eq!(built("née"), None);
    }
}
