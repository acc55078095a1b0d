//! What is known of an object beside its bytes: tags, access control list, locks, attributes.

use crate::Face;
use crate::acl::{Acl, Right};
use crate::checksum::show_checksum;
use crate::describe::{
    self, algorithm_of, asked, check_lists, check_ownership, from_tag_set, retention_dto, shown_version,
    to_tag_set,
};
use crate::encryption::CustomerKey;
use crate::gate::Gate;
use crate::objects::version_id;
use crate::read::open;
use crate::support::{blocking, etag, from_time, signed, time};
use http::StatusCode;
use larder_storage_buckets::{BucketError, RetentionMode, Version};
use s3s::dto::{
    Checksum as ChecksumDto, ChecksumType, DeleteObjectTaggingInput, DeleteObjectTaggingOutput,
    GetObjectAclInput, GetObjectAclOutput, GetObjectAttributesInput, GetObjectAttributesOutput,
    GetObjectAttributesParts, GetObjectLegalHoldInput, GetObjectLegalHoldOutput, GetObjectRetentionInput,
    GetObjectRetentionOutput, GetObjectTaggingInput, GetObjectTaggingOutput, GetObjectTorrentInput,
    GetObjectTorrentOutput, ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectPart, PutObjectAclInput,
    PutObjectAclOutput, PutObjectLegalHoldInput, PutObjectLegalHoldOutput, PutObjectRetentionInput,
    PutObjectRetentionOutput, PutObjectTaggingInput, PutObjectTaggingOutput, StorageClass,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

/// Finds a version and asks whether the caller may do this with it.
async fn version_of(
    gate: &Gate,
    key: &str,
    id: Option<&String>,
    action: &str,
    right: Option<Right>,
) -> S3Result<Version> {
    let (bucket, owned, id) = (gate.bucket(), key.to_owned(), version_id(id));
    let by_id = id.is_some();
    let found = blocking(move || bucket.find(&owned, id.as_deref())).await;
    let version = found.map_err(|error| gate.missing(error, key))?;
    if version.is_marker {
        let error = match by_id {
            true => s3_error!(MethodNotAllowed, "The specified method is not allowed against this resource."),
            false => s3_error!(NoSuchKey, "The specified key does not exist."),
        };
        return Err(gate.missing(error, key));
    }
    gate.object_action(action, &version, right)?;
    Ok(version)
}

async fn update<F>(gate: &Gate, version: &Version, change: F) -> S3Result<Version>
where
    F: Fn(&mut Version) -> Result<(), BucketError> + Send + 'static,
{
    let (bucket, key, id) = (gate.bucket(), version.key.clone(), version.id.clone());
    let sequence = version.sequence;
    // What was asked of one object is not done with another that has its place since.
    let change = move |now: &mut Version| match now.sequence == sequence {
        true => change(now),
        false => Err(BucketError::PreconditionFailed("another object has this key since")),
    };
    blocking(move || bucket.update(&key, Some(&id), change)).await
}

pub(crate) async fn get_tags(
    face: &Face,
    request: S3Request<GetObjectTaggingInput>,
) -> S3Result<S3Response<GetObjectTaggingOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let input = &request.input;
    let action =
        if input.version_id.is_some() { "s3:GetObjectVersionTagging" } else { "s3:GetObjectTagging" };
    let version = version_of(&gate, &input.key, input.version_id.as_ref(), action, None).await?;
    Ok(S3Response::new(GetObjectTaggingOutput {
        tag_set: to_tag_set(&version.record.tags),
        version_id: shown_version(&gate, &version),
    }))
}

pub(crate) async fn put_tags(
    face: &Face,
    request: S3Request<PutObjectTaggingInput>,
) -> S3Result<S3Response<PutObjectTaggingOutput>> {
    let mut gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let input = request.input;
    let tags = from_tag_set(input.tagging.tag_set, 10)?;
    gate.tell_tags(&tags);
    let action =
        if input.version_id.is_some() { "s3:PutObjectVersionTagging" } else { "s3:PutObjectTagging" };
    let version = version_of(&gate, &input.key, input.version_id.as_ref(), action, None).await?;
    update(&gate, &version, move |version| {
        version.record.tags.clone_from(&tags);
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutObjectTaggingOutput { version_id: shown_version(&gate, &version) }))
}

pub(crate) async fn delete_tags(
    face: &Face,
    request: S3Request<DeleteObjectTaggingInput>,
) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let input = &request.input;
    let action =
        if input.version_id.is_some() { "s3:DeleteObjectVersionTagging" } else { "s3:DeleteObjectTagging" };
    let version = version_of(&gate, &input.key, input.version_id.as_ref(), action, None).await?;
    update(&gate, &version, |version| {
        version.record.tags.clear();
        Ok(())
    })
    .await?;
    let output = DeleteObjectTaggingOutput { version_id: shown_version(&gate, &version) };
    Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
}

