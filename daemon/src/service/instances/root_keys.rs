//! The keys of an instance's root volume: for a new one what its disk says (`initial.KEY`), for a copy what its source has, and
//! for both what the pool says of volumes that nobody said more of (`volume.KEY`).
//!
//! Some keys say how a volume is made (its filesystem, its block size, …) and stay as they were then. A clone has those of the
//! volume it is cloned from, so a root that is to have others than an unpacked image has is no clone of it.

use super::root_size::larger;
use crate::service::{OpenPool, Result, ServiceError};
use larder_runtime::Config;
use larder_storage_driver::{CloneKind, ConfigKey, KeyScope, check_config};
use std::collections::BTreeMap;

/// What the root disk says for a new volume.
const INITIAL: &str = "initial.";

/// What a pool says of the keys of roots.
#[derive(Debug, Clone, Copy)]
pub(in crate::service) struct RootKeys<'a> {
    /// The pool's own keys.
    pool: &'a Config,
    /// The keys that its driver knows.
    known: &'a [ConfigKey],
    driver: &'a str,
    clone: CloneKind,
}

impl<'a> RootKeys<'a> {
    pub(in crate::service) fn on(pool: &'a OpenPool) -> Self {
        let driver = pool.pool.driver();
        Self {
            pool: &pool.document.config,
            known: driver.config_keys(),
            driver: driver.name(),
            clone: pool.pool.capabilities().clone,
        }
    }

    /// The keys of a root that is made from an image.
    pub(super) fn of_new(self, disk: &Config) -> Result<Config> {
        let mut keys = self.initial(disk)?;
        fill(&mut keys, defaults(self.pool));
        Ok(with_size(keys, disk))
    }

    /// The keys of a root that is a copy of another, which has `source`. A clone is made as its source was; no copy is smaller than
    /// its source unless its disk says so.
    pub(super) fn of_copy(self, source: &Config, disk: &Config, is_clone: bool) -> Result<Config> {
        let mut defaults = defaults(self.pool);
        let is_clone = is_clone && self.clone != CloneKind::None;
        // A source without a size is as large as its technology lets it be.
        let has_size = source.get("size").is_some_and(|size| !size.is_empty());
        defaults.retain(|key, _| !(is_clone && self.says_how_made(key)) && (has_size || key != "size"));
        let size = larger(source, &defaults)?;
        let mut keys = source.clone();
        keys.retain(|key, _| !key.starts_with("volatile."));
        fill(&mut keys, defaults);
        keys.extend(size);
        Ok(with_size(keys, disk))
    }

    /// The keys of a root that is in a backup, which tells what it has: those that the driver here knows, checked.
    pub(in crate::service) fn of_backup(self, told: &Config, disk: &Config) -> Result<Config> {
        let is_known =
            |name: &str| self.known.iter().any(|key| key.scope == KeyScope::Volume && key.name == name);
        let mut keys = told.clone();
        keys.retain(|name, value| {
            !value.is_empty() && (name.starts_with("user.") || is_known(name) && is_for_roots(name))
        });
        check_config(&keys, KeyScope::Volume, self.known, self.driver)
            .map_err(|error| ServiceError::bad(format!("the backup's root volume: {error}")))?;
        self.of_copy(&keys, disk, false)
    }

    /// What an unpacked image is made with.
    pub(super) fn of_image(self) -> Config {
        let mut keys = defaults(self.pool);
        keys.retain(|key, _| self.says_how_made(key));
        keys
    }

    /// Whether a clone of a volume with the keys `source` is as one with the keys `wanted` would be made. Where nothing is cloned
    /// every volume is made as its own keys say.
    pub(super) fn can_become(self, source: &Config, wanted: &Config) -> bool {
        self.clone == CloneKind::None || self.make_of(source) == self.make_of(wanted)
    }

    /// How a volume with these keys is made.
    fn make_of(self, config: &'a Config) -> BTreeMap<&'a str, &'a str> {
        let set = |name: &str| config.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let made = self.known.iter().filter(|key| is_made(key));
        made.map(|key| (key.name, set(key.name).unwrap_or(key.default))).collect()
    }

    fn says_how_made(self, name: &str) -> bool {
        self.known.iter().any(|key| key.name == name && is_made(key))
    }

