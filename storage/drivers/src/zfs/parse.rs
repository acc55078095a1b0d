//! What `zfs` and `zpool` say, as types.

use crate::refusal;
use larder_base::host::HostError;
use larder_storage_driver::{Content, ErrorKind, Result, StorageError};
use std::collections::HashMap;

/// A row of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row<'a> {
    /// Of a dataset, or of a snapshot.
    pub(super) name: &'a str,
    pub(super) is_disk: bool,
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
    let (name, kind) = (columns.next()?, columns.next()?);
    let content = columns.find_map(|mark| mark.parse().ok());
    Some(Row { name, is_disk: kind == "volume", content })
}

/// The values of the properties of one dataset, by their names.
#[derive(Debug)]
pub(super) struct Values(HashMap<String, String>);

/// Reads a line of `zfs list -Hp -o COLUMNS DATASET`.
pub(super) fn values(columns: &str, line: &str) -> Values {
    let values = line.trim_end_matches('\n').split('\t').map(str::to_owned);
    Values(columns.split(',').map(str::to_owned).zip(values).collect())
}

impl Values {
    /// A value; `None` where there is none (`-`, `none`).
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !matches!(*value, "-" | "none" | ""))
    }

    /// A number; 0 where there is none.
    pub(super) fn number(&self, name: &str) -> Result<u64> {
        let Some(text) = self.text(name) else { return Ok(0) };
        let strange =
            || StorageError::unexpected(format!("zfs tells {text:?} as {name}, which is no number"));
        text.parse().map_err(|_| strange())
    }

    /// Whether a property of ours is on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        matches!(self.text(name), Some("on" | "true"))
    }
}

/// A snapshot that stands in the way of another, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SnapshotRow {
    pub(super) dataset: String,
    /// What follows the `@`.
    pub(super) tag: String,
    /// What was cloned from it.
    pub(super) clones: Vec<String>,
}

