//! Who may do what with a bucket, as its owner says: access control list, policy, public access, ownership.

use crate::Face;
use crate::acl::{Acl, Right};
use crate::config::{enter, not_found, store, store_xml};
use crate::describe::{asked, check_lists, check_ownership};
use crate::gate::Gate;
use crate::policy::Policy;
use crate::settings;
use http::StatusCode;
use s3s::dto::{
    DeleteBucketOwnershipControlsInput, DeleteBucketOwnershipControlsOutput, DeleteBucketPolicyInput,
    DeleteBucketPolicyOutput, DeletePublicAccessBlockInput, DeletePublicAccessBlockOutput, GetBucketAclInput,
    GetBucketAclOutput, GetBucketOwnershipControlsInput, GetBucketOwnershipControlsOutput,
    GetBucketPolicyInput, GetBucketPolicyOutput, GetBucketPolicyStatusInput, GetBucketPolicyStatusOutput,
    GetPublicAccessBlockInput, GetPublicAccessBlockOutput, PolicyStatus, PublicAccessBlockConfiguration,
    PutBucketAclInput, PutBucketAclOutput, PutBucketOwnershipControlsInput, PutBucketOwnershipControlsOutput,
    PutBucketPolicyInput, PutBucketPolicyOutput, PutPublicAccessBlockInput, PutPublicAccessBlockOutput,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

/// A policy has at most so many bytes.
const MAX_POLICY: usize = 20 * 1024;

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
    let asked = asked!(input);
    check_ownership(&gate, &asked)?;
    if input.access_control_policy.is_some() {
        check_lists(&gate)?;
    }
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
