//! One change at a time of one instance.

use larder_catalog::InstanceId;
use parking_lot::{Condvar, Mutex};
use std::collections::HashSet;

/// Which instances are being changed.
#[derive(Debug, Default)]
pub(super) struct Claims {
    taken: Mutex<HashSet<InstanceId>>,
    freed: Condvar,
}

/// The right to change one instance, given back when it is dropped.
#[derive(Debug)]
pub(in crate::service) struct Claim<'a> {
    claims: &'a Claims,
    instance: InstanceId,
}

impl Claims {
    /// Waits until nobody else changes the instance.
    pub(super) fn take(&self, instance: InstanceId) -> Claim<'_> {
        let mut taken = self.taken.lock();
        while !taken.insert(instance) {
            self.freed.wait(&mut taken);
        }
        Claim { claims: self, instance }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.claims.taken.lock().remove(&self.instance);
        self.claims.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn one_at_a_time_for_each_instance() {
        let claims = Claims::default();
        let (one, other) = (InstanceId::random(), InstanceId::random());
        let inside = AtomicU32::new(0);
        let _other = claims.take(other);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _claim = claims.take(one);
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
    }
}
