//! What a request must be before the protocol layer sees it, and what is put right in it.

use crate::authorization::Authorization;
use crate::limits::{MAX_HEADERS, Place};
use crate::support::custom;
use crate::unsigned;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, DATE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use s3s::{Body, S3Error, S3Result, s3_error};

/// A presigned request is good for at most a week.
const MAX_EXPIRY: u64 = 7 * 24 * 3600;
/// What an upload may have that doesn't tell its length.
const MAX_UNMEASURED: usize = 1 << 20;
/// What of an object a PUT may be about that is not the object itself.
const ATTRIBUTES: [&str; 4] = ["acl", "legal-hold", "retention", "tagging"];
/// SHA-256 of no bytes.
pub(crate) const HASH_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A request may be dated by `Date` alone, in either format.
pub(crate) fn add_date(headers: &mut HeaderMap) {
    if headers.contains_key("x-amz-date") || !headers.contains_key(AUTHORIZATION) {
        return;
    }
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    let date = date.map(|date| date.timestamp().strftime("%Y%m%dT%H%M%SZ").to_string());
    if let Some(date) = date.and_then(|date| HeaderValue::from_str(&date).ok()) {
        headers.insert("x-amz-date", date);
    }
}

/// What has no body needs no hash of it; some clients leave it out.
pub(crate) fn add_hash_of_nothing(request: &mut Request<Body>) {
    let has = |name: &str| request.headers().contains_key(name);
    let length = request.headers().get(CONTENT_LENGTH).map_or(b"0".as_slice(), HeaderValue::as_bytes);
    let has_body = length != b"0" || has("transfer-encoding");
    if has("authorization") && !has("x-amz-content-sha256") && !has_body {
        request.headers_mut().insert("x-amz-content-sha256", HeaderValue::from_static(HASH_OF_NOTHING));
    }
}

/// An upload of an object, by its method and path: its length must be told.
pub(crate) fn is_upload(request: &Request<Body>, in_host: bool) -> bool {
    let path = request.uri().path().trim_start_matches('/');
    let has_key =
        if in_host { !path.is_empty() } else { path.split_once('/').is_some_and(|(_, key)| !key.is_empty()) };
    let parts = request.uri().query().unwrap_or_default().split('&');
    let names_attribute = |part: &str| ATTRIBUTES.contains(&part.split('=').next().unwrap_or_default());
    request.method() == Method::PUT
        && has_key
        && !parts.into_iter().any(names_attribute)
        && !request.headers().contains_key("x-amz-copy-source")
}

/// A small upload in chunks that doesn't tell its length is given one; a large one is refused by the protocol layer.
pub(crate) async fn measured(
    mut request: Request<Body>,
    in_host: bool,
    place: &Place,
) -> S3Result<Request<Body>> {
    let has = |name: &str| request.headers().contains_key(name);
    if !is_upload(&request, in_host) || !has("transfer-encoding") || has("x-amz-decoded-content-length") {
        return Ok(request);
    }
    place.as_unknown()?;
    let body = std::mem::take(request.body_mut());
    let collected = Limited::new(body, MAX_UNMEASURED).collect().await;
    let bytes = collected
        .map_err(|_| s3_error!(MissingContentLength, "You must provide the Content-Length HTTP header."))?
        .to_bytes();
    request.headers_mut().remove("transfer-encoding");
    request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    *request.body_mut() = Body::from(bytes);
    Ok(request)
}

/// Who a request says it comes from, before that is verified.
pub(crate) fn claimed_key(request: &Request<Body>) -> String {
    if let Some(authorization) = Authorization::of(request.headers()) {
        return authorization.key.to_owned();
    }
    let credential = in_query(request, "X-Amz-Credential").unwrap_or_default();
    credential.split('/').next().unwrap_or_default().to_owned()
}

/// The value of a parameter in the query, both decoded: a name may be encoded, too.
fn in_query<B>(request: &Request<B>, wanted: &str) -> Option<String> {
    let pairs = request.uri().query()?.split('&');
    let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let is_wanted = |name: &str| *urlencoding::decode_binary(name.as_bytes()) == *wanted.as_bytes();
    let (_, value) = pairs.find(|(name, _)| is_wanted(name))?;
    Some(String::from_utf8_lossy(&urlencoding::decode_binary(value.as_bytes())).into_owned())
}

/// Whether a request says that it is signed.
pub(crate) fn is_signed<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(AUTHORIZATION) || in_query(request, "X-Amz-Signature").is_some()
}

/// What is refused before the protocol layer sees it.
pub(crate) fn refusal(request: &Request<Body>, in_host: bool) -> Option<S3Error> {
    let has = |name: &str| request.headers().contains_key(name);
    let size: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if size > MAX_HEADERS {
        let message = "Your request header section exceeds the maximum allowed size.";
        return Some(custom("RequestHeaderSectionTooLarge", StatusCode::BAD_REQUEST, message));
    }
    if is_upload(request, in_host) && !has("content-length") && !has("transfer-encoding") {
        return Some(s3_error!(MissingContentLength, "You must provide the Content-Length HTTP header."));
    }
    if request.headers().get("content-md5").is_some_and(HeaderValue::is_empty) {
        return Some(s3_error!(InvalidDigest, "The Content-MD5 you specified is not valid."));
    }
    let value = |name: &str| in_query(request, name);
    if Authorization::is_malformed(request.headers()) || value("Signature").is_some() {
        return Some(s3_error!(
            InvalidRequest,
            "The authorization mechanism you have provided is not supported, or malformed. Please use AWS4-HMAC-SHA256."
        ));
    }
    if has("authorization") && value("X-Amz-Signature").is_some() {
        return Some(s3_error!(
            InvalidArgument,
            "Only one auth mechanism allowed: a signature is in the header Authorization or in the query."
        ));
    }
    if value("allow-unordered").is_some_and(|wanted| wanted == "true")
        && value("delimiter").is_some_and(|d| !d.is_empty())
    {
        return Some(s3_error!(InvalidArgument, "a list without order can't have a delimiter"));
    }
    value("X-Amz-Expires")
        .and_then(|expires| too_long(&expires))
        .or_else(|| unsigned::headers(request))
        .or_else(|| unsigned::chunks(request))
}

/// What a presigned request is told that wants to be good for longer than a week, or for no number of seconds.
fn too_long(expires: &str) -> Option<S3Error> {
    let refuse =
        |message: &str| Some(custom("AuthorizationQueryParametersError", StatusCode::FORBIDDEN, message));
    match expires.parse::<u64>() {
        Err(_) => refuse("X-Amz-Expires should be a non-negative number"),
        Ok(seconds) if seconds > MAX_EXPIRY => refuse(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds",
        ),
        Ok(_) => None,
    }
}
