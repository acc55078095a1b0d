//! Putting, reading and deleting objects.

use crate::Face;
use crate::acl::Right;
use crate::checksum::{Algorithm, FULL_OBJECT, given_checksum, show_checksum};
use crate::describe::{algorithm_of, asked, described, show_version, written_version};
use crate::emit::{self, Reading};
use crate::encryption::{self, AES256, CustomerKey};
use crate::gate::{Gate, denied};
use crate::ingest::{Expected, ingest};
use crate::support::{blocking, etag, from_bucket, from_time, names, signed};
use http::{HeaderMap, HeaderValue, StatusCode};
use larder_storage_buckets::{
    BucketError, Checksum, Content, Delete, EtagMatch, NULL_VERSION, Precondition, Put, Version,
};
use s3s::dto::{
    ChecksumType, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput,
    DeletedObject, ETagCondition, Error, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput,
    PutObjectInput, PutObjectOutput, ServerSideEncryption, Timestamp,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use std::ops::Range;

/// The most bytes of one put.
pub(crate) const MAX_PUT: i64 = 5 << 30;

/// A condition as the engine checks it.
pub(crate) fn etag_match(condition: &ETagCondition) -> EtagMatch {
    match condition {
        ETagCondition::Any => EtagMatch::Any,
        ETagCondition::ETag(tag) => EtagMatch::Tags(vec![tag.value().trim_matches('"').to_owned()]),
    }
}

pub(crate) async fn put(
    face: &Face,
    mut request: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let mut gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let input = &mut request.input;
    let managed = input.server_side_encryption.as_ref().map(ServerSideEncryption::as_str);
    encryption::refuse_managed(managed, input.sse_customer_algorithm.is_some())?;
    if input.content_length.is_some_and(|length| length > MAX_PUT) {
        return Err(s3_error!(EntityTooLarge, "Your proposed upload exceeds the maximum allowed size"));
    }
    let described = described!(input);
    let mut record = described.record(&mut gate, face, &input.key, &asked!(input, request.headers)).await?;
    let key = CustomerKey::parse(
        input.sse_customer_algorithm.as_deref(),
        input.sse_customer_key.as_deref(),
        input.sse_customer_key_md5.as_deref(),
    )?;
    record.encryption = key.as_ref().and_then(CustomerKey::seal);
    let precondition = Precondition {
        matches: input.if_match.as_ref().map(etag_match),
        none_matches: input.if_none_match.as_ref().map(etag_match),
        ..Precondition::default()
    };
    let expected = Expected {
        length: input.content_length,
        md5: input.content_md5.take(),
        checksum: given_checksum!(input),
        algorithm: Expected::algorithm_of(&request.headers)?,
        trailers: request.trailing_headers.take(),
        key: key.clone(),
        most: None,
    };
    let ingested = ingest(face, gate.bucket(), input.body.take(), expected).await?;
    if let Some((algorithm, value)) = &ingested.checksum {
        let (algorithm, kind) = (algorithm.as_str().to_owned(), FULL_OBJECT.to_owned());
        record.checksum = Some(Checksum { algorithm, kind, value: value.clone() });
    }
    let (bucket, put_key) = (gate.bucket(), input.key.clone());
    let put = Put { key: put_key, record, etag: None, precondition };
    let staged = ingested.staged;
    let version = blocking(move || bucket.put(staged, put)).await?;
    let mut output = PutObjectOutput {
        e_tag: Some(etag(&version.etag)),
        version_id: written_version(&version),
        sse_customer_algorithm: key.as_ref().map(|_| AES256.to_owned()),
        sse_customer_key_md5: key.as_ref().map(CustomerKey::md5),
        expiration: crate::lifecycle::expiration_header(&gate.settings, &version),
        ..PutObjectOutput::default()
    };
    if let Some((algorithm, value)) = ingested.checksum {
        show_checksum!(output, algorithm, value);
        output.checksum_type = Some(ChecksumType::from_static(FULL_OBJECT));
    }
    Ok(S3Response::new(output))
}

/// An empty version id is none.
pub(crate) fn version_id(id: Option<&String>) -> Option<String> {
    id.filter(|id| !id.is_empty()).cloned()
}

/// Conditions of reading.
struct Conditions<'a> {
    matches: Option<&'a ETagCondition>,
    none_matches: Option<&'a ETagCondition>,
    modified_since: Option<&'a Timestamp>,
    unmodified_since: Option<&'a Timestamp>,
}

impl Conditions<'_> {
    fn check(&self, version: &Version) -> S3Result<()> {
        let modified = version.modified.as_second();
        let is_after = |time: &Timestamp| modified > from_time(time).as_second();
        let failed =
            || s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold");
        match (self.matches, self.unmodified_since) {
            (Some(condition), _) if !names(condition, &version.etag) => return Err(failed()),
            (None, Some(time)) if is_after(time) => return Err(failed()),
            _ => {}
        }
        let is_unchanged = match (self.none_matches, self.modified_since) {
            (Some(condition), _) => names(condition, &version.etag),
            (None, Some(time)) => !is_after(time),
            (None, None) => false,
        };
        match is_unchanged {
            true => Err(not_modified(version)),
            false => Ok(()),
        }
    }
}

