//! Image files: how a hostile one is unpacked without harm.
//!
//! - [`jail`]: unpacking in a helper process that has nothing to break. Start at [`JailLauncher`].
//! - [`archive`]: what a file is packed with, told by its first bytes.
//!
//! Nothing here knows volumes, the catalog or HTTP servers: the daemon joins them.

pub mod archive;
pub mod jail;

pub use archive::Format;
pub use jail::{JAIL_ARGUMENT, JailLauncher, Limits, Select, UnpackError, UnpackRequest, jail_main};
