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
pub(in crate::service) struct Claim<'a, Id: Copy + Eq + Hash> {
    claims: &'a Claims<Id>,
    id: Id,
}

impl<Id> Default for Claims<Id> {
    fn default() -> Self {
        Self { taken: Mutex::default(), freed: Condvar::new() }
    }
}

impl<Id: Copy + Eq + Hash> Claims<Id> {
    /// Waits until nobody else changes it.
    pub(super) fn take(&self, id: Id) -> Claim<'_, Id> {
        let mut taken = self.taken.lock();
        while !taken.insert(id) {
            self.freed.wait(&mut taken);
        }
        Claim { claims: self, id }
    }

    /// The same, until asked to stop.
    pub(super) fn take_unless(&self, id: Id, cancel: &Cancel) -> Result<Claim<'_, Id>, Cancelled> {
        let mut taken = self.taken.lock();
        while !taken.insert(id) {
            cancel.checkpoint()?;
            self.freed.wait_for(&mut taken, CANCEL_POLL);
        }
        Ok(Claim { claims: self, id })
    }
}

impl<Id: Copy + Eq + Hash> Drop for Claim<'_, Id> {
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
        let _other = claims.take(2);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _claim = claims.take(1);
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
        let _claim = claims.take(1);
        let cancel = Cancel::new();
        cancel.cancel();
        assert!(claims.take_unless(1, &cancel).is_err());
        assert!(claims.take_unless(2, &cancel).is_ok());
    }
}
