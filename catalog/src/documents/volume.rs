//! Volumes, their snapshots and backups, and what is being done to them.

use super::Config;
use crate::{Document, Key, PoolId, SnapshotId, VolumeId, keys};
use jiff::Timestamp;
use larder_base::{ProjectName, Ticket};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What may be done with a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeState {
    /// Being made; nobody was told of it.
    Creating,
    /// There.
    Ready,
    /// Going back to a snapshot; can't be attached until that is finished.
    Restoring,
    /// Getting another size; can't be attached until that is finished.
    Resizing,
    /// Sentenced: another volume has taken its place.
    Deleting,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its id.
    pub id: VolumeId,
    /// The pool it is in.
    pub pool: PoolId,
    /// Its project.
    pub project: ProjectName,
    /// `container`, `virtual-machine`, `image`, `custom` or `bucket`.
    pub kind: String,
    /// `filesystem`, `block` or `iso`.
    pub content: String,
    /// Its name.
    pub name: String,
    /// For people.
    pub description: String,
    /// Its keys.
    pub config: Config,
    /// What may be done with it.
    pub state: VolumeState,
    /// When it was made.
    pub created_at: Timestamp,
    /// While it is being made: the volume whose place it takes once it is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_over: Option<VolumeId>,
}

impl Document for Volume {
    const KIND: &'static str = "volume";

    fn key(&self) -> Key {
        keys::volume(self.id)
    }
}

/// A snapshot of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// The volume it is of.
    pub volume: VolumeId,
    /// Its name.
    pub name: String,
    /// For people.
    pub description: String,
    /// The volume's keys as they were.
    pub config: Config,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it goes.
    pub expires_at: Option<Timestamp>,
    /// Whether it is there; otherwise it is being made.
    pub is_ready: bool,
}

impl Document for Snapshot {
    const KIND: &'static str = "snapshot";

    fn key(&self) -> Key {
        keys::snapshot(self.volume, self.id)
    }
}

/// A stored backup of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// Its id, and its file's name.
    pub id: Uuid,
    /// The volume it is of.
    pub volume: VolumeId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it goes.
    pub expires_at: Option<Timestamp>,
    /// Whether the snapshots were left out.
    pub volume_only: bool,
    /// Whether it is in the driver's own format.
    pub optimized: bool,
}

impl Document for Backup {
    const KIND: &'static str = "backup";

    fn key(&self) -> Key {
        keys::backup(self.volume, self.id)
    }
}

/// A change of several steps that has begun, for the next start to finish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Whose work it is.
    pub ticket: Ticket,
    /// On which pool.
    pub pool: PoolId,
    /// On which volume.
    pub volume: VolumeId,
    /// What is to be done; its shape belongs to whoever wrote it.
    pub work: serde_json::Value,
    /// When it began.
    pub begun_at: Timestamp,
}

impl Document for Intent {
    const KIND: &'static str = "intent";

    fn key(&self) -> Key {
        keys::intent(&self.ticket)
    }
}
