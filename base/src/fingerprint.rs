//! The name of an image by its content.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A text is not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 64 hexadecimal digits in lower case, not {0:?}")]
pub struct FingerprintError(pub String);

/// SHA-256 of an image's files, as 64 lower-case hexadecimal digits.
///
/// ```
/// use larder_base::Fingerprint;
/// let text = "0".repeat(64);
/// let fingerprint: Fingerprint = text.parse().unwrap();
/// assert_eq!(fingerprint.short(), "000000000000");
/// assert!("../etc/passwd".parse::<Fingerprint>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(String);

impl Fingerprint {
    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, as clients show it.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = FingerprintError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(digit) { Ok(Self(text)) } else { Err(FingerprintError(text)) }
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
