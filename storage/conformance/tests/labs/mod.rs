//! The labs that need more than a folder.

pub(crate) mod between;
pub(crate) mod btrfs;
pub(crate) mod btrfs_pool;
pub(crate) mod btrfs_volumes;
pub(crate) mod ceph;
pub(crate) mod ceph_streams;
pub(crate) mod ceph_trials;
mod cephfs_trials;
pub(crate) mod cephobject;
pub(crate) mod compare;
pub(crate) mod lvm;
pub(crate) mod lvm_trials;
pub(crate) mod machine;
pub(crate) mod refused_sizes;
pub(crate) mod streams;
pub(crate) mod zfs;
pub(crate) mod zfs_pools;
pub(crate) mod zfs_streams;
pub(crate) mod zfs_trials;

use super::{Mounted, fast_folder, mounted, scratch};
