//! What the helper is asked to do. The daemon writes it as one argument, the helper reads it.

use serde::{Deserialize, Serialize};

/// The hidden argument that makes a program the helper.
pub const JAIL_ARGUMENT: &str = "internal-jail";

/// Exit codes of the helper itself; what the tool in the jail exits with is passed on as it is.
pub(super) mod exit {
    /// The jail could not be built; standard error says why.
    pub(crate) const NOT_BUILT: u8 = 120;
    /// More bytes were written than the limit allows.
    pub(crate) const TOO_MANY_BYTES: u8 = 121;
}

/// Where the directory to fill is inside the jail.
pub(super) const TARGET: &str = "/target";
/// Where a squashfs image is inside the jail.
pub(super) const ARCHIVE: &str = "/archive";

/// One unpacking.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Job {
    /// The program, a name below `/usr/bin`, `/bin`, `/usr/sbin` or `/sbin`.
    pub(super) program: String,
    /// Its arguments.
    pub(super) arguments: Vec<String>,
    /// The largest file, and for a bound archive all that is written.
    pub(super) bytes: u64,
    /// Whether standard input is a file to be bound at [`ARCHIVE`] (squashfs must seek) instead of a stream.
    pub(super) bind_archive: bool,
}
