//! The simplestreams format of image servers, read from bytes to typed lists. No network here.
//!
//! [`parse_index`] tells where the products are, [`parse_products`] reads them; what it can't understand it
//! leaves out, and counts. [`ImageList`] answers which image an alias means.

mod document;
mod image;
mod list;

pub use image::{StreamFile, StreamImage};
pub use list::ImageList;

use document::{IndexDocument, Product, ProductsDocument};

/// Where the index is, below the server's address.
pub const INDEX_PATH: &str = "streams/v1/index.json";
/// The longest index or products file that is read; the largest known one has 5 MiB.
pub const MOST_DOCUMENT_BYTES: u64 = 64 << 20;
const IMAGE_DATA: &str = "image-downloads";

/// A simplestreams document could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamsError {
    /// The document is too long.
    #[error("the document has {0} bytes, and at most {MOST_DOCUMENT_BYTES} are read")]
    TooLong(u64),
    /// The document is not JSON of the right form.
    #[error("the document is no simplestreams JSON: is this the address of an image server?")]
    Malformed(#[source] serde_json::Error),
    /// The index lists no images.
    #[error("the index lists no images: is this the address of an image server?")]
    NoImages,
}

/// Reads an index and tells the paths of the products files that list images, below the server's address.
pub fn parse_index(bytes: &[u8]) -> Result<Vec<String>, StreamsError> {
    check_length(bytes)?;
    let index: IndexDocument = serde_json::from_slice(bytes).map_err(StreamsError::Malformed)?;
    let mut paths: Vec<String> = index
        .index
        .into_values()
        .filter(|entry| {
            entry.datatype == IMAGE_DATA && !entry.products.is_empty() && is_safe_path(&entry.path)
        })
        .map(|entry| entry.path)
        .collect();
    paths.sort();
    paths.dedup();
    if paths.is_empty() { Err(StreamsError::NoImages) } else { Ok(paths) }
}

/// Reads a products file: every image of every version in it.
pub fn parse_products(bytes: &[u8]) -> Result<ImageList, StreamsError> {
    check_length(bytes)?;
    let document: ProductsDocument = serde_json::from_slice(bytes).map_err(StreamsError::Malformed)?;
    let mut list = ImageList::default();
    for (name, value) in document.products {
        match serde_json::from_value::<Product>(value) {
            Ok(product) => image::collect(&name, &product, &mut list),
            Err(error) => {
                tracing::debug!(product = name, %error, "left out a product that is not understood");
                list.skipped += 1;
            }
        }
    }
    list.sort();
    Ok(list)
}

fn check_length(bytes: &[u8]) -> Result<(), StreamsError> {
    let length = bytes.len() as u64;
    if length > MOST_DOCUMENT_BYTES { Err(StreamsError::TooLong(length)) } else { Ok(()) }
}

/// Whether a path of a document stays below the server's address.
fn is_safe_path(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 1024
        && !path.starts_with('/')
        && !path.contains(['\\', '?', '#', '\0'])
        && !path.contains("://")
        && path.split('/').all(|part| part != ".." && part != "." && !part.is_empty())
        && !path.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
