//! One change at a time of one thing.

use larder_base::{Cancel, Cancelled};
use parking_lot::{Condvar, Mutex};
use std::collections::HashSet;
use std::hash::Hash;
use std::time::Duration;

/// How often who waits looks whether it shall stop.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// What is being changed, by its id.
#[derive(Debug)]
pub(super) struct Claims<Id> {
    taken: Mutex<HashSet<Id>>,
    freed: Condvar,
}

/// The right to change one thing, given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub(in crate::service) struct Claim<'a, Id: Clone + Eq + Hash> {
    claims: &'a Claims<Id>,
    id: Id,
}

impl<Id> Default for Claims<Id> {
    fn default() -> Self {
        Self { taken: Mutex::default(), freed: Condvar::new() }
    }
}

impl<Id: Clone + Eq + Hash> Claims<Id> {
    /// The right to change it, if nobody changes it now.
    pub(super) fn try_take(&self, id: Id) -> Option<Claim<'_, Id>> {
        self.taken.lock().insert(id.clone()).then(|| Claim { claims: self, id })
    }

    /// Whether somebody changes it now.
    pub(super) fn is_taken(&self, id: &Id) -> bool {
        self.taken.lock().contains(id)
    }

    /// Waits until nobody else changes it, or until asked to stop.
    pub(super) fn take_unless(&self, id: Id, cancel: &Cancel) -> Result<Claim<'_, Id>, Cancelled> {
        let mut taken = self.taken.lock();
        while !taken.insert(id.clone()) {
            cancel.checkpoint()?;
            self.freed.wait_for(&mut taken, CANCEL_POLL);
        }
        Ok(Claim { claims: self, id })
    }
}

impl<Id: Clone + Eq + Hash> Drop for Claim<'_, Id> {
    fn drop(&mut self) {
        self.claims.taken.lock().remove(&self.id);
        self.claims.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn one_at_a_time_for_each_id() {
        let claims = Claims::default();
        let inside = AtomicU32::new(0);
        let _other = claims.take_unless(2, &Cancel::never()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _claim = claims.take_unless(1, &Cancel::never()).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
    }

    #[test]
    fn who_waits_can_be_stopped() {
        let claims = Claims::default();
        let claim = claims.take_unless(1, &Cancel::never()).unwrap();
        let cancel = Cancel::new();
        cancel.cancel();
        assert!(claims.take_unless(1, &cancel).is_err());
        assert!(claims.take_unless(2, &cancel).is_ok());
        assert!(claims.try_take(1).is_none());
        drop(claim);
        assert!(claims.try_take(1).is_some());
    }
}
