//! Conditions on what a request reads.

use crate::support::{from_time, names};
use larder_storage_buckets::Version;
use s3s::dto::{ETagCondition, Timestamp};
use s3s::{S3Error, s3_error};

/// What a request says of the version it wants to read. An ETag counts more than a time.
pub(crate) struct Conditions<'a> {
    pub(crate) matches: Option<&'a ETagCondition>,
    pub(crate) none_matches: Option<&'a ETagCondition>,
    pub(crate) modified_since: Option<&'a Timestamp>,
    pub(crate) unmodified_since: Option<&'a Timestamp>,
}

impl Conditions<'_> {
    /// Whether the version is another than the client counts on.
    pub(crate) fn is_another(&self, version: &Version) -> bool {
        match (self.matches, self.unmodified_since) {
            (Some(condition), _) => !names(condition, &version.etag),
            (None, Some(time)) => is_after(version, time),
            (None, None) => false,
        }
    }

    /// Whether the version is the one that the client has already.
    pub(crate) fn is_known(&self, version: &Version) -> bool {
        match (self.none_matches, self.modified_since) {
            (Some(condition), _) => names(condition, &version.etag),
            (None, Some(time)) => !is_after(version, time),
            (None, None) => false,
        }
    }
}

fn is_after(version: &Version, time: &Timestamp) -> bool {
    version.modified.as_second() > from_time(time).as_second()
}

/// What a request is told whose conditions don't hold.
pub(crate) fn failed() -> S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}
