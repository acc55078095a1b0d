//! Keeps the bytes of a version that was replaced or deleted until the last reader that may know of it is done.

use crate::record::Part;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

#[derive(Debug, Default)]
struct State {
    now: u64,
    readers: BTreeMap<u64, usize>,
    /// What readers that know what they read keep, by a number of each.
    kept: HashMap<u64, Arc<[Part]>>,
    next: u64,
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

/// A reader that knows what it reads. Its parts are not removed before it is dropped; all else may be.
#[derive(Debug)]
pub(crate) struct Kept {
    epochs: Epochs,
    number: u64,
}

impl Pin {
    /// Keeps these parts, and nothing else any more.
    pub(crate) fn only(self, parts: &Arc<[Part]>) -> Kept {
        let mut state = self.epochs.0.lock();
        let number = state.next;
        state.next += 1;
        state.kept.insert(number, Arc::clone(parts));
        Kept { epochs: self.epochs.clone(), number }
    }
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

    /// The blobs that are still needed of those that were given up at `epoch`: none is known while a reader is there that began then
    /// or before.
    pub(crate) fn needed_since(&self, epoch: u64) -> Option<HashSet<String>> {
        let state = self.0.lock();
        let is_read = state.readers.keys().next().is_some_and(|began| *began <= epoch);
        let needed = || state.kept.values().flat_map(|parts| parts.iter()).map(|part| part.id.clone());
        (!is_read).then(|| needed().collect())
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

impl Drop for Kept {
    fn drop(&mut self) {
        self.epochs.0.lock().kept.remove(&self.number);
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
        assert_eq!(epochs.needed_since(removed), None);
        drop(old);
        assert_eq!(epochs.needed_since(removed), Some(HashSet::new()));
    }
}
