//! The storage drivers: one module a technology. [`load`] makes a driver by its name in the API.
//!
//! [`memory`] is for tests: a technology whose every step can be made to fail.

mod bounded;
pub mod ceph;
pub mod cephfs;
pub mod dir;
mod filesystem;
mod keys;
pub mod lvm;
pub mod memory;
mod source;

use larder_base::PoolName;
use larder_storage_driver::{Config, Driver, ErrorKind, Result, StorageError};
use std::path::PathBuf;

/// What every driver needs to know of its pool.
#[derive(Debug, Clone)]
pub struct PoolSetup {
    /// The pool's name.
    pub name: PoolName,
    /// Where the pool is to be found on this machine, an absolute path that may not exist yet.
    pub root: PathBuf,
    /// Where the file of a pool that has no device of its own is kept, an absolute path that may not exist yet.
    pub disks: PathBuf,
    /// The pool's keys.
    pub config: Config,
}

/// A driver that can be asked for.
#[derive(Debug, Clone, Copy)]
pub struct Supported {
    /// Its name in the API.
    pub name: &'static str,
    /// The version of what it drives.
    pub version: &'static str,
    /// Whether other members reach the same pool.
    pub is_remote: bool,
    load: fn(PoolSetup) -> Result<Box<dyn Driver>>,
}

/// All drivers that can be asked for.
pub const SUPPORTED: &[Supported] = &[
    Supported {
        name: "dir",
        version: "1",
        is_remote: false,
        load: |setup| Ok(Box::new(dir::Dir::new(setup)?)),
    },
    Supported {
        name: "ceph",
        version: "1",
        is_remote: true,
        load: |setup| Ok(Box::new(ceph::Ceph::new(setup)?)),
    },
    Supported {
        name: "cephfs",
        version: "1",
        is_remote: true,
        load: |setup| Ok(Box::new(cephfs::CephFs::new(setup)?)),
    },
    Supported {
        name: "lvm",
        version: "2.03",
        is_remote: false,
        load: |setup| Ok(Box::new(lvm::Lvm::new(setup)?)),
    },
];

/// Why pools of a driver can't be made or opened on this machine, and what would help; `None` when they can.
pub fn unavailable(name: &str) -> Option<String> {
    match name {
        "ceph" => ceph::unavailable(),
        "cephfs" => cephfs::unavailable(),
        "lvm" => lvm::unavailable(),
        _ => None,
    }
}

/// Makes the driver `name` for a pool. Changes nothing. Fails with kind `Invalid` for an unknown name or a wrong key.
pub fn load(name: &str, setup: PoolSetup) -> Result<Box<dyn Driver>> {
    let Some(supported) = SUPPORTED.iter().find(|supported| supported.name == name) else {
        let names: Vec<_> = SUPPORTED.iter().map(|supported| supported.name).collect();
        let message = format!("unknown storage driver {name:?}: it is one of {}", names.join(", "));
        return Err(StorageError::new(ErrorKind::Invalid, message));
    };
    (supported.load)(setup)
}
