//! What a request says of an object, and what a reply shows of it.

use crate::acl::{Acl, Asked};
use crate::checksum::Algorithm;
use crate::gate::Gate;
use crate::support::{from_time, time};
use http::{HeaderName, HeaderValue};
use jiff::{Span, Timestamp, Zoned};
use larder_storage_buckets::{NULL_VERSION, Record, Retention, RetentionMode, Version, Versioning};
use s3s::dto::{
    Expires, Metadata, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode, Tag, TagSet, Timestamp as TimestampDto, TimestampFormat,
};
use s3s::{S3Result, s3_error};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// What is kept of an object's other headers, all together (bytes).
const MAX_STORED_HEADERS: usize = 8 << 10;
/// The storage classes of AWS.
const STORAGE_CLASSES: &[&str] = &[
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "GLACIER_IR",
    "DEEP_ARCHIVE",
    "OUTPOSTS",
    "SNOW",
    "EXPRESS_ONEZONE",
];
/// All of a user's metadata, names and values together.
const MAX_METADATA: usize = 2048;

/// The fields that put, copy, post and multipart uploads share.
#[derive(Debug, Default)]
pub(crate) struct Described {
    pub(crate) cache_control: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_language: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) expires: Option<Expires>,
    pub(crate) website: Option<String>,
    pub(crate) metadata: Option<Metadata>,
    pub(crate) storage_class: Option<String>,
    pub(crate) tagging: Option<String>,
    pub(crate) legal_hold: Option<ObjectLockLegalHoldStatus>,
    pub(crate) lock_mode: Option<ObjectLockMode>,
    pub(crate) lock_until: Option<TimestampDto>,
}

/// Takes the shared fields of an input.
macro_rules! described {
    ($input:expr) => {
        $crate::describe::Described {
            cache_control: $input.cache_control.take(),
            content_disposition: $input.content_disposition.take(),
            content_encoding: $input.content_encoding.take(),
            content_language: $input.content_language.take(),
            content_type: $input.content_type.take(),
            expires: $input.expires.take(),
            website: $input.website_redirect_location.take(),
            metadata: $input.metadata.take(),
            storage_class: $input.storage_class.take().map(|class| class.as_str().to_owned()),
            tagging: $input.tagging.take(),
            legal_hold: $input.object_lock_legal_hold_status.take(),
            lock_mode: $input.object_lock_mode.take(),
            lock_until: $input.object_lock_retain_until_date.take(),
        }
    };
}

/// What an input says of grants; with `$headers` where the protocol layer doesn't know the grant of writing.
macro_rules! asked {
    ($input:expr) => {
        asked!(@ $input, $input.grant_write.as_deref())
    };
    ($input:expr, $headers:expr) => {
        asked!(@ $input, $headers.get("x-amz-grant-write").and_then(|value| value.to_str().ok()))
    };
    (@ $input:expr, $write:expr) => {
        $crate::acl::Asked {
            canned: $input.acl.as_ref().map(|acl| acl.as_str()),
            full_control: $input.grant_full_control.as_deref(),
            read: $input.grant_read.as_deref(),
            write: $write,
            read_acp: $input.grant_read_acp.as_deref(),
            write_acp: $input.grant_write_acp.as_deref(),
        }
    };
}

pub(crate) use {asked, described};

