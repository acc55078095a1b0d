//! Bodies that nobody wants any more: a request that is refused before its body was read gets its answer while the client
//! still sends. Who closed the connection then would break the client's write, and many a client tells its user of that and
//! not of the answer; over TCP the answer may be lost with it.

use http::HeaderMap;
use http::header::EXPECT;
use http_body_util::BodyExt;
use hyper::body::Body;
use std::time::Duration;

/// How long the rest of a body is taken and thrown away.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a client sends its body whatever is said. One that waits to be told to go on doesn't when it hears the answer first, and
/// may or may not when that comes late. So the connection is closed after an answer without a word before it: the HTTP layer might
/// take the next request for the body, or (seen with aws-cli 2.9.19, whose body was empty) botocore this answer's status for that of
/// the next.
pub fn is_sent_anyway(headers: &HeaderMap) -> bool {
    !headers.contains_key(EXPECT)
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
