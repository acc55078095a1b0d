//! Taking a request's body in: hashed, checked, encrypted, into a blob that is complete or not there at all.

use crate::checksum::{Algorithm, Hasher};
use crate::encryption::CustomerKey;
use crate::limits::MAX_PUT;
use crate::support::{blocking, custom, from_bucket};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::StreamExt;
use http::HeaderMap;
use larder_storage_buckets::{Bucket, Incoming, Staged};
use md5::{Digest, Md5};
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders, s3_error};
use std::sync::Arc;

/// What is gathered before it is hashed and written at once.
const CHUNK: usize = 256 * 1024;
/// What comes at once goes a little beyond that.
const SPARE: usize = 64 * 1024;

/// After so many bytes of an upload it is asked whether there still is room for it.
const BETWEEN_LOOKS: u64 = 64 << 20;

/// What a request says of its body.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) length: Option<i64>,
    pub(crate) md5: Option<String>,
    /// The checksum whose value the request gives.
    pub(crate) checksum: Option<(Algorithm, String)>,
    /// The algorithm it names without a value: the value may come in a trailer.
    pub(crate) algorithm: Option<Algorithm>,
    /// Whether it announces a checksum in a trailer, which must come then.
    pub(crate) is_trailing: bool,
    pub(crate) trailers: Option<TrailingHeaders>,
    pub(crate) key: Option<CustomerKey>,
    /// The least and most bytes that a POST policy allows.
    pub(crate) most: Option<u64>,
}

/// A body that came in and is what it was said to be.
pub(crate) struct Ingested {
    pub(crate) staged: Staged,
    pub(crate) checksum: Option<(Algorithm, String)>,
}

impl Expected {
    /// The checksum that shall come in a trailer.
    pub(crate) fn announced(headers: &HeaderMap) -> Option<Algorithm> {
        let trailer = headers.get("x-amz-trailer")?.to_str().ok()?;
        Algorithm::ALL
            .into_iter()
            .find(|known| trailer.split(',').any(|name| name.trim().eq_ignore_ascii_case(&known.header())))
    }

    /// What the headers name beside the typed fields: an algorithm, a trailer.
    pub(crate) fn algorithm_of(headers: &HeaderMap) -> S3Result<Option<Algorithm>> {
        if let Some(announced) = Self::announced(headers) {
            return Ok(Some(announced));
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let named = text("x-amz-sdk-checksum-algorithm").or_else(|| text("x-amz-checksum-algorithm"));
        named.map(Algorithm::parse).transpose()
    }
}

struct Sink {
    incoming: Incoming,
    hasher: Option<Hasher>,
    /// The MD5 of what the client sent, where what is stored is encrypted.
    plain: Option<Md5>,
    key: Option<CustomerKey>,
}

impl Sink {
    fn take(&mut self, bytes: &mut [u8]) -> S3Result<()> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        if let Some(plain) = &mut self.plain {
            plain.update(&*bytes);
        }
        if let Some(key) = &self.key {
            key.apply(self.incoming.id(), self.incoming.size(), bytes)?;
        }
        self.incoming.write(bytes).map_err(from_bucket)
    }

    /// Takes what was gathered, which is empty afterwards: little at once, much where it may block.
    fn absorb(&mut self, gathered: &mut Vec<u8>) -> S3Result<()> {
        match self.incoming.stays_in_memory(gathered.len()) {
            true => self.take(gathered)?,
            false => tokio::task::block_in_place(|| self.take(gathered))?,
        }
        gathered.clear();
        Ok(())
    }
}

