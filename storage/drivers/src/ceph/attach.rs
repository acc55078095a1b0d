//! Devices and mounts of places on this machine.

use super::Ceph;
use super::device::{self, Mapped};
use super::layout::is_out_of_sight;
use crate::cluster::run;
use crate::filesystem::{OnDevice, mount_points};
use crate::parts::Part;
use crate::refusal::Outcome;
use larder_storage_driver::{Cx, ErrorKind, Mode, Place, Result, StorageError};
use std::path::PathBuf;

impl Ceph {
    /// The devices of the pool's images; none while the pool was never open.
    pub(super) fn mapped(&self) -> Result<Vec<Mapped>> {
        let Some(cluster) = self.cluster.get() else { return Ok(Vec::new()) };
        let commands = &self.settings().commands;
        device::mapped(cluster, &commands.pool, commands.namespace.as_deref().unwrap_or_default())
    }

    /// Gives a part of a place a device, unless it has one.
    pub(super) fn map(&self, cx: &Cx<'_>, at: &Place, part: Part, mode: Mode) -> Result<PathBuf> {
        let (of, read_only) = (self.layout.spelled(at, part), mode == Mode::ReadOnly);
        let mapped = self.mapped()?;
        if let Some(mapped) = mapped.iter().find(|mapped| mapped.of == of && mapped.read_only == read_only) {
            return Ok(mapped.path());
        }
        let text = run(cx, &self.settings().commands.map(&of, read_only)).of(at)?;
        self.has_mapped.lock().insert(of);
        Ok(device::printed(&text))
    }

    /// The filesystem of a place, whose device is there for it. A live one that is only read may still have to write back its
    /// journal.
    pub(super) fn on_device(&self, cx: &Cx<'_>, at: &Place) -> Result<OnDevice> {
        let mode = if at.snapshot.is_some() { Mode::ReadOnly } else { Mode::ReadWrite };
        let device = self.map(cx, at, Part::Filesystem, mode)?;
        self.inside.on_device(cx, &device::image_of(&device)?, device, self.mount_points.of(at))
    }

    /// Mounts the files of a place, unless they are.
    pub(super) fn mount(&self, cx: &Cx<'_>, at: &Place, mode: Mode) -> Result<PathBuf> {
        let on_device = self.on_device(cx, at)?;
        match at.snapshot {
            Some(_) => on_device.mount(cx, on_device.filesystem.snapshot_options(), mode),
            None => on_device.mount(cx, &self.settings().mount_options, mode),
        }
    }

    /// Takes the devices that `is_meant` picks away, with what is mounted of them. Fails with `InUse` when somebody uses one. In
    /// the usual case there is none.
    pub(super) fn release_where(&self, cx: &Cx<'_>, is_meant: impl Fn(&Mapped) -> bool) -> Result<()> {
        for mapped in self.mapped()?.iter().filter(|mapped| is_meant(mapped)) {
            let mut targets = mount_points(&mapped.path())?.into_iter();
            let unmounted = targets.try_for_each(|target| self.mount_points.unmount(cx, &target));
            unmounted.and_then(|()| device::unmap(cx, mapped)).map_err(|error| in_use(error, mapped))?;
            self.has_mapped.lock().remove(&mapped.of);
        }
        Ok(())
    }

    /// Whether a device is the pool's own: it is mounted for the pool alone, or else nobody else looks at its name, or this run made
    /// it, or the OSD pool is not shared. What somebody else mounted of it, or mapped of a shared one, is not.
    pub(super) fn is_own(&self, mapped: &Mapped) -> bool {
        let (of, targets) = (&mapped.of, mount_points(&mapped.path()).unwrap_or_default());
        let is_known = || is_out_of_sight(&of.image) || self.has_mapped.lock().contains(of);
        targets.iter().all(|target| self.mount_points.has(target))
            && (!targets.is_empty() || !self.settings().reuse || is_known())
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