pub(crate) async fn get_acl(
    face: &Face,
    request: S3Request<GetObjectAclInput>,
) -> S3Result<S3Response<GetObjectAclOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let input = &request.input;
    let action = if input.version_id.is_some() { "s3:GetObjectVersionAcl" } else { "s3:GetObjectAcl" };
    let version =
        version_of(&gate, &input.key, input.version_id.as_ref(), action, Some(Right::ReadAcp)).await?;
    let (owner, grants) = acl_of(&gate, &version).to_dto();
    Ok(S3Response::new(GetObjectAclOutput {
        grants: Some(grants),
        owner: Some(owner),
        ..GetObjectAclOutput::default()
    }))
}

/// The list of an object; where lists are off, the bucket owner's.
fn acl_of(gate: &Gate, version: &Version) -> Acl {
    let stored = version.record.acl.as_deref().and_then(Acl::from_json);
    stored.filter(|_| !gate.settings.acls_are_off()).unwrap_or_else(|| Acl::private(&gate.found.owner))
}

pub(crate) async fn put_acl(
    face: &Face,
    request: S3Request<PutObjectAclInput>,
) -> S3Result<S3Response<PutObjectAclOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let input = request.input;
    let action = if input.version_id.is_some() { "s3:PutObjectVersionAcl" } else { "s3:PutObjectAcl" };
    let version =
        version_of(&gate, &input.key, input.version_id.as_ref(), action, Some(Right::WriteAcp)).await?;
    let asked = asked!(input);
    check_ownership(&gate, &asked)?;
    if input.access_control_policy.is_some() {
        check_lists(&gate)?;
    }
    let current = acl_of(&gate, &version);
    let acl = match input.access_control_policy {
        Some(policy) if !asked.is_something() => {
            Acl::from_policy(policy, &current.owner, face.directory.as_ref()).await?
        }
        _ => {
            let owner = crate::directory::Identity {
                id: current.owner,
                display_name: current.owner_name,
                email: None,
            };
            Acl::asked(&asked, &owner, &gate.found.owner, face.directory.as_ref()).await?
        }
    };
    gate.check_acl(&acl)?;
    let stored = acl.stored(&gate.found.owner);
    update(&gate, &version, move |version| {
        version.record.acl.clone_from(&stored);
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutObjectAclOutput::default()))
}

fn require_lock(gate: &Gate) -> S3Result<()> {
    match gate.settings.has_object_lock() {
        true => Ok(()),
        false => Err(s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration")),
    }
}

pub(crate) async fn get_retention(
    face: &Face,
    request: S3Request<GetObjectRetentionInput>,
) -> S3Result<S3Response<GetObjectRetentionOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    require_lock(&gate)?;
    let input = &request.input;
    let id = input.version_id.as_ref();
    let version = version_of(&gate, &input.key, id, "s3:GetObjectRetention", None).await?;
    let retention = version.record.retention.map(retention_dto);
    let none = || {
        let mut error = s3_error!(
            NoSuchObjectLockConfiguration,
            "The specified object does not have a ObjectLock configuration"
        );
        error.set_status_code(StatusCode::NOT_FOUND);
        error
    };
    Ok(S3Response::new(GetObjectRetentionOutput { retention: Some(retention.ok_or_else(none)?) }))
}

pub(crate) async fn put_retention(
    face: &Face,
    request: S3Request<PutObjectRetentionInput>,
) -> S3Result<S3Response<PutObjectRetentionOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    require_lock(&gate)?;
    let input = request.input;
    let id = input.version_id.as_ref();
    let version = version_of(&gate, &input.key, id, "s3:PutObjectRetention", None).await?;
    let now = gate.found.bucket.now();
    let asked = input.retention.filter(|asked| asked.mode.is_some() || asked.retain_until_date.is_some());
    let wanted = match asked {
        None => None,
        Some(asked) => match (asked.mode, asked.retain_until_date) {
            (Some(mode), Some(until)) => Some(describe::retention(mode.as_str(), from_time(&until), now)?),
            _ => return Err(s3_error!(MalformedXML, "a retention has a mode and a date")),
        },
    };
    let bypass = input.bypass_governance_retention.unwrap_or(false) && gate.may_bypass(&input.key);
    update(&gate, &version, move |version| {
        if let Some(current) = version.record.retention.filter(|current| current.until > now) {
            let is_longer =
                wanted.is_some_and(|wanted| wanted.until >= current.until && wanted.mode == current.mode);
            let may = is_longer || (current.mode == RetentionMode::Governance && bypass);
            may.then_some(()).ok_or(BucketError::Refused("the retention can't be shortened or weakened"))?;
        }
        version.record.retention = wanted;
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutObjectRetentionOutput::default()))
}

