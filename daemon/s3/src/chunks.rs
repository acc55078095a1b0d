//! Bodies in chunks (`aws-chunked`) before the protocol layer sees them. It holds a chunk until the chunk is whole, however
//! large its sender says it is. So a large chunk without a signature is cut into small ones, and one with a signature, which
//! can't be cut, has a limit. Its last piece goes on when the signature is right.

use crate::chunk_signature::Signatures;
use crate::chunk_trailer::{MAX_TRAILER, Trailer};
use crate::support::custom;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
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
/// So many digits are a signature.
const SIGNATURE: usize = 64;
const END: Bytes = Bytes::from_static(b"\r\n");

/// What is wrong with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A chunk that isn't one.
    Malformed,
    /// A signed chunk beyond the limit.
    TooLarge,
    /// A signature that is not that of its chunk, or of the trailer.
    Mismatch,
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
            Fault::Mismatch => {
                s3_error!(SignatureDoesNotMatch, "The signature of a chunk does not match.")
            }
        })
    }

    /// Watches the body of a request, where it comes in chunks. Where they are signed, it is with these signatures.
    pub(crate) fn watch(request: &mut Request<Body>, signatures: Option<Signatures>) -> Option<Self> {
        let kind = kind(request.headers())?;
        let signatures = is_signed(request.headers())?.then(|| signatures.unwrap_or_default());
        let has_trailer = kind.ends_with(b"-TRAILER");
        let framing = Self::default();
        let chunks = Chunks {
            body: std::mem::take(request.body_mut()),
            at: At::Line(Vec::new()),
            signatures,
            has_trailer,
            ready: VecDeque::new(),
            framing: framing.clone(),
        };
        *request.body_mut() = Body::http_body_unsync(chunks);
        Some(framing)
    }
}

/// What is said of a body in chunks instead of its hash. The protocol layer passes over values that are no text, so each counts.
fn kind(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all("x-amz-content-sha256").iter().map(HeaderValue::as_bytes);
    values.find(|value| value.starts_with(b"STREAMING-"))
}

/// Whether a body's chunks are signed; none for a body that doesn't come in chunks.
pub(crate) fn is_signed(headers: &HeaderMap) -> Option<bool> {
    kind(headers).map(|kind| !kind.starts_with(b"STREAMING-UNSIGNED-"))
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
    /// What follows the last chunk, of which this came.
    Trailer(Vec<u8>),
    /// Everything came.
    Over,
}

