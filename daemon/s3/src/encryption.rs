//! Encryption with a key the client brings at every request (SSE-C): AES-256 in counter mode. Each blob has its own
//! starting counter, taken from its id, so a range is decrypted by itself. Of the key only a salted HMAC is kept.

use aes::Aes256;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ctr::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fmt;

type Counter = ctr::Ctr128BE<Aes256>;

/// A key that a request brings.
#[derive(Clone)]
pub(crate) struct CustomerKey {
    key: [u8; 32],
    md5: String,
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CustomerKey").finish_non_exhaustive()
    }
}

/// What is stored of the key.
#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    salt: String,
    check: String,
}

pub(crate) const AES256: &str = "AES256";

impl CustomerKey {
    /// The key of a request's headers, if it brings one.
    pub(crate) fn parse(
        algorithm: Option<&str>,
        key: Option<&str>,
        md5: Option<&str>,
    ) -> S3Result<Option<Self>> {
        let (key, md5) = match (algorithm, key, md5) {
            (None, None, None) => return Ok(None),
            (Some(AES256), Some(key), Some(md5)) => (key, md5),
            (Some(other), _, _) if other != AES256 => {
                return Err(s3_error!(
                    InvalidEncryptionAlgorithmError,
                    "{other} is not supported: use AES256"
                ));
            }
            _ => {
                return Err(s3_error!(
                    InvalidArgument,
                    "Requests specifying Server Side Encryption with Customer provided keys must provide an algorithm, a key and its MD5."
                ));
            }
        };
        let bytes = BASE64_STANDARD.decode(key).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let bytes = bytes.ok_or_else(|| {
            s3_error!(InvalidArgument, "The secret key was invalid for the specified algorithm.")
        })?;
        if BASE64_STANDARD.encode(Md5::digest(bytes)) != md5 {
            return Err(s3_error!(
                InvalidArgument,
                "The calculated MD5 hash of the key did not match the hash that was provided."
            ));
        }
        Ok(Some(Self { key: bytes, md5: md5.to_owned() }))
    }

    /// MD5 of the key in base64, as replies show it.
    pub(crate) fn md5(&self) -> String {
        self.md5.clone()
    }

    fn hmac(&self, salt: &str) -> Option<Hmac<Sha256>> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.key).ok()?;
        mac.update(salt.as_bytes());
        Some(mac)
    }

    /// What is stored with the object.
    pub(crate) fn seal(&self) -> Option<String> {
        let salt = uuid::Uuid::new_v4().simple().to_string();
        let check = hex::encode(self.hmac(&salt)?.finalize().into_bytes());
        serde_json::to_string(&Sealed { salt, check }).ok()
    }

    fn opens(&self, sealed: &str) -> bool {
        let Ok(sealed) = serde_json::from_str::<Sealed>(sealed) else { return false };
        let (Some(mac), Ok(check)) = (self.hmac(&sealed.salt), hex::decode(&sealed.check)) else {
            return false;
        };
        mac.verify_slice(&check).is_ok()
    }

    /// Encrypts or decrypts bytes of a blob, in place.
    pub(crate) fn apply(&self, blob: &str, offset: u64, bytes: &mut [u8]) -> S3Result<()> {
        let start = hex::decode(blob).ok().and_then(|id| <[u8; 16]>::try_from(id).ok());
        let start = start.ok_or_else(|| s3_error!(InternalError))?;
        let mut cipher = Counter::new(&self.key.into(), &start.into());
        cipher.try_seek(offset).map_err(|_| s3_error!(InternalError))?;
        cipher.try_apply_keystream(bytes).map_err(|_| s3_error!(InternalError))
    }
}

/// Compares the key a request brings with what an object needs.
pub(crate) fn check(sealed: Option<&str>, key: Option<&CustomerKey>) -> S3Result<()> {
    match (sealed, key) {
        (None, None) => Ok(()),
        (Some(sealed), Some(key)) if key.opens(sealed) => Ok(()),
        (Some(_), Some(_)) => Err(s3_error!(InvalidRequest, "The object was stored with another key.")),
        (Some(_), None) => Err(s3_error!(
            InvalidRequest,
            "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object."
        )),
        (None, Some(_)) => {
            Err(s3_error!(InvalidRequest, "The encryption parameters are not applicable to this object."))
        }
    }
}

/// Refuses what asks for encryption that the server would keep the keys of.
pub(crate) fn refuse_managed(asked: Option<&str>, brings_key: bool) -> S3Result<()> {
    match asked {
        None => Ok(()),
        Some(_) if brings_key => Err(s3_error!(
            InvalidArgument,
            "Server Side Encryption with a Customer provided key is incompatible with the encryption method specified"
        )),
        Some(kind) => Err(s3_error!(
            NotImplemented,
            "server-side encryption {kind} is not supported: bring a key (SSE-C), or encrypt the volume"
        )),
    }
}
