//! The storage drivers: one module a technology. [`load`] makes a driver by its name in the API.
//!
//! [`memory`] is for tests: a technology whose every step can be made to fail.

mod bounded;
pub mod btrfs;
pub mod ceph;
pub mod cephfs;
pub mod dir;
mod filesystem;
mod folders;
mod keys;
pub mod lvm;
pub mod memory;
mod source;
pub mod zfs;

use larder_base::PoolName;
use larder_base::host::{SystemHost, Tool};
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
    unavailable: fn() -> Option<String>,
    load: fn(PoolSetup) -> Result<Box<dyn Driver>>,
}

/// All drivers that can be asked for.
pub const SUPPORTED: &[Supported] = &[
    Supported {
        name: "btrfs",
        version: "1",
        is_remote: false,
        unavailable: btrfs::unavailable,
        load: |setup| Ok(Box::new(btrfs::Btrfs::new(setup)?)),
    },
    Supported {
        name: "dir",
        version: "1",
        is_remote: false,
        unavailable: || None,
        load: |setup| Ok(Box::new(dir::Dir::new(setup)?)),
    },
    Supported {
        name: "ceph",
        version: "1",
        is_remote: true,
        unavailable: || missing(ceph::RBD),
        load: |setup| Ok(Box::new(ceph::Ceph::new(setup)?)),
    },
    Supported {
        name: "cephfs",
        version: "1",
        is_remote: true,
        unavailable: || missing(cephfs::MOUNT),
        load: |setup| Ok(Box::new(cephfs::CephFs::new(setup)?)),
    },
    Supported {
        name: "lvm",
        version: "2.03",
        is_remote: false,
        unavailable: lvm::unavailable,
        load: |setup| Ok(Box::new(lvm::Lvm::new(setup)?)),
    },
    Supported {
        name: "zfs",
        version: "2.3",
        is_remote: false,
        unavailable: || missing(zfs::ZFS),
        load: |setup| Ok(Box::new(zfs::Zfs::new(setup)?)),
    },
];

impl Supported {
    /// Why pools of the driver can't be made or opened on this machine, and what would help; `None` when they can.
    pub fn unavailable(&self) -> Option<String> {
        (self.unavailable)()
    }

    /// Whether pools of the driver can be made on this machine.
    pub fn is_available(&self) -> bool {
        self.unavailable().is_none()
    }
}

/// That a program is missing, if it is, and what to install.
fn missing(tool: Tool) -> Option<String> {
    let found = SystemHost::find(tool.name);
    found.is_none().then(|| format!("the program {} is not available: install {}", tool.name, tool.package))
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
