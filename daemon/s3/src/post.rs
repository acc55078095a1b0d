//! Uploads by a browser's form.

use crate::checksum::given_checksum;
use crate::checksum::{FULL_OBJECT, show_checksum};
use crate::describe::{asked, described, shown_version};
use crate::encryption::{self, AES256, CustomerKey};
use crate::gate::Gate;
use crate::ingest::{Expected, ingest};
use crate::support::{blocking, etag};
use crate::Face;
use larder_storage_buckets::{Checksum, Put};
use s3s::dto::{PostObjectInput, PostObjectOutput};
use s3s::{S3Request, S3Response, S3Result};

pub(crate) async fn post(face: &Face, mut request: S3Request<PostObjectInput>) -> S3Result<S3Response<PostObjectOutput>> {
    let mut gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let input = &mut request.input;
    encryption::refuse_managed(input.server_side_encryption.as_ref().map(|kind| kind.as_str()))?;
    let customer = CustomerKey::parse(
        input.sse_customer_algorithm.as_deref(),
        input.sse_customer_key.as_deref(),
        input.sse_customer_key_md5.as_deref(),
    )?;
    let described = described!(input);
    let mut record = described.record(&mut gate, face, &input.key, &asked!(input)).await?;
    record.encryption = customer.as_ref().and_then(CustomerKey::seal);
    let named = input.checksum_algorithm.as_ref().map(|named| crate::checksum::Algorithm::parse(named.as_str()));
    let expected = Expected {
        checksum: given_checksum!(input),
        algorithm: named.transpose()?,
        md5: input.content_md5.take(),
        key: customer.clone(),
        ..Expected::default()
    };
    let ingested = ingest(gate.bucket(), input.body.take(), expected).await?;
    if let Some((algorithm, value)) = &ingested.checksum {
        let (algorithm, kind) = (algorithm.as_str().to_owned(), FULL_OBJECT.to_owned());
        record.checksum = Some(Checksum { algorithm, kind, value: value.clone() });
    }
    let put = Put { key: input.key.clone(), record, ..Put::default() };
    let (bucket, staged) = (gate.bucket(), ingested.staged);
    let version = blocking(move || bucket.put(staged, put)).await?;
    let mut output = PostObjectOutput {
        e_tag: Some(etag(&version.etag)),
        version_id: shown_version(&gate, &version),
        sse_customer_algorithm: customer.as_ref().map(|_| AES256.to_owned()),
        sse_customer_key_md5: customer.as_ref().map(CustomerKey::md5),
        ..PostObjectOutput::default()
    };
    if let Some((algorithm, value)) = ingested.checksum {
        show_checksum!(output, algorithm, value);
    }
    Ok(S3Response::new(output))
}
