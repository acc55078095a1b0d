//! What `zfs` and `zpool` say, as types.

use larder_storage_driver::{Content, ErrorKind, Result, StorageError};
use std::collections::HashMap;

/// What a row of a list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Filesystem,
    Volume,
    Snapshot,
}

/// A row of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) name: &'a str,
    pub(super) kind: Kind,
    /// What the content property says, ours or a peer's.
    pub(super) content: Option<Content>,
}

/// The columns that [`rows`] reads.
pub(super) const ROW: &str = "name,type,larder:content_type,incus:content_type,lxd:content_type";

/// Reads `zfs list -Hp -r -t filesystem,volume,snapshot -o <ROW> DATASET`.
pub(super) fn rows(text: &str) -> Vec<Row<'_>> {
    text.lines().filter_map(row).collect()
}

fn row(line: &str) -> Option<Row<'_>> {
    let mut columns = line.split('\t');
    let name = columns.next()?;
    let kind = match columns.next()? {
        "filesystem" => Kind::Filesystem,
        "volume" => Kind::Volume,
        "snapshot" => Kind::Snapshot,
        _ => return None,
    };
    let content = columns.find_map(|mark| mark.parse().ok());
    Some(Row { name, kind, content })
}

/// The values of the properties of one dataset, by their names.
#[derive(Debug)]
pub(super) struct Values<'a>(HashMap<&'a str, &'a str>);

/// Reads a line of `zfs list -Hp -o COLUMNS DATASET`.
pub(super) fn values<'a>(columns: &'a str, line: &'a str) -> Values<'a> {
    Values(columns.split(',').zip(line.trim_end_matches('\n').split('\t')).collect())
}

impl<'a> Values<'a> {
    /// A value; `None` where there is none (`-`, `none`).
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).copied().filter(|value| !matches!(*value, "-" | "none" | ""))
    }

    /// A number; 0 where there is none.
    pub(super) fn number(&self, name: &str) -> Result<u64> {
        let Some(text) = self.text(name) else { return Ok(0) };
        text.parse().map_err(|_| {
            StorageError::new(
                ErrorKind::Unexpected,
                format!("zfs tells {text:?} as {name}, which is no number"),
            )
        })
    }

    /// Whether a property of ours is on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        matches!(self.text(name), Some("on" | "true"))
    }
}

/// A snapshot that stands in the way of another, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SnapshotRow<'a> {
    pub(super) dataset: &'a str,
    /// What follows the `@`.
    pub(super) tag: &'a str,
    /// What was cloned from it.
    pub(super) clones: Vec<&'a str>,
}

/// Reads `zfs list -Hp -d 1 -t snapshot -s createtxg -o name,clones DATASET...`.
pub(super) fn snapshots(text: &str) -> Vec<SnapshotRow<'_>> {
    let read = |line| {
        let (name, clones) = str::split_once(line, '\t')?;
        let (dataset, tag) = name.split_once('@')?;
        let clones = clones.split(',').filter(|clone| !matches!(*clone, "" | "-")).collect();
        Some(SnapshotRow { dataset, tag, clones })
    };
    text.lines().filter_map(read).collect()
}

/// A refusal that zfs puts into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Missing,
    MissingParent,
    Exists,
    Busy,
    HasClones,
    NoSpace,
    TooSmall,
    BadValue,
}

/// Standard error of `zfs` and `zpool`, in the C locale; each phrase is one of libzfs.
const PHRASES: &[(&str, Refusal)] = &[
    ("parent does not exist", Refusal::MissingParent),
    ("dataset does not exist", Refusal::Missing),
    ("no such pool", Refusal::Missing),
    ("could not find any snapshots", Refusal::Missing),
    ("has dependent clones", Refusal::HasClones),
    ("already exists", Refusal::Exists),
    ("is busy", Refusal::Busy),
    ("out of space", Refusal::NoSpace),
    ("less than current used or reserved space", Refusal::TooSmall),
    ("must be a multiple of", Refusal::BadValue),
    ("must be power of 2", Refusal::BadValue),
    ("bad property value", Refusal::BadValue),
    ("bad property", Refusal::BadValue),
];

/// What a failed command says.
pub(super) fn refusal(stderr: &str) -> Option<Refusal> {
    PHRASES.iter().find(|(phrase, _)| stderr.contains(phrase)).map(|(_, refusal)| *refusal)
}

impl Refusal {
    /// The kind of the error it makes.
    pub(super) fn kind(self) -> ErrorKind {
        match self {
            Self::Missing | Self::MissingParent => ErrorKind::NotFound,
            Self::Exists => ErrorKind::AlreadyExists,
            Self::Busy => ErrorKind::Busy,
            Self::HasClones => ErrorKind::InUse,
            Self::NoSpace => ErrorKind::NoSpace,
            Self::TooSmall | Self::BadValue => ErrorKind::Invalid,
        }
    }
}
