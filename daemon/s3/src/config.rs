//! The documents of a bucket: CORS, lifecycle, tags, object lock; and those that are never there.

use crate::Face;
use crate::describe::from_tag_set;
use crate::gate::Gate;
use crate::settings::{self, Settings, to_xml};
use crate::support::{blocking, custom};
use http::StatusCode;
use larder_storage_buckets::Versioning;
use s3s::dto::{
    DeleteBucketCorsInput, DeleteBucketCorsOutput, DeleteBucketLifecycleInput, DeleteBucketLifecycleOutput,
    DeleteBucketTaggingInput, DeleteBucketTaggingOutput, GetBucketCorsInput, GetBucketCorsOutput,
    GetBucketEncryptionInput, GetBucketEncryptionOutput, GetBucketLifecycleConfigurationInput,
    GetBucketLifecycleConfigurationOutput, GetBucketLoggingInput, GetBucketLoggingOutput,
    GetBucketNotificationConfigurationInput, GetBucketNotificationConfigurationOutput, GetBucketTaggingInput,
    GetBucketTaggingOutput, GetBucketWebsiteInput, GetBucketWebsiteOutput, GetObjectLockConfigurationInput,
    GetObjectLockConfigurationOutput, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode,
    PutBucketCorsInput, PutBucketCorsOutput, PutBucketLifecycleConfigurationInput,
    PutBucketLifecycleConfigurationOutput, PutBucketTaggingInput, PutBucketTaggingOutput,
    PutObjectLockConfigurationInput, PutObjectLockConfigurationOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error, xml};
use std::sync::Arc;

/// The largest CORS configuration (bytes): each request from another site is compared with it.
const MAX_CORS: usize = 64 << 10;
/// How long a default retention may be, as with AWS.
const LONGEST_RETENTION_DAYS: i32 = 36_500;
const LONGEST_RETENTION_YEARS: i32 = 100;

/// Stores a document, or removes it.
pub(crate) async fn store(
    face: &Face,
    gate: &Gate,
    name: &'static str,
    text: Option<String>,
) -> S3Result<()> {
    let (bucket, cache, of) = (gate.bucket(), Arc::clone(&face.settings), gate.name().to_owned());
    // Also when nobody waits for the end of it any more.
    blocking(move || {
        let outcome = bucket.set_setting(name, text.as_deref());
        cache.forget(&of);
        outcome
    })
    .await
}

pub(crate) async fn store_xml<T: xml::Serialize>(
    face: &Face,
    gate: &Gate,
    name: &'static str,
    document: &T,
) -> S3Result<()> {
    let text = to_xml(document).map_err(crate::support::from_bucket)?;
    store(face, gate, name, Some(text)).await
}

pub(crate) fn not_found(code: S3ErrorCode, message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(code, message);
    error.set_status_code(StatusCode::NOT_FOUND);
    error
}

/// Enters a bucket for one of its documents.
pub(crate) async fn enter<T>(
    face: &Face,
    request: &S3Request<T>,
    bucket: &str,
    action: &str,
) -> S3Result<(Gate, Arc<Settings>)> {
    let gate = Gate::enter(face, request, bucket).await?;
    gate.bucket_action(action, None)?;
    let settings = Arc::clone(&gate.settings);
    Ok((gate, settings))
}

pub(crate) async fn get_cors(
    face: &Face,
    request: S3Request<GetBucketCorsInput>,
) -> S3Result<S3Response<GetBucketCorsOutput>> {
    let (_, settings) = enter(face, &request, &request.input.bucket, "s3:GetBucketCORS").await?;
    let cors = settings.cors.clone();
    let cors = cors.ok_or_else(|| {
        not_found(S3ErrorCode::NoSuchCORSConfiguration, "The CORS configuration does not exist")
    })?;
    Ok(S3Response::new(GetBucketCorsOutput { cors_rules: Some(cors.cors_rules) }))
}

pub(crate) async fn put_cors(
    face: &Face,
    request: S3Request<PutBucketCorsInput>,
) -> S3Result<S3Response<PutBucketCorsOutput>> {
    let (gate, _) = enter(face, &request, &request.input.bucket, "s3:PutBucketCORS").await?;
    crate::cors::check(&request.input.cors_configuration)?;
    let text = to_xml(&request.input.cors_configuration).map_err(crate::support::from_bucket)?;
    if text.len() > MAX_CORS {
        return Err(s3_error!(InvalidRequest, "The CORS configuration has at most {MAX_CORS} bytes"));
    }
    store(face, &gate, settings::CORS, Some(text)).await?;
    Ok(S3Response::new(PutBucketCorsOutput::default()))
}

