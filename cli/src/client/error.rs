//! What can go wrong between us and a server.

use std::io;
use std::path::PathBuf;

/// A request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nothing listens on the socket.
    #[error("the server isn't running: nothing listens on {}", socket.display())]
    NotRunning {
        /// Where it was looked for.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket is there but not for us.
    #[error("no permission to use {}", socket.display())]
    NoPermission {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The connection could not be made.
    #[error("can't connect to {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke, or the other side doesn't speak HTTP.
    #[error("the connection to the server broke")]
    Broken(#[source] hyper::Error),
    /// A request could not be built.
    #[error("a request could not be built")]
    Request(#[source] http::Error),
    /// The server refused.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server said.
        message: String,
        /// The path that was asked for, without its query.
        path: String,
    },
    /// An operation ended without success.
    #[error("{message}")]
    Failed {
        /// What the server said.
        message: String,
        /// Whether it was cancelled.
        cancelled: bool,
    },
    /// The caller waits no longer; the operation runs on.
    #[error("the operation {id} goes on in the background")]
    Left {
        /// Its id.
        id: String,
    },
    /// The answer was not what the protocol promises.
    #[error("unexpected answer from the server: {0}")]
    Protocol(String),
    /// A websocket broke.
    #[error("the websocket to the server broke")]
    WebSocket(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// A local file could not be read or written.
    #[error("{doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ClientError {
    /// The HTTP status, when the server answered with an error.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the server said that the thing doesn't exist.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether the server said that it has nothing of the kind: it is older, or was made for less.
    pub fn is_not_built(&self) -> bool {
        self.status() == Some(501)
    }
}

impl From<hyper::Error> for ClientError {
    fn from(error: hyper::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<http::Error> for ClientError {
    fn from(error: http::Error) -> Self {
        Self::Request(error)
    }
}

impl From<tokio_tungstenite::tungstenite::Error> for ClientError {
    fn from(error: tokio_tungstenite::tungstenite::Error) -> Self {
        Self::WebSocket(Box::new(error))
    }
}
