//! Bodies in chunks (`aws-chunked`) before the protocol layer sees them. It holds a chunk until the chunk is whole, however
//! large its sender says it is. So a large chunk without a signature is cut into small ones, and one with a signature, which
//! can't be cut, has a limit.

use crate::support::custom;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use hyper::body::{Body as HttpBody, Frame};
use parking_lot::Mutex;
use s3s::{Body, S3Error, StdError, s3_error};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The largest chunk that may be signed; clients send 64 KiB to 128 KiB.
pub(crate) const MAX_SIGNED: u64 = 1 << 20;
/// Larger chunks without a signature are cut.
const MAX_UNSIGNED: u64 = 64 * 1024;
/// The line before a chunk has a size and perhaps a signature.
const MAX_LINE: usize = 1024;
const END: Bytes = Bytes::from_static(b"\r\n");

/// What is wrong with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A chunk that isn't one.
    Malformed,
    /// A signed chunk beyond the limit.
    TooLarge,
}

/// How a body was put together, told when the request has failed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Framing(Arc<Mutex<Option<Fault>>>);

impl Framing {
    /// What the client is told of its chunks, if something is wrong with them.
    pub(crate) fn error(&self) -> Option<S3Error> {
        self.0.lock().map(|fault| match fault {
            Fault::Malformed => {
                s3_error!(IncompleteBody, "The request body is not made of well-formed chunks.")
            }
            Fault::TooLarge => custom(
                "InvalidChunkSizeError",
                StatusCode::BAD_REQUEST,
                format!("A signed chunk has at most {MAX_SIGNED} bytes."),
            ),
        })
    }

    /// Watches the body of a request, where it comes in chunks.
    pub(crate) fn watch(request: &mut Request<Body>) -> Option<Self> {
        let is_signed = is_signed(request.headers())?;
        let framing = Self::default();
        let body = std::mem::take(request.body_mut());
        let at = At::Line(Vec::new());
        let chunks = Chunks { body, at, is_signed, ready: VecDeque::new(), framing: framing.clone() };
        *request.body_mut() = Body::http_body_unsync(chunks);
        Some(framing)
    }
}

/// Whether a body's chunks are signed; none for a body that doesn't come in chunks.
pub(crate) fn is_signed(headers: &HeaderMap) -> Option<bool> {
    let hash = headers.get("x-amz-content-sha256")?.as_bytes();
    hash.starts_with(b"STREAMING-").then(|| !hash.starts_with(b"STREAMING-UNSIGNED-"))
}

/// What comes next.
#[derive(Debug)]
enum At {
    /// The line before a chunk, of which this came.
    Line(Vec<u8>),
    /// So many bytes of a chunk; cut, when they don't come as they are.
    Data { left: u64, is_cut: bool },
    /// So many bytes of the line's end behind a chunk.
    End { left: usize, is_cut: bool },
    /// What follows the last chunk.
    Trailer,
}

struct Chunks {
    body: Body,
    at: At,
    is_signed: bool,
    ready: VecDeque<Bytes>,
    framing: Framing,
}

impl Chunks {
    /// Takes in what came; what goes on is ready then.
    fn take(&mut self, mut came: Bytes) -> Result<(), Fault> {
        while !came.is_empty() {
            match &mut self.at {
                At::Line(line) => {
                    let end = memchr::memchr(b'\n', &came).map_or(came.len(), |at| at + 1);
                    line.extend_from_slice(&came.split_to(end));
                    if line.len() > MAX_LINE {
                        return Err(Fault::Malformed);
                    }
                    if line.ends_with(b"\n") {
                        let line = std::mem::take(line);
                        self.at = self.begin(line)?;
                    }
                }
                At::Data { left, is_cut } => {
                    let most = if *is_cut { (*left).min(MAX_UNSIGNED) } else { *left };
                    let piece = came.split_to(usize::try_from(most).unwrap_or(usize::MAX).min(came.len()));
                    *left -= piece.len() as u64;
                    if *is_cut {
                        self.ready.push_back(format!("{:x}\r\n", piece.len()).into());
                        self.ready.extend([piece, END]);
                    } else {
                        self.ready.push_back(piece);
                    }
                    if *left == 0 {
                        self.at = At::End { left: END.len(), is_cut: *is_cut };
                    }
                }
                At::End { left, is_cut } => {
                    if came[0] != END[END.len() - *left] {
                        return Err(Fault::Malformed);
                    }
                    let byte = came.split_to(1);
                    *left -= 1;
                    if !*is_cut {
                        self.ready.push_back(byte);
                    }
                    if *left == 0 {
                        self.at = At::Line(Vec::new());
                    }
                }
                At::Trailer => self.ready.push_back(std::mem::take(&mut came)),
            }
        }
        Ok(())
    }