pub(crate) async fn get_legal_hold(
    face: &Face,
    request: S3Request<GetObjectLegalHoldInput>,
) -> S3Result<S3Response<GetObjectLegalHoldOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    require_lock(&gate)?;
    let input = &request.input;
    let id = input.version_id.as_ref();
    let version = version_of(&gate, &input.key, id, "s3:GetObjectLegalHold", None).await?;
    let status = if version.record.legal_hold == Some(true) { "ON" } else { "OFF" };
    let legal_hold = ObjectLockLegalHold { status: Some(ObjectLockLegalHoldStatus::from_static(status)) };
    Ok(S3Response::new(GetObjectLegalHoldOutput { legal_hold: Some(legal_hold) }))
}

pub(crate) async fn put_legal_hold(
    face: &Face,
    request: S3Request<PutObjectLegalHoldInput>,
) -> S3Result<S3Response<PutObjectLegalHoldOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    require_lock(&gate)?;
    let input = &request.input;
    let status = input.legal_hold.as_ref().and_then(|hold| hold.status.as_ref());
    let hold =
        describe::legal_hold(status.ok_or_else(|| s3_error!(MalformedXML, "a legal hold has a status"))?)?;
    let id = input.version_id.as_ref();
    let version = version_of(&gate, &input.key, id, "s3:PutObjectLegalHold", None).await?;
    update(&gate, &version, move |version| {
        version.record.legal_hold = Some(hold);
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutObjectLegalHoldOutput::default()))
}

pub(crate) async fn attributes(
    face: &Face,
    request: S3Request<GetObjectAttributesInput>,
) -> S3Result<S3Response<GetObjectAttributesOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let input = request.input;
    let customer = CustomerKey::parse(
        input.sse_customer_algorithm.as_deref(),
        input.sse_customer_key.as_deref(),
        input.sse_customer_key_md5.as_deref(),
    )?;
    let (version, _) = open(&gate, &input.key, version_id(input.version_id.as_ref()), customer).await?;
    // One header names several, or several headers one each.
    let wants = |name: &str| {
        input
            .object_attributes
            .iter()
            .any(|wanted| wanted.as_str().split(',').any(|wanted| wanted.trim() == name))
    };
    let mut output = GetObjectAttributesOutput {
        last_modified: Some(time(version.modified)),
        version_id: shown_version(&gate, &version),
        e_tag: wants("ETag").then(|| etag(&version.etag)),
        object_size: wants("ObjectSize").then(|| signed(version.size)),
        ..GetObjectAttributesOutput::default()
    };
    if wants("StorageClass") {
        let class = version.record.storage_class.clone();
        output.storage_class =
            Some(class.map_or_else(|| StorageClass::from_static("STANDARD"), StorageClass::from));
    }
    if wants("Checksum")
        && let (Some(algorithm), Some(checksum)) = (algorithm_of(&version.record), &version.record.checksum)
    {
        let mut shown = ChecksumDto::default();
        show_checksum!(shown, algorithm, checksum.value.clone());
        shown.checksum_type = Some(ChecksumType::from(checksum.kind.clone()));
        output.checksum = Some(shown);
    }
    if wants("ObjectParts") && version.record.is_multipart {
        output.object_parts = Some(parts_of(&version, input.max_parts, input.part_number_marker));
    }
    Ok(S3Response::new(output))
}

/// There are no torrents; S3 has stopped making them.
pub(crate) async fn torrent(
    face: &Face,
    request: S3Request<GetObjectTorrentInput>,
) -> S3Result<S3Response<GetObjectTorrentOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    version_of(&gate, &request.input.key, None, "s3:GetObjectTorrent", Some(Right::Read)).await?;
    Err(s3_error!(NoSuchKey, "there is no torrent of the object"))
}

fn parts_of(version: &Version, max: Option<i32>, marker: Option<i32>) -> GetObjectAttributesParts {
    let limit = max.unwrap_or(1000).clamp(0, 1000);
    let after = usize::try_from(marker.unwrap_or(0)).unwrap_or(0);
    let algorithm = algorithm_of(&version.record);
    let all = version.record.parts.iter().enumerate().skip(after);
    let parts: Vec<ObjectPart> = all
        .take(usize::try_from(limit).unwrap_or(0))
        .map(|(index, part)| {
            let mut shown = ObjectPart {
                part_number: i32::try_from(index + 1).ok(),
                size: Some(signed(part.size)),
                ..ObjectPart::default()
            };
            if let (Some(algorithm), Some(value)) = (algorithm, part.checksum.clone()) {
                show_checksum!(shown, algorithm, value);
            }
            shown
        })
        .collect();
    let is_truncated = after + parts.len() < version.record.parts.len();
    GetObjectAttributesParts {
        is_truncated: Some(is_truncated),
        max_parts: Some(limit),
        next_part_number_marker: parts.last().and_then(|part| part.part_number),
        part_number_marker: Some(marker.unwrap_or(0)),
        parts: Some(parts),
        total_parts_count: i32::try_from(version.record.parts.len()).ok(),
    }
}
