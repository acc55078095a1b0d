//! How much more a bucket takes: what its quota and its volume leave. Asked before an upload's first byte; the quota is
//! checked again in the change that publishes it.

use crate::writer::Change;
use crate::{BucketError, Result, rows};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Free bytes of the volume that only deleting may use.
const HEADROOM: u64 = 8 << 20;
/// For how long what was found is good enough for who wants little of it.
const FRESH: Duration = Duration::from_secs(1);
/// How little that is: this part of what is left.
const LITTLE: u64 = 64;

#[derive(Debug)]
struct Seen {
    at: Instant,
    left: u64,
}

/// Bytes that an upload under way will need; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    reserved: Arc<AtomicU64>,
    bytes: u64,
}

impl Reservation {
    fn new(reserved: &Arc<AtomicU64>) -> Self {
        Self { reserved: Arc::clone(reserved), bytes: 0 }
    }

    /// Holds at least so many bytes: more may come than was announced.
    pub(crate) fn grow_to(&mut self, bytes: u64) {
        let more = bytes.saturating_sub(self.bytes);
        self.reserved.fetch_add(more, Ordering::AcqRel);
        self.bytes += more;
    }

    /// Holds so many bytes if no more than `most` are held then by all together. Otherwise tells how many are.
    fn try_grow(&mut self, bytes: u64, most: u64) -> Result<(), u64> {
        let add = |held: u64| held.checked_add(bytes).filter(|all| *all <= most);
        self.reserved.fetch_update(Ordering::AcqRel, Ordering::Acquire, add)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.reserved.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// What quota and volume leave.
#[derive(Debug)]
pub(crate) struct Room {
    root: PathBuf,
    quota: AtomicU64,
    /// Bytes of the quota that uploads under way will need.
    reserved: Arc<AtomicU64>,
    seen: Mutex<Option<Seen>>,
}

impl Room {
    pub(crate) fn new(root: &Path, quota: Option<u64>) -> Self {
        let quota = AtomicU64::new(quota.unwrap_or(u64::MAX));
        Self { root: root.to_owned(), quota, reserved: Arc::default(), seen: Mutex::default() }
    }

    pub(crate) fn set_quota(&self, quota: Option<u64>) {
        let quota = quota.unwrap_or(u64::MAX);
        if self.quota.swap(quota, Ordering::AcqRel) != quota {
            *self.seen.lock() = None;
        }
    }

    /// Reserves so many bytes if they are little of what was there a moment ago. Doesn't block; a no only means to ask in
    /// earnest.
    pub(crate) fn reserve_at_once(&self, wanted: u64) -> Option<Reservation> {
        let mut seen = self.seen.lock();
        match &mut *seen {
            Some(seen) if seen.at.elapsed() < FRESH && wanted <= seen.left / LITTLE => {
                seen.left -= wanted;
                let mut reservation = Reservation::new(&self.reserved);
                reservation.grow_to(wanted);
                Some(reservation)
            }
            _ => None,
        }
    }

    /// Reserves so many bytes. Fails when the quota can't take them beside those that are used or reserved, or the volume
    /// can't.
    pub(crate) fn reserve(&self, used: impl FnOnce() -> Result<u64>, wanted: u64) -> Result<Reservation> {
        let quota = self.quota.load(Ordering::Acquire);
        let used = if quota == u64::MAX { 0 } else { used()? };
        let exceeded =
            |held: u64| BucketError::QuotaExceeded { quota, used: used.saturating_add(held), wanted };
        let most = quota.checked_sub(used).filter(|most| wanted <= *most).ok_or_else(|| exceeded(0))?;
        let free = self.free()?;
        if free < wanted.saturating_add(HEADROOM) {
            return Err(BucketError::NoSpace { free });
        }
        let mut reservation = Reservation::new(&self.reserved);
        reservation.try_grow(wanted, most).map_err(exceeded)?;
        let held = if quota == u64::MAX { 0 } else { self.reserved.load(Ordering::Acquire) };
        let left = most.saturating_sub(held).min((free - HEADROOM) - wanted);
        *self.seen.lock() = Some(Seen { at: Instant::now(), left });
        Ok(reservation)
    }

    /// The same in the middle of an upload, whose bytes are on the volume and among the reserved ones already.
    pub(crate) fn check_under_way(&self, used: impl FnOnce() -> Result<u64>, came: u64) -> Result<()> {
        let quota = self.quota.load(Ordering::Acquire);
        let used = if quota == u64::MAX { 0 } else { used()? };
        let reserved = self.reserved.load(Ordering::Acquire).max(came);
        if quota != u64::MAX && used.saturating_add(reserved) > quota {
            let used = used.saturating_add(reserved - came);
            return Err(BucketError::QuotaExceeded { quota, used, wanted: came });
        }
        let free = self.free()?;
        if free < HEADROOM { Err(BucketError::NoSpace { free }) } else { Ok(()) }
    }

    /// Free bytes of the volume.
    fn free(&self) -> Result<u64> {
        let volume = rustix::fs::statvfs(&self.root);
        let volume = volume.map_err(|error| BucketError::file(&self.root)(error.into()))?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
    }

    /// Inside a change: fails when the quota is exceeded by what the change has counted.
    pub(crate) fn in_change(&self) -> impl Fn(&Change<'_>, u64) -> Result<()> + Send + use<> {
        let quota = self.quota.load(Ordering::Acquire);
        move |change, wanted| {
            let mut statement = change.index.prepare_cached("SELECT bytes FROM usage")?;
            let used = rows::unsigned(statement.query_row([], |row| row.get(0))?);
            match used > quota {
                true => Err(BucketError::QuotaExceeded { quota, used: used.saturating_sub(wanted), wanted }),
                false => Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_little_need_not_ask_and_all_of_them_together_get_no_more_than_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::new(folder.path(), Some(64_000));
        assert!(room.reserve_at_once(1).is_none(), "nobody has looked yet");
        room.reserve(|| Ok(0), 0).unwrap();
        assert!(room.reserve_at_once(1001).is_none());
        let taken: Vec<_> = (0..200).map_while(|_| room.reserve_at_once(500)).collect();
        assert!((60..=128).contains(&taken.len()), "{} times 500 of 64000", taken.len());
        drop(taken);
        let refused = room.reserve(|| Ok(63_999), 2);
        assert!(matches!(refused, Err(BucketError::QuotaExceeded { used: 63_999, wanted: 2, .. })));
        room.set_quota(Some(10));
        assert!(room.reserve_at_once(1).is_none(), "another quota, another answer");
    }

    #[test]
    fn what_is_reserved_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::new(folder.path(), Some(100));
        let mut first = room.reserve(|| Ok(0), 60).unwrap();
        let refused = room.reserve(|| Ok(20), 21);
        assert!(matches!(refused, Err(BucketError::QuotaExceeded { used: 80, wanted: 21, .. })));
        drop(room.reserve(|| Ok(20), 20).unwrap());
        // More came than was said.
        first.grow_to(50);
        first.grow_to(90);
        assert!(room.reserve(|| Ok(0), 11).is_err());
        room.check_under_way(|| Ok(10), 90).unwrap();
        assert!(room.check_under_way(|| Ok(11), 90).is_err());
        drop(first);
        drop(room.reserve(|| Ok(0), 100).unwrap());
        assert_eq!(room.reserved.load(Ordering::Acquire), 0);
        room.set_quota(None);
        assert!(matches!(room.reserve(|| Ok(0), u64::MAX), Err(BucketError::NoSpace { .. })));
        assert_eq!(room.reserved.load(Ordering::Acquire), 0);
    }
}
