//! The envelope every JSON answer comes in.

use super::{ApiPath, ClientError, Operation};
use http::{Method, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;

/// Something that was read.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The object or list.
    pub metadata: Value,
    /// What to send back with a change, so that nobody else's change is overwritten.
    pub etag: Option<String>,
}

/// How the server answered a change.
#[derive(Debug)]
pub enum Change {
    /// It is done.
    Done {
        /// What the server tells about it; often `{}` or null.
        metadata: Value,
    },
    /// It has begun; follow it with [`super::Client::follow`].
    Started(Box<Operation>),
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    metadata: Value,
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_code: u16,
}

async fn envelope(path: &ApiPath, response: Response<Incoming>) -> Result<Envelope, ClientError> {
    let status = response.status();
    let bytes = response.into_body().collect().await?.to_bytes();
    let refused = |status: u16, message: String| {
        let message = if message.is_empty() { format!("the server answered {status}") } else { message };
        ClientError::Refused { status, message, path: path.path().to_owned() }
    };
    match serde_json::from_slice::<Envelope>(&bytes) {
        Ok(envelope) if envelope.kind == "error" => {
            let code = if envelope.error_code == 0 { status.as_u16() } else { envelope.error_code };
            Err(refused(code, envelope.error))
        }
        Ok(envelope) if status.is_success() => Ok(envelope),
        Ok(envelope) => Err(refused(status.as_u16(), envelope.error)),
        Err(_) if !status.is_success() => {
            Err(refused(status.as_u16(), String::from_utf8_lossy(&bytes).trim().to_owned()))
        }
        Err(error) => Err(ClientError::Protocol(format!("{}: {error}", path.path()))),
    }
}

pub(super) async fn fetched(
    method: &Method,
    path: &ApiPath,
    response: Response<Incoming>,
) -> Result<Fetched, ClientError> {
    let etag = response.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
    let envelope = envelope(path, response).await?;
    if envelope.kind != "sync" {
        let kind = envelope.kind;
        return Err(ClientError::Protocol(format!("{method} {}: an answer of type {kind:?}", path.path())));
    }
    Ok(Fetched { metadata: envelope.metadata, etag })
}

pub(super) async fn change(
    method: &Method,
    path: &ApiPath,
    response: Response<Incoming>,
) -> Result<Change, ClientError> {
    let envelope = envelope(path, response).await?;
    match envelope.kind.as_str() {
        "sync" => Ok(Change::Done { metadata: envelope.metadata }),
        "async" => Ok(Change::Started(Box::new(Operation::read(envelope.metadata)?))),
        kind => Err(ClientError::Protocol(format!("{method} {}: an answer of type {kind:?}", path.path()))),
    }
}

/// An answer that isn't an envelope unless it is an error.
pub(super) async fn checked(
    method: &Method,
    path: &ApiPath,
    response: Response<Incoming>,
) -> Result<Response<Incoming>, ClientError> {
    if response.status().is_success() {
        return Ok(response);
    }
    match envelope(path, response).await {
        Err(error) => Err(error),
        Ok(_) => Err(ClientError::Protocol(format!("{method} {}", path.path()))),
    }
}
