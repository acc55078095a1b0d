//! Request bodies: bytes in memory and files, in any order, with a count of what went out.

use super::ClientError;
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::AsyncReadExt;

type Sent = Arc<dyn Fn(u64) + Send + Sync>;

/// One piece of a body.
#[derive(Debug, Clone)]
pub enum Part {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The content of this file.
    File(PathBuf),
}

/// A request body.
pub struct Body {
    pub(super) inner: UnsyncBoxBody<Bytes, io::Error>,
    pub(super) length: Option<u64>,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Body").field("length", &self.length).finish_non_exhaustive()
    }
}

const CHUNK_BYTES: usize = 256 << 10;

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self { inner: Empty::new().map_err(|never| match never {}).boxed_unsync(), length: None }
    }

    /// A body held in memory.
    pub fn bytes(bytes: Vec<u8>) -> Self {
        let length = bytes.len() as u64;
        Self {
            inner: Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync(),
            length: Some(length),
        }
    }

    /// Pieces one after the other. The files are opened and measured now and read while sending; `sent` is
    /// told the number of bytes that have gone out so far.
    pub async fn parts(
        parts: Vec<Part>,
        sent: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<Self, ClientError> {
        let mut length = 0;
        let mut streams = Vec::new();
        for part in parts {
            match part {
                Part::Bytes(bytes) => {
                    length += bytes.len() as u64;
                    streams.push(stream::once(async move { Ok(Bytes::from(bytes)) }).boxed());
                }
                Part::File(path) => {
                    let fails =
                        |source| ClientError::File { doing: "can't read", path: path.clone(), source };
                    let file = tokio::fs::File::open(&path).await.map_err(fails)?;
                    let size = file.metadata().await.map_err(fails)?.len();
                    length += size;
                    streams.push(file_stream(file, size).boxed());
                }
            }
        }
        let sent: Sent = Arc::new(sent);
        let mut total = 0;
        let frames = stream::iter(streams).flatten().map_ok(move |chunk: Bytes| {
            total += chunk.len() as u64;
            sent(total);
            Frame::data(chunk)
        });
        Ok(Self { inner: StreamBody::new(frames).boxed_unsync(), length: Some(length) })
    }
}

/// Exactly `size` bytes of a file: one that grows meanwhile must not break the announced length.
fn file_stream(
    file: tokio::fs::File,
    size: u64,
) -> impl futures_util::Stream<Item = Result<Bytes, io::Error>> + Send {
    stream::try_unfold(file.take(size), |mut file| async move {
        let mut buffer = Vec::with_capacity(CHUNK_BYTES);
        let count = file.read_buf(&mut buffer).await?;
        Ok((count > 0).then(|| (Bytes::from(buffer), file)))
    })
}
