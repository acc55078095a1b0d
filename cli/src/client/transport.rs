//! HTTP/1.1 and websockets over a unix socket.

use super::{Body, ClientError};
use http::{HeaderMap, Method, Request, Response, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;

/// An open websocket.
pub type Socket = WebSocketStream<UnixStream>;

/// Where a line about each request goes.
#[derive(Clone)]
pub struct Trace(Arc<dyn Fn(&str) + Send + Sync>);

impl Trace {
    /// Hands each line to `sink`.
    pub fn to(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    pub(super) fn line(&self, text: &str) {
        (self.0)(text);
    }
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Trace")
    }
}

/// The host of every URL; the peers' servers don't look at it, proxies in between may.
const HOST: &str = "unix.socket";

async fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    UnixStream::connect(socket).await.map_err(|source| {
        let socket = socket.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { socket, source }
            }
            io::ErrorKind::PermissionDenied => ClientError::NoPermission { socket, source },
            _ => ClientError::Connect { socket, source },
        }
    })
}

pub(super) async fn send(
    socket: &Path,
    method: &Method,
    target: &str,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Incoming>, ClientError> {
    let stream = connect(socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // The connection ends when the answer has been read; an error on it also comes out of the request.
    tokio::spawn(connection);
    let mut builder = Request::builder().method(method).uri(target).header(header::HOST, HOST);
    builder = builder.header(header::USER_AGENT, concat!("larder/", env!("CARGO_PKG_VERSION")));
    if let Some(length) = body.length {
        builder = builder.header(header::CONTENT_LENGTH, length);
    }
    for (name, value) in &headers {
        builder = builder.header(name, value);
    }
    Ok(sender.send_request(builder.body(body.inner)?).await?)
}

pub(super) async fn websocket(socket: &Path, target: &str) -> Result<Socket, ClientError> {
    use tokio_tungstenite::tungstenite::{Error, client::IntoClientRequest};
    let stream = connect(socket).await?;
    let request = format!("ws://{HOST}{target}").into_client_request()?;
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((websocket, _)) => Ok(websocket),
        Err(Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            let message = serde_json::from_slice::<serde_json::Value>(body)
                .ok()
                .and_then(|envelope| envelope["error"].as_str().map(str::to_owned))
                .unwrap_or_else(|| format!("the server answered {}", response.status()));
            let path = target.split('?').next().unwrap_or_default().to_owned();
            Err(ClientError::Refused { status: response.status().as_u16(), message, path })
        }
        Err(error) => Err(error.into()),
    }
}
