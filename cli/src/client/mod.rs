//! The client library: everything needed to talk to a Larder, LXD or Incus server over its unix socket.
//!
//! Start at [`Client`]. Nothing here prints, reads the environment or looks at a configuration file.
//!
//! ```no_run
//! # async fn example() -> Result<(), larder_client::client::ClientError> {
//! use larder_client::client::{ApiPath, Client};
//! let client = Client::new("/var/lib/larder/unix.socket");
//! let pools = client.get(&ApiPath::of(["storage-pools"]).query("recursion", "1")).await?;
//! # Ok(())
//! # }
//! ```

mod body;
mod error;
mod operation;
mod path;
mod reply;
mod transport;

pub use body::{Body, Part};
pub use error::ClientError;
pub use operation::{Events, Operation, Watcher, Wish};
pub use path::ApiPath;
pub use reply::{Change, Fetched};
pub use transport::{Socket, Trace};

use http::{HeaderMap, Method, Response, header};
use hyper::body::Incoming;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tokio::sync::OnceCell;

/// A server behind a unix socket. Each request is a connection of its own, so one client may be used for
/// several requests at the same time.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    project: Option<String>,
    trace: Option<Trace>,
    server: OnceCell<Value>,
}

impl Client {
    /// A client for the server that listens on `socket`. Nothing is connected yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), project: None, trace: None, server: OnceCell::new() }
    }

    /// Adds `project` to every request that doesn't name one itself.
    #[must_use]
    pub fn with_project(mut self, project: Option<String>) -> Self {
        self.project = project;
        self
    }

    /// Hands one line about each request and answer to `trace`.
    #[must_use]
    pub fn with_trace(mut self, trace: Option<Trace>) -> Self {
        self.trace = trace;
        self
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The project requests are made in, when one was chosen.
    pub fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// What the server says about itself; asked for once.
    pub async fn server(&self) -> Result<&Value, ClientError> {
        self.server.get_or_try_init(|| async { Ok(self.get(&ApiPath::root()).await?.metadata) }).await
    }

    /// Whether the server advertises an API extension.
    pub async fn has_extension(&self, name: &str) -> Result<bool, ClientError> {
        let extensions = &self.server().await?["api_extensions"];
        Ok(extensions.as_array().is_some_and(|list| list.iter().any(|known| known == name)))
    }

    /// Reads one object or list.
    pub async fn get(&self, path: &ApiPath) -> Result<Fetched, ClientError> {
        let response = self.send(Method::GET, path, HeaderMap::new(), Body::empty()).await?;
        reply::fetched(&Method::GET, path, response).await
    }

    /// Sends a changing request with a JSON body. With an `etag` the server refuses it (412) when the object
    /// is no longer the one that was read.
    pub async fn change(
        &self,
        method: Method,
        path: &ApiPath,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<Change, ClientError> {
        let mut headers = HeaderMap::new();
        if let Some(etag) = etag.and_then(|etag| etag.parse().ok()) {
            headers.insert(header::IF_MATCH, etag);
        }
        let body = match body {
            None => Body::empty(),
            Some(value) => {
                headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
                Body::bytes(value.to_string().into_bytes())
            }
        };
        self.upload(method, path, headers, body).await
    }

    /// Sends a changing request with any body.
    pub async fn upload(
        &self,
        method: Method,
        path: &ApiPath,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Change, ClientError> {
        let response = self.send(method.clone(), path, headers, body).await?;
        reply::change(&method, path, response).await
    }

    /// Asks for something that isn't an envelope: a file, an export, a log. An error answer is an error here.
    pub async fn download(
        &self,
        method: Method,
        path: &ApiPath,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response<Incoming>, ClientError> {
        let response = self.send(method.clone(), path, headers, body).await?;
        reply::checked(&method, path, response).await
    }

    /// Sends a request and returns the answer as it is, whatever its status.
    pub async fn send(
        &self,
        method: Method,
        path: &ApiPath,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response<Incoming>, ClientError> {
        let target = path.render(self.project.as_deref());
        let response = transport::send(&self.socket, &method, &target, headers, body).await?;
        if let Some(trace) = &self.trace {
            trace.line(&format!("{method} {target}: {}", response.status()));
        }
        Ok(response)
    }

    /// Opens a websocket.
    pub async fn websocket(&self, path: &ApiPath) -> Result<Socket, ClientError> {
        let target = path.render(self.project.as_deref());
        if let Some(trace) = &self.trace {
            trace.line(&format!("websocket {target}"));
        }
        transport::websocket(&self.socket, &target).await
    }
}
