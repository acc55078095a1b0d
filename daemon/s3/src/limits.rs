//! What keeps one client from hurting the others: seats that a key or an address can take, and connections that must move.

use crate::pace::Pace;
use parking_lot::Mutex;
use s3s::{S3Result, s3_error};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How large an object or a part may be that comes at once (bytes).
pub(crate) const MAX_PUT: i64 = 5 << 30;
/// Headers of a request, all together, have at most so many bytes.
pub(crate) const MAX_HEADERS: usize = 64 * 1024;

/// How long a client is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the headers of a request, all of them.
    pub headers: Duration,
    /// For the next bytes of a body; and for all of what is read before it is known who sends it.
    pub body: Duration,
    /// For the next bytes of an answer to be taken.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { headers: seconds(30), body: seconds(60), answer: seconds(90) }
    }
}

/// Waits for something that a client sends.
pub(crate) async fn within<T>(patience: Duration, coming: impl Future<Output = T>) -> S3Result<T> {
    let late = || s3_error!(RequestTimeout, "it did not come within {} seconds", patience.as_secs());
    tokio::time::timeout(patience, coming).await.map_err(|_| late())
}

/// Who a request counts for: the key that signed it, or the address it comes from for as long as nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Sitter {
    Key(Arc<str>),
    Address(Option<IpAddr>),
}

impl Sitter {
    /// Who has an address of IPv6 mostly has all of its network's.
    fn at(address: Option<IpAddr>) -> Self {
        Self::Address(address.map(|address| match address {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address => address,
        }))
    }
}

/// How many requests are being answered, or connections open, for whom.
#[derive(Debug, Clone)]
pub(crate) struct Seats {
    taken: Arc<Mutex<HashMap<Sitter, usize>>>,
    most: usize,
}

/// A connection's place among those from its address. It is free when this is gone.
#[derive(Debug)]
pub struct Admitted(#[expect(dead_code, reason = "it is there to be dropped")] Seat);

#[derive(Debug)]
struct Seat {
    seats: Seats,
    sitter: Sitter,
}

impl Seats {
    pub(crate) fn new(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    /// The same with room for more or fewer.
    pub(crate) fn with_most(&self, most: usize) -> Self {
        Self { most, ..self.clone() }
    }

    /// A place for a connection.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<Admitted> {
        self.take(Sitter::at(Some(address))).ok().map(Admitted)
    }

    fn take(&self, sitter: Sitter) -> S3Result<Seat> {
        let mut taken = self.taken.lock();
        let count = taken.entry(sitter.clone()).or_default();
        if *count >= self.most {
            return Err(s3_error!(SlowDown, "Please reduce your request rate."));
        }
        *count += 1;
        Ok(Seat { seats: self.clone(), sitter })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        if let Some(count) = taken.get_mut(&self.sitter) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.sitter);
            }
        }
    }
}

/// A request's place among those that are being answered, kept until the last byte of its answer is out. What a request
/// says of itself counts for nothing: it sits with its key once its signature has been verified.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    seats: Seats,
    address: Option<IpAddr>,
    seat: Arc<Mutex<Option<Seat>>>,
}

impl Place {
    pub(crate) fn new(seats: &Seats, address: Option<IpAddr>) -> Self {
        Self { seats: seats.clone(), address, seat: Arc::default() }
    }

    /// Sits with the address: for who is unknown, or has something to say before it is known who they are.
    pub(crate) fn as_unknown(&self) -> S3Result<()> {
        self.sit(Sitter::at(self.address))
    }

    /// Sits with the key that was verified, and nowhere else any more.
    pub(crate) fn as_key(&self, key: &str) -> S3Result<()> {
        self.sit(Sitter::Key(Arc::from(key)))
    }

    fn sit(&self, sitter: Sitter) -> S3Result<()> {
        let mut seat = self.seat.lock();
        if seat.as_ref().is_none_or(|seat| seat.sitter != sitter) {
            *seat = Some(self.seats.take(sitter)?);
        }
        Ok(())
    }
}

/// A connection that fails when its client takes nothing of an answer for too long, or too little. How long is waited for
/// what a client sends is said elsewhere: headers, and the time between requests, by the HTTP server; bodies by
/// [`crate::pace::Paced`]. While a request is at work there is nothing to wait for: that may take as long as it does.
#[derive(Debug)]
pub(crate) struct Hasty<S> {
    stream: S,
    patience: Duration,
    /// Since when the client takes nothing.
    since: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
    pace: Pace,
}

impl<S> Hasty<S> {
    pub(crate) fn new(stream: S, patience: Duration) -> Self {
        let alarm = Box::pin(tokio::time::sleep(patience));
        Self { stream, patience, since: None, alarm, pace: Pace::new(patience) }
    }

    /// The same for what is written, which must move fast enough.
    fn watch_written(
        &mut self,
        moved: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match moved {
            Poll::Ready(Ok(count)) if !self.pace.moves(count) => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Poll::Ready(_) => {}
            Poll::Pending => self.pace.waits(),
        }
        self.watch(moved, context)
    }

    /// Passes on what moved, and complains about what didn't for too long.
    fn watch<T>(&mut self, moved: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            self.since = None;
            return moved;
        }
        let end = *self.since.get_or_insert_with(Instant::now) + self.patience;
        // Setting an alarm costs, so it rings for an earlier wait first.
        while self.alarm.as_mut().poll(context).is_ready() {
            if Instant::now() >= end {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.alarm.as_mut().reset(end);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Hasty<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Hasty<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch_written(moved, context)
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
        self.watch_written(moved, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn who_takes_a_byte_now_and_then_is_cut() {
        let (mut client, server) = tokio::io::duplex(16);
        let mut connection = Hasty::new(server, Duration::from_secs(90));
        let reading = async move {
            let mut byte = [0];
            while client.read(&mut byte).await.is_ok_and(|count| count > 0) {
                tokio::time::sleep(Duration::from_secs(30)).await;
            }
        };
        let reading = tokio::spawn(reading);
        let began = Instant::now();
        let error = connection.write_all(&[0; 1000]).await.map_err(|error| error.kind());
        assert_eq!(error, Err(io::ErrorKind::TimedOut));
        let took = began.elapsed().as_secs();
        assert!((90..200).contains(&took), "{took} seconds");
        drop(connection);
        assert!(reading.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn work_on_a_request_takes_as_long_as_it_does() {
        let (mut client, server) = tokio::io::duplex(16);
        let mut connection = Hasty::new(server, Duration::from_secs(90));
        // While the server works it looks whether the client is still there.
        let looked = tokio::time::timeout(Duration::from_secs(1000), connection.read_u8()).await;
        assert!(looked.is_err(), "{looked:?}");
        connection.write_all(b"an answer").await.unwrap();
        let mut answer = [0; 9];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"an answer");
    }

    #[test]
    fn a_key_and_the_addresses_of_one_network_sit_apart() {
        let seats = Seats::new(1);
        let from = |address: &str| Place::new(&seats, address.parse().ok());
        let (ann, near, far) = (from("2001:db8::1"), from("2001:db8::2"), from("2001:db8:0:1::1"));
        assert!(ann.as_unknown().is_ok() && ann.as_unknown().is_ok(), "it sits already");
        assert!(near.as_unknown().is_err() && far.as_unknown().is_ok());
        assert!(ann.as_key("ANN").is_ok() && near.as_unknown().is_ok(), "it sits elsewhere now");
        assert!(far.as_key("ANN").is_err());
        drop(ann);
        assert!(far.as_key("ANN").is_ok());
    }
}
