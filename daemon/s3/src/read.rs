//! Reading objects: get and head, which differ only in that one sends the bytes.

use crate::Face;
use crate::acl::Right;
use crate::checksum::{Algorithm, show_checksum};
use crate::conditions::{self, Conditions};
use crate::describe::{algorithm_of, show_version};
use crate::emit::Reading;
use crate::encryption::{self, AES256, CustomerKey};
use crate::from_file::TakesFiles;
use crate::gate::{Gate, denied};
use crate::objects::version_id;
use crate::shortcut::shortly;
use crate::support::{from_bucket, signed};
use http::{HeaderMap, HeaderValue, StatusCode};
use larder_storage_buckets::{BucketError, Content, Version};
use s3s::dto::{ChecksumType, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use std::ops::Range;

/// Refuses what shall not be read, or needn't be.
fn check(conditions: &Conditions<'_>, version: &Version) -> S3Result<()> {
    match (conditions.is_another(version), conditions.is_known(version)) {
        (true, _) => Err(conditions::failed()),
        (false, true) => Err(not_modified(version)),
        (false, false) => Ok(()),
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
    let found = shortly(move || bucket.read(&owned, wanted.as_deref())).await;
    let (found, content): (_, Option<Content>) =
        match found.map_err(|error| s3_error!(error, InternalError))? {
            Ok((version, content)) => (Ok(version), Some(content)),
            Err(error) => (Err(error), None),
        };
    let version = readable(gate, found, key, id.as_deref())?;
    encryption::check(version.record.encryption.as_deref(), customer.as_ref())?;
    let content = content.ok_or_else(denied)?;
    Ok((version, Reading { content, key: customer, is_from_file: false }))
}

/// Whether a range is one of this version: `If-Range` may name another, of which the client has a part (RFC 9110, 13.1.5).
fn is_range_of(headers: &HeaderMap, version: &Version) -> bool {
    let Some(value) = headers.get("if-range") else { return true };
    let Ok(value) = value.to_str() else { return false };
    let is_its_date = || {
        let date = jiff::fmt::rfc2822::parse(value).ok();
        date.is_some_and(|date| date.timestamp().as_second() == version.modified.as_second())
    };
    value == format!("\"{}\"", version.etag) || is_its_date()
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

/// The client's key of a request for an encrypted object.
macro_rules! customer_key {
    ($input:expr) => {
        CustomerKey::parse(
            $input.sse_customer_algorithm.as_deref(),
            $input.sse_customer_key.as_deref(),
            $input.sse_customer_key_md5.as_deref(),
        )
    };
}

/// Checks the conditions of a request, and tells what part of the version it wants.
macro_rules! wanted {
    ($input:expr, $headers:expr, $version:expr) => {{
        let conditions = Conditions {
            matches: $input.if_match.as_ref(),
            none_matches: $input.if_none_match.as_ref(),
            modified_since: $input.if_modified_since.as_ref(),
            unmodified_since: $input.if_unmodified_since.as_ref(),
        };
        check(&conditions, $version)?;
        let range = $input.range.as_ref().filter(|_| is_range_of($headers, $version));
        wanted($version, range, $input.part_number)?
    }};
}

/// What get and head tell alike of a version.
macro_rules! told {
    ($output:ident, $gate:expr, $version:expr, $wanted:expr, $customer:expr, $input:expr) => {{
        let (version, wanted, customer): (&Version, &Wanted, Option<&CustomerKey>) =
            ($version, $wanted, $customer);
        let mut output = $output::default();
        show_version!(output, $gate, version);
        output.content_length = Some(signed(wanted.range.end - wanted.range.start));
        output.content_range = wanted.content_range(version.size);
        output.expiration = crate::lifecycle::expiration_header(&$gate.settings, version);
        output.parts_count = parts_count(version, wanted.part);
        output.sse_customer_algorithm = customer.map(|_| AES256.to_owned());
        output.sse_customer_key_md5 = customer.map(CustomerKey::md5);
        if $input.checksum_mode.is_some()
            && let Some((algorithm, value, kind)) = wanted.checksum(version)
        {
            show_checksum!(output, algorithm, value);
            output.checksum_type = Some(ChecksumType::from(kind));
        }
        output
    }};
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
    let customer = customer_key!(input)?;
    let id = version_id(input.version_id.as_ref());
    let (version, mut reading) = open(&gate, &input.key, id, customer.clone()).await?;
    reading.is_from_file = request.extensions.get::<TakesFiles>().is_some();
    let wanted = wanted!(input, &request.headers, &version);
    let mut output = told!(GetObjectOutput, &gate, &version, &wanted, customer.as_ref(), input);
    output.tag_count = i32::try_from(version.record.tags.len()).ok().filter(|count| *count > 0);
    let status = wanted.status();
    output.body = Some(reading.into_body(wanted.range).await?);
    Ok(S3Response::with_status(output, status))
}

pub(crate) async fn head(
    face: &Face,
    request: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    let input = &request.input;
    let customer = customer_key!(input)?;
    let id = version_id(input.version_id.as_ref());
    let (bucket, key, wanted_id) = (gate.bucket(), input.key.clone(), id.clone());
    let found = shortly(move || bucket.find(&key, wanted_id.as_deref())).await;
    let found = found.map_err(|error| s3_error!(error, InternalError))?;
    let version = readable(&gate, found, &input.key, id.as_deref())?;
    encryption::check(version.record.encryption.as_deref(), customer.as_ref())?;
    let wanted = wanted!(input, &request.headers, &version);
    let output = told!(HeadObjectOutput, &gate, &version, &wanted, customer.as_ref(), input);
    let mut response = S3Response::with_status(output, wanted.status());
    if !version.record.tags.is_empty() {
        response.headers.insert("x-amz-tagging-count", HeaderValue::from(version.record.tags.len()));
    }
    Ok(response)
}

fn parts_count(version: &Version, part: Option<usize>) -> Option<i32> {
    let count = i32::try_from(version.record.parts.len()).ok();
    count.filter(|_| part.is_some() && version.record.is_multipart)
}
