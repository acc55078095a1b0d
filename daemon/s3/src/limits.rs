//! What keeps one client from hurting the others: seats a key can take, and connections that must move.

use parking_lot::Mutex;
use s3s::{S3Result, s3_error};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Headers of a request, all together, have at most so many bytes.
pub(crate) const MAX_HEADERS: usize = 64 * 1024;

/// How long a client is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the headers of a request, all of them.
    pub headers: Duration,
    /// For the next bytes of a body; and for all of what is read before it is known who sends it.
    pub body: Duration,
    /// For anything to move on a connection, in either direction.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { headers: seconds(30), body: seconds(60), idle: seconds(90) }
    }
}

/// Waits for something that a client sends.
pub(crate) async fn within<T>(patience: Duration, coming: impl Future<Output = T>) -> S3Result<T> {
    let late = || s3_error!(RequestTimeout, "it did not come within {} seconds", patience.as_secs());
    tokio::time::timeout(patience, coming).await.map_err(|_| late())
}

/// How many requests of each key are being answered.
#[derive(Debug, Clone)]
pub(crate) struct Seats {
    taken: Arc<Mutex<HashMap<String, usize>>>,
    most: usize,
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Seats,
    key: String,
}

impl Seats {
    pub(crate) fn new(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    /// A seat for a request of this key, if there is one.
    pub(crate) fn take(&self, key: String) -> Option<Seat> {
        let mut taken = self.taken.lock();
        let count = taken.entry(key.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Seat { seats: self.clone(), key })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

/// A connection that fails when nothing moves for too long, in either direction.
#[derive(Debug)]
pub(crate) struct Hasty<S> {
    stream: S,
    patience: Duration,
    alarm: Pin<Box<Sleep>>,
}

impl<S> Hasty<S> {
    pub(crate) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, alarm: Box::pin(tokio::time::sleep(patience)) }
    }

    /// Passes on what moved, and complains about what didn't for too long.
    fn watch<T>(&mut self, moved: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            let next = Instant::now() + self.patience;
            // Setting an alarm costs; a second more or less doesn't matter.
            if self.alarm.deadline() + Duration::from_secs(1) < next {
                self.alarm.as_mut().reset(next);
            }
            return moved;
        }
        match self.alarm.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Hasty<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watch(moved, context)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Hasty<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(moved, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(moved, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(moved, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(moved, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
