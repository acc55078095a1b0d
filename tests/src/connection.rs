//! S3 without signatures over one connection, for buckets that let everybody in ([`S3::let_everybody_in`](crate::S3)): what is
//! sent is what the test wrote, and a request costs no process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The least that all parts but the last must have.
pub const PART: usize = 5 << 20;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    /// The last that was told.
    etag: String,
}

impl Connection {
    /// One to `host:port`; none when nobody listens there.
    pub fn open(host: &str) -> Option<Self> {
        let stream = TcpStream::connect(host).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Self { stream: BufReader::new(stream), etag: String::new() })
    }

    /// Puts an object, in parts when it is large or when asked to. Status and body of what failed or came last.
    pub fn put(&mut self, path: &str, body: &[u8], in_parts: bool) -> Option<(u16, Vec<u8>)> {
        if !in_parts && body.len() < PART {
            return self.send("PUT", path, body);
        }
        let (status, begun) = self.send("POST", &format!("{path}?uploads="), b"")?;
        let begun = String::from_utf8_lossy(&begun).into_owned();
        let Some(upload) = between(&begun, "<UploadId>", "<") else { return Some((status, begun.into())) };
        let mut parts = String::new();
        for (at, part) in body.chunks(PART).enumerate() {
            let number = at + 1;
            let answer = self.send("PUT", &format!("{path}?partNumber={number}&uploadId={upload}"), part)?;
            if answer.0 != 200 {
                return Some(answer);
            }
            let etag = &self.etag;
            parts += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
        }
        let list = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let (status, body) = self.send("POST", &format!("{path}?uploadId={upload}"), list.as_bytes())?;
        // An error may come after the head.
        let is_done = String::from_utf8_lossy(&body).contains("</CompleteMultipartUploadResult>");
        Some((if is_done { status } else { 0 }, body))
    }

    /// Status and body; `None` when the connection broke.
    pub fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
        let head =
            format!("{method} /{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body).ok()?;
        let mut line = String::new();
        self.stream.read_line(&mut line).ok()?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            line.clear();
            self.stream.read_line(&mut line).ok()?;
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if let Some(value) = header.strip_prefix("etag:") {
                value.trim().clone_into(&mut self.etag);
            }
            is_chunked |= header.starts_with("transfer-encoding:") && header.contains("chunked");
        }
        if is_chunked {
            return Some((status, self.chunks()?));
        }
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).ok()?;
        Some((status, bytes))
    }

    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).ok()?;
            let length = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; length + 2];
            self.stream.read_exact(&mut chunk).ok()?;
            if length == 0 {
                return Some(bytes);
            }
            bytes.extend(&chunk[..length]);
        }
    }
}

/// What stands between two marks.
pub fn between<'t>(text: &'t str, begin: &str, end: &str) -> Option<&'t str> {
    text.split(begin).nth(1)?.split(end).next()
}
