//! Instances from root volumes: profiles, configuration keys, id maps, and unprivileged system containers by
//! liblxc.
//!
//! Everything here takes plain values (a root directory, maps of keys, paths) and blocks; it knows no
//! catalog, no pool and no HTTP. Three rules shape it:
//!
//! - **liblxc is loaded at run time and called in a fresh process each time.** The library keeps locks per
//!   process and forks, so the daemon starts itself again under a hidden subcommand ([`helper_main`]) for
//!   each call.
//! - **Containers outlive the daemon.** Their monitors belong to nobody's process group; a container is found
//!   again by its name and the runtime's folder.
//! - **What goes into a configuration is a pure function** of a [`ContainerSpec`], so it can be read in a
//!   test.

pub mod container;
pub mod error;
pub mod files;
pub mod helper;
pub mod idmap;
pub mod keys;
pub mod liblxc;
pub mod profiles;
pub mod shift;
mod spawn;

pub use container::{
    Console, ContainerSpec, ContainerState, Containers, CpuLimit, DiskFailure, DiskMount, Ended, Exec,
    ExecControl, ExecSession, ExecStreams, Limits, ReachError, StartWarning, Started, Status, Stdio, Usage,
    Watch, check_reach,
};
pub use error::RuntimeError;
pub use files::{Entry, EntryKind, FileRoot, FilesError, NewFile, WriteMode};
pub use helper::{HELPER_COMMAND, helper_main};
pub use idmap::{IdMap, IdMapError, IdRange};
pub use keys::{KeyError, check_config, check_device, check_devices};
pub use profiles::{Config, Devices, Expanded, ProfileLayer, expand};
pub use spawn::HelperProgram;
