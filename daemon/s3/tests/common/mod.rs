//! An endpoint on loopback over a folder, and a client that signs for itself and says exactly what it is told to.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]
#![allow(dead_code, reason = "each test uses its part")]

#[path = "../../examples/serve/folder.rs"]
mod folder;

use folder::{Configuration, Folder};
use jiff::{SignedDuration, Timestamp};
use larder_base::signature::{self, Request, signature, signature_of, signing_key, sorted_query};
use larder_s3::{Endpoint, Options, Peer};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;

/// Two accounts, and keys of the bucket `shared` of the first.
pub(crate) const ACCOUNTS: &str = r#"{
    "accounts": [
        {"id": "id-of-ann", "display_name": "Ann", "email": "ann@example.net", "keys": {"ANN": "secret of ann/+="}},
        {"id": "id-of-bob", "display_name": "Bob", "email": "bob@example.net", "keys": {"BOB": "secret of bob"}}
    ],
    "bucket_keys": {
        "WRITER": {"secret": "w", "owner": "id-of-ann", "buckets": {"shared": true}},
        "READER": {"secret": "r", "owner": "id-of-ann", "buckets": {"shared": false}}
    }
}"#;

/// A running endpoint; it and its folder end with it.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
    runtime: Runtime,
}

/// An endpoint over a folder.
pub(crate) fn endpoint(folder: &Path, options: Options) -> Endpoint {
    let configuration: Configuration = serde_json::from_str(ACCOUNTS).unwrap();
    Endpoint::new(Arc::new(Folder::open(folder, configuration).unwrap()), options)
}

/// Serves an empty folder.
pub(crate) fn serve() -> Served {
    serve_with(Options { domains: vec!["s3.test".to_owned()], ..Options::default() })
}

/// Serves an empty folder with other options.
pub(crate) fn serve_with(options: Options) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = endpoint(folder.path(), options);
    serve_endpoint(endpoint, folder)
}

/// Serves an endpoint over a folder, on an address of its own.
pub(crate) fn serve_endpoint(endpoint: Endpoint, folder: tempfile::TempDir) -> Served {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let endpoint = endpoint.clone();
            let Some(admitted) = endpoint.admit(peer.ip()) else { continue };
            let peer = Peer { address: Some(peer.ip()), is_secure: false };
            tokio::spawn(async move {
                endpoint.serve_plain(stream, peer, std::future::pending()).await;
                drop(admitted);
            });
        }
    });
    Served { address, folder, runtime }
}

