//! What is known of an object's version, apart from its bytes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version id of what was written while the bucket was not versioned.
pub const NULL_VERSION: &str = "null";

/// Where the bytes of a blob lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Home {
    /// In a file of its own.
    File,
    /// In the store of small objects.
    Small,
}

/// A run of bytes of an object: the whole object, or what one part of a multipart upload brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The number the client gave the part; 1 for an object that was put in one piece.
    pub number: u32,
    /// The blob's id: 32 hexadecimal digits, never used twice.
    pub id: String,
    /// Where it lies.
    pub home: Home,
    /// How many bytes it has.
    pub size: u64,
    /// MD5 of the stored bytes, in hexadecimal.
    pub md5: String,
    /// The checksum the client asked for, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

/// The blob that carries a version's header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carrier {
    /// The blob's id.
    pub id: String,
    /// Where it lies.
    pub home: Home,
}

/// A checksum over an object, by the algorithm the client chose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// The algorithm as S3 spells it, for instance `CRC32`.
    pub algorithm: String,
    /// `FULL_OBJECT` or `COMPOSITE`.
    pub kind: String,
    /// The value in base64; a composite one ends with `-` and the number of parts.
    pub value: String,
}

/// How strictly a retention holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RetentionMode {
    /// Who has the right may delete nevertheless.
    Governance,
    /// Nobody may.
    Compliance,
}

/// Until when a version can't be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// How strictly.
    pub mode: RetentionMode,
    /// Until when.
    pub until: Timestamp,
}

/// Everything that is stored of a version beside key, size, ETag and time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Canonical id of the owner.
    pub owner: String,
    /// Headers that are sent back with the object: `content-type`, `cache-control` and their like.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The user's metadata, names without their prefix.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Tags in the order they were given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<(String, String)>,
    /// The access control list as its caller spells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acl: Option<String>,
    /// Until when the version is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Whether a legal hold keeps the version; `None` when none was ever set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legal_hold: Option<bool>,
    /// The checksum over the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// How the bytes are encrypted, as the caller spells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    /// The storage class the client asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// Whether it came by a multipart upload.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_multipart: bool,
    /// What carries the header: the object's only blob, or a manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Carrier>,
    /// The bytes, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// A version of an object, or a delete marker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The object's key.
    pub key: String,
    /// Orders the versions of the bucket: larger is newer.
    pub sequence: i64,
    /// The version id, [`NULL_VERSION`] for what was not versioned.
    pub id: String,
    /// Whether this is a delete marker.
    pub is_marker: bool,
    /// Whether it is the newest of its key. Not stored in headers.
    #[serde(skip)]
    pub is_latest: bool,
    /// Bytes of the object.
    pub size: u64,
    /// ETag without quotes.
    pub etag: String,
    /// When it was written, to the millisecond.
    pub modified: Timestamp,
    /// The rest.
    pub record: Record,
}

impl Version {
    /// Why the version must not be deleted at `now`, if so. `may_bypass` lifts a governance retention.
    pub fn lock(&self, now: Timestamp, may_bypass: bool) -> Option<&'static str> {
        if self.record.legal_hold == Some(true) {
            return Some("a legal hold is on");
        }
        match self.record.retention {
            Some(Retention { until, .. }) if until <= now => None,
            Some(Retention { mode: RetentionMode::Compliance, .. }) => Some("it is retained for compliance"),
            Some(Retention { mode: RetentionMode::Governance, .. }) if !may_bypass => {
                Some("it is retained for governance")
            }
            _ => None,
        }
    }

    /// Fails when the version must not be deleted at `now`.
    pub(crate) fn must_be_unlocked(&self, now: Timestamp, may_bypass: bool) -> crate::Result<()> {
        self.lock(now, may_bypass).map_or(Ok(()), |reason| Err(crate::BucketError::Locked(reason)))
    }

    /// All blobs of the version.
    pub(crate) fn blobs(&self) -> Vec<(String, Home)> {
        let parts = self.record.parts.iter().map(|part| (part.id.clone(), part.home));
        let carrier = self.record.carrier.iter().map(|carrier| (carrier.id.clone(), carrier.home));
        let mut blobs: Vec<_> = parts.chain(carrier).collect();
        blobs.sort_by(|one, other| one.0.cmp(&other.0));
        blobs.dedup_by(|one, other| one.0 == other.0);
        blobs
    }
}

