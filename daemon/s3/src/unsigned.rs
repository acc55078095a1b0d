//! What came with a request that nobody signed, and is not to count as if somebody had.

use crate::authorization::{Authorization, is_among};
use http::header::{CONTENT_ENCODING, HeaderName};
use http::{HeaderValue, Request};
use s3s::{S3Error, S3ErrorCode, s3_error};
use std::borrow::Cow;

/// Headers that a signature covers without naming them: its time and the hash of the body are part of it.
const COVERED: [&str; 2] = ["x-amz-content-sha256", "x-amz-date"];

/// The headers that a presigned request signs, separated by semicolons.
fn named_by_query<B>(request: &Request<B>) -> Option<String> {
    let mut pairs = request.uri().query()?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, names) =
        pairs.find(|(name, _)| urlencoding::decode(name).is_ok_and(|name| name == "X-Amz-SignedHeaders"))?;
    urlencoding::decode(names).ok().map(Cow::into_owned)
}

/// Refuses headers of the protocol that are not signed in a request that is: whoever has a presigned link could make another
/// request of it with them, such as a copy of what the signer may read. As AWS does.
pub(crate) fn headers<B>(request: &Request<B>) -> Option<S3Error> {
    let counts = |name: &&str| name.starts_with("x-amz-") && !COVERED.contains(name);
    let by_header = Authorization::of(request.headers()).map(|found| found.headers.to_owned());
    [by_header, named_by_query(request)].into_iter().flatten().find_map(|names| {
        let mut present = request.headers().keys().map(HeaderName::as_str).filter(counts);
        let unsigned = present.find(|name| !is_among(&names, name))?;
        let message = format!("There were headers present in the request which were not signed: {unsigned}");
        Some(S3Error::with_message(S3ErrorCode::AccessDenied, message))
    })
}

/// Refuses a body in chunks where the protocol layer takes it for the object itself: it only looks at the chunks of requests
/// that are signed by header.
pub(crate) fn chunks<B>(request: &Request<B>) -> Option<S3Error> {
    let is_chunked = |encoding: &HeaderValue| {
        let mut encodings = encoding.as_bytes().split(|byte| *byte == b',');
        encodings.any(|one| one.trim_ascii().eq_ignore_ascii_case(b"aws-chunked"))
    };
    let is_in_chunks = crate::chunks::is_signed(request.headers()).is_some()
        || request.headers().contains_key("x-amz-decoded-content-length")
        || request.headers().get_all(CONTENT_ENCODING).iter().any(is_chunked);
    (is_in_chunks && Authorization::of(request.headers()).is_none()).then(|| {
        s3_error!(
            NotImplemented,
            "A body in chunks (aws-chunked) is taken only from a request that is signed by header"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNED: &str =
        "AWS4-HMAC-SHA256 Credential=K/20260101/r/s3/aws4_request, SignedHeaders=host;x-amz-acl, Signature=0";

    fn request(target: &str, headers: &[(&str, &str)]) -> Request<()> {
        let request = Request::builder().method("PUT").uri(target);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
    }

    #[test]
    fn headers_of_the_protocol_must_be_signed_where_anything_is() {
        let link = "/b/k?X-Amz-SignedHeaders=host%3Bx-amz-acl&X-Amz-Signature=0";
        let odd = "/b/k?X-Amz-Signature=0&X%2DAmz-SignedHeaders=host";
        for (target, headers, is_taken) in [
            ("/b/k", &[("x-amz-acl", "private")][..], true),
            ("/b/k", &[("authorization", SIGNED), ("x-amz-acl", "private"), ("x-amz-date", "1")], true),
            ("/b/k", &[("authorization", SIGNED), ("x-amz-copy-source", "/other/key")], false),
            (
                link,
                &[("x-amz-acl", "private"), ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), ("range", "1")],
                true,
            ),
            (link, &[("x-amz-copy-source", "/other/key")], false),
            (odd, &[("X-Amz-Bypass-Governance-Retention", "true")], false),
            (odd, &[("x-amzn-trace-id", "1")], true),
            // Names that did not come, or in another case, are no part of what is verified.
            (
                "/b/k",
                &[
                    ("authorization", &SIGNED.replace("x-amz-acl", "X-Amz-Copy-Source")),
                    ("x-amz-copy-source", "/o/k"),
                ],
                false,
            ),
        ] {
            assert_eq!(super::headers(&request(target, headers)).is_none(), is_taken, "{target} {headers:?}");
        }
    }

    #[test]
    fn chunks_are_taken_only_where_they_are_looked_at() {
        let link = "/b/k?X-Amz-SignedHeaders=host&X-Amz-Signature=0";
        for headers in [
            [("content-encoding", "gzip, AWS-chunked")],
            [("x-amz-decoded-content-length", "1")],
            [("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")],
        ] {
            for target in ["/b/k", link] {
                assert!(chunks(&request(target, &headers)).is_some(), "{target} {headers:?}");
            }
            let signed = request("/b/k", &[headers[0], ("authorization", SIGNED)]);
            assert!(chunks(&signed).is_none(), "{headers:?}");
        }
        assert!(chunks(&request("/b/k", &[("content-encoding", "gzip")])).is_none());
    }
}
