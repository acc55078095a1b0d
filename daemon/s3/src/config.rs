//! The documents of a bucket: access control list, policy, CORS, lifecycle, tags, public access, ownership, object lock.

use crate::Face;
use crate::acl::{Acl, Asked, Right};
use crate::describe::{check_ownership, from_tag_set};
use crate::gate::Gate;
use crate::policy::Policy;
use crate::settings::{self, Settings, to_xml};
use crate::support::blocking;
use http::StatusCode;
use larder_storage_buckets::Versioning;
use s3s::dto::{
    BucketCannedACL, DeleteBucketCorsInput, DeleteBucketCorsOutput, DeleteBucketLifecycleInput,
    DeleteBucketLifecycleOutput, DeleteBucketOwnershipControlsInput, DeleteBucketOwnershipControlsOutput,
    DeleteBucketPolicyInput, DeleteBucketPolicyOutput, DeleteBucketTaggingInput, DeleteBucketTaggingOutput,
    DeletePublicAccessBlockInput, DeletePublicAccessBlockOutput, GetBucketAclInput, GetBucketAclOutput,
    GetBucketCorsInput, GetBucketCorsOutput, GetBucketEncryptionInput, GetBucketEncryptionOutput,
    GetBucketLifecycleConfigurationInput, GetBucketLifecycleConfigurationOutput, GetBucketLoggingInput,
    GetBucketLoggingOutput, GetBucketNotificationConfigurationInput,
    GetBucketNotificationConfigurationOutput, GetBucketOwnershipControlsInput,
    GetBucketOwnershipControlsOutput, GetBucketPolicyInput, GetBucketPolicyOutput,
    GetBucketPolicyStatusInput, GetBucketPolicyStatusOutput, GetBucketTaggingInput, GetBucketTaggingOutput,
    GetBucketWebsiteInput, GetBucketWebsiteOutput, GetObjectLockConfigurationInput,
    GetObjectLockConfigurationOutput, GetPublicAccessBlockInput, GetPublicAccessBlockOutput,
    ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, PolicyStatus,
    PublicAccessBlockConfiguration, PutBucketAclInput, PutBucketAclOutput, PutBucketCorsInput,
    PutBucketCorsOutput, PutBucketLifecycleConfigurationInput, PutBucketLifecycleConfigurationOutput,
    PutBucketOwnershipControlsInput, PutBucketOwnershipControlsOutput, PutBucketPolicyInput,
    PutBucketPolicyOutput, PutBucketTaggingInput, PutBucketTaggingOutput, PutObjectLockConfigurationInput,
    PutObjectLockConfigurationOutput, PutPublicAccessBlockInput, PutPublicAccessBlockOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error, xml};
use std::sync::Arc;

/// A policy has at most so many bytes.
const MAX_POLICY: usize = 20 * 1024;

/// Stores a document, or removes it.
async fn store(face: &Face, gate: &Gate, name: &'static str, text: Option<String>) -> S3Result<()> {
    let bucket = gate.bucket();
    let outcome = blocking(move || bucket.set_setting(name, text.as_deref())).await;
    face.settings.forget(gate.name());
    outcome
}

async fn store_xml<T: xml::Serialize>(
    face: &Face,
    gate: &Gate,
    name: &'static str,
    document: &T,
) -> S3Result<()> {
    let text = to_xml(document).map_err(crate::support::from_bucket)?;
    store(face, gate, name, Some(text)).await
}

fn not_found(code: S3ErrorCode, message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(code, message);
    error.set_status_code(StatusCode::NOT_FOUND);
    error
}

/// Enters a bucket for one of its documents.
async fn enter<T>(
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

pub(crate) async fn get_acl(
    face: &Face,
    request: S3Request<GetBucketAclInput>,
) -> S3Result<S3Response<GetBucketAclOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    gate.bucket_action("s3:GetBucketAcl", Some(Right::ReadAcp))?;
    let acl = if gate.settings.acls_are_off() { Acl::private(&gate.found.owner) } else { gate.acl() };
    let (owner, grants) = acl.to_dto();
    Ok(S3Response::new(GetBucketAclOutput { grants: Some(grants), owner: Some(owner) }))
}