fn not_modified(version: &Version) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    error.set_status_code(StatusCode::NOT_MODIFIED);
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(&format!("\"{}\"", version.etag)) {
        headers.insert("etag", value);
    }
    error.set_headers(headers);
    error
}

/// The error for a delete marker that was asked for.
fn is_marker(version: &Version, by_id: bool) -> S3Error {
    let mut error = match by_id {
        true => s3_error!(MethodNotAllowed, "The specified method is not allowed against this resource."),
        false => s3_error!(NoSuchKey, "The specified key does not exist."),
    };
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
    if let Ok(id) = HeaderValue::from_str(&version.id) {
        headers.insert("x-amz-version-id", id);
    }
    error.set_headers(headers);
    error
}

/// Finds a version that may be read, not a delete marker.
pub(crate) fn readable(
    gate: &Gate,
    found: Result<Version, BucketError>,
    key: &str,
    id: Option<&str>,
) -> S3Result<Version> {
    let action = if id.is_some() { "s3:GetObjectVersion" } else { "s3:GetObject" };
    let version = match found {
        Err(error @ (BucketError::NoSuchKey | BucketError::NoSuchVersion)) => {
            let mut error = from_bucket(error);
            let mut headers = HeaderMap::new();
            headers.insert("x-amz-delete-marker", HeaderValue::from_static("false"));
            error.set_headers(headers);
            return Err(gate.missing(error, key));
        }
        found => found.map_err(from_bucket)?,
    };
    if version.is_marker {
        return Err(gate.missing(is_marker(&version, id.is_some()), key));
    }
    gate.object_action(action, &version, Some(Right::Read))?;
    Ok(version)
}

/// The same with the bytes.
pub(crate) async fn open(
    gate: &Gate,
    key: &str,
    id: Option<String>,
    customer: Option<CustomerKey>,
) -> S3Result<(Version, Reading)> {
    let (bucket, owned, wanted) = (gate.bucket(), key.to_owned(), id.clone());
    let found = tokio::task::spawn_blocking(move || bucket.read(&owned, wanted.as_deref())).await;
    let (found, content): (_, Option<Content>) =
        match found.map_err(|error| s3_error!(error, InternalError))? {
            Ok((version, content)) => (Ok(version), Some(content)),
            Err(error) => (Err(error), None),
        };
    let version = readable(gate, found, key, id.as_deref())?;
    encryption::check(version.record.encryption.as_deref(), customer.as_ref())?;
    let content = content.ok_or_else(denied)?;
    Ok((version, Reading { content, key: customer }))
}

/// What part of an object is asked for.
struct Wanted {
    range: Range<u64>,
    /// Whether it is less than the whole, which a reply says.
    is_partial: bool,
    part: Option<usize>,
}

fn wanted(version: &Version, range: Option<&s3s::dto::Range>, part: Option<i32>) -> S3Result<Wanted> {
    let size = version.size;
    if let Some(number) = part {
        if range.is_some() {
            return Err(s3_error!(
                InvalidRequest,
                "Cannot specify both Range header and partNumber query parameter"
            ));
        }
        let parts = &version.record.parts;
        let index = usize::try_from(number - 1).ok().filter(|index| *index < parts.len());
        let index = index.ok_or_else(|| {
            let mut error = s3_error!(InvalidPart, "The requested partnumber is not satisfiable");
            error.set_status_code(StatusCode::BAD_REQUEST);
            error
        })?;
        let start: u64 = parts[..index].iter().map(|part| part.size).sum();
        let range = start..start + parts[index].size;
        return Ok(Wanted { is_partial: version.record.is_multipart, range, part: Some(index) });
    }
    match range {
        None => Ok(Wanted { range: 0..size, is_partial: false, part: None }),
        Some(range) => Ok(Wanted { range: range.check(size)?, is_partial: true, part: None }),
    }
}

impl Wanted {
    fn content_range(&self, size: u64) -> Option<String> {
        let last = self.range.end.saturating_sub(1);
        self.is_partial.then(|| format!("bytes {}-{last}/{size}", self.range.start))
    }

    fn status(&self) -> StatusCode {
        if self.is_partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK }
    }

    /// The checksum that fits what is sent, with its kind.
    fn checksum(&self, version: &Version) -> Option<(Algorithm, String, String)> {
        let algorithm = algorithm_of(&version.record)?;
        let whole = version.record.checksum.as_ref()?;
        match self.part.and_then(|index| version.record.parts.get(index)) {
            Some(part) if version.record.is_multipart => {
                Some((algorithm, part.checksum.clone()?, whole.kind.clone()))
            }
            _ if self.is_partial => None,
            _ => Some((algorithm, whole.value.clone(), whole.kind.clone())),
        }
    }
}

