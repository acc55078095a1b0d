//! Documents that requests bring. What is wrong with one as a body, such as another hash than was signed, the protocol layer
//! tells as an internal error; here it is told as what it is.

use crate::support::custom;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use parking_lot::Mutex;
use s3s::{Body, S3Error, s3_error};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A document's body, watched as it is read.
#[derive(Debug)]
pub(crate) struct Document {
    seen: Arc<Mutex<Seen>>,
    length: Option<usize>,
    /// The hash that is signed, where it is one of the whole body.
    hash: Option<String>,
    /// The largest that is read.
    most: usize,
}

#[derive(Debug, Default)]
struct Seen {
    size: usize,
    hasher: Sha256,
}

impl Document {
    /// Watches the body of a request, of which at most so many bytes are passed on.
    pub(crate) fn watch(request: &mut Request<Body>, most: usize) -> Self {
        let text = |value: Option<&HeaderValue>| value?.to_str().ok().map(str::to_owned);
        let headers = request.headers();
        let length = text(headers.get(CONTENT_LENGTH)).and_then(|length| length.parse().ok());
        let hash = text(headers.get("x-amz-content-sha256")).filter(|hash| hash.len() == 64);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let noted = Arc::clone(&seen);
        let body = std::mem::take(request.body_mut()).map_frame(move |frame| {
            if let Some(data) = frame.data_ref() {
                let mut noted = noted.lock();
                noted.size += data.len();
                noted.hasher.update(data);
            }
            frame
        });
        // One more, by which the protocol layer sees that there is too much.
        *request.body_mut() = Body::http_body_unsync(Limited::new(body, most + 1));
        Self { seen, length, hash, most }
    }

    /// What is wrong with it, after the protocol layer failed.
    pub(crate) fn fault(&self) -> Option<S3Error> {
        let seen = self.seen.lock();
        // What failed before the body was read did so for another reason.
        if seen.size == 0 {
            return None;
        }
        if seen.size > self.most {
            return Some(s3_error!(MaxMessageLengthExceeded, "Your request was too large."));
        }
        if self.length.is_some_and(|length| seen.size < length) {
            return Some(s3_error!(IncompleteBody, "The body has not the length that was announced"));
        }
        let hash = hex::encode(seen.hasher.clone().finalize());
        self.hash.as_ref().filter(|signed| **signed != hash).map(|_| {
            custom(
                "XAmzContentSHA256Mismatch",
                StatusCode::BAD_REQUEST,
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            )
        })
    }
}