/// A request before it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    /// Path and query, percent-encoded as they are sent.
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// How far the client's clock is ahead.
    pub(crate) skew: SignedDuration,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// What stands in these bytes, with the rest as its body; none before its head is whole.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Some(Self { status, headers, body: bytes[end + 4..].to_vec() })
    }

    /// The code of an error.
    pub(crate) fn code(&self) -> String {
        let text = self.text();
        let code = text.split("<Code>").nth(1).and_then(|rest| rest.split("</Code>").next());
        code.unwrap_or_default().to_owned()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(crate) fn call(method: &'static str, target: &str) -> Call {
    let headers = BTreeMap::from([("host".to_owned(), "127.0.0.1".to_owned())]);
    Call { method, target: target.to_owned(), headers, body: Vec::new(), skew: SignedDuration::ZERO }
}

impl Call {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn date(&self) -> String {
        signature::date(Timestamp::now() + self.skew)
    }

    /// Signs by header, with a number of its own as SDKs have it: no two signatures are the same.
    pub(crate) fn sign(mut self, key: &str, secret: &str) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
        self = self.header("amz-sdk-invocation-id", &number).header("amz-sdk-request", "attempt=1");
        self.sign_plainly(key, secret)
    }

    /// Signs by header what may be signed twice in a second.
    pub(crate) fn sign_plainly(mut self, key: &str, secret: &str) -> Self {
        let payload = hex::encode(Sha256::digest(&self.body));
        self.headers.insert("x-amz-date".to_owned(), self.date());
        self.headers.entry("x-amz-content-sha256".to_owned()).or_insert(payload);
        let request = Request { method: self.method, target: &self.target, headers: &self.headers };
        let authorization = request.authorization(key, secret);
        self.headers.insert("authorization".to_owned(), authorization);
        self
    }

    /// Signs by header, and a body in chunks one after the other.
    pub(crate) fn sign_chunks(self, key: &str, secret: &str, chunks: &[&[u8]]) -> Self {
        self.sign_chunks_before(key, secret, chunks, None)
    }

    /// The same before a header that follows them, by its name and value, and is signed as well.
    pub(crate) fn sign_chunks_before(
        mut self,
        key: &str,
        secret: &str,
        chunks: &[&[u8]],
        trailer: Option<(&str, &str)>,
    ) -> Self {
        let length: usize = chunks.iter().map(|chunk| chunk.len()).sum();
        let kind = if trailer.is_some() { "PAYLOAD-TRAILER" } else { "PAYLOAD" };
        if let Some((name, _)) = trailer {
            self = self.header("x-amz-trailer", name);
        }
        self = self
            .header("content-encoding", "aws-chunked")
            .header("x-amz-content-sha256", &format!("STREAMING-AWS4-HMAC-SHA256-{kind}"))
            .header("x-amz-decoded-content-length", &length.to_string())
            .sign(key, secret);
        let date = self.headers["x-amz-date"].clone();
        let key_of_day = signing_key(secret, &date[..8]);
        let mut before = self.headers["authorization"].rsplit('=').next().unwrap().to_owned();
        let hash = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
        for chunk in chunks.iter().copied().chain([&b""[..]]) {
            let what = format!("{before}\n{}\n{}", hash(b""), hash(chunk));
            before = signature_of("AWS4-HMAC-SHA256-PAYLOAD", &key_of_day, &date, &what);
            self.body.extend(format!("{:x};chunk-signature={before}\r\n", chunk.len()).bytes());
            self.body.extend_from_slice(chunk);
            self.body.extend(if chunk.is_empty() { &b""[..] } else { b"\r\n" });
        }
        if let Some((name, value)) = trailer {
            let what = format!("{before}\n{}", hash(format!("{name}:{value}\n").as_bytes()));
            let signature = signature_of("AWS4-HMAC-SHA256-TRAILER", &key_of_day, &date, &what);
            self.body.extend(format!("{name}:{value}\r\nx-amz-trailer-signature:{signature}\r\n").bytes());
        }
        self.body.extend(b"\r\n");
        self
    }

    /// Signs by query, for so many seconds.
    pub(crate) fn presign(mut self, key: &str, secret: &str, seconds: u64) -> Self {
        let date = self.date();
        let credential = format!("{key}%2F{}%2Fus-east-1%2Fs3%2Faws4_request", &date[..8]);
        let joint = if self.target.contains('?') { '&' } else { '?' };
        self.target = format!(
            "{}{joint}X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={date}\
             &X-Amz-Expires={seconds}&X-Amz-SignedHeaders=host",
            self.target
        );
        let (path, query) = self.target.split_once('?').unwrap();
        let host = &self.headers["host"];
        let canonical = format!(
            "{}\n{path}\n{}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD",
            self.method,
            sorted_query(query)
        );
        let signature = signature(&signing_key(secret, &date[..8]), &date, &canonical);
        self.target = format!("{}&X-Amz-Signature={signature}", self.target);
        self
    }

    /// What goes over the wire, without the body.
    pub(crate) fn head(&self) -> String {
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let names_length =
            ["content-length", "transfer-encoding"].iter().any(|name| self.headers.contains_key(*name));
        let length =
            if names_length { String::new() } else { format!("content-length: {}\r\n", self.body.len()) };
        format!("{} {} HTTP/1.1\r\n{headers}{length}\r\n", self.method, self.target)
    }

    /// Sends it over a connection of its own.
    pub(crate) fn send(&self, served: &Served) -> Reply {
        self.send_over(TcpStream::connect(served.address).unwrap())
    }

    /// Sends it over a connection from another address of this machine.
    pub(crate) fn send_from(&self, address: Ipv4Addr, served: &Served) -> Reply {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((address, 0))).unwrap();
        let stream = served.runtime.block_on(socket.connect(served.address)).unwrap().into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        self.send_over(stream)
    }

    fn send_over(&self, mut stream: TcpStream) -> Reply {
        stream.write_all(self.head().as_bytes()).unwrap();
        stream.write_all(&self.body).unwrap();
        read_reply(&mut stream, self.method == "HEAD")
    }
}

/// Reads a whole reply.
pub(crate) fn read_reply(stream: &mut TcpStream, is_head: bool) -> Reply {
    let mut bytes = Vec::new();
    let mut reply = loop {
        if let Some(reply) = Reply::read(&bytes) {
            break reply;
        }
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the connection ended: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&chunk[..count]);
    };
    let length: usize = reply.headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    if !is_head {
        let already = reply.body.len();
        reply.body.resize(length.max(already), 0);
        stream.read_exact(&mut reply.body[already..]).unwrap();
    }
    reply
}

/// Sends as Ann.
pub(crate) fn ann(served: &Served, call: Call) -> Reply {
    call.sign("ANN", "secret of ann/+=").send(served)
}
