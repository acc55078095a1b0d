//! What a client says of its body doesn't decide how much of it is held in memory.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

mod common;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::{ann, call, read_reply, serve};
use std::io::Write;
use std::net::TcpStream;

const MIB: usize = 1 << 20;
/// As `aws-sdk-go-v2` sends it over TLS: the whole body is one chunk.
const SIZE: usize = 200 * MIB;

/// The most memory this process ever had.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn a_body_in_one_large_chunk_flows() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let piece = vec![b'a'; MIB];
    let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32IsoHdlc);
    (0..SIZE / MIB).for_each(|_| crc.update(&piece));
    let crc = BASE64_STANDARD.encode(u32::try_from(crc.finalize()).unwrap().to_be_bytes());
    let (begin, end) = (format!("{SIZE:x}\r\n"), format!("\r\n0\r\nx-amz-checksum-crc32:{crc}\r\n\r\n"));
    let put = call("PUT", "/first/key")
        .header("content-encoding", "aws-chunked")
        .header("content-length", &(begin.len() + SIZE + end.len()).to_string())
        .header("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        .header("x-amz-decoded-content-length", &SIZE.to_string())
        .header("x-amz-trailer", "x-amz-checksum-crc32")
        .sign("ANN", "secret of ann/+=");
    let before = peak();
    let mut stream = TcpStream::connect(served.address).unwrap();
    stream.write_all(put.head().as_bytes()).unwrap();
    stream.write_all(begin.as_bytes()).unwrap();
    (0..SIZE / MIB).for_each(|_| stream.write_all(&piece).unwrap());
    stream.write_all(end.as_bytes()).unwrap();
    let reply = read_reply(&mut stream, false);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.headers["x-amz-checksum-crc32"], crc);
    let grown = (peak() - before) / MIB;
    assert!(grown < 20, "{grown} MiB were held of {} MiB", SIZE / MIB);
    let head = ann(&served, call("HEAD", "/first/key"));
    assert_eq!(head.headers["content-length"], SIZE.to_string());
}
