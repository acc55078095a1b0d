//! The keys of pools and volumes on ceph, and what they mean.

use super::command::Commands;
use crate::PoolSetup;
use crate::cluster::{count, home, identity, name, word};
use crate::filesystem::Filesystem;
use crate::keys::{COMMON, ON_DEVICE, RSYNC, joined, pool, pool_fixed, value, volume, wrong};
use larder_base::ByteSize;
use larder_storage_driver::{Config, ConfigKey, KeyType, Result, is_true};

/// What the kernel's RBD can have; `layering` is what the peers give.
const FEATURES: &[&str] =
    &["layering", "striping", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"];

/// All keys.
pub(super) const CONFIG_KEYS: &[ConfigKey] = &joined::<
    { COMMON.len() + RSYNC.len() + ON_DEVICE.len() + OWN.len() },
>(&[&COMMON, &OWN, &ON_DEVICE, &RSYNC]);

const OWN: [ConfigKey; 13] = [
    pool_fixed("source", KeyType::Text, "The same as ceph.osd.pool_name"),
    pool_fixed(
        "source.recover",
        KeyType::Boolean,
        "Whether an OSD pool that a pool is on already is taken over as it is",
    ),
    pool_fixed("ceph.cluster_name", KeyType::Text, "Name of the cluster (default ceph): /etc/ceph/NAME.conf"),
    pool_fixed("ceph.user.name", KeyType::Text, "The user at the cluster (default admin)"),
    pool_fixed(
        "ceph.osd.pool_name",
        KeyType::Text,
        "The OSD pool (default: the pool's own name), or POOL/NAMESPACE; made when it is not there",
    ),
    pool_fixed("ceph.osd.pg_num", KeyType::Count, "Placement groups of a new OSD pool (default 32)"),
    pool_fixed("ceph.osd.pool_size", KeyType::Count, "How many copies a new OSD pool keeps"),
    pool_fixed(
        "ceph.osd.data_pool_name",
        KeyType::Text,
        "OSD pool for the data of images, such as one with erasure codes",
    ),
    pool_fixed(
        "ceph.osd.force_reuse",
        KeyType::Boolean,
        "Whether an OSD pool with images of somebody else is used all the same",
    ),
    pool("ceph.rbd.clone_copy", KeyType::Boolean, "true", "Whether a copy shares blocks with its source"),
    pool(
        "ceph.rbd.du",
        KeyType::Boolean,
        "true",
        "Whether rbd du tells what a volume occupies: slow for large ones",
    ),
    pool(
        "ceph.rbd.features",
        KeyType::Text,
        "layering",
        "Features of new images, with commas: layering, striping, exclusive-lock, object-map, fast-diff, deep-flatten",
    ),
    volume(
        "block.mount_options",
        KeyType::Text,
        "discard",
        "Mount options; as the pool has them for all volumes",
    ),
];

/// What the keys of a pool say.
#[derive(Debug)]
pub(super) struct Settings {
    /// As they are recorded.
    pub(super) config: Config,
    pub(super) commands: Commands,
    pub(super) identity: String,
    pub(super) placement_groups: String,
    pub(super) copies: Option<String>,
    /// Whether what is there is taken over.
    pub(super) recover: bool,
    /// Whether images of others may stand beside ours.
    pub(super) reuse: bool,
    pub(super) clone_copy: bool,
    pub(super) du: bool,
    pub(super) filesystem: Filesystem,
    pub(super) mount_options: String,
    /// Of a filesystem volume that nobody gave a size.
    pub(super) default_size: Option<ByteSize>,
}

impl Settings {
    /// Reads the keys. Fails with `Invalid` naming the key.
    pub(super) fn of(setup: &PoolSetup) -> Result<Self> {
        let mut config = setup.config.clone();
        for key in ["source.recover", "ceph.osd.force_reuse"] {
            config.remove(key);
        }
        let (pool, namespace) = osd_pool(setup)?;
        let value = |key: &str| value(&setup.config, key);
        let is_on = |key: &str, default: bool| value(key).map_or(default, is_true);
        let data_pool = value("ceph.osd.data_pool_name");
        let commands = Commands {
            cluster: name(&setup.config, "ceph.cluster_name", "ceph")?,
            user: name(&setup.config, "ceph.user.name", "admin")?,
            data_pool: data_pool.map(|pool| word("ceph.osd.data_pool_name", pool)).transpose()?,
            features: features(value("ceph.rbd.features").unwrap_or(FEATURES[0]))?,
            pool,
            namespace,
        };
        for key in ["source", "ceph.osd.pool_name"] {
            config.insert(key.to_owned(), commands.home());
        }
        Ok(Self {
            identity: identity(&mut config),
            commands,
            placement_groups: count(&setup.config, "ceph.osd.pg_num")?.unwrap_or_else(|| "32".to_owned()),
            copies: count(&setup.config, "ceph.osd.pool_size")?,
            recover: is_on("source.recover", false),
            reuse: is_on("ceph.osd.force_reuse", false),
            clone_copy: is_on("ceph.rbd.clone_copy", true),
            du: is_on("ceph.rbd.du", true),
            filesystem: Filesystem::of_pool(&setup.config),
            mount_options: value("volume.block.mount_options").unwrap_or("discard").to_owned(),
            default_size: value("volume.size").and_then(|size| size.parse().ok()),
            config,
        })
    }
}

/// The OSD pool and the namespace in it.
fn osd_pool(setup: &PoolSetup) -> Result<(String, Option<String>)> {
    let (key, home) = home(setup, "ceph.osd.pool_name")?;
    match home.split_once('/') {
        Some((pool, namespace)) => Ok((word(key, pool)?, Some(word(key, namespace)?))),
        None => Ok((word(key, home)?, None)),
    }
}

fn features(text: &str) -> Result<String> {
    let words: Vec<&str> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    let are_known = words.iter().all(|word| FEATURES.contains(word));
    if are_known && words.contains(&FEATURES[0]) {
        return Ok(words.join(","));
    }
    let wanted = format!("{} and any of {}", FEATURES[0], FEATURES[1..].join(", "));
    Err(wrong("ceph.rbd.features", text, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_storage_driver::ErrorKind;

    fn settings(keys: &[(&str, &str)]) -> Result<Settings> {
        Settings::of(&PoolSetup::with_keys(keys))
    }

    #[test]
    fn a_pool_is_named_by_its_own_name_a_source_or_a_key() {
        for (keys, home) in [
            (&[][..], "p1"),
            (&[("source", "/pools/p1")][..], "p1"),
            (&[("source", "rbd")][..], "rbd"),
            (&[("ceph.osd.pool_name", "rbd/ns")][..], "rbd/ns"),
            (&[("source", "rbd"), ("ceph.osd.pool_name", "rbd")][..], "rbd"),
        ] {
            assert_eq!(settings(keys).unwrap().commands.home(), home);
        }
    }

    #[test]
    fn what_is_recorded_names_the_same_pool_and_the_same_owner() {
        let first = settings(&[("source.recover", "true"), ("ceph.rbd.du", "false")]).unwrap();
        assert!(first.recover && !first.du);
        let recorded: Vec<(&str, &str)> =
            first.config.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let second = settings(&recorded).unwrap();
        assert_eq!((second.identity, second.commands.home()), (first.identity, "p1".to_owned()));
        assert!(!second.recover && !second.du);
    }

    #[test]
    fn wrong_values_are_refused_and_named() {
        for (key, value) in [
            ("ceph.osd.pool_name", "--help"),
            ("ceph.osd.pool_name", "a/b/c"),
            ("ceph.cluster_name", "../x"),
            ("ceph.user.name", "a b"),
            ("ceph.osd.data_pool_name", "a@b"),
            ("ceph.rbd.features", "layering,journaling"),
            ("ceph.rbd.features", "exclusive-lock"),
            ("ceph.osd.pg_num", "0"),
            ("ceph.osd.pool_size", "-1"),
        ] {
            let error = settings(&[(key, value)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(key), "{error}");
        }
        let both = settings(&[("source", "a"), ("ceph.osd.pool_name", "b")]).unwrap_err();
        assert!(both.to_string().contains("left out"), "{both}");
    }
}