pub(crate) async fn delete_cors(
    face: &Face,
    request: S3Request<DeleteBucketCorsInput>,
) -> S3Result<S3Response<DeleteBucketCorsOutput>> {
    let (gate, _) = enter(face, &request, &request.input.bucket, "s3:PutBucketCORS").await?;
    store(face, &gate, settings::CORS, None).await?;
    Ok(S3Response::with_status(DeleteBucketCorsOutput::default(), StatusCode::NO_CONTENT))
}

pub(crate) async fn get_lifecycle(
    face: &Face,
    request: S3Request<GetBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
    let (_, settings) = enter(face, &request, &request.input.bucket, "s3:GetLifecycleConfiguration").await?;
    let lifecycle = settings.lifecycle.clone();
    let missing =
        || not_found(S3ErrorCode::NoSuchLifecycleConfiguration, "The lifecycle configuration does not exist");
    let rules = Some(lifecycle.ok_or_else(missing)?.rules);
    Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
        rules,
        ..GetBucketLifecycleConfigurationOutput::default()
    }))
}

pub(crate) async fn put_lifecycle(
    face: &Face,
    request: S3Request<PutBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
    let (gate, _) = enter(face, &request, &request.input.bucket, "s3:PutLifecycleConfiguration").await?;
    let given = request.input.lifecycle_configuration;
    let mut lifecycle =
        given.ok_or_else(|| s3_error!(MalformedXML, "a lifecycle configuration is missing"))?;
    crate::lifecycle::check(&mut lifecycle)?;
    store_xml(face, &gate, settings::LIFECYCLE, &lifecycle).await?;
    Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
}

pub(crate) async fn delete_lifecycle(
    face: &Face,
    request: S3Request<DeleteBucketLifecycleInput>,
) -> S3Result<S3Response<DeleteBucketLifecycleOutput>> {
    let (gate, _) = enter(face, &request, &request.input.bucket, "s3:PutLifecycleConfiguration").await?;
    store(face, &gate, settings::LIFECYCLE, None).await?;
    Ok(S3Response::with_status(DeleteBucketLifecycleOutput::default(), StatusCode::NO_CONTENT))
}

pub(crate) async fn get_tags(
    face: &Face,
    request: S3Request<GetBucketTaggingInput>,
) -> S3Result<S3Response<GetBucketTaggingOutput>> {
    let (_, settings) = enter(face, &request, &request.input.bucket, "s3:GetBucketTagging").await?;
    let tags = settings.tags.clone().filter(|tags| !tags.tag_set.is_empty());
    let tags = tags.ok_or_else(|| not_found(S3ErrorCode::NoSuchTagSet, "The TagSet does not exist"))?;
    Ok(S3Response::new(GetBucketTaggingOutput { tag_set: tags.tag_set }))
}

pub(crate) async fn put_tags(
    face: &Face,
    request: S3Request<PutBucketTaggingInput>,
) -> S3Result<S3Response<PutBucketTaggingOutput>> {
    let (gate, _) = enter(face, &request, &request.input.bucket, "s3:PutBucketTagging").await?;
    from_tag_set(request.input.tagging.tag_set.clone(), 50)?;
    store_xml(face, &gate, settings::TAGS, &request.input.tagging).await?;
    Ok(S3Response::with_status(PutBucketTaggingOutput::default(), StatusCode::NO_CONTENT))
}

pub(crate) async fn delete_tags(
    face: &Face,
    request: S3Request<DeleteBucketTaggingInput>,
) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
    let (gate, _) = enter(face, &request, &request.input.bucket, "s3:PutBucketTagging").await?;
    store(face, &gate, settings::TAGS, None).await?;
    Ok(S3Response::with_status(DeleteBucketTaggingOutput::default(), StatusCode::NO_CONTENT))
}

pub(crate) async fn get_object_lock(
    face: &Face,
    request: S3Request<GetObjectLockConfigurationInput>,
) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
    let (_, settings) =
        enter(face, &request, &request.input.bucket, "s3:GetBucketObjectLockConfiguration").await?;
    let lock = settings.object_lock.clone();
    let code = S3ErrorCode::ObjectLockConfigurationNotFoundError;
    let missing = || not_found(code, "Object Lock configuration does not exist for this bucket");
    let object_lock_configuration = Some(lock.ok_or_else(missing)?);
    Ok(S3Response::new(GetObjectLockConfigurationOutput { object_lock_configuration }))
}

