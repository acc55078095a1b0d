//! Disks that change their size.

use super::{fails, snapshot_name};
use crate::content::{DISK, custom, same, spec};
use crate::{Behaviour, Lab, Outcome, World, ensure};
use larder_base::ByteSize;
use larder_base::host::{FaultHost, SystemHost};
use larder_storage_driver::{Content, ErrorKind, Need};
use std::sync::Arc;

pub(super) const TRIALS: &[Behaviour] =
    trials![a_disk_grows_and_keeps_its_content, a_grown_disk_stays_as_large_when_it_is_restored,];

/// Where disks only grow.
pub(super) const GROWING_ONLY: &[Behaviour] =
    trials![a_shrinking_disk_is_refused_before_any_change, a_disk_that_is_larger_than_recorded_is_not_cut];

fn a_disk_grows_and_keeps_its_content(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let cx = world.cx(&SystemHost);
    let volume = custom(Content::Block, "v1")?;
    world.make(&volume, "text")?;
    let (old, new) = (DISK, ByteSize::from_mebibytes(16));
    world.pool().resize(&cx, &volume, Some(old), Some(new))?;
    same(&world.pool().volume_usage(&cx, &volume)?.total_bytes, &Some(new.as_bytes()), "the size")?;
    same(&world.read(&volume)?, &"text".to_owned(), "the content")
}

fn a_grown_disk_stays_as_large_when_it_is_restored(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let cx = world.cx(&SystemHost);
    let volume = custom(Content::Block, "v1")?;
    world.make(&volume, "past")?;
    let name = snapshot_name("s0")?;
    world.snapshot(&cx, &volume, &name)?;
    let old = spec(&volume).size.unwrap_or_default();
    let larger = ByteSize::from_bytes(old.as_bytes() * 4);
    world.pool().resize(&cx, &volume, Some(old), Some(larger))?;
    world.write(&volume, "now")?;
    world.pool().restore(&cx, &spec(&volume).with_size(larger), &name, true)?;
    same(&world.pool().volume_usage(&cx, &volume)?.total_bytes, &Some(larger.as_bytes()), "the size")?;
    same(&world.read(&volume)?, &"past".to_owned(), "the content")
}

fn a_shrinking_disk_is_refused_before_any_change(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let volume = custom(Content::Block, "v1")?;
    world.make(&volume, "text")?;
    let host = FaultHost::counting(Arc::new(SystemHost));
    let (old, new) = (DISK, ByteSize::from_bytes(8192));
    let refused = world.pool().resize(&world.cx(&host), &volume, Some(old), Some(new));
    ensure(
        matches!(refused, Err(error) if matches!(error.kind(), ErrorKind::Unsupported(_))),
        "a smaller disk",
    )?;
    same(&host.changing_steps(), &Vec::new(), "the changing steps")
}

fn a_disk_that_is_larger_than_recorded_is_not_cut(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let volume = custom(Content::Block, "v1")?;
    world.make(&volume, "text")?;
    let (recorded, between, found) = (DISK, ByteSize::from_mebibytes(8), ByteSize::from_mebibytes(16));
    let cx = world.cx(&SystemHost);
    world.pool().resize(&cx, &volume, Some(recorded), Some(found))?;
    let host = FaultHost::counting(Arc::new(SystemHost));
    let refused = world.pool().resize(&world.cx(&host), &volume, Some(recorded), Some(between));
    fails(refused, ErrorKind::Unsupported(Need::Shrink), "a size that is larger than recorded alone")?;
    same(&host.changing_steps(), &Vec::new(), "the changing steps")?;
    same(&world.pool().volume_usage(&cx, &volume)?.total_bytes, &Some(found.as_bytes()), "the size")?;
    same(&world.read(&volume)?, &"text".to_owned(), "the content")
}
