//! Sizes and what is used of them. An image grows before its filesystem and shrinks after it: every prefix is valid.

use super::Ceph;
use super::volume::rounded;
use crate::bounded::within;
use crate::cluster::parse::{DiskUsage, Row};
use crate::cluster::{ask, change};
use crate::filesystem::{await_size, is_mounted, usage};
use crate::parts::{Part, must_grow};
use crate::refusal::Outcome;
use larder_base::ByteSize;
use larder_storage_driver::{Cx, Place, Result, VolumeUsage};
use std::time::Duration;

/// How long the kernel may take to tell what a filesystem holds.
const LIMIT: Duration = Duration::from_secs(30);

impl Ceph {
    pub(super) fn resize_volume(&self, cx: &Cx<'_>, at: &Place, size: Option<ByteSize>) -> Result<()> {
        // A filesystem on an image always has a size: the one it has stays.
        let Some(bytes) = size.map(rounded) else { return Ok(()) };
        let main = Part::main(&at.volume);
        let (now, image) = (self.info(cx, at, main)?.size, self.layout.spelled(at, main));
        let resize = || match now == bytes {
            true => Ok(()),
            false => Ok(change(cx, &self.settings().commands.resize(&image, bytes))?),
        };
        if at.volume.has_disk() {
            return if must_grow(at, now, bytes)? { resize() } else { Ok(()) };
        }
        let was_mounted = is_mounted(&self.mount_points.of(at));
        let on_device = self.on_device(cx, at)?;
        let outcome = on_device.resize(cx, now, bytes, || {
            resize()?;
            if bytes > now { await_size(&on_device.device, bytes) } else { Ok(()) }
        });
        let released = match was_mounted {
            true => Ok(()),
            false => self.release_filesystem(&cx.uncancellable(), at),
        };
        outcome.and(released)
    }

    pub(super) fn volume_usage(&self, cx: &Cx<'_>, at: &Place) -> Result<VolumeUsage> {
        if let Some(known) = self.mounted_usage(at) {
            return known;
        }
        let settings = self.settings();
        if settings.du {
            let of = self.layout.spelled(at, Part::main(&at.volume));
            return ask::<DiskUsage>(cx, &settings.commands.usage(&of)).of(at).map(VolumeUsage::from);
        }
        Ok(of_size(self.info(cx, at, Part::main(&at.volume))?.size))
    }

    pub(super) fn volume_usages(&self, cx: &Cx<'_>, places: &[Place]) -> Result<Vec<Option<VolumeUsage>>> {
        let settings = self.settings();
        let images = if settings.du {
            ask::<DiskUsage>(cx, &settings.commands.usage_of_all())?.by_image()
        } else {
            let rows: Vec<Row> = ask(cx, &settings.commands.list())?;
            let images = rows.into_iter().filter(|row| row.snapshot.is_none());
            images.map(|row| (row.image, of_size(row.size))).collect()
        };
        let usage = |at| match self.mounted_usage(at) {
            Some(known) => known.ok(),
            None => images.get(&self.layout.spelled(at, Part::main(&at.volume)).image).copied(),
        };
        Ok(places.iter().map(usage).collect())
    }

    /// Of a filesystem that is mounted: what it says itself.
    fn mounted_usage(&self, at: &Place) -> Option<Result<VolumeUsage>> {
        let target = self.mount_points.of(at);
        let is_asked = !at.volume.has_disk() && is_mounted(&target);
        is_asked.then(|| Ok(within(LIMIT, move || usage(&target))?))
    }
}

fn of_size(bytes: u64) -> VolumeUsage {
    VolumeUsage { used_bytes: None, total_bytes: Some(bytes) }
}
