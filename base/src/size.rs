//! Sizes in bytes, read and written in the peers' units.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid size {0:?}: give a number of bytes, or a number with a unit such as 512MiB, 10GiB or 2TB")]
pub struct SizeError(pub String);

/// A number of bytes.
///
/// Units are those of both peers: `B`, `kB` `MB` `GB` `TB` `PB` `EB` (powers of 1000), `KiB` `MiB` `GiB`
/// `TiB` `PiB` `EiB` (powers of 1024); a bare number is bytes.
///
/// ```
/// use larder_base::ByteSize;
/// assert_eq!("10GiB".parse::<ByteSize>().unwrap().as_bytes(), 10 << 30);
/// assert_eq!("2 kB".parse::<ByteSize>().unwrap().as_bytes(), 2000);
/// assert_eq!(ByteSize::from_bytes(10 << 30).to_string(), "10GiB");
/// assert!("10XB".parse::<ByteSize>().is_err());
/// assert!("99999EiB".parse::<ByteSize>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(u64);

const UNITS: &[(&str, u64)] = &[
    ("EiB", 1 << 60),
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("EB", 1_000_000_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
    ("", 1),
];

impl ByteSize {
    /// A size of `bytes` bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A size of `mebibytes` MiB.
    pub const fn from_mebibytes(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    /// The number of bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// The next multiple of `step` bytes; `None` when that overflows or `step` is 0.
    pub fn round_up(self, step: u64) -> Option<Self> {
        self.0.checked_next_multiple_of(step).map(Self)
    }
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let refuse = || SizeError(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = trimmed.split_at(digits);
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let unit = unit.trim_start();
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?;
        let bytes = number.checked_mul(*factor).filter(|bytes| i64::try_from(*bytes).is_ok());
        bytes.map(Self).ok_or_else(refuse)
    }
}

impl fmt::Display for ByteSize {
    /// The largest binary unit that says it exactly.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS[..6].iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        let (unit, factor) = exact.copied().unwrap_or(("B", 1));
        write!(formatter, "{}{unit}", self.0 / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn writing_and_reading_is_the_identity(bytes in 0..=i64::MAX.unsigned_abs()) {
            let size = ByteSize::from_bytes(bytes);
            prop_assert_eq!(size.to_string().parse::<ByteSize>(), Ok(size));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,30}") {
            let _ = text.parse::<ByteSize>();
        }
    }

    #[test]
    fn signs_fractions_and_unknown_units_are_refused() {
        for bad in ["", "-1", "+1", "1.5GiB", "GiB", "1gib", "1 GiB x", "٣"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }
}
