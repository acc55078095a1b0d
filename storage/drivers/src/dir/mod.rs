//! Volumes as plain directories and files on a filesystem that is there already.
//!
//! A snapshot is a copy (sharing blocks where the filesystem can), a restore exchanges two directories in one step. Sizes of
//! filesystem volumes are enforced where the filesystem has project quotas.

mod quota;

use crate::PoolSetup;
use crate::folders::{
    DISK, Layout, OURS, PRIVATE, grow_disk, initial_mode, is_empty_directory, is_same, is_there,
    mark_content, set_owner,
};
use crate::keys::{COMMON, RSYNC, joined, pool_fixed};
use larder_base::ByteSize;
use larder_base::host::FsAct;
use larder_storage_driver::{
    Area, Attached, Capabilities, CloneKind, Config, ConfigKey, Content, Cx, Driver, ErrorKind, KeyType,
    Mode, Place, PoolUsage, Quota, Restore, Result, Shrink, SnapshotKind, StorageError, Trees, VolumeKind,
    VolumeSpec, VolumeUsage,
};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const OWN: [ConfigKey; 1] =
    [pool_fixed("source", KeyType::Path, "An existing empty directory to keep the pool in")];

const CONFIG_KEYS: &[ConfigKey] =
    &joined::<{ COMMON.len() + RSYNC.len() + OWN.len() }>(&[&COMMON, &OWN, &RSYNC]);

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

    /// What a pool can do where the filesystem below it has project quotas, or has none.
    pub const fn capabilities_with(has_quota: bool) -> Capabilities {
        Capabilities {
            contents: &[Content::Filesystem, Content::Block, Content::Iso],
            snapshot: SnapshotKind::Copied,
            clone: CloneKind::None,
            quota: if has_quota { Quota::Project } else { Quota::None },
            shrink: Shrink::No,
            restore: Restore::Exchange,
            trees: if has_quota { Trees::Apart } else { Trees::Together },
            shared: false,
        }
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
            Some(_) if !Layout::new(source.clone()).is_left()? => refuse("is not empty"),
            _ => Ok(()),
        }
    }

    fn new_filesystem(&self, cx: &Cx<'_>, path: &Path, spec: &VolumeSpec) -> Result<()> {
        self.act(cx, &FsAct::NewDirectory { path: path.to_owned(), mode: initial_mode(spec) })?;
        set_owner(cx, path, spec)?;
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
            mark_content(cx, path, at.volume.content)?;
        }
        let disk = path.join(DISK);
        self.act(cx, &FsAct::NewFile { path: disk, size: spec.disk_size().as_bytes(), mode: 0o600 })
    }
}

impl Driver for Dir {
    fn name(&self) -> &'static str {
        "dir"
    }

    fn capabilities(&self) -> Capabilities {
        Self::capabilities_with(self.has_quota())
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
        if self.source.is_none() && is_there(root) && !is_empty_directory(root) && !self.layout.is_left()? {
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
        self.layout.prepare(cx)
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
        if self.layout.root().join(OURS).is_dir() {
            return Ok(());
        }
        let message = format!(
            "the folder {} is not the pool's any more: it is gone, or was unmounted",
            self.layout.root().display()
        );
        Err(StorageError::new(ErrorKind::Unavailable, message))
    }

    fn pool_usage(&self, _: &Cx<'_>) -> Result<PoolUsage> {
        self.layout.usage()
    }

    fn list(&self, _: &Cx<'_>) -> Result<Vec<Place>> {
        self.layout.list()
    }

    fn create(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        let path = self.layout.path(at);
        self.layout.make_parents(cx, at)?;
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
        self.layout.rename(cx, from, to)
    }

    fn destroy(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        let path = self.layout.path(at);
        if is_there(&path) {
            let is_limited = at.volume.content == Content::Filesystem && self.has_quota();
            let project = if is_limited { quota::project(&path)? } else { None };
            self.act(cx, &FsAct::remove_tree(path))?;
            if let Some(project) = project {
                cx.act(&quota::Release { root: self.layout.root().to_owned(), project })?;
            }
        }
        let snapshots = self.layout.snapshots(at);
        if at.snapshot.is_none() && is_there(&snapshots) {
            self.act(cx, &FsAct::remove_tree(snapshots))?;
        }
        self.layout.remove_empty_parents(cx, at)
    }

    fn resize(&self, cx: &Cx<'_>, at: &Place, size: Option<ByteSize>) -> Result<()> {
        let path = self.layout.path(at);
        if !is_there(&path) {
            return Err(StorageError::not_found(at));
        }
        match at.volume.content {
            Content::Filesystem => self.limit(cx, &path, size),
            Content::Block | Content::Iso => {
                grow_disk(cx, at, self.layout.disk(at), size.unwrap_or_default())
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
