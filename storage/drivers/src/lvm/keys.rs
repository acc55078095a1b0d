//! The keys of LVM pools and their volumes, and what a pool's keys ask for.

use super::names::Names;
use crate::PoolSetup;
use crate::filesystem::Filesystem;
use crate::keys::{COMMON, ON_DEVICE, RSYNC, SOURCE, joined, named, pool_fixed, size, value, volume_fixed};
use crate::source::Source;
use larder_base::ByteSize;
use larder_storage_driver::{
    Config, ConfigKey, DEFAULT_BLOCK_SIZE, ErrorKind, KeyType, Result, StorageError, is_true,
};

const OWN: [ConfigKey; 9] = [
    ConfigKey {
        default: "the pool's name",
        ..pool_fixed("lvm.vg_name", KeyType::Text, "Name of the volume group")
    },
    ConfigKey {
        default: "true",
        ..pool_fixed("lvm.use_thinpool", KeyType::Boolean, "Whether volumes are thin")
    },
    ConfigKey {
        default: THIN_POOL,
        ..pool_fixed("lvm.thinpool_name", KeyType::Text, "Name of the thin pool, which may be there already")
    },
    pool_fixed(
        "lvm.thinpool_metadata_size",
        KeyType::Size,
        "Size of a new thin pool's metadata; LVM's choice otherwise",
    ),
    pool_fixed(
        "lvm.metadata_size",
        KeyType::Size,
        "Size of a new physical volume's metadata; LVM's choice otherwise",
    ),
    pool_fixed(
        "lvm.vg.force_reuse",
        KeyType::Boolean,
        "Whether a volume group that others use is shared with them",
    ),
    volume_fixed(
        "block.mount_options",
        KeyType::Text,
        "discard",
        "How the filesystem of a new volume is mounted",
    ),
    volume_fixed(
        "lvm.stripes",
        KeyType::Count,
        "",
        "Over how many devices a new volume or thin pool is striped",
    ),
    volume_fixed("lvm.stripes.size", STRIPE, "", "Size of a stripe"),
];

/// `lvcreate(8)`, `--stripesize`.
const STRIPE: KeyType = KeyType::PowerOfTwo(ByteSize::from_bytes(4096), ByteSize::from_mebibytes(1024));
/// What the peers call a thin pool that nobody named.
const THIN_POOL: &str = "IncusThinPool";

/// All keys.
pub(super) const CONFIG_KEYS: &[ConfigKey] = &joined::<
    { COMMON.len() + SOURCE.len() + RSYNC.len() + ON_DEVICE.len() + OWN.len() },
>(&[&COMMON, &SOURCE, &OWN, &ON_DEVICE, &RSYNC]);

/// What a pool's keys ask for.
#[derive(Debug)]
pub(super) struct Settings {
    /// The keys as given.
    pub(super) config: Config,
    /// The thin pool; `None` for volumes with extents of their own.
    pub(super) thin_pool: Option<String>,
    /// Of a new thin pool.
    pub(super) thin_metadata: Option<ByteSize>,
    /// Of a new physical volume.
    pub(super) metadata: Option<ByteSize>,
    pub(super) may_wipe: bool,
    pub(super) may_share: bool,
    /// The size of a volume that nobody gave one.
    pub(super) default_size: ByteSize,
}

impl Settings {
    /// Reads a pool's keys. Fails with kind `Invalid` naming the key.
    pub(super) fn of(setup: &PoolSetup) -> Result<Self> {
        let config = setup.config.clone();
        let is = |key: &str| config.get(key).is_some_and(|value| is_true(value));
        let is_thin = config.get("lvm.use_thinpool").is_none_or(|value| value.is_empty() || is_true(value));
        let thin_pool = value(&config, "lvm.thinpool_name").unwrap_or(THIN_POOL).to_owned();
        check_name("lvm.thinpool_name", &thin_pool)?;
        Ok(Self {
            thin_pool: is_thin.then_some(thin_pool),
            thin_metadata: size(&config, "lvm.thinpool_metadata_size")?,
            metadata: size(&config, "lvm.metadata_size")?,
            may_wipe: is("source.wipe"),
            may_share: is("lvm.vg.force_reuse"),
            default_size: size(&config, "volume.size")?.unwrap_or(DEFAULT_BLOCK_SIZE),
            config,
        })
    }

