//! Copying on the server: an object, or a range of one as a part.

use crate::Face;
use crate::acl::Right;
use crate::checksum::{Algorithm, FULL_OBJECT, Hasher, show_checksum};
use crate::conditions::{self, Conditions};
use crate::describe::{algorithm_of, asked, described, shown_version, written_version};
use crate::emit::Reading;
use crate::encryption::{self, AES256, CustomerKey};
use crate::gate::Gate;
use crate::limits::MAX_PUT;
use crate::read::open;
use crate::support::{blocking, etag, from_bucket, signed, time};
use http::HeaderValue;
use larder_storage_buckets::{Checksum, Incoming, Precondition, Put, Staged, Version};
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopyPartResult, CopySource, ETagCondition,
    MetadataDirective, ServerSideEncryption, TaggingDirective, UploadPartCopyInput, UploadPartCopyOutput,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};
use std::ops::Range;

/// Bucket, key and version of a source.
fn source_of(source: &CopySource) -> S3Result<(String, String, Option<String>)> {
    match source {
        CopySource::Bucket { bucket, key, version_id } => Ok((
            bucket.to_string(),
            key.to_string(),
            version_id.as_ref().map(ToString::to_string).filter(|id| !id.is_empty()),
        )),
        _ => Err(s3_error!(NotImplemented, "a copy's source is bucket/key")),
    }
}

/// Checks the conditions that a request has for its source.
macro_rules! check_source {
    ($input:expr, $source:expr) => {
        let conditions = Conditions {
            matches: $input.copy_source_if_match.as_ref(),
            none_matches: $input.copy_source_if_none_match.as_ref(),
            modified_since: $input.copy_source_if_modified_since.as_ref(),
            unmodified_since: $input.copy_source_if_unmodified_since.as_ref(),
        };
        if conditions.is_another($source) || conditions.is_known($source) {
            return Err(conditions::failed());
        }
    };
}

/// Opens the source as its own gate allows.
async fn open_source<T>(
    face: &Face,
    request: &S3Request<T>,
    source: &CopySource,
    customer: Option<CustomerKey>,
) -> S3Result<(Gate, Version, Reading)> {
    let (bucket, key, id) = source_of(source)?;
    let mut gate = Gate::enter_source(face, request, &bucket).await?;
    gate.tell_version(id.as_deref());
    let (version, reading) = open(&gate, &key, id, customer).await?;
    Ok((gate, version, reading))
}

/// Copies bytes into a new blob, hashing and encrypting on the way; blocking.
fn pump(
    mut reading: Reading,
    mut range: Range<u64>,
    mut incoming: Incoming,
    algorithm: Option<Algorithm>,
    key: Option<&CustomerKey>,
) -> S3Result<(Staged, Option<(Algorithm, String)>)> {
    let mut hasher = algorithm.map(Hasher::new);
    while !range.is_empty() {
        let piece = reading.next(&mut range)?;
        if let Some(hasher) = &mut hasher {
            hasher.update(&piece);
        }
        match key {
            None => incoming.write(&piece).map_err(from_bucket)?,
            Some(key) => {
                let mut piece = piece.to_vec();
                key.apply(incoming.id(), incoming.size(), &mut piece)?;
                incoming.write(&piece).map_err(from_bucket)?;
            }
        }
    }
    Ok((incoming.finish(), hasher.map(Hasher::finish)))
}

async fn pumped(
    gate: &Gate,
    reading: Reading,
    range: Range<u64>,
    algorithm: Option<Algorithm>,
    key: Option<CustomerKey>,
) -> S3Result<(Staged, Option<(Algorithm, String)>)> {
    let bucket = gate.bucket();
    let work = move || {
        let incoming = bucket.receive(range.end - range.start).map_err(from_bucket)?;
        pump(reading, range, incoming, algorithm, key.as_ref())
    };
    crate::blocking::in_turn(work).await.map_err(|error| s3_error!(error, InternalError))?
}

