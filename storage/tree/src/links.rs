//! Files with several names: the first is copied, the others become links to the copy.

use rustix::fs::Stat;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where the first of several names was copied to. Others wait for it.
#[derive(Clone)]
enum Link {
    Coming,
    At(PathBuf),
}

/// The files with several names that one copy has met, by device and inode: each subvolume numbers its own.
#[derive(Default)]
pub(crate) struct Links(Mutex<HashMap<(u64, u64), Link>>);

impl Links {
    fn known(&self) -> MutexGuard<'_, HashMap<(u64, u64), Link>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where another name of the same file was copied to. `None`: this is the first, copy it and [say so](Links::first_is_at).
    /// While another thread copies the first, `may_wait` is asked again and again.
    pub(crate) fn first(
        &self,
        stat: &Stat,
        may_wait: impl Fn() -> io::Result<()>,
    ) -> io::Result<Option<PathBuf>> {
        let mut known = self.known();
        loop {
            match known.get(&key(stat)).cloned() {
                None => {
                    known.insert(key(stat), Link::Coming);
                    return Ok(None);
                }
                Some(Link::At(path)) => return Ok(Some(path)),
                Some(Link::Coming) => {
                    drop(known);
                    may_wait()?;
                    std::thread::yield_now();
                    known = self.known();
                }
            }
        }
    }

    /// The first name was copied to `path`; without one, the copy failed.
    pub(crate) fn first_is_at(&self, stat: &Stat, path: Option<&Path>) {
        match path {
            Some(path) => self.known().insert(key(stat), Link::At(path.to_owned())),
            None => self.known().remove(&key(stat)),
        };
    }
}

fn key(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}