pub(crate) async fn get(
    face: &Face,
    request: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let input = &request.input;
    if gate.key.is_none() && request.uri.query().is_some_and(|query| query.contains("response-")) {
        return Err(s3_error!(
            InvalidRequest,
            "Request specific response headers cannot be used for anonymous GET requests."
        ));
    }
    let customer = CustomerKey::parse(
        input.sse_customer_algorithm.as_deref(),
        input.sse_customer_key.as_deref(),
        input.sse_customer_key_md5.as_deref(),
    )?;
    let id = version_id(input.version_id.as_ref());
    let (version, mut reading) = open(&gate, &input.key, id, customer.clone()).await?;
    let conditions = Conditions {
        matches: input.if_match.as_ref(),
        none_matches: input.if_none_match.as_ref(),
        modified_since: input.if_modified_since.as_ref(),
        unmodified_since: input.if_unmodified_since.as_ref(),
    };
    conditions.check(&version)?;
    let wanted = wanted(&version, input.range.as_ref(), input.part_number)?;
    let mut output = GetObjectOutput::default();
    show_version!(output, &gate, &version);
    output.content_length = Some(signed(wanted.range.end - wanted.range.start));
    output.content_range = wanted.content_range(version.size);
    output.expiration = crate::lifecycle::expiration_header(&gate.settings, &version);
    output.parts_count = parts_count(&version, wanted.part);
    output.sse_customer_algorithm = customer.as_ref().map(|_| AES256.to_owned());
    output.sse_customer_key_md5 = customer.as_ref().map(CustomerKey::md5);
    output.tag_count = i32::try_from(version.record.tags.len()).ok().filter(|count| *count > 0);
    if input.checksum_mode.is_some()
        && let Some((algorithm, value, kind)) = wanted.checksum(&version)
    {
        show_checksum!(output, algorithm, value);
        output.checksum_type = Some(ChecksumType::from(kind));
    }
    let status = wanted.status();
    let mut range = wanted.range;
    output.body =
        Some(if range.end - range.start <= emit::CHUNK as u64 && reading.content.parts().len() <= 1 {
            let bytes = tokio::task::spawn_blocking(move || reading.next(&mut range)).await;
            emit::whole(bytes.map_err(|error| s3_error!(error, InternalError))??)
        } else {
            reading.into_body(range)
        });
    Ok(S3Response::with_status(output, status))
}

fn parts_count(version: &Version, part: Option<usize>) -> Option<i32> {
    let count = i32::try_from(version.record.parts.len()).ok();
    count.filter(|_| part.is_some() && version.record.is_multipart)
}

pub(crate) async fn head(
    face: &Face,
    request: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let input = &request.input;
    let customer = CustomerKey::parse(
        input.sse_customer_algorithm.as_deref(),
        input.sse_customer_key.as_deref(),
        input.sse_customer_key_md5.as_deref(),
    )?;
    let id = version_id(input.version_id.as_ref());
    let (bucket, key, wanted_id) = (gate.bucket(), input.key.clone(), id.clone());
    let found = tokio::task::spawn_blocking(move || bucket.find(&key, wanted_id.as_deref())).await;
    let found = found.map_err(|error| s3_error!(error, InternalError))?;
    let version = readable(&gate, found, &input.key, id.as_deref())?;
    encryption::check(version.record.encryption.as_deref(), customer.as_ref())?;
    let conditions = Conditions {
        matches: input.if_match.as_ref(),
        none_matches: input.if_none_match.as_ref(),
        modified_since: input.if_modified_since.as_ref(),
        unmodified_since: input.if_unmodified_since.as_ref(),
    };
    conditions.check(&version)?;
    let wanted = wanted(&version, input.range.as_ref(), input.part_number)?;
    let mut output = HeadObjectOutput::default();
    show_version!(output, &gate, &version);
    output.content_length = Some(signed(wanted.range.end - wanted.range.start));
    output.content_range = wanted.content_range(version.size);
    output.expiration = crate::lifecycle::expiration_header(&gate.settings, &version);
    output.parts_count = parts_count(&version, wanted.part);
    output.sse_customer_algorithm = customer.as_ref().map(|_| AES256.to_owned());
    output.sse_customer_key_md5 = customer.as_ref().map(CustomerKey::md5);
    if input.checksum_mode.is_some()
        && let Some((algorithm, value, kind)) = wanted.checksum(&version)
    {
        show_checksum!(output, algorithm, value);
        output.checksum_type = Some(ChecksumType::from(kind));
    }
    let mut response = S3Response::with_status(output, wanted.status());
    if !version.record.tags.is_empty() {
        response.headers.insert("x-amz-tagging-count", HeaderValue::from(version.record.tags.len()));
    }
    Ok(response)
}

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

pub(crate) async fn delete_many(
    face: &Face,
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let wants_bypass = request.input.bypass_governance_retention.unwrap_or(false);
    let objects = request.input.delete.objects;
    if objects.is_empty() || objects.len() > MAX_DELETES {
        return Err(s3_error!(MalformedXML, "one request deletes 1 to {MAX_DELETES} objects"));
    }
    let is_quiet = request.input.delete.quiet.unwrap_or(false);
    let owner = gate.writer().id;
    let (mut deletes, mut errors, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
    for object in objects {
        let version = version_id(object.version_id.as_ref());
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
