//! The drivers that can be asked for, and what each needs of the machine.

use crate::{PoolSetup, btrfs, ceph, cephfs, cephobject, dir, filesystem, lvm, zfs};
use larder_base::host::{SystemHost, Tool};
use larder_storage_driver::{Driver, ErrorKind, Result, StorageError};

/// A driver that can be asked for.
#[derive(Debug, Clone, Copy)]
pub struct Supported {
    /// Its name in the API.
    pub name: &'static str,
    /// The version of what it drives.
    pub version: &'static str,
    /// Whether other members reach the same pool.
    pub is_remote: bool,
    /// Without these programs there is no pool.
    pub programs: &'static [Tool],
    /// Further programs, without which some volumes can't be made or changed.
    pub further_programs: &'static [Tool],
    /// What the kernel must have, in words; empty when any kernel will do.
    pub kernel: &'static str,
    kernel_lacks: fn() -> Option<String>,
    load: fn(PoolSetup) -> Result<Box<dyn Driver>>,
}

/// All drivers that can be asked for.
pub const SUPPORTED: &[Supported] = &[
    Supported {
        name: "btrfs",
        version: "1",
        is_remote: false,
        programs: &[btrfs::MKFS],
        further_programs: &[btrfs::BTRFS],
        kernel: "btrfs",
        kernel_lacks: || None,
        load: |setup| Ok(Box::new(btrfs::Btrfs::new(setup)?)),
    },
    Supported {
        name: "dir",
        version: "1",
        is_remote: false,
        programs: &[],
        further_programs: &[],
        kernel: "",
        kernel_lacks: || None,
        load: |setup| Ok(Box::new(dir::Dir::new(setup)?)),
    },
    Supported {
        name: "ceph",
        version: "1",
        is_remote: true,
        programs: &[ceph::RBD],
        further_programs: filesystem::MAKERS,
        kernel: "rbd",
        kernel_lacks: || None,
        load: |setup| Ok(Box::new(ceph::Ceph::new(setup)?)),
    },
    Supported {
        name: "cephfs",
        version: "1",
        is_remote: true,
        programs: &[cephfs::MOUNT],
        further_programs: &[],
        kernel: "ceph",
        kernel_lacks: || None,
        load: |setup| Ok(Box::new(cephfs::CephFs::new(setup)?)),
    },
    Supported {
        name: "cephobject",
        version: "1",
        is_remote: true,
        programs: &[cephobject::RADOSGW_ADMIN, cephobject::CURL],
        further_programs: &[],
        kernel: "",
        kernel_lacks: || None,
        load: |setup| Ok(Box::new(cephobject::CephObject::new(setup)?)),
    },
    Supported {
        name: "lvm",
        version: "2.03",
        is_remote: false,
        programs: &[lvm::LVCREATE],
        further_programs: filesystem::MAKERS,
        kernel: "device-mapper, with its thin target for thin pools",
        kernel_lacks: lvm::kernel_lacks,
        load: |setup| Ok(Box::new(lvm::Lvm::new(setup)?)),
    },
    Supported {
        name: "zfs",
        version: "2.3",
        is_remote: false,
        programs: &[zfs::ZFS],
        further_programs: filesystem::MAKERS,
        kernel: "the zfs module",
        kernel_lacks: || None,
        load: |setup| Ok(Box::new(zfs::Zfs::new(setup)?)),
    },
];

impl Supported {
    /// Why pools of the driver can't be made or opened on this machine, and what would help; `None` when they can.
    pub fn unavailable(&self) -> Option<String> {
        self.programs.iter().find_map(|tool| missing(*tool)).or_else(self.kernel_lacks)
    }

    /// Whether pools of the driver can be made on this machine.
    pub fn is_available(&self) -> bool {
        self.unavailable().is_none()
    }
}

/// That a program is missing, if it is, and what to install.
pub(crate) fn missing(tool: Tool) -> Option<String> {
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
