//! Multipart uploads.

use crate::Face;
use crate::checksum::{self, Algorithm, given_checksum, show_checksum};
use crate::describe::{algorithm_of, asked, default_retention, described, written_version};
use crate::encryption::{self, AES256, CustomerKey};
use crate::gate::Gate;
use crate::ingest::{Expected, ingest};
use crate::limits::MAX_PUT;
use crate::objects::etag_match;
use crate::support::{blocking, etag, from_bucket, signed, time};
use http::StatusCode;
use larder_storage_buckets::{
    Bucket, BucketError, Checksum, Complete, MIN_PART, NULL_VERSION, Part, Precondition, Upload,
};
use md5::{Digest, Md5};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumAlgorithm, ChecksumType,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, Initiator, ListPartsInput, ListPartsOutput, Owner, Part as PartDto,
    ServerSideEncryption, StorageClass, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

/// Parts have numbers from 1 to this.
pub(crate) const MAX_PARTS: i32 = 10_000;

pub(crate) fn part_number(number: i32) -> S3Result<u32> {
    u32::try_from(number).ok().filter(|_| (1..=MAX_PARTS).contains(&number)).ok_or_else(|| {
        s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive")
    })
}

pub(crate) async fn create(
    face: &Face,
    mut request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let mut gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let input = &mut request.input;
    encryption::refuse_managed(
        input.server_side_encryption.as_ref().map(ServerSideEncryption::as_str),
        false,
    )?;
    let customer = CustomerKey::parse(
        input.sse_customer_algorithm.as_deref(),
        input.sse_customer_key.as_deref(),
        input.sse_customer_key_md5.as_deref(),
    )?;
    let algorithm =
        input.checksum_algorithm.as_ref().map(|named| Algorithm::parse(named.as_str())).transpose()?;
    let kind = input.checksum_type.as_ref().map(|kind| kind.as_str().to_owned());
    let asks_for_retention = input.object_lock_mode.is_some();
    let described = described!(input);
    let mut record = described.record(&mut gate, face, &input.key, &asked!(input, request.headers)).await?;
    // That of the bucket is the one that it has when the upload is completed.
    record.retention = record.retention.filter(|_| asks_for_retention);
    record.encryption = customer.as_ref().and_then(CustomerKey::seal);
    record.checksum = match (algorithm, kind) {
        (Some(algorithm), kind) => {
            let kind = kind.unwrap_or_else(|| algorithm.default_kind().to_owned());
            algorithm.check_kind(&kind)?;
            Some(Checksum { algorithm: algorithm.as_str().to_owned(), kind, value: String::new() })
        }
        (None, Some(_)) => {
            return Err(s3_error!(InvalidRequest, "a checksum type needs a checksum algorithm"));
        }
        (None, None) => None,
    };
    let (bucket, key) = (gate.bucket(), input.key.clone());
    let upload = blocking(move || bucket.create_upload(&key, &record)).await?;
    let shown = upload.record.checksum.as_ref();
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(gate.name().to_owned()),
        key: Some(upload.key),
        upload_id: Some(upload.id),
        checksum_algorithm: shown.map(|checksum| ChecksumAlgorithm::from(checksum.algorithm.clone())),
        checksum_type: shown.map(|checksum| ChecksumType::from(checksum.kind.clone())),
        sse_customer_algorithm: customer.as_ref().map(|_| AES256.to_owned()),
        sse_customer_key_md5: customer.as_ref().map(CustomerKey::md5),
        ..CreateMultipartUploadOutput::default()
    }))
}

async fn upload_of(gate: &Gate, key: &str, id: &str) -> S3Result<Upload> {
    let (bucket, key, id) = (gate.bucket(), key.to_owned(), id.to_owned());
    blocking(move || bucket.upload(&key, &id)).await
}

