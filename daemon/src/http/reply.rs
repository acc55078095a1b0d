//! Answers: the envelope, and errors in it.

use crate::operations::{Operation, status_of};
use crate::service::ServiceError;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use larder_api::Response as Envelope;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// How much of a file is read at once.
const CHUNK: usize = 256 << 10;

/// What a handler answers.
pub(crate) type Reply = Result<Response, ApiError>;

/// A refusal or a failure, with its HTTP status.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        let status = StatusCode::from_u16(status_of(error.kind)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, message: error.message }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        json(self.status, &Envelope::error(self.status.as_u16(), self.message))
    }
}

fn json<T: Serialize>(status: StatusCode, envelope: &Envelope<T>) -> Response {
    let mut bytes = match serde_json::to_vec(envelope) {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(%error, "an answer can't be written");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    bytes.push(b'\n');
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (status, headers, bytes).into_response()
}

/// Done, with a result.
pub(crate) fn sync<T: Serialize>(metadata: &T) -> Reply {
    Ok(json(StatusCode::OK, &Envelope::sync(metadata)))
}

/// The same with an ETag over the fields that a change must not have lost.
pub(crate) fn sync_with_etag<T: Serialize>(metadata: &T, fields: &Value) -> Reply {
    let mut response = sync(metadata)?;
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", etag_of(fields))) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

/// SHA-256 over the JSON text of the fields and a newline, as the peers do.
pub(crate) fn etag_of(fields: &Value) -> String {
    hex::encode(Sha256::digest(format!("{fields}\n")))
}

/// Done, nothing to say.
pub(crate) fn done() -> Reply {
    sync(&Value::Object(serde_json::Map::new()))
}

/// Made, at `location`.
pub(crate) fn created(location: &str) -> Reply {
    created_with(location, &Value::Object(serde_json::Map::new()))
}

/// Made, at `location`, with what only the maker is told.
pub(crate) fn created_with<T: Serialize>(location: &str, metadata: &T) -> Reply {
    let mut response = json(StatusCode::CREATED, &Envelope::sync(metadata));
    locate(&mut response, location);
    Ok(response)
}

/// Begun, as an operation.
pub(crate) fn accepted(operation: &Operation) -> Reply {
    let url = operation.url();
    let mut response = json(StatusCode::ACCEPTED, &Envelope::operation_created(&url, operation.wire()));
    locate(&mut response, &url);
    Ok(response)
}

fn locate(response: &mut Response, location: &str) {
    if let Ok(value) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, value);
    }
}

/// A file's bytes from its beginning.
pub(crate) fn file_body(file: std::fs::File) -> Body {
    let file = tokio::fs::File::from_std(file);
    Body::from_stream(tokio_util::io::ReaderStream::with_capacity(file, CHUNK))
}

/// A file for download.
pub(crate) fn download(body: Body, length: Option<u64>, name: &str) -> Reply {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let quoted: String = name.chars().filter(|c| !c.is_control() && *c != '"' && c.is_ascii()).collect();
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{quoted}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok((headers, body).into_response())
}
