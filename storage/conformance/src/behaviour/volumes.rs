//! Volumes: made, named, moved out of sight, measured.

use super::{fails, snapshot_name, with_two_snapshots};
use crate::content::{DISK, custom, filled, machine, same, spec};
use crate::{Behaviour, Lab, Outcome, World, ensure};
use larder_base::host::SystemHost;
use larder_base::{Cancel, KeptId};
use larder_storage_driver::{
    Attached, Content, Cx, ErrorKind, Place, Result, StorageError, VolumeId, VolumeUsage,
};
use larder_storage_pool::{CopyPlan, CopySource};

pub(super) const TRIALS: &[Behaviour] = trials![
    every_content_can_be_made_filled_and_read_back,
    a_failing_fill_leaves_nothing,
    a_cancelled_creation_leaves_nothing,
    a_taken_name_is_refused_and_nothing_changes,
    destroying_what_is_absent_is_fine,
    what_is_missing_is_not_found,
    rename_refuses_a_taken_name,
    rename_keeps_content_and_snapshots_across_projects,
    a_trashed_name_is_free_at_once,
    what_is_kept_comes_back_unless_its_name_was_taken,
    many_volumes_are_measured_as_each_is,
];

fn every_content_can_be_made_filled_and_read_back(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let mut volumes = vec![machine("m1")?];
    for content in lab.capabilities().contents {
        volumes.push(custom(*content, &format!("v-{content}"))?);
    }
    for volume in &volumes {
        world.make(volume, "text")?;
        same(&world.read(volume)?, &"text".to_owned(), &volume.to_string())?;
    }
    let places = world.pool().places(&world.cx(&SystemHost))?;
    let mut expected: Vec<Place> = volumes.iter().map(Place::live).collect();
    let mut found = places;
    expected.sort();
    found.sort();
    same(&found, &expected, "the list")
}

fn a_failing_fill_leaves_nothing(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let volume = custom(Content::Filesystem, "v1")?;
    let half = |cx: &Cx<'_>, into: &Attached| -> Result<()> {
        filled("half")(cx, into)?;
        Err(StorageError::new(ErrorKind::Unexpected, "the source broke"))
    };
    let outcome = world.pool().create_volume(&world.cx(&SystemHost), &spec(&volume), &half);
    fails(outcome, ErrorKind::Unexpected, "the fill's own error")?;
    same(&world.pool().places(&world.cx(&SystemHost))?, &Vec::new(), "what is left")
}

fn a_cancelled_creation_leaves_nothing(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let cancel = Cancel::new();
    let canceller = cancel.clone();
    let fill = move |_: &Cx<'_>, _: &Attached| -> Result<()> {
        canceller.cancel();
        Ok(())
    };
    let cx = world.cancellable_cx(&SystemHost, cancel);
    let volume = custom(Content::Block, "v1")?;
    fails(
        world.pool().create_volume(&cx, &spec(&volume), &fill),
        ErrorKind::Cancelled,
        "a cancelled creation",
    )?;
    same(&world.pool().places(&world.cx(&SystemHost))?, &Vec::new(), "what is left")
}

fn a_taken_name_is_refused_and_nothing_changes(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    for volume in [custom(Content::Filesystem, "v1")?, machine("m1")?] {
        world.make(&volume, "first")?;
        let before = world.seen()?;
        fails(world.make(&volume, "second"), ErrorKind::AlreadyExists, "a taken name")?;
        same(&world.seen()?, &before, "what is live")?;
        same(&world.leftovers()?, &Vec::new(), "what is left")?;
    }
    Ok(())
}

fn destroying_what_is_absent_is_fine(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let cx = world.cx(&SystemHost);
    let absent = Place::live(&custom(Content::Filesystem, "v1")?).trashed(cx.ticket());
    world.pool().destroy(&cx, &absent)?;
    Ok(world.pool().destroy(&cx, &absent.at_snapshot(&snapshot_name("s0")?))?)
}