    /// The spelling of the pool's volumes.
    pub(super) fn names(&self, setup: &PoolSetup, source: &Source) -> Result<Names> {
        let existing = match source {
            Source::Existing(name) => Some(name.as_str()),
            Source::File { .. } | Source::Device(_) => None,
        };
        let (key, vg) = named(&self.config, "lvm.vg_name", existing, setup.name.as_str())?;
        check_name(key, vg)?;
        Ok(Names { vg: vg.to_owned(), filesystem: Filesystem::of_pool(&self.config) })
    }
}

fn check_name(key: &str, name: &str) -> Result<()> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "+_.-".contains(c);
    if !name.is_empty() && name.len() <= 64 && name.chars().all(is_allowed) && !name.starts_with(['-', '.']) {
        return Ok(());
    }
    let message = format!(
        "{key} can't be {name:?}: use at most 64 letters, digits and + _ . -, and begin with a letter or digit"
    );
    Err(StorageError::new(ErrorKind::Invalid, message))
}

/// Stripes of a new volume or thin pool, as arguments for lvcreate.
pub(super) fn stripes(config: &Config, prefix: &str) -> Result<Vec<String>> {
    let mut arguments = Vec::new();
    if let Some(count) = value(config, &format!("{prefix}lvm.stripes")) {
        arguments.extend(["--stripes".to_owned(), count.to_owned()]);
    }
    if let Some(size) = size(config, &format!("{prefix}lvm.stripes.size"))? {
        arguments.extend(["--stripesize".to_owned(), format!("{}b", size.as_bytes())]);
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_storage_driver::KeyScope;

    fn setup(config: &[(&str, &str)]) -> PoolSetup {
        let (name, root) = ("pool1".parse().unwrap(), "/pools/pool1".into());
        PoolSetup { name, root, ..PoolSetup::with_keys(config) }
    }

    fn names(config: &[(&str, &str)]) -> Result<(Names, Option<String>)> {
        let setup = setup(config);
        let settings = Settings::of(&setup)?;
        let names = settings.names(&setup, &Source::of(&setup)?)?;
        Ok((names, settings.thin_pool))
    }

    #[test]
    fn the_volume_group_is_what_the_source_or_the_key_or_the_pool_is_called() {
        assert_eq!(names(&[]).unwrap().0.vg, "pool1");
        assert_eq!(names(&[("lvm.vg_name", "data")]).unwrap().0.vg, "data");
        assert_eq!(names(&[("source", "vg0")]).unwrap().0.vg, "vg0");
        let error = names(&[("source", "vg0"), ("lvm.vg_name", "vg1")]).unwrap_err();
        assert!(error.to_string().contains("vg0") && error.to_string().contains("vg1"), "{error}");
        assert!(names(&[("lvm.vg_name", "-x")]).unwrap_err().to_string().contains("lvm.vg_name"));
    }

    #[test]
    fn pools_are_thin_unless_said_otherwise() {
        assert_eq!(names(&[]).unwrap().1.as_deref(), Some("IncusThinPool"));
        assert_eq!(names(&[("lvm.thinpool_name", "t")]).unwrap().1.as_deref(), Some("t"));
        assert_eq!(names(&[("lvm.use_thinpool", "false")]).unwrap().1, None);
    }

    #[test]
    fn no_key_is_there_twice() {
        let mut names: Vec<_> =
            CONFIG_KEYS.iter().map(|key| (key.scope == KeyScope::Pool, key.name)).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