/// Takes a body in. Fails, leaving nothing, when it isn't what was said.
pub(crate) async fn ingest(
    bucket: Arc<Bucket>,
    body: Option<StreamingBlob>,
    expected: Expected,
) -> S3Result<Ingested> {
    if expected.is_trailing && expected.checksum.is_some() {
        return Err(s3_error!(
            InvalidRequest,
            "Expecting a single checksum: in a header, or in the trailer that x-amz-trailer announces"
        ));
    }
    let length = expected.length.and_then(|length| u64::try_from(length).ok());
    let most = expected.most.unwrap_or(u64::MAX).min(MAX_PUT.unsigned_abs());
    let (room, mut next_look) = (Arc::clone(&bucket), BETWEEN_LOOKS);
    let incoming = match bucket.receive_at_once(length.unwrap_or(0)) {
        Some(incoming) => incoming,
        None => blocking(move || bucket.receive(length.unwrap_or(0))).await?,
    };
    let algorithm = expected.checksum.as_ref().map(|(algorithm, _)| *algorithm).or(expected.algorithm);
    let plain = (expected.key.is_some() && expected.md5.is_some()).then(Md5::new);
    let mut sink = Sink { incoming, hasher: algorithm.map(Hasher::new), plain, key: expected.key.clone() };
    let expects = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(CHUNK);
    let mut gathered = Vec::with_capacity(expects.min(CHUNK + SPARE));
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await.transpose().map_err(from_stream)? {
            gathered.extend_from_slice(&chunk);
            let came = sink.incoming.size() + gathered.len() as u64;
            if came > most {
                return Err(s3_error!(
                    EntityTooLarge,
                    "Your proposed upload exceeds the maximum allowed size"
                ));
            }
            if gathered.len() >= CHUNK {
                sink.absorb(&mut gathered)?;
            }
            // Others write too, and not everybody said how much would come.
            if came >= next_look {
                let room = Arc::clone(&room);
                blocking(move || room.must_have_room_beside(came)).await?;
                next_look = came + BETWEEN_LOOKS;
            }
        }
    }
    sink.absorb(&mut gathered)?;
    check(sink, &expected, length)
}

/// Errors of the signed body's own checks, which the protocol layer tells by their names only.
fn from_stream(error: s3s::StdError) -> S3Error {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") {
        return custom(
            "XAmzContentSHA256Mismatch",
            http::StatusCode::BAD_REQUEST,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        );
    }
    let code = if text.contains("SignatureMismatch") {
        S3ErrorCode::SignatureDoesNotMatch
    } else {
        S3ErrorCode::IncompleteBody
    };
    let mut refused = S3Error::with_source(code, error);
    refused.set_message(text);
    refused
}

fn check(sink: Sink, expected: &Expected, length: Option<u64>) -> S3Result<Ingested> {
    if length.is_some_and(|length| length != sink.incoming.size()) {
        return Err(s3_error!(IncompleteBody, "The body has not the length that was announced"));
    }
    let checksum = sink.hasher.map(Hasher::finish);
    let plain = sink.plain.map(|plain| hex::encode(plain.finalize()));
    let staged = sink.incoming.finish();
    if let Some(md5) = &expected.md5 {
        let given = BASE64_STANDARD.decode(md5).ok().filter(|bytes| bytes.len() == 16);
        let given =
            given.ok_or_else(|| s3_error!(InvalidDigest, "The Content-MD5 you specified is not valid."))?;
        if hex::encode(given) != *plain.as_ref().unwrap_or(&staged.part().md5) {
            return Err(s3_error!(
                BadDigest,
                "The Content-MD5 you specified did not match what we received."
            ));
        }
    }
    let trailing = trailing(expected.trailers.as_ref());
    if expected.is_trailing && trailing.is_none() {
        return Err(custom(
            "MalformedTrailerError",
            http::StatusCode::BAD_REQUEST,
            "The checksum that x-amz-trailer announces did not come behind the body.",
        ));
    }
    let given = expected.checksum.clone().or(trailing);
    if let (Some((named, value)), Some((_, computed))) = (given, &checksum)
        && value != *computed
    {
        let name = named.as_str();
        return Err(s3_error!(BadDigest, "The {name} you specified did not match the calculated checksum."));
    }
    Ok(Ingested { staged, checksum })
}

fn trailing(trailers: Option<&TrailingHeaders>) -> Option<(Algorithm, String)> {
    let found = trailers?.read(|headers| {
        Algorithm::ALL.into_iter().find_map(|algorithm| {
            let value = headers.get(algorithm.header())?.to_str().ok()?;
            Some((algorithm, value.to_owned()))
        })
    });
    found.flatten()
}
