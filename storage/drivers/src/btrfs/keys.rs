//! The keys of a btrfs pool and its volumes.

use crate::keys::{COMMON, SOURCE, joined, pool, pool_fixed, volume_fixed};
use larder_storage_driver::{ConfigKey, KeyType};

/// What a mount has when nobody says otherwise: who owns a subvolume may remove it, which is what nested containers need.
pub(super) const DEFAULT_MOUNT_OPTIONS: &str = "user_subvol_rm_allowed";

const OWN: [ConfigKey; 3] = [
    pool(
        "btrfs.mount_options",
        KeyType::Text,
        DEFAULT_MOUNT_OPTIONS,
        "Options of the pool's mount, with commas between them",
    ),
    pool_fixed(
        "btrfs.create_options",
        KeyType::Text,
        "Further words for mkfs.btrfs, with spaces between them",
    ),
    volume_fixed(
        "btrfs.compression",
        KeyType::OneOf(&["none", "lzo", "zlib", "zstd"]),
        "",
        "How the files of the volume are compressed",
    ),
];

pub(super) const CONFIG_KEYS: &[ConfigKey] =
    &joined::<{ COMMON.len() + SOURCE.len() + OWN.len() }>(&[&COMMON, &SOURCE, &OWN]);
