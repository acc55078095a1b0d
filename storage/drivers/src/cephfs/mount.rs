//! The filesystem as a whole: made when it is missing and that was asked for, mounted, marked.

use super::keys::Settings;
use super::step::{act, is_mounted, names, text};
use super::{CephFs, PRIVATE};
use crate::bounded::Bounded;
use crate::cluster::{asked_of, change, run};
use larder_base::host::{Cmd, FsAct, Tool};
use larder_storage_driver::{Cx, ErrorKind, Result, StorageError};
use std::time::Duration;

pub(crate) const MOUNT: Tool = Tool { name: "mount.ceph", package: "ceph-common" };
const CEPH: Tool = Tool { name: "ceph", package: "ceph-common" };
/// How long the cluster may take to answer one request.
const LIMIT: Duration = Duration::from_secs(90);

impl Settings {
    fn ceph(&self, cmd: Cmd) -> Cmd {
        asked_of(cmd, &self.cluster, &self.user).limit(LIMIT)
    }

    /// Mounts a folder of the filesystem. After a time out of reach the mount comes back by itself.
    fn mount(&self, path: &str, root: &std::path::Path) -> Cmd {
        let device = format!("{}@.{}={path}", self.user, self.filesystem);
        let cached = if self.is_cached { ",fsc" } else { "" };
        let options =
            format!("nodev,nosuid,recover_session=clean,conf=/etc/ceph/{}.conf{cached}", self.cluster);
        Cmd::changes(MOUNT).arg(device).arg(root).args(["-o", &options]).limit(LIMIT)
    }
}

impl CephFs {
    pub(super) fn make_pool(&self, cx: &Cx<'_>) -> Result<()> {
        let made = self.make_and_mark(cx);
        if made.is_err() {
            let _ = self.unmount(&cx.uncancellable());
        }
        made
    }

    fn make_and_mark(&self, cx: &Cx<'_>) -> Result<()> {
        let settings = self.settings();
        self.make_filesystem(cx, &settings)?;
        let root = self.layout.root();
        cx.act(&FsAct::MakeDirectory { path: root.to_owned(), mode: 0o711 })?;
        if settings.path != "/" && !is_mounted(root)? {
            cx.run(&settings.mount("/", root))?;
            let folder = root.join(settings.path.trim_start_matches('/'));
            let made = act(cx, FsAct::MakeDirectory { path: folder, mode: PRIVATE });
            self.unmount(&cx.uncancellable())?;
            made?;
        }
        self.mount(cx)?;
        match text(&self.layout.mark())? {
            Some(identity) if identity == settings.identity => return Ok(()),
            Some(_) => return Err(self.is_somebodys()),
            None => {}
        }
        // What an interrupted creation left is the folder of the mark alone.
        if names(root)?.iter().any(|name| name != super::layout::OURS) {
            let message = format!(
                "the path {} of the CephFS {} is not empty: give an empty one, or source.recover=true to take over what \
                 is there",
                settings.path, settings.filesystem
            );
            return Err(StorageError::new(ErrorKind::Invalid, message));
        }
        self.write_mark(cx)
    }

    fn is_somebodys(&self) -> StorageError {
        let message = format!(
            "the path {} of the CephFS {} is in use by another storage pool: give another, or source.recover=true to \
             take it over",
            self.settings().path,
            self.settings().filesystem
        );
        StorageError::new(ErrorKind::Invalid, message)
    }

    fn write_mark(&self, cx: &Cx<'_>) -> Result<()> {
        let path = self.layout.mark();
        for folder in self.layout.folders() {
            act(cx, FsAct::MakeDirectory { path: folder, mode: PRIVATE })?;
        }
        let content = self.settings().identity.clone().into_bytes();
        act(cx, FsAct::WriteFile { path, content, mode: 0o600 })
    }

    /// Makes the filesystem and its OSD pools, as far as they are missing.
    fn make_filesystem(&self, cx: &Cx<'_>, settings: &Settings) -> Result<()> {
        let Some((data, metadata, groups)) = &settings.create else { return Ok(()) };
        let known = run(cx, &settings.ceph(Cmd::reads(CEPH)).args(["fs", "ls", "--format", "json"]))?;
        if super::parse::read_filesystems(&known)?.contains(&settings.filesystem) {
            return Ok(());
        }
        for pool in [metadata, data] {
            // Fine when it is there.
            change(cx, &settings.ceph(Cmd::changes(CEPH)).args(["osd", "pool", "create", pool, groups]))?;
        }
        let new = ["fs", "new", &settings.filesystem, metadata, data];
        Ok(change(cx, &settings.ceph(Cmd::changes(CEPH)).args(new))?)
    }

    pub(super) fn open(&self, cx: &Cx<'_>) -> Result<()> {
        let settings = self.settings();
        let root = self.layout.root();
        if !root.is_dir() {
            cx.act(&FsAct::MakeDirectory { path: root.to_owned(), mode: 0o711 })?;
        }
        self.mount(cx)?;
        match text(&self.layout.mark())? {
            Some(identity) if identity == settings.identity => {}
            _ if settings.recover => self.write_mark(cx)?,
            Some(_) => return Err(self.is_somebodys()),
            None => {
                let what = format!("the pool at {} of the CephFS {}", settings.path, settings.filesystem);
                return Err(StorageError::not_found(what));
            }
        }
        let present = names(root)?;
        for folder in self.layout.folders() {
            if !present.iter().any(|name| folder.ends_with(name)) {
                act(cx, FsAct::MakeDirectory { path: folder, mode: PRIVATE })?;
            }
        }
        Ok(())
    }

    fn mount(&self, cx: &Cx<'_>) -> Result<()> {
        let root = self.layout.root();
        if is_mounted(root)? {
            return Ok(());
        }
        let settings = self.settings();
        cx.run(&settings.mount(&settings.path, root)).map(drop).map_err(|error| match error.kind() {
            ErrorKind::Unexpected => {
                let message = format!("the CephFS {} can't be mounted", settings.filesystem);
                StorageError::new(ErrorKind::Unavailable, message).because(error)
            }
            _ => error,
        })
    }

    pub(super) fn unmount(&self, cx: &Cx<'_>) -> Result<()> {
        let root = self.layout.root();
        if !root.is_dir() || !is_mounted(root)? {
            return Ok(());
        }
        cx.act(&Bounded { act: FsAct::Unmount { target: root.to_owned() }, limit: LIMIT })
    }

    pub(super) fn remove_pool(&self, cx: &Cx<'_>) -> Result<()> {
        let root = self.layout.root();
        if !root.is_dir() {
            return Ok(());
        }
        self.mount(cx)?;
        match text(&self.layout.mark())? {
            Some(identity) if identity != self.settings().identity => return Err(self.is_somebodys()),
            _ => {}
        }
        for place in self.places()?.iter().filter(|place| place.snapshot.is_none()) {
            self.remove(cx, place)?;
        }
        for folder in self.layout.folders() {
            super::step::remove_tree(cx, &folder)?;
        }
        self.unmount(cx)?;
        cx.act(&FsAct::RemoveEmptyDirectory { path: root.to_owned() })
    }
}