impl Described {
    fn headers(&self) -> BTreeMap<String, String> {
        let encoding = self.content_encoding.as_deref().map(|encoding| {
            let kept =
                encoding.split(',').map(str::trim).filter(|part| !part.is_empty() && *part != "aws-chunked");
            kept.collect::<Vec<_>>().join(", ")
        });
        let fields = [
            ("cache-control", self.cache_control.clone()),
            ("content-disposition", self.content_disposition.clone()),
            ("content-encoding", encoding.filter(|encoding| !encoding.is_empty())),
            ("content-language", self.content_language.clone()),
            ("content-type", self.content_type.clone().filter(|kind| !kind.is_empty())),
            ("expires", self.expires.as_ref().map(http_date)),
            ("website-redirect", self.website.clone()),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// The tags of the header.
    pub(crate) fn tags(&self) -> S3Result<Vec<(String, String)>> {
        let Some(text) = &self.tagging else { return Ok(Vec::new()) };
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            urlencoding::decode(&text).map(Cow::into_owned).map_err(|error| s3_error!(error, InvalidArgument))
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let tags = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        check_tags(tags.collect::<S3Result<_>>()?, 10)
    }

    /// Comes to what is stored. Checks that the caller may set what it sets.
    pub(crate) async fn record(
        self,
        gate: &mut Gate,
        face: &crate::Face,
        key: &str,
        asked: &Asked<'_>,
    ) -> S3Result<Record> {
        let tags = self.tags()?;
        gate.tell_tags(&tags);
        gate.key_action("s3:PutObject", key)?;
        if !tags.is_empty() {
            gate.key_action("s3:PutObjectTagging", key)?;
        }
        let writer = gate.writer();
        if asked.is_something() {
            check_ownership(gate, asked)?;
        }
        let acl = Acl::asked(asked, &writer, &gate.found.owner, face.directory.as_ref()).await?;
        gate.check_acl(&acl)?;
        let (retention, legal_hold) = self.lock(gate, key)?;
        let metadata: BTreeMap<String, String> =
            self.metadata.clone().unwrap_or_default().into_iter().collect();
        if metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_METADATA {
            return Err(s3_error!(
                MetadataTooLarge,
                "Your metadata headers exceed the maximum allowed metadata size"
            ));
        }
        check_storage_class(self.storage_class.as_deref())?;
        let headers = self.headers();
        for (name, value) in &headers {
            check_header(name, value)?;
        }
        if headers.values().map(String::len).sum::<usize>() > MAX_STORED_HEADERS {
            return Err(s3_error!(
                MetadataTooLarge,
                "The headers that are kept with an object have at most {MAX_STORED_HEADERS} bytes"
            ));
        }
        for (name, value) in &metadata {
            check_header(&format!("x-amz-meta-{name}"), value)?;
        }
        let owner = owner_of(gate, asked, writer.id);
        let acl = if owner == gate.found.owner.id && owner != acl.owner {
            Acl::private(&gate.found.owner)
        } else {
            acl
        };
        Ok(Record {
            owner,
            headers,
            metadata,
            tags,
            acl: acl.stored(&gate.found.owner),
            retention,
            legal_hold,
            storage_class: self.storage_class.filter(|class| class != "STANDARD"),
            ..Record::default()
        })
    }

    fn lock(&self, gate: &Gate, key: &str) -> S3Result<(Option<Retention>, Option<bool>)> {
        let is_asked = self.legal_hold.is_some() || self.lock_mode.is_some() || self.lock_until.is_some();
        if is_asked && !gate.settings.has_object_lock() {
            return Err(s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration"));
        }
        let hold = self.legal_hold.as_ref().map(legal_hold).transpose()?;
        if hold.is_some() {
            gate.key_action("s3:PutObjectLegalHold", key)?;
        }
        let retention = match (&self.lock_mode, &self.lock_until) {
            (Some(mode), Some(until)) => {
                gate.key_action("s3:PutObjectRetention", key)?;
                Some(retention(mode.as_str(), from_time(until), gate.found.bucket.now())?)
            }
            (None, None) => default_retention(gate),
            _ => {
                return Err(s3_error!(
                    InvalidRequest,
                    "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied"
                ));
            }
        };
        Ok((retention, hold))
    }
}

/// Refuses a storage class that AWS does not have. All are kept alike, and told as they were given.
fn check_storage_class(class: Option<&str>) -> S3Result<()> {
    match class.is_none_or(|class| STORAGE_CLASSES.contains(&class)) {
        true => Ok(()),
        false => Err(s3_error!(InvalidStorageClass, "The storage class you specified is not valid")),
    }
}

/// A form says in its fields what requests say in headers, and so may say what no header can: it could never be read again.
fn check_header(name: &str, value: &str) -> S3Result<()> {
    match HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_bytes(value.as_bytes()).is_ok()
    {
        true => Ok(()),
        false => Err(s3_error!(InvalidArgument, "{name:?} with the value {value:?} can't be a header")),
    }
}

/// Access control lists that are off can only be repeated.
pub(crate) fn check_ownership(gate: &Gate, asked: &Asked<'_>) -> S3Result<()> {
    let is_harmless = asked.canned == Some("bucket-owner-full-control");
    match gate.settings.acls_are_off() && asked.is_something() && !is_harmless {
        true => Err(s3_error!(AccessControlListNotSupported, "The bucket does not allow ACLs")),
        false => Ok(()),
    }
}

/// Refuses a document with a list where lists are off.
pub(crate) fn check_lists(gate: &Gate) -> S3Result<()> {
    match gate.settings.acls_are_off() {
        true => Err(s3_error!(AccessControlListNotSupported, "The bucket does not allow ACLs")),
        false => Ok(()),
    }
}

fn owner_of(gate: &Gate, asked: &Asked<'_>, writer: String) -> String {
    match gate.settings.ownership() {
        "BucketOwnerEnforced" => gate.found.owner.id.clone(),
        "BucketOwnerPreferred" if asked.canned == Some("bucket-owner-full-control") => {
            gate.found.owner.id.clone()
        }
        _ => writer,
    }
}

/// A date as HTTP headers have it.
fn http_date(date: &TimestampDto) -> String {
    let mut text = Vec::new();
    let formatted = date.format(TimestampFormat::HttpDate, &mut text);
    formatted.ok().and_then(|()| String::from_utf8(text).ok()).unwrap_or_default()
}

pub(crate) fn legal_hold(status: &ObjectLockLegalHoldStatus) -> S3Result<bool> {
    match status.as_str() {
        "ON" => Ok(true),
        "OFF" => Ok(false),
        _ => Err(s3_error!(MalformedXML, "a legal hold is ON or OFF")),
    }
}

/// A retention that a request asks for.
pub(crate) fn retention(mode: &str, until: Timestamp, now: Timestamp) -> S3Result<Retention> {
    let mode = match mode {
        "GOVERNANCE" => RetentionMode::Governance,
        "COMPLIANCE" => RetentionMode::Compliance,
        _ => return Err(s3_error!(MalformedXML, "a retention's mode is GOVERNANCE or COMPLIANCE")),
    };
    match until <= now {
        true => Err(s3_error!(InvalidArgument, "The retain until date must be in the future!")),
        false => Ok(Retention { mode, until }),
    }
}

/// The retention that the bucket gives to what doesn't ask for another.
pub(crate) fn default_retention(gate: &Gate) -> Option<Retention> {
    let rule = gate.settings.object_lock.as_ref()?.rule.as_ref()?.default_retention.as_ref()?;
    let mode = match rule.mode.as_ref()?.as_str() {
        "GOVERNANCE" => RetentionMode::Governance,
        _ => RetentionMode::Compliance,
    };
    let now = Zoned::new(gate.found.bucket.now(), jiff::tz::TimeZone::UTC);
    let span = match (rule.days, rule.years) {
        (Some(days), _) => Span::new().try_days(days),
        (None, Some(years)) => Span::new().try_years(years),
        (None, None) => return None,
    };
    // A period too long to be told never ends.
    let until = span.and_then(|span| now.checked_add(span)).map_or(Timestamp::MAX, |until| until.timestamp());
    Some(Retention { mode, until })
}

/// Refuses tags that S3 doesn't allow. They are kept in the order of their names.
pub(crate) fn check_tags(mut tags: Vec<(String, String)>, most: usize) -> S3Result<Vec<(String, String)>> {
    if tags.len() > most {
        return Err(s3_error!(InvalidTag, "Object tags cannot be greater than {most}"));
    }
    let names: BTreeSet<&str> = tags.iter().map(|(name, _)| name.as_str()).collect();
    if names.len() < tags.len() {
        return Err(s3_error!(InvalidTag, "Cannot provide multiple Tags with the same key"));
    }
    for (name, value) in &tags {
        if name.is_empty() || name.chars().count() > 128 {
            return Err(s3_error!(InvalidTag, "The TagKey you have provided is invalid"));
        }
        if value.chars().count() > 256 {
            return Err(s3_error!(InvalidTag, "The TagValue you have provided is invalid"));
        }
    }
    tags.sort();
    Ok(tags)
}

/// Tags as pairs.
pub(crate) fn from_tag_set(tags: TagSet, most: usize) -> S3Result<Vec<(String, String)>> {
    let pairs = tags.into_iter().map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()));
    check_tags(pairs.collect(), most)
}

/// Tags as the protocol shows them.
pub(crate) fn to_tag_set(tags: &[(String, String)]) -> TagSet {
    tags.iter().map(|(name, value)| Tag { key: Some(name.clone()), value: Some(value.clone()) }).collect()
}

pub(crate) fn mode_name(mode: RetentionMode) -> &'static str {
    match mode {
        RetentionMode::Governance => ObjectLockRetentionMode::GOVERNANCE,
        RetentionMode::Compliance => ObjectLockRetentionMode::COMPLIANCE,
    }
}

