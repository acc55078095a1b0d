//! What became of each request, told when its last byte is out or its client is gone: for whoever counts, and whoever keeps
//! a log.

use crate::gate::Peer;
use crate::limits::Place;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use s3s::Body;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// A request that was answered.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The id the client was told.
    pub id: Option<HeaderValue>,
    /// The bucket it named; nobody has looked whether there is one.
    pub bucket: Option<String>,
    /// The method.
    pub method: Method,
    /// Path and query. Those of a presigned request let anybody repeat it.
    pub target: Uri,
    /// The key it said it was signed with; empty for somebody unknown.
    pub access_key: String,
    /// Where it came from.
    pub client: Option<IpAddr>,
    /// The program that sent it, as it calls itself.
    pub user_agent: Option<HeaderValue>,
    /// The status.
    pub status: StatusCode,
    /// The error's code in S3's words.
    pub code: Option<String>,
    /// Bytes of the request's body, as they were announced.
    pub received: u64,
    /// Bytes of the answer's body that were handed to the connection.
    pub sent: u64,
    /// Whether these were all.
    pub is_whole: bool,
    /// From the request's first line to the answer's last byte.
    pub took: Duration,
}

/// Is told of every request. It must not block.
pub trait Watcher: Send + Sync + fmt::Debug + 'static {
    /// A request was answered.
    fn answered(&self, answered: Answered);
}

/// The code of an error, beside its rendered body.
#[derive(Debug, Clone)]
pub(crate) struct ErrorCode(pub(crate) String);

/// A request under way, for its watcher.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: Arc<dyn Watcher>,
    began: Instant,
    /// Bytes of the answer's body, where it was told.
    expected: Option<u64>,
    answered: Answered,
}

impl Watch {
    pub(crate) fn begin(
        watcher: &Arc<dyn Watcher>,
        request: &Request<Body>,
        peer: Peer,
        bucket: Option<String>,
    ) -> Self {
        let headers = request.headers();
        let answered = Answered {
            id: None,
            bucket,
            method: request.method().clone(),
            target: request.uri().clone(),
            access_key: crate::request::claimed_key(request),
            client: peer.address,
            user_agent: headers.get(USER_AGENT).cloned(),
            status: StatusCode::OK,
            code: None,
            received: announced(headers),
            sent: 0,
            is_whole: false,
            took: Duration::ZERO,
        };
        Self { watcher: Arc::clone(watcher), began: Instant::now(), expected: None, answered }
    }

    /// Looks at the head of the answer.
    fn see(&mut self, response: &Response<Body>) {
        self.answered.status = response.status();
        self.answered.id = response.headers().get("x-amz-request-id").cloned();
        self.answered.code = response.extensions().get::<ErrorCode>().map(|code| code.0.clone());
        let length = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        self.expected = length.and_then(|length| length.parse().ok());
    }

    fn end(mut self, is_whole: bool) {
        self.answered.is_whole = is_whole;
        self.answered.took = self.began.elapsed();
        self.watcher.answered(self.answered);
    }
}

fn announced(headers: &HeaderMap) -> u64 {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.parse().ok();
    let length = number(CONTENT_LENGTH.as_str()).or_else(|| number("x-amz-decoded-content-length"));
    length.unwrap_or(0)
}

/// An answer's body, counted as it goes out. The request's place is taken for as long as this exists.
pub(crate) struct Watched {
    body: Body,
    watch: Option<Watch>,
    _place: Place,
}

impl Watched {
    /// An answer on its way.
    pub(crate) fn of(response: Response<Body>, place: Place, mut watch: Option<Watch>) -> Response<Self> {
        if let Some(watch) = &mut watch {
            watch.see(&response);
        }
        response.map(|body| Self { body, watch, _place: place })
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = s3s::StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let (Some(watch), Some(Ok(frame))) = (&mut self.watch, &frame)
            && let Some(bytes) = frame.data_ref()
        {
            watch.answered.sent += bytes.len() as u64;
        }
        if frame.is_none()
            && let Some(watch) = self.watch.take()
        {
            watch.end(true);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.take() {
            // Whoever sends the body needn't ask whether there is more than was announced.
            let is_whole = self.body.is_end_stream() || watch.expected == Some(watch.answered.sent);
            watch.end(is_whole);
        }
    }
}
