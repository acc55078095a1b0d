//! Volumes as plain directories and files on a filesystem that is there already.
//!
//! A snapshot is a copy (sharing blocks where the filesystem can), a restore exchanges two directories in one step. Sizes of
//! filesystem volumes are enforced where the filesystem has project quotas.

mod layout;
mod quota;

use crate::PoolSetup;
use crate::keys::{COMMON, pool, pool_fixed, with_common};
use larder_base::ByteSize;
use larder_base::host::FsAct;
use larder_storage_driver::{
    Area, Attached, Capabilities, CloneKind, Config, ConfigKey, Content, Cx, Driver, ErrorKind, KeyType,
    Mode, Place, PoolUsage, Quota, Restore, Result, Shrink, SnapshotKind, StorageError, VolumeKind,
    VolumeSpec, VolumeUsage,
};
use layout::Layout;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const RSYNC: &str = "Accepted for compatibility; copies are made without rsync";

const CONFIG_KEYS: &[ConfigKey] = &with_common::<{ COMMON.len() + 3 }>(&[
    pool_fixed("source", KeyType::Path, "An existing empty directory to keep the pool in"),
    pool("rsync.bwlimit", KeyType::Text, "", RSYNC),
    pool("rsync.compression", KeyType::Boolean, "true", RSYNC),
]);

/// Nobody but root passes: what is below belongs to whoever a volume is given to.
const PRIVATE: u32 = 0o700;

/// The driver over one pool.
#[derive(Debug)]
pub struct Dir {
    layout: Layout,
    source: Option<PathBuf>,
    config: Config,
    has_quota: std::sync::OnceLock<bool>,
}

impl Dir {
    /// A driver for a pool at `setup.root`. With `source` among its keys the pool is kept there and bound to its root.
    pub fn new(setup: PoolSetup) -> Result<Self> {
        let source = setup.config.get("source").filter(|source| !source.is_empty()).map(PathBuf::from);
        if let Some(path) = &source
            && !path.is_absolute()
        {
            let message = format!("invalid source {:?}: give an absolute path", path.display());
            return Err(StorageError::new(ErrorKind::Invalid, message));
        }
        // The source that the daemon fills in for a pool of its own is the root itself.
        let source = source.filter(|source| *source != setup.root);
        let mut config = setup.config;
        config.entry("source".to_owned()).or_insert_with(|| setup.root.display().to_string());
        Ok(Self { layout: Layout::new(setup.root), source, config, has_quota: std::sync::OnceLock::new() })
    }

    fn has_quota(&self) -> bool {
        *self.has_quota.get_or_init(|| quota::is_available(self.layout.root()))
    }

    fn act(&self, cx: &Cx<'_>, act: &FsAct) -> Result<()> {
        cx.act(act)
    }

    fn check_source(&self) -> Result<()> {
        let Some(source) = &self.source else { return Ok(()) };
        let refuse = |problem: &str| {
            let message =
                format!("the source {} {problem}: give an existing empty directory", source.display());
            Err(StorageError::new(ErrorKind::Invalid, message))
        };
        let Ok(mut entries) = fs::read_dir(source) else { return refuse("is no directory") };
        match entries.next() {
            // What an interrupted creation left is ours to go on with.
            Some(_) if !source.join(layout::OURS).is_dir() => refuse("is not empty"),
            _ => Ok(()),
        }
    }

    /// Makes the folders that a place's entry stands in.
    fn make_parents(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        match self.layout.path(at).parent() {
            Some(parent) if !parent.is_dir() => {
                self.act(cx, &FsAct::MakeDirectory { path: parent.to_owned(), mode: PRIVATE })
            }
            _ => Ok(()),
        }
    }

    /// Removes the folders that a place's entry stood in, as far as they are empty and not part of the layout.
    fn remove_empty_parents(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        for folder in self.layout.own_folders(at) {
            if is_empty_directory(&folder) {
                self.act(cx, &FsAct::RemoveEmptyDirectory { path: folder })?;
            }
        }
        Ok(())
    }

    /// Moves one entry; Ok when it has moved already.
    fn move_entry(&self, cx: &Cx<'_>, from: &Path, to: &Path) -> Result<()> {
        if !is_there(from) {
            return Ok(());
        }
        self.act(cx, &FsAct::rename_no_replace(from, to))
    }

    /// Moves a volume's snapshots. A live volume may have the folder of its new name made for it before.
    fn move_snapshots(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        let (old, new) = (self.layout.snapshots(from), self.layout.snapshots(to));
        if !is_there(&old) {
            return Ok(());
        }
        if let Some(parent) = new.parent()
            && !parent.is_dir()
        {
            self.act(cx, &FsAct::MakeDirectory { path: parent.to_owned(), mode: PRIVATE })?;
        }
        if is_empty_directory(&new) {
            self.act(cx, &FsAct::RemoveEmptyDirectory { path: new.clone() })?;
        }
        self.move_entry(cx, &old, &new)
    }