struct Chunks {
    body: Body,
    at: At,
    /// None where the chunks have none.
    signatures: Option<Signatures>,
    /// Whether a trailer was announced.
    has_trailer: bool,
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
                        self.at = self.begin(&line)?;
                    }
                }
                At::Data { left, is_cut } => {
                    let most = if *is_cut { (*left).min(MAX_UNSIGNED) } else { *left };
                    let piece = came.split_to(usize::try_from(most).unwrap_or(usize::MAX).min(came.len()));
                    *left -= piece.len() as u64;
                    if let Some(signatures) = &mut self.signatures {
                        signatures.update(&piece);
                        if *left == 0 && !signatures.end() {
                            return Err(Fault::Mismatch);
                        }
                    }
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
                At::Trailer(trailer) => {
                    if trailer.len() + came.len() > MAX_TRAILER {
                        return Err(Fault::Malformed);
                    }
                    trailer.extend_from_slice(&std::mem::take(&mut came));
                }
                At::Over => return Ok(()),
            }
        }
        Ok(())
    }

    /// Reads the line before a chunk. It goes on as it was understood here.
    fn begin(&mut self, line: &[u8]) -> Result<At, Fault> {
        let text = std::str::from_utf8(line).map_err(|_| Fault::Malformed)?;
        let text = text.strip_suffix("\r\n").ok_or(Fault::Malformed)?;
        let (size, signature) = match text.split_once(';') {
            Some((size, extension)) => (size, Some(extension)),
            None => (text, None),
        };
        let is_size = !size.is_empty() && size.bytes().all(|digit| digit.is_ascii_hexdigit());
        let size = Some(size).filter(|_| is_size).and_then(|size| u64::from_str_radix(size, 16).ok());
        let size = size.ok_or(Fault::Malformed)?;
        let is_cut = match (&mut self.signatures, signature) {
            (None, None) => size > MAX_UNSIGNED,
            (Some(_), _) if size > MAX_SIGNED => return Err(Fault::TooLarge),
            (Some(signatures), Some(extension)) => {
                let signature = extension.strip_prefix("chunk-signature=");
                let signature = signature.filter(|signature| signature.len() == SIGNATURE);
                signatures.begin(signature.ok_or(Fault::Malformed)?);
                if size == 0 && !signatures.end() {
                    return Err(Fault::Mismatch);
                }
                false
            }
            // A signature is missing, or is where nobody asked for it.
            _ => return Err(Fault::Malformed),
        };
        if !is_cut {
            let extension = signature.map(|extension| format!(";{extension}")).unwrap_or_default();
            self.ready.push_back(format!("{size:x}{extension}\r\n").into());
        }
        Ok(match size {
            0 => At::Trailer(Vec::new()),
            left => At::Data { left, is_cut },
        })
    }

    /// Takes in that nothing more comes.
    fn end(&mut self) -> Result<(), Fault> {
        let At::Trailer(bytes) = std::mem::replace(&mut self.at, At::Over) else {
            return Err(Fault::Malformed);
        };
        let trailer = Trailer::read(&bytes).ok_or(Fault::Malformed)?;
        let is_empty = bytes.is_empty() || bytes == *END;
        match (&self.signatures, &trailer.signature) {
            (None, None) => {}
            (Some(_), None) if is_empty && !self.has_trailer => {}
            (Some(signatures), Some(signature)) => {
                if !signatures.is_trailer(&trailer.lines, signature.as_bytes()) {
                    return Err(Fault::Mismatch);
                }
            }
            _ => return Err(Fault::Malformed),
        }
        self.ready.push_back(bytes.into());
        Ok(())
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
            if matches!(self.at, At::Over) {
                return Poll::Ready(None);
            }
            let fault = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(came) => self.take(came).err(),
                    Err(_) => continue,
                },
                None => self.end().err(),
                error => return Poll::Ready(error),
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
    use crate::chunk_signature::tests::{PLAIN, SECRET, TRAILED, TRAILER, headers};
    use http_body_util::BodyExt;

    /// What becomes of a body that comes in pieces of so many bytes, and what is wrong with it. Where it is signed, it is with
    /// what the examples of the documentation are.
    fn pass(hash: &'static str, body: &[u8], piece: usize) -> (Vec<Bytes>, Option<Fault>) {
        let pieces = body.chunks(piece).map(Bytes::copy_from_slice).collect::<Vec<_>>();
        let stream = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, StdError>));
        let body = http_body_util::StreamBody::new(futures_util::StreamExt::map(stream, |bytes| {
            bytes.map(Frame::data)
        }));
        let mut request = Request::new(Body::http_body_unsync(body));
        *request.headers_mut() = headers(hash, chain(hash)[0]);
        let signatures = Signatures::with(request.headers(), SECRET);
        let framing = Framing::watch(&mut request, Some(signatures)).expect("chunks");
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
    const SIGNED_BEFORE_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";

    /// The signatures of the example.
    fn chain(hash: &str) -> [&'static str; 4] {
        if hash == SIGNED_BEFORE_TRAILER { TRAILED } else { PLAIN }
    }

    /// The body of the example.
    fn example(hash: &str) -> String {
        let [_, first, second, last] = chain(hash);
        let chunk =
            |size, signature| format!("{size:x};chunk-signature={signature}\r\n{}\r\n", "a".repeat(size));
        let (line, signature) = TRAILER;
        let trailer = format!("{line}\r\nx-amz-trailer-signature:{signature}\r\n");
        let trailer = if hash == SIGNED_BEFORE_TRAILER { &*trailer } else { "" };
        let end = format!("0;chunk-signature={last}\r\n{trailer}\r\n");
        [chunk(65536, first), chunk(1024, second), end].concat()
    }

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

    #[test]
    fn signed_chunks_pass_in_whatever_pieces_they_come() {
        for hash in [SIGNED, SIGNED_BEFORE_TRAILER] {
            let body = example(hash);
            for piece in (1..100).chain(65500..65720).chain([body.len() - 1, body.len()]) {
                let (came, fault) = pass(hash, body.as_bytes(), piece);
                assert_eq!(fault, None, "in pieces of {piece}");
                assert!(came.concat() == body.as_bytes(), "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn nothing_is_whole_whose_signature_is_wrong() {
        for hash in [SIGNED, SIGNED_BEFORE_TRAILER] {
            let body = example(hash);
            for (at, before) in body.match_indices("signature=").chain(body.match_indices("signature:")) {
                let begin = at + before.len();
                // Where what is signed ends: the chunk's bytes, or what stands alone.
                let rest = body[begin + 64..].strip_prefix("\r\na");
                let whole = begin + 64 + rest.and_then(|rest| rest.find("\r\n")).map_or(0, |more| 3 + more);
                let right = &body[begin..begin + 64];
                for wrong in ["0".repeat(64), right.to_uppercase(), chain(hash)[0].to_owned()] {
                    let changed = [&body[..begin], &wrong, &body[begin + 64..]].concat();
                    for piece in [1, 7, 1024, changed.len()] {
                        let (came, fault) = pass(hash, changed.as_bytes(), piece);
                        assert_eq!(fault, Some(Fault::Mismatch), "{wrong} at {begin}");
                        let came = came.concat();
                        assert!(
                            changed.as_bytes().starts_with(&came) && came.len() < whole,
                            "{wrong} at {begin}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_signature_is_where_there_must_be_one_and_nowhere_else() {
        let malformed = |hash, body: &str| {
            assert_eq!(pass(hash, body.as_bytes(), 100).1, Some(Fault::Malformed), "{body:.100}");
        };
        let (plain, trailed) = (example(SIGNED), example(SIGNED_BEFORE_TRAILER));
        for signature in &PLAIN[1..] {
            malformed(SIGNED, &plain.replace(&format!(";chunk-signature={signature}"), ""));
            malformed(SIGNED, &plain.replace(signature, &signature[1..]));
            malformed(SIGNED, &plain.replace(&format!("={signature}"), &format!("={signature}0")));
        }
        malformed(SIGNED, &plain.replace("chunk-signature", "chunk-Signature"));
        malformed(SIGNED, &format!("{plain}{}\r\n", TRAILER.0));
        malformed(SIGNED_BEFORE_TRAILER, &trailed.replace("x-amz-trailer-signature", "x-amz-other"));
        let (cut, _) = trailed.split_once(TRAILER.0).expect("a trailer");
        malformed(SIGNED_BEFORE_TRAILER, cut);
        malformed(SIGNED_BEFORE_TRAILER, &format!("{cut}\r\n"));
        malformed(SIGNED_BEFORE_TRAILER, &format!("{trailed}{}", "a:b\r\n".repeat(4000)));
        malformed(UNSIGNED, &plain);
        malformed(UNSIGNED, &format!("0\r\n{}\r\nx-amz-trailer-signature:{}\r\n\r\n", TRAILER.0, TRAILER.1));
    }

    #[test]
    fn what_passes_is_read_in_one_way() {
        // The protocol layer reads eight digits of a size, and passes over headers that are no text.
        assert_eq!(
            pass(UNSIGNED, b"000000005\r\nhello\r\n0000000000\r\n\r\n", 4).0.concat(),
            b"5\r\nhello\r\n0\r\n\r\n"
        );
        let mut headers = HeaderMap::new();
        headers.append("x-amz-content-sha256", HeaderValue::from_bytes(b"\xff").expect("a value"));
        assert_eq!(is_signed(&headers), None);
        headers.append("x-amz-content-sha256", HeaderValue::from_static(SIGNED));
        assert_eq!(is_signed(&headers), Some(true));
    }
}
