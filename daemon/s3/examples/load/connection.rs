//! One kept connection: a request out, a reply in, nothing kept of it but what is asked for.

use crate::Failure;
use jiff::Timestamp;
use larder_base::signature::{date as date_of, signature, signing_key, sorted_query};
use serde::Deserialize;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Long enough for a server that syncs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Access key and secret.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Pair(String, String);

/// A reply, as far as somebody looks at it.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) etag: String,
    /// How many bytes the body had.
    pub(crate) length: usize,
    /// The body, where it was to be kept.
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Connection {
    stream: TcpStream,
    host: String,
    signer: Option<Signer>,
    buffer: Vec<u8>,
}

struct Signer {
    access: String,
    key: Vec<u8>,
    day: String,
    secret: String,
}

impl Connection {
    pub(crate) fn open(address: &str, pair: Option<&Pair>) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let signer = pair.map(|Pair(access, secret)| Signer {
            access: access.clone(),
            key: Vec::new(),
            day: String::new(),
            secret: secret.clone(),
        });
        Ok(Self { stream, host: address.to_owned(), signer, buffer: vec![0; 1 << 20] })
    }

    /// Sends a request, whose body has this hash, and reads the reply to its end.
    pub(crate) fn call(
        &mut self,
        method: &str,
        target: &str,
        body: &[u8],
        hash: &str,
        keep: bool,
    ) -> Result<Reply, Failure> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n", self.host);
        head += &format!("content-length: {}\r\n", body.len());
        if let Some(signer) = &mut self.signer {
            head += &signer.headers(method, target, &self.host, hash);
        }
        head += "\r\n";
        // What is small goes in one packet.
        if body.len() <= 16 * 1024 {
            let mut whole = head.into_bytes();
            whole.extend_from_slice(body);
            self.stream.write_all(&whole)?;
        } else {
            self.stream.write_all(head.as_bytes())?;
            self.stream.write_all(body)?;
        }
        self.read(method, keep)
    }

    fn read(&mut self, method: &str, keep: bool) -> Result<Reply, Failure> {
        let mut filled = 0;
        let end = loop {
            let count = self.stream.read(&mut self.buffer[filled..])?;
            if count == 0 {
                return Err("the server ended the connection".into());
            }
            filled += count;
            if let Some(end) = memchr::memmem::find(&self.buffer[..filled], b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no status")?;
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find_map(|(known, value)| known.eq_ignore_ascii_case(name).then(|| value.to_owned()))
        };
        let etag = header("etag").unwrap_or_default();
        let mut body = Vec::new();
        let mut take = |bytes: &[u8]| {
            if keep {
                body.extend_from_slice(bytes);
            }
        };
        let length = match header("transfer-encoding") {
            Some(_) => self.read_chunks(end, filled, &mut take)?,
            None if method == "HEAD" || status == 204 || status == 304 => 0,
            None => {
                let length = header("content-length").unwrap_or_default().parse()?;
                self.read_body(end, filled, length, &mut take)?;
                length
            }
        };
        Ok(Reply { status, etag, length, body })
    }

    fn read_body(
        &mut self,
        start: usize,
        filled: usize,
        length: usize,
        take: &mut impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        take(&self.buffer[start..filled]);
        let mut left = length.checked_sub(filled - start).ok_or("more came than was announced")?;
        while left > 0 {
            let most = left.min(self.buffer.len());
            let count = self.stream.read(&mut self.buffer[..most])?;
            if count == 0 {
                return Err("the server ended the connection within a body".into());
            }
            take(&self.buffer[..count]);
            left -= count;
        }
        Ok(())
    }

    /// Bodies whose length wasn't told are documents: they are put together in memory.
    fn read_chunks(
        &mut self,
        start: usize,
        filled: usize,
        take: &mut impl FnMut(&[u8]),
    ) -> Result<usize, Failure> {
        let mut came = self.buffer[start..filled].to_vec();
        while !came.ends_with(b"0\r\n\r\n") {
            let count = self.stream.read(&mut self.buffer)?;
            if count == 0 {
                return Err("the server ended the connection within a body".into());
            }
            came.extend_from_slice(&self.buffer[..count]);
        }
        let (mut at, mut length) = (0, 0);
        loop {
            let end = memchr::memmem::find(&came[at..], b"\r\n").ok_or("a chunk without a size")?;
            let size = usize::from_str_radix(std::str::from_utf8(&came[at..at + end])?, 16)?;
            let from = at + end + 2;
            if size == 0 {
                return Ok(length);
            }
            take(came.get(from..from + size).ok_or("a chunk that ends early")?);
            length += size;
            at = from + size + 2;
        }
    }
}

impl Signer {
    fn headers(&mut self, method: &str, target: &str, host: &str, hash: &str) -> String {
        let date = date_of(Timestamp::now());
        if self.day != date[..8] {
            date[..8].clone_into(&mut self.day);
            self.key = signing_key(&self.secret, &self.day);
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let names = "host;x-amz-content-sha256;x-amz-date";
        let query = sorted_query(query);
        let canonical = format!(
            "{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{hash}\nx-amz-date:{date}\n\n{names}\n{hash}"
        );
        let signature = signature(&self.key, &date, &canonical);
        let scope = format!("{}/{}/us-east-1/s3/aws4_request", self.access, self.day);
        format!(
            "x-amz-date: {date}\r\nx-amz-content-sha256: {hash}\r\nauthorization: AWS4-HMAC-SHA256 \
             Credential={scope}, SignedHeaders={names}, Signature={signature}\r\n"
        )
    }
}
