//! From a product's versions and items to images.

use super::document::{Item, Product, Version};
use super::is_safe_path;
use super::list::ImageList;
use crate::kind::{ImageKind, kernel_architecture};
use jiff::Timestamp;
use jiff::civil::Date;
use larder_base::Fingerprint;
use std::collections::BTreeMap;

/// One file of an image on its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFile {
    /// Its path, below the server's address; it never climbs.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its own SHA-256, when the server tells.
    pub sha256: Option<Fingerprint>,
}

/// One image a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamImage {
    /// SHA-256 of the image's files one after the other.
    pub fingerprint: Fingerprint,
    /// What it makes.
    pub kind: ImageKind,
    /// The architecture, as the kernel names it.
    pub architecture: String,
    /// The architecture, as the server names it.
    pub server_architecture: String,
    /// The names it is offered under, without those that end in an architecture.
    pub aliases: Vec<String>,
    /// The product it is a version of.
    pub product: String,
    /// The version, such as `20260822_13:00`.
    pub version: String,
    /// The day of the version.
    pub created_at: Timestamp,
    /// When its support ends, if the server tells.
    pub expires_at: Option<Timestamp>,
    /// `os`, `release`, `serial`, `description` and the like.
    pub properties: BTreeMap<String, String>,
    /// The sizes of its files together.
    pub size: u64,
    /// The unified image, or the metadata.
    pub main: StreamFile,
    /// The root, when it is a file of its own.
    pub rootfs: Option<StreamFile>,
    /// How much this packing is preferred to others of the same version; less is better.
    pub(super) rank: usize,
}

/// The file types of a separate root, best first, with what they make and where their combined hash stands.
type Combined = fn(&Item) -> &str;
const ROOTS: [(&str, ImageKind, Combined); 5] = [
    ("squashfs", ImageKind::Container, |item| &item.combined_squashfs_sha256),
    ("root.tar.xz", ImageKind::Container, |item| match item.combined_rootxz_sha256.as_str() {
        "" => &item.combined_sha256,
        own => own,
    }),
    ("disk-kvm.img", ImageKind::VirtualMachine, |item| &item.combined_disk_kvm_sha256),
    ("disk1.img", ImageKind::VirtualMachine, |item| &item.combined_disk1_sha256),
    ("uefi1.img", ImageKind::VirtualMachine, |item| &item.combined_uefi1_sha256),
];
const METADATA: [&str; 2] = ["incus.tar.xz", "lxd.tar.xz"];
const UNIFIED: [&str; 2] = ["incus_combined.tar.gz", "lxd_combined.tar.gz"];

/// Adds every image of a product to the list.
pub(super) fn collect(name: &str, product: &Product, list: &mut ImageList) {
    let Some(architecture) = kernel_architecture(&product.arch) else {
        list.skipped += 1;
        return;
    };
    for (version_name, value) in &product.versions {
        let version = serde_json::from_value::<Version>(value.clone()).ok();
        let Some((version, created_at)) = version.zip(day_of(version_name)) else {
            list.skipped += 1;
            continue;
        };
        let base = Base { name, product, architecture, version_name, version: &version, created_at };
        base.collect(list);
    }
}

/// What the images of one version have in common.
struct Base<'a> {
    name: &'a str,
    product: &'a Product,
    architecture: &'static str,
    version_name: &'a str,
    version: &'a Version,
    created_at: Timestamp,
}

impl Base<'_> {
    fn collect(&self, list: &mut ImageList) {
        let mut items = Vec::new();
        for value in self.version.items.values() {
            match serde_json::from_value::<Item>(value.clone()) {
                Ok(item) if is_safe_path(&item.path) => items.push(item),
                _ => list.skipped += 1,
            }
        }
        let find = |kind: &str| items.iter().find(|item| item.ftype == kind);
        let metadata = METADATA.iter().find_map(|kind| find(kind));
        for (rank, (ftype, kind, combined)) in ROOTS.iter().enumerate() {
            let Some((metadata, root)) = metadata.zip(find(ftype)) else { continue };
            match combined(metadata).parse() {
                Ok(fingerprint) => {
                    list.images.push(self.image(fingerprint, *kind, metadata, Some(root), rank));
                }
                // Without a combined hash there is no fingerprint to ask for.
                Err(_) => list.skipped += 1,
            }
        }
        for item in UNIFIED.iter().filter_map(|kind| find(kind)) {
            let is_disk = item.combined_type == ImageKind::VirtualMachine.as_str();
            let kind = if is_disk { ImageKind::VirtualMachine } else { ImageKind::Container };
            match item.sha256.parse() {
                Ok(fingerprint) => list.images.push(self.image(fingerprint, kind, item, None, ROOTS.len())),
                Err(_) => list.skipped += 1,
            }
        }
    }

    fn image(
        &self,
        fingerprint: Fingerprint,
        kind: ImageKind,
        main: &Item,
        root: Option<&Item>,
        rank: usize,
    ) -> StreamImage {
        let file = |item: &Item| StreamFile {
            path: item.path.clone(),
            size: item.size,
            sha256: item.sha256.parse().ok(),
        };
        let root_type = root.map_or("", |item| item.ftype.as_str());
        StreamImage {
            fingerprint,
            kind,
            architecture: self.architecture.to_owned(),
            server_architecture: self.product.arch.clone(),
            aliases: self.aliases(),
            product: self.name.to_owned(),
            version: self.version_name.to_owned(),
            created_at: self.created_at,
            expires_at: day_of(&self.product.support_eol.replace('-', "")),
            properties: self.properties(root_type),
            size: main.size.saturating_add(root.map_or(0, |root| root.size)),
            main: file(main),
            rootfs: root.map(file),
            rank,
        }
    }

    fn aliases(&self) -> Vec<String> {
        let mut aliases: Vec<String> = Vec::new();
        for alias in self.product.aliases.split(',').map(str::trim).filter(|alias| !alias.is_empty()) {
            if !aliases.iter().any(|known| known == alias) {
                aliases.push(alias.to_owned());
            }
        }
        aliases
    }

    fn properties(&self, root_type: &str) -> BTreeMap<String, String> {
        let product = self.product;
        let release = [&product.release_title, &product.release].into_iter().find(|text| !text.is_empty());
        let words = [Some(&product.os), release, Some(&product.arch)].into_iter().flatten();
        let words: Vec<&str> = words.map(String::as_str).filter(|word| !word.is_empty()).collect();
        let mut label = String::new();
        if !self.version.label.is_empty() {
            label = format!(" ({})", self.version.label);
        }
        let description = format!("{}{label} ({})", words.join(" "), self.version_name);
        let fields = [
            ("architecture", product.arch.as_str()),
            ("os", &product.os),
            ("release", &product.release),
            ("codename", &product.release_codename),
            ("version", &product.version),
            ("variant", &product.variant),
            ("label", &self.version.label),
            ("serial", self.version_name),
            ("type", root_type),
            ("description", &description),
        ];
        let plain = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let plain = plain.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let required = product.requirements.iter();
        plain.chain(required.map(|(key, value)| (format!("requirements.{key}"), value.clone()))).collect()
    }
}

/// The day a version's name begins with, as `YYYYMMDD`.
fn day_of(text: &str) -> Option<Timestamp> {
    let digits = text.get(..8).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let date = Date::new(digits[..4].parse().ok()?, digits[4..6].parse().ok()?, digits[6..].parse().ok()?);
    Some(date.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}
