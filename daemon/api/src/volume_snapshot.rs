//! Snapshots of volumes.

use crate::Config;
use jiff::Timestamp;

wire! {
    /// A snapshot of a volume.
    pub struct StorageVolumeSnapshot {
        /// For people.
        pub description: String,
        /// When it goes; never when `null`, or [`ZERO_TIME`](crate::ZERO_TIME) in the answer for one alone.
        pub expires_at: Option<Timestamp>,
        /// `volume/snapshot` in lists; its own name alone and in a [`StorageVolumeFull`](crate::StorageVolumeFull).
        pub name: String,
        /// The volume's keys as they were.
        pub config: Config,
        /// `filesystem`, `block` or `iso`.
        pub content_type: String,
        /// When it was made.
        pub created_at: Timestamp,
    }

    /// A new snapshot.
    pub struct StorageVolumeSnapshotsPost {
        /// Its name; made from the volume's pattern when empty.
        pub name: String,
        /// For people.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub description: String,
        /// When it goes; as the volume's keys say when absent, never when zero.
        pub expires_at: Option<Timestamp>,
    }

    /// A snapshot's new name, or the beginning of its migration.
    pub struct StorageVolumeSnapshotPost {
        /// The new name.
        pub name: String,
        /// Whether this begins a migration.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub migration: bool,
        /// Migration: where to push to.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub target: Option<crate::StorageVolumePostTarget>,
    }

    /// What can be changed of a snapshot.
    pub struct StorageVolumeSnapshotPut {
        /// For people.
        pub description: String,
        /// When it goes; never when absent or zero.
        pub expires_at: Option<Timestamp>,
    }
}