    fn new_filesystem(&self, cx: &Cx<'_>, path: &Path, spec: &VolumeSpec) -> Result<()> {
        let number = |key: &str| spec.config.get(key).and_then(|value| value.parse::<u32>().ok());
        let mode = spec.config.get("initial.mode").and_then(|mode| u32::from_str_radix(mode, 8).ok());
        self.act(cx, &FsAct::NewDirectory { path: path.to_owned(), mode: mode.unwrap_or(0o711) })?;
        let (uid, gid) = (number("initial.uid").unwrap_or(0), number("initial.gid").unwrap_or(0));
        if (uid, gid) != (0, 0) {
            self.act(cx, &FsAct::SetOwner { path: path.to_owned(), uid, gid })?;
        }
        self.limit(cx, path, spec.size)
    }

    fn limit(&self, cx: &Cx<'_>, path: &Path, size: Option<ByteSize>) -> Result<()> {
        if !self.has_quota() {
            return Ok(());
        }
        cx.act(&quota::SetQuota { root: self.layout.root().to_owned(), path: path.to_owned(), size })
    }

    fn new_disk_folder(&self, cx: &Cx<'_>, path: &Path, at: &Place, spec: &VolumeSpec) -> Result<()> {
        self.act(cx, &FsAct::NewDirectory { path: path.to_owned(), mode: PRIVATE })?;
        if at.volume.kind != VolumeKind::VirtualMachine {
            let mark = FsAct::SetAttribute {
                path: path.to_owned(),
                name: layout::CONTENT_MARK.to_owned(),
                value: at.volume.content.as_str().into(),
            };
            self.act(cx, &mark)?;
        }
        let disk = path.join(layout::DISK);
        self.act(cx, &FsAct::NewFile { path: disk, size: spec.disk_size().as_bytes(), mode: 0o600 })
    }
}

