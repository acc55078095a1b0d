//! The keys of pools and volumes on zfs.

use crate::keys::{COMMON, ON_DEVICE, RSYNC, SOURCE, joined, pool, pool_fixed, volume, volume_fixed};
use larder_base::ByteSize;
use larder_storage_driver::{
    Config, ConfigKey, ErrorKind, KeyType, Result, StorageError, VolumeSpec, is_true,
};

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

/// How a volume is copied within its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloneCopy {
    /// The copy shares blocks with its source.
    Clone,
    /// The copy shares nothing.
    Full,
    /// The copy shares blocks with the image that its source was made from.
    Rebase,
}

/// `zfs.clone_copy`.
pub(super) fn clone_copy(config: &Config) -> CloneCopy {
    match config.get("zfs.clone_copy").map(String::as_str) {
        Some("false") => CloneCopy::Full,
        Some("rebase") => CloneCopy::Rebase,
        _ => CloneCopy::Clone,
    }
}

/// Whether a key of type boolean is on.
pub(super) fn is_on(config: &Config, key: &str) -> bool {
    config.get(key).is_some_and(|value| is_true(value))
}

/// The block size that was asked for. Fails with `Invalid` when zfs has none such.
pub(super) fn block_size(spec: &VolumeSpec) -> Result<Option<u64>> {
    let Some(text) = spec.config.get("zfs.blocksize").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    BLOCK_SIZE.check(text).map_err(|wanted| {
        let message = format!("invalid value {text:?} of key \"zfs.blocksize\": it must be {wanted}");
        StorageError::new(ErrorKind::Invalid, message)
    })?;
    Ok(text.parse().ok().map(ByteSize::as_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_storage_driver::{Content, VolumeId};

    fn with_block_size(text: &str) -> Result<Option<u64>> {
        let id = VolumeId::custom(Content::Filesystem, "default".parse().unwrap(), "v".parse().unwrap());
        let config = Config::from([("zfs.blocksize".to_owned(), text.to_owned())]);
        block_size(&VolumeSpec { config, ..VolumeSpec::new(id) })
    }

    #[test]
    fn block_sizes_are_powers_of_two_in_range() {
        assert_eq!(with_block_size("").unwrap(), None);
        assert_eq!(with_block_size("64KiB").unwrap(), Some(65536));
        for bad in ["256", "3KiB", "32MiB"] {
            let error = with_block_size(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("zfs.blocksize"), "{error}");
        }
    }
}
