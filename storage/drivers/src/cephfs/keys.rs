//! The keys of pools on CephFS, and what they mean.

use crate::PoolSetup;
use crate::cluster::{count, home, identity, name, word};
use crate::keys::{COMMON, RSYNC, is_on, joined, pool, pool_fixed};
use larder_storage_driver::{Config, ConfigKey, KeyType, Result};

/// All keys.
pub(super) const CONFIG_KEYS: &[ConfigKey] =
    &joined::<{ COMMON.len() + RSYNC.len() + OWN.len() }>(&[&COMMON, &OWN, &RSYNC]);

const OWN: [ConfigKey; 11] = [
    pool_fixed("source", KeyType::Text, "The same as cephfs.path"),
    pool_fixed(
        "source.recover",
        KeyType::Boolean,
        "Whether a path that a pool is on already is taken over as it is",
    ),
    pool_fixed(
        "cephfs.path",
        KeyType::Text,
        "The filesystem (default: the pool's own name), or FILESYSTEM/PATH",
    ),
    pool_fixed(
        "cephfs.cluster_name",
        KeyType::Text,
        "Name of the cluster (default ceph): /etc/ceph/NAME.conf",
    ),
    pool_fixed("cephfs.user.name", KeyType::Text, "The user at the cluster (default admin)"),
    pool_fixed("cephfs.create_missing", KeyType::Boolean, "Whether a filesystem that is not there is made"),
    pool_fixed("cephfs.data_pool", KeyType::Text, "OSD pool for the files of a new filesystem"),
    pool_fixed("cephfs.meta_pool", KeyType::Text, "OSD pool for the metadata of a new filesystem"),
    pool_fixed("cephfs.osd_pg_num", KeyType::Count, "Placement groups of new OSD pools (default 32)"),
    pool_fixed("cephfs.osd_pool_size", KeyType::Count, "How many copies new OSD pools keep"),
    pool("cephfs.fscache", KeyType::Boolean, "false", "Whether files are cached on this machine (fscache)"),
];

/// What the keys of a pool say.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// As they are recorded.
    pub(super) config: Config,
    pub(super) identity: String,
    pub(super) cluster: String,
    pub(super) user: String,
    pub(super) filesystem: String,
    /// The folder in it, from its root, beginning with a slash.
    pub(super) path: String,
    /// The OSD pools (data, metadata) and placement groups of a filesystem that is made when it is not there.
    pub(super) create: Option<(String, String, String)>,
    /// How many copies those OSD pools keep.
    pub(super) copies: Option<String>,
    pub(super) recover: bool,
    pub(super) is_cached: bool,
}

impl Settings {
    /// Reads the keys. Fails with `Invalid` naming the key.
    pub(super) fn of(setup: &PoolSetup) -> Result<Self> {
        let is_on = |key: &str| is_on(&setup.config, key);
        let name = |key: &str, default: &str| name(&setup.config, key, default);
        let (key, home) = home(setup, "cephfs.path")?;
        let (filesystem, path) = home.split_once('/').unwrap_or((home, ""));
        let filesystem = word(key, filesystem)?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            word(key, part)?;
        }
        let create = match is_on("cephfs.create_missing") {
            true => Some((
                name("cephfs.data_pool", &format!("{filesystem}_data"))?,
                name("cephfs.meta_pool", &format!("{filesystem}_metadata"))?,
                count(&setup.config, "cephfs.osd_pg_num")?.unwrap_or_else(|| "32".to_owned()),
            )),
            false => None,
        };
        let mut config = setup.config.clone();
        for key in ["source.recover", "cephfs.create_missing"] {
            config.remove(key);
        }
        for key in ["source", "cephfs.path"] {
            config.insert(key.to_owned(), home.to_owned());
        }
        Ok(Self {
            identity: identity(&mut config),
            cluster: name("cephfs.cluster_name", "ceph")?,
            user: name("cephfs.user.name", "admin")?,
            path: format!("/{}", path.trim_matches('/')),
            copies: count(&setup.config, "cephfs.osd_pool_size")?,
            recover: is_on("source.recover"),
            is_cached: is_on("cephfs.fscache"),
            filesystem,
            create,
            config,
        })
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
    fn a_pool_is_a_filesystem_or_a_folder_in_one() {
        for (keys, filesystem, path) in [
            (&[][..], "p1", "/"),
            (&[("source", "/pools/p1")][..], "p1", "/"),
            (&[("cephfs.path", "fs/a/b/")][..], "fs", "/a/b"),
            (&[("source", "fs/a")][..], "fs", "/a"),
        ] {
            let found = settings(keys).unwrap();
            assert_eq!((found.filesystem.as_str(), found.path.as_str()), (filesystem, path));
        }
    }

    #[test]
    fn wrong_values_are_refused_and_named() {
        for (key, value) in
            [("cephfs.path", "fs/../x"), ("cephfs.path", "-o"), ("cephfs.user.name", "a,secret=b")]
        {
            let error = settings(&[(key, value)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn what_is_recorded_names_the_same_folder_and_the_same_owner() {
        let first = settings(&[("source", "fs/a"), ("cephfs.create_missing", "true")]).unwrap();
        assert_eq!(first.create, Some(("fs_data".to_owned(), "fs_metadata".to_owned(), "32".to_owned())));
        let recorded: Vec<_> =
            first.config.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let second = settings(&recorded).unwrap();
        assert_eq!((second.identity, second.path), (first.identity, "/a".to_owned()));
        assert_eq!(second.create, None);
    }
}