pub(crate) fn retention_dto(retention: Retention) -> ObjectLockRetention {
    ObjectLockRetention {
        mode: Some(ObjectLockRetentionMode::from_static(mode_name(retention.mode))),
        retain_until_date: Some(time(retention.until)),
    }
}

/// The version id that replies show: none where versioning was never on.
pub(crate) fn shown_version(gate: &Gate, version: &Version) -> Option<String> {
    (gate.found.bucket.versioning() != Versioning::Off).then(|| version.id.clone())
}

/// The version id that a write shows: none where it replaces what was there.
pub(crate) fn written_version(version: &Version) -> Option<String> {
    (version.id != NULL_VERSION).then(|| version.id.clone())
}

/// The algorithm of a stored checksum.
pub(crate) fn algorithm_of(record: &Record) -> Option<Algorithm> {
    record.checksum.as_ref().and_then(|checksum| Algorithm::parse(&checksum.algorithm).ok())
}

/// Shows what is stored in the output of get or head.
macro_rules! show_version {
    ($output:expr, $gate:expr, $version:expr) => {{
        let record = &$version.record;
        let header = |name: &str| record.headers.get(name).cloned();
        $output.accept_ranges = Some("bytes".to_owned());
        $output.cache_control = header("cache-control");
        $output.content_disposition = header("content-disposition");
        $output.content_encoding = header("content-encoding");
        $output.content_language = header("content-language");
        $output.content_type =
            Some(header("content-type").unwrap_or_else(|| "binary/octet-stream".to_owned()));
        $output.expires = header("expires")
            .and_then(|text| s3s::dto::Timestamp::parse(s3s::dto::TimestampFormat::HttpDate, &text).ok());
        $output.website_redirect_location = header("website-redirect");
        $output.e_tag = Some($crate::support::etag(&$version.etag));
        $output.last_modified = Some($crate::support::time($version.modified));
        $output.metadata = Some(record.metadata.clone().into_iter().collect());
        $output.storage_class = record.storage_class.clone().map(s3s::dto::StorageClass::from);
        $output.version_id = $crate::describe::shown_version($gate, $version);
        $output.object_lock_legal_hold_status = record
            .legal_hold
            .map(|hold| s3s::dto::ObjectLockLegalHoldStatus::from_static(if hold { "ON" } else { "OFF" }));
        if let Some(retention) = record.retention {
            let mode = $crate::describe::mode_name(retention.mode);
            $output.object_lock_mode = Some(s3s::dto::ObjectLockMode::from_static(mode));
            $output.object_lock_retain_until_date = Some($crate::support::time(retention.until));
        }
    }};
}

pub(crate) use show_version;
