//! Volumes: made, cloned, moved.

use super::Ceph;
use super::layout::Spelled;
use super::parse::{Info, Refusal, Snapshot};
use super::run::{ask, ask_if_there, change, change_if_there};
use crate::filesystem::Filesystem;
use crate::parts::Part;
use crate::refusal::Outcome;
use larder_base::ByteSize;
use larder_storage_driver::{
    Area, Content, Cx, DEFAULT_BLOCK_SIZE, Mode, Place, Result, StorageError, VolumeKind, VolumeSpec,
};

/// The small filesystem of a virtual machine, as the peers have it.
const STATE_SIZE: ByteSize = ByteSize::from_mebibytes(100);
/// The least that xfs and btrfs can do with.
const LARGER_STATE_SIZE: ByteSize = ByteSize::from_mebibytes(300);
/// Sizes are whole numbers of this many bytes, as the peers have it.
const STEP: u64 = 8192;
/// The snapshot of an unpacked image that all volumes made from it are clones of, as the peers have it.
const READONLY: &str = "readonly";

/// A size as images have it.
pub(super) fn rounded(size: ByteSize) -> u64 {
    size.round_up(STEP).unwrap_or(size).as_bytes()
}

impl Ceph {
    /// Refuses what can't be spelled.
    pub(super) fn check(&self, at: &Place) -> Result<()> {
        self.layout.check(at).and_then(|()| self.mount_points.check(at))
    }

    /// Leaves the image of a filesystem on its device: what fills it comes next.
    pub(super) fn create_part(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        part: Part,
        filesystem: Filesystem,
        spec: &VolumeSpec,
    ) -> Result<()> {
        let bytes = self.size_of(part, spec, filesystem);
        let create = self.settings().commands.create(&self.layout.spelled(at, part), bytes);
        // What is there already bears our ticket: an earlier call was cut off.
        change(cx, &create).unless(&[Refusal::Taken])?;
        if part == Part::Disk {
            return Ok(());
        }
        let device = self.map(cx, at, part, Mode::ReadWrite)?;
        filesystem.make(cx, device, self.mount_points.of(at), &spec.config, true)
    }

    fn size_of(&self, part: Part, spec: &VolumeSpec, filesystem: Filesystem) -> u64 {
        let size = match (part, spec.id.content) {
            (Part::Disk, Content::Iso) => return spec.size.unwrap_or_default().as_bytes(),
            (Part::Disk, _) => spec.disk_size(),
            (Part::Filesystem, Content::Filesystem) => {
                spec.size.or(self.settings().default_size).unwrap_or(DEFAULT_BLOCK_SIZE)
            }
            (Part::Filesystem, _) if filesystem == Filesystem::Ext4 => STATE_SIZE,
            (Part::Filesystem, _) => LARGER_STATE_SIZE,
        };
        rounded(size)
    }

    pub(super) fn clone_part(&self, cx: &Cx<'_>, at: &Place, from: &Place, part: Part) -> Result<()> {
        let image = self.layout.spelled(at, part);
        let is_done = match (&from.snapshot, from.volume.kind) {
            (Some(_), _) => self.clone_snapshot(cx, &self.layout.spelled(from, part), &image, from)?,
            (None, VolumeKind::Image) => self.clone_image(cx, from, part, &image)?,
            (None, _) => self.clone_live(cx, from, part, &image)?,
        };
        match part {
            _ if !is_done => Err(StorageError::not_found(from)),
            Part::Filesystem => self.renew(cx, at),
            Part::Disk => Ok(()),
        }
    }

    /// A volume that is made from an unpacked image always shares its blocks; other copies as `ceph.rbd.clone_copy` says. Tells
    /// whether the snapshot was there.
    fn clone_snapshot(&self, cx: &Cx<'_>, from: &Spelled, to: &Spelled, source: &Place) -> Result<bool> {
        let settings = self.settings();
        let cmd = match settings.clone_copy || source.volume.kind == VolumeKind::Image {
            true => settings.commands.clone(from, to),
            false => settings.commands.copy(from, to),
        };
        let done = change(cx, &cmd).unless(&[Refusal::Taken]);
        Ok(done.unless(&[Refusal::Missing])?.is_some())
    }

