//! Signatures of version 4, as clients of S3 make them (AWS, "Authenticating Requests: Using the Authorization Header").

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What stands for the hash of a body that isn't hashed.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// The only region that is asked here.
const REGION: &str = "us-east-1";
const SCOPE: &str = "us-east-1/s3/aws4_request";

/// A request as it is signed.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The path as it is sent, encoded, and what comes behind `?`.
    pub target: &'a str,
    /// The headers that are signed, by their names in lower case: at least `host`, `x-amz-date` as of [`date`] and
    /// `x-amz-content-sha256`.
    pub headers: &'a BTreeMap<String, String>,
}

impl Request<'_> {
    /// The value of the header `authorization`.
    pub fn authorization(&self, access_key: &str, secret_key: &str) -> String {
        let header = |name: &str| self.headers.get(name).map_or("", String::as_str);
        let (date, payload) = (header("x-amz-date"), header("x-amz-content-sha256"));
        let day = date.get(..8).unwrap_or_default();
        let names = self.headers.keys().map(String::as_str).collect::<Vec<_>>().join(";");
        let lines: String =
            self.headers.iter().map(|(name, value)| format!("{name}:{}\n", words(value))).collect();
        let (path, query) = self.target.split_once('?').unwrap_or((self.target, ""));
        let canonical =
            format!("{}\n{path}\n{}\n{lines}\n{names}\n{payload}", self.method, sorted_query(query));
        let signature = signature(&signing_key(secret_key, day), date, &canonical);
        format!(
            "AWS4-HMAC-SHA256 Credential={access_key}/{day}/{SCOPE}, SignedHeaders={names}, Signature={signature}"
        )
    }
}

/// A value as it is signed: without space around it, and single spaces in it.
fn words(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// A time as requests tell it.
pub fn date(at: jiff::Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A query as it is signed: in order, each name with a value.
pub fn sorted_query(query: &str) -> String {
    let mut pairs: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
        .collect();
    pairs.sort();
    pairs.join("&")
}

/// What a secret signs requests of a day with; the day is the first eight letters of a [`date`].
pub fn signing_key(secret: &str, day: &str) -> Vec<u8> {
    signing_key_in(REGION, secret, day)
}

/// The same in a region of the signer's choice.
pub fn signing_key_in(region: &str, secret: &str, day: &str) -> Vec<u8> {
    signing_key_of(&format!("{day}/{region}/s3/aws4_request"), secret)
}

/// The same for a scope as requests name it: day, region, service and `aws4_request`, separated by slashes.
pub fn signing_key_of(scope: &str, secret: &str) -> Vec<u8> {
    scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, text| hmac(&key, text))
}

/// The signature of a canonical request, in hexadecimal digits.
pub fn signature(key: &[u8], date: &str, canonical: &str) -> String {
    signature_of("AWS4-HMAC-SHA256", key, date, &hex::encode(Sha256::digest(canonical)))
}

/// The signature of what an algorithm signs in the end.
pub fn signature_of(algorithm: &str, key: &[u8], date: &str, what: &str) -> String {
    let day = date.get(..8).unwrap_or_default();
    hex::encode(hmac(key, &format!("{algorithm}\n{date}\n{day}/{SCOPE}\n{what}")))
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    #[expect(clippy::unwrap_used, reason = "a key of any length is one")]
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap();
    mac.chain_update(text).finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the page that says how it is done.
    #[test]
    fn the_example_of_the_documentation() {
        let nothing = hex::encode(Sha256::digest(b""));
        let headers = [
            ("host", "examplebucket.s3.amazonaws.com"),
            ("range", " bytes=0-9 "),
            ("x-amz-content-sha256", nothing.as_str()),
            ("x-amz-date", "20130524T000000Z"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let request = Request { method: "GET", target: "/test.txt", headers: &headers };
        assert_eq!(
            request.authorization("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
    }

    #[test]
    fn a_key_is_of_one_scope() {
        let key = |scope| signing_key_of(scope, "secret");
        let here = key("20130524/us-east-1/s3/aws4_request");
        assert_eq!(signing_key("secret", "20130524"), here);
        assert_eq!(signing_key_in("other", "secret", "20130524"), key("20130524/other/s3/aws4_request"));
        assert_ne!(key("20130524/us-east-1/sts/aws4_request"), here);
    }

    #[test]
    fn a_query_is_signed_in_order() {
        assert_eq!(sorted_query("prefix=J&max-keys=2&acl"), "acl=&max-keys=2&prefix=J");
        assert_eq!(date(jiff::Timestamp::UNIX_EPOCH), "19700101T000000Z");
    }
}
