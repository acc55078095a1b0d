//! What `rbd`, `rados` and `ceph` say, as types. Pure: text in, types out.

use crate::refusal;
use larder_base::host::HostError;
use larder_storage_driver::{ErrorKind, Result, StorageError, VolumeUsage};
use serde::Deserialize;
use std::collections::HashMap;

/// An image, or one of its snapshots, in a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Row {
    pub(super) image: String,
    pub(super) snapshot: Option<String>,
    /// Bytes.
    pub(super) size: u64,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Info {
    /// Bytes.
    pub(super) size: u64,
    /// Of every kind: those that users see, and those that only clones see.
    #[serde(rename = "snapshot_count")]
    pub(super) snapshots: u64,
    pub(super) parent: Option<Parent>,
}

/// What an image was cloned from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Parent {
    pub(super) pool: String,
    #[serde(default)]
    pub(super) pool_namespace: String,
    pub(super) image: String,
    pub(super) snapshot: String,
}

/// A snapshot in the list of an image's.
#[derive(Debug, Deserialize)]
pub(super) struct Snapshot {
    pub(super) name: String,
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
    pub(super) fn is_protected(&self) -> bool {
        self.protected == "true"
    }

    /// Whether it is there for users, and not for clones alone.
    pub(super) fn is_for_users(&self) -> bool {
        self.namespace.kind == "user"
    }
}

/// What images with their snapshots, or one of these, occupy.
#[derive(Debug, Deserialize)]
pub(super) struct DiskUsage {
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
    pub(super) fn by_image(self) -> HashMap<String, VolumeUsage> {
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
pub(super) struct Space {
    pools: Vec<PoolRow>,
}

#[derive(Debug, Deserialize)]
struct PoolRow {
    name: String,
    stats: PoolSpace,
}

/// Space of an OSD pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct PoolSpace {
    /// Bytes stored, without their replicas.
    pub(super) stored: u64,
    /// Bytes that can still be stored.
    #[serde(rename = "max_avail")]
    pub(super) available: u64,
}

impl Space {
    /// That of one.
    pub(super) fn of(&self, name: &str) -> Result<PoolSpace> {
        let own = self.pools.iter().find(|pool| pool.name == name);
        own.map(|pool| pool.stats).ok_or_else(|| StorageError::not_found(format!("the OSD pool {name}")))
    }
}

/// Why a command was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no such pool, namespace, image, snapshot or object.
    Missing,
    /// The name is taken.
    Taken,
    /// Somebody has it open, or a protected snapshot has clones.
    Busy,
    /// The pool or its quota is full.
    Full,
    /// The image has snapshots.
    HasSnapshots,
    /// The user may not.
    Forbidden,
    /// The cluster does not answer.
    Unreachable,
}

impl refusal::Refusal for Refusal {
    fn of(error: &HostError) -> Option<Self> {
        match error {
            HostError::Failed { code, stderr, .. } => refusal(*code, stderr),
            HostError::TimedOut { .. } => Some(Self::Unreachable),
            _ => None,
        }
    }

    fn words(self) -> &'static str {
        if self == Self::Unreachable { "the ceph cluster does not answer" } else { "ceph refused" }
    }

    fn kind(self) -> ErrorKind {
        match self {
            Self::Missing => ErrorKind::NotFound,
            Self::Taken => ErrorKind::AlreadyExists,
            Self::Busy => ErrorKind::InUse,
            Self::Full => ErrorKind::NoSpace,
            Self::HasSnapshots | Self::Forbidden => ErrorKind::Unexpected,
            Self::Unreachable => ErrorKind::Unavailable,
        }
    }
}

impl Refusal {
    fn of_errno(number: i32) -> Option<Self> {
        Some(match number {
            libc::ENOENT => Self::Missing,
            libc::EEXIST => Self::Taken,
            libc::EBUSY => Self::Busy,
            libc::ENOSPC | libc::EDQUOT => Self::Full,
            libc::ENOTEMPTY => Self::HasSnapshots,
            libc::EPERM | libc::EACCES => Self::Forbidden,
            libc::ETIMEDOUT | libc::ENOTCONN | libc::EHOSTUNREACH | libc::ECONNREFUSED => Self::Unreachable,
            _ => return None,
        })
    }
}

/// What no connection begins with, whatever number follows.
const NO_CONNECTION: &[&str] = &[
    "couldn't connect to the cluster",
    "couldn't connect to cluster",
    "error connecting to the cluster",
    "failed to fetch mon config",
    "cannot identify monitors",
];

/// Reads the exit code and standard error of a failed `rbd`, `rados` or `ceph`: `rbd` ends with an errno, the others with 1
/// and `(errno) words` on a line.
pub(super) fn refusal(code: Option<i32>, stderr: &str) -> Option<Refusal> {
    if NO_CONNECTION.iter().any(|words| stderr.contains(words)) {
        return Some(Refusal::Unreachable);
    }
    match code {
        Some(code) if code > 1 => Refusal::of_errno(code),
        _ => stderr.lines().rev().find_map(errno_in).and_then(Refusal::of_errno),
    }
}

/// The number in parentheses in a line, or after `errno`. `ceph` ends with an errno too, of which one is 1.
fn errno_in(line: &str) -> Option<i32> {
    if line.starts_with("Error EPERM") {
        return Some(libc::EPERM);
    }
    let number = |text: &str, end: char| text.split(end).next().and_then(|number| number.trim().parse().ok());
    let in_brackets = line.split('(').skip(1).find_map(|rest| number(rest, ')'));
    in_brackets.or_else(|| line.split("[errno ").nth(1).and_then(|rest| number(rest, ']')))
}

#[cfg(test)]
mod tests;
