//! What is committed together.

use crate::{Document, Key, Result, Revision};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many guards, puts and deletes one transaction may have, on every store.
pub const MAX_OPERATIONS: usize = 100;

/// What must hold for a transaction to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// The key is not there.
    Absent,
    /// The key is there.
    Present,
    /// The key was written last by this transaction.
    At(Revision),
}

/// Why something was committed: becomes the lifecycle event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What happened, such as `storage-volume-created`.
    pub action: String,
    /// The URL of what it happened to.
    pub source: String,
    /// The project it belongs to.
    pub project: String,
    /// Who asked.
    pub requestor: serde_json::Value,
    /// What else is worth knowing; null when nothing is.
    pub context: serde_json::Value,
}

/// Guards, puts and deletes that are committed together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    pub(crate) guards: Vec<(Key, Guard)>,
    /// `None` deletes. The last word on a key counts.
    pub(crate) writes: BTreeMap<Key, Option<String>>,
    pub(crate) cause: Option<Cause>,
    /// Whether a power cut may take it back.
    pub(crate) is_relaxed: bool,
}

impl Transaction {
    /// An empty transaction.
    pub fn new() -> Self {
        Self::default()
    }

    /// Commits only if `key` is not there.
    #[must_use]
    pub fn guard_absent(mut self, key: Key) -> Self {
        self.guards.push((key, Guard::Absent));
        self
    }

    /// Commits only if `key` is there.
    #[must_use]
    pub fn guard_present(mut self, key: Key) -> Self {
        self.guards.push((key, Guard::Present));
        self
    }

    /// Commits only if `key` was written last by `revision`.
    #[must_use]
    pub fn guard_at(mut self, key: Key, revision: Revision) -> Self {
        self.guards.push((key, Guard::At(revision)));
        self
    }

    /// Writes JSON text under a key.
    #[must_use]
    pub fn put(mut self, key: Key, value: String) -> Self {
        self.writes.insert(key, Some(value));
        self
    }

    /// Writes a document under its own key.
    pub fn put_document<D: Document>(self, document: &D) -> Result<Self> {
        let value = crate::document::encode(document)?;
        Ok(self.put(document.key(), value))
    }

    /// Deletes a key; fine when it is not there.
    #[must_use]
    pub fn delete(mut self, key: Key) -> Self {
        self.writes.insert(key, None);
        self
    }

    /// Deletes a document; fine when it is not there.
    #[must_use]
    pub fn delete_document<D: Document>(self, document: &D) -> Self {
        let key = document.key();
        self.delete(key)
    }

    /// Says why.
    #[must_use]
    pub fn because(mut self, cause: Cause) -> Self {
        self.cause = Some(cause);
        self
    }

    /// Lets a power cut take it back; the end of the process never does. For what the next start would find out and
    /// commit again anyway. It comes to stable storage with the next transaction that is not relaxed.
    #[must_use]
    pub fn relaxed(mut self) -> Self {
        self.is_relaxed = true;
        self
    }

    pub(crate) fn operations(&self) -> usize {
        self.guards.len() + self.writes.len()
    }
}
