//! Reading what programs say in JSON.

use larder_storage_driver::{Result, StorageError};
use serde::de::DeserializeOwned;
use std::fmt;

/// Reads what `who` said. An answer of another form is told with its beginning, so it must hold no secret.
pub(crate) fn read<T: DeserializeOwned>(who: impl fmt::Display, text: &str) -> Result<T> {
    serde_json::from_str(text.trim()).map_err(|error| strange(who, text).because(error))
}

/// The error of an answer that makes no sense.
pub(crate) fn strange(who: impl fmt::Display, text: &str) -> StorageError {
    let start: String = text.chars().take(200).collect();
    StorageError::unexpected(format!("{who} says what can't be read: {start:?}"))
}