/// What an `If-Match` or `If-None-Match` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EtagMatch {
    /// `*`: anything.
    Any,
    /// One of these, without quotes.
    Tags(Vec<String>),
}

impl EtagMatch {
    /// Whether it names this ETag.
    pub fn names(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|tag| tag == etag),
        }
    }
}

/// What must hold of the current object for a change to happen; checked inside the transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Precondition {
    /// The object exists and this names its ETag.
    pub matches: Option<EtagMatch>,
    /// The object doesn't exist, or this doesn't name its ETag.
    pub none_matches: Option<EtagMatch>,
    /// The object was modified at this second.
    pub modified_second: Option<i64>,
    /// The object has this size.
    pub size: Option<u64>,
    /// The newest version, delete markers included, has this sequence.
    pub sequence: Option<i64>,
    /// Of a version that is named: a newer one is there, be it a delete marker.
    pub is_noncurrent: bool,
}

impl Precondition {
    /// Fails unless everything holds of the newest version of the key.
    pub(crate) fn check(&self, latest: Option<&Version>) -> crate::Result<()> {
        use crate::BucketError::{NoSuchKey, PreconditionFailed};
        let object = latest.filter(|version| !version.is_marker);
        if let Some(matches) = &self.matches {
            let object = object.ok_or(NoSuchKey)?;
            matches.names(&object.etag).then_some(()).ok_or(PreconditionFailed("If-Match"))?;
        }
        if let (Some(none), Some(object)) = (&self.none_matches, object)
            && none.names(&object.etag)
        {
            return Err(PreconditionFailed("If-None-Match"));
        }
        if let Some(second) = self.modified_second {
            let object = object.ok_or(NoSuchKey)?;
            (object.modified.as_second() == second)
                .then_some(())
                .ok_or(PreconditionFailed("the modified time"))?;
        }
        if let Some(size) = self.size {
            let object = object.ok_or(NoSuchKey)?;
            (object.size == size).then_some(()).ok_or(PreconditionFailed("the size"))?;
        }
        match self.sequence {
            Some(sequence) if latest.is_none_or(|latest| latest.sequence != sequence) => {
                Err(PreconditionFailed("it is not the newest version any more"))
            }
            _ => Ok(()),
        }
    }
}

impl Precondition {
    /// Fails unless everything holds of what is about to be deleted, delete markers included. What isn't there may always
    /// be deleted.
    pub(crate) fn check_to_delete(&self, found: Option<&Version>) -> crate::Result<()> {
        use crate::BucketError::PreconditionFailed;
        let Some(found) = found else {
            let must_be = self.sequence.is_some();
            return if must_be { Err(PreconditionFailed("it is gone")) } else { Ok(()) };
        };
        let checks = [
            (self.matches.as_ref().is_none_or(|matches| matches.names(&found.etag)), "If-Match"),
            (
                self.modified_second.is_none_or(|second| found.modified.as_second() == second),
                "the modified time",
            ),
            (self.size.is_none_or(|size| found.size == size && !found.is_marker), "the size"),
            (
                self.sequence.is_none_or(|sequence| found.sequence == sequence),
                "it is not the newest version any more",
            ),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(PreconditionFailed(what)),
            None => Ok(()),
        }
    }
}

/// Whether a bucket keeps old versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Versioning {
    /// Never switched on.
    #[default]
    Off,
    /// Every write makes a version.
    Enabled,
    /// Writes replace the null version; older versions stay.
    Suspended,
}

impl Versioning {
    /// As the settings spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "Off",
            Self::Enabled => "Enabled",
            Self::Suspended => "Suspended",
        }
    }

    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "Enabled" => Self::Enabled,
            "Suspended" => Self::Suspended,
            _ => Self::Off,
        }
    }
}
