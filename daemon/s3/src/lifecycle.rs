//! Lifecycles: what a bucket's rules delete when it is old enough.

use crate::Face;
use crate::directory::FoundBucket;
use crate::settings::Settings;
use crate::support::{from_time, is_midnight, unavailable};
use jiff::{SignedDuration, Timestamp};
use larder_storage_buckets::{Bucket, BucketError, Delete, Entry, Listed, Precondition, Query, Version};
use s3s::dto::{BucketLifecycleConfiguration, LifecycleRule, LifecycleRuleFilter, Tag};
use s3s::{S3Result, s3_error};
use std::collections::BTreeSet;
use std::sync::Arc;

const MAX_RULES: usize = 1000;
const MAX_ID: usize = 255;

/// Refuses rules that S3 doesn't allow, or that would ask for what isn't supported. Gives rules without an id one.
pub(crate) fn check(lifecycle: &mut BucketLifecycleConfiguration) -> S3Result<()> {
    if lifecycle.rules.is_empty() || lifecycle.rules.len() > MAX_RULES {
        return Err(s3_error!(MalformedXML, "1 to {MAX_RULES} rules"));
    }
    let mut ids = BTreeSet::new();
    for rule in &mut lifecycle.rules {
        let id = rule.id.get_or_insert_with(|| uuid::Uuid::new_v4().simple().to_string());
        if id.len() > MAX_ID {
            return Err(s3_error!(InvalidArgument, "ID length should not exceed allowed limit of {MAX_ID}"));
        }
        if !ids.insert(id.clone()) {
            return Err(s3_error!(
                InvalidArgument,
                "Rule ID must be unique. Found same ID for more than one rule"
            ));
        }
        check_rule(rule)?;
    }
    Ok(())
}

fn check_rule(rule: &LifecycleRule) -> S3Result<()> {
    if !matches!(rule.status.as_str(), "Enabled" | "Disabled") {
        return Err(s3_error!(MalformedXML, "a rule's status is Enabled or Disabled"));
    }
    let has_transitions = rule.transitions.as_ref().is_some_and(|list| !list.is_empty())
        || rule.noncurrent_version_transitions.as_ref().is_some_and(|list| !list.is_empty());
    if has_transitions {
        return Err(s3_error!(NotImplemented, "there is one storage class: transitions are not supported"));
    }
    let days = |days: Option<i32>| match days {
        Some(days) if days <= 0 => {
            Err(s3_error!(InvalidArgument, "a number of days must be a positive integer"))
        }
        _ => Ok(()),
    };
    if let Some(expiration) = &rule.expiration {
        days(expiration.days)?;
        let kinds = [
            expiration.days.is_some(),
            expiration.date.is_some(),
            expiration.expired_object_delete_marker.is_some(),
        ];
        if kinds.iter().filter(|kind| **kind).count() != 1 {
            return Err(s3_error!(
                MalformedXML,
                "an expiration has days, a date, or ExpiredObjectDeleteMarker"
            ));
        }
        if let Some(date) = &expiration.date
            && !is_midnight(date)
        {
            return Err(s3_error!(InvalidArgument, "'Date' must be at midnight GMT"));
        }
    }
    if let Some(noncurrent) = &rule.noncurrent_version_expiration {
        days(noncurrent.noncurrent_days)?;
    }
    if let Some(abort) = &rule.abort_incomplete_multipart_upload {
        days(abort.days_after_initiation)?;
    }
    check_filter(rule)
}

/// Refuses a filter that asks for what uploads or delete markers have not.
fn check_filter(rule: &LifecycleRule) -> S3Result<()> {
    let filter = Filter::of(rule);
    let has_tags = !filter.tags.is_empty();
    let has_sizes = filter.greater_than.is_some() || filter.less_than.is_some();
    if rule.abort_incomplete_multipart_upload.is_some() && (has_tags || has_sizes) {
        let what = if has_tags { "Tags" } else { "Object Size" };
        return Err(s3_error!(
            InvalidRequest,
            "AbortIncompleteMultipartUpload cannot be specified with {what}."
        ));
    }
    let is_for_markers =
        rule.expiration.as_ref().is_some_and(|expiration| expiration.expired_object_delete_marker.is_some());
    if is_for_markers && has_tags {
        return Err(s3_error!(InvalidRequest, "ExpiredObjectDeleteMarker cannot be specified with Tags."));
    }
    Ok(())
}

/// What a rule applies to.
struct Filter<'r> {
    prefix: &'r str,
    tags: Vec<&'r Tag>,
    greater_than: Option<i64>,
    less_than: Option<i64>,
}

impl<'r> Filter<'r> {
    fn of(rule: &'r LifecycleRule) -> Self {
        let filter: Option<&LifecycleRuleFilter> = rule.filter.as_ref();
        let and = filter.and_then(|filter| filter.and.as_ref());
        let prefix = rule
            .prefix
            .as_deref()
            .or_else(|| filter.and_then(|filter| filter.prefix.as_deref()))
            .or_else(|| and.and_then(|and| and.prefix.as_deref()));
        let tags = filter.and_then(|filter| filter.tag.as_ref()).into_iter();
        let more = and.and_then(|and| and.tags.as_ref()).into_iter().flatten();
        Self {
            prefix: prefix.unwrap_or_default(),
            tags: tags.chain(more).collect(),
            greater_than: filter
                .and_then(|filter| filter.object_size_greater_than)
                .or_else(|| and.and_then(|and| and.object_size_greater_than)),
            less_than: filter
                .and_then(|filter| filter.object_size_less_than)
                .or_else(|| and.and_then(|and| and.object_size_less_than)),
        }
    }

