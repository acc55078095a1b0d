//! The documents as they are on the wire. Fields nobody needs are left out, and forms that servers in the field
//! use for the same thing are taken alike.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
pub(super) struct IndexDocument {
    pub(super) index: BTreeMap<String, IndexEntry>,
}

#[derive(Debug, Deserialize)]
pub(super) struct IndexEntry {
    #[serde(default)]
    pub(super) datatype: String,
    #[serde(default)]
    pub(super) path: String,
    #[serde(default)]
    pub(super) products: Vec<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ProductsDocument {
    pub(super) products: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Product {
    #[serde(default, deserialize_with = "text")]
    pub(super) aliases: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) arch: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) os: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) release: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) release_codename: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) release_title: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) variant: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) version: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) support_eol: String,
    #[serde(default, deserialize_with = "texts")]
    pub(super) requirements: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) versions: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Version {
    #[serde(default, deserialize_with = "text")]
    pub(super) label: String,
    #[serde(default)]
    pub(super) items: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Item {
    #[serde(default)]
    pub(super) ftype: String,
    #[serde(default)]
    pub(super) path: String,
    pub(super) size: u64,
    #[serde(default, deserialize_with = "text")]
    pub(super) sha256: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) combined_type: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) combined_sha256: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) combined_rootxz_sha256: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) combined_squashfs_sha256: String,
    #[serde(default, rename = "combined_disk-kvm-img_sha256", deserialize_with = "text")]
    pub(super) combined_disk_kvm_sha256: String,
    #[serde(default, rename = "combined_disk1-img_sha256", deserialize_with = "text")]
    pub(super) combined_disk1_sha256: String,
    #[serde(default, rename = "combined_uefi1-img_sha256", deserialize_with = "text")]
    pub(super) combined_uefi1_sha256: String,
}

/// Text, or a number or truth value in its place; anything else is empty.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(as_text(Value::deserialize(deserializer)?).unwrap_or_default())
}

/// A map of texts, or nothing in its place.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let Value::Object(map) = Value::deserialize(deserializer)? else { return Ok(BTreeMap::new()) };
    Ok(map.into_iter().filter_map(|(key, value)| Some((key, as_text(value)?))).collect())
}

fn as_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}
