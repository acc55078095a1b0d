//! Lists of images, kept for a while.

use super::{DownloadError, Downloader, Url};
use crate::simplestreams::ImageList;
use jiff::{SignedDuration, Timestamp};
use larder_base::{Cancel, Clock};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// A list from the cache.
#[derive(Debug)]
pub struct CachedList {
    /// The list.
    pub list: Arc<ImageList>,
    /// When it was fetched.
    pub fetched_at: Timestamp,
    /// Why it is older than it should be: the server did not give a new one.
    pub stale: Option<DownloadError>,
}

/// When a list was fetched, and the list.
type Fetched = (Timestamp, Arc<ImageList>);

/// Keeps the list of each server for a while. A list that is too old is still better than none: it is given
/// when the server fails.
#[derive(Debug)]
pub struct ListCache {
    clock: Arc<dyn Clock>,
    life: SignedDuration,
    lists: Mutex<HashMap<Vec<Url>, Fetched>>,
}

impl ListCache {
    /// A cache that asks a server again after `life`.
    pub fn new(clock: Arc<dyn Clock>, life: SignedDuration) -> Self {
        Self { clock, life, lists: Mutex::default() }
    }

    /// The list of a server with these addresses.
    pub async fn get(
        &self,
        downloader: &Downloader,
        servers: &[Url],
        cancel: &Cancel,
    ) -> Result<CachedList, DownloadError> {
        let now = self.clock.now();
        let known = self.lists.lock().get(servers).cloned();
        let is_fresh = |fetched_at: Timestamp| {
            let age = now.duration_since(fetched_at);
            // A clock that was set back must not keep a list for ever.
            age >= SignedDuration::ZERO && age < self.life
        };
        if let Some((fetched_at, list)) = known.clone().filter(|(fetched_at, _)| is_fresh(*fetched_at)) {
            return Ok(CachedList { list, fetched_at, stale: None });
        }
        match (downloader.list(servers, cancel).await, known) {
            (Ok(list), _) => {
                let list = Arc::new(list);
                self.lists.lock().insert(servers.to_vec(), (now, Arc::clone(&list)));
                Ok(CachedList { list, fetched_at: now, stale: None })
            }
            (Err(error), Some((fetched_at, list))) if !error.is_final() => {
                Ok(CachedList { list, fetched_at, stale: Some(error) })
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Asks the server again the next time: something the list named was not there.
    pub fn forget(&self, servers: &[Url]) {
        self.lists.lock().remove(servers);
    }
}