    fn fits_size(&self, size: u64) -> bool {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        self.greater_than.is_none_or(|least| size > least) && self.less_than.is_none_or(|most| size < most)
    }

    fn fits_tags(&self, tags: &[(String, String)]) -> bool {
        self.tags.iter().all(|wanted| {
            let name = wanted.key.as_deref().unwrap_or_default();
            let value = wanted.value.as_deref().unwrap_or_default();
            tags.iter().any(|(known, of)| known == name && of == value)
        })
    }
}

fn is_enabled(rule: &LifecycleRule) -> bool {
    rule.status.as_str() == "Enabled"
}

/// When something that began at `start` is so many days old. Real days end at the next midnight; shortened ones don't.
fn due(start: Timestamp, days: i32, day: SignedDuration) -> Timestamp {
    let end = start.saturating_add(day * days).unwrap_or(Timestamp::MAX);
    if day < SignedDuration::from_hours(24) {
        return end;
    }
    let into_day = end.as_second().rem_euclid(86_400);
    let to_midnight = if into_day == 0 { 0 } else { 86_400 - into_day };
    end.saturating_add(SignedDuration::from_secs(to_midnight)).unwrap_or(Timestamp::MAX)
}

/// What replies say of when an object goes, in real days.
pub(crate) fn expiration_header(settings: &Settings, version: &Version) -> Option<String> {
    let lifecycle = settings.lifecycle.as_ref()?;
    let candidates = lifecycle.rules.iter().filter(|rule| is_enabled(rule)).filter_map(|rule| {
        let filter = Filter::of(rule);
        let fits = version.key.starts_with(filter.prefix)
            && filter.fits_size(version.size)
            && filter.fits_tags(&version.record.tags);
        let expiration = rule.expiration.as_ref().filter(|_| fits)?;
        let when = match (expiration.days, &expiration.date) {
            (Some(days), _) => due(version.modified, days, SignedDuration::from_hours(24)),
            (None, Some(date)) => from_time(date),
            (None, None) => return None,
        };
        Some((when, rule.id.clone().unwrap_or_default()))
    });
    let (when, id) = candidates.min_by_key(|(when, _)| *when)?;
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&when).ok()?;
    Some(format!("expiry-date=\"{date}\", rule-id=\"{}\"", urlencoding::encode(&id)))
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    /// Objects and versions that were deleted, delete markers included.
    pub versions: u64,
    /// Uploads that were given up.
    pub uploads: u64,
}

/// Does what the lifecycles of all buckets ask for now. To be called now and then: once an hour, or, with shortened days,
/// more often.
pub async fn run(face: &Face) -> S3Result<Expired> {
    let mut expired = Expired::default();
    for name in face.directory.all_buckets().await.map_err(unavailable)? {
        // One after the other: whoever wants to close a bucket waits until nobody has it.
        let found = match face.directory.bucket(&name).await {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(bucket = name, %error, "a bucket's lifecycle has to wait");
                continue;
            }
        };
        let (cache, day) = (Arc::clone(&face.settings), face.options.day);
        let work = move || {
            let settings = cache.of_blocking(&found.name, &found.bucket)?;
            run_bucket(&found, &settings, day)
        };
        let done = crate::blocking::in_turn(work).await.map_err(|error| s3_error!(error, InternalError))?;
        match done {
            Ok(done) => {
                expired.versions += done.versions;
                expired.uploads += done.uploads;
            }
            // The others' lifecycles go on.
            Err(error) => tracing::error!(bucket = name, %error, "a bucket's lifecycle is not followed"),
        }
    }
    Ok(expired)
}

fn run_bucket(found: &FoundBucket, settings: &Settings, day: SignedDuration) -> Result<Expired, BucketError> {
    let mut expired = Expired::default();
    let rules = settings.lifecycle.iter().flat_map(|lifecycle| &lifecycle.rules);
    for rule in rules.filter(|rule| is_enabled(rule)) {
        let run = Run { bucket: &found.bucket, owner: &found.owner.id, filter: Filter::of(rule), rule, day };
        expired.versions += run.versions()?;
        expired.uploads += run.uploads()?;
    }
    Ok(expired)
}

struct Run<'r> {
    bucket: &'r Bucket,
    owner: &'r str,
    filter: Filter<'r>,
    rule: &'r LifecycleRule,
    day: SignedDuration,
}

/// A version in its key's order: what is before it, the newer one, decides since when it isn't current.
struct Seen {
    key: String,
    newer: Timestamp,
    noncurrent: i32,
}

