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
/// How far back a damaged end is searched for the header before it.
const SEARCH: u64 = 1 << 20;

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

    /// What is written behind the bytes.
    pub(crate) fn to_trailer(&self) -> Result<Vec<u8>> {
        let mut bytes = self.to_json()?.into_bytes();
        let length = u32::try_from(bytes.len())
            .map_err(|_| BucketError::Damaged { what: "a header of more than 4 GiB".to_owned() })?;
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&digest[..8]);
        bytes.extend_from_slice(MAGIC);
        Ok(bytes)
    }

    /// The last whole header of a file.
    pub(crate) fn read(file: &File) -> std::io::Result<Option<Self>> {
        let end = file.metadata()?.len();
        if let Some(header) = read_before(file, end)? {
            return Ok(Some(header));
        }
        let start = end.saturating_sub(SEARCH);
        let mut tail = vec![0; usize::try_from(end - start).unwrap_or(0)];
        file.read_exact_at(&mut tail, start)?;
        let ends = (MAGIC.len()..=tail.len()).rev().filter(|end| tail[..*end].ends_with(MAGIC));
        for found in ends {
            if let Some(header) = read_before(file, start + found as u64)? {
                return Ok(Some(header));
            }
        }
        Ok(None)
    }
}

fn read_before(file: &File, end: u64) -> std::io::Result<Option<Header>> {
    let mut footer = [0; FOOTER];
    let Some(footer_start) = end.checked_sub(FOOTER as u64) else { return Ok(None) };
    file.read_exact_at(&mut footer, footer_start)?;
    let (length, rest) = footer.split_at(4);
    let (digest, magic) = rest.split_at(8);
    let length = length.try_into().map_or(0, u32::from_le_bytes);
    let Some(start) = footer_start.checked_sub(u64::from(length)) else { return Ok(None) };
    if magic != MAGIC {
        return Ok(None);
    }
    let mut text = vec![0; length as usize];
    file.read_exact_at(&mut text, start)?;
    let is_whole = Sha256::digest(&text)[..8] == *digest;
    Ok(if is_whole { Header::from_json(&text) } else { None })
}
