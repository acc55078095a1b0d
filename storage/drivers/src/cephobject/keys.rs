//! The keys of pools on radosgw, and what they mean.

use crate::PoolSetup;
use crate::keys::{pool, pool_fixed, volume};
use larder_storage_driver::{Config, ConfigKey, ErrorKind, KeyType, Result, StorageError};
use std::path::PathBuf;

const ENDPOINT: &str = "cephobject.radosgw.endpoint";
const CERTIFICATE: &str = "cephobject.radosgw.endpoint_cert_file";
const CLUSTER: &str = "cephobject.cluster_name";
const USER: &str = "cephobject.user.name";
const PREFIX: &str = "cephobject.bucket.name_prefix";
/// What tells this pool's users at the gateway from those of other pools: chosen once, recorded with the pool's keys.
const IDENTITY: &str = "volatile.pool.identity";

/// All keys. A bucket has no other than its size: radosgw takes no snapshots, and knows no owners of files.
pub(super) const CONFIG_KEYS: &[ConfigKey] = &[
    pool(
        ENDPOINT,
        KeyType::Text,
        "",
        "URL of the object gateway, as the clients of the buckets reach it; required",
    ),
    pool(
        CERTIFICATE,
        KeyType::Path,
        "",
        "The certificates (PEM) to trust at the gateway, beside those of the machine",
    ),
    pool_fixed(CLUSTER, KeyType::Text, "Name of the cluster (default ceph): /etc/ceph/NAME.conf"),
    pool_fixed(USER, KeyType::Text, "The user at the cluster (default admin)"),
    pool_fixed(PREFIX, KeyType::Text, "What the names of the pool's buckets begin with at the gateway"),
    volume("size", KeyType::Size, "unlimited", "Quota of the bucket"),
];

/// What the keys of a pool say.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// As they are recorded.
    pub(super) config: Config,
    pub(super) identity: String,
    pub(super) cluster: String,
    pub(super) user: String,
    /// The cluster's configuration, where it is not that in `/etc/ceph`.
    pub(super) configuration: Option<PathBuf>,
    /// Without a slash at its end; empty when nobody said it.
    pub(super) endpoint: String,
    pub(super) certificate: Option<PathBuf>,
    pub(super) prefix: String,
}

impl Settings {
    /// Reads the keys. Fails with `Invalid` naming the key.
    pub(super) fn of(setup: &PoolSetup) -> Result<Self> {
        let value = |key: &str| setup.config.get(key).map(String::as_str).filter(|value| !value.is_empty());
        let root = setup.root.display().to_string();
        if let Some(source) = value("source").filter(|source| **source != root) {
            return Err(invalid("source", source, "left out: the buckets are at the gateway"));
        }
        let endpoint = value(ENDPOINT).map(checked_endpoint).transpose()?.unwrap_or_default();
        let prefix = value(PREFIX).unwrap_or_default();
        if !prefix.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
            || prefix.starts_with(['-', '.'])
        {
            return Err(invalid(
                PREFIX,
                prefix,
                "lower-case letters, digits, dashes and dots, a letter or digit first",
            ));
        }
        let (cluster, user) = (value(CLUSTER).unwrap_or("ceph"), value(USER).unwrap_or("admin"));
        let mut config = setup.config.clone();
        config.remove("source");
        config.insert(CLUSTER.to_owned(), word(CLUSTER, cluster)?);
        config.insert(USER.to_owned(), word(USER, user)?);
        let identity =
            config.entry(IDENTITY.to_owned()).or_insert_with(|| uuid::Uuid::new_v4().simple().to_string());
        Ok(Self {
            identity: identity.clone(),
            cluster: cluster.to_owned(),
            user: user.to_owned(),
            configuration: setup.ceph_conf.clone(),
            endpoint,
            certificate: value(CERTIFICATE).map(PathBuf::from),
            prefix: prefix.to_owned(),
            config,
        })
    }

    /// Refuses a pool of which nobody said where its gateway is.
    pub(super) fn must_name_a_gateway(&self) -> Result<()> {
        if !self.endpoint.is_empty() {
            return Ok(());
        }
        let message = format!("the key {ENDPOINT:?} is missing: give the URL of the object gateway");
        Err(StorageError::new(ErrorKind::Invalid, message))
    }
}

fn invalid(key: &str, value: &str, wanted: &str) -> StorageError {
    let message = format!("invalid value {value:?} of key {key:?}: it must be {wanted}");
    StorageError::new(ErrorKind::Invalid, message)
}

/// `http://` or `https://`, a host, and a path where the gateway is not at the root.
fn checked_endpoint(text: &str) -> Result<String> {
    let refused = || invalid(ENDPOINT, text, "a URL such as https://gateway.example:8443");
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).ok_or_else(refused)?;
    let host = rest.split('/').next().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]".contains(c);
    match !host.is_empty() && !host.starts_with(':') && rest.chars().all(is_plain) {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err(refused()),
    }
}

/// A name that can't be mistaken for an option or for several words.
fn word(key: &str, text: &str) -> Result<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_good = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_plain);
    if is_good { Ok(text.to_owned()) } else { Err(invalid(key, text, "letters, digits and - _ .")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(keys: &[(&str, &str)]) -> Result<Settings> {
        Settings::of(&PoolSetup::with_keys(keys))
    }

    #[test]
    fn what_nobody_said_is_recorded_once() {
        let first = settings(&[(ENDPOINT, "http://[::1]:7480/"), ("source", "/pools/p1")]).unwrap();
        assert_eq!(first.endpoint, "http://[::1]:7480");
        assert_eq!((first.config[CLUSTER].as_str(), first.config[USER].as_str()), ("ceph", "admin"));
        assert!(!first.config.contains_key("source"));
        let recorded: Vec<_> =
            first.config.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(settings(&recorded).unwrap().config, first.config);
        assert_ne!(settings(&[(ENDPOINT, "http://h")]).unwrap().identity, first.identity);
    }

    #[test]
    fn wrong_values_are_refused_and_named() {
        let missing = settings(&[]).unwrap().must_name_a_gateway().unwrap_err();
        assert!(missing.to_string().contains(ENDPOINT), "{missing}");
        for (key, value) in [
            (ENDPOINT, "gateway:7480"),
            (ENDPOINT, "http://"),
            (ENDPOINT, "http://:80"),
            (ENDPOINT, "http://a\"b"),
            (ENDPOINT, "http://user@host"),
            (ENDPOINT, "http://host/?a=b"),
            (PREFIX, "Big-"),
            (PREFIX, "-a"),
            (CLUSTER, "-x"),
            (USER, "a b"),
            ("source", "elsewhere"),
        ] {
            let error = settings(&[(ENDPOINT, "http://host"), (key, value)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(
                error.to_string().contains(key) && error.to_string().contains(&format!("{value:?}")),
                "{error}"
            );
        }
    }
}
