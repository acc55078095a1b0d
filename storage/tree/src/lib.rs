//! Copying trees of files and disks as they are: owners, modes, times, extended attributes (ACLs and capabilities among
//! them), hard links, devices, FIFOs, sockets, symbolic links, holes. And telling whether two trees are the same.
//!
//! [`CopyTree`] and [`CopyFile`] are changing steps for a [`Host`](larder_base::host::Host).

mod attributes;
mod copy_file;
mod copy_tree;
mod data;
mod links;
mod manifest;
mod same;

pub use copy_file::CopyFile;
pub use copy_tree::{CopyMode, CopyTree};
pub use manifest::{Entry, Manifest, manifest};
