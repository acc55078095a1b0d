//! Who may change which volume now.

use larder_base::{Cancel, PoolName};
use larder_storage_driver::{Result, VolumeId};
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How a volume is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// With other readers.
    Shared,
    /// Alone.
    Exclusive,
}

type Key = (PoolName, VolumeId);

#[derive(Debug, Default)]
struct Held {
    readers: usize,
    writer: bool,
}

/// The locks of all pools. All that one piece of work needs is taken at once or not at all, so that no two can
/// wait for each other.
#[derive(Debug, Default)]
pub struct Locks {
    held: Mutex<HashMap<Key, Held>>,
    released: Condvar,
}

const CANCEL_POLL: Duration = Duration::from_millis(100);

/// Locks that are held until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Locked {
    locks: Arc<Locks>,
    wanted: Vec<(Key, LockMode)>,
}

impl Locks {
    /// No lock held.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Waits until all of `wanted` is free, then takes it. Fails with kind `Cancelled` when asked to stop.
    pub(crate) fn take(
        self: &Arc<Self>,
        mut wanted: Vec<(Key, LockMode)>,
        cancel: &Cancel,
    ) -> Result<Locked> {
        // The same volume wanted twice (a copy onto itself is refused earlier): the stronger wish wins.
        wanted.sort_by(|one, other| {
            one.0.cmp(&other.0).then((other.1 == LockMode::Exclusive).cmp(&(one.1 == LockMode::Exclusive)))
        });
        wanted.dedup_by(|later, first| later.0 == first.0);
        let mut held = self.held.lock();
        while !wanted.iter().all(|(key, mode)| is_free(held.get(key), *mode)) {
            cancel.checkpoint()?;
            self.released.wait_for(&mut held, CANCEL_POLL);
        }
        for (key, mode) in &wanted {
            let entry = held.entry(key.clone()).or_default();
            match mode {
                LockMode::Shared => entry.readers += 1,
                LockMode::Exclusive => entry.writer = true,
            }
        }
        drop(held);
        Ok(Locked { locks: Arc::clone(self), wanted })
    }
}

fn is_free(held: Option<&Held>, mode: LockMode) -> bool {
    match (held, mode) {
        (None, _) => true,
        (Some(held), LockMode::Shared) => !held.writer,
        (Some(held), LockMode::Exclusive) => !held.writer && held.readers == 0,
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let mut held = self.locks.held.lock();
        for (key, mode) in &self.wanted {
            let Some(entry) = held.get_mut(key) else { continue };
            match mode {
                LockMode::Shared => entry.readers -= 1,
                LockMode::Exclusive => entry.writer = false,
            }
            if entry.readers == 0 && !entry.writer {
                held.remove(key);
            }
        }
        drop(held);
        self.locks.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_base::ProjectName;
    use larder_storage_driver::{Content, ErrorKind};

    fn key(name: &str) -> Key {
        let project = ProjectName::default_project();
        ("p".parse().unwrap(), VolumeId::custom(Content::Filesystem, project, name.parse().unwrap()))
    }

    #[test]
    fn readers_share_and_a_writer_is_alone() {
        let locks = Locks::new();
        let never = Cancel::never();
        let one = locks.take(vec![(key("a"), LockMode::Shared)], &never).unwrap();
        let other = locks.take(vec![(key("a"), LockMode::Shared)], &never).unwrap();
        let impatient = Cancel::new();
        impatient.cancel();
        let refused = locks.take(vec![(key("a"), LockMode::Exclusive)], &impatient);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Cancelled);
        drop((one, other));
        let _writer = locks.take(vec![(key("a"), LockMode::Exclusive)], &never).unwrap();
        assert!(locks.take(vec![(key("a"), LockMode::Shared)], &impatient).is_err());
    }

    #[test]
    fn crosswise_work_never_waits_for_ever() {
        let locks = Locks::new();
        let worker = |first: &'static str, second: &'static str| {
            let locks = Arc::clone(&locks);
            std::thread::spawn(move || {
                for _ in 0..500 {
                    let wanted = vec![(key(first), LockMode::Shared), (key(second), LockMode::Exclusive)];
                    drop(locks.take(wanted, &Cancel::never()).unwrap());
                }
            })
        };
        for thread in [worker("a", "b"), worker("b", "a"), worker("a", "b")] {
            thread.join().unwrap();
        }
        assert!(locks.held.lock().is_empty());
    }
}
