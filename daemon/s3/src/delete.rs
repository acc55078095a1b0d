//! Deleting objects, one or many.

use crate::Face;
use crate::gate::Gate;
use crate::objects::{etag_match, version_id};
use crate::support::{blocking, from_bucket, from_time};
use http::StatusCode;
use larder_storage_buckets::{Delete, NULL_VERSION, Precondition};
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject,
    ETagCondition, Error,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

pub(crate) async fn delete(
    face: &Face,
    request: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let input = &request.input;
    let version = version_id(input.version_id.as_ref());
    let action = if version.is_some() { "s3:DeleteObjectVersion" } else { "s3:DeleteObject" };
    gate.key_action(action, &input.key)?;
    let wants_bypass = input.bypass_governance_retention.unwrap_or(false);
    let precondition = Precondition {
        matches: input.if_match.as_ref().map(etag_match),
        modified_second: input.if_match_last_modified_time.as_ref().map(|time| from_time(time).as_second()),
        size: input.if_match_size.and_then(|size| u64::try_from(size).ok()),
        ..Precondition::default()
    };
    let delete = Delete {
        key: input.key.clone(),
        version,
        may_bypass: wants_bypass && gate.may_bypass(&input.key),
        precondition,
        owner: gate.writer().id,
    };
    let bucket = gate.bucket();
    let deleted = blocking(move || bucket.delete(delete)).await?;
    Ok(S3Response::with_status(
        DeleteObjectOutput {
            delete_marker: deleted.is_marker.then_some(true),
            version_id: deleted.version,
            ..DeleteObjectOutput::default()
        },
        StatusCode::NO_CONTENT,
    ))
}

/// Keys that one request may delete.
const MAX_DELETES: usize = 1000;
/// So many of them are decided on in one go.
const AT_ONCE: usize = 16;

pub(crate) async fn delete_many(
    face: &Face,
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let mut gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let wants_bypass = request.input.bypass_governance_retention.unwrap_or(false);
    let objects = request.input.delete.objects;
    if objects.is_empty() || objects.len() > MAX_DELETES {
        return Err(s3_error!(MalformedXML, "one request deletes 1 to {MAX_DELETES} objects"));
    }
    let is_quiet = request.input.delete.quiet.unwrap_or(false);
    let owner = gate.writer().id;
    let (mut deletes, mut errors, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
    for (index, object) in objects.into_iter().enumerate() {
        // A policy takes its time, which is not all for one.
        if index % AT_ONCE == AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        let version = version_id(object.version_id.as_ref());
        gate.tell_version(version.as_deref());
        let action = if version.is_some() { "s3:DeleteObjectVersion" } else { "s3:DeleteObject" };
        if let Err(error) = gate.key_action(action, &object.key) {
            errors.push(error_of(object.key, version, &error));
            continue;
        }
        let precondition = Precondition {
            matches: object.e_tag.map(|tag| etag_match(&ETagCondition::ETag(tag))),
            modified_second: object.last_modified_time.as_ref().map(|time| from_time(time).as_second()),
            size: object.size.and_then(|size| u64::try_from(size).ok()),
            ..Precondition::default()
        };
        let may_bypass = wants_bypass && gate.may_bypass(&object.key);
        deletes.push(Delete { key: object.key, version, may_bypass, precondition, owner: owner.clone() });
    }
    let (bucket, work) = (gate.bucket(), deletes.clone());
    let outcomes = blocking(move || bucket.delete_many(work)).await?;
    for (delete, outcome) in deletes.into_iter().zip(outcomes) {
        match outcome {
            Ok(done) => deleted.push(DeletedObject {
                delete_marker: done.is_marker.then_some(true),
                delete_marker_version_id: done.version.clone().filter(|_| done.is_marker),
                key: Some(delete.key),
                version_id: delete.version,
            }),
            Err(error) => errors.push(error_of(delete.key, delete.version, &from_bucket(error))),
        }
    }
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: Some(deleted).filter(|_| !is_quiet),
        errors: Some(errors).filter(|errors| !errors.is_empty()),
        ..DeleteObjectsOutput::default()
    }))
}

fn error_of(key: String, version: Option<String>, error: &S3Error) -> Error {
    Error {
        code: Some(error.code().as_str().to_owned()),
        key: Some(key),
        message: Some(error.message().unwrap_or_default().to_owned()),
        version_id: version.filter(|id| id != NULL_VERSION),
    }
}
