//! What the drivers over a Ceph cluster have alike: what every command says to it and why it is refused, and the keys that name it.

pub(crate) mod parse;
mod refusal;
mod run;

pub(crate) use refusal::Refusal;
pub(crate) use run::{Failure, ask, ask_if_there, change, change_if_there, run};

use crate::PoolSetup;
use crate::keys::{named, value, wrong};
use larder_base::host::Cmd;
use larder_storage_driver::{Config, KeyType, Result};

/// How long the monitors and the OSDs may leave one request unanswered (seconds).
pub(crate) const PATIENCE: &str =
    "--client_mount_timeout=20 --rados_mon_op_timeout=30 --rados_osd_op_timeout=60";
/// Whose pool a mark names: chosen once, recorded with the pool's keys.
const IDENTITY: &str = "volatile.pool.identity";

/// The same command for a cluster, as a user of it.
pub(crate) fn asked_of(cmd: Cmd, cluster: &str, user: &str) -> Cmd {
    cmd.args(["--cluster", cluster, "--id", user]).env("CEPH_ARGS", PATIENCE)
}

/// A name that can't be mistaken for an option, for several words or for a way up.
pub(crate) fn word(key: &str, text: &str) -> Result<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_good =
        text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && text.chars().all(is_plain);
    if is_good { Ok(text.to_owned()) } else { Err(wrong(key, text, "letters, digits and - _ .")) }
}

/// The word that a key says, or what it is when it is not set.
pub(crate) fn name(config: &Config, key: &str, default: &str) -> Result<String> {
    word(key, value(config, key).unwrap_or(default))
}

/// The number that a key says. Fails with `Invalid` naming the key.
pub(crate) fn count(config: &Config, key: &str) -> Result<Option<String>> {
    let Some(text) = value(config, key) else { return Ok(None) };
    KeyType::Count.check(text).map_err(|wanted| wrong(key, text, wanted))?;
    Ok(Some(text.to_owned()))
}

/// Whose pool it is, chosen now unless it was before.
pub(crate) fn identity(config: &mut Config) -> String {
    let new = || uuid::Uuid::new_v4().simple().to_string();
    config.entry(IDENTITY.to_owned()).or_insert_with(new).clone()
}

/// Where a pool is on its cluster, and the key that says so: `key`, `source`, which must say the same, or the pool's own name.
pub(crate) fn home<'a>(setup: &'a PoolSetup, key: &'static str) -> Result<(&'static str, &'a str)> {
    // The daemon of an older version filled the root in as source.
    let root = setup.root.display().to_string();
    let source = value(&setup.config, "source").filter(|source| *source != root);
    named(&setup.config, key, source, setup.name.as_str())
}
