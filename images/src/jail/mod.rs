//! Everything that chews hostile archives runs in a helper process with nothing to break.
//!
//! The daemon starts *itself* again with [`JAIL_ARGUMENT`]; its main function calls [`jail_main`] for that.
//! The helper has its own mount, net, pid, ipc and uts namespaces, a root of its own with the system's
//! programs read-only and the directory to fill as the only place to write (`nodev,nosuid,noexec`), six
//! capabilities, `no_new_privs`, a system call filter, and limits on bytes, files and time. In it GNU tar or
//! unsquashfs does the work. Decompression is done by the daemon's own code, which pipes the stream in and so
//! sees how much comes out.

mod confine;
mod error;
mod helper;
mod job;
mod launcher;
mod listing;
mod process;
mod root;

pub use error::UnpackError;
pub use helper::jail_main;
pub use job::JAIL_ARGUMENT;
pub use launcher::{JailLauncher, Limits, Select, UnpackRequest};
