//! The committed log as it is read: first what was, then what comes.

use crate::{Cause, Key, Result, Revision};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// One committed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number.
    pub revision: Revision,
    /// When it was committed.
    pub at: Timestamp,
    /// Which keys were written, and the JSON text each got, in the order of the keys.
    pub puts: Vec<(Key, String)>,
    /// Which keys were deleted, those that were there only, in order.
    pub deletes: Vec<Key>,
    /// Why.
    pub cause: Option<Cause>,
}

/// Where a watch reads from.
pub(crate) trait Log: fmt::Debug + Send + Sync {
    /// Some of the changes after `from`, the next one first. Waits at most for `limit` when there are none yet, and
    /// then returns none.
    fn page_after(&self, from: Revision, limit: Duration) -> Result<Vec<Change>>;
}

/// Reads changes in order. Holds one page of them at most, however far it is behind.
#[derive(Debug)]
pub struct Watch {
    log: Box<dyn Log>,
    page: VecDeque<Change>,
    last: Revision,
}

impl Watch {
    pub(crate) fn new(log: Box<dyn Log>, from: Revision) -> Self {
        Self { log, page: VecDeque::new(), last: from }
    }

    /// Waits for the next change, at most for `limit`. `None` when none came.
    ///
    /// Fails with [`CatalogError::Closed`] when the catalog is gone and all changes were told, with
    /// [`CatalogError::Compacted`] when this watch was so slow that the log has forgotten its next change.
    ///
    /// [`CatalogError::Closed`]: crate::CatalogError::Closed
    /// [`CatalogError::Compacted`]: crate::CatalogError::Compacted
    pub fn next(&mut self, limit: Duration) -> Result<Option<Change>> {
        if self.page.is_empty() {
            self.page = self.log.page_after(self.last, limit)?.into();
        }
        let next = self.page.pop_front();
        if let Some(change) = &next {
            self.last = change.revision;
        }
        Ok(next)
    }

    /// The revision of the last change that was told: where another watch would go on.
    pub fn last(&self) -> Revision {
        self.last
    }
}
