//! The keys that volumes have whatever the driver, and reading them.

use crate::filesystem::NAMES;
use larder_base::ByteSize;
use larder_storage_driver::{Config, ConfigKey, KeyScope, KeyType, Result, StorageError, is_true};
use std::fmt;

/// The value of a key that is set.
pub(crate) fn value<'a>(config: &'a Config, key: &str) -> Option<&'a str> {
    config.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

/// The size that a key says. Fails with `Invalid` naming the key.
pub(crate) fn size(config: &Config, key: &str) -> Result<Option<ByteSize>> {
    let Some(size) = value(config, key) else { return Ok(None) };
    let wrong = |error| StorageError::invalid(format!("invalid {key}: {error}"));
    size.parse().map(Some).map_err(wrong)
}

/// Whether a boolean key that is off by default is on.
pub(crate) fn is_on(config: &Config, key: &str) -> bool {
    value(config, key).is_some_and(is_true)
}

/// What a key says, or `source`, which must say the same where it says something too, or else `default`; and which key said it.
pub(crate) fn named<'a>(
    config: &'a Config,
    key: &'static str,
    source: Option<&'a str>,
    default: &'a str,
) -> Result<(&'static str, &'a str)> {
    match (value(config, key), source) {
        (Some(named), Some(source)) if named != source => {
            Err(wrong("source", source, format!("the same as {key} ({named}), or left out")))
        }
        (Some(named), _) => Ok((key, named)),
        (None, Some(source)) => Ok(("source", source)),
        (None, None) => Ok((key, default)),
    }
}

/// The error of a value that makes no sense.
pub(crate) fn wrong(key: &str, value: &str, wanted: impl fmt::Display) -> StorageError {
    StorageError::invalid(format!("invalid value {value:?} of key {key:?}: it must be {wanted}"))
}

/// A volume's key.
pub(crate) const fn volume(
    name: &'static str,
    kind: KeyType,
    default: &'static str,
    description: &'static str,
) -> ConfigKey {
    ConfigKey { name, scope: KeyScope::Volume, kind, default, mutable: true, description }
}

/// A volume's key that stays as it was made.
pub(crate) const fn volume_fixed(
    name: &'static str,
    kind: KeyType,
    default: &'static str,
    description: &'static str,
) -> ConfigKey {
    ConfigKey { name, scope: KeyScope::Volume, kind, default, mutable: false, description }
}

/// A pool's key that stays as it was made.
pub(crate) const fn pool_fixed(name: &'static str, kind: KeyType, description: &'static str) -> ConfigKey {
    ConfigKey { name, scope: KeyScope::Pool, kind, default: "", mutable: false, description }
}

/// A pool's key that may change.
pub(crate) const fn pool(
    name: &'static str,
    kind: KeyType,
    default: &'static str,
    description: &'static str,
) -> ConfigKey {
    ConfigKey { name, scope: KeyScope::Pool, kind, default, mutable: true, description }
}

/// Groups of keys as one table; `N` is their number.
pub(crate) const fn joined<const N: usize>(groups: &[&[ConfigKey]]) -> [ConfigKey; N] {
    let mut keys = [COMMON[0]; N];
    let (mut next, mut group) = (0, 0);
    while group < groups.len() {
        let mut index = 0;
        while index < groups[group].len() {
            keys[next] = groups[group][index];
            (next, index) = (next + 1, index + 1);
        }
        group += 1;
    }
    assert!(next == N, "N is not the number of keys");
    keys
}

/// Where a pool comes from, for drivers that take a file, a device or something that exists.
pub(crate) const SOURCE: [ConfigKey; 4] = [
    pool_fixed(
        "source",
        KeyType::Text,
        "A device, a partition or something that exists; a file of the daemon's when it is not set",
    ),
    pool(
        "size",
        KeyType::Size,
        "a fifth of the free space, 5GiB at least and 30GiB at most",
        "Size of the pool's file; it can grow",
    ),
    pool_fixed("source.wipe", KeyType::Boolean, "Whether what the source holds is lost at creation"),
    pool_fixed(
        "source.recover",
        KeyType::Boolean,
        "Whether the source is taken over as it is instead of being formatted",
    ),
];

/// Keys of the peers that do nothing here.
pub(crate) const RSYNC: [ConfigKey; 2] = [
    pool("rsync.bwlimit", KeyType::Text, "", COMPATIBLE),
    pool("rsync.compression", KeyType::Boolean, "true", COMPATIBLE),
];
const COMPATIBLE: &str = "Accepted for compatibility; copies are made without rsync";

/// What is made on a volume's own device, for drivers that give it one.
pub(crate) const ON_DEVICE: [ConfigKey; 2] = [
    volume_fixed(
        "block.filesystem",
        KeyType::OneOf(NAMES),
        "ext4",
        "Filesystem of a volume with files on a device of its own",
    ),
    volume_fixed(
        "block.create_options",
        KeyType::MkfsWords(NAMES),
        "",
        "More switches for the mkfs of such a volume; none that names a file or device",
    ),
];

/// The keys of every volume.
pub(crate) const COMMON: [ConfigKey; 11] = [
    volume(
        "size",
        KeyType::Size,
        "10GiB for block content, unlimited for filesystems",
        "Size or quota of the volume",
    ),
    volume("snapshots.schedule", KeyType::Schedule, "", "When snapshots are made"),
    volume("snapshots.expiry", KeyType::Lifetime, "", "When a snapshot goes"),
    volume("snapshots.expiry.manual", KeyType::Lifetime, "", "When a snapshot that a person made goes"),
    volume("snapshots.pattern", KeyType::Text, "snap%d", "Name of a snapshot that nobody named"),
    volume(
        "security.shared",
        KeyType::Boolean,
        "false",
        "Whether several instances may have the block volume",
    ),
    volume(
        "security.shifted",
        KeyType::Boolean,
        "false",
        "Whether owners are shifted for each instance that has the volume",
    ),
    volume("security.unmapped", KeyType::Boolean, "false", "Whether owners are left as they are on the host"),
    volume_fixed("initial.uid", KeyType::Owner, "0", "Owner of a new volume's root"),
    volume_fixed("initial.gid", KeyType::Owner, "0", "Group of a new volume's root"),
    volume_fixed("initial.mode", KeyType::OctalMode, "0711", "Mode of a new volume's root"),
];
