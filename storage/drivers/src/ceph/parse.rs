//! What `rbd`, `rados` and `ceph` say, as types. Pure: text in, types out.

use crate::refusal;
use larder_base::host::HostError;
use larder_storage_driver::{ErrorKind, Result, StorageError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
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

/// A snapshot of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) name: String,
    /// Whether it must be unprotected before it can go: somebody may have cloned it.
    pub(super) is_protected: bool,
}

/// What an image occupies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes, those of its snapshots included.
    pub(super) used: u64,
    /// Bytes of its size.
    pub(super) size: u64,
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

#[derive(Deserialize)]
struct SnapshotRow {
    name: String,
    protected: String,
    namespace: Namespace,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct DiskUsage {
    images: Vec<DiskUsageRow>,
}

#[derive(Deserialize)]
struct DiskUsageRow {
    name: String,
    provisioned_size: u64,
    used_size: u64,
}

#[derive(Deserialize)]
struct Space {
    pools: Vec<PoolRow>,
}

#[derive(Deserialize)]
struct PoolRow {
    name: String,
    stats: PoolSpace,
}

/// Reads `rbd ls --long --format json`.
pub(super) fn read_list(text: &str) -> Result<Vec<Row>> {
    read("rbd ls", text)
}

/// Reads `rbd ls --format json`: names.
pub(super) fn read_names(text: &str) -> Result<Vec<String>> {
    read("rbd ls", text)
}

/// Reads `rbd info --format json`.
pub(super) fn read_info(text: &str) -> Result<Info> {
    read("rbd info", text)
}

/// Reads `rbd snap ls --all --format json`; those that only clones see are left out.
pub(super) fn read_snapshots(text: &str) -> Result<Vec<Snapshot>> {
    let rows: Vec<SnapshotRow> = read("rbd snap ls", text)?;
    let own = rows.into_iter().filter(|row| row.namespace.kind == "user");
    Ok(own.map(|row| Snapshot { name: row.name, is_protected: row.protected == "true" }).collect())
}

/// Reads `rbd du --format json`, by the names of images. An image comes after its snapshots.
pub(super) fn read_usages(text: &str) -> Result<HashMap<String, Usage>> {
    let mut usages = HashMap::new();
    for row in read::<DiskUsage>("rbd du", text)?.images {
        let usage = usages.entry(row.name).or_insert(Usage { used: 0, size: 0 });
        *usage = Usage { used: usage.used + row.used_size, size: row.provisioned_size };
    }
    Ok(usages)
}

/// The same of an image or of one snapshot.
pub(super) fn read_usage(text: &str) -> Result<Usage> {
    read_usages(text)?.into_values().next().ok_or_else(|| strange("rbd du", text))
}

/// Reads `ceph df --format json`: the space of the OSD pool `name`.
pub(super) fn read_space(text: &str, name: &str) -> Result<PoolSpace> {
    let pools = read::<Space>("ceph df", text)?.pools;
    let own = pools.into_iter().find(|pool| pool.name == name);
    own.map(|pool| pool.stats).ok_or_else(|| StorageError::not_found(format!("the OSD pool {name}")))
}

fn read<T: DeserializeOwned>(command: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| strange(command, text).because(error))
}

fn strange(command: &str, text: &str) -> StorageError {
    let start: String = text.chars().take(200).collect();
    StorageError::new(ErrorKind::Unexpected, format!("{command} says what can't be read: {start:?}"))
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

/// The number in parentheses in a line, or after `errno`; also the names of what `ceph` spells out.
fn errno_in(line: &str) -> Option<i32> {
    if let Some(name) = line.strip_prefix("Error E") {
        let known =
            [("NOENT", libc::ENOENT), ("PERM", libc::EPERM), ("EXIST", libc::EEXIST), ("BUSY", libc::EBUSY)];
        return known.iter().find(|(word, _)| name.starts_with(word)).map(|(_, number)| *number);
    }
    let number = |text: &str, end: char| text.split(end).next().and_then(|number| number.trim().parse().ok());
    let in_brackets = line.split('(').skip(1).find_map(|rest| number(rest, ')'));
    in_brackets.or_else(|| line.split("[errno ").nth(1).and_then(|rest| number(rest, ']')))
}

#[cfg(test)]
mod tests;
