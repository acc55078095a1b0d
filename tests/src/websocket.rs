//! A websocket over a unix socket, as much of RFC 6455 as a listener needs, written by hand so that tests see what is sent.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// An open websocket.
#[derive(Debug)]
pub struct WebSocket {
    stream: BufReader<UnixStream>,
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;

impl WebSocket {
    /// Opens one, or returns the status of the refusal.
    ///
    /// # Panics
    /// When the connection breaks off.
    pub fn open(socket: &Path, path: &str) -> Result<Self, u16> {
        let mut stream = UnixStream::connect(socket).unwrap_or_else(|error| panic!("no connection: {error}"));
        let limit = stream.set_read_timeout(Some(Duration::from_secs(20)));
        limit.unwrap_or_else(|error| panic!("no time limit: {error}"));
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: unix.socket\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap_or_else(|error| panic!("the request broke off: {error}"));
        let mut stream = BufReader::new(stream);
        let mut status = 0;
        loop {
            let mut line = String::new();
            let read =
                stream.read_line(&mut line).unwrap_or_else(|error| panic!("the answer broke off: {error}"));
            if status == 0 {
                status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
            }
            if read == 0 || line == "\r\n" {
                break;
            }
        }
        if status == 101 { Ok(Self { stream }) } else { Err(status) }
    }

    /// The next message that is JSON; `None` at the end or after 20 s of silence.
    pub fn next_json(&mut self) -> Option<Value> {
        loop {
            let (opcode, payload) = self.frame()?;
            match opcode {
                TEXT => return serde_json::from_slice(&payload).ok(),
                CLOSE => return None,
                PING => self.pong(&payload)?,
                _ => {}
            }
        }
    }

    /// The next JSON message that `is_it`, leaving out those before.
    pub fn find(&mut self, is_it: impl Fn(&Value) -> bool) -> Option<Value> {
        loop {
            let message = self.next_json()?;
            if is_it(&message) {
                return Some(message);
            }
        }
    }

    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        let length = match head[1] & 0x7f {
            126 => {
                let mut bytes = [0; 2];
                self.stream.read_exact(&mut bytes).ok()?;
                u64::from(u16::from_be_bytes(bytes))
            }
            127 => {
                let mut bytes = [0; 8];
                self.stream.read_exact(&mut bytes).ok()?;
                u64::from_be_bytes(bytes)
            }
            length => u64::from(length),
        };
        let mut payload = vec![0; usize::try_from(length).ok()?];
        self.stream.read_exact(&mut payload).ok()?;
        Some((head[0] & 0x0f, payload))
    }

    fn pong(&mut self, payload: &[u8]) -> Option<()> {
        // A mask of zeros leaves the payload as it is.
        let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126)?;
        let mut frame = vec![0x8a, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        self.stream.get_mut().write_all(&frame).ok()
    }
}
