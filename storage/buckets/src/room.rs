//! How much more a bucket takes: what its quota and its volume leave. Asked before an upload's first byte; the quota is
//! checked again in the change that publishes it.

use crate::writer::Change;
use crate::{BucketError, Result, rows};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
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

/// What quota and volume leave.
#[derive(Debug)]
pub(crate) struct Room {
    root: PathBuf,
    quota: AtomicU64,
    seen: Mutex<Option<Seen>>,
}

impl Room {
    pub(crate) fn new(root: &Path, quota: Option<u64>) -> Self {
        let quota = AtomicU64::new(quota.unwrap_or(u64::MAX));
        Self { root: root.to_owned(), quota, seen: Mutex::default() }
    }

    pub(crate) fn set_quota(&self, quota: Option<u64>) {
        let quota = quota.unwrap_or(u64::MAX);
        if self.quota.swap(quota, Ordering::AcqRel) != quota {
            *self.seen.lock() = None;
        }
    }

    /// Whether so many bytes are little of what was there a moment ago. Doesn't block; a no only means to ask in earnest.
    pub(crate) fn is_plenty(&self, wanted: u64) -> bool {
        let mut seen = self.seen.lock();
        match &mut *seen {
            Some(seen) if seen.at.elapsed() < FRESH && wanted <= seen.left / LITTLE => {
                seen.left -= wanted;
                true
            }
            _ => false,
        }
    }

    /// Fails when the quota or the volume can't take so many bytes beside those that are used.
    pub(crate) fn check(&self, used: impl FnOnce() -> Result<u64>, wanted: u64) -> Result<()> {
        let quota = self.quota.load(Ordering::Acquire);
        let used = if quota == u64::MAX { 0 } else { used()? };
        if used.saturating_add(wanted) > quota {
            return Err(BucketError::QuotaExceeded { quota, used, wanted });
        }
        let free = self.free()?;
        if free < wanted.saturating_add(HEADROOM) {
            return Err(BucketError::NoSpace { free });
        }
        let left = (quota - used).min(free - HEADROOM) - wanted;
        *self.seen.lock() = Some(Seen { at: Instant::now(), left });
        Ok(())
    }

    /// The same in the middle of an upload, whose bytes are on the volume already.
    pub(crate) fn check_under_way(&self, used: impl FnOnce() -> Result<u64>, came: u64) -> Result<()> {
        let quota = self.quota.load(Ordering::Acquire);
        let used = if quota == u64::MAX { 0 } else { used()? };
        if used.saturating_add(came) > quota {
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
        assert!(!room.is_plenty(1), "nobody has looked yet");
        room.check(|| Ok(0), 0).unwrap();
        assert!(!room.is_plenty(1001));
        let taken = (0..200).take_while(|_| room.is_plenty(500)).count();
        assert!((60..=128).contains(&taken), "{taken} times 500 of 64000");
        let refused = room.check(|| Ok(63_999), 2);
        assert!(matches!(refused, Err(BucketError::QuotaExceeded { used: 63_999, wanted: 2, .. })));
        room.set_quota(Some(10));
        assert!(!room.is_plenty(1), "another quota, another answer");
    }
}
