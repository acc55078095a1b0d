//! Small translations between the engine's values and the protocol's.

use crate::directory::DirectoryError;
use jiff::Timestamp;
use larder_storage_buckets::BucketError;
use s3s::dto::{ETag, ETagCondition, Timestamp as TimestampDto};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use std::time::SystemTime;
use time::OffsetDateTime;

/// Runs blocking work where it may block.
pub(crate) async fn blocking<T, W>(work: W) -> S3Result<T>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, BucketError> + Send + 'static,
{
    match crate::blocking::in_turn(work).await {
        Ok(outcome) => outcome.map_err(from_bucket),
        Err(error) => Err(s3_error!(error, InternalError)),
    }
}

/// The protocol's error for the engine's.
#[expect(clippy::needless_pass_by_value, reason = "it is used by map_err")]
pub(crate) fn from_bucket(error: BucketError) -> S3Error {
    let code = match &error {
        BucketError::NoSuchKey => S3ErrorCode::NoSuchKey,
        BucketError::NoSuchVersion => S3ErrorCode::NoSuchVersion,
        BucketError::NoSuchUpload => S3ErrorCode::NoSuchUpload,
        BucketError::PreconditionFailed(_) => S3ErrorCode::PreconditionFailed,
        BucketError::InvalidPart { .. } => S3ErrorCode::InvalidPart,
        BucketError::InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
        BucketError::PartTooSmall { .. } => S3ErrorCode::EntityTooSmall,
        BucketError::Locked(_) | BucketError::Refused(_) => S3ErrorCode::AccessDenied,
        BucketError::KeyLength(_) => S3ErrorCode::KeyTooLongError,
        BucketError::QuotaExceeded { .. } => return quota_exceeded(&error),
        BucketError::NoSpace { .. } => return no_space(&error),
        BucketError::File { source, .. } if is_full(source) => return no_space(&error),
        _ => {
            tracing::error!(error = &error as &dyn std::error::Error, "a bucket failed");
            S3ErrorCode::InternalError
        }
    };
    S3Error::with_message(code, error.to_string())
}

/// An error that the protocol layer has no name for.
pub(crate) fn custom(code: &'static str, status: http::StatusCode, message: impl Into<String>) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message.into());
    error.set_status_code(status);
    error
}

fn quota_exceeded(error: &BucketError) -> S3Error {
    custom("QuotaExceeded", http::StatusCode::FORBIDDEN, error.to_string())
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

fn no_space(error: &BucketError) -> S3Error {
    custom("InsufficientStorage", http::StatusCode::INSUFFICIENT_STORAGE, error.to_string())
}

/// The protocol's error for the daemon's.
#[expect(clippy::needless_pass_by_value, reason = "it is used by map_err")]
pub(crate) fn unavailable(error: DirectoryError) -> S3Error {
    let code = match &error {
        DirectoryError::Taken => S3ErrorCode::BucketAlreadyExists,
        DirectoryError::Owned => S3ErrorCode::BucketAlreadyOwnedByYou,
        DirectoryError::NotEmpty => S3ErrorCode::BucketNotEmpty,
        DirectoryError::Missing => S3ErrorCode::NoSuchBucket,
        DirectoryError::TooMany => S3ErrorCode::TooManyBuckets,
        DirectoryError::Unavailable(_) => S3ErrorCode::ServiceUnavailable,
    };
    S3Error::with_message(code, error.to_string())
}

/// A time as the protocol's types have it.
pub(crate) fn time(time: Timestamp) -> TimestampDto {
    TimestampDto::from(SystemTime::from(time))
}

/// A time of the protocol's types. What is later than can be told is the latest that can be: it never comes.
pub(crate) fn from_time(time: &TimestampDto) -> Timestamp {
    let time = OffsetDateTime::from(time.clone());
    let nanoseconds = i32::try_from(time.nanosecond()).unwrap_or_default();
    let latest = if time.unix_timestamp() < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::new(time.unix_timestamp(), nanoseconds).unwrap_or(latest)
}

/// Whether a time of the protocol's types is midnight in Greenwich.
pub(crate) fn is_midnight(time: &TimestampDto) -> bool {
    let time = OffsetDateTime::from(time.clone());
    time.unix_timestamp() % 86_400 == 0 && time.nanosecond() == 0
}

pub(crate) fn etag(text: &str) -> ETag {
    ETag::Strong(text.to_owned())
}

/// Whether a condition names an ETag.
pub(crate) fn names(condition: &ETagCondition, tag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(named) => named.value().trim_matches('"') == tag,
    }
}

/// A size in the protocol's signed integers.
pub(crate) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use s3s::dto::TimestampFormat;

    #[test]
    fn a_time_is_the_same_in_every_zone_and_one_that_is_too_late_never_comes() {
        let read = |text| TimestampDto::parse(TimestampFormat::DateTime, text).unwrap();
        for (text, is, midnight) in [
            ("2030-01-01T00:00:00Z", "2030-01-01T00:00:00Z", true),
            ("2030-01-01T00:00:00-08:00", "2030-01-01T08:00:00Z", false),
            ("2030-01-01T00:00:00.5Z", "2030-01-01T00:00:00.5Z", false),
        ] {
            assert_eq!(from_time(&read(text)), is.parse::<Timestamp>().unwrap(), "{text}");
            assert_eq!(is_midnight(&read(text)), midnight, "{text}");
        }
        let never = read("9999-12-31T00:00:00Z");
        assert_eq!((from_time(&never), is_midnight(&never)), (Timestamp::MAX, true));
    }
}