pub(crate) async fn put_part(
    face: &Face,
    mut request: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let input = &mut request.input;
    gate.key_action("s3:PutObject", &input.key)?;
    let number = part_number(input.part_number)?;
    if input.content_length.is_some_and(|length| length > MAX_PUT) {
        return Err(s3_error!(EntityTooLarge, "Your proposed upload exceeds the maximum allowed size"));
    }
    let customer = CustomerKey::parse(
        input.sse_customer_algorithm.as_deref(),
        input.sse_customer_key.as_deref(),
        input.sse_customer_key_md5.as_deref(),
    )?;
    let upload = upload_of(&gate, &input.key, &input.upload_id).await?;
    encryption::check(upload.record.encryption.as_deref(), customer.as_ref())?;
    let given = given_checksum!(input);
    let named = Expected::algorithm_of(&request.headers)?;
    let of_upload = algorithm_of(&upload.record);
    if let (Some(of_upload), Some(of_part)) =
        (of_upload, given.as_ref().map(|(algorithm, _)| *algorithm).or(named))
        && of_upload != of_part
    {
        let (wanted, found) = (of_upload.as_str().to_lowercase(), of_part.as_str().to_lowercase());
        return Err(s3_error!(
            InvalidRequest,
            "Checksum Type mismatch occurred, expected checksum Type: {wanted}, actual checksum Type: {found}"
        ));
    }
    let expected = Expected {
        length: input.content_length,
        md5: input.content_md5.take(),
        checksum: given,
        algorithm: of_upload.or(named),
        is_trailing: Expected::announced(&request.headers).is_some(),
        trailers: request.trailing_headers.take(),
        key: customer.clone(),
        most: None,
    };
    let ingested = ingest(gate.bucket(), input.body.take(), expected).await?;
    let kept = ingested.checksum.as_ref().filter(|(algorithm, _)| Some(*algorithm) == of_upload);
    let (bucket, value) = (gate.bucket(), kept.map(|(_, value)| value.clone()));
    let staged = ingested.staged;
    let part = blocking(move || bucket.put_part(&upload.key, &upload.id, number, staged, value)).await?;
    let mut output = UploadPartOutput {
        e_tag: Some(etag(&part.md5)),
        sse_customer_algorithm: customer.as_ref().map(|_| AES256.to_owned()),
        sse_customer_key_md5: customer.as_ref().map(CustomerKey::md5),
        ..UploadPartOutput::default()
    };
    if let Some((algorithm, value)) = ingested.checksum {
        show_checksum!(output, algorithm, value);
    }
    Ok(S3Response::new(output))
}

/// The uploaded parts that a request names, in its order, which must be ascending.
fn chosen(uploaded: Vec<Part>, named: &[CompletedPart]) -> S3Result<Vec<Part>> {
    let mut by_number: std::collections::HashMap<u32, Part> =
        uploaded.into_iter().map(|part| (part.number, part)).collect();
    let mut chosen: Vec<Part> = Vec::with_capacity(named.len());
    for (index, completed) in named.iter().enumerate() {
        let number = part_number(completed.part_number.unwrap_or(0))?;
        // Of a number that is named twice the last counts: the part was sent again.
        if named.get(index + 1).is_some_and(|next| next.part_number == completed.part_number) {
            continue;
        }
        if chosen.last().is_some_and(|last| last.number >= number) {
            return Err(from_bucket(BucketError::InvalidPartOrder));
        }
        let invalid = || from_bucket(BucketError::InvalidPart { number });
        let part = by_number.remove(&number).ok_or_else(invalid)?;
        let tag = completed.e_tag.as_ref().map(|tag| tag.value().trim_matches('"').to_owned());
        let checksum = given_checksum!(completed);
        let fits = tag.is_none_or(|tag| tag == part.md5)
            && checksum.is_none_or(|(_, value)| part.checksum.as_ref().is_none_or(|known| *known == value));
        fits.then_some(()).ok_or_else(invalid)?;
        chosen.push(part);
    }
    let small = chosen.iter().rev().skip(1).find(|part| part.size < MIN_PART);
    match small {
        Some(part) => Err(from_bucket(BucketError::PartTooSmall {
            number: part.number,
            size: part.size,
            least: MIN_PART,
        })),
        None => Ok(chosen),
    }
}

/// The ETag of an object of parts.
fn etag_of(parts: &[Part]) -> String {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(hex::decode(&part.md5).unwrap_or_default());
    }
    format!("{}-{}", hex::encode(hash.finalize()), parts.len())
}

