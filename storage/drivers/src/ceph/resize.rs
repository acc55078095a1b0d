//! Sizes and what is used of them. An image grows before its filesystem and shrinks after it: every prefix is valid.

use super::Ceph;
use super::layout::Spelled;
use super::parse::{Usage, read_info, read_usage, read_usages};
use super::run::{run, run_if_there};
use super::volume::rounded;
use crate::bounded::within;
use crate::filesystem::{Filesystem, Resizing, is_mounted};
use crate::spelling::Part;
use larder_base::ByteSize;
use larder_storage_driver::{Cx, ErrorKind, Place, Result, StorageError, VolumeUsage};
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the kernel may take to see that an image has another size, or to tell what a filesystem holds.
const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

impl Ceph {
    pub(super) fn resize_volume(&self, cx: &Cx<'_>, at: &Place, size: Option<ByteSize>) -> Result<()> {
        // A filesystem on an image always has a size: the one it has stays.
        let Some(size) = size else { return Ok(()) };
        let image = self.layout.spelled(at, Part::main(&at.volume));
        let text = run_if_there(cx, &self.settings().commands.info(&image))?;
        let now = read_info(&text.ok_or_else(|| StorageError::not_found(at))?)?.size;
        let bytes = rounded(size);
        match Part::main(&at.volume) {
            Part::Disk => self.resize_image(cx, &image, now, bytes),
            Part::Filesystem => self.resize_filesystem(cx, at, &image, now, bytes),
        }
    }

    fn resize_image(&self, cx: &Cx<'_>, image: &Spelled, now: u64, bytes: u64) -> Result<()> {
        if now != bytes {
            run(cx, &self.settings().commands.resize(image, bytes))?;
        }
        Ok(())
    }

    fn resize_filesystem(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        image: &Spelled,
        now: u64,
        bytes: u64,
    ) -> Result<()> {
        let target = self.layout.mount_point(at);
        let was_mounted = is_mounted(&target);
        let device = self.map(cx, at, image, false)?;
        let resizing = Resizing {
            filesystem: Filesystem::on(cx, &device)?,
            device: &device,
            mounted: was_mounted.then_some(target.as_path()),
            scratch: &target,
        };
        let outcome = resizing.resize(cx, now, bytes, || {
            self.resize_image(cx, image, now, bytes)?;
            if bytes > now { await_size(&device, bytes) } else { Ok(()) }
        });
        let released = match was_mounted {
            true => Ok(()),
            false => self
                .unmount(&cx.uncancellable(), &target)
                .and_then(|()| self.release(&cx.uncancellable(), &image.image)),
        };
        outcome.and(released)
    }

    pub(super) fn volume_usage(&self, cx: &Cx<'_>, at: &Place) -> Result<VolumeUsage> {
        if let Some(known) = self.mounted_usage(at) {
            return known;
        }
        let settings = self.settings();
        let of = self.layout.spelled(at, Part::main(&at.volume));
        let there = |text: Option<String>| text.ok_or_else(|| StorageError::not_found(at));
        if settings.du {
            return Ok(occupied(read_usage(&there(run_if_there(cx, &settings.commands.usage(&of))?)?)?));
        }
        let info = read_info(&there(run_if_there(cx, &settings.commands.info(&of))?)?)?;
        Ok(VolumeUsage { used_bytes: None, total_bytes: Some(info.size) })
    }

    pub(super) fn volume_usages(&self, cx: &Cx<'_>, places: &[Place]) -> Result<Vec<Option<VolumeUsage>>> {
        let settings = self.settings();
        let images: HashMap<String, VolumeUsage> = if settings.du {
            let usages = read_usages(&run(cx, &settings.commands.usage_of_all())?)?;
            usages.into_iter().map(|(image, usage)| (image, occupied(usage))).collect()
        } else {
            let images = self.rows(cx)?.into_iter().filter(|row| row.snapshot.is_none());
            let size = |size| VolumeUsage { used_bytes: None, total_bytes: Some(size) };
            images.map(|row| (row.image, size(row.size))).collect()
        };
        let usage = |at| match self.mounted_usage(at) {
            Some(known) => known.ok(),
            None => images.get(&self.layout.spelled(at, Part::main(&at.volume)).image).copied(),
        };
        Ok(places.iter().map(usage).collect())
    }

    /// Of a filesystem that is mounted: what it says itself.
    fn mounted_usage(&self, at: &Place) -> Option<Result<VolumeUsage>> {
        let target = self.layout.mount_point(at);
        let is_asked = at.volume.has_filesystem() && !at.volume.has_disk() && is_mounted(&target);
        is_asked.then(|| filesystem_usage(&target))
    }
}

fn occupied(usage: Usage) -> VolumeUsage {
    VolumeUsage { used_bytes: Some(usage.used), total_bytes: Some(usage.size) }
}

/// Waits until the kernel has heard of a new size.
fn await_size(device: &Path, bytes: u64) -> Result<()> {
    let name = device.file_name().unwrap_or_default();
    let size = Path::new("/sys/block").join(name).join("size");
    let since = Instant::now();
    loop {
        let sectors: u64 = std::fs::read_to_string(&size)?.trim().parse().unwrap_or(0);
        if sectors * 512 >= bytes {
            return Ok(());
        }
        if since.elapsed() > LIMIT {
            let message =
                format!("{} has not got its new size within {} s", device.display(), LIMIT.as_secs());
            return Err(StorageError::new(ErrorKind::Unavailable, message));
        }
        std::thread::sleep(PAUSE);
    }
}

fn filesystem_usage(target: &Path) -> Result<VolumeUsage> {
    let path = target.to_owned();
    let found = within(LIMIT, move || Ok(rustix::fs::statvfs(&path)?))?;
    Ok(VolumeUsage {
        used_bytes: Some((found.f_blocks - found.f_bfree) * found.f_frsize),
        total_bytes: Some(found.f_blocks * found.f_frsize),
    })
}
