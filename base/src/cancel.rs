//! A flag that asks running work to stop at its next checkpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The work was asked to stop and did, after undoing what it had begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

/// A shared flag; cloning it shares it.
///
/// ```
/// let cancel = larder_base::Cancel::new();
/// assert!(cancel.checkpoint().is_ok());
/// cancel.clone().cancel();
/// assert!(cancel.checkpoint().is_err());
/// assert!(larder_base::Cancel::never().checkpoint().is_ok());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    flag: Option<Arc<AtomicBool>>,
}

impl Cancel {
    /// A flag that has not been raised.
    pub fn new() -> Self {
        Self { flag: Some(Arc::new(AtomicBool::new(false))) }
    }

    /// A flag that can never be raised: for undo work, which must run to its end.
    pub fn never() -> Self {
        Self { flag: None }
    }

    /// Asks the work to stop. Does nothing on [`Cancel::never`].
    pub fn cancel(&self) {
        if let Some(flag) = &self.flag {
            flag.store(true, Ordering::SeqCst);
        }
    }

    /// Whether the work was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.flag.as_ref().is_some_and(|flag| flag.load(Ordering::SeqCst))
    }

    /// Fails with [`Cancelled`] when the work was asked to stop.
    pub fn checkpoint(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }
}
