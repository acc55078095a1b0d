//! The pace at which a client must send a body and take an answer: whoever trickles would keep a seat for ever.

use crate::linger::{is_sent_anyway, read_the_rest};
use bytes::Bytes;
use http::Request;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use s3s::{Body, S3Error, StdError, s3_error};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How many bytes a second a client must manage, as web servers commonly ask for.
pub(crate) const LEAST_RATE: f64 = 500.0;

/// Bytes beside the time somebody waited for them. What passes at once costs nothing.
#[derive(Debug)]
pub(crate) struct Pace {
    patience: Duration,
    since: Option<Instant>,
    waited: Duration,
    moved: usize,
}

impl Pace {
    /// Judged whenever somebody has waited for so long, all in all.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, since: None, waited: Duration::ZERO, moved: 0 }
    }

    /// Nothing moves: somebody waits.
    pub(crate) fn waits(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// So many bytes moved. False when that is too little for the time it took.
    pub(crate) fn moves(&mut self, bytes: usize) -> bool {
        self.moved += bytes;
        self.waited += self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        if self.waited < self.patience {
            return true;
        }
        let is_enough = self.moved as f64 >= self.waited.as_secs_f64() * LEAST_RATE;
        (self.waited, self.moved) = (Duration::ZERO, 0);
        is_enough
    }
}

/// What became of a request's body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Coming(Arc<Came>);

#[derive(Debug, Default)]
struct Came {
    /// Somebody wanted it.
    is_wanted: AtomicBool,
    /// It did not come as fast as it must.
    is_late: AtomicBool,
}

impl Coming {
    /// What the client is told of one that was late, whatever else came of its request.
    pub(crate) fn error(&self) -> Option<S3Error> {
        let told =
            "Your socket connection to the server was not read from or written to within the timeout period.";
        self.0.is_late.load(Ordering::Acquire).then(|| s3_error!(RequestTimeout, "{told}"))
    }

    /// Whether somebody wanted it.
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.is_wanted.load(Ordering::Acquire)
    }
}

/// A request's body that ends with an error when nothing comes for too long, or too little. Its rest is read when nobody wants
/// it any more.
pub(crate) struct Paced {
    body: Body,
    pace: Pace,
    alarm: Pin<Box<Sleep>>,
    is_set: bool,
    coming: Coming,
    is_sent_anyway: bool,
}

impl Paced {
    /// Watches the body of a request, if it has one.
    pub(crate) fn watch(request: &mut Request<Body>, patience: Duration) -> Option<Coming> {
        if request.body().is_end_stream() {
            return None;
        }
        let is_sent_anyway = is_sent_anyway(request.headers());
        let (coming, body) = (Coming::default(), std::mem::take(request.body_mut()));
        let (pace, alarm) = (Pace::new(patience), Box::pin(tokio::time::sleep(patience)));
        let paced = Self { body, pace, alarm, is_set: false, coming: coming.clone(), is_sent_anyway };
        *request.body_mut() = Body::http_body_unsync(paced);
        Some(coming)
    }

    fn is_late(&self) -> StdError {
        self.coming.0.is_late.store(true, Ordering::Release);
        std::io::Error::from(std::io::ErrorKind::TimedOut).into()
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        self.coming.0.is_wanted.store(true, Ordering::Release);
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            self.pace.waits();
            if !std::mem::replace(&mut self.is_set, true) {
                let end = Instant::now() + self.pace.patience;
                self.alarm.as_mut().reset(end);
            }
            ready!(self.alarm.as_mut().poll(context));
            return Poll::Ready(Some(Err(self.is_late())));
        };
        self.is_set = false;
        let came = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        // The end is no bytes, and no reason to complain.
        match self.pace.moves(came) || frame.is_none() {
            true => Poll::Ready(frame),
            false => Poll::Ready(Some(Err(self.is_late()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        if self.is_sent_anyway && self.coming.error().is_none() {
            read_the_rest(std::mem::take(&mut self.body));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn little_is_too_little_only_for_the_time_that_somebody_waited() {
        let mut pace = Pace::new(Duration::from_secs(60));
        for _ in 0..1000 {
            assert!(pace.moves(1), "nobody waited");
        }
        let mut wait_and_move = async |seconds: u64, bytes: usize| {
            pace.waits();
            tokio::time::advance(Duration::from_secs(seconds)).await;
            pace.moves(bytes)
        };
        assert!(wait_and_move(59, 0).await, "there is time left");
        assert!(wait_and_move(1, 29_000).await, "500 bytes a second, with those before");
        assert!(wait_and_move(59, 1).await);
        assert!(!wait_and_move(59, 1).await, "a byte a minute");
    }
}