fn customer_keys(input: &CopyObjectInput) -> S3Result<(Option<CustomerKey>, Option<CustomerKey>)> {
    let source = CustomerKey::parse(
        input.copy_source_sse_customer_algorithm.as_deref(),
        input.copy_source_sse_customer_key.as_deref(),
        input.copy_source_sse_customer_key_md5.as_deref(),
    )?;
    let target = CustomerKey::parse(
        input.sse_customer_algorithm.as_deref(),
        input.sse_customer_key.as_deref(),
        input.sse_customer_key_md5.as_deref(),
    )?;
    Ok((source, target))
}

/// The tags that come along with a copy: who makes it must be allowed to give them to the new object.
fn tags_along(gate: &mut Gate, source: &Version, key: &str) -> S3Result<Vec<(String, String)>> {
    let tags = source.record.tags.clone();
    if !tags.is_empty() {
        gate.tell_tags(&tags);
        gate.key_action("s3:PutObject", key)?;
        gate.key_action("s3:PutObjectTagging", key)?;
    }
    Ok(tags)
}

pub(crate) async fn copy(
    face: &Face,
    mut request: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    encryption::refuse_managed(
        request.input.server_side_encryption.as_ref().map(ServerSideEncryption::as_str),
        false,
    )?;
    let (source_key, target_key) = customer_keys(&request.input)?;
    let mut gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let (source_gate, source, reading) =
        open_source(face, &request, &request.input.copy_source, source_key).await?;
    let input = &mut request.input;
    check_source!(input, &source);
    if signed(source.size) > MAX_PUT {
        return Err(s3_error!(
            InvalidRequest,
            "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120"
        ));
    }
    let precondition = precondition(&request.headers)?;
    let replaces = replaces(input.metadata_directive.as_ref().map(MetadataDirective::as_str))?;
    let replaces_tags = replaces_tags(input.tagging_directive.as_ref().map(TaggingDirective::as_str))?;
    let is_itself = gate.name() == source_gate.name() && input.key == source.key;
    let is_changed = replaces
        || replaces_tags
        || target_key.is_some()
        || source.record.encryption.is_some()
        || input.storage_class.is_some()
        || input.website_redirect_location.is_some();
    if is_itself && source.is_latest && !is_changed {
        return Err(s3_error!(
            InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes."
        ));
    }
    let algorithm = match &input.checksum_algorithm {
        Some(named) => Some(Algorithm::parse(named.as_str())?),
        None => algorithm_of(&source.record),
    };
    let described = described!(input);
    let mut record = described.record(&mut gate, face, &input.key, &asked!(input, request.headers)).await?;
    if !replaces {
        record.headers = source.record.headers.clone();
        record.metadata = source.record.metadata.clone();
        record.storage_class = record.storage_class.or_else(|| source.record.storage_class.clone());
    }
    if !replaces_tags && !source.record.tags.is_empty() {
        let action = match source_of(&input.copy_source)?.2.is_some() {
            true => "s3:GetObjectVersionTagging",
            false => "s3:GetObjectTagging",
        };
        source_gate.object_action(action, &source, Some(Right::Read))?;
    }
    if !replaces_tags {
        record.tags = tags_along(&mut gate, &source, &input.key)?;
    }
    record.encryption = target_key.as_ref().and_then(CustomerKey::seal);
    let (staged, checksum) = pumped(&gate, reading, 0..source.size, algorithm, target_key.clone()).await?;
    if let Some((algorithm, value)) = &checksum {
        let (algorithm, kind) = (algorithm.as_str().to_owned(), FULL_OBJECT.to_owned());
        record.checksum = Some(Checksum { algorithm, kind, value: value.clone() });
    }
    let put = Put { key: input.key.clone(), record, etag: None, precondition };
    let bucket = gate.bucket();
    let version = blocking(move || bucket.put(staged, put)).await?;
    let mut result = CopyObjectResult {
        e_tag: Some(etag(&version.etag)),
        last_modified: Some(time(version.modified)),
        ..CopyObjectResult::default()
    };
    if let Some((algorithm, value)) = checksum {
        show_checksum!(result, algorithm, value);
    }
    Ok(S3Response::new(CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id: shown_version(&source_gate, &source),
        sse_customer_algorithm: target_key.as_ref().map(|_| AES256.to_owned()),
        sse_customer_key_md5: target_key.as_ref().map(CustomerKey::md5),
        version_id: written_version(&version),
        ..CopyObjectOutput::default()
    }))
}

