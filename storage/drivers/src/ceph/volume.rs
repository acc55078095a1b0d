//! Volumes: made, cloned, moved.

use super::layout::Spelled;
use super::{Ceph, device};
use crate::cluster::parse::{Info, Row, Snapshot};
use crate::cluster::{Refusal, ask, ask_if_there, change, change_if_there};
use crate::filesystem::{Filesystem, held_still};
use crate::parts::Part;
use crate::refusal::Outcome;
use larder_base::ByteSize;
use larder_storage_driver::{
    Area, Content, Cx, DEFAULT_BLOCK_SIZE, ErrorKind, Mode, Place, Result, StorageError, VolumeKind,
    VolumeSpec,
};
use std::collections::HashSet;

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

    /// The filesystem that a volume shall have.
    pub(super) fn wanted(&self, spec: &VolumeSpec) -> Filesystem {
        Filesystem::wanted(&spec.config).unwrap_or(self.settings().filesystem)
    }

    /// Makes the images of a volume, with nothing in them.
    pub(super) fn create_images(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        self.check(at)?;
        let filesystem = self.wanted(spec);
        self.layout.learn(&at.volume, filesystem);
        Part::of(&at.volume).iter().try_for_each(|part| {
            let bytes = self.size_of(*part, spec, filesystem);
            let create = self.settings().commands.create(&self.layout.spelled(at, *part), bytes);
            // What is there already bears our ticket: an earlier call was cut off.
            change(cx, &create).unless(&[Refusal::Taken])?;
            Ok(())
        })
    }

    /// Makes the filesystem of a new volume, and leaves it on its device: what fills it comes next.
    pub(super) fn make_filesystem(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        let (filesystem, target) = (self.wanted(spec), self.mount_points.of(at));
        let device = self.map(cx, at, Part::Filesystem, Mode::ReadWrite)?;
        filesystem.make(cx, device.clone(), target, &spec.config, true)?;
        self.inside.note(&device::image_of(&device)?, filesystem);
        Ok(())
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

    /// Makes a volume whose images are clones of another's.
    pub(super) fn clone_volume(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        from: &Place,
        spec: &VolumeSpec,
    ) -> Result<()> {
        self.check(at)?;
        let mut bytes = 0;
        for part in Part::of(&at.volume) {
            bytes = self.clone_part(cx, at, from, *part)?;
        }
        self.fit(cx, at, bytes, spec)
    }

    /// Gives the size of the clone.
    fn clone_part(&self, cx: &Cx<'_>, at: &Place, from: &Place, part: Part) -> Result<u64> {
        let image = self.layout.spelled(at, part);
        let source = self.info(cx, from, part)?;
        let is_done = match (&from.snapshot, from.volume.kind) {
            (Some(_), _) => self.clone_snapshot(cx, &self.layout.spelled(from, part), &image, from)?,
            (None, VolumeKind::Image) => self.clone_image(cx, from, part, &image)?,
            (None, _) => self.clone_live(cx, from, part, &image)?,
        };
        match part {
            _ if !is_done => return Err(StorageError::not_found(from)),
            Part::Filesystem => self.renew(cx, at, &source.id)?,
            Part::Disk => {}
        }
        Ok(source.size)
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
        let take = || change(cx, &snapshot).unless(&[Refusal::Taken]).of(from);
        let made = held_still(cx, &self.mount_points.of(from), take)
            .and_then(|_| self.clone_snapshot(cx, &source, to, from));
        let cx = cx.uncancellable();
        let removed = self.remove_snapshot(&cx, &source).or_else(|_| self.remove_snapshot(&cx, &source));
        made.and_then(|is_done| removed.map(|()| is_done))
    }

    /// Gives the filesystem of a copy an identity of its own where two with the same can't be mounted. `origin` is the image
    /// that it comes from: what is known to be in that needs no device.
    pub(super) fn renew(&self, cx: &Cx<'_>, at: &Place, origin: &str) -> Result<()> {
        if self.inside.of(origin) == Some(Filesystem::Ext4) {
            self.layout.learn(&at.volume, Filesystem::Ext4);
            return Ok(());
        }
        let on_device = self.on_device(cx, at)?;
        self.inside.note(origin, on_device.filesystem);
        self.layout.learn(&at.volume, on_device.filesystem);
        if on_device.filesystem != Filesystem::Ext4 {
            on_device.renew(cx)?;
        }
        self.release_filesystem(cx, at)
    }

    /// Takes the device of a place's filesystem away.
    pub(super) fn release_filesystem(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        let image = self.layout.spelled(at, Part::Filesystem);
        self.release_where(cx, |mapped| mapped.of == image)
    }

    /// Makes a copy, which has `now` bytes, as large as it shall be. A disk never gets smaller than what it is a copy of.
    pub(super) fn fit(&self, cx: &Cx<'_>, at: &Place, now: u64, spec: &VolumeSpec) -> Result<()> {
        match spec.size.map(rounded) {
            // As large as its source it is already.
            Some(bytes) if now != bytes && !(at.volume.has_disk() && now > bytes) => {
                self.resize_volume(cx, at, spec.size)
            }
            _ => Ok(()),
        }
    }

    /// What a part of a place is.
    pub(super) fn info(&self, cx: &Cx<'_>, at: &Place, part: Part) -> Result<Info> {
        ask(cx, &self.settings().commands.info(&self.layout.spelled(at, part))).of(at)
    }

    /// All places. `rbd ls --long` leaves out what it can't look into and says that all is well: what is named and not among
    /// its rows must be gone meanwhile, or have come just now.
    pub(super) fn all_places(&self, cx: &Cx<'_>) -> Result<Vec<Place>> {
        let (rows, missing) = self.list_once(cx)?;
        if missing.is_none() {
            return Ok(self.layout.places(&rows));
        }
        match self.list_once(cx)? {
            (rows, None) => Ok(self.layout.places(&rows)),
            (_, Some(name)) => {
                let message = format!("the ceph cluster could not tell about the image {name}");
                Err(StorageError::new(ErrorKind::Unavailable, message))
            }
        }
    }

    /// The list, and an image of ours that is there and not in it.
    fn list_once(&self, cx: &Cx<'_>) -> Result<(Vec<Row>, Option<String>)> {
        let commands = &self.settings().commands;
        let names: Vec<String> = ask(cx, &commands.names())?;
        let rows: Vec<Row> = ask(cx, &commands.list())?;
        let listed: HashSet<&str> = rows.iter().map(|row| row.image.as_str()).collect();
        for name in names {
            let is_missing = !listed.contains(name.as_str()) && self.layout.is_ours(&name);
            if is_missing && self.is_there(cx, &Spelled::image(name.as_str()))? {
                return Ok((rows, Some(name)));
            }
        }
        Ok((rows, None))
    }

    /// Moves one part; tells whether it was there.
    pub(super) fn move_part(&self, cx: &Cx<'_>, from: &Place, to: &Place, part: Part) -> Result<bool> {
        let (old, new) = (self.layout.spelled(from, part), self.layout.spelled(to, part));
        self.release_where(cx, |mapped| old.has(&mapped.of))?;
        match from.snapshot {
            None => self.rename_image(cx, &old, &new, to),
            Some(_) => {
                let cmd = self.settings().commands.rename_snapshot(&old, &new);
                Ok(change(cx, &cmd).unless(&[Refusal::Missing]).of(to)?.is_some())
            }
        }
    }

    /// Gives an image another name; tells whether it was there. A rename that was cut off leaves it with both: found by each, and
    /// listed by one.
    fn rename_image(&self, cx: &Cx<'_>, old: &Spelled, new: &Spelled, to: &Place) -> Result<bool> {
        let commands = &self.settings().commands;
        let rename = || change(cx, &commands.rename(old, new)).unless(&[Refusal::Missing]);
        let taken = match rename() {
            Err(failure) if failure.is(Refusal::Taken) => failure,
            other => return Ok(other.of(to)?.is_some()),
        };
        let id = |image| {
            Ok::<_, StorageError>(ask_if_there::<Info>(cx, &commands.info(image))?.map(|info| info.id))
        };
        if id(old)? != id(new)? {
            return Err(taken).of(to);
        }
        let names: Vec<String> = ask(cx, &commands.names())?;
        match names.contains(&new.image) {
            true => change_if_there(cx, &commands.forget_name(old)).map(|_| true),
            false => {
                change_if_there(cx, &commands.forget_name(new))?;
                Ok(rename().of(to)?.is_some())
            }
        }
    }

    /// Whether an image or snapshot is there.
    pub(super) fn is_there(&self, cx: &Cx<'_>, spelled: &Spelled) -> Result<bool> {
        match &spelled.snapshot {
            None => change_if_there(cx, &self.settings().commands.info(spelled)),
            Some(_) => Ok(self.snapshot_of(cx, spelled)?.is_some()),
        }
    }

    /// A snapshot in the list of its image's.
    pub(super) fn snapshot_of(&self, cx: &Cx<'_>, spelled: &Spelled) -> Result<Option<Snapshot>> {
        let cmd = self.settings().commands.snapshots(&Spelled::image(&spelled.image));
        let all = ask_if_there::<Vec<Snapshot>>(cx, &cmd)?.into_iter().flatten();
        let mut of_users = all.filter(Snapshot::is_for_users);
        Ok(of_users.find(|snapshot| Some(&snapshot.name) == spelled.snapshot.as_ref()))
    }
}
