//! Sending an object's bytes: read in pieces, decrypted, never whole in memory.

use crate::encryption::CustomerKey;
use crate::from_file;
use crate::support::from_bucket;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use larder_storage_buckets::{BucketError, Content};
use parking_lot::Mutex;
use s3s::dto::StreamingBlob;
use s3s::{Body, S3Result, s3_error};
use std::ops::Range;

/// What is read at once.
const CHUNK: usize = 256 * 1024;
/// How many buffers wait for the next piece.
const IDLE: usize = 4;

/// Buffers that were sent. A new one costs more than filling it: the kernel hands it out page by page.
static SENT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer with a piece of an object in its beginning.
struct Piece {
    buffer: Vec<u8>,
    length: usize,
}

impl Piece {
    /// Room for so many bytes at most.
    fn of(most: usize) -> Self {
        let is_small = most <= CHUNK / 8;
        let kept = if is_small { Some(vec![0; most]) } else { SENT.lock().pop() };
        Self { buffer: kept.unwrap_or_else(|| vec![0; CHUNK]), length: 0 }
    }

    fn into_bytes(mut self, length: usize) -> Bytes {
        self.length = length;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut sent = SENT.lock();
        if self.buffer.len() == CHUNK && sent.len() < IDLE {
            sent.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// An object as it was put, being read.
pub(crate) struct Reading {
    pub(crate) content: Content,
    pub(crate) key: Option<CustomerKey>,
    /// Whether the bytes go out as they are, on a connection that takes them from a file.
    pub(crate) is_from_file: bool,
}

impl Reading {
    /// Some bytes of the range's beginning; blocking.
    pub(crate) fn next(&mut self, range: &mut Range<u64>) -> S3Result<Bytes> {
        let most = most(range);
        let mut piece = Piece::of(most);
        let (part, length) =
            self.content.read_into(range.start, &mut piece.buffer[..most]).map_err(from_bucket)?;
        if length == 0 && most > 0 {
            return Err(from_bucket(BucketError::Damaged { what: "an object: it ends early".to_owned() }));
        }
        self.pass_on(piece, part, length, range)
    }

    /// The same where nobody has to wait for the disk.
    fn next_at_once(&mut self, range: &mut Range<u64>) -> Option<S3Result<Bytes>> {
        if let Some(piece) = self.of_file(range) {
            range.start += piece.len() as u64;
            return Some(Ok(piece));
        }
        let most = most(range);
        let mut piece = Piece::of(most);
        let (part, length) = self.content.read_at_once(range.start, &mut piece.buffer[..most])?;
        Some(self.pass_on(piece, part, length, range))
    }

    fn of_file(&mut self, range: &Range<u64>) -> Option<Bytes> {
        if !self.is_from_file || self.key.is_some() {
            return None;
        }
        let (file, within, left) = self.content.file_at(range.start)?;
        let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let most = left.min(wanted);
        if most < from_file::LEAST {
            return None;
        }
        let piece = from_file::piece(file, within, most);
        // What is not in memory is read, and so is what follows it.
        self.is_from_file = piece.is_some();
        piece
    }

    /// Decrypts what was read of a part.
    fn pass_on(
        &self,
        mut piece: Piece,
        part: usize,
        length: usize,
        range: &mut Range<u64>,
    ) -> S3Result<Bytes> {
        if let (Some(key), Some(of)) = (&self.key, self.content.parts().get(part)) {
            let before: u64 = self.content.parts()[..part].iter().map(|part| part.size).sum();
            key.apply(&of.id, range.start - before, &mut piece.buffer[..length])?;
        }
        range.start += length as u64;
        Ok(piece.into_bytes(length))
    }

    /// The body of a reply. Its first piece is read before, so that what can't be read is an error and no broken answer.
    pub(crate) async fn into_body(mut self, mut range: Range<u64>) -> S3Result<StreamingBlob> {
        if range.is_empty() {
            return Ok(StreamingBlob::from(Body::empty()));
        }
        if let Some(bytes) = self.content.take_small() {
            return Ok(StreamingBlob::from(Body::from(self.of_small(bytes, range)?)));
        }
        let (reading, range, first) = match self.next_at_once(&mut range) {
            Some(first) => (self, range, first),
            None => later(self, range).await?,
        };
        let first = first?;
        Ok(match range.is_empty() {
            true => StreamingBlob::from(Body::from(first)),
            false => reading.stream(first, range),
        })
    }

    /// A range of an object that is in memory as a whole.
    fn of_small(&self, mut bytes: Vec<u8>, range: Range<u64>) -> S3Result<Bytes> {
        if let (Some(key), [part]) = (&self.key, self.content.parts()) {
            key.apply(&part.id, 0, &mut bytes)?;
        }
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let bytes = Bytes::from(bytes);
        let ends_early = || from_bucket(BucketError::Damaged { what: "an object: it ends early".to_owned() });
        let is_whole = place(range.end) <= bytes.len();
        is_whole.then(|| bytes.slice(place(range.start)..place(range.end))).ok_or_else(ends_early)
    }

    fn stream(self, first: Bytes, range: Range<u64>) -> StreamingBlob {
        let rest = stream::unfold(Some((self, range)), |state| async {
            let (mut reading, mut range) = state.filter(|(_, range)| !range.is_empty())?;
            let (reading, range, piece) = match reading.next_at_once(&mut range) {
                Some(piece) => (reading, range, piece),
                None => match later(reading, range).await {
                    Ok(read) => read,
                    Err(error) => return Some((Err(error), None)),
                },
            };
            let goes_on = piece.is_ok();
            Some((piece, goes_on.then_some((reading, range))))
        });
        let pieces = stream::once(std::future::ready(Ok(first))).chain(rest);
        StreamingBlob::wrap(Box::pin(pieces))
    }
}

/// Reads where it may block.
async fn later(
    mut reading: Reading,
    mut range: Range<u64>,
) -> S3Result<(Reading, Range<u64>, S3Result<Bytes>)> {
    let work = move || {
        let piece = reading.next(&mut range);
        (reading, range, piece)
    };
    crate::blocking::in_turn(work).await.map_err(|error| s3_error!(error, InternalError))
}

fn most(range: &Range<u64>) -> usize {
    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX).min(CHUNK)
}