pub(crate) async fn complete(
    face: &Face,
    request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let input = &request.input;
    gate.key_action("s3:PutObject", &input.key)?;
    let (bucket, key, id) = (gate.bucket(), input.key.clone(), input.upload_id.clone());
    let named = input.multipart_upload.as_ref().and_then(|upload| upload.parts.clone()).unwrap_or_default();
    if named.is_empty() {
        return Err(s3_error!(MalformedXML, "You must specify at least one part"));
    }
    let found = blocking(move || match bucket.upload(&key, &id) {
        Err(BucketError::NoSuchUpload) => completed_before(&bucket, &key, &id).map(Err),
        upload => {
            let parts = bucket.parts(&id, 0, usize::MAX)?.into_iter().map(|uploaded| uploaded.part).collect();
            Ok(Ok((upload?, parts)))
        }
    });
    let (upload, uploaded): (Upload, Vec<Part>) = match found.await? {
        Ok(found) => found,
        // The same request again, for instance because the reply was lost.
        Err(done) => return Ok(repeated(&gate, input, done).await),
    };
    let parts = chosen(uploaded, &named)?;
    let size: u64 = parts.iter().map(|part| part.size).sum();
    if input.mpu_object_size.is_some_and(|expected| expected != signed(size)) {
        return Err(s3_error!(
            InvalidRequest,
            "The provided 'x-amz-mp-object-size' header does not match what was computed"
        ));
    }
    let mut record = upload.record;
    // What did not ask for another has the bucket's, from now on.
    record.retention = record.retention.or_else(|| default_retention(&gate));
    record.checksum = checksum_of(record.checksum.as_ref(), input, &parts)?;
    let tag = etag_of(&parts);
    record.parts = parts;
    let precondition = Precondition {
        matches: input.if_match.as_ref().map(etag_match),
        none_matches: input.if_none_match.as_ref().map(etag_match),
        ..Precondition::default()
    };
    let work = Complete { key: upload.key, upload: upload.id, record, etag: tag, precondition };
    let (bucket, key, id) = (gate.bucket(), input.key.clone(), input.upload_id.clone());
    let version = blocking(move || match bucket.complete(work) {
        Err(BucketError::NoSuchUpload) => completed_before(&bucket, &key, &id).map(Err),
        version => version.map(Ok),
    });
    let version = match version.await? {
        Ok(version) => version,
        // It waited while another of the same did it.
        Err(done) => return Ok(repeated(&gate, input, done).await),
    };
    let shown = written_version(&version);
    Ok(completed(&gate, input, &version.etag, shown, version.record.checksum))
}

/// The id and the ETag of the version that an upload became.
fn completed_before(bucket: &Bucket, key: &str, id: &str) -> Result<(String, String), BucketError> {
    bucket.completed(key, id)?.ok_or(BucketError::NoSuchUpload)
}

/// The answer to a completion that was done before.
async fn repeated(
    gate: &Gate,
    input: &CompleteMultipartUploadInput,
    (id, tag): (String, String),
) -> S3Response<CompleteMultipartUploadOutput> {
    let (bucket, key, wanted) = (gate.bucket(), input.key.clone(), id.clone());
    let version = blocking(move || bucket.find(&key, Some(&wanted))).await.ok();
    let checksum = version.and_then(|version| version.record.checksum);
    completed(gate, input, &tag, Some(id), checksum)
}

fn completed(
    gate: &Gate,
    input: &CompleteMultipartUploadInput,
    tag: &str,
    version: Option<String>,
    checksum: Option<Checksum>,
) -> S3Response<CompleteMultipartUploadOutput> {
    let mut output = CompleteMultipartUploadOutput {
        bucket: Some(gate.name().to_owned()),
        key: Some(input.key.clone()),
        e_tag: Some(etag(tag)),
        location: Some(format!("/{}/{}", gate.name(), urlencoding::encode(&input.key))),
        version_id: version.filter(|id| id != NULL_VERSION),
        ..CompleteMultipartUploadOutput::default()
    };
    if let Some(checksum) = checksum
        && let Ok(algorithm) = Algorithm::parse(&checksum.algorithm)
    {
        show_checksum!(output, algorithm, checksum.value);
        output.checksum_type = Some(ChecksumType::from(checksum.kind));
    }
    S3Response::new(output)
}

