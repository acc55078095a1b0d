//! How large an instance's root is: as large as its root disk says, wherever that is written, or else as its pool says of volumes.

use super::root_device;
use super::root_keys::default_size;
use crate::service::volumes::{VolumeChange, size_of};
use crate::service::{Result, Service, Task};
use larder_catalog::documents::Instance;
use larder_runtime::{Config, Expanded};

/// What the root disk says of its size, as a volume's keys say it; empty where it says nothing.
pub(super) fn size_keys(expanded: &Expanded) -> Result<Config> {
    let size = root_device(expanded)?.1.filter(|size| !size.is_empty());
    let keys: Config = size.iter().map(|size| ("size".to_owned(), (*size).to_owned())).collect();
    size_of(&keys)?;
    Ok(keys)
}

/// The larger of two sizes, as a volume's keys say it; empty where neither says one.
pub(super) fn larger(one: &Config, other: &Config) -> Result<Config> {
    let larger = if size_of(one)? >= size_of(other)? { one } else { other };
    let size = larger.get("size").filter(|size| !size.is_empty());
    Ok(size.map(|size| ("size".to_owned(), size.clone())).into_iter().collect())
}

impl Service {
    /// Gives the root another size, when its disk says another one after a change than before.
    pub(super) fn resize_root(
        &self,
        task: &Task,
        instance: &Instance,
        (before, after): (&Expanded, &Expanded),
    ) -> Result<()> {
        let (old, new) = (size_keys(before)?, size_keys(after)?);
        if size_of(&old)? == size_of(&new)? {
            return Ok(());
        }
        match new.is_empty() {
            true => self.give_root(
                task,
                instance,
                &default_size(&self.pool_document(root_device(after)?.0)?.config),
            ),
            false => self.give_root(task, instance, &new),
        }
    }

    /// Gives the root the size that its disk says, where another one was left by a restore or by what was interrupted. One that can't
    /// be had is no reason not to start.
    pub(super) fn fit_root(&self, task: &Task, instance: &Instance, expanded: &Expanded) {
        let fitted = size_keys(expanded).and_then(|keys| match keys.is_empty() {
            true => Ok(()),
            false => self.give_root(task, instance, &keys),
        });
        if let Err(error) = fitted {
            tracing::warn!(instance = instance.name, %error, "the root does not get the size of its disk");
        }
    }

    fn give_root(&self, task: &Task, instance: &Instance, keys: &Config) -> Result<()> {
        let (root, pool) = self.root_and_pool(instance)?;
        if size_of(&root.volume.config)? == size_of(keys)? {
            return Ok(());
        }
        let mut config = root.volume.config.clone();
        config.remove("size");
        config.extend(keys.clone());
        let description = root.volume.description.clone();
        self.update_volume(task, &pool, &root, VolumeChange { config, description })
    }
}
