//! Snapshots and what is restored from them.

use super::{fails, snapshot_name, with_two_snapshots};
use crate::content::{custom, machine, same, spec};
use crate::{Behaviour, Lab, Outcome, World, ensure, files};
use larder_base::host::{FaultHost, SystemHost};
use larder_storage_driver::{Attached, Content, Cx, ErrorKind, Result};
use larder_storage_tree::{Manifest, manifest};
use std::sync::Arc;

pub(super) const TRIALS: &[Behaviour] = trials![
    snapshots_keep_the_past,
    a_taken_snapshot_name_keeps_the_first,
    restore_brings_the_past_back,
    restore_brings_every_kind_of_file_back,
];

/// Where any snapshot can be restored.
pub(super) const WITH_OLDER: &[Behaviour] = trials![any_older_snapshot_can_be_restored];

/// Where only the newest one can.
pub(super) const NEWEST_ONLY: &[Behaviour] = trials![an_older_snapshot_is_refused_before_any_change];

fn snapshots_keep_the_past(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    for volume in [custom(Content::Filesystem, "v1")?, custom(Content::Block, "v2")?, machine("m1")?] {
        world.make(&volume, "past")?;
        world.snapshot(&world.cx(&SystemHost), &volume, &snapshot_name("s0")?)?;
        world.write(&volume, "now")?;
        same(&world.read_snapshot(&volume, &snapshot_name("s0")?)?, &"past".to_owned(), "the snapshot")?;
        same(&world.read(&volume)?, &"now".to_owned(), "the volume")?;
    }
    Ok(())
}

fn a_taken_snapshot_name_keeps_the_first(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let volume = machine("m1")?;
    world.make(&volume, "past")?;
    let name = snapshot_name("s0")?;
    world.snapshot(&world.cx(&SystemHost), &volume, &name)?;
    world.write(&volume, "now")?;
    fails(world.snapshot(&world.cx(&SystemHost), &volume, &name), ErrorKind::AlreadyExists, "a taken name")?;
    same(&world.read_snapshot(&volume, &name)?, &"past".to_owned(), "the first snapshot")
}

fn restore_brings_the_past_back(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    for volume in [custom(Content::Filesystem, "v1")?, custom(Content::Block, "v2")?, machine("m1")?] {
        world.make(&volume, "past")?;
        let name = snapshot_name("s0")?;
        world.snapshot(&world.cx(&SystemHost), &volume, &name)?;
        world.write(&volume, "now")?;
        world.restore(&world.cx(&SystemHost), &volume, &name, true)?;
        same(&world.read(&volume)?, &"past".to_owned(), "the volume")?;
        same(&world.read_snapshot(&volume, &name)?, &"past".to_owned(), "the snapshot stays")?;
    }
    same(&world.leftovers()?, &Vec::new(), "what is left")
}

fn restore_brings_every_kind_of_file_back(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let cx = world.cx(&SystemHost);
    let volume = custom(Content::Filesystem, "v1")?;
    let fill = |_: &Cx<'_>, into: &Attached| -> Result<()> { Ok(files::make(into.directory()?)?) };
    world.pool().create_volume(&cx, &spec(&volume), &fill)?;
    let name = snapshot_name("s0")?;
    world.snapshot(&cx, &volume, &name)?;
    let found = || world.with_tree(&volume, |tree| Ok(manifest(tree)?));
    let past = found()?;
    let like_the_past =
        |found: Manifest, what: &str| ensure(found == past, format!("{what}:\n{}", found.difference(&past)));
    // The second restore finds what the first one has made, and a file that was written in place since.
    for text in ["now", "later"] {
        world.with_tree(&volume, |tree| Ok(files::change(tree, text)?))?;
        ensure(found()? != past, "nothing has changed")?;
        let snapshot = world.pool().attach_snapshot(&cx, &volume, &name)?;
        let kept = manifest(snapshot.directory()?)?;
        world.pool().detach_snapshot(&cx, &volume, &name)?;
        like_the_past(kept, "the snapshot")?;
        world.restore(&cx, &volume, &name, true)?;
        like_the_past(found()?, "the volume")?;
    }
    same(&world.leftovers()?, &Vec::new(), "what is left")
}

fn any_older_snapshot_can_be_restored(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let volume = custom(Content::Filesystem, "v1")?;
    with_two_snapshots(&world, &volume)?;
    world.restore(&world.cx(&SystemHost), &volume, &snapshot_name("older")?, false)?;
    same(&world.read(&volume)?, &"older".to_owned(), "the volume")?;
    same(
        &world.read_snapshot(&volume, &snapshot_name("newer")?)?,
        &"newer".to_owned(),
        "the younger snapshot stays",
    )
}

fn an_older_snapshot_is_refused_before_any_change(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let volume = custom(Content::Filesystem, "v1")?;
    with_two_snapshots(&world, &volume)?;
    let host = FaultHost::counting(Arc::new(SystemHost));
    let refused = world.restore(&world.cx(&host), &volume, &snapshot_name("older")?, false);
    ensure(
        matches!(refused, Err(error) if matches!(error.kind(), ErrorKind::Unsupported(_))),
        "an older snapshot",
    )?;
    same(&host.changing_steps(), &Vec::new(), "the changing steps")
}