impl Run<'_> {
    fn versions(&self) -> Result<u64, BucketError> {
        if self.rule.expiration.is_none() && self.rule.noncurrent_version_expiration.is_none() {
            return Ok(0);
        }
        let mut query = Query { prefix: self.filter.prefix.to_owned(), limit: 1000, ..Query::default() };
        let (mut count, mut seen) = (0, None);
        loop {
            let page = self.bucket.list_versions(&query)?;
            let items: Vec<&Listed> = page
                .entries
                .iter()
                .filter_map(|entry| match entry {
                    Entry::Item(item) => Some(item),
                    Entry::Prefix(_) => None,
                })
                .collect();
            // The last of a page is looked at with the next one, which says whether it is the last of its key.
            let whole = if page.is_truncated { items.len().saturating_sub(1).max(1) } else { items.len() };
            for (index, item) in items.iter().take(whole).enumerate() {
                let is_alone = items.get(index + 1).is_none_or(|next| next.key != item.key)
                    && (index + 1 < items.len() || !page.is_truncated);
                count += u64::from(self.version(item, is_alone, &mut seen)?);
                query.after = Some(item.key.clone());
                query.after_id = Some(item.id.clone());
            }
            if !page.is_truncated {
                return Ok(count);
            }
        }
    }

    fn version(&self, item: &Listed, is_last: bool, seen: &mut Option<Seen>) -> Result<bool, BucketError> {
        let earlier = seen.take().filter(|seen| seen.key == item.key);
        let since = earlier.as_ref().map(|seen| seen.newer);
        let noncurrent = earlier.map_or(0, |seen| seen.noncurrent + 1);
        *seen = Some(Seen { key: item.key.clone(), newer: item.modified, noncurrent });
        let delete = match since {
            None if item.is_marker => is_last && self.expires_marker(item),
            None => self.expires(item)?,
            Some(since) => self.expires_noncurrent(item, since, noncurrent)?,
        };
        if !delete {
            return Ok(false);
        }
        // What is current is deleted as a user deletes it. All of it if it still is what was looked at.
        let is_current = since.is_none() && !item.is_marker;
        let precondition = Precondition {
            sequence: Some(item.sequence()),
            is_noncurrent: since.is_some(),
            ..Precondition::default()
        };
        let delete = Delete {
            key: item.key.clone(),
            version: (!is_current).then(|| item.id.clone()),
            may_bypass: false,
            precondition,
            owner: self.owner.to_owned(),
        };
        match self.bucket.delete(delete) {
            Ok(_) => Ok(true),
            Err(BucketError::PreconditionFailed(_) | BucketError::NoSuchKey | BucketError::Locked(_)) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn is_due(&self, start: Timestamp, days: Option<i32>) -> bool {
        days.is_some_and(|days| due(start, days, self.day) <= self.bucket.now())
    }

    fn expires(&self, item: &Listed) -> Result<bool, BucketError> {
        let Some(expiration) = &self.rule.expiration else { return Ok(false) };
        let by_date = expiration.date.as_ref().is_some_and(|date| from_time(date) <= self.bucket.now());
        Ok((by_date || self.is_due(item.modified, expiration.days)) && self.fits(item)?)
    }

    /// A delete marker that hides nothing any more.
    fn expires_marker(&self, item: &Listed) -> bool {
        let Some(expiration) = &self.rule.expiration else { return false };
        self.filter.tags.is_empty()
            && (expiration.expired_object_delete_marker == Some(true)
                || self.is_due(item.modified, expiration.days))
    }

    fn expires_noncurrent(
        &self,
        item: &Listed,
        since: Timestamp,
        noncurrent: i32,
    ) -> Result<bool, BucketError> {
        let Some(rule) = &self.rule.noncurrent_version_expiration else { return Ok(false) };
        let kept = rule.newer_noncurrent_versions.unwrap_or(0);
        Ok(self.is_due(since, rule.noncurrent_days)
            && noncurrent > kept
            && (item.is_marker || self.fits(item)?))
    }

    fn fits(&self, item: &Listed) -> Result<bool, BucketError> {
        if !self.filter.fits_size(item.size) {
            return Ok(false);
        }
        if self.filter.tags.is_empty() {
            return Ok(true);
        }
        match self.bucket.find(&item.key, Some(&item.id).filter(|id| !id.is_empty()).map(String::as_str)) {
            Ok(version) => Ok(self.filter.fits_tags(&version.record.tags)),
            Err(BucketError::NoSuchKey | BucketError::NoSuchVersion) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn uploads(&self) -> Result<u64, BucketError> {
        let abort = self.rule.abort_incomplete_multipart_upload.as_ref();
        let Some(days) = abort.and_then(|abort| abort.days_after_initiation) else { return Ok(0) };
        // An upload has no tags and no size yet.
        if check_filter(self.rule).is_err() {
            return Ok(0);
        }
        let mut count = 0;
        for upload in self.bucket.uploads_before(self.bucket.now())? {
            if upload.key.starts_with(self.filter.prefix) && self.is_due(upload.created, Some(days)) {
                match self.bucket.abort_upload(&upload.key, &upload.id) {
                    Ok(()) => count += 1,
                    Err(BucketError::NoSuchUpload) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(count)
    }
}
