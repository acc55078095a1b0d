//! The filesystem as a whole: made when it is missing and that was asked for, mounted, marked.

use super::keys::Settings;
use super::step::{act, is_mounted, is_there, names, text};
use super::{CephFs, PRIVATE};
use crate::bounded::{Bounded, within};
use crate::cluster::{ask, asked_of, change, run};
use larder_base::host::{Cmd, FsAct, HostError, Tool};
use larder_storage_driver::{Cx, ErrorKind, Result, StorageError};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) const MOUNT: Tool = Tool { name: "mount.ceph", package: "ceph-common" };
const CEPH: Tool = Tool { name: "ceph", package: "ceph-common" };
/// What `mount.ceph` says when the folder is not there: the number is that of `ENOENT`.
const NO_FOLDER: &str = "mount error 2 ";
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
        // A creation that was cut off may have left another folder mounted.
        self.unmount(cx)?;
        cx.act(&FsAct::MakeDirectory { path: root.to_owned(), mode: 0o711 })?;
        // Who may see this folder alone can't mount the one above.
        match self.mount(cx) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make_folder(cx, &settings)?;
                self.mount(cx)?;
            }
            mounted => mounted?,
        }
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

    /// Makes the folder that the pool is on.
    fn make_folder(&self, cx: &Cx<'_>, settings: &Settings) -> Result<()> {
        let root = self.layout.root();
        cx.run(&settings.mount("/", root))?;
        let folder = root.join(settings.path.trim_start_matches('/'));
        let made = act(cx, FsAct::MakeDirectory { path: folder, mode: PRIVATE });
        self.unmount(&cx.uncancellable())?;
        made
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

    /// The mark comes before the folder of the volumes: without it nothing here is ours.
    fn write_mark(&self, cx: &Cx<'_>) -> Result<()> {
        let path = self.layout.mark();
        let [volumes, ours] = self.layout.folders();
        act(cx, FsAct::MakeDirectory { path: ours, mode: PRIVATE })?;
        let content = self.settings().identity.clone().into_bytes();
        act(cx, FsAct::WriteFile { path, content, mode: 0o600 })?;
        act(cx, FsAct::MakeDirectory { path: volumes, mode: PRIVATE })
    }

    /// Makes the filesystem and its OSD pools, as far as they are missing.
    fn make_filesystem(&self, cx: &Cx<'_>, settings: &Settings) -> Result<()> {
        let Some((data, metadata, groups)) = &settings.create else { return Ok(()) };
        let known = run(cx, &settings.ceph(Cmd::reads(CEPH)).args(["fs", "ls", "--format", "json"]))?;
        if super::parse::read_filesystems(&known)?.contains(&settings.filesystem) {
            return Ok(());
        }
        let there: Vec<String> =
            ask(cx, &settings.ceph(Cmd::reads(CEPH)).args(["osd", "pool", "ls", "--format", "json"]))?;
        for pool in [metadata, data].into_iter().filter(|pool| !there.contains(pool)) {
            change(cx, &settings.ceph(Cmd::changes(CEPH)).args(["osd", "pool", "create", pool, groups]))?;
            if let Some(copies) = &settings.copies {
                change(cx, &set_copies(settings.ceph(Cmd::changes(CEPH)), pool, copies))?;
            }
        }
        let new = ["fs", "new", &settings.filesystem, metadata, data];
        Ok(change(cx, &settings.ceph(Cmd::changes(CEPH)).args(new))?)
    }

    pub(super) fn open(&self, cx: &Cx<'_>) -> Result<()> {
        let settings = self.settings();
        let root = self.layout.root();
        if !is_mounted(root)? {
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
        let error = match cx.host().run(&settings.mount(&settings.path, root), cx.cancel()) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if matches!(&error, HostError::Failed { stderr, .. } if stderr.contains(NO_FOLDER)) {
            let what = format!("the path {} of the CephFS {}", settings.path, settings.filesystem);
            return Err(StorageError::not_found(what).because(error));
        }
        let error = StorageError::from(error);
        Err(match error.kind() {
            ErrorKind::Unexpected => {
                let message = format!("the CephFS {} can't be mounted", settings.filesystem);
                StorageError::new(ErrorKind::Unavailable, message).because(error)
            }
            _ => error,
        })
    }

    pub(super) fn unmount(&self, cx: &Cx<'_>) -> Result<()> {
        let root = self.layout.root();
        if !is_mounted(root)? {
            return Ok(());
        }
        cx.act(&Bounded { act: FsAct::Unmount { target: root.to_owned() }, limit: LIMIT })
    }

    /// Removes what is ours: what has no mark of ours is somebody else's.
    pub(super) fn remove_pool(&self, cx: &Cx<'_>) -> Result<()> {
        let root = self.layout.root();
        if !is_there(root)? {
            return Ok(());
        }
        match self.mount(cx) {
            // Its creation did not come so far.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return cx.act(&FsAct::RemoveEmptyDirectory { path: root.to_owned() });
            }
            mounted => mounted?,
        }
        let [volumes, ours] = self.layout.folders();
        match text(&self.layout.mark())? {
            Some(identity) if identity == self.settings().identity => {
                for place in self.places()?.iter().filter(|place| place.snapshot.is_none()) {
                    self.remove(cx, place)?;
                }
                super::step::remove_tree(cx, &volumes)?;
                super::step::remove_tree(cx, &ours)?;
            }
            Some(_) => return Err(self.is_somebodys()),
            // Of a creation that was cut off, or of a removal.
            None if names(&ours)?.is_empty() => act(cx, FsAct::RemoveEmptyDirectory { path: ours })?,
            None => {}
        }
        self.unmount(cx)?;
        cx.act(&FsAct::RemoveEmptyDirectory { path: root.to_owned() })
    }

    /// Asks the metadata server for the mark, past all that this machine remembers. One question at a time: each that is not
    /// answered holds a thread.
    pub(super) fn ask(&self) -> Result<()> {
        let unavailable = |message: &str| Err(StorageError::new(ErrorKind::Unavailable, message));
        if self.is_asked.swap(true, Ordering::Acquire) {
            return unavailable("the CephFS has not answered for a while");
        }
        let (root, mark) = (self.layout.root().to_owned(), self.layout.mark());
        let is_asked = Arc::clone(&self.is_asked);
        let answered = within(LIMIT, move || {
            let found = crate::filesystem::is_mounted(&root)
                .then(|| statx(CWD, &mark, AtFlags::STATX_FORCE_SYNC, StatxFlags::CTIME));
            is_asked.store(false, Ordering::Release);
            Ok(found.transpose()?.is_some())
        });
        if answered? { Ok(()) } else { unavailable("the CephFS is not mounted") }
    }
}

/// How many copies an OSD pool keeps. One copy is asked for twice.
fn set_copies(cmd: Cmd, pool: &str, copies: &str) -> Cmd {
    let cmd = cmd.args(["osd", "pool", "set", pool, "size", copies]);
    if copies == "1" { cmd.arg("--yes-i-really-mean-it") } else { cmd }
}
