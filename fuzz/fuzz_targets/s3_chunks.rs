//! Bodies in chunks (`aws-chunked`): what is taken is what the chunks say, of the length that was announced.
//! The first byte says whether that length is right, and whether the chunks are said to be signed.
#![no_main]

#[allow(dead_code, reason = "each target uses its part")]
mod s3;

use libfuzzer_sys::fuzz_target;
use s3::{World, call};

/// The content of well-formed chunks; none when something is wrong with them. Trailers are not looked at.
fn content(mut framed: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let end = framed.windows(2).position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(&framed[..end]).ok()?;
        let length = usize::from_str_radix(line.split(';').next()?, 16).ok()?;
        framed = &framed[end + 2..];
        if length == 0 {
            return Some(content);
        }
        content.extend_from_slice(framed.get(..length)?);
        framed = framed[length..].strip_prefix(b"\r\n")?;
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [how, framed @ ..] = bytes else { return };
    let world = World::get();
    let wanted = content(framed);
    let length = match (&wanted, how & 1) {
        (Some(wanted), 0) => wanted.len(),
        _ => usize::from(how / 4),
    };
    let kind = match how & 2 {
        0 => "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        _ => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    };
    let put = call("PUT", "/shared/key")
        .header("content-encoding", "aws-chunked")
        .header("x-amz-content-sha256", kind)
        .header("x-amz-decoded-content-length", &length.to_string())
        .header("x-amz-trailer", "x-amz-checksum-crc32")
        .body(framed);
    if world.ann(put).status == 200 {
        let got = world.ann(call("GET", "/shared/key"));
        assert_eq!(got.body.len(), length);
        if let Some(wanted) = wanted {
            assert!(got.body == wanted, "something else came back");
        }
        assert_eq!(world.ann(call("DELETE", "/shared/key")).status, 204);
    }
});
