//! The keys of pools on radosgw, and what they mean.

use crate::PoolSetup;
use crate::cluster::{identity, name};
use crate::keys::{pool, pool_fixed, value, volume, wrong};
use larder_storage_driver::{Config, ConfigKey, KeyType, Result, StorageError};
use std::path::PathBuf;

const ENDPOINT: &str = "cephobject.radosgw.endpoint";
const CERTIFICATE: &str = "cephobject.radosgw.endpoint_cert_file";
const CLUSTER: &str = "cephobject.cluster_name";
const USER: &str = "cephobject.user.name";
const PREFIX: &str = "cephobject.bucket.name_prefix";

/// All keys. A bucket has no others: radosgw knows no owners of files.
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
    volume("snapshots.expiry", KeyType::Lifetime, "", "When a snapshot goes"),
    volume("snapshots.expiry.manual", KeyType::Lifetime, "", "When a snapshot that a person made goes"),
    volume("snapshots.pattern", KeyType::Text, "snap%d", "Name of a snapshot that nobody named"),
];

/// What the keys of a pool say.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// As they are recorded.
    pub(super) config: Config,
    /// What tells this pool's users at the gateway from those of other pools.
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
        let value = |key: &str| value(&setup.config, key);
        let root = setup.root.display().to_string();
        if let Some(source) = value("source").filter(|source| **source != root) {
            return Err(wrong("source", source, "left out: the buckets are at the gateway"));
        }
        let endpoint = value(ENDPOINT).map(checked_endpoint).transpose()?.unwrap_or_default();
        let prefix = value(PREFIX).unwrap_or_default();
        if !prefix.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
            || prefix.starts_with(['-', '.'])
        {
            return Err(wrong(
                PREFIX,
                prefix,
                "lower-case letters, digits, dashes and dots, a letter or digit first",
            ));
        }
        let cluster = name(&setup.config, CLUSTER, "ceph")?;
        let user = name(&setup.config, USER, "admin")?;
        let mut config = setup.config.clone();
        config.remove("source");
        config.insert(CLUSTER.to_owned(), cluster.clone());
        config.insert(USER.to_owned(), user.clone());
        Ok(Self {
            identity: identity(&mut config),
            cluster,
            user,
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
        Err(StorageError::invalid(message))
    }
}

/// `http://` or `https://`, a host, and a path where the gateway is not at the root.
fn checked_endpoint(text: &str) -> Result<String> {
    let refused = || wrong(ENDPOINT, text, "a URL such as https://gateway.example:8443");
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).ok_or_else(refused)?;
    let host = rest.split('/').next().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]".contains(c);
    match !host.is_empty() && !host.starts_with(':') && rest.chars().all(is_plain) {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_storage_driver::ErrorKind;

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
