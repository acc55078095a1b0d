//! The server's own configuration.

use super::store::cause_of;
use super::{Result, Service, ServiceError, Task};
use larder_base::ProjectName;
use larder_storage_driver::{Config, ConfigKey, KeyScope, KeyType};

const fn key(
    name: &'static str,
    kind: KeyType,
    default: &'static str,
    description: &'static str,
) -> ConfigKey {
    ConfigKey { name, scope: KeyScope::Pool, kind, default, mutable: true, description }
}

/// The keys of `PUT /1.0`.
pub const SERVER_KEYS: &[ConfigKey] = &[
    key(
        "images.remote_cache_expiry",
        KeyType::Integer,
        "10",
        "Days after which a cached image that nobody used goes; 0 keeps all",
    ),
    key(
        "images.auto_update_interval",
        KeyType::Integer,
        "6",
        "Hours after which images that follow their server are asked for anew; 0 for never",
    ),
    key(
        "images.auto_update_cached",
        KeyType::Boolean,
        "true",
        "Whether images that come along with an instance follow their server",
    ),
    key(
        "images.default_architecture",
        KeyType::Text,
        "",
        "Architecture to choose where an image has several",
    ),
    key(
        "images.compression_algorithm",
        KeyType::OneOf(&["none", "gzip", "bzip2", "lzma", "xz", "zstd"]),
        "gzip",
        "How new image files are compressed",
    ),
    key(
        "core.storage_buckets_address",
        KeyType::Text,
        "",
        "Where the S3 endpoint listens, such as :8555; empty for nowhere",
    ),
    key(
        "core.storage_buckets_plaintext",
        KeyType::Boolean,
        "false",
        "Whether the S3 endpoint speaks HTTP without TLS; on a loopback address alone",
    ),
    key(
        "storage.buckets_lifecycle_day_seconds",
        KeyType::Integer,
        "86400",
        "How many seconds a day of a bucket's lifecycle rule lasts; for tests",
    ),
    key(
        "larder.storage_buckets_access_log",
        KeyType::Boolean,
        "false",
        "Whether requests of the S3 endpoint are written to logs/s3-access.log, one line of JSON each",
    ),
    key(
        "larder.storage_buckets_each_signed_anew",
        KeyType::Boolean,
        "false",
        "Whether the S3 endpoint takes no signature by header twice, not even within its second",
    ),
    key(
        "backups.compression_algorithm",
        KeyType::OneOf(&["none", "gzip", "bzip2", "lzma", "xz", "zstd"]),
        "gzip",
        "How backups are compressed where the request does not say",
    ),
];

/// Whether a boolean key says yes.
pub(super) fn is_true(value: &str) -> bool {
    ["true", "1", "yes", "on"].contains(&value.to_ascii_lowercase().as_str())
}

impl Service {
    /// The server's configuration.
    pub fn server_config(&self) -> Result<Config> {
        self.store.server_config()
    }

    /// Replaces the server's configuration, which is as it was known.
    pub fn update_server_config(&self, task: &Task, known: &Config, config: Config) -> Result<()> {
        let mut config = config;
        config.retain(|_, value| !value.is_empty());
        for (name, value) in &config {
            if name.starts_with("user.") {
                continue;
            }
            let known = SERVER_KEYS.iter().find(|key| key.name == name);
            let key = known.ok_or_else(|| ServiceError::bad(format!("unknown server key {name:?}")))?;
            key.kind.check(value).map_err(|wanted| {
                ServiceError::bad(format!(
                    "invalid value {value:?} of server key {name:?}: it must be {wanted}"
                ))
            })?;
        }
        let cause = cause_of(task, "config-updated", "/1.0", &ProjectName::default_project());
        if let Some(text) = config.get(super::s3::LIFECYCLE_DAY)
            && !text.parse::<u64>().is_ok_and(|seconds| seconds > 0)
        {
            let message = format!("{} must be a number above 0, not {text:?}", super::s3::LIFECYCLE_DAY);
            return Err(ServiceError::bad(message));
        }
        self.move_s3_endpoint(&config, || self.store.change_server_config(known, &config, Some(cause)))?;
        self.switch_access_log(&config)
    }

    /// A copy of the catalog as it is now, taken while work goes on, at `path`, which must not exist.
    pub fn backup_catalog(&self, path: &std::path::Path) -> Result<()> {
        self.store.backup(path)
    }
}
