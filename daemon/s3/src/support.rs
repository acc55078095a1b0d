//! Small translations between the engine's values and the protocol's.

use crate::directory::DirectoryError;
use jiff::Timestamp;
use larder_storage_buckets::BucketError;
use s3s::dto::{ETag, ETagCondition, Timestamp as TimestampDto, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use std::time::SystemTime;

/// Runs blocking work where it may block.
pub(crate) async fn blocking<T, W>(work: W) -> S3Result<T>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, BucketError> + Send + 'static,
{
    match crate::blocking::blocking(work).await {
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

/// A time of the protocol's types.
pub(crate) fn from_time(time: &TimestampDto) -> Timestamp {
    let mut text = Vec::new();
    let formatted = time.format(TimestampFormat::DateTime, &mut text);
    let text = formatted.ok().and_then(|()| String::from_utf8(text).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
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
