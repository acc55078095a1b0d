//! What `rbd`, `rados` and `ceph` say, as types. Pure: text in, types out.

use larder_storage_driver::{Result, StorageError, VolumeUsage};
use serde::Deserialize;
use std::collections::HashMap;

/// An image, or one of its snapshots, in a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Row {
    pub(crate) image: String,
    pub(crate) snapshot: Option<String>,
    /// Bytes.
    pub(crate) size: u64,
}

/// A namespace in a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Info {
    /// What no other image of the OSD pool is called.
    pub(crate) id: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Of every kind: those that users see, and those that only clones see.
    #[serde(rename = "snapshot_count")]
    pub(crate) snapshots: u64,
    pub(crate) parent: Option<Parent>,
}

/// What an image was cloned from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Parent {
    pub(crate) pool: String,
    #[serde(default)]
    pub(crate) pool_namespace: String,
    pub(crate) image: String,
    pub(crate) snapshot: String,
}

/// A snapshot in the list of an image's.
#[derive(Debug, Deserialize)]
pub(crate) struct Snapshot {
    /// What no other snapshot of the OSD pool is called.
    pub(crate) id: u64,
    pub(crate) name: String,
    protected: String,
    namespace: Namespace,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
}

impl Snapshot {
    /// Whether it must be unprotected before it can go: somebody may have cloned it.
    pub(crate) fn is_protected(&self) -> bool {
        self.protected == "true"
    }

    /// Whether it is there for users, and not for clones alone.
    pub(crate) fn is_for_users(&self) -> bool {
        self.namespace.kind == "user"
    }
}

/// What images with their snapshots, or one of these, occupy.
#[derive(Debug, Deserialize)]
pub(crate) struct DiskUsage {
    images: Vec<DiskUsageRow>,
}

#[derive(Debug, Deserialize)]
struct DiskUsageRow {
    name: String,
    provisioned_size: u64,
    used_size: u64,
}

impl DiskUsage {
    /// By the names of the images. An image comes after its snapshots.
    pub(crate) fn by_image(self) -> HashMap<String, VolumeUsage> {
        let mut found = HashMap::new();
        for row in self.images {
            let usage: &mut VolumeUsage = found.entry(row.name).or_default();
            let used = usage.used_bytes.unwrap_or(0) + row.used_size;
            *usage = VolumeUsage { used_bytes: Some(used), total_bytes: Some(row.provisioned_size) };
        }
        found
    }
}

impl From<DiskUsage> for VolumeUsage {
    fn from(usage: DiskUsage) -> Self {
        usage.by_image().into_values().next().unwrap_or_default()
    }
}

/// Space of all OSD pools.
#[derive(Debug, Deserialize)]
pub(crate) struct Space {
    pools: Vec<PoolRow>,
}

#[derive(Debug, Deserialize)]
struct PoolRow {
    name: String,
    stats: PoolSpace,
}

/// Space of an OSD pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct PoolSpace {
    /// Bytes stored, without their replicas.
    pub(crate) stored: u64,
    /// Bytes that can still be stored.
    #[serde(rename = "max_avail")]
    pub(crate) available: u64,
}

impl Space {
    /// That of one.
    pub(crate) fn of(&self, name: &str) -> Result<PoolSpace> {
        let own = self.pools.iter().find(|pool| pool.name == name);
        own.map(|pool| pool.stats).ok_or_else(|| StorageError::not_found(format!("the OSD pool {name}")))
    }
}

#[cfg(test)]
mod tests;
