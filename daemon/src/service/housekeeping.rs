//! The start, and what is due now and then.

use super::work::Requestor;
use super::{NewPool, Result, Service, Task};
use larder_storage_driver::Config;
use std::sync::Arc;

/// The pool of a new server.
const DEFAULT_POOL: &str = "default";

impl Service {
    /// Makes everything ready for the first request: the defaults of a new server, and recovery of one that was there.
    pub fn prepare(&self) -> Result<()> {
        let is_new = self.store.project("default")?.is_none();
        self.reconcile()?;
        self.sweep_backups()?;
        self.sweep_images()?;
        self.reconcile_instances()?;
        if is_new {
            self.make_default_pool()?;
            // Last: a start that is cut off before is a first start again.
            self.store.ensure_default_project()?;
        }
        self.ensure_default_profile(DEFAULT_POOL)?;
        Ok(())
    }

    fn make_default_pool(&self) -> Result<()> {
        if !self.store.pools()?.is_empty() {
            return Ok(());
        }
        let new = NewPool {
            name: DEFAULT_POOL.parse()?,
            driver: "dir".to_owned(),
            description: String::new(),
            config: Config::new(),
        };
        self.create_pool(&Task::quiet(Requestor::default()), new)
    }

    /// Gives back what is held only to be quick; for a time when nobody asks.
    pub fn rest(&self) {
        self.store.catalog().rest();
    }

    /// Does what is due. What fails is logged and tried again the next time.
    pub fn keep_house(self: &Arc<Self>) {
        match self.look_after_pools() {
            Ok(back) => {
                if back.pools > 0 {
                    tracing::info!(count = back.pools, "storage pools are back");
                }
                self.take_up_instances(back.instances);
            }
            Err(error) => tracing::warn!(%error, "the storage pools could not be looked after"),
        }
        let done = [
            ("make snapshots that are due", self.make_scheduled_snapshots()),
            ("delete expired snapshots", self.delete_expired_snapshots()),
            ("delete expired backups", self.delete_expired_backups()),
            ("delete expired snapshots of instances", self.delete_expired_instance_snapshots()),
            ("delete cached images that nobody used", self.delete_expired_images()),
            ("remove volumes that were moved away", self.bury_sentenced()),
            // Last: this may take long.
            ("finish the changes of buckets kept elsewhere", self.finish_left_behind()),
        ];
        for (what, outcome) in done {
            tell(what, outcome);
        }
        self.update_images_meanwhile();
    }

    /// Replaces images by newer ones on a thread of its own: nothing else that is due waits for a slow server.
    fn update_images_meanwhile(self: &Arc<Self>) {
        let service = Arc::clone(self);
        tokio::task::spawn_blocking(move || tell("replace images by newer ones", service.update_images()));
    }
}

/// Logs what was done, if anything was.
fn tell(what: &str, outcome: Result<usize>) {
    match outcome {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "housekeeping: {what}"),
        Err(error) => tracing::warn!(%error, "housekeeping failed: {what}"),
    }
}