pub(crate) async fn put_acl(
    face: &Face,
    request: S3Request<PutBucketAclInput>,
) -> S3Result<S3Response<PutBucketAclOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    gate.bucket_action("s3:PutBucketAcl", Some(Right::WriteAcp))?;
    let input = request.input;
    let asked = Asked {
        canned: input.acl.as_ref().map(BucketCannedACL::as_str),
        full_control: input.grant_full_control.as_deref(),
        read: input.grant_read.as_deref(),
        write: input.grant_write.as_deref(),
        read_acp: input.grant_read_acp.as_deref(),
        write_acp: input.grant_write_acp.as_deref(),
    };
    check_ownership(&gate, &asked)?;
    let owner = &gate.found.owner;
    let acl = match input.access_control_policy {
        Some(policy) if !asked.is_something() => {
            Acl::from_policy(policy, &owner.id, face.directory.as_ref()).await?
        }
        _ => Acl::asked(&asked, owner, owner, face.directory.as_ref()).await?,
    };
    gate.check_acl(&acl)?;
    store(face, &gate, settings::ACL, Some(acl.to_json())).await?;
    Ok(S3Response::new(PutBucketAclOutput::default()))
}

pub(crate) async fn get_policy(
    face: &Face,
    request: S3Request<GetBucketPolicyInput>,
) -> S3Result<S3Response<GetBucketPolicyOutput>> {
    let (_, settings) = enter(face, &request, &request.input.bucket, "s3:GetBucketPolicy").await?;
    let policy = settings.policy_text.clone();
    let policy = policy
        .ok_or_else(|| not_found(S3ErrorCode::NoSuchBucketPolicy, "The bucket policy does not exist"))?;
    Ok(S3Response::new(GetBucketPolicyOutput { policy: Some(policy) }))
}

pub(crate) async fn put_policy(
    face: &Face,
    request: S3Request<PutBucketPolicyInput>,
) -> S3Result<S3Response<PutBucketPolicyOutput>> {
    let (gate, settings) = enter(face, &request, &request.input.bucket, "s3:PutBucketPolicy").await?;
    let text = request.input.policy;
    if text.len() > MAX_POLICY {
        return Err(s3_error!(MalformedPolicy, "a policy has at most {MAX_POLICY} bytes"));
    }
    let policy = Policy::parse(&text, gate.name()).map_err(|error| {
        let message = error.to_string();
        s3_error!(MalformedPolicy, "{message}")
    })?;
    if settings.public_access(|block| block.block_public_policy) && policy.is_public() {
        return Err(s3_error!(AccessDenied, "public policies are blocked for this bucket"));
    }
    store(face, &gate, settings::POLICY, Some(text)).await?;
    Ok(S3Response::with_status(PutBucketPolicyOutput::default(), StatusCode::NO_CONTENT))
}

pub(crate) async fn delete_policy(
    face: &Face,
    request: S3Request<DeleteBucketPolicyInput>,
) -> S3Result<S3Response<DeleteBucketPolicyOutput>> {
    let (gate, _) = enter(face, &request, &request.input.bucket, "s3:DeleteBucketPolicy").await?;
    store(face, &gate, settings::POLICY, None).await?;
    Ok(S3Response::with_status(DeleteBucketPolicyOutput::default(), StatusCode::NO_CONTENT))
}

