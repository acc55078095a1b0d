//! Devices and mounts of places on this machine.

use super::Ceph;
use super::device::{self, Mapped};
use super::layout::Spelled;
use super::parse::Refusal;
use super::run::run;
use crate::filesystem::{Filesystem, is_mounted, is_writable};
use crate::spelling::Part;
use larder_base::host::FsAct;
use larder_storage_driver::{Attached, Cx, ErrorKind, Mode, Place, Result, StorageError};
use std::path::{Path, PathBuf};

impl Ceph {
    /// The devices of the pool's images; none while the pool was never open.
    pub(super) fn mapped(&self) -> Result<Vec<Mapped>> {
        let Some(cluster) = self.cluster.get() else { return Ok(Vec::new()) };
        let commands = &self.settings().commands;
        device::mapped(cluster, &commands.pool, commands.namespace.as_deref().unwrap_or_default())
    }

    pub(super) fn attach_place(&self, cx: &Cx<'_>, at: &Place, mode: Mode) -> Result<Attached> {
        let outcome = self.attach_parts(cx, at, mode);
        if outcome.is_err() {
            // What can't be undone now is found by the next call that moves or removes the place.
            let _ = self.detach_place(&cx.uncancellable(), at);
        }
        outcome
    }

    fn attach_parts(&self, cx: &Cx<'_>, at: &Place, mode: Mode) -> Result<Attached> {
        let mode = if at.snapshot.is_some() { Mode::ReadOnly } else { mode };
        let mut attached = Attached::default();
        for part in Part::of(&at.volume) {
            match part {
                Part::Filesystem => attached.directory = Some(self.mount(cx, at, mode)?),
                Part::Disk => {
                    let of = self.layout.spelled(at, Part::Disk);
                    attached.disk = Some(self.map(cx, at, &of, mode == Mode::ReadOnly)?);
                }
            }
        }
        Ok(attached)
    }

    /// Gives an image or snapshot a device, unless it has one.
    pub(super) fn map(&self, cx: &Cx<'_>, at: &Place, of: &Spelled, read_only: bool) -> Result<PathBuf> {
        let mapped = self.mapped()?;
        if let Some(mapped) = mapped.iter().find(|mapped| mapped.of == *of && mapped.read_only == read_only) {
            return Ok(mapped.path());
        }
        match run(cx, &self.settings().commands.map(of, read_only)) {
            Ok(text) => Ok(device::printed(&text)),
            Err(failure) if failure.is(Refusal::Missing) => Err(StorageError::not_found(at)),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Mounts the files of a place, unless they are.
    fn mount(&self, cx: &Cx<'_>, at: &Place, mode: Mode) -> Result<PathBuf> {
        let target = self.layout.mount_point(at);
        if is_mounted(&target) {
            if mode == Mode::ReadOnly || is_writable(&target) {
                return Ok(target);
            }
            // A run that was cut off has left it.
            device::unmount(cx, &target)?;
        }
        // A live filesystem that is only read may still have to write back its journal.
        let device = self.map(cx, at, &self.layout.spelled(at, Part::Filesystem), at.snapshot.is_some())?;
        let filesystem = Filesystem::on(cx, &device)?;
        let options = match at.snapshot {
            Some(_) => filesystem.snapshot_options().to_owned(),
            None => self.settings().mount_options.clone(),
        };
        if !target.is_dir() {
            cx.act(&FsAct::MakeDirectory { path: target.clone(), mode: 0o700 })?;
        }
        let act = FsAct::Mount {
            source: device,
            target: target.clone(),
            kind: filesystem.as_str().to_owned(),
            options,
            read_only: mode == Mode::ReadOnly,
        };
        device::mount(cx, act).map(|()| target)
    }

    pub(super) fn detach_place(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        if at.volume.has_filesystem() {
            self.unmount(cx, &self.layout.mount_point(at))?;
        }
        for part in Part::of(&at.volume) {
            let of = self.layout.spelled(at, *part);
            self.release_where(cx, |mapped| mapped.of == of)?;
        }
        Ok(())
    }

    /// Unmounts and removes the mount point, and the folder of the snapshots that it was the last in.
    pub(super) fn unmount(&self, cx: &Cx<'_>, target: &Path) -> Result<()> {
        if target.is_dir() {
            device::unmount(cx, target)?;
        }
        let folders = self.layout.folders();
        match target.parent() {
            Some(parent) if parent.is_dir() && !folders.iter().any(|folder| folder == parent) => {
                cx.act(&FsAct::RemoveEmptyDirectory { path: parent.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Takes the devices of an image and of its snapshots away, with what is mounted of them. Fails with `InUse` when somebody
    /// uses one. In the usual case there is none.
    pub(super) fn release(&self, cx: &Cx<'_>, image: &str) -> Result<()> {
        self.release_where(cx, |mapped| mapped.of.image == image)
    }

    /// The same of the devices that `is_meant` picks.
    pub(super) fn release_where(&self, cx: &Cx<'_>, is_meant: impl Fn(&Mapped) -> bool) -> Result<()> {
        for mapped in self.mapped()?.iter().filter(|mapped| is_meant(mapped)) {
            for target in device::mount_points(&mapped.path())? {
                self.unmount(cx, &target).map_err(|error| in_use(error, mapped))?;
            }
            device::unmap(cx, mapped).map_err(|error| in_use(error, mapped))?;
        }
        Ok(())
    }
}

fn in_use(error: StorageError, mapped: &Mapped) -> StorageError {
    match error.kind() {
        ErrorKind::Busy => {
            let message = format!("{} is in use on {}", mapped.of.image, mapped.path().display());
            StorageError::new(ErrorKind::InUse, message).because(error)
        }
        _ => error,
    }
}
