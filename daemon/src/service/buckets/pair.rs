//! Pairs of access key and secret key: made up, or given and checked.

use crate::service::{Result, ServiceError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use larder_catalog::documents::BucketRole;
use larder_storage_driver::ObjectKey;
use std::fmt;

/// Letters and digits of made-up access keys.
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// How long they are, as those of the first S3.
const ACCESS_KEY_LENGTH: usize = 20;
/// Random bytes of a made-up secret key.
const SECRET_BYTES: usize = 30;

/// A pair of access key and secret key with what it may do; the secret is in the clear.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// Its name in its bucket.
    pub name: String,
    /// For people.
    pub description: String,
    /// What it may do.
    pub role: BucketRole,
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KeyPair")
            .field("name", &self.name)
            .field("role", &self.role)
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

impl KeyPair {
    /// A nameless pair that nobody can guess, which may read.
    pub(in crate::service) fn random() -> Result<Self> {
        let mut bytes = [0; ACCESS_KEY_LENGTH];
        fill(&mut bytes)?;
        let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
        let mut secret = [0; SECRET_BYTES];
        fill(&mut secret)?;
        Ok(Self {
            name: String::new(),
            description: String::new(),
            role: BucketRole::ReadOnly,
            access_key: bytes.iter().map(letter).collect(),
            secret_key: STANDARD.encode(secret),
        })
    }

    /// The same as a driver is told it.
    pub(super) fn object_key(&self) -> ObjectKey {
        ObjectKey {
            name: self.name.clone(),
            may_write: self.role == BucketRole::Admin,
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
        }
    }

    /// The same with the values that somebody gave, where they did.
    pub(in crate::service) fn with_given(self, access_key: &str, secret_key: &str) -> Result<Self> {
        let mut pair = self;
        if !access_key.is_empty() {
            check_access_key(access_key)?;
            pair.access_key = access_key.to_owned();
        }
        if !secret_key.is_empty() {
            check_secret_key(secret_key)?;
            pair.secret_key = secret_key.to_owned();
        }
        Ok(pair)
    }
}

fn fill(bytes: &mut [u8]) -> Result<()> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| ServiceError::internal("no random bytes for a key"))
}

/// An access key stands in headers, query strings and the catalog's keys.
pub(in crate::service) fn check_access_key(text: &str) -> Result<()> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match (3..=128).contains(&text.len()) && text.bytes().all(is_good) {
        true => Ok(()),
        false => Err(ServiceError::bad(format!(
            "invalid access key {text:?}: it must have 3 to 128 letters, digits, dashes, underscores or dots"
        ))),
    }
}

/// A secret key is never told back in an error.
fn check_secret_key(text: &str) -> Result<()> {
    match (8..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(ServiceError::bad(
            "invalid secret key: it must have 8 to 128 printable ASCII characters without spaces",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_values_are_kept_and_bad_ones_refused_without_telling_the_secret() {
        let pair = KeyPair::random().unwrap().with_given("my.key_1-a", "a/b+c=d/e").unwrap();
        assert_eq!((pair.access_key.as_str(), pair.secret_key.as_str()), ("my.key_1-a", "a/b+c=d/e"));
        assert!(!format!("{pair:?}").contains("a/b+c=d/e"));
        let made = KeyPair::random().unwrap();
        assert_ne!(made.access_key, KeyPair::random().unwrap().access_key);
        assert_eq!((made.access_key.len(), made.secret_key.len()), (20, 40));
        for (access, secret) in
            [("ab", ""), ("a/b/c", ""), ("a b c", ""), ("", "short"), ("", "has a space in")]
        {
            let error = KeyPair::random().unwrap().with_given(access, secret).unwrap_err();
            assert!(secret.is_empty() || !error.message.contains(secret), "{error}");
        }
    }
}
