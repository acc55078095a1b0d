//! Stored backups of volumes.

use crate::Metadata;
use jiff::Timestamp;

wire! {
    /// A stored backup of a volume.
    pub struct StorageVolumeBackup {
        /// Its name.
        pub name: String,
        /// When it was made.
        pub created_at: Timestamp,
        /// When it goes; [`ZERO_TIME`](crate::ZERO_TIME) for never.
        pub expires_at: Timestamp,
        /// Whether the snapshots were left out.
        pub volume_only: bool,
        /// Whether it is in the pool's own form.
        pub optimized_storage: bool,
    }

    /// A new backup.
    pub struct StorageVolumeBackupsPost {
        /// Its name; made up when empty.
        pub name: String,
        /// When it goes; never when absent or zero.
        pub expires_at: Option<Timestamp>,
        /// Whether to leave the snapshots out.
        pub volume_only: bool,
        /// Whether to write the pool's own form.
        pub optimized_storage: bool,
        /// How to compress; as the server's keys say when empty.
        pub compression_algorithm: String,
        /// Where to upload it to instead of storing it.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub target: Option<Metadata>,
        /// Which form of metadata to write; the server's choice when 0.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub version: u32,
    }

    /// A backup's new name.
    pub struct StorageVolumeBackupPost {
        /// The new name.
        pub name: String,
    }
}