    /// Reads the line before a chunk.
    fn begin(&mut self, line: Vec<u8>) -> Result<At, Fault> {
        let text = std::str::from_utf8(&line).map_err(|_| Fault::Malformed)?;
        let size = text.strip_suffix("\r\n").ok_or(Fault::Malformed)?;
        let size = size.split_once(';').map_or(size, |(size, _)| size);
        let is_size = !size.is_empty() && size.bytes().all(|digit| digit.is_ascii_hexdigit());
        let size = Some(size).filter(|_| is_size).and_then(|size| u64::from_str_radix(size, 16).ok());
        let size = size.ok_or(Fault::Malformed)?;
        if self.is_signed && size > MAX_SIGNED {
            return Err(Fault::TooLarge);
        }
        let is_cut = !self.is_signed && size > MAX_UNSIGNED;
        if !is_cut {
            self.ready.push_back(line.into());
        }
        Ok(match size {
            0 => At::Trailer,
            left => At::Data { left, is_cut },
        })
    }
}

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let fault = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(came) => self.take(came).err(),
                    Err(_) => continue,
                },
                None if !matches!(self.at, At::Trailer) => Some(Fault::Malformed),
                end => return Poll::Ready(end),
            };
            if let Some(fault) = fault {
                *self.framing.0.lock() = Some(fault);
                return Poll::Ready(Some(Err(std::io::Error::from(std::io::ErrorKind::InvalidData).into())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    /// What becomes of a body that comes in pieces of so many bytes, and what is wrong with it.
    fn pass(hash: &'static str, body: &[u8], piece: usize) -> (Vec<Bytes>, Option<Fault>) {
        let pieces = body.chunks(piece).map(Bytes::copy_from_slice).collect::<Vec<_>>();
        let stream = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, StdError>));
        let body = http_body_util::StreamBody::new(futures_util::StreamExt::map(stream, |bytes| {
            bytes.map(Frame::data)
        }));
        let request = Request::builder().header("x-amz-content-sha256", hash);
        let mut request = request.body(Body::http_body_unsync(body)).expect("a request");
        let framing = Framing::watch(&mut request).expect("chunks");
        let mut came = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            while let Some(Ok(frame)) = request.body_mut().frame().await {
                came.extend(frame.into_data());
            }
        });
        let fault = *framing.0.lock();
        (came, fault)
    }

    const UNSIGNED: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
    const SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";

    #[test]
    fn small_chunks_pass_as_they_are_in_whatever_pieces_they_come() {
        let body = b"5\r\nhello\r\n1\r\n!\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
        for piece in 1..body.len() {
            let (came, fault) = pass(UNSIGNED, body, piece);
            assert_eq!((came.concat(), fault), (body.to_vec(), None), "in pieces of {piece}");
        }
    }

    #[test]
    fn a_large_chunk_is_cut_into_small_ones_and_its_trailer_stays() {
        let data: Vec<u8> = (0..300_000_u32).map(|at| at as u8).collect();
        let body =
            [b"493e0\r\n", data.as_slice(), b"\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"].concat();
        let (came, fault) = pass(UNSIGNED, &body, 100_000);
        assert_eq!(fault, None);
        let (mut rest, mut taken) = (came.concat(), Vec::new());
        loop {
            let end = rest.windows(2).position(|two| two == b"\r\n").expect("a line");
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).expect("digits"), 16)
                .expect("a size");
            assert!(size <= 64 * 1024);
            rest.drain(..end + 2);
            if size == 0 {
                break;
            }
            taken.extend(rest.drain(..size));
            assert_eq!(rest.drain(..2).collect::<Vec<_>>(), b"\r\n");
        }
        assert!(taken == data, "other bytes");
        assert_eq!(rest, b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n");
    }

    #[test]
    fn what_is_no_chunk_is_told_apart_from_what_is_too_large() {
        let malformed: [&[u8]; 7] = [
            b"5\r\nhello\r\n",
            b"5\r\nhel",
            b"x\r\n",
            b"\r\n",
            b"+5\r\nhello\r\n",
            b"5\nhello",
            b"5\r\nhello!!0\r\n\r\n",
        ];
        for body in malformed {
            assert_eq!(
                pass(UNSIGNED, body, 3).1,
                Some(Fault::Malformed),
                "{}",
                String::from_utf8_lossy(body)
            );
        }
        let long = b"1".repeat(2000);
        assert_eq!(pass(SIGNED, &long, 100).1, Some(Fault::Malformed));
        let line = b"100001;chunk-signature=00\r\n";
        assert_eq!(pass(SIGNED, line, 100).1, Some(Fault::TooLarge));
        assert_eq!(pass(SIGNED, b"", 100).1, Some(Fault::Malformed));
    }
}