    /// The image never changes: all its clones share one snapshot, made for the first.
    fn clone_image(&self, cx: &Cx<'_>, from: &Place, part: Part, to: &Spelled) -> Result<bool> {
        let source = self.layout.spelled(from, part).at(READONLY);
        if self.clone_snapshot(cx, &source, to, from)? {
            return Ok(true);
        }
        change(cx, &self.settings().commands.snapshot(&source)).unless(&[Refusal::Taken]).of(from)?;
        self.clone_snapshot(cx, &source, to, from)
    }

    /// The snapshot it takes lies in the trash from its beginning: a run that is cut off leaves it to be swept.
    fn clone_live(&self, cx: &Cx<'_>, from: &Place, part: Part, to: &Spelled) -> Result<bool> {
        let name = "copy".parse()?;
        let source =
            self.layout.spelled(&from.within(Area::Trash(cx.ticket().clone())).at_snapshot(&name), part);
        let snapshot = self.settings().commands.snapshot(&source);
        let made = self
            .frozen(cx, from, || change(cx, &snapshot).unless(&[Refusal::Taken]).of(from))
            .and_then(|_| self.clone_snapshot(cx, &source, to, from));
        let cx = cx.uncancellable();
        let removed = self.remove_snapshot(&cx, &source).or_else(|_| self.remove_snapshot(&cx, &source));
        made.and_then(|is_done| removed.map(|()| is_done))
    }

    /// Gives the filesystem of a clone an identity of its own where two with the same can't be mounted.
    fn renew(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        let on_device = self.on_device(cx, at)?;
        self.layout.learn(&at.volume, on_device.filesystem);
        if on_device.filesystem != Filesystem::Ext4 {
            on_device.renew(cx)?;
        }
        let image = self.layout.spelled(at, Part::Filesystem);
        self.release_where(cx, |mapped| mapped.of == image)
    }

    /// Makes a clone as large as it shall be. A disk never gets smaller than what it is a clone of.
    pub(super) fn fit(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        let Some(bytes) = spec.size.map(rounded) else { return Ok(()) };
        match self.info(cx, at)?.size {
            // As large as its source it is already.
            now if now == bytes || (at.volume.has_disk() && now > bytes) => Ok(()),
            _ => self.resize_volume(cx, at, spec.size),
        }
    }

    /// What the main part of a place is.
    pub(super) fn info(&self, cx: &Cx<'_>, at: &Place) -> Result<Info> {
        ask(cx, &self.settings().commands.info(&self.layout.spelled(at, Part::main(&at.volume)))).of(at)
    }

    /// Moves one part; tells whether it was there.
    pub(super) fn move_part(&self, cx: &Cx<'_>, from: &Place, to: &Place, part: Part) -> Result<bool> {
        let (old, new) = (self.layout.spelled(from, part), self.layout.spelled(to, part));
        self.release_where(cx, |mapped| old.has(&mapped.of))?;
        let commands = &self.settings().commands;
        let cmd = match from.snapshot {
            None => commands.rename(&old, &new),
            Some(_) => commands.rename_snapshot(&old, &new),
        };
        Ok(change(cx, &cmd).unless(&[Refusal::Missing]).of(to)?.is_some())
    }

    /// Whether an image or snapshot is there.
    pub(super) fn is_there(&self, cx: &Cx<'_>, spelled: &Spelled) -> Result<bool> {
        let commands = &self.settings().commands;
        let Some(name) = &spelled.snapshot else { return change_if_there(cx, &commands.info(spelled)) };
        let snapshots: Option<Vec<Snapshot>> =
            ask_if_there(cx, &commands.snapshots(&Spelled::image(&spelled.image)))?;
        let mut of_users = snapshots.iter().flatten().filter(|snapshot| snapshot.is_for_users());
        Ok(of_users.any(|snapshot| snapshot.name == *name))
    }
}
