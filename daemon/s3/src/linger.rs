//! Bodies that nobody wants any more: a request that is refused before its body was read gets its answer while the client
//! still sends. Who closed the connection then would break the client's write, and many a client tells its user of that and
//! not of the answer; over TCP the answer may be lost with it.

use http::header::EXPECT;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use hyper::body::Body;
use std::time::Duration;

/// How long the rest of a body is taken and thrown away.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a client sends its body whatever is said; one that waits to be told to go on doesn't.
pub fn is_sent_anyway(headers: &HeaderMap) -> bool {
    !headers.contains_key(EXPECT)
}

/// Whether a client waits to be told to go on with a body that is empty. The HTTP layer tells it only when there is something
/// to read, so the first that it hears is the answer. botocore then takes the status of that answer for the next one's too and
/// loses the headers of the next (seen with aws-cli 2.9.19), unless the connection is closed between them.
pub(crate) fn waits_with_nothing(request: &Request<impl Body>) -> bool {
    !is_sent_anyway(request.headers()) && request.body().is_end_stream()
}

/// Reads the rest of a request's body and throws it away, beside the caller, for some seconds.
pub fn read_the_rest(mut body: impl Body + Send + Unpin + 'static) {
    if body.is_end_stream() {
        return;
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime
        .spawn(tokio::time::timeout(PATIENCE, async move { while let Some(Ok(_)) = body.frame().await {} }));
}
