//! The header `Authorization`, read as the protocol layer reads it: what is seen in it here must be what is verified there. That
//! layer passes over the name of the algorithm, and over names of signed headers that did not come; so neither is free here.

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The one algorithm there is.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What a request is signed with by header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Authorization<'h> {
    /// The access key.
    pub(crate) key: &'h str,
    /// What the key is used for: day, region, service and `aws4_request`, separated by slashes.
    pub(crate) scope: &'h str,
    /// The headers that are signed, separated by semicolons.
    pub(crate) headers: &'h str,
    /// Hexadecimal.
    pub(crate) signature: &'h str,
}

impl<'h> Authorization<'h> {
    /// `None` for a request that is not signed by header, or in a way that is refused ([`Authorization::is_malformed`]).
    pub(crate) fn of(headers: &'h HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(text), None) = (values.next(), values.next()) else { return None };
        let rest = text.to_str().ok()?.strip_prefix(ALGORITHM)?.strip_prefix([' ', '\t'])?;
        let field = |rest: &'h str, name: &str| rest.trim_ascii_start().strip_prefix(name);
        let (credential, rest) = field(rest, "Credential=")?.split_once(',')?;
        let (headers, rest) = field(rest, "SignedHeaders=")?.split_once(',')?;
        let signature = field(rest, "Signature=")?.trim_ascii_end();
        let (key, scope) = credential.split_once('/')?;
        let [_day, _region, _service, "aws4_request"] = scope.split('/').collect::<Vec<_>>()[..] else {
            return None;
        };
        let is_digits = signature.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_digits.then_some(Self { key, scope, headers, signature })
    }

    /// Whether a header signature came that is none.
    pub(crate) fn is_malformed(headers: &'h HeaderMap) -> bool {
        let is_empty = headers.get(AUTHORIZATION).is_none_or(http::HeaderValue::is_empty);
        !is_empty && Self::of(headers).is_none()
    }

    /// Whether a header is signed, by its name in lower case. One whose name is spelt another way is not looked at by the
    /// protocol layer.
    pub(crate) fn signs(&self, header: &str) -> bool {
        is_among(self.headers, header)
    }
}

/// Whether names that are separated by semicolons have one among them.
pub(crate) fn is_among(names: &str, wanted: &str) -> bool {
    names.split(';').any(|name| name == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(values: &[&[u8]]) -> HeaderMap {
        let value = |value: &&[u8]| http::HeaderValue::from_bytes(value).unwrap();
        values.iter().map(|bytes| (AUTHORIZATION, value(bytes))).collect()
    }

    #[test]
    fn one_spelling_is_understood() {
        let whole = "AWS4-HMAC-SHA256 Credential=K/20260101/r/s3/aws4_request,SignedHeaders=host;x-amz-date,\tSignature=00ff ";
        let headers = with(&[whole.as_bytes()]);
        let found = Authorization::of(&headers).unwrap();
        let (scope, headers_of) = ("20260101/r/s3/aws4_request", "host;x-amz-date");
        let wanted = Authorization { key: "K", scope, headers: headers_of, signature: "00ff" };
        assert_eq!(found, wanted);
        assert!(found.signs("host") && !found.signs("x-amz") && !found.signs("HOST"));
        assert!(!Authorization::is_malformed(&headers));
        let other = |from: &str, to: &str| whole.replacen(from, to, 1).into_bytes();
        for bytes in [
            other("AWS4-HMAC-SHA256", "Signature=0000000000000001"),
            other("AWS4-HMAC-SHA256", "SignedHeaders=x-amz-acl,"),
            other("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256;"),
            other("AWS4-HMAC-SHA256", "aws4-hmac-sha256"),
            other("Credential=", "Credential=O/20260101/r/s3/aws4_request, Credential="),
            other("SignedHeaders=", "Signature=11, SignedHeaders="),
            other("Signature=", "Signature=11, Signature="),
            other("Signature=", "Signature=11 "),
            other("host;", "host;\u{e9};"),
            other("/r/", "/r/s/"),
            b"Basic eDp5".to_vec(),
        ] {
            let headers = with(&[&bytes]);
            assert_eq!(Authorization::of(&headers), None, "{}", String::from_utf8_lossy(&bytes));
            assert!(Authorization::is_malformed(&headers));
        }
        assert!(Authorization::is_malformed(&with(&[whole.as_bytes(), whole.as_bytes()])));
        assert!(!Authorization::is_malformed(&with(&[])) && !Authorization::is_malformed(&with(&[b""])));
    }
}
