//! Typed documents. Each is stored with the number of its format; one that is newer than the program is refused.

use crate::{Catalog, CatalogError, Entry, Key, Prefix, Result, Revision};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A kind of document.
pub trait Document: Serialize + DeserializeOwned {
    /// What it is called in errors.
    const KIND: &'static str;
    /// The newest format known. It grows with any change that an older program would lose by reading and writing back, a
    /// new field included; reading must go on to understand all older ones.
    const VERSION: u32 = 1;

    /// Where it stands.
    fn key(&self) -> Key;
}

/// A document with the transaction that wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored<D> {
    /// The document.
    pub document: D,
    /// The transaction that wrote it last.
    pub revision: Revision,
}

#[derive(Serialize)]
struct Written<'a, D> {
    v: u32,
    d: &'a D,
}

#[derive(Deserialize)]
struct Format {
    v: u32,
}

#[derive(Deserialize)]
struct Read<D> {
    d: D,
}

pub(crate) fn encode<D: Document>(document: &D) -> Result<String> {
    serde_json::to_string(&Written { v: D::VERSION, d: document })
        .map_err(|source| CatalogError::Unwritable { kind: D::KIND, source })
}

fn decode<D: Document>(entry: Entry) -> Result<Stored<D>> {
    let unreadable = |source| CatalogError::Unreadable { key: entry.key.clone(), source };
    let Format { v } = serde_json::from_str(&entry.value).map_err(unreadable)?;
    if v > D::VERSION {
        return Err(CatalogError::NewerDocument { key: entry.key, found: v, known: D::VERSION });
    }
    let Read { d } = serde_json::from_str(&entry.value).map_err(unreadable)?;
    Ok(Stored { document: d, revision: entry.revision })
}

/// Reads the document under a key.
pub fn get_document<D: Document>(catalog: &dyn Catalog, key: &Key) -> Result<Option<Stored<D>>> {
    catalog.get(key)?.map(decode).transpose()
}

/// Reads all documents below a prefix, in one scan.
pub fn list_documents<D: Document>(catalog: &dyn Catalog, prefix: &Prefix) -> Result<Vec<Stored<D>>> {
    catalog.list(prefix)?.into_iter().map(decode).collect()
}
