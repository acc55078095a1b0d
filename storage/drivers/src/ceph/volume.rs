//! Volumes: made, cloned, moved.

use super::Ceph;
use super::keys::{filesystem, value};
use super::layout::Spelled;
use super::parse::{Refusal, read_info, read_snapshots};
use super::run::{run, run_if_there, run_unless};
use crate::bounded::Bounded;
use crate::filesystem::{Filesystem, PrepareRoot};
use crate::spelling::{self, Part};
use larder_base::ByteSize;
use larder_storage_driver::{
    Area, Content, Cx, DEFAULT_BLOCK_SIZE, Place, Result, StorageError, VolumeKind, VolumeSpec,
};
use std::time::Duration;

/// The small filesystem of a virtual machine, as the peers have it.
const STATE_SIZE: ByteSize = ByteSize::from_mebibytes(100);
/// The least that xfs and btrfs can do with.
const LARGER_STATE_SIZE: ByteSize = ByteSize::from_mebibytes(300);
/// Sizes are whole numbers of this many bytes, as the peers have it.
const STEP: u64 = 8192;
/// The snapshot of an unpacked image that all volumes made from it are clones of, as the peers have it.
const READONLY: &str = "readonly";
/// How long the root of a new filesystem may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A size as images have it.
pub(super) fn rounded(size: ByteSize) -> u64 {
    size.round_up(STEP).unwrap_or(size).as_bytes()
}

impl Ceph {
    pub(super) fn create_volume(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        self.layout.check(at)?;
        let made_with = match value(&spec.config, "block.filesystem") {
            Some(name) => filesystem(Some(name)),
            None => self.settings().filesystem,
        };
        self.layout.learn(&at.volume, made_with);
        for part in Part::of(&at.volume) {
            let image = self.layout.spelled(at, *part);
            let bytes = self.size_of(*part, spec, made_with);
            // What is there already bears our ticket: an earlier call was cut off.
            run_unless(cx, &self.settings().commands.create(&image, bytes), &[Refusal::Taken])?;
            if *part == Part::Filesystem {
                self.make_filesystem(cx, at, spec, made_with)?;
            }
        }
        Ok(())
    }

    fn size_of(&self, part: Part, spec: &VolumeSpec, made_with: Filesystem) -> u64 {
        let size = match (part, spec.id.content) {
            (Part::Disk, Content::Iso) => return spec.size.unwrap_or_default().as_bytes(),
            (Part::Disk, _) => spec.disk_size(),
            (Part::Filesystem, Content::Filesystem) => {
                spec.size.or(self.settings().default_size).unwrap_or(DEFAULT_BLOCK_SIZE)
            }
            (Part::Filesystem, _) if made_with == Filesystem::Ext4 => STATE_SIZE,
            (Part::Filesystem, _) => LARGER_STATE_SIZE,
        };
        rounded(size)
    }

    /// Leaves the image on its device: what fills it comes next.
    fn make_filesystem(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        spec: &VolumeSpec,
        made_with: Filesystem,
    ) -> Result<()> {
        let device = self.map(cx, at, &self.layout.spelled(at, Part::Filesystem), false)?;
        let options = value(&spec.config, "block.create_options").unwrap_or_default();
        made_with.make(cx, &device, options, true)?;
        let scratch = self.layout.mount_point(at);
        let act = PrepareRoot::new(device, made_with.as_str(), scratch, &spec.config);
        cx.act(&Bounded { act, limit: LIMIT })
    }

    pub(super) fn clone_volume(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        from: &Place,
        spec: &VolumeSpec,
    ) -> Result<()> {
        self.layout.check(at)?;
        for part in Part::of(&at.volume) {
            let image = self.layout.spelled(at, *part);
            let outcome = match (&from.snapshot, from.volume.kind) {
                (Some(_), _) => self.clone_snapshot(cx, &self.layout.spelled(from, *part), &image, from),
                (None, VolumeKind::Image) => self.clone_image(cx, from, *part, &image),
                (None, _) => self.clone_live(cx, from, *part, &image),
            };
            match outcome {
                Err(error) if error.kind() == larder_storage_driver::ErrorKind::NotFound => {
                    return Err(StorageError::not_found(from).because(error));
                }
                other => other?,
            }
            if *part == Part::Filesystem {
                self.renew(cx, at)?;
            }
        }
        self.fit(cx, at, spec)
    }

