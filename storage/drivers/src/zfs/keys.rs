//! The keys of pools and volumes on zfs.

use crate::keys::{COMMON, ON_DEVICE, RSYNC, SOURCE};
use crate::keys::{joined, pool, pool_fixed, value, volume, volume_fixed};
use larder_base::ByteSize;
use larder_storage_driver::{ConfigKey, KeyType, VolumeSpec};

/// `zfsprops(7)`, `recordsize` and `volblocksize`.
const BLOCK_SIZE: KeyType = KeyType::PowerOfTwo(ByteSize::from_bytes(512), ByteSize::from_mebibytes(16));

const OWN: [ConfigKey; 10] = [
    pool_fixed("zfs.pool_name", KeyType::Text, "Name of the zpool or dataset"),
    pool(
        "zfs.clone_copy",
        KeyType::OneOf(&["true", "false", "rebase"]),
        "true",
        "Whether a copy is a clone, a full copy, or a copy that shares blocks with the image alone (rebase)",
    ),
    pool("zfs.export", KeyType::Boolean, "true", "Whether the zpool is exported when the pool is closed"),
    volume_fixed("zfs.blocksize", BLOCK_SIZE, "", "Block size"),
    volume_fixed(
        "zfs.block_mode",
        KeyType::Boolean,
        "false",
        "Whether files are kept on a disk with a filesystem of its own instead of a dataset",
    ),
    volume(
        "zfs.delegate",
        KeyType::Boolean,
        "false",
        "Whether the instance may manage the dataset, from its next start on",
    ),
    volume(
        "zfs.remove_snapshots",
        KeyType::Boolean,
        "false",
        "Whether restoring an older snapshot removes the younger ones",
    ),
    volume_fixed(
        "zfs.use_refquota",
        KeyType::Boolean,
        "false",
        "Whether the size limits the volume without its snapshots",
    ),
    volume_fixed("zfs.reserve_space", KeyType::Boolean, "false", "Whether the size is set aside"),
    volume_fixed(
        "block.mount_options",
        KeyType::Text,
        "discard",
        "Mount options of a volume with zfs.block_mode",
    ),
];

/// All keys.
pub(super) const CONFIG_KEYS: &[ConfigKey] = &joined::<
    { COMMON.len() + SOURCE.len() + RSYNC.len() + ON_DEVICE.len() + OWN.len() },
>(&[&COMMON, &SOURCE, &OWN, &ON_DEVICE, &RSYNC]);

/// The block size that was asked for.
pub(super) fn block_size(spec: &VolumeSpec) -> Option<u64> {
    value(&spec.config, "zfs.blocksize").and_then(|text| text.parse().ok()).map(ByteSize::as_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_storage_driver::{Config, Content, VolumeId};

    #[test]
    fn block_sizes_are_powers_of_two_in_range() {
        let with_block_size = |text: &str| {
            let id = VolumeId::custom(Content::Filesystem, "default".parse().unwrap(), "v".parse().unwrap());
            let config = Config::from([("zfs.blocksize".to_owned(), text.to_owned())]);
            block_size(&VolumeSpec { config, ..VolumeSpec::new(id) })
        };
        assert_eq!((with_block_size(""), with_block_size("64KiB")), (None, Some(65536)));
        for bad in ["256", "3KiB", "32MiB"] {
            BLOCK_SIZE.check(bad).unwrap_err();
        }
    }
}