pub(crate) async fn put_object_lock(
    face: &Face,
    request: S3Request<PutObjectLockConfigurationInput>,
) -> S3Result<S3Response<PutObjectLockConfigurationOutput>> {
    let (gate, _) =
        enter(face, &request, &request.input.bucket, "s3:PutBucketObjectLockConfiguration").await?;
    let given = request.input.object_lock_configuration;
    let lock = given.ok_or_else(|| s3_error!(MalformedXML, "an object lock configuration is missing"))?;
    if gate.found.bucket.versioning() != Versioning::Enabled {
        return Err(s3_error!(
            InvalidBucketState,
            "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration"
        ));
    }
    check_lock(&lock)?;
    store_xml(face, &gate, settings::OBJECT_LOCK, &lock).await?;
    Ok(S3Response::new(PutObjectLockConfigurationOutput::default()))
}

fn too_long_a_retention() -> S3Error {
    custom("InvalidRetentionPeriod", StatusCode::BAD_REQUEST, "Default retention period is too large")
}

fn check_lock(lock: &ObjectLockConfiguration) -> S3Result<()> {
    let malformed = |why: &'static str| s3_error!(MalformedXML, "{why}");
    if lock.object_lock_enabled.as_ref().map(ObjectLockEnabled::as_str) != Some("Enabled") {
        return Err(malformed("ObjectLockEnabled is Enabled"));
    }
    let Some(rule) = &lock.rule else { return Ok(()) };
    let retention =
        rule.default_retention.as_ref().ok_or_else(|| malformed("a rule has a default retention"))?;
    let mode = retention.mode.as_ref().map(ObjectLockRetentionMode::as_str);
    if !matches!(mode, Some("GOVERNANCE" | "COMPLIANCE")) {
        return Err(malformed("the mode is GOVERNANCE or COMPLIANCE"));
    }
    match (retention.days, retention.years) {
        (Some(length), None) | (None, Some(length)) if length <= 0 => Err(custom(
            "InvalidRetentionPeriod",
            StatusCode::BAD_REQUEST,
            "Default retention period must be a positive integer value",
        )),
        (Some(days), None) if days > LONGEST_RETENTION_DAYS => Err(too_long_a_retention()),
        (None, Some(years)) if years > LONGEST_RETENTION_YEARS => Err(too_long_a_retention()),
        (Some(_), None) | (None, Some(_)) => Ok(()),
        _ => Err(malformed("a default retention has days or years")),
    }
}

pub(crate) async fn get_encryption(
    face: &Face,
    request: S3Request<GetBucketEncryptionInput>,
) -> S3Result<S3Response<GetBucketEncryptionOutput>> {
    enter(face, &request, &request.input.bucket, "s3:GetEncryptionConfiguration").await?;
    let code = S3ErrorCode::ServerSideEncryptionConfigurationNotFoundError;
    Err(not_found(code, "The server side encryption configuration was not found"))
}

pub(crate) async fn get_logging(
    face: &Face,
    request: S3Request<GetBucketLoggingInput>,
) -> S3Result<S3Response<GetBucketLoggingOutput>> {
    enter(face, &request, &request.input.bucket, "s3:GetBucketLogging").await?;
    Ok(S3Response::new(GetBucketLoggingOutput::default()))
}

pub(crate) async fn get_website(
    face: &Face,
    request: S3Request<GetBucketWebsiteInput>,
) -> S3Result<S3Response<GetBucketWebsiteOutput>> {
    enter(face, &request, &request.input.bucket, "s3:GetBucketWebsite").await?;
    let code = S3ErrorCode::NoSuchWebsiteConfiguration;
    Err(not_found(code, "The specified bucket does not have a website configuration"))
}

pub(crate) async fn get_notification(
    face: &Face,
    request: S3Request<GetBucketNotificationConfigurationInput>,
) -> S3Result<S3Response<GetBucketNotificationConfigurationOutput>> {
    enter(face, &request, &request.input.bucket, "s3:GetBucketNotification").await?;
    Ok(S3Response::new(GetBucketNotificationConfigurationOutput::default()))
}