fn checksum_of(
    of_upload: Option<&Checksum>,
    input: &CompleteMultipartUploadInput,
    parts: &[Part],
) -> S3Result<Option<Checksum>> {
    let Some(of_upload) = of_upload else { return Ok(None) };
    if input.checksum_type.as_ref().is_some_and(|kind| kind.as_str() != of_upload.kind) {
        return Err(s3_error!(
            InvalidRequest,
            "The upload was created with the {} checksum type",
            of_upload.kind
        ));
    }
    let algorithm = Algorithm::parse(&of_upload.algorithm)?;
    let computed = checksum::of_parts(algorithm, &of_upload.kind, parts);
    if let (Some((named, value)), Some(computed)) = (given_checksum!(input), &computed) {
        // A composite value may be given without the number of its parts.
        let plain = computed.value.split('-').next().unwrap_or_default();
        if named != algorithm || (value != computed.value && value != plain) {
            return Err(s3_error!(
                BadDigest,
                "The {} you specified did not match the calculated checksum.",
                named.as_str()
            ));
        }
    }
    Ok(computed)
}

pub(crate) async fn abort(
    face: &Face,
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    gate.key_action("s3:AbortMultipartUpload", &request.input.key)?;
    let (bucket, input) = (gate.bucket(), request.input);
    blocking(move || bucket.abort_upload(&input.key, &input.upload_id)).await?;
    Ok(S3Response::with_status(AbortMultipartUploadOutput::default(), StatusCode::NO_CONTENT))
}

pub(crate) async fn list_parts(
    face: &Face,
    request: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let input = request.input;
    gate.key_action("s3:ListMultipartUploadParts", &input.key)?;
    let upload = upload_of(&gate, &input.key, &input.upload_id).await?;
    let limit = input.max_parts.unwrap_or(1000).clamp(0, 1000);
    let after = u32::try_from(input.part_number_marker.unwrap_or(0)).unwrap_or(0);
    let (bucket, id) = (gate.bucket(), upload.id.clone());
    let wanted = usize::try_from(limit).unwrap_or(0);
    let mut found = blocking(move || bucket.parts(&id, after, wanted + 1)).await?;
    let is_truncated = found.len() > wanted;
    found.truncate(wanted);
    let last = found.last().and_then(|uploaded| i32::try_from(uploaded.part.number).ok());
    let algorithm = algorithm_of(&upload.record);
    let parts = found.into_iter().map(|uploaded| {
        let mut shown = PartDto {
            e_tag: Some(etag(&uploaded.part.md5)),
            last_modified: Some(time(uploaded.modified)),
            part_number: i32::try_from(uploaded.part.number).ok(),
            size: Some(signed(uploaded.part.size)),
            ..PartDto::default()
        };
        if let (Some(algorithm), Some(value)) = (algorithm, uploaded.part.checksum) {
            show_checksum!(shown, algorithm, value);
        }
        shown
    });
    let owner = crate::lists::owner_of(face, &upload.record.owner).await?;
    let checksum = upload.record.checksum;
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(gate.name().to_owned()),
        key: Some(upload.key),
        upload_id: Some(upload.id),
        max_parts: Some(limit),
        is_truncated: Some(is_truncated),
        part_number_marker: i32::try_from(after).ok(),
        next_part_number_marker: last.filter(|_| is_truncated).or(last),
        parts: Some(parts.collect()),
        initiator: Some(Initiator { display_name: owner.display_name.clone(), id: owner.id.clone() }),
        owner: Some(Owner { display_name: owner.display_name, id: owner.id }),
        storage_class: Some(
            upload
                .record
                .storage_class
                .map_or_else(|| StorageClass::from_static("STANDARD"), StorageClass::from),
        ),
        checksum_algorithm: checksum
            .as_ref()
            .map(|checksum| ChecksumAlgorithm::from(checksum.algorithm.clone())),
        checksum_type: checksum.map(|checksum| ChecksumType::from(checksum.kind)),
        ..ListPartsOutput::default()
    }))
}
