//! Instances.

use crate::{Config, Devices, InstanceBackup, InstanceSnapshot, InstanceState};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

wire! {
    /// An instance.
    pub struct Instance {
        /// The kernel's name of its architecture.
        pub architecture: String,
        /// Its own keys.
        pub config: Config,
        /// Its own devices.
        pub devices: Devices,
        /// Whether it goes when it stops.
        pub ephemeral: bool,
        /// Its profiles, in order.
        pub profiles: Vec<String>,
        /// Whether it has a saved state.
        pub stateful: bool,
        /// For people.
        pub description: String,
        /// When it was made.
        pub created_at: Timestamp,
        /// Its keys with those of its profiles.
        pub expanded_config: Config,
        /// Its devices with those of its profiles.
        pub expanded_devices: Devices,
        /// Its name.
        pub name: String,
        /// `Running`, `Stopped`, `Frozen` or `Error`.
        pub status: String,
        /// The same as a number.
        pub status_code: u16,
        /// When it was started last; [`ZERO_TIME`](crate::ZERO_TIME) for never.
        pub last_used_at: Timestamp,
        /// The member that has it; `none` on a single machine.
        pub location: String,
        /// `container` or `virtual-machine`.
        #[serde(rename = "type")]
        pub kind: String,
        /// Its project.
        pub project: String,
    }

    /// A new instance.
    pub struct InstancesPost {
        /// The kernel's name of its architecture; the image's when empty.
        pub architecture: String,
        /// Its own keys.
        pub config: Config,
        /// Its own devices.
        pub devices: Devices,
        /// Whether it goes when it stops.
        pub ephemeral: bool,
        /// Its profiles; the image's or the default one when absent, none when empty.
        pub profiles: Option<Vec<String>>,
        /// The snapshot to go back to; not for a new one.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub restore: String,
        /// Whether its state comes along.
        pub stateful: bool,
        /// For people.
        pub description: String,
        /// Its name; made up when empty.
        pub name: String,
        /// Where its root comes from.
        pub source: InstanceSource,
        /// A size such as `t2.micro`.
        pub instance_type: String,
        /// `container` (also when empty) or `virtual-machine`.
        #[serde(rename = "type")]
        pub kind: String,
        /// Whether to start it.
        pub start: bool,
    }

    /// Where a new instance's root comes from.
    pub struct InstanceSource {
        /// `image`, `copy`, `migration` or `none`.
        #[serde(rename = "type")]
        pub kind: String,
        /// The server's certificate, where no known authority signed it.
        pub certificate: String,
        /// Image: a name.
        pub alias: String,
        /// Image: a fingerprint, or the beginning of one.
        pub fingerprint: String,
        /// Image: what is said of it; the newest that fits is taken.
        pub properties: Config,
        /// Image: the server's URL.
        pub server: String,
        /// Image: a token for one that is not public.
        pub secret: String,
        /// Image: `simplestreams`, `lxd`, `incus` or `oci`.
        pub protocol: String,
        /// Migration: the image that both sides may have.
        #[serde(rename = "base-image")]
        pub base_image: String,
        /// `pull` (also when empty) or `push`.
        pub mode: String,
        /// Migration: URL of the source's operation.
        pub operation: String,
        /// Migration: secrets of the websockets.
        #[serde(rename = "secrets")]
        pub websockets: Config,
        /// Copy: `instance` or `instance/snapshot`.
        pub source: String,
        /// Whether it keeps running.
        pub live: bool,
        /// Whether its snapshots stay behind.
        pub instance_only: bool,
        /// The same, from older clients.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub container_only: bool,
        /// Whether an existing instance is brought up to date.
        pub refresh: bool,
        /// Whether snapshots older than the target's newest stay behind.
        pub refresh_exclude_older: bool,
        /// Copy: the source's project.
        pub project: String,
        /// Copy: whether files may change meanwhile.
        pub allow_inconsistent: bool,
    }

    /// What can be changed of an instance, or the snapshot to go back to.
    pub struct InstancePut {
        /// The kernel's name of its architecture.
        pub architecture: String,
        /// Its own keys.
        pub config: Config,
        /// Its own devices.
        pub devices: Devices,
        /// Whether it goes when it stops.
        pub ephemeral: bool,
        /// Its profiles, in order.
        pub profiles: Vec<String>,
        /// The snapshot to go back to; then nothing else counts.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub restore: String,
        /// Whether the saved state comes back too.
        pub stateful: bool,
        /// For people.
        pub description: String,
        /// Whether only the root's content comes back, not the configuration.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub disk_only: bool,
    }

    /// A new name, pool or project for an instance, or the beginning of a migration.
    pub struct InstancePost {
        /// The new name.
        pub name: String,
        /// Whether this begins a migration or a move.
        pub migration: bool,
        /// Whether it keeps running.
        pub live: bool,
        /// Whether its snapshots stay behind.
        pub instance_only: bool,
        /// The same, from older clients.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub container_only: bool,
        /// Migration: where to push to.
        pub target: Option<InstancePostTarget>,
        /// The new pool; the same when empty.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub pool: String,
        /// The new project; the same when empty.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub project: String,
        /// Whether files may change meanwhile.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub allow_inconsistent: bool,
        /// Keys to change on the way.
        #[serde(alias = "Config", skip_serializing_if = "crate::wire::is_absent")]
        pub config: Option<Config>,
        /// Devices to change on the way.
        #[serde(alias = "Devices", skip_serializing_if = "crate::wire::is_absent")]
        pub devices: Option<Devices>,
        /// Profiles to have afterwards.
        #[serde(alias = "Profiles", skip_serializing_if = "crate::wire::is_absent")]
        pub profiles: Option<Vec<String>>,
    }

    /// Where a migration pushes to.
    pub struct InstancePostTarget {
        /// The other side's certificate.
        pub certificate: String,
        /// URL of the other side's operation.
        pub operation: String,
        /// Secrets of the other side's websockets.
        #[serde(rename = "secrets")]
        pub websockets: Config,
    }

    /// A new root for an instance.
    pub struct InstanceRebuildPost {
        /// Where it comes from: `image` or `none`.
        pub source: InstanceSource,
    }
}

/// An instance with all that hangs on it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct InstanceFull {
    /// The instance.
    #[serde(flatten)]
    pub instance: Instance,
    /// Its stored backups.
    #[serde(default, deserialize_with = "crate::wire::read")]
    pub backups: Vec<InstanceBackup>,
    /// What it does now.
    #[serde(default)]
    pub state: Option<InstanceState>,
    /// Its snapshots.
    #[serde(default, deserialize_with = "crate::wire::read")]
    pub snapshots: Vec<InstanceSnapshot>,
}
