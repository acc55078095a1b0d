//! Whether a container's root can get at a directory.

use crate::idmap::IdMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A directory can't be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReachError {
    /// A folder on the way lets only others through.
    #[error(
        "{} can't be reached by the container's root (host id {user}): the folder {} (owner {owner}, mode {mode:04o}) \
         does not let it through: allow passing with chmod o+x", root.display(), folder.display()
    )]
    Blocked {
        /// The directory.
        root: PathBuf,
        /// The first folder on the way that blocks.
        folder: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its owner.
        owner: u32,
        /// Who wants through.
        user: u32,
    },
    /// It could not be looked at.
    #[error("look at {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Checks that the container's root may pass every folder above `root`, and names the first that blocks it.
///
/// A start brings roots and disks to the runtime's folder by itself: that folder is what must be reachable.
pub fn check_reach(root: &Path, idmap: &IdMap) -> Result<(), ReachError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ReachError::Io { path, source }
    };
    let real = fs::canonicalize(root).map_err(failed(root))?;
    let (Some(user), Some(group)) = (idmap.host_user(0), idmap.host_group(0)) else { return Ok(()) };
    let mut folders: Vec<&Path> = real.ancestors().skip(1).collect();
    folders.reverse();
    for folder in folders {
        let metadata = fs::symlink_metadata(folder).map_err(failed(folder))?;
        let bit = if metadata.uid() == user {
            0o100
        } else if metadata.gid() == group {
            0o010
        } else {
            0o001
        };
        if metadata.mode() & bit == 0 {
            return Err(ReachError::Blocked {
                root: root.to_owned(),
                folder: folder.to_owned(),
                mode: metadata.mode() & 0o7777,
                owner: metadata.uid(),
                user,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_folder_that_blocks_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (outer, inner) = (dir.path().join("outer"), dir.path().join("outer/inner"));
        let root = inner.join("rootfs");
        fs::create_dir_all(&root).unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let map = IdMap::simple(1_000_000, 65_536);
        set(dir.path(), 0o711);
        set(&root, 0o700);
        check_reach(&root, &map).unwrap();
        set(&inner, 0o700);
        set(&outer, 0o750);
        match check_reach(&root, &map) {
            Err(ReachError::Blocked { folder, mode, .. }) => {
                assert_eq!((folder, mode), (fs::canonicalize(&outer).unwrap(), 0o750));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(check_reach(&dir.path().join("absent"), &map), Err(ReachError::Io { .. })));
    }
}