/// Reads `zfs list -Hp -d 1 -t snapshot -s createtxg -o name,clones DATASET...`.
pub(super) fn snapshots(text: &str) -> Vec<SnapshotRow> {
    let read = |line| {
        let (name, clones) = str::split_once(line, '\t')?;
        let (dataset, tag) = name.split_once('@')?;
        let clones = clones.split(',').filter(|clone| !matches!(*clone, "" | "-"));
        let (dataset, tag) = (dataset.to_owned(), tag.to_owned());
        Some(SnapshotRow { dataset, tag, clones: clones.map(str::to_owned).collect() })
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
    Zoned,
    OtherType,
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
    ("clones of previous snapshots exist", Refusal::HasClones),
    ("already exists", Refusal::Exists),
    ("is busy", Refusal::Busy),
    ("used in a non-global zone", Refusal::Zoned),
    ("does not apply to datasets of this type", Refusal::OtherType),
    ("out of space", Refusal::NoSpace),
    ("greater than available space", Refusal::NoSpace),
    ("less than current used or reserved space", Refusal::TooSmall),
    ("must be a multiple of", Refusal::BadValue),
    ("must be power of 2", Refusal::BadValue),
    ("bad property", Refusal::BadValue),
    ("less than the minimum size", Refusal::BadValue),
    ("to override the following errors", Refusal::BadValue),
    ("is too long", Refusal::BadValue),
];

/// What a failed command says.
fn refusal(stderr: &str) -> Option<Refusal> {
    PHRASES.iter().find(|(phrase, _)| stderr.contains(phrase)).map(|(_, refusal)| *refusal)
}

impl refusal::Refusal for Refusal {
    fn of(error: &HostError) -> Option<Self> {
        match error {
            HostError::Failed { stderr, .. } => refusal(stderr),
            _ => None,
        }
    }

    fn words(self) -> &'static str {
        "zfs refused"
    }

    fn kind(self) -> ErrorKind {
        match self {
            Self::Missing | Self::MissingParent => ErrorKind::NotFound,
            Self::Exists => ErrorKind::AlreadyExists,
            Self::Busy => ErrorKind::Busy,
            Self::Zoned | Self::HasClones => ErrorKind::InUse,
            Self::NoSpace => ErrorKind::NoSpace,
            Self::TooSmall | Self::BadValue | Self::OtherType => ErrorKind::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a fixture's command printed.
    macro_rules! printed {
        ($name:literal) => {
            include_str!(concat!("../../../../fixtures/zfs/2.3.9/", $name))
                .split_once('\n')
                .map_or("", |(_, text)| text)
        };
    }

    #[test]
    fn rows_tell_kind_and_content() {
        let rows = rows(printed!("list-places.txt"));
        assert_eq!(rows.len(), 25);
        let row = |name: &str| *rows.iter().find(|row| row.name == name).unwrap();
        let is = |name, is_disk, content| assert_eq!(row(name), Row { name, is_disk, content });
        is("tank/larder/custom/default_v1", false, Some(Content::Filesystem));
        is("tank/larder/custom/default_v1@snapshot-s0", false, Some(Content::Filesystem));
        is("tank/larder/custom/default_b1", true, Some(Content::Block));
        is("tank/larder/custom/default_cd.iso", true, Some(Content::Iso));
        is("tank/larder/containers/c1", false, None);
    }

    #[test]
    fn a_list_shows_places_and_nothing_else() {
        let layout = super::super::layout::Layout::new("tank/larder".to_owned());
        let places: Vec<String> =
            layout.places(&rows(printed!("list-places.txt"))).iter().map(ToString::to_string).collect();
        assert_eq!(
            places,
            [
                "container volume c1",
                "container volume c2",
                "virtual-machine volume m1",
                "virtual-machine volume m1, snapshot s0",
                "image volume 0123abcd",
                "custom volume v1",
                "custom volume v1, snapshot s0",
                "custom volume v4",
                "custom volume v5",
                "custom volume b1",
                "custom volume cd",
                "staged custom volume v2",
                "trashed custom volume v1, snapshot s1",
                "kept custom volume v3 in project blue",
            ]
        );
    }

    #[test]
    fn snapshots_tell_their_clones() {
        let found = snapshots(printed!("list-snapshots.txt"));
        let clones: Vec<_> =
            found.iter().map(|row| (row.tag.split('.').next().unwrap(), row.clones.len())).collect();
        assert_eq!(clones, [("snapshot-s0", 0), ("trash", 0), ("copy-0123456789abcdef0123456789abcdef", 2)]);
        assert!(found.iter().all(|row| row.dataset == "tank/larder/custom/default_v1"));
    }

    #[test]
    fn values_are_numbers_words_or_absent() {
        let columns = "used,referenced,quota,refquota,volsize";
        let usage = values(columns, printed!("list-usage.txt"));
        let numbers: Vec<_> = columns.split(',').map(|name| usage.number(name).unwrap()).collect();
        assert_eq!(numbers, [52_453_376, 24_576, 0, 104_857_600, 0]);
        let columns = "volsize,volblocksize,larder:use_refquota,larder:reserve_space";
        let size = values(columns, printed!("list-size.txt"));
        assert!(size.is_on("larder:use_refquota") && !size.is_on("larder:reserve_space"));
        let disk = values(columns, printed!("list-size-of-a-disk.txt"));
        assert_eq!((disk.number("volsize").unwrap(), disk.number("volblocksize").unwrap()), (65536, 16384));
        assert_eq!(values("used", "much").number("used").unwrap_err().kind(), ErrorKind::Unexpected);
    }

    #[test]
    fn refusals_are_known_by_their_words() {
        let text = include_str!("../../../../fixtures/zfs/2.3.9/refusals.txt");
        let expected = [
            ("zfs list", Refusal::Missing),
            ("zpool list", Refusal::Missing),
            ("zfs rename tank/larder/custom/absent", Refusal::Missing),
            ("zfs rename tank/larder/custom/default_v1 tank/larder/custom", Refusal::Exists),
            ("zfs rename tank/larder/custom/default_v1 tank/larder/buckets", Refusal::MissingParent),
            ("zfs create tank/larder/custom/default_v1", Refusal::Exists),
            ("zfs create tank/absent/x", Refusal::MissingParent),
            ("zfs create -o recordsize", Refusal::BadValue),
            ("zfs create -V 65536 -b 3000", Refusal::BadValue),
            ("zfs create -V 10G", Refusal::NoSpace),
            ("zfs snapshot tank/larder/custom/default_v1", Refusal::Exists),
            ("zfs snapshot tank/larder/custom/absent", Refusal::Missing),
            ("zfs clone", Refusal::Missing),
            ("zfs destroy -r tank/larder/custom/default_v1", Refusal::HasClones),
            ("zfs destroy -r tank/larder/images", Refusal::HasClones),
            ("zfs destroy tank/larder/images/0123abcd@readonly", Refusal::HasClones),
            ("zfs destroy tank/larder/images/0123abcd@absent", Refusal::Missing),
            ("zfs destroy -d tank/larder/images", Refusal::Missing),
            ("zfs destroy -d tank/larder/custom", Refusal::Missing),
            ("zfs destroy -r tank/larder/custom/absent", Refusal::Missing),
            ("zfs set refquota=10G", Refusal::NoSpace),
            ("zfs set volsize", Refusal::BadValue),
            ("zfs rollback -r", Refusal::HasClones),
            ("zpool create -m none tank", Refusal::Exists),
            ("zpool create -m none other /tmp/z.img", Refusal::BadValue),
            ("zpool create -m none other /tmp/x", Refusal::BadValue),
            ("zpool import", Refusal::Missing),
            ("zfs create tank/larder/custom/V", Refusal::BadValue),
            ("zfs destroy tank/larder/custom/default_v2@snapshot-s0", Refusal::Busy),
            ("zfs set refquota=10485760", Refusal::TooSmall),
            ("zfs rename tank/a", Refusal::Zoned),
        ];
        for (command, wanted) in expected {
            let mut parts = text.split("$ ").filter(|part| part.starts_with(command));
            let printed = parts.next().and_then(|part| part.split_once('\n')).map(|(_, said)| said);
            assert_eq!(printed.and_then(refusal), Some(wanted), "{command}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "[-a-z0-9@/,.\t\n]{0,80}") {
            let _ = rows(&text);
            let _ = snapshots(&text);
            let _ = values("used,volsize", &text).number("used");
            let _ = refusal(&text);
        }
    }
}
