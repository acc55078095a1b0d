//! Why something was not downloaded, and what to do about it.

use crate::simplestreams::StreamsError;
use crate::store::StoreError;
use larder_base::Fingerprint;
use reqwest::Url;
use std::io;
use std::path::PathBuf;

/// Something was not downloaded. Nothing was published; what had come stays in part files, to go on with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// No address was given.
    #[error("no server is known for {what}: give an address")]
    NoServer {
        /// What was wanted.
        what: String,
    },
    /// An address can't be made into one of a file.
    #[error("{url} is no address of an image server: give one such as https://images.example.org")]
    Address {
        /// The address.
        url: String,
    },
    /// The HTTP client could not be made.
    #[error(
        "the HTTP client could not be made: install ca-certificates, or check the certificates it was given"
    )]
    Client(#[source] reqwest::Error),
    /// The address, or one it leads to, is plain http to another machine.
    #[error("{url} is or leads to plain http: use https, or allow http for this server")]
    Plain {
        /// The address asked first.
        url: String,
    },
    /// The server sends us on and on.
    #[error("{url} redirects more than {limit} times: check the address")]
    Redirects {
        /// The address asked first.
        url: String,
        /// How many are followed.
        limit: usize,
    },
    /// The server could not be reached, or broke off.
    #[error("{url} could not be fetched: check the network, the address and the server's certificate")]
    Unreachable {
        /// The address.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server was silent for too long.
    #[error("{url}: nothing came for {seconds} s: try again later or use another server")]
    Silent {
        /// The address.
        url: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The server refused.
    #[error("{url} answered {status}: {}", remedy(*.status))]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The document is longer than it may be.
    #[error("{url} is longer than the limit of {limit} bytes: is this the address of an image server?")]
    TooLong {
        /// The address.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// The file has another size than the list of images says.
    #[error(
        "{url} has {found} bytes instead of {expected}: refresh the list of images or use another server"
    )]
    WrongSize {
        /// The address.
        url: String,
        /// The size in the list.
        expected: u64,
        /// The size the server sends.
        found: u64,
    },
    /// The file has another hash than the list of images says.
    #[error(
        "{url} has the hash {found} instead of {expected}: refresh the list of images or use another server"
    )]
    WrongHash {
        /// The address.
        url: String,
        /// The hash in the list.
        expected: Fingerprint,
        /// The hash of what came.
        found: String,
    },
    /// The server's file changes while it is read.
    #[error("{url} changed while it was read: try again later")]
    Changed {
        /// The address.
        url: String,
    },
    /// A document is not what it should be.
    #[error("{url} is not understood")]
    Document {
        /// The address.
        url: String,
        /// What is wrong with it.
        #[source]
        source: StreamsError,
    },
    /// A part file could not be written.
    #[error("could not {what} {path}: check the space and the rights there")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// What came could not be published.
    #[error("the downloaded image was not published")]
    Store(#[source] StoreError),
    /// The work was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl DownloadError {
    /// Whether the server says that it has no such file: the list that named it is out of date, and worth
    /// getting anew once ([`ListCache::forget`](super::ListCache::forget)).
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: 404 | 410, .. })
    }

    /// Whether the same server is worth another try.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => !source.is_builder(),
            Self::Silent { .. } | Self::Changed { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// Whether another server can't help.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Cancelled | Self::File { .. } | Self::Store(_) | Self::Client(_))
    }
}

fn remedy(status: u16) -> &'static str {
    match status {
        401 | 403 => "the server does not give it to us: check the address, or use another server",
        404 | 410 => "it may have been withdrawn: refresh the list of images or use another server",
        429 => "the server asks us to slow down: try again later",
        500.. => "the server has trouble: try again later or use another server",
        _ => "is this the address of an image server?",
    }
}

/// Why a redirect is not followed; found again in the source of the client's error.
#[derive(Debug, thiserror::Error)]
pub(super) enum Redirect {
    #[error("more than {0} redirects")]
    TooMany(usize),
    #[error("a redirect to plain http")]
    Plain,
}

/// Sorts an error of the HTTP client.
pub(super) fn of_request(url: &Url, source: reqwest::Error) -> DownloadError {
    let url = url.to_string();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&source);
    while let Some(error) = cause {
        match error.downcast_ref::<Redirect>() {
            Some(Redirect::TooMany(limit)) => return DownloadError::Redirects { url, limit: *limit },
            Some(Redirect::Plain) => return DownloadError::Plain { url },
            None => cause = error.source(),
        }
    }
    DownloadError::Unreachable { url, source }
}
