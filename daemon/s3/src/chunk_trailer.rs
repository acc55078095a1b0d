//! What follows the last chunk of a body, read as the protocol layer reads it.

use http::{HeaderName, HeaderValue};

/// The most that a trailer may have (bytes).
pub(crate) const MAX_TRAILER: usize = 16 * 1024;
/// The most headers that may be in it.
const MAX_HEADERS: usize = 100;
const SIGNATURE: &str = "x-amz-trailer-signature";

/// A trailer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// Its headers as they are signed, a line each, in order.
    pub(crate) lines: Vec<u8>,
    /// Its signature, in hexadecimal digits if it is one.
    pub(crate) signature: Option<String>,
}

impl Trailer {
    /// Reads one; an empty one has nothing but perhaps a line's end. `None` for what is no headers.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut headers = Vec::new();
        for line in bytes.split(|byte| *byte == b'\n') {
            let line = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).ok()?;
            if line.is_empty() {
                continue;
            }
            let (name, value) = line.split_once(':')?;
            let value = value.trim_matches([' ', '\t']);
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            HeaderValue::from_str(value).ok()?;
            headers.push((name, value));
        }
        if headers.len() > MAX_HEADERS {
            return None;
        }
        let mut trailer = Self::default();
        headers.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        for (name, value) in headers {
            match name == SIGNATURE {
                true => trailer.signature = Some(value.to_owned()),
                false => trailer.lines.extend_from_slice(format!("{name}:{value}\n").as_bytes()),
            }
        }
        Some(trailer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Option<(String, Option<String>)> {
        let trailer = Trailer::read(bytes)?;
        Some((String::from_utf8(trailer.lines).unwrap(), trailer.signature))
    }

    #[test]
    fn headers_are_signed_in_order_whatever_ends_their_lines() {
        let signature = Some("00ff".to_owned());
        assert_eq!(read(b""), Some((String::new(), None)));
        assert_eq!(read(b"\r\n"), Some((String::new(), None)));
        assert_eq!(read(b"a:b"), Some(("a:b\n".to_owned(), None)));
        let spelt = b"X-B: 1 \r\nx-a:2: 3\n\r\nX-Amz-Trailer-Signature:\t00ff\r\n\r\n";
        assert_eq!(read(spelt), Some(("x-a:2: 3\nx-b:1\n".to_owned(), signature.clone())));
        let twice = b"x-b:2\nx-amz-trailer-signature:11\nx-a:0\nx-b:1\nx-amz-trailer-signature:00ff\n";
        assert_eq!(read(twice), Some(("x-a:0\nx-b:2\nx-b:1\n".to_owned(), signature)));
    }

    #[test]
    fn what_is_no_headers_is_no_trailer() {
        for bytes in
            [&b"a"[..], b":a", b"a b:c", b" x-amz-trailer-signature:00", b"a:\x01", b"a:b\r\r\n", b"\xff:a"]
        {
            assert_eq!(read(bytes), None, "{}", String::from_utf8_lossy(bytes));
        }
        assert!(read(&b"a:b\n".repeat(100)).is_some());
        assert!(read(&b"a:b\n".repeat(101)).is_none());
    }
}
