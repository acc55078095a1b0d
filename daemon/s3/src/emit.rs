//! Sending an object's bytes: read in pieces, decrypted, never whole in memory.

use crate::encryption::CustomerKey;
use crate::support::from_bucket;
use bytes::Bytes;
use futures_util::stream;
use larder_storage_buckets::{BucketError, Content};
use s3s::dto::StreamingBlob;
use s3s::{Body, S3Result};
use std::ops::Range;

/// What is read at once; an object of at most so many bytes is read with its lookup.
pub(crate) const CHUNK: usize = 256 * 1024;

/// A piece of an object, as it was put.
pub(crate) struct Reading {
    pub(crate) content: Content,
    pub(crate) key: Option<CustomerKey>,
}

impl Reading {
    /// Up to [`CHUNK`] bytes of the range's beginning; blocking.
    pub(crate) fn next(&mut self, range: &mut Range<u64>) -> S3Result<Bytes> {
        let left = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let (index, mut bytes) = self.content.read(range.start, left.min(CHUNK)).map_err(from_bucket)?;
        if bytes.is_empty() && left > 0 {
            return Err(from_bucket(BucketError::Damaged { what: "an object: it ends early".to_owned() }));
        }
        if let (Some(key), Some(part)) = (&self.key, self.content.parts().get(index)) {
            let before: u64 = self.content.parts()[..index].iter().map(|part| part.size).sum();
            key.apply(&part.id, range.start - before, &mut bytes)?;
        }
        range.start += bytes.len() as u64;
        Ok(bytes.into())
    }

    /// The body of a reply.
    pub(crate) fn into_body(self, range: Range<u64>) -> StreamingBlob {
        let pieces = stream::unfold(Some((self, range)), |state| async {
            let (mut reading, mut range) = state.filter(|(_, range)| !range.is_empty())?;
            let read = tokio::task::spawn_blocking(move || {
                let piece = reading.next(&mut range);
                (reading, range, piece)
            });
            match read.await {
                Ok((reading, range, Ok(piece))) => Some((Ok(piece), Some((reading, range)))),
                Ok((_, _, Err(error))) => Some((Err(error), None)),
                Err(error) => Some((Err(s3s::s3_error!(error, InternalError)), None)),
            }
        });
        StreamingBlob::wrap(Box::pin(pieces))
    }
}

/// A body that is in memory already.
pub(crate) fn whole(bytes: Bytes) -> StreamingBlob {
    StreamingBlob::from(Body::from(bytes))
}
