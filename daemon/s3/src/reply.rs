//! What every answer has beside what its operation says: request ids, and errors as AWS spells them.

use crate::traffic::ErrorCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use s3s::{Body, S3Error, s3_error};

/// Documents that are read whole: deletions of 1,000 keys, lists of 10,000 parts.
pub(crate) const MAX_DOCUMENT: usize = 4 << 20;
/// The same where nobody has signed the request: it is read before anybody is let in (bytes).
pub(crate) const MAX_UNSIGNED_DOCUMENT: usize = 256 << 10;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
const HOST_ID: HeaderName = HeaderName::from_static("x-amz-id-2");
/// Errors are small documents.
const MAX_ERROR: usize = 64 * 1024;

pub(crate) fn rendered(error: S3Error) -> Response<Body> {
    let status = error.status_code().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    error.to_http_response().unwrap_or_else(|_| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        response
    })
}

pub(crate) fn names_attributes(query: Option<&str>) -> bool {
    query.unwrap_or_default().split('&').any(|pair| pair == "attributes" || pair.starts_with("attributes="))
}

/// Attributes show an ETag without quotes, unlike everything else; the protocol layer has one way of writing them.
pub(crate) async fn plain_etag(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let bytes = match Limited::new(body, MAX_DOCUMENT).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => {
            tracing::error!(error = &*error as &dyn std::error::Error, "attributes could not be written");
            return rendered(s3_error!(InternalError));
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    let text = text.replace("<ETag>&quot;", "<ETag>").replace("&quot;</ETag>", "</ETag>");
    let text = text.replace("<ETag>\"", "<ETag>").replace("\"</ETag>", "</ETag>");
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    Response::from_parts(parts, Body::from(bytes::Bytes::from(text)))
}

/// Names the request; an error says its resource and id too.
pub(crate) async fn finished(
    response: Response<Body>,
    id: &str,
    resource: &str,
    method: &Method,
) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if let Ok(value) = HeaderValue::from_str(id) {
        parts.headers.insert(REQUEST_ID, value.clone());
        parts.headers.insert(HOST_ID, value);
    }
    if parts.status == StatusCode::NOT_MODIFIED || (*method == Method::HEAD && parts.status.as_u16() >= 400) {
        parts.headers.remove(CONTENT_TYPE);
        parts.headers.remove(CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    if parts.status.as_u16() < 400 {
        return Response::from_parts(parts, body);
    }
    let bytes = match Limited::new(body, MAX_ERROR).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(_) => return Response::from_parts(parts, Body::empty()),
    };
    let text = String::from_utf8_lossy(&bytes);
    if parts.status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(request = id, resource, answer = %text, "a request failed, and not for a fault of the client's");
    }
    if let Some(code) = code_in(&text) {
        parts.extensions.insert(ErrorCode(code.to_owned()));
    }
    let resource = resource.replace('&', "&amp;").replace('<', "&lt;");
    let more =
        format!("<Resource>{resource}</Resource><RequestId>{id}</RequestId><HostId>{id}</HostId></Error>");
    let text = text.replace("</Error>", &more);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    Response::from_parts(parts, Body::from(bytes::Bytes::from(text)))
}

/// The code of an error's document.
fn code_in(text: &str) -> Option<&str> {
    text.split_once("<Code>")?.1.split_once("</Code>").map(|(code, _)| code)
}
