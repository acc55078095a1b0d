//! Pools that are out of reach for a while: told of in a warning, left alone, and taken up again by themselves.

use super::warnings::WarningType;
use super::{Result, Service, Task};
use larder_catalog::documents::{Pool as PoolDocument, PoolStatus};
use larder_storage_pool::Pool;
use std::sync::Arc;

impl Service {
    /// Asks every pool whether it answers, and opens those that could not be opened before. Tells how many came back. A pool
    /// that stays away is asked again the next time.
    pub fn look_after_pools(&self) -> Result<usize> {
        let mut back = 0;
        for document in self.store.pools()? {
            if document.status != PoolStatus::Created {
                continue;
            }
            let open = self.pools.read().get(&document.name).cloned();
            let has_come_back = match open {
                Some(pool) => self.ask(&document, &pool)?,
                None => self.try_again(&document)?,
            };
            back += usize::from(has_come_back);
        }
        if back > 0 {
            self.finish_moves()?;
        }
        Ok(back)
    }

    /// Whether an open pool answers again that did not before.
    fn ask(&self, document: &PoolDocument, pool: &Arc<Pool>) -> Result<bool> {
        let task = Task::quiet(super::work::Requestor::default());
        let answer = self.with_cx(&task, |cx| pool.driver().must_answer(cx));
        let url = format!("/1.0/storage-pools/{}", document.name);
        match answer {
            Ok(()) if self.unreachable.write().remove(&document.name) => {
                self.warnings().resolve(WarningType::PoolUnavailable, &url)?;
                Ok(true)
            }
            Ok(()) => Ok(false),
            Err(error) => {
                if self.unreachable.write().insert(document.name.clone()) {
                    tracing::error!(pool = document.name, error = %error.chain(), "a storage pool does not answer");
                    self.warnings().note(WarningType::PoolUnavailable, "default", &url, &error.chain())?;
                }
                Ok(false)
            }
        }
    }

    fn try_again(&self, document: &PoolDocument) -> Result<bool> {
        match self.open_and_settle(document) {
            Ok(()) => {
                let url = format!("/1.0/storage-pools/{}", document.name);
                self.warnings().resolve(WarningType::PoolUnavailable, &url)?;
                tracing::info!(pool = document.name, "a storage pool is available again");
                Ok(true)
            }
            Err(error) => {
                tracing::debug!(pool = document.name, %error, "a storage pool is still not available");
                Ok(false)
            }
        }
    }
}