/// The conditions on the target, which stand in headers only.
fn precondition(headers: &http::HeaderMap) -> S3Result<Precondition> {
    let condition = |name: &str| {
        let parse = |value: &HeaderValue| ETagCondition::parse_http_header(value.as_bytes());
        let refuse = |error| s3_error!(error, InvalidArgument, "the header {name} is no entity tag");
        let parsed = headers.get(name).map(parse).transpose().map_err(refuse)?;
        Ok::<_, S3Error>(parsed.as_ref().map(crate::objects::etag_match))
    };
    let (matches, none_matches) = (condition("if-match")?, condition("if-none-match")?);
    Ok(Precondition { matches, none_matches, ..Precondition::default() })
}

fn replaces(directive: Option<&str>) -> S3Result<bool> {
    match directive {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "Unknown metadata directive.")),
    }
}

fn replaces_tags(directive: Option<&str>) -> S3Result<bool> {
    replaces(directive).map_err(|_| s3_error!(InvalidArgument, "Unknown tagging directive."))
}

/// `bytes=first-last` of a source, both of which must be in it.
fn part_range(text: Option<&str>, size: u64) -> S3Result<Range<u64>> {
    let Some(text) = text else { return Ok(0..size) };
    let bounds = text.strip_prefix("bytes=").and_then(|bounds| bounds.split_once('-'));
    let number = |text: &str| {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| text.parse::<u64>().ok()).flatten()
    };
    let bounds = bounds.and_then(|(first, last)| Some((number(first)?, number(last)?)));
    let (first, last) = bounds.filter(|(first, last)| first <= last).ok_or_else(|| {
        s3_error!(InvalidArgument, "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy")
    })?;
    match last < size {
        true => Ok(first..last + 1),
        false => {
            Err(s3_error!(InvalidRange, "Range specified is not valid for source object of size: {size}"))
        }
    }
}

pub(crate) async fn copy_part(
    face: &Face,
    request: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let input = &request.input;
    let source_key = CustomerKey::parse(
        input.copy_source_sse_customer_algorithm.as_deref(),
        input.copy_source_sse_customer_key.as_deref(),
        input.copy_source_sse_customer_key_md5.as_deref(),
    )?;
    let target_key = CustomerKey::parse(
        input.sse_customer_algorithm.as_deref(),
        input.sse_customer_key.as_deref(),
        input.sse_customer_key_md5.as_deref(),
    )?;
    let number = crate::multipart::part_number(input.part_number)?;
    let gate = Gate::enter(face, &request, &input.bucket).await?;
    gate.key_action("s3:PutObject", &input.key)?;
    let (source_gate, source, reading) = open_source(face, &request, &input.copy_source, source_key).await?;
    check_source!(input, &source);
    let range = part_range(input.copy_source_range.as_deref(), source.size)?;
    if signed(range.end - range.start) > MAX_PUT {
        return Err(s3_error!(InvalidRequest, "a part has at most {MAX_PUT} bytes"));
    }
    let (bucket, key, id) = (gate.bucket(), input.key.clone(), input.upload_id.clone());
    let upload = blocking(move || bucket.upload(&key, &id)).await?;
    encryption::check(upload.record.encryption.as_deref(), target_key.as_ref())?;
    let algorithm = algorithm_of(&upload.record);
    let (staged, checksum) = pumped(&gate, reading, range, algorithm, target_key.clone()).await?;
    let (bucket, value) = (gate.bucket(), checksum.as_ref().map(|(_, value)| value.clone()));
    let part = blocking(move || bucket.put_part(&upload.key, &upload.id, number, staged, value)).await?;
    let mut result = CopyPartResult {
        e_tag: Some(etag(&part.md5)),
        last_modified: Some(time(gate.found.bucket.now())),
        ..CopyPartResult::default()
    };
    if let Some((algorithm, value)) = checksum {
        show_checksum!(result, algorithm, value);
    }
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result: Some(result),
        copy_source_version_id: shown_version(&source_gate, &source),
        sse_customer_algorithm: target_key.as_ref().map(|_| AES256.to_owned()),
        sse_customer_key_md5: target_key.as_ref().map(CustomerKey::md5),
        ..UploadPartCopyOutput::default()
    }))
}
