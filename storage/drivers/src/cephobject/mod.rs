//! Buckets kept by a Ceph object gateway (radosgw), and nothing else: the gateway serves them, `radosgw-admin` manages them.
//!
//! Everything that asks the cluster or the gateway has a deadline.

mod answer;
mod command;
mod keys;
mod names;
mod parse;
mod request;
mod store;
#[cfg(test)]
mod tests;
mod transfer;

use crate::PoolSetup;
pub(crate) use command::RADOSGW_ADMIN;
use keys::{CONFIG_KEYS, Settings};
use larder_base::ByteSize;
use larder_storage_driver::{
    Attached, Capabilities, CloneKind, Config, ConfigKey, Cx, Driver, Mode, Need, ObjectStore, Place,
    PoolUsage, Quota, Restore, Result, Shrink, SnapshotKind, StorageError, Trees, VolumeSpec, VolumeUsage,
};
use parking_lot::RwLock;
use parse::{read_names, read_stats};
pub(crate) use request::CURL;
use std::sync::Arc;
use store::{ask_gateway, run, run_if_there};

/// The driver over one pool.
#[derive(Debug)]
pub struct CephObject {
    setup: PoolSetup,
    settings: RwLock<Arc<Settings>>,
}

impl CephObject {
    /// A driver for the gateway that the keys name. Asks nobody. Fails with `Invalid` for a wrong key.
    pub fn new(setup: PoolSetup) -> Result<Self> {
        let settings = RwLock::new(Arc::new(Settings::of(&setup)?));
        Ok(Self { setup, settings })
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read())
    }

    /// Whether the cluster and the gateway answer.
    fn knock(cx: &Cx<'_>, settings: &Settings) -> Result<()> {
        settings.must_name_a_gateway()?;
        run_if_there(cx, &settings.zone())?;
        ask_gateway(cx, settings, &settings.knock()).map(drop)
    }
}

/// Volumes are what this driver has none of.
fn has_no_volumes(at: &Place) -> StorageError {
    let message = format!("the cephobject driver keeps buckets alone, no {} volumes", at.volume.kind);
    StorageError::unsupported(Need::Content(at.volume.content), message)
}

impl Driver for CephObject {
    fn name(&self) -> &'static str {
        "cephobject"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            contents: &[],
            snapshot: SnapshotKind::Native,
            clone: CloneKind::None,
            quota: Quota::Native,
            shrink: Shrink::No,
            restore: Restore::InPlace,
            trees: Trees::Apart,
            shared: true,
        }
    }

    fn config_keys(&self) -> &'static [ConfigKey] {
        CONFIG_KEYS
    }

    fn recorded_config(&self) -> Config {
        self.settings().config.clone()
    }

    /// Makes nothing: the first bucket is the first thing of the pool at the gateway.
    fn create_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.must_answer(cx)
    }

    fn open_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.must_answer(cx)
    }

    fn change_pool(&self, cx: &Cx<'_>, _: &Config, new: &Config) -> Result<()> {
        let settings = Settings::of(&PoolSetup { config: new.clone(), ..self.setup.clone() })?;
        Self::knock(cx, &settings)?;
        *self.settings.write() = Arc::new(settings);
        Ok(())
    }

    fn close_pool(&self, _: &Cx<'_>) -> Result<()> {
        Ok(())
    }

    fn destroy_pool(&self, _: &Cx<'_>) -> Result<()> {
        Ok(())
    }

    fn must_answer(&self, cx: &Cx<'_>) -> Result<()> {
        Self::knock(cx, &self.settings())
    }

    /// Nobody knows: the gateway puts buckets in several OSD pools, each with a placement of its own.
    fn pool_usage(&self, _: &Cx<'_>) -> Result<PoolUsage> {
        Ok(PoolUsage::default())
    }

    fn list(&self, cx: &Cx<'_>) -> Result<Vec<Place>> {
        let settings = self.settings();
        let users = run_if_there(cx, &settings.users())?.unwrap_or_default();
        Ok(names::places(&settings.identity, &read_names(&users)?))
    }

    fn create(&self, _: &Cx<'_>, at: &Place, _: &VolumeSpec) -> Result<()> {
        Err(has_no_volumes(at))
    }

    fn rename(&self, _: &Cx<'_>, from: &Place, _: &Place) -> Result<()> {
        Err(has_no_volumes(from))
    }

    /// Never a bucket: those are [`ObjectStore::destroy`]'s.
    fn destroy(&self, _: &Cx<'_>, _: &Place) -> Result<()> {
        Ok(())
    }

    fn resize(&self, _: &Cx<'_>, at: &Place, _: Option<ByteSize>) -> Result<()> {
        Err(has_no_volumes(at))
    }

    fn usage(&self, cx: &Cx<'_>, at: &Place) -> Result<VolumeUsage> {
        let settings = self.settings();
        let name = format!("{}{}", settings.prefix, at.volume.name);
        let stats = run(cx, &settings.bucket(&name))?.ok().map(|text| read_stats(&text)).transpose()?;
        let is_ours = |owner: &str| {
            names::read_user(&settings.identity, owner).is_some_and(|bucket| bucket.volume == at.volume)
        };
        match stats {
            Some((owner, bytes)) if is_ours(&owner) => {
                Ok(VolumeUsage { used_bytes: Some(bytes), total_bytes: None })
            }
            _ => Err(StorageError::not_found(at)),
        }
    }

    fn attach(&self, _: &Cx<'_>, at: &Place, _: Mode) -> Result<Attached> {
        Err(has_no_volumes(at))
    }

    fn detach(&self, _: &Cx<'_>, _: &Place) -> Result<()> {
        Ok(())
    }

    fn objects(&self) -> Option<&dyn ObjectStore> {
        Some(self)
    }
}
