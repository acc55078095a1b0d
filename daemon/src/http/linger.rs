//! Bodies of requests whose rest is read when nobody wants it any more.

use axum::body::Bytes;
use axum::extract::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use larder_s3::linger::{is_sent_anyway, read_the_rest};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A request's body whose rest is read, for some seconds, when its reader goes before its end.
pub(crate) struct Lingering {
    body: Option<Incoming>,
    is_sent_anyway: bool,
}

impl Lingering {
    /// A request with such a body.
    pub(crate) fn request(request: Request<Incoming>) -> Request {
        let is_sent_anyway = is_sent_anyway(request.headers());
        request.map(|body| axum::body::Body::new(Self { body: Some(body), is_sent_anyway }))
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if let Some(rest) = self.body.take().filter(|_| self.is_sent_anyway) {
            read_the_rest(rest);
        }
    }
}
