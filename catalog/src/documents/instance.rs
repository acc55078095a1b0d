//! Instances, their snapshots, and profiles.

use super::{Config, Devices};
use crate::{Document, InstanceId, InstanceSnapshotId, Key, ProfileId, SnapshotId, VolumeId, keys};
use jiff::Timestamp;
use larder_base::ProjectName;
use serde::{Deserialize, Serialize};

/// What may be done with an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Being made; nobody was told of it.
    Creating,
    /// There.
    Ready,
    /// On its way out.
    Deleting,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Its project.
    pub project: ProjectName,
    /// Its name.
    pub name: String,
    /// `container` or `virtual-machine`.
    pub kind: String,
    /// The kernel's name of its architecture.
    pub architecture: String,
    /// For people.
    pub description: String,
    /// Its own keys, without its profiles'.
    pub config: Config,
    /// Its own devices, without its profiles'.
    pub devices: Devices,
    /// Its profiles, in order.
    pub profiles: Vec<String>,
    /// Whether it goes when it stops.
    pub ephemeral: bool,
    /// Whether its memory was saved when it stopped.
    pub stateful: bool,
    /// Its root volume.
    pub root: Option<VolumeId>,
    /// What may be done with it.
    pub state: InstanceState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was started last.
    pub last_used_at: Option<Timestamp>,
}

impl Document for Instance {
    const KIND: &'static str = "instance";

    fn key(&self) -> Key {
        keys::instance(self.id)
    }
}

/// A snapshot of an instance: its root volume's snapshot, and its configuration then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSnapshot {
    /// Its id.
    pub id: InstanceSnapshotId,
    /// The instance.
    pub instance: InstanceId,
    /// Its name.
    pub name: String,
    /// The instance as it was: configuration, devices, profiles and all.
    pub then: Instance,
    /// Whether the memory was saved too.
    pub stateful: bool,
    /// The snapshot of the root volume that belongs to it.
    pub root: Option<SnapshotId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it goes.
    pub expires_at: Option<Timestamp>,
}

impl Document for InstanceSnapshot {
    const KIND: &'static str = "instance snapshot";

    fn key(&self) -> Key {
        keys::instance_snapshot(self.instance, self.id)
    }
}

/// Keys and devices that instances share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its id.
    pub id: ProfileId,
    /// Its project.
    pub project: ProjectName,
    /// Its name.
    pub name: String,
    /// For people.
    pub description: String,
    /// Its keys.
    pub config: Config,
    /// Its devices.
    pub devices: Devices,
}

impl Document for Profile {
    const KIND: &'static str = "profile";

    fn key(&self) -> Key {
        keys::profile(self.id)
    }
}
