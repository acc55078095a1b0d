//! The storage drivers: one module a technology. [`load`] makes a driver by its name in the API.
//!
//! [`memory`] is for tests: a technology whose every step can be made to fail.

mod bounded;
pub mod btrfs;
pub mod ceph;
pub mod cephfs;
pub mod cephobject;
mod cluster;
pub mod dir;
mod filesystem;
mod folders;
mod json;
mod kernel;
mod keys;
pub mod lvm;
pub mod memory;
mod mount_points;
mod parts;
mod refusal;
mod source;
mod spelling;
mod supported;
pub mod zfs;

use larder_base::PoolName;
use larder_storage_driver::Config;
use std::path::PathBuf;

pub(crate) use supported::missing;
pub use supported::{SUPPORTED, Supported, load};

/// What every driver needs to know of its pool.
#[derive(Debug, Clone)]
pub struct PoolSetup {
    /// The pool's name.
    pub name: PoolName,
    /// Where the pool is to be found on this machine, an absolute path that may not exist yet.
    pub root: PathBuf,
    /// Where the file of a pool that has no device of its own is kept, an absolute path that may not exist yet.
    pub disks: PathBuf,
    /// The configuration of the Ceph cluster, where it is not that in `/etc/ceph`.
    pub ceph_conf: Option<PathBuf>,
    /// The pool's keys.
    pub config: Config,
}

#[cfg(test)]
impl PoolSetup {
    /// A pool `p1` with these keys.
    pub(crate) fn with_keys(keys: &[(&str, &str)]) -> Self {
        Self {
            name: "p1".parse().expect("a pool's name"),
            root: "/pools/p1".into(),
            disks: "/disks".into(),
            ceph_conf: None,
            config: keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        }
    }
}
