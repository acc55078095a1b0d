//! Keys: parts joined by slashes, each escaped so that no name can forge another key.

use std::fmt;
use std::fmt::Write as _;

/// A key of one entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// The beginning of keys, whole parts only: `volume/1` is no beginning of `volume/10`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl Key {
    /// The key of some parts. Slashes, percent signs and control characters in them are escaped.
    ///
    /// ```
    /// use larder_catalog::Key;
    /// assert_eq!(Key::of(["a", "b/c%\n"]).as_str(), "a/b%2Fc%25%0A");
    /// assert_ne!(Key::of(["", "a"]), Key::of(["a"]));
    /// ```
    pub fn of<P: AsRef<str>>(parts: impl IntoIterator<Item = P>) -> Self {
        Self(joined(parts))
    }

    /// A key as it was stored.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The spelling in the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A part by its place, from 0, unescaped.
    pub fn part(&self, place: usize) -> Option<String> {
        self.0.split('/').nth(place).map(unescaped)
    }

    /// The last part, unescaped.
    pub fn last_part(&self) -> String {
        unescaped(self.0.rsplit('/').next().unwrap_or_default())
    }
}

impl Prefix {
    /// All keys that begin with these parts, of which there must be one at least, and have more.
    pub fn of<P: AsRef<str>>(parts: impl IntoIterator<Item = P>) -> Self {
        let mut text = joined(parts);
        text.push('/');
        Self(text)
    }

    /// The first text that is below the prefix, and the first after it that no longer is.
    pub(crate) fn range(&self) -> (&str, String) {
        // The byte after `/` is `0`.
        let mut end = self.0.clone();
        end.pop();
        end.push('0');
        (&self.0, end)
    }
}

fn joined<P: AsRef<str>>(parts: impl IntoIterator<Item = P>) -> String {
    let mut text = String::new();
    for (position, part) in parts.into_iter().enumerate() {
        if position > 0 {
            text.push('/');
        }
        escape_into(&mut text, part.as_ref());
    }
    text
}

fn escape_into(text: &mut String, part: &str) {
    for character in part.chars() {
        if character == '/' || character == '%' || character.is_control() {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(text, "%{byte:02X}");
            }
        } else {
            text.push(character);
        }
    }
}

fn unescaped(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part;
    while let Some((plain, escape)) = rest.split_once('%') {
        bytes.extend_from_slice(plain.as_bytes());
        let (digits, after) = escape.split_at_checked(2).unwrap_or((escape, ""));
        bytes.extend(u8::from_str_radix(digits, 16));
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn different_parts_are_different_keys(
            one in vec("[a%/0-9\n]{0,4}", 1..4), other in vec("[a%/0-9\n]{0,4}", 1..4)
        ) {
            prop_assert_eq!(one == other, Key::of(&one) == Key::of(&other));
        }

        #[test]
        fn the_last_part_comes_back(parts in vec("(\\PC|\\pC|[%/]){0,6}", 1..4)) {
            prop_assert_eq!(Some(Key::of(&parts).last_part()), parts.last().cloned());
        }

        #[test]
        fn a_prefix_holds_the_keys_that_begin_with_its_parts_and_no_others(
            beginning in vec("[a1%/]{0,2}", 1..3), parts in vec("[a1%/]{0,2}", 1..4)
        ) {
            let (prefix, key) = (Prefix::of(&beginning), Key::of(&parts));
            let (from, to) = prefix.range();
            let is_within = key.as_str() >= from && key.as_str() < to.as_str();
            let begins = parts.len() > beginning.len() && parts.starts_with(&beginning);
            prop_assert_eq!(is_within, begins);
        }
    }
}
