//! What every handler is written with: the shared state, request bodies, and the bridge to blocking use-cases.

pub(crate) use super::reply::{accepted, created, created_with, done, download, sync, sync_with_etag};

use super::reply::etag_of;
use super::{ApiError, Query, Reply, filter};
use crate::events::Events;
use crate::operations::{NewOperation, Operation, Operations, Outcome};
use crate::service::{Kind, Result as ServiceResult, Service, ServiceError, Task};
use axum::body::{Body as HttpBody, BodyDataStream, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::StreamExt;
use larder_api::Metadata;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

/// How large a JSON body may be.
const BODY_LIMIT: usize = 4 << 20;

/// What handlers share; cloning shares it.
#[derive(Debug, Clone)]
pub struct App {
    /// The use-cases.
    pub service: Arc<Service>,
    /// Asynchronous changes.
    pub operations: Operations,
    /// What happens.
    pub events: Events,
    /// Told when a client asks the daemon to stop.
    pub stop: Arc<Notify>,
}

/// Runs a use-case on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Service) -> ServiceResult<T> + Send + 'static,
) -> Result<T, ApiError> {
    let service = Arc::clone(&app.service);
    let ended = larder_s3::blocking::blocking(move || work(&service)).await;
    let panicked = |_| ServiceError::internal("the request panicked: see the daemon's log");
    Ok(ended.map_err(panicked)??)
}

/// Starts a use-case as an operation about one thing.
pub(crate) fn start<T: Into<Outcome> + 'static>(
    app: &App,
    query: &Query,
    description: &str,
    kind: &str,
    url: &str,
    work: impl FnOnce(&Service, &Task) -> ServiceResult<T> + Send + 'static,
) -> Result<Arc<Operation>, ApiError> {
    Ok(app.operations.start(&app.service, about(query, description, kind, url), work)?)
}

/// What is told of an operation about one thing.
pub(crate) fn about(query: &Query, description: &str, kind: &str, url: &str) -> NewOperation {
    NewOperation {
        description: description.to_owned(),
        project: query.project.clone(),
        resources: BTreeMap::from([(kind.to_owned(), vec![url.to_owned()])]),
        metadata: Metadata::from_iter([("entity_url".to_owned(), Value::String(url.to_owned()))]),
        requestor: query.requestor.clone(),
    }
}

/// A list: URLs, or objects with recursion; either way only what the filter leaves.
pub(crate) fn list<T: Serialize>(query: &Query, items: Vec<T>, url: impl Fn(&T) -> String) -> Reply {
    let items = filter::select(&query.filter, items)?;
    if query.recursion > 0 {
        return sync(&items);
    }
    sync(&items.iter().map(url).collect::<Vec<_>>())
}

/// Reads a JSON body; the error names the field that is wrong.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> ServiceResult<T> {
    let refuse = |error: &dyn std::fmt::Display| ServiceError::bad(format!("invalid request body: {error}"));
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| refuse(&error))?;
    reader.end().map_err(|error| refuse(&error))?;
    Ok(value)
}

/// A JSON body.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync + Send> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Upload::from_request(request, state).await?.bounded().await?;
        Ok(Self(parse(&bytes)?))
    }
}

/// A change of some keys: what is not named stays.
pub(crate) type Patch = larder_api::ConfigPatch;

/// A body that may be large: read whole within bounds, or written to a file as it comes.
#[derive(Debug)]
pub(crate) struct Upload {
    stream: BodyDataStream,
}

impl<S: Sync> FromRequest<S> for Upload {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        Ok(Self { stream: HttpBody::into_data_stream(request.into_body()) })
    }
}

impl Upload {
    /// All of it, at most 4 MiB.
    pub(crate) async fn bounded(mut self) -> Result<Bytes, ApiError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.stream.next().await {
            let chunk = chunk.map_err(|error| broken(&error))?;
            if bytes.len() + chunk.len() > BODY_LIMIT {
                let message = format!("the request body is too large: at most {} MiB", BODY_LIMIT >> 20);
                return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    }

    /// Writes all of it to a new file in `folder`, which goes when what is returned is dropped.
    pub(crate) async fn spooled(mut self, folder: &Path) -> Result<Spooled, ApiError> {
        let spooled = Spooled { path: folder.join(format!("upload-{}", uuid::Uuid::new_v4().simple())) };
        let failed =
            |error: std::io::Error| ServiceError::internal(format!("the upload can't be stored: {error}"));
        let mut file = tokio::fs::OpenOptions::new();
        let mut file =
            file.write(true).create_new(true).mode(0o600).open(&spooled.path).await.map_err(failed)?;
        while let Some(chunk) = self.stream.next().await {
            let chunk = chunk.map_err(|error| broken(&error))?;
            file.write_all(&chunk).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        Ok(spooled)
    }
}

fn broken(error: &axum::Error) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, format!("the request body broke off: {error}"))
}

/// An uploaded file, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Spooled {
    path: PathBuf,
}

impl Spooled {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(file = %self.path.display(), %error, "an uploaded file stays behind");
        }
    }
}

/// Whether a body is bytes and not JSON.
pub(crate) fn is_octet_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/octet-stream")
}

/// The value of `X-LXD-<name>` or `X-Incus-<name>`, whichever family of clients asks.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let of = |family: &str| headers.get(format!("x-{family}-{name}")).and_then(|value| value.to_str().ok());
    of("lxd").or_else(|| of("incus")).filter(|value| !value.is_empty())
}

/// `If-Match`, without its quotes.
#[derive(Debug)]
pub(crate) struct Matched(Option<String>);

impl<S: Sync> FromRequestParts<S> for Matched {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let value = parts.headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok());
        let value = value.map(|value| value.trim_start_matches("W/").trim_matches('"').to_owned());
        Ok(Self(value.filter(|value| !value.is_empty() && value != "*")))
    }
}

/// Refuses a change made from a state that is no longer so.
pub(crate) fn matched(guard: &Matched, fields: &Value) -> ServiceResult<()> {
    match &guard.0 {
        Some(wanted) if *wanted != etag_of(fields) => Err(ServiceError {
            kind: Kind::Changed,
            message: "the ETag does not match: it was changed since it was read, so read it again and repeat"
                .to_owned(),
        }),
        _ => Ok(()),
    }
}
