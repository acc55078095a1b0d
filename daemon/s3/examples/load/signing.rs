//! Signatures of version 4, as a client makes them.

#![expect(clippy::unwrap_used, reason = "a key of any length is one")]

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

pub(crate) fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap();
    mac.chain_update(text).finalize().into_bytes().to_vec()
}

/// A query as it is signed: in order, each name with a value.
pub(crate) fn sorted_query(query: &str) -> String {
    let mut pairs: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
        .collect();
    pairs.sort();
    pairs.join("&")
}

/// What a secret signs requests of a day with.
pub(crate) fn signing_key(secret: &str, day: &str) -> Vec<u8> {
    let key = hmac(format!("AWS4{secret}").as_bytes(), day);
    ["us-east-1", "s3", "aws4_request"].iter().fold(key, |key, text| hmac(&key, text))
}

/// The signature of a canonical request.
pub(crate) fn signature(key: &[u8], date: &str, canonical: &str) -> String {
    signature_of("AWS4-HMAC-SHA256", key, date, &hex::encode(Sha256::digest(canonical)))
}

/// The signature of what an algorithm signs in the end.
pub(crate) fn signature_of(algorithm: &str, key: &[u8], date: &str, what: &str) -> String {
    let to_sign = format!("{algorithm}\n{date}\n{}/us-east-1/s3/aws4_request\n{what}", &date[..8]);
    hex::encode(hmac(key, &to_sign))
}