fn what_is_missing_is_not_found(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let cx = world.cx(&SystemHost);
    let (there, absent, name) =
        (custom(Content::Filesystem, "v1")?, custom(Content::Filesystem, "none")?, snapshot_name("none")?);
    world.make(&there, "text")?;
    fails(world.read(&absent), ErrorKind::NotFound, "attaching")?;
    fails(world.snapshot(&cx, &absent, &name), ErrorKind::NotFound, "a snapshot")?;
    fails(world.restore(&cx, &there, &name, true), ErrorKind::NotFound, "restoring")?;
    fails(world.pool().volume_usage(&cx, &absent), ErrorKind::NotFound, "usage")?;
    fails(world.pool().resize(&cx, &absent, None, Some(DISK)), ErrorKind::NotFound, "resizing")?;
    let source = CopySource { pool: world.pool(), volume: &absent, snapshot: None };
    let target = spec(&custom(Content::Filesystem, "copy")?);
    let copied = world.pool().copy_volume(&cx, source, &CopyPlan { spec: &target, snapshots: &[] });
    fails(copied, ErrorKind::NotFound, "copying")?;
    same(&world.leftovers()?, &Vec::new(), "what is left")
}

fn rename_refuses_a_taken_name(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let (one, other) = (custom(Content::Filesystem, "v1")?, custom(Content::Filesystem, "v2")?);
    world.make(&one, "one")?;
    world.make(&other, "other")?;
    world.snapshot(&world.cx(&SystemHost), &one, &snapshot_name("s0")?)?;
    let before = world.seen()?;
    fails(world.rename(&world.cx(&SystemHost), &one, &other), ErrorKind::AlreadyExists, "a taken name")?;
    fails(world.rename(&world.cx(&SystemHost), &one, &one), ErrorKind::AlreadyExists, "its own name")?;
    same(&world.seen()?, &before, "what is live")
}

fn rename_keeps_content_and_snapshots_across_projects(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let from = machine("m1")?;
    let to = VolumeId { project: "blue".parse()?, ..machine("m2")? };
    world.make(&from, "past")?;
    world.snapshot(&world.cx(&SystemHost), &from, &snapshot_name("s0")?)?;
    world.write(&from, "now")?;
    world.rename(&world.cx(&SystemHost), &from, &to)?;
    same(&world.read(&to)?, &"now".to_owned(), "the volume")?;
    same(&world.read_snapshot(&to, &snapshot_name("s0")?)?, &"past".to_owned(), "its snapshot")?;
    fails(world.read(&from), ErrorKind::NotFound, "the old name")
}

fn a_trashed_name_is_free_at_once(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let cx = world.cx(&SystemHost);
    let volume = machine("m1")?;
    world.make(&volume, "old")?;
    world.snapshot(&cx, &volume, &snapshot_name("s0")?)?;
    let trashed = world.pool().trash(&cx, &Place::live(&volume))?;
    world.make(&volume, "new")?;
    world.pool().destroy(&cx, &trashed)?;
    same(&world.read(&volume)?, &"new".to_owned(), "the new volume")?;
    same(&world.pool().places(&cx)?, &vec![Place::live(&volume)], "what is there")
}

fn what_is_kept_comes_back_unless_its_name_was_taken(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let cx = world.cx(&SystemHost);
    let volume = custom(Content::Filesystem, "v1")?;
    with_two_snapshots(&world, &volume)?;
    let kept = KeptId::random();
    world.pool().keep(&cx, &volume, kept)?;
    fails(world.read(&volume), ErrorKind::NotFound, "what is out of sight")?;
    let (world, _) = world.start_again()?;
    let cx = world.cx(&SystemHost);
    world.make(&volume, "second")?;
    fails(world.pool().bring_back(&cx, &volume, kept), ErrorKind::AlreadyExists, "a name taken since")?;
    world.delete(&cx, &Place::live(&volume))?;
    world.pool().bring_back(&cx, &volume, kept)?;
    same(&world.read(&volume)?, &"now".to_owned(), "what came back")?;
    same(&world.read_snapshot(&volume, &snapshot_name("older")?)?, &"older".to_owned(), "its snapshots")
}

fn many_volumes_are_measured_as_each_is(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let cx = world.cx(&SystemHost);
    let volumes = [
        custom(Content::Filesystem, "v1")?,
        custom(Content::Filesystem, "none")?,
        custom(Content::Block, "v2")?,
        machine("m1")?,
    ];
    for volume in volumes.iter().filter(|volume| volume.name.as_str() != "none") {
        world.make(volume, "text")?;
    }
    // What is used may be counted with a delay.
    let told =
        |usage: Option<VolumeUsage>| usage.map(|usage| (usage.used_bytes.is_some(), usage.total_bytes));
    let each: Vec<_> =
        volumes.iter().map(|volume| told(world.pool().volume_usage(&cx, volume).ok())).collect();
    ensure(each.iter().flatten().count() == 3, "what was measured alone")?;
    let together = world.pool().volume_usages(&cx, &volumes)?.into_iter().map(told).collect();
    same(&together, &each, "what was measured together")
}
