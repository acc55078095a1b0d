//! Whether a filesystem can be mounted with mapped ids.

use super::namespace::{set_attributes, user_namespace};
use crate::idmap::IdMap;
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::io;
use std::path::Path;

/// Tries it on a detached copy of the mount that `path` is on; nothing becomes visible anywhere.
pub(super) fn id_map(path: &Path) -> io::Result<()> {
    let tree = open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    set_attributes(&tree, 0, false, Some(&user_namespace(&IdMap::simple(100_000, 65_536))?))
}
