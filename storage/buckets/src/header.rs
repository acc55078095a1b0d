//! Every blob carries its own header, so that the index can be rebuilt without it. In a file it stands behind the bytes; a file is
//! never changed, so that snapshots can share it, and a header that changes later stands in `small.db`. Files of earlier versions
//! have such headers appended: the last one counts.
//!
//! ```text
//! bytes of the object | JSON | length of the JSON (u32, little endian) | first 8 bytes of its SHA-256 | LARDEROB
//! ```

use crate::{BucketError, Result, Version};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;

const MAGIC: &[u8; 8] = b"LARDEROB";
const FOOTER: usize = 4 + 8 + MAGIC.len();
/// A header in a file has at most so many bytes.
const MAX_HEADER: u64 = 1 << 20;
/// How far back a damaged end is searched for the header before it.
const SEARCH: u64 = 1 << 20;
/// How many of what may be headers are looked at there: what lies before them is the client's, who may have put in thousands.
const CANDIDATES: usize = 16;

/// What a blob says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Header {
    /// An object, a delete marker, or the manifest of an object that has several parts.
    Object(Box<Version>),
    /// A part of an upload, or of an object whose manifest names it.
    Part {
        /// The upload that brought it.
        upload: String,
        /// Its number.
        number: u32,
        /// Its bytes.
        size: u64,
    },
}

impl Header {
    pub(crate) fn to_json(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|error| BucketError::Damaged { what: format!("a header: {error}") })
    }

    pub(crate) fn from_json(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Whether it is the header of this blob. The bytes of a blob may look like a header; who sends them can't know the id.
    pub(crate) fn is_of(&self, id: &str) -> bool {
        match self {
            Self::Object(version) => version.blobs().iter().any(|(blob, _)| blob == id),
            // It names no blob: a version or an upload names the part.
            Self::Part { .. } => true,
        }
    }

    /// What is written behind the bytes.
    pub(crate) fn to_trailer(&self) -> Result<Vec<u8>> {
        let mut bytes = self.to_json()?.into_bytes();
        let length = u32::try_from(bytes.len())
            .ok()
            .filter(|length| u64::from(*length) <= MAX_HEADER)
            .ok_or_else(|| BucketError::Damaged { what: "a header of more than 1 MiB".to_owned() })?;
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&digest[..8]);
        bytes.extend_from_slice(MAGIC);
        Ok(bytes)
    }

    /// The header that ends a file. What never came to its end has none.
    pub(crate) fn read_end(file: &File) -> std::io::Result<Option<Self>> {
        read_before(file, file.metadata()?.len())
    }

    /// The last whole header of a file that is complete.
    pub(crate) fn read(file: &File) -> std::io::Result<Option<Self>> {
        let end = file.metadata()?.len();
        if let Some(header) = read_before(file, end)? {
            return Ok(Some(header));
        }
        let start = end.saturating_sub(SEARCH);
        let mut tail = vec![0; usize::try_from(end - start).unwrap_or(0)];
        file.read_exact_at(&mut tail, start)?;
        let may_be = |found: &usize| {
            let footer = tail.get(found.saturating_sub(FOOTER)..*found);
            footer.and_then(|footer| text_before(footer, start + *found as u64)).is_some()
        };
        for found in (FOOTER..=tail.len()).rev().filter(may_be).take(CANDIDATES) {
            if let Some(header) = read_before(file, start + found as u64)? {
                return Ok(Some(header));
            }
        }
        Ok(None)
    }
}

/// Where the JSON begins that a footer belongs to, which ends at `end`, and how long it is. `None` when it is no footer.
fn text_before(footer: &[u8], end: u64) -> Option<(u64, usize)> {
    let length = u32::from_le_bytes(footer.get(..4)?.try_into().ok()?);
    let is_one = footer.ends_with(MAGIC) && u64::from(length) <= MAX_HEADER;
    let start = end.checked_sub(FOOTER as u64)?.checked_sub(u64::from(length))?;
    if is_one { Some((start, usize::try_from(length).ok()?)) } else { None }
}

fn read_before(file: &File, end: u64) -> std::io::Result<Option<Header>> {
    let mut footer = [0; FOOTER];
    let Some(footer_start) = end.checked_sub(FOOTER as u64) else { return Ok(None) };
    file.read_exact_at(&mut footer, footer_start)?;
    let Some((start, length)) = text_before(&footer, end) else { return Ok(None) };
    let mut text = vec![0; length];
    file.read_exact_at(&mut text, start)?;
    if Sha256::digest(&text)[..8] != footer[4..12] {
        return Ok(None);
    }
    Ok(Header::from_json(&text).filter(|header| match header {
        // It stands right behind the part's bytes, and never changes.
        Header::Part { size, .. } => *size == start,
        Header::Object(_) => true,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(size: u64) -> Header {
        Header::Part { upload: "upload".to_owned(), number: 1, size }
    }

    fn file_of(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    #[test]
    fn a_header_ends_a_file_and_stands_where_it_says() {
        let bytes = [vec![1; 100], part(100).to_trailer().unwrap()].concat();
        assert_eq!(Header::read_end(&file_of(&bytes)).unwrap(), Some(part(100)));
        let followed = file_of(&[bytes, vec![0]].concat());
        assert_eq!(Header::read_end(&followed).unwrap(), None);
        assert_eq!(Header::read(&followed).unwrap(), Some(part(100)), "what is complete is searched");
        let elsewhere = file_of(&[vec![1; 99], part(100).to_trailer().unwrap()].concat());
        assert_eq!(Header::read(&elsewhere).unwrap(), None);
        for length in 0..=FOOTER {
            assert_eq!(Header::read(&file_of(&vec![0; length])).unwrap(), None);
        }
    }

    #[test]
    fn a_header_is_not_written_when_it_could_not_be_read() {
        let header = Header::Part { upload: "x".repeat(1 << 20), number: 1, size: 0 };
        assert!(matches!(header.to_trailer(), Err(BucketError::Damaged { .. })));
    }

    #[test]
    fn few_of_many_candidates_are_looked_at() {
        let header = [vec![1; 100], part(100).to_trailer().unwrap()].concat();
        let forged = [&[0; 12], MAGIC.as_slice()].concat();
        let few = file_of(&[header.clone(), forged.repeat(CANDIDATES - 1), vec![0]].concat());
        assert_eq!(Header::read(&few).unwrap(), Some(part(100)));
        let many = file_of(&[header, forged.repeat(CANDIDATES), vec![0]].concat());
        assert_eq!(Header::read(&many).unwrap(), None);
    }
}
