//! The root of a new filesystem as a volume's user expects it.

use larder_base::Cancel;
use larder_base::host::{Act, FsAct};
use std::io;
use std::path::PathBuf;

/// Mounts a new filesystem for a moment: takes out what its mkfs put in (`lost+found`), and sets owner and mode of its root.
#[derive(Debug, Clone)]
pub(crate) struct PrepareRoot {
    /// The device.
    pub(crate) device: PathBuf,
    /// The filesystem's name for `mount(8)`.
    pub(crate) kind: &'static str,
    /// An empty folder where nothing is mounted.
    pub(crate) scratch: PathBuf,
    /// User and group.
    pub(crate) owner: (u32, u32),
    /// Mode bits.
    pub(crate) mode: u32,
}

impl Act for PrepareRoot {
    fn describe(&self) -> String {
        format!("prepare the root of the new {} on {}", self.kind, self.device.display())
    }

    fn apply(&self, cancel: &Cancel) -> io::Result<()> {
        let target = self.scratch.clone();
        let mount = FsAct::Mount {
            source: self.device.clone(),
            target: target.clone(),
            kind: self.kind.to_owned(),
            options: String::new(),
            read_only: false,
        };
        mount.apply(cancel)?;
        let (uid, gid) = self.owner;
        let prepared = FsAct::remove_tree(target.join("lost+found"))
            .apply(cancel)
            .and_then(|()| FsAct::SetOwner { path: target.clone(), uid, gid }.apply(cancel))
            .and_then(|()| FsAct::SetMode { path: target.clone(), mode: self.mode }.apply(cancel));
        let unmounted = FsAct::Unmount { target }.apply(cancel);
        prepared.and(unmounted)
    }
}
