//! Putting objects.

use crate::Face;
use crate::checksum::{FULL_OBJECT, given_checksum, show_checksum};
use crate::describe::{asked, described, written_version};
use crate::encryption::{self, AES256, CustomerKey};
use crate::gate::Gate;
use crate::ingest::{Expected, ingest};
use crate::limits::MAX_PUT;
use crate::support::{blocking, etag};
use larder_storage_buckets::{Checksum, EtagMatch, Precondition, Put};
use s3s::dto::{ChecksumType, ETagCondition, PutObjectInput, PutObjectOutput, ServerSideEncryption};
use s3s::{S3Request, S3Response, S3Result, s3_error};

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
        is_trailing: Expected::announced(&request.headers).is_some(),
        trailers: request.trailing_headers.take(),
        key: key.clone(),
        most: None,
    };
    let ingested = ingest(gate.bucket(), input.body.take(), expected).await?;
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
