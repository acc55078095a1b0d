//! What the trials of streams have alike: volumes between two pools of one technology.

use super::between::Side;
use super::btrfs::{cx, cx_over};
use super::machine::same;
use larder_base::host::{FaultHost, SystemHost};
use larder_base::{Cancel, SnapshotName};
use larder_storage_conformance::Outcome;
use larder_storage_driver::{Cx, ErrorKind, Mode, Place, Result, StorageError, VolumeId, VolumeSpec};
use larder_storage_pool::{CopyPlan, CopySource, EmptyFill, RefreshPlan, RefreshedSnapshot};
use std::fs;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

/// What a tree holds, and what of it changes: neither can be made smaller.
pub(super) const HELD: u64 = 24 << 20;
pub(super) const CHANGED: u64 = 1 << 20;

pub(super) fn name(text: &str) -> Result<SnapshotName> {
    Ok(text.parse()?)
}

impl Side {
    /// Writes bytes that can't be made smaller to a file of a volume.
    pub(super) fn write(&self, volume: &VolumeId, file: &str, bytes: u64) -> Outcome {
        let attached = self.pool.attach(&cx(), volume, Mode::ReadWrite)?;
        let written = random(&attached.directory()?.join(file), bytes);
        self.pool.detach(&cx(), volume)?;
        Ok(written?)
    }

    pub(super) fn read(
        &self,
        volume: &VolumeId,
        file: &str,
    ) -> std::result::Result<Vec<u8>, Box<dyn std::error::Error>> {
        let attached = self.pool.attach(&cx(), volume, Mode::ReadOnly)?;
        let read = fs::read(attached.directory()?.join(file));
        self.pool.detach(&cx(), volume)?;
        Ok(read?)
    }

    /// How many bytes a stream of a snapshot has.
    pub(super) fn sent(
        &self,
        of: &Place,
        base: Option<&Place>,
    ) -> std::result::Result<u64, Box<dyn std::error::Error>> {
        let mut file = tempfile::tempfile_in("/dev/shm")?;
        let stream = self.pool.driver().stream().ok_or("no stream")?;
        stream.send(&cx(), of, base, file.try_clone()?)?;
        Ok(file.seek(std::io::SeekFrom::End(0))?)
    }
}

fn random(path: &Path, bytes: u64) -> std::io::Result<()> {
    let mut file = fs::File::create(path)?;
    std::io::copy(&mut fs::File::open("/dev/urandom")?.take(bytes), &mut file)?;
    file.flush()
}

pub(super) fn copy(
    from: &Side,
    source: &VolumeId,
    to: &Side,
    spec: &VolumeSpec,
    snapshots: &[&str],
) -> Result<FaultHost> {
    let host = FaultHost::counting(Arc::new(SystemHost));
    let snapshots = snapshots.iter().map(|text| name(text)).collect::<Result<Vec<_>>>()?;
    let source = CopySource { pool: &from.pool, volume: source, snapshot: None };
    to.pool.copy_volume(&cx_over(&host), source, &CopyPlan { spec, snapshots: &snapshots })?;
    Ok(host)
}

pub(super) fn refresh(
    from: &Side,
    source: &VolumeId,
    to: &Side,
    spec: &VolumeSpec,
    wanted: &[(&str, bool)],
) -> Result<FaultHost> {
    let host = FaultHost::counting(Arc::new(SystemHost));
    let wanted = wanted
        .iter()
        .map(|(text, is_new)| Ok(RefreshedSnapshot { name: name(text)?, is_new: *is_new }))
        .collect::<Result<Vec<_>>>()?;
    let plan = RefreshPlan { spec, snapshots: &wanted };
    let cx = cx_over(&host);
    let exchange = to.pool.plan_refresh(&cx, &plan);
    let source = CopySource { pool: &from.pool, volume: source, snapshot: None };
    to.pool.refresh_volume(&cx, source, &plan, &exchange)?;
    to.pool.destroy(&cx, &exchange.old())?;
    drop(cx);
    Ok(host)
}

/// How many commands a piece of work ran that have these words.
pub(super) fn count(host: &FaultHost, words: &str) -> usize {
    host.changing_steps().iter().filter(|step| step.contains(words)).count()
}

/// Copies a tree of files that is large to `copy`, and stops that as soon as `has_begun` sees anything arrive.
pub(super) fn a_stopped_copy(
    one: &Side,
    other: &Side,
    spec: &VolumeSpec,
    has_begun: impl Fn() -> bool,
) -> Outcome {
    let (source, target) = (&spec.id, VolumeId { name: "copy".parse()?, ..spec.id.clone() });
    one.pool.create_volume(&cx(), spec, &EmptyFill)?;
    one.write(source, "held", 4 * HELD)?;
    let cancel = Cancel::new();
    let cx_of = |cancel: Cancel| {
        let cx = cx();
        Cx::new(cx.host(), cx.progress().clone(), cancel, cx.ticket().clone())
    };
    let stopped = std::thread::scope(|scope| {
        let copying = scope.spawn(|| {
            let plan = CopyPlan { spec: &VolumeSpec { id: target.clone(), ..spec.clone() }, snapshots: &[] };
            let from = CopySource { pool: &one.pool, volume: source, snapshot: None };
            other.pool.copy_volume(&cx_of(cancel.clone()), from, &plan)
        });
        while !has_begun() && !copying.is_finished() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        cancel.cancel();
        copying.join()
    });
    let stopped = stopped.map_err(|_| "the copy panicked")?;
    same(
        &stopped.as_ref().err().map(StorageError::kind),
        &Some(ErrorKind::Cancelled),
        &format!("{stopped:?}"),
    )
}
