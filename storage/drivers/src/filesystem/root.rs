//! The root of a new filesystem as a volume's user expects it.

use super::LOST_AND_FOUND;
use crate::spelling::PRIVATE;
use larder_base::Cancel;
use larder_base::host::{Act, FsAct};
use larder_storage_driver::Config;
use std::io;
use std::path::PathBuf;

/// Mounts a new filesystem for a moment: takes out what its mkfs put in (`lost+found`), and sets owner and mode of its root.
#[derive(Debug, Clone)]
pub(crate) struct PrepareRoot {
    /// The device, or what else is mounted.
    pub(crate) source: PathBuf,
    /// The filesystem's name for `mount(8)`.
    pub(crate) kind: &'static str,
    /// Where it is mounted; made before and removed after.
    pub(crate) scratch: PathBuf,
    owner: (u32, u32),
    mode: u32,
}

impl PrepareRoot {
    /// A root as the keys of the volume want it.
    pub(crate) fn new(source: PathBuf, kind: &'static str, scratch: PathBuf, config: &Config) -> Self {
        let number = |key: &str| config.get(key).and_then(|value| value.parse().ok()).unwrap_or(0);
        let mode = config.get("initial.mode").and_then(|mode| u32::from_str_radix(mode, 8).ok());
        let owner = (number("initial.uid"), number("initial.gid"));
        Self { source, kind, scratch, owner, mode: mode.unwrap_or(0o711) }
    }
}

impl Act for PrepareRoot {
    fn describe(&self) -> String {
        let (uid, gid) = self.owner;
        let source = self.source.display();
        format!(
            "set mode {:04o} and owner {uid}:{gid} of the root of the new {} on {source}",
            self.mode, self.kind
        )
    }

    fn apply(&self, cancel: &Cancel) -> io::Result<()> {
        let target = self.scratch.clone();
        FsAct::MakeDirectory { path: target.clone(), mode: PRIVATE }.apply(cancel)?;
        let mount = FsAct::Mount {
            source: self.source.clone(),
            target: target.clone(),
            kind: self.kind.to_owned(),
            options: String::new(),
            read_only: false,
        };
        mount.apply(cancel)?;
        let (uid, gid) = self.owner;
        let prepared = FsAct::remove_tree(target.join(LOST_AND_FOUND))
            .apply(cancel)
            .and_then(|()| FsAct::SetOwner { path: target.clone(), uid, gid }.apply(cancel))
            .and_then(|()| FsAct::SetMode { path: target.clone(), mode: self.mode }.apply(cancel));
        let unmounted = FsAct::Unmount { target: target.clone() }.apply(&Cancel::never());
        let removed =
            unmounted.and_then(|()| FsAct::RemoveEmptyDirectory { path: target }.apply(&Cancel::never()));
        prepared.and(removed)
    }
}
