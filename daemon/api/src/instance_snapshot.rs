//! Snapshots of instances.

use crate::{Config, Devices, InstancePostTarget};
use jiff::Timestamp;

wire! {
    /// A snapshot of an instance: the instance as it was.
    pub struct InstanceSnapshot {
        /// The kernel's name of its architecture.
        pub architecture: String,
        /// Its own keys.
        pub config: Config,
        /// When the snapshot was made.
        pub created_at: Timestamp,
        /// Its own devices.
        pub devices: Devices,
        /// Whether it would have gone when it stopped.
        pub ephemeral: bool,
        /// Its keys with those of its profiles.
        pub expanded_config: Config,
        /// Its devices with those of its profiles.
        pub expanded_devices: Devices,
        /// When the snapshot goes; [`ZERO_TIME`](crate::ZERO_TIME) for never.
        pub expires_at: Timestamp,
        /// When the instance was started last.
        pub last_used_at: Timestamp,
        /// The snapshot's name, without the instance's.
        pub name: String,
        /// Its profiles, in order.
        pub profiles: Vec<String>,
        /// Bytes; -1 when that is not known.
        pub size: i64,
        /// Whether it has a saved state.
        pub stateful: bool,
        /// For people.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub description: String,
    }

    /// A new snapshot.
    pub struct InstanceSnapshotsPost {
        /// Its name; made from the instance's pattern when empty.
        pub name: String,
        /// Whether to save its state.
        pub stateful: bool,
        /// When it goes; as the instance's keys say when absent, never when zero.
        pub expires_at: Option<Timestamp>,
    }

    /// What can be changed of a snapshot.
    pub struct InstanceSnapshotPut {
        /// When it goes; never when absent or zero.
        pub expires_at: Option<Timestamp>,
    }

    /// A snapshot's new name, or the beginning of its migration.
    pub struct InstanceSnapshotPost {
        /// The new name.
        pub name: String,
        /// Whether this begins a migration.
        pub migration: bool,
        /// Whether its state comes along.
        pub live: bool,
        /// Migration: where to push to.
        pub target: Option<InstancePostTarget>,
    }
}