pub(crate) async fn policy_status(
    face: &Face,
    request: S3Request<GetBucketPolicyStatusInput>,
) -> S3Result<S3Response<GetBucketPolicyStatusOutput>> {
    let (gate, settings) = enter(face, &request, &request.input.bucket, "s3:GetBucketPolicyStatus").await?;
    let by_policy = settings.policy.as_ref().is_some_and(Policy::is_public);
    let ignored = settings.public_access(|block| block.ignore_public_acls) || settings.acls_are_off();
    let is_public = by_policy || (gate.acl().is_public() && !ignored);
    let policy_status = Some(PolicyStatus { is_public: Some(is_public) });
    Ok(S3Response::new(GetBucketPolicyStatusOutput { policy_status }))
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
    store_xml(face, &gate, settings::CORS, &request.input.cors_configuration).await?;
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

pub(crate) async fn get_public_access(
    face: &Face,
    request: S3Request<GetPublicAccessBlockInput>,
) -> S3Result<S3Response<GetPublicAccessBlockOutput>> {
    let (_, settings) = enter(face, &request, &request.input.bucket, "s3:GetBucketPublicAccessBlock").await?;
    let code = S3ErrorCode::Custom("NoSuchPublicAccessBlockConfiguration".into());
    let block = settings.public_access.clone();
    let block =
        block.ok_or_else(|| not_found(code, "The public access block configuration was not found"))?;
    Ok(S3Response::new(GetPublicAccessBlockOutput { public_access_block_configuration: Some(block) }))
}

pub(crate) async fn put_public_access(
    face: &Face,
    request: S3Request<PutPublicAccessBlockInput>,
) -> S3Result<S3Response<PutPublicAccessBlockOutput>> {
    let (gate, _) = enter(face, &request, &request.input.bucket, "s3:PutBucketPublicAccessBlock").await?;
    let given = request.input.public_access_block_configuration;
    // What isn't said is off, and shown so.
    let block = PublicAccessBlockConfiguration {
        block_public_acls: Some(given.block_public_acls.unwrap_or(false)),
        block_public_policy: Some(given.block_public_policy.unwrap_or(false)),
        ignore_public_acls: Some(given.ignore_public_acls.unwrap_or(false)),
        restrict_public_buckets: Some(given.restrict_public_buckets.unwrap_or(false)),
    };
    store_xml(face, &gate, settings::PUBLIC_ACCESS, &block).await?;
    Ok(S3Response::new(PutPublicAccessBlockOutput::default()))
}

pub(crate) async fn delete_public_access(
    face: &Face,
    request: S3Request<DeletePublicAccessBlockInput>,
) -> S3Result<S3Response<DeletePublicAccessBlockOutput>> {
    let (gate, _) = enter(face, &request, &request.input.bucket, "s3:PutBucketPublicAccessBlock").await?;
    store(face, &gate, settings::PUBLIC_ACCESS, None).await?;
    Ok(S3Response::with_status(DeletePublicAccessBlockOutput::default(), StatusCode::NO_CONTENT))
}

pub(crate) async fn get_ownership(
    face: &Face,
    request: S3Request<GetBucketOwnershipControlsInput>,
) -> S3Result<S3Response<GetBucketOwnershipControlsOutput>> {
    let (_, settings) = enter(face, &request, &request.input.bucket, "s3:GetBucketOwnershipControls").await?;
    let controls = settings.ownership.clone();
    let missing = || {
        not_found(S3ErrorCode::OwnershipControlsNotFoundError, "The bucket ownership controls were not found")
    };
    Ok(S3Response::new(GetBucketOwnershipControlsOutput {
        ownership_controls: Some(controls.ok_or_else(missing)?),
    }))
}

pub(crate) async fn put_ownership(
    face: &Face,
    request: S3Request<PutBucketOwnershipControlsInput>,
) -> S3Result<S3Response<PutBucketOwnershipControlsOutput>> {
    let (gate, _) = enter(face, &request, &request.input.bucket, "s3:PutBucketOwnershipControls").await?;
    let controls = &request.input.ownership_controls;
    let known = ["BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"];
    let is_fine = controls.rules.len() == 1
        && controls.rules.iter().all(|rule| known.contains(&rule.object_ownership.as_str()));
    if !is_fine {
        return Err(s3_error!(
            MalformedXML,
            "one rule with BucketOwnerEnforced, BucketOwnerPreferred or ObjectWriter"
        ));
    }
    let is_enforced = controls.rules[0].object_ownership.as_str() == "BucketOwnerEnforced";
    if is_enforced && gate.acl() != Acl::private(&gate.found.owner) {
        return Err(s3_error!(
            InvalidBucketAclWithObjectOwnership,
            "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"
        ));
    }
    store_xml(face, &gate, settings::OWNERSHIP, controls).await?;
    Ok(S3Response::new(PutBucketOwnershipControlsOutput::default()))
}

pub(crate) async fn delete_ownership(
    face: &Face,
    request: S3Request<DeleteBucketOwnershipControlsInput>,
) -> S3Result<S3Response<DeleteBucketOwnershipControlsOutput>> {
    let (gate, _) = enter(face, &request, &request.input.bucket, "s3:PutBucketOwnershipControls").await?;
    store(face, &gate, settings::OWNERSHIP, None).await?;
    Ok(S3Response::with_status(DeleteBucketOwnershipControlsOutput::default(), StatusCode::NO_CONTENT))
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
        (Some(length), None) | (None, Some(length)) if length <= 0 => {
            let code = S3ErrorCode::Custom("InvalidRetentionPeriod".into());
            let mut error =
                S3Error::with_message(code, "Default retention period must be a positive integer value");
            error.set_status_code(StatusCode::BAD_REQUEST);
            Err(error)
        }
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
