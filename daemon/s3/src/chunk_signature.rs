//! The signatures of a body's chunks: each is made over the one before it, the first over the request's. They are compared
//! here, in constant time, before the protocol layer has the whole of what is signed: it compares them as text.

use crate::authorization::Authorization;
use crate::chunks::is_signed;
use crate::directory::{Directory, DirectoryError};
use crate::request::HASH_OF_NOTHING;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use larder_base::signature::signing_key_of;
use sha2::{Digest, Sha256};

/// The chunks of one body, in their order. By default no signature is right.
#[derive(Default)]
pub(crate) struct Signatures {
    key: Option<Hmac<Sha256>>,
    /// When and for what they are made, a line each.
    about: String,
    /// The one before: of the request, then of the last chunk that was right.
    before: String,
    /// What the chunk that comes is said to be signed with.
    claimed: String,
    hasher: Sha256,
}

impl Signatures {
    /// Those that the chunks of a request must have; `None` where they have none.
    pub(crate) async fn of(
        headers: &HeaderMap,
        directory: &dyn Directory,
    ) -> Result<Option<Self>, DirectoryError> {
        if is_signed(headers) != Some(true) {
            return Ok(None);
        }
        let found = match Authorization::of(headers) {
            Some(authorization) => directory.access_key(authorization.key).await?,
            None => None,
        };
        Ok(Some(found.map(|found| Self::with(headers, &found.secret)).unwrap_or_default()))
    }

    /// Those that are made with this secret. The request's own signature is taken as it came: the protocol layer verifies it
    /// before it reads the body, and refuses what has no date or no signature.
    pub(crate) fn with(headers: &HeaderMap, secret: &str) -> Self {
        let date = headers.get("x-amz-date").and_then(|date| date.to_str().ok());
        let Some((request, date)) = Authorization::of(headers).zip(date) else { return Self::default() };
        Self {
            key: <Hmac<Sha256> as KeyInit>::new_from_slice(&signing_key_of(request.scope, secret)).ok(),
            about: format!("{date}\n{}\n", request.scope),
            before: request.signature.to_owned(),
            ..Self::default()
        }
    }

    /// A chunk comes that is said to have this signature.
    pub(crate) fn begin(&mut self, claimed: &str) {
        claimed.clone_into(&mut self.claimed);
    }

    /// The next piece of the chunk.
    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
    }

    /// Whether the chunk has the right signature, now that all of it came.
    pub(crate) fn end(&mut self) -> bool {
        let hash = hex::encode(self.hasher.finalize_reset());
        let is_right =
            self.is_right("PAYLOAD", &format!("{HASH_OF_NOTHING}\n{hash}"), self.claimed.as_bytes());
        self.before = std::mem::take(&mut self.claimed);
        is_right
    }

    /// Whether the trailer has the right signature: its lines as they are signed, after the last chunk.
    pub(crate) fn is_trailer(&self, lines: &[u8], claimed: &[u8]) -> bool {
        self.is_right("TRAILER", &hex::encode(Sha256::digest(lines)), claimed)
    }

    /// Compares in constant time. A signature is written in lower case.
    fn is_right(&self, kind: &str, what: &str, claimed: &[u8]) -> bool {
        let mut signature = [0; 32];
        let is_one = !claimed.iter().any(u8::is_ascii_uppercase)
            && hex::decode_to_slice(claimed, &mut signature).is_ok();
        let Some(mac) = self.key.clone().filter(|_| is_one) else { return false };
        let (about, before) = (&self.about, &self.before);
        let mac = mac.chain_update(format!("AWS4-HMAC-SHA256-{kind}\n{about}{before}\n{what}"));
        mac.verify_slice(&signature).is_ok()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::AUTHORIZATION;

    /// The secret of the documentation's examples.
    pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    /// The request's signature, those of 65536, 1024 and no bytes of `a`.
    pub(crate) const PLAIN: [&str; 4] = [
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ];
    /// The same where a trailer follows.
    pub(crate) const TRAILED: [&str; 4] = [
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ];
    /// The trailer's line, and its signature.
    pub(crate) const TRAILER: (&str, &str) = (
        "x-amz-checksum-crc32c:sOO8/Q==",
        "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435",
    );

    /// The headers of an example: what is said of its body, and its own signature.
    pub(crate) fn headers(hash: &'static str, signature: &str) -> HeaderMap {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host, Signature={signature}"
        );
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-content-sha256", HeaderValue::from_static(hash));
        headers.insert("x-amz-date", HeaderValue::from_static("20130524T000000Z"));
        headers.insert(AUTHORIZATION, authorization.parse().unwrap());
        headers
    }

    fn chunk(signatures: &mut Signatures, size: usize, claimed: &str) -> bool {
        signatures.begin(claimed);
        vec![b'a'; size].chunks(1000).for_each(|piece| signatures.update(piece));
        signatures.end()
    }

    #[test]
    fn the_examples_of_the_documentation() {
        for chain in [PLAIN, TRAILED] {
            let mut signatures = Signatures::with(&headers("STREAMING-", chain[0]), SECRET);
            for (size, claimed) in [65536, 1024, 0].into_iter().zip(&chain[1..]) {
                assert!(chunk(&mut signatures, size, claimed), "{size}");
            }
            let lines = format!("{}\n", TRAILER.0);
            assert_eq!(signatures.is_trailer(lines.as_bytes(), TRAILER.1.as_bytes()), chain == TRAILED);
        }
    }

    #[test]
    fn one_spelling_of_one_signature_is_right() {
        let right = PLAIN[1];
        let with = |secret| Signatures::with(&headers("STREAMING-", PLAIN[0]), secret);
        let others = [
            String::new(),
            right.to_uppercase(),
            right[..62].to_owned(),
            format!("{right}00"),
            "z".repeat(64),
        ];
        for claimed in others.iter().map(String::as_str).chain([PLAIN[2], TRAILED[1]]) {
            assert!(!chunk(&mut with(SECRET), 65536, claimed), "{claimed}");
        }
        assert!(!chunk(&mut with(SECRET), 65535, right) && !chunk(&mut with("another secret"), 65536, right));
        assert!(!chunk(&mut Signatures::default(), 65536, right), "nobody signs");
        for missing in ["authorization", "x-amz-date"] {
            let mut headers = headers("STREAMING-", PLAIN[0]);
            headers.remove(missing);
            assert!(!chunk(&mut Signatures::with(&headers, SECRET), 65536, right), "{missing}");
        }
        assert!(chunk(&mut with(SECRET), 65536, right));
    }
}
