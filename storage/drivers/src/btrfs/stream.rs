//! Volumes on their way to another btrfs: `btrfs send` writes what differs between two read-only subvolumes, `btrfs receive`
//! makes the second of the first.
//!
//! The receiver finds the first by the identifier it was once received under; that is noted with each received subvolume,
//! and lost when one becomes writable. Only trees of files are sent: a disk would lose that it is written in place (`chattr +C`),
//! and subvolumes that stand in the volume are not part of its stream. Sources: `btrfs-send(8)`, `btrfs-receive(8)`.

use super::subvolume::{self, SetReadOnly, Snapshot, Spot};
use super::{Btrfs, ioctl};
use crate::folders::make_folder;
use larder_base::host::{Act, Cmd, FsAct, Input, Tool};
use larder_base::{Cancel, Ticket};
use larder_storage_driver::{
    Content, Cx, Driver, ErrorKind, Need, Place, Result, StorageError, Stream, StreamEnd, VolumeSpec,
};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Sends and receives.
pub(crate) const BTRFS: Tool = Tool { name: "btrfs", package: "btrfs-progs" };
/// A large volume takes its time.
const LIMIT: Duration = Duration::from_secs(24 * 3600);
/// What a received volume is called among its snapshots until it takes its place; theirs never begin with a dot.
const ARRIVED: &str = ".arrived";

impl Btrfs {
    /// Lets a program of btrfs read a stream into a folder, and tells what came.
    fn take(&self, cx: &Cx<'_>, folder: &Path, from: File) -> Result<PathBuf> {
        let before = names(folder)?;
        let cmd = Cmd::changes(BTRFS).args(["receive", "--quiet"]).arg(folder);
        cx.run(&cmd.input(Input::File(Arc::new(from))).limit(LIMIT).ends_with_us())?;
        let come = names(folder)?.into_iter().find(|name| !before.contains(name));
        let missing = || StorageError::new(ErrorKind::Unexpected, "no subvolume came out of a stream");
        Ok(folder.join(come.ok_or_else(missing)?))
    }

    /// Makes the staged volume what was received, which is read-only and can't move.
    fn settle(&self, cx: &Cx<'_>, received: &Path, at: &Place, spec: &VolumeSpec) -> Result<()> {
        let folder = self.layout.snapshots(at);
        let (volume, arrived) = (self.layout.path(at), folder.join(ARRIVED));
        let (from, to) = (Spot::at(received), Spot::at(&arrived));
        cx.act(&Snapshot { from, to, read_only: false })?;
        self.furnish(cx, &arrived, spec)?;
        cx.act(&FsAct::Exchange { one: arrived.clone(), other: volume })?;
        subvolume::destroy_all(cx, &arrived)?;
        subvolume::destroy_all(cx, received)?;
        match names(&folder)?.is_empty() {
            true => cx.act(&FsAct::RemoveEmptyDirectory { path: folder }),
            false => Ok(()),
        }
    }
}

fn names(folder: &Path) -> io::Result<BTreeSet<OsString>> {
    fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
}

impl Stream for Btrfs {
    fn contents(&self) -> &'static [Content] {
        &[Content::Filesystem]
    }

    fn end(&self) -> Result<Option<StreamEnd>> {
        let root = File::open(self.layout.root())?;
        // Where the pool is a plain directory, what a stream builds on is not found from there.
        let is_subvolume = root.metadata()?.ino() == ioctl::ROOT_INODE;
        let home = ioctl::filesystem_of(&root).filter(|_| is_subvolume);
        Ok(home.map(|home| StreamEnd { format: "btrfs", home: Some(home.to_string()) }))
    }

    fn identity(&self, _: &Cx<'_>, snapshot: &Place) -> Result<Option<String>> {
        let path = self.present(snapshot)?;
        if subvolume::has_nested(&path)? || !subvolume::is_read_only(&path)? {
            return Ok(None);
        }
        let identity = ioctl::identity(&File::open(path)?)?;
        Ok(Some(identity.received.map_or(identity.own, |(received, _)| received).to_string()))
    }

    fn picture_place(&self, of: &Place, ticket: &Ticket) -> Place {
        of.staged(ticket)
    }

    fn picture(&self, cx: &Cx<'_>, of: &Place, at: &Place) -> Result<()> {
        let path = self.present(of)?;
        if subvolume::has_nested(&path)? {
            let message = format!("{of} can't be sent: it has other subvolumes in it");
            return Err(StorageError::unsupported(Need::Stream, message));
        }
        let to = Spot::at(self.layout.path(at));
        cx.act(&Snapshot { from: Spot::at(path), to, read_only: true })
    }

    fn send(&self, cx: &Cx<'_>, from: &Place, base: Option<&Place>, into: File) -> Result<()> {
        let mut cmd = Cmd::reads(BTRFS).args(["send", "--quiet"]);
        if let Some(base) = base {
            cmd = cmd.arg("-p").arg(self.present(base)?);
        }
        let cmd = cmd.arg(self.present(from)?).output_to(Arc::new(into)).limit(LIMIT).ends_with_us();
        cx.run(&cmd).map(|_| ())
    }

    fn begin(&self, cx: &Cx<'_>, at: &Place, _: Option<&Place>, spec: &VolumeSpec) -> Result<()> {
        self.create(cx, at, spec)
    }

    /// What it is built on is found by what that was received as.
    fn receive(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        _: Option<&Place>,
        spec: &VolumeSpec,
        from: File,
    ) -> Result<()> {
        let folder = self.layout.snapshots(at);
        make_folder(cx, &folder)?;
        let received = self.take(cx, &folder, from)?;
        match &at.snapshot {
            Some(name) if received.file_name() == Some(name.as_str().as_ref()) => Ok(()),
            Some(name) => cx.act(&FsAct::rename_no_replace(received, folder.join(name.as_str()))),
            None => self.settle(cx, &received, at, spec),
        }
    }
}

/// What a subvolume was received as, if it was.
pub(super) fn lineage(path: &Path) -> Result<Option<(Uuid, u64)>> {
    match subvolume::is_subvolume(path) {
        true => Ok(ioctl::identity(&File::open(path)?)?.received),
        false => Ok(None),
    }
}

/// Makes a subvolume read-only again that was made writable to get another parent, and notes anew what it was received as.
#[derive(Debug, Clone)]
pub(super) struct Reseal {
    /// The subvolume.
    pub(super) path: PathBuf,
    /// What it was received as.
    pub(super) lineage: Option<(Uuid, u64)>,
}

impl Act for Reseal {
    fn describe(&self) -> String {
        format!("make subvolume {} read-only again", self.path.display())
    }

    fn apply(&self, cancel: &Cancel) -> io::Result<()> {
        if let Some((received, sent)) = self.lineage {
            ioctl::set_received(&File::open(&self.path)?, received, sent)?;
        }
        SetReadOnly { at: Spot::at(&self.path), read_only: true }.apply(cancel)
    }
}