    /// What the root disk says for a new volume, checked.
    fn initial(self, disk: &Config) -> Result<Config> {
        let said = disk.iter().filter_map(|(key, value)| Some((key.strip_prefix(INITIAL)?, value)));
        let set = said.filter(|(_, value)| !value.is_empty());
        let keys: Config = set.map(|(key, value)| (key.to_owned(), value.clone())).collect();
        if let Some(key) = keys.keys().find(|key| !is_for_roots(key) || *key == "size") {
            let instead = if key == "size" { ": the disk's own key size says it" } else { "" };
            return Err(ServiceError::bad(format!(
                "the root disk can't have the key {INITIAL}{key}{instead}"
            )));
        }
        check_config(&keys, KeyScope::Volume, self.known, self.driver)
            .map_err(|error| ServiceError::bad(format!("the root disk's {INITIAL}KEY: {error}")))?;
        Ok(keys)
    }
}

/// Whether a volume's key means something for a root: whose its files are and when snapshots are made is the instance's to say.
fn is_for_roots(key: &str) -> bool {
    !["security.", "initial.", "snapshots."].iter().any(|prefix| key.starts_with(prefix))
}

/// Whether a key says how a root is made.
fn is_made(key: &ConfigKey) -> bool {
    key.scope == KeyScope::Volume && !key.mutable && is_for_roots(key.name)
}

/// What a pool says of roots that nobody said more of.
fn defaults(pool: &Config) -> Config {
    let said = pool.iter().filter_map(|(key, value)| Some((key.strip_prefix("volume.")?, value)));
    let set = said.filter(|(key, value)| is_for_roots(key) && !value.is_empty());
    set.map(|(key, value)| (key.to_owned(), value.clone())).collect()
}

/// The size of a root whose disk says none.
pub(super) fn default_size(pool: &Config) -> Config {
    let mut keys = defaults(pool);
    keys.retain(|key, _| key == "size");
    keys
}

/// Refuses what would have no effect: keys for a new volume on a disk whose volume is there. Those it was made with may go.
pub(super) fn must_be_kept(name: &str, old: Option<&Config>, new: &Config) -> Result<()> {
    let was = |key: &str| old.and_then(|device| device.get(key));
    let mut changed = new
        .iter()
        .filter(|(key, value)| key.starts_with(INITIAL) && !value.is_empty() && was(key) != Some(*value));
    match changed.next() {
        None => Ok(()),
        Some((key, _)) => Err(ServiceError::bad(format!(
            "device {name:?}: {key} is for a new volume, and the instance has its root already"
        ))),
    }
}

fn fill(keys: &mut Config, defaults: Config) {
    for (key, value) in defaults {
        keys.entry(key).or_insert(value);
    }
}