impl Driver for Dir {
    fn name(&self) -> &'static str {
        "dir"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            contents: &[Content::Filesystem, Content::Block, Content::Iso],
            snapshot: SnapshotKind::Copied,
            clone: CloneKind::None,
            quota: if self.has_quota() { Quota::Project } else { Quota::None },
            shrink: Shrink::No,
            restore: Restore::Exchange,
            shared: false,
        }
    }

    fn config_keys(&self) -> &'static [ConfigKey] {
        CONFIG_KEYS
    }

    fn recorded_config(&self) -> Config {
        self.config.clone()
    }

    fn create_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.check_source()?;
        let root = self.layout.root();
        if self.source.is_none()
            && is_there(root)
            && !is_empty_directory(root)
            && !root.join(layout::OURS).is_dir()
        {
            let message = format!("{} is not empty: remove what is in it, or give a source", root.display());
            return Err(StorageError::new(ErrorKind::Invalid, message));
        }
        self.act(cx, &FsAct::MakeDirectory { path: root.to_owned(), mode: 0o711 })?;
        self.open_pool(cx)
    }

    fn open_pool(&self, cx: &Cx<'_>) -> Result<()> {
        let root = self.layout.root();
        if !root.is_dir() {
            return Err(StorageError::not_found(format!("the pool's folder {}", root.display())));
        }
        if let Some(source) = &self.source
            && !is_same(source, root)?
        {
            let bind = FsAct::Bind { source: source.clone(), target: root.to_owned(), read_only: false };
            self.act(cx, &bind)?;
        }
        for folder in self.layout.folders() {
            if !folder.is_dir() {
                self.act(cx, &FsAct::MakeDirectory { path: folder, mode: PRIVATE })?;
            }
        }
        // A run that was cut off before it made anything left its folders empty, where nothing lists them.
        for folder in self.layout.empty_work_folders()? {
            self.act(cx, &FsAct::RemoveEmptyDirectory { path: folder })?;
        }
        Ok(())
    }

    fn close_pool(&self, cx: &Cx<'_>) -> Result<()> {
        match &self.source {
            Some(source) if self.layout.root().is_dir() && is_same(source, self.layout.root())? => {
                self.act(cx, &FsAct::Unmount { target: self.layout.root().to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn destroy_pool(&self, cx: &Cx<'_>) -> Result<()> {
        let home = match &self.source {
            Some(source) => {
                self.close_pool(cx)?;
                source.clone()
            }
            None => self.layout.root().to_owned(),
        };
        // What is not ours stays: the folders of the layout go, ours last, so that a repeated call knows the pool.
        for folder in Layout::new(home).folders() {
            self.act(cx, &FsAct::remove_tree(folder))?;
        }
        self.act(cx, &FsAct::RemoveEmptyDirectory { path: self.layout.root().to_owned() })
    }

    fn must_answer(&self, _: &Cx<'_>) -> Result<()> {
        if self.layout.root().join(layout::OURS).is_dir() {
            return Ok(());
        }
        let message = format!(
            "the folder {} is not the pool's any more: it is gone, or was unmounted",
            self.layout.root().display()
        );
        Err(StorageError::new(ErrorKind::Unavailable, message))
    }

    fn pool_usage(&self, _: &Cx<'_>) -> Result<PoolUsage> {
        let found = rustix::fs::statvfs(self.layout.root()).map_err(std::io::Error::from)?;
        Ok(PoolUsage {
            used_bytes: (found.f_blocks - found.f_bfree) * found.f_frsize,
            total_bytes: found.f_blocks * found.f_frsize,
            used_inodes: found.f_files - found.f_ffree,
            total_inodes: found.f_files,
        })
    }

    fn list(&self, _: &Cx<'_>) -> Result<Vec<Place>> {
        self.layout.list()
    }

    fn create(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        let path = self.layout.path(at);
        self.make_parents(cx, at)?;
        match at.volume.content {
            Content::Filesystem => self.new_filesystem(cx, &path, spec),
            Content::Block => self.new_disk_folder(cx, &path, at, spec),
            Content::Iso => self.act(
                cx,
                &FsAct::NewFile { path, size: spec.size.unwrap_or_default().as_bytes(), mode: 0o600 },
            ),
        }
    }

    fn rename(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        let (old, new) = (self.layout.path(from), self.layout.path(to));
        if is_there(&old) && is_there(&new) {
            return Err(StorageError::already_exists(to));
        }
        if !is_there(&old) && !is_there(&new) && from.snapshot.is_some() {
            return Err(StorageError::not_found(from));
        }
        let main = |cx: &Cx<'_>| {
            if is_there(&old) {
                self.make_parents(cx, to)?;
            }
            self.move_entry(cx, &old, &new)
        };
        match (from.snapshot.is_some(), to.is_live()) {
            (true, _) => main(cx)?,
            (false, true) => {
                self.move_snapshots(cx, from, to)?;
                main(cx)?;
            }
            (false, false) => {
                main(cx)?;
                self.move_snapshots(cx, from, to)?;
            }
        }
        self.remove_empty_parents(cx, from)
    }

    fn destroy(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        let path = self.layout.path(at);
        if is_there(&path) {
            self.act(cx, &FsAct::remove_tree(path))?;
        }
        let snapshots = self.layout.snapshots(at);
        if at.snapshot.is_none() && is_there(&snapshots) {
            self.act(cx, &FsAct::remove_tree(snapshots))?;
        }
        self.remove_empty_parents(cx, at)
    }

    fn resize(&self, cx: &Cx<'_>, at: &Place, size: Option<ByteSize>) -> Result<()> {
        let path = self.layout.path(at);
        if !is_there(&path) {
            return Err(StorageError::not_found(at));
        }
        match at.volume.content {
            Content::Filesystem => self.limit(cx, &path, size),
            Content::Block | Content::Iso => {
                let disk = self.layout.disk(at);
                let size = size.unwrap_or_default().round_up(8192).unwrap_or_default().as_bytes();
                if fs::metadata(&disk)?.len() == size {
                    return Ok(());
                }
                self.act(cx, &FsAct::Truncate { path: disk, size })
            }
        }
    }

    fn usage(&self, _: &Cx<'_>, at: &Place) -> Result<VolumeUsage> {
        let path = self.layout.path(at);
        if !is_there(&path) {
            return Err(StorageError::not_found(at));
        }
        if at.volume.has_disk() {
            let metadata = fs::metadata(self.layout.disk(at))?;
            return Ok(VolumeUsage {
                used_bytes: Some(metadata.blocks() * 512),
                total_bytes: Some(metadata.len()),
            });
        }
        match self.has_quota() {
            true => quota::usage(self.layout.root(), &path),
            false => Ok(VolumeUsage::default()),
        }
    }

    fn attach(&self, _: &Cx<'_>, at: &Place, _: Mode) -> Result<Attached> {
        let path = self.layout.path(at);
        if !is_there(&path) {
            return Err(StorageError::not_found(at));
        }
        Ok(match at.volume.content {
            Content::Filesystem => Attached::at_directory(path),
            Content::Block if at.volume.has_two_parts() => {
                Attached { disk: Some(self.layout.disk(at)), directory: Some(path) }
            }
            Content::Block | Content::Iso => Attached::at_disk(self.layout.disk(at)),
        })
    }

    fn detach(&self, _: &Cx<'_>, _: &Place) -> Result<()> {
        Ok(())
    }

    fn exchange(&self, cx: &Cx<'_>, one: &Place, other: &Place) -> Result<()> {
        debug_assert!(one.area != Area::Live || other.area != Area::Live, "one of the two is on its way out");
        self.act(cx, &FsAct::Exchange { one: self.layout.path(one), other: self.layout.path(other) })
    }
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn is_empty_directory(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Whether two paths lead to the same directory, as they do once one is bound to the other.
fn is_same(one: &Path, other: &Path) -> Result<bool> {
    let key = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    Ok(key(one)? == key(other)?)
}