    /// A volume that is made from an unpacked image always shares its blocks; other copies as `ceph.rbd.clone_copy` says.
    fn clone_snapshot(&self, cx: &Cx<'_>, from: &Spelled, to: &Spelled, source: &Place) -> Result<()> {
        let settings = self.settings();
        let cmd = match settings.clone_copy || source.volume.kind == VolumeKind::Image {
            true => settings.commands.clone(from, to),
            false => settings.commands.copy(from, to),
        };
        run_unless(cx, &cmd, &[Refusal::Taken]).map(drop)
    }

    /// The image never changes: all its clones share one snapshot, made for the first.
    fn clone_image(&self, cx: &Cx<'_>, from: &Place, part: Part, to: &Spelled) -> Result<()> {
        let source = self.layout.spelled(from, part).at(READONLY);
        match self.clone_snapshot(cx, &source, to, from) {
            Err(error) if error.kind() == larder_storage_driver::ErrorKind::NotFound => {
                run_unless(cx, &self.settings().commands.snapshot(&source), &[Refusal::Taken])?;
                self.clone_snapshot(cx, &source, to, from)
            }
            other => other,
        }
    }

    /// The snapshot it takes lies in the trash from its beginning: a run that is cut off leaves it to be swept.
    fn clone_live(&self, cx: &Cx<'_>, from: &Place, part: Part, to: &Spelled) -> Result<()> {
        let name = "copy".parse()?;
        let source =
            self.layout.spelled(&from.within(Area::Trash(cx.ticket().clone())).at_snapshot(&name), part);
        let commands = &self.settings().commands;
        let made = self
            .frozen(cx, from, || run_unless(cx, &commands.snapshot(&source), &[Refusal::Taken]))
            .and_then(|_| self.clone_snapshot(cx, &source, to, from));
        let cx = cx.uncancellable();
        let removed =
            self.remove_one_snapshot(&cx, &source).or_else(|_| self.remove_one_snapshot(&cx, &source));
        made.and(removed)
    }

    /// Gives the filesystem of a clone an identity of its own where two with the same can't be mounted.
    fn renew(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        let image = self.layout.spelled(at, Part::Filesystem);
        let device = self.map(cx, at, &image, false)?;
        let filesystem = Filesystem::on(cx, &device)?;
        self.layout.learn(&at.volume, filesystem);
        if filesystem != Filesystem::Ext4 {
            filesystem.renew(cx, &device, &self.layout.mount_point(at))?;
        }
        self.release(cx, &image.image)
    }

    /// Makes a clone as large as it shall be. A disk never gets smaller than what it is a clone of.
    fn fit(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        match spec.size {
            Some(size) if at.volume.has_disk() => {
                let image = self.layout.spelled(at, Part::Disk);
                let now = read_info(&run(cx, &self.settings().commands.info(&image))?)?.size;
                if rounded(size) > now { self.resize_volume(cx, at, Some(size)) } else { Ok(()) }
            }
            size => self.resize_volume(cx, at, size),
        }
    }

    pub(super) fn move_place(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        if to.is_live() {
            self.layout.check(to)?;
        }
        let has_moved = spelling::move_parts(from, to, |part| self.move_part(cx, from, to, part))?;
        if has_moved || self.is_there(cx, to)? { Ok(()) } else { Err(StorageError::not_found(from)) }
    }

    /// Moves one part; tells whether it was there.
    fn move_part(&self, cx: &Cx<'_>, from: &Place, to: &Place, part: Part) -> Result<bool> {
        let (old, new) = (self.layout.spelled(from, part), self.layout.spelled(to, part));
        let commands = &self.settings().commands;
        let cmd = match from.snapshot {
            None => {
                self.release(cx, &old.image)?;
                commands.rename(&old, &new)
            }
            Some(_) => {
                self.release_where(cx, |mapped| mapped.of == old)?;
                commands.rename_snapshot(&old, &new)
            }
        };
        match run(cx, &cmd) {
            Ok(_) => Ok(true),
            Err(failure) if failure.is(Refusal::Missing) => Ok(false),
            Err(failure) if failure.is(Refusal::Taken) => Err(StorageError::already_exists(to)),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Whether the main part of a place is there.
    pub(super) fn is_there(&self, cx: &Cx<'_>, at: &Place) -> Result<bool> {
        let of = self.layout.spelled(at, Part::main(&at.volume));
        let commands = &self.settings().commands;
        match &of.snapshot {
            None => Ok(run_if_there(cx, &commands.info(&of))?.is_some()),
            Some(name) => {
                let text = run_if_there(cx, &commands.snapshots(&Spelled::image(&of.image)))?;
                let snapshots = text.map(|text| read_snapshots(&text)).transpose()?.unwrap_or_default();
                Ok(snapshots.iter().any(|snapshot| snapshot.name == *name))
            }
        }
    }
}