/// The size that the disk says goes before all others.
fn with_size(mut keys: Config, disk: &Config) -> Config {
    let size = disk.get("size").filter(|size| !size.is_empty());
    keys.extend(size.map(|size| ("size".to_owned(), size.clone())));
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_storage_driver::KeyType;

    const fn key(name: &'static str, mutable: bool, default: &'static str) -> ConfigKey {
        let kind = KeyType::Text;
        ConfigKey { name, scope: KeyScope::Volume, kind, default, mutable, description: "" }
    }

    const KNOWN: &[ConfigKey] = &[
        key("size", true, ""),
        key("snapshots.expiry", true, ""),
        key("security.shifted", true, "false"),
        key("initial.mode", false, "0711"),
        key("block.filesystem", false, "ext4"),
        key("zfs.delegate", true, "false"),
    ];

    fn config(pairs: &[(&str, &str)]) -> Config {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn on(pool: &Config, clone: CloneKind) -> RootKeys<'_> {
        RootKeys { pool, known: KNOWN, driver: "test", clone }
    }

    fn pool() -> Config {
        config(&[
            ("size", "30GiB"),
            ("volume.size", "5GiB"),
            ("volume.block.filesystem", "xfs"),
            ("volume.zfs.delegate", "true"),
            ("volume.snapshots.expiry", "1d"),
            ("volume.security.shifted", "true"),
            ("volume.initial.mode", "0700"),
            ("volume.user.note", "n"),
        ])
    }

    #[test]
    fn a_new_root_has_what_its_pool_says_unless_its_disk_says_otherwise() {
        let pool = pool();
        let keys = on(&pool, CloneKind::Independent);
        let said =
            [("block.filesystem", "xfs"), ("size", "5GiB"), ("user.note", "n"), ("zfs.delegate", "true")];
        assert_eq!(keys.of_new(&config(&[("path", "/")])).unwrap(), config(&said));
        let disk =
            config(&[("size", "1GiB"), ("initial.block.filesystem", "btrfs"), ("initial.zfs.delegate", "")]);
        let said =
            [("block.filesystem", "btrfs"), ("size", "1GiB"), ("user.note", "n"), ("zfs.delegate", "true")];
        assert_eq!(keys.of_new(&disk).unwrap(), config(&said));
        assert_eq!(keys.of_image(), config(&[("block.filesystem", "xfs")]));
    }

    #[test]
    fn what_a_root_can_not_have_is_refused_by_name() {
        let pool = Config::new();
        for (key, told) in [
            ("initial.size", "the disk's own key size"),
            ("initial.security.shifted", "initial.security.shifted"),
            ("initial.initial.mode", "initial.initial.mode"),
            ("initial.sise", "\"sise\""),
        ] {
            let refused = on(&pool, CloneKind::None).of_new(&config(&[(key, "1")])).unwrap_err();
            assert!(refused.message.contains(told), "{refused}");
        }
    }

    #[test]
    fn a_clone_is_made_as_its_source_was() {
        let (pool, none) = (pool(), Config::new());
        let source = config(&[("size", "6GiB"), ("volatile.uuid", "u")]);
        let of = |clone, is_clone| on(&pool, clone).of_copy(&source, &none, is_clone).unwrap();
        let cloned = of(CloneKind::Independent, true);
        assert_eq!(cloned, config(&[("size", "6GiB"), ("user.note", "n"), ("zfs.delegate", "true")]));
        for copied in [of(CloneKind::Independent, false), of(CloneKind::None, true)] {
            assert_eq!(copied["block.filesystem"], "xfs");
        }
        let small = config(&[("size", "1GiB"), ("block.filesystem", "ext4")]);
        let copied = on(&pool, CloneKind::None).of_copy(&small, &none, false).unwrap();
        assert_eq!((copied["size"].as_str(), copied["block.filesystem"].as_str()), ("5GiB", "ext4"));
        let said = on(&pool, CloneKind::None).of_copy(&source, &config(&[("size", "2GiB")]), false).unwrap();
        assert_eq!(said["size"], "2GiB");
        // One without a size may have more in it than the pool says of new ones.
        let unlimited = on(&pool, CloneKind::Independent).of_copy(&none, &none, true).unwrap();
        assert_eq!(unlimited.get("size"), None);
    }

    #[test]
    fn what_a_backup_tells_of_a_root_is_taken_as_far_as_it_means_something_here() {
        let (pool, none) = (config(&[("volume.zfs.delegate", "true")]), Config::new());
        let keys = on(&pool, CloneKind::Independent);
        let told = [
            ("block.filesystem", "xfs"),
            ("lvm.stripes", "2"),
            ("security.shifted", "true"),
            ("user.n", "1"),
        ];
        let taken = [("block.filesystem", "xfs"), ("user.n", "1"), ("zfs.delegate", "true")];
        assert_eq!(keys.of_backup(&config(&told), &none).unwrap(), config(&taken));
        let refused = keys.of_backup(&config(&[("block.filesystem", "x\0")]), &none).unwrap_err();
        assert!(refused.message.contains("block.filesystem"), "{refused}");
    }

    #[test]
    fn a_root_is_cloned_from_what_is_made_as_it_shall_be() {
        let (pool, plain) = (Config::new(), Config::new());
        let keys = on(&pool, CloneKind::Dependent);
        let (ext4, xfs) = (config(&[("block.filesystem", "ext4")]), config(&[("block.filesystem", "xfs")]));
        assert!(keys.can_become(&plain, &ext4), "a default that is said is the same");
        assert!(!keys.can_become(&plain, &xfs));
        assert!(keys.can_become(&xfs, &config(&[("block.filesystem", "xfs"), ("zfs.delegate", "true")])));
        assert!(on(&pool, CloneKind::None).can_become(&plain, &xfs), "it is copied");
    }

    #[test]
    fn keys_for_a_new_volume_stay_or_go() {
        let was = config(&[("path", "/"), ("initial.a", "1")]);
        for kept in [&was, &config(&[("initial.a", "")]), &config(&[("path", "/")])] {
            must_be_kept("root", Some(&was), kept).unwrap();
        }
        for changed in [config(&[("initial.a", "2")]), config(&[("initial.b", "1")])] {
            assert!(must_be_kept("root", Some(&was), &changed).unwrap_err().message.contains("initial."));
            must_be_kept("root", None, &changed).unwrap_err();
        }
    }
}
