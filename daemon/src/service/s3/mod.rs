//! What the S3 endpoint asks of the daemon, and where it listens.

mod access_log;
mod address;
mod bind;
mod directory;
mod traffic;

pub(super) use access_log::AccessLog;
pub use bind::Bound;
pub(super) use bind::Endpoint;
pub use directory::S3Directory;
pub use traffic::Traffic;
pub(super) use traffic::{LATENCIES, METHODS, Tally};

use super::{Config, Result, Service, ServiceError};
use address::EndpointAddress;
use larder_s3::Repeats;
use std::sync::Arc;
use tokio::sync::watch;

/// Where the endpoint listens.
pub(super) const ADDRESS: &str = "core.storage_buckets_address";
/// Whether it speaks plain HTTP.
pub(super) const PLAINTEXT: &str = "core.storage_buckets_plaintext";
/// How many seconds a day of a lifecycle rule lasts.
pub(super) const LIFECYCLE_DAY: &str = "storage.buckets_lifecycle_day_seconds";
/// Whether requests are written to the access log.
pub(super) const ACCESS_LOG: &str = "larder.storage_buckets_access_log";
/// Whether no signature is taken twice.
pub(super) const EACH_SIGNED_ANEW: &str = "larder.storage_buckets_each_signed_anew";
/// Seconds of a real day.
const DAY: u64 = 86_400;

/// What the configuration says of the endpoint.
fn wanted(config: &Config) -> Result<Option<(EndpointAddress, bool)>> {
    let is_plaintext = config.get(PLAINTEXT).is_some_and(|value| super::server::is_true(value));
    let Some(text) = config.get(ADDRESS).filter(|text| !text.is_empty()) else { return Ok(None) };
    let address: EndpointAddress = text.parse().map_err(ServiceError::bad)?;
    if is_plaintext && !address.is_loopback() {
        return Err(ServiceError::bad(format!(
            "{PLAINTEXT} is for loopback addresses alone, and {ADDRESS} is {text:?}: use 127.0.0.1 or [::1], or TLS"
        )));
    }
    Ok(Some((address, is_plaintext)))
}

impl Service {
    /// Where a bucket is reached over S3; empty while the endpoint is off.
    pub fn s3_url(&self, bucket: &str) -> String {
        self.endpoint.current().map(|bound| format!("{}/{bucket}", bound.url())).unwrap_or_default()
    }

    /// Where the endpoint listens, now and after each change.
    pub fn s3_listener(&self) -> watch::Receiver<Option<Arc<Bound>>> {
        self.endpoint.subscribe()
    }

    /// Begins to listen where the configuration says. Failing that the daemon goes on without.
    pub fn open_s3_endpoint(&self) -> Result<()> {
        let config = self.server_config()?;
        match wanted(&config).and_then(|wanted| self.endpoint.prepare(wanted)) {
            Ok(bound) => self.endpoint.switch(bound),
            Err(error) => tracing::error!(%error, "the S3 endpoint is off"),
        }
        Ok(())
    }

    /// Changes where the endpoint listens along with `commit`, or neither.
    pub(super) fn move_s3_endpoint(
        &self,
        config: &Config,
        commit: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let _order = self.endpoint.order();
        let bound = self.endpoint.prepare(wanted(config)?)?;
        commit()?;
        self.endpoint.switch(bound);
        Ok(())
    }

    /// Who counts the endpoint's requests.
    pub fn s3_traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// Keeps an access log if the configuration says so.
    pub fn open_access_log(&self) -> Result<()> {
        self.switch_access_log(&self.server_config()?)
    }

    /// Writes the last lines of the access log.
    pub(super) fn traffic_ends(&self) -> Result<()> {
        self.traffic.log.switch(false)
    }

    /// The same as a configuration says that is about to be committed, or was.
    pub(super) fn switch_access_log(&self, config: &Config) -> Result<()> {
        let is_on = config.get(ACCESS_LOG).is_some_and(|value| super::server::is_true(value));
        self.traffic.log.switch(is_on)
    }

    /// How many seconds a day of a lifecycle rule lasts, and what becomes of a signature that comes again soon.
    pub fn s3_behaviour(&self) -> Result<(u64, Repeats)> {
        let config = self.server_config()?;
        let seconds = config.get(LIFECYCLE_DAY).and_then(|text| text.parse().ok());
        let is_each_signed_anew =
            config.get(EACH_SIGNED_ANEW).is_some_and(|value| super::server::is_true(value));
        let repeats = if is_each_signed_anew { Repeats::AreRefused } else { Repeats::AreMeant };
        Ok((seconds.filter(|seconds| *seconds > 0).unwrap_or(DAY), repeats))
    }
}
