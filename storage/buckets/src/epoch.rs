//! Keeps the bytes of a version that was replaced or deleted until the last reader that may know of it is done.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Default)]
struct State {
    now: u64,
    readers: BTreeMap<u64, usize>,
}

/// Counts readers by when they began.
#[derive(Debug, Default, Clone)]
pub(crate) struct Epochs(Arc<Mutex<State>>);

/// A reader. Nothing that existed when it began is removed before it is dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    epochs: Epochs,
    began: u64,
}

impl Epochs {
    /// Begins to read.
    pub(crate) fn pin(&self) -> Pin {
        let mut state = self.0.lock();
        let began = state.now;
        *state.readers.entry(began).or_default() += 1;
        Pin { epochs: self.clone(), began }
    }

    /// Marks a commit: who begins from now on doesn't know of what it removed. Returns the time before it.
    pub(crate) fn advance(&self) -> u64 {
        let mut state = self.0.lock();
        state.now += 1;
        state.now - 1
    }

    /// Whether a reader that began at `epoch` or before is still there.
    pub(crate) fn is_read_since(&self, epoch: u64) -> bool {
        self.0.lock().readers.keys().next().is_some_and(|began| *began <= epoch)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.epochs.0.lock();
        if let Some(count) = state.readers.get_mut(&self.began) {
            *count -= 1;
            if *count == 0 {
                state.readers.remove(&self.began);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_old_reader_may_know_of_is_kept_and_a_new_reader_keeps_nothing_older() {
        let epochs = Epochs::default();
        let old = epochs.pin();
        let removed = epochs.advance();
        let _new = epochs.pin();
        assert!(epochs.is_read_since(removed));
        drop(old);
        assert!(!epochs.is_read_since(removed));
    }
}
