//! Storage volumes.

use crate::{Config, Metadata, StorageVolumeBackup, StorageVolumeSnapshot};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

wire! {
    /// A storage volume. In lists a snapshot appears as one too, named `volume/snapshot`.
    pub struct StorageVolume {
        /// Its keys.
        pub config: Config,
        /// For people.
        pub description: String,
        /// Its name.
        pub name: String,
        /// `container`, `virtual-machine`, `image` or `custom`.
        #[serde(rename = "type")]
        pub kind: String,
        /// URLs of its users.
        pub used_by: Vec<String>,
        /// The member that has it; `none` on a single machine.
        pub location: String,
        /// `filesystem`, `block` or `iso`.
        pub content_type: String,
        /// Its project.
        pub project: String,
        /// The pool it is in.
        pub pool: String,
        /// When it was made.
        pub created_at: Timestamp,
    }

    /// A new volume: empty unless `source` says where its content comes from.
    pub struct StorageVolumesPost {
        /// Its keys.
        pub config: Config,
        /// For people.
        pub description: String,
        /// Its name.
        pub name: String,
        /// `custom`.
        #[serde(rename = "type")]
        pub kind: String,
        /// `filesystem` (also when empty), `block` or `iso`.
        pub content_type: String,
        /// Where its content comes from.
        pub source: StorageVolumeSource,
    }

    /// Where a new volume's content comes from. Empty `kind` and `name`: from nowhere.
    pub struct StorageVolumeSource {
        /// The volume's name, or `volume/snapshot`.
        pub name: String,
        /// `copy` (also when empty, if there is a name) or `migration`.
        #[serde(rename = "type")]
        pub kind: String,
        /// The pool; the target's when empty.
        pub pool: String,
        /// The project; the request's when empty.
        pub project: String,
        /// The member that has it.
        pub location: String,
        /// Whether its snapshots stay behind.
        pub volume_only: bool,
        /// Whether an existing volume is brought up to date.
        pub refresh: bool,
        /// Whether snapshots older than the target's newest stay behind.
        pub refresh_exclude_older: bool,
        /// Migration: `pull` or `push`.
        pub mode: String,
        /// Migration: URL of the source's operation.
        pub operation: String,
        /// Migration: the source's certificate.
        pub certificate: String,
        /// Migration: secrets of the websockets.
        #[serde(rename = "secrets")]
        pub websockets: Config,
    }

    /// What can be changed of a volume, or the snapshot to go back to.
    pub struct StorageVolumePut {
        /// Its keys.
        pub config: Config,
        /// For people.
        pub description: String,
        /// The snapshot to go back to; then nothing else counts.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub restore: String,
    }

    /// A new name, pool or project for a volume, or the beginning of a migration.
    pub struct StorageVolumePost {
        /// The new name.
        pub name: String,
        /// The new pool; the same when empty.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub pool: String,
        /// The new project; the same when empty.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub project: String,
        /// Whether this begins a migration.
        pub migration: bool,
        /// Migration: where to push to.
        pub target: Option<StorageVolumePostTarget>,
        /// Migration: whether snapshots stay behind.
        pub volume_only: bool,
        /// Cluster: the member to move from.
        pub source: Option<Metadata>,
    }

    /// Where a migration pushes to.
    pub struct StorageVolumePostTarget {
        /// The other side's certificate.
        pub certificate: String,
        /// URL of the other side's operation.
        pub operation: String,
        /// Secrets of the other side's websockets.
        #[serde(rename = "secrets")]
        pub websockets: Config,
    }

    /// How full a volume is.
    pub struct StorageVolumeState {
        /// `null` when that is not known.
        pub usage: Option<StorageVolumeStateUsage>,
    }

    /// Bytes of a volume.
    pub struct StorageVolumeStateUsage {
        /// In use.
        pub used: u64,
        /// The size it may have; 0 when it has no limit.
        pub total: u64,
    }
}

/// A volume with all that hangs on it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StorageVolumeFull {
    /// The volume.
    #[serde(flatten)]
    pub volume: StorageVolume,
    /// Its stored backups.
    #[serde(default, deserialize_with = "crate::wire::read")]
    pub backups: Vec<StorageVolumeBackup>,
    /// Its snapshots.
    #[serde(default, deserialize_with = "crate::wire::read")]
    pub snapshots: Vec<StorageVolumeSnapshot>,
    /// How full it is.
    #[serde(default, deserialize_with = "crate::wire::read")]
    pub state: StorageVolumeState,
}
