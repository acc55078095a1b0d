//! The keys that volumes have whatever the driver.

use larder_storage_driver::{ConfigKey, KeyScope, KeyType};

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
    volume_fixed("initial.uid", KeyType::Integer, "0", "Owner of a new volume's root"),
    volume_fixed("initial.gid", KeyType::Integer, "0", "Group of a new volume's root"),
    volume_fixed("initial.mode", KeyType::OctalMode, "0711", "Mode of a new volume's root"),
];
