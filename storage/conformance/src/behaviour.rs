//! What a driver does under a pool, and what it refuses before the first change.

use crate::world::{DISK, custom, filled, machine, same, spec};
use crate::{Behaviour, Lab, Outcome, World, ensure, files};
use larder_base::host::{FaultHost, SystemHost};
use larder_base::{ByteSize, Cancel, KeptId, SnapshotName, Ticket};
use larder_storage_driver::{
    Attached, CloneKind, Content, Cx, ErrorKind, Mode, Place, Restore, Result, Shrink, SnapshotKind,
    StorageError, VolumeId, VolumeSpec, VolumeUsage,
};
use larder_storage_pool::{CopyPlan, CopySource, EmptyFill};
use larder_storage_tree::manifest;
use std::sync::Arc;
use uuid::Uuid;

/// The trials that apply to a lab.
pub(crate) fn trials(lab: &dyn Lab) -> Vec<Behaviour> {
    let mut trials: Vec<Behaviour> = vec![
        ("every_content_can_be_made_filled_and_read_back", every_content_can_be_made_filled_and_read_back),
        ("a_failing_fill_leaves_nothing", a_failing_fill_leaves_nothing),
        ("a_cancelled_creation_leaves_nothing", a_cancelled_creation_leaves_nothing),
        ("a_taken_name_is_refused_and_nothing_changes", a_taken_name_is_refused_and_nothing_changes),
        ("destroying_what_is_absent_is_fine", destroying_what_is_absent_is_fine),
        ("rename_refuses_a_taken_name", rename_refuses_a_taken_name),
        (
            "rename_keeps_content_and_snapshots_across_projects",
            rename_keeps_content_and_snapshots_across_projects,
        ),
        ("snapshots_keep_the_past", snapshots_keep_the_past),
        ("a_taken_snapshot_name_keeps_the_first", a_taken_snapshot_name_keeps_the_first),
        ("restore_brings_the_past_back", restore_brings_the_past_back),
        ("what_is_missing_is_not_found", what_is_missing_is_not_found),
        ("many_volumes_are_measured_as_each_is", many_volumes_are_measured_as_each_is),
        ("a_trashed_name_is_free_at_once", a_trashed_name_is_free_at_once),
        (
            "what_is_kept_comes_back_unless_its_name_was_taken",
            what_is_kept_comes_back_unless_its_name_was_taken,
        ),
        ("a_copy_survives_its_source", a_copy_survives_its_source),
        ("a_copy_keeps_every_kind_of_file", a_copy_keeps_every_kind_of_file),
        ("a_disk_grows_and_keeps_its_content", a_disk_grows_and_keeps_its_content),
        ("a_grown_disk_stays_as_large_when_it_is_restored", a_grown_disk_stays_as_large_when_it_is_restored),
        ("what_is_in_use_is_not_pulled_away", what_is_in_use_is_not_pulled_away),
        ("work_on_one_volume_waits_for_its_turn", work_on_one_volume_waits_for_its_turn),
        ("closing_and_opening_shows_the_same", closing_and_opening_shows_the_same),
        ("recovery_sweeps_what_is_over_and_nothing_else", recovery_sweeps_what_is_over_and_nothing_else),
        (
            "wrong_keys_and_sizes_are_refused_before_any_change",
            wrong_keys_and_sizes_are_refused_before_any_change,
        ),
        (
            "what_the_driver_cannot_do_is_refused_before_any_change",
            what_the_driver_cannot_do_is_refused_before_any_change,
        ),
        ("the_pool_tells_its_space", the_pool_tells_its_space),
        ("random_verbs_do_what_a_plain_map_does", random_verbs_do_what_a_plain_map_does),
    ];
    match lab.capabilities().restore {
        Restore::InPlaceNewest => {
            trials.push((
                "an_older_snapshot_is_refused_before_any_change",
                an_older_snapshot_is_refused_before_any_change,
            ));
        }
        Restore::InPlace | Restore::Exchange => {
            trials.push(("any_older_snapshot_can_be_restored", any_older_snapshot_can_be_restored));
        }
    }
    if lab.capabilities().clone != CloneKind::None {
        trials.push(("clones_and_their_sources_go_in_any_order", clones_and_their_sources_go_in_any_order));
    }
    if lab.capabilities().shrink == Shrink::No {
        trials.push((
            "a_shrinking_disk_is_refused_before_any_change",
            a_shrinking_disk_is_refused_before_any_change,
        ));
    }
    trials
}

fn snapshot_name(text: &str) -> Result<SnapshotName> {
    Ok(text.parse()?)
}

fn fails<T: std::fmt::Debug>(outcome: Result<T>, kind: ErrorKind, what: &str) -> Outcome {
    match outcome {
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => {
            Err(format!("{what}: {:?} instead of {kind:?}: {}", error.kind(), error.chain()).into())
        }
        Ok(value) => Err(format!("{what}: should have failed with {kind:?}, gave {value:?}").into()),
    }
}

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

fn with_two_snapshots(world: &World, volume: &VolumeId) -> Result<()> {
    world.make(volume, "older")?;
    world.snapshot(&world.cx(&SystemHost), volume, &snapshot_name("older")?)?;
    world.write(volume, "newer")?;
    world.snapshot(&world.cx(&SystemHost), volume, &snapshot_name("newer")?)?;
    world.write(volume, "now")
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

fn a_copy_survives_its_source(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 2)?;
    let cx = world.cx(&SystemHost);
    let (from, copy) = (machine("m1")?, machine("m2")?);
    with_two_snapshots(&world, &from)?;
    let snapshots = [snapshot_name("older")?, snapshot_name("newer")?];
    let source = CopySource { pool: world.pool(), volume: &from, snapshot: None };
    let plan = CopyPlan { spec: &spec(&copy), snapshots: &snapshots };
    world.pool().copy_volume(&cx, source, &plan)?;
    world.other_pool().copy_volume(&cx, source, &plan)?;
    world.delete(&cx, &Place::live(&from))?;
    for name in &snapshots {
        same(&world.read_snapshot(&copy, name)?, &name.to_string(), "a snapshot of the copy")?;
    }
    same(&world.read(&copy)?, &"now".to_owned(), "the copy")?;
    let elsewhere = world.other_pool().places(&cx)?;
    same(&elsewhere.len(), &3, "the copy on the other pool with its snapshots")
}

fn clone_of(world: &World, from: &VolumeId, snapshot: Option<&SnapshotName>, to: &VolumeId) -> Result<()> {
    let source = CopySource { pool: world.pool(), volume: from, snapshot };
    let plan = CopyPlan { spec: &VolumeSpec::new(to.clone()), snapshots: &[] };
    world.pool().copy_volume(&world.cx(&SystemHost), source, &plan)
}

fn clones_and_their_sources_go_in_any_order(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let cx = world.cx(&SystemHost);
    let older = snapshot_name("older")?;
    for (name, source) in [("v", custom(Content::Filesystem, "v")?), ("m", machine("m")?)] {
        let named = |number: u32| -> Result<VolumeId> {
            Ok(VolumeId { name: format!("{name}{number}").parse()?, ..source.clone() })
        };
        with_two_snapshots(&world, &source)?;
        clone_of(&world, &source, None, &named(1)?)?;
        clone_of(&world, &source, Some(&older), &named(2)?)?;
        clone_of(&world, &named(1)?, None, &named(3)?)?;
        // A snapshot that was cloned goes, and its name is free; then its volume, likewise.
        world.delete(&cx, &Place::live(&source).at_snapshot(&older))?;
        world.snapshot(&cx, &source, &older)?;
        same(&world.read_snapshot(&source, &older)?, &"now".to_owned(), "the new snapshot")?;
        world.delete(&cx, &Place::live(&source))?;
        world.delete(&cx, &Place::live(&named(1)?))?;
        world.make(&source, "new")?;
        let found = world.pool().places(&cx)?;
        let mut expected = [source.clone(), named(2)?, named(3)?].map(|volume| Place::live(&volume)).to_vec();
        expected.sort();
        same(
            &found.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect(),
            &expected,
            "what is there",
        )?;
        for (volume, text) in [(named(2)?, "older"), (named(3)?, "now"), (source.clone(), "new")] {
            same(&world.read(&volume)?, &text.to_owned(), &volume.to_string())?;
            world.delete(&cx, &Place::live(&volume))?;
        }
    }
    same(&world.pool().places(&cx)?, &Vec::new(), "what is left")
}

fn a_copy_keeps_every_kind_of_file(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 2)?;
    let cx = world.cx(&SystemHost);
    let from = custom(Content::Filesystem, "v1")?;
    let fill = |_: &Cx<'_>, into: &Attached| -> Result<()> { Ok(files::make(into.directory()?)?) };
    world.pool().create_volume(&cx, &spec(&from), &fill)?;
    let name = snapshot_name("s0")?;
    world.snapshot(&cx, &from, &name)?;
    let copy = custom(Content::Filesystem, "copy")?;
    let source = CopySource { pool: world.pool(), volume: &from, snapshot: Some(&name) };
    world.other_pool().copy_volume(&cx, source, &CopyPlan { spec: &spec(&copy), snapshots: &[] })?;
    let original = world.pool().attach(&cx, &from, Mode::ReadOnly)?;
    let snapshot = world.pool().attach_snapshot(&cx, &from, &name)?;
    let copied = world.other_pool().attach(&cx, &copy, Mode::ReadOnly)?;
    let expected = manifest(original.directory()?)?;
    ensure(expected.0.len() > 12, "the tree is too small")?;
    for (attached, what) in [(&snapshot, "the snapshot"), (&copied, "the copy of the snapshot")] {
        let found = manifest(attached.directory()?)?;
        ensure(found == expected, format!("{what}:\n{}", found.difference(&expected)))?;
    }
    Ok(())
}

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

fn what_is_in_use_is_not_pulled_away(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let cx = world.cx(&SystemHost);
    let volume = custom(Content::Filesystem, "v1")?;
    with_two_snapshots(&world, &volume)?;
    world.pool().attach(&cx, &volume, Mode::ReadWrite)?;
    world.pool().attach(&cx, &volume, Mode::ReadWrite)?;
    let other = custom(Content::Filesystem, "v2")?;
    for _ in 0..2 {
        fails(world.rename(&cx, &volume, &other), ErrorKind::InUse, "renaming")?;
        fails(world.pool().trash(&cx, &Place::live(&volume)), ErrorKind::InUse, "deleting")?;
        fails(world.restore(&cx, &volume, &snapshot_name("newer")?, true), ErrorKind::InUse, "restoring")?;
        world.pool().detach(&cx, &volume)?;
    }
    world.snapshot(&cx, &volume, &snapshot_name("in-between")?)?;
    Ok(world.rename(&cx, &volume, &other)?)
}

fn work_on_one_volume_waits_for_its_turn(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let volume = custom(Content::Filesystem, "v1")?;
    world.make(&volume, "text")?;
    let failures: Vec<String> = std::thread::scope(|scope| {
        let world = &world;
        let volume = &volume;
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                scope.spawn(move || -> Result<()> {
                    for round in 0..4 {
                        let name = snapshot_name(&format!("s{worker}-{round}"))?;
                        world.snapshot(&world.cx(&SystemHost), volume, &name)?;
                        if round % 2 == 0 {
                            world.delete(&world.cx(&SystemHost), &Place::live(volume).at_snapshot(&name))?;
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        let outcomes = workers.into_iter().map(std::thread::ScopedJoinHandle::join);
        outcomes
            .filter_map(|outcome| match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.chain()),
                Err(_) => Some("panicked".to_owned()),
            })
            .collect()
    });
    same(&failures, &Vec::new(), "the failures")?;
    same(
        &world.pool().places(&world.cx(&SystemHost))?.len(),
        &9,
        "a volume with half of the sixteen snapshots",
    )
}

fn closing_and_opening_shows_the_same(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    with_two_snapshots(&world, &machine("m1")?)?;
    with_two_snapshots(&world, &custom(Content::Filesystem, "v1")?)?;
    world.make(&custom(Content::Block, "v2")?, "disk")?;
    let before = world.seen()?;
    world.pool().close(&world.cx(&SystemHost))?;
    let (world, recovered) = world.start_again()?;
    same(&world.seen()?, &before, "what is live")?;
    ensure(recovered.iter().all(|recovered| recovered.removed.is_empty()), "something was swept")
}

fn recovery_sweeps_what_is_over_and_nothing_else(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let over = world.cx(&SystemHost);
    let volume = custom(Content::Filesystem, "v1")?;
    with_two_snapshots(&world, &volume)?;
    world.pool().trash(&over, &Place::live(&volume))?;
    world.make(&volume, "live")?;
    let stranger = Ticket::new("another", Uuid::new_v4(), Uuid::new_v4());
    let theirs = Cx::new(&SystemHost, larder_base::Progress::silent(), Cancel::never(), stranger);
    let other = custom(Content::Filesystem, "theirs")?;
    world.make(&other, "theirs")?;
    let theirs = world.pool().trash(&theirs, &Place::live(&other))?;
    let (world, recovered) = world.start_again()?;
    ensure(!recovered[0].removed.is_empty(), "nothing was swept")?;
    let mut found = world.pool().places(&world.cx(&SystemHost))?;
    found.sort();
    let mut expected = vec![Place::live(&volume), theirs];
    expected.sort();
    same(&found, &expected, "what is there")
}

fn wrong_keys_and_sizes_are_refused_before_any_change(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let host = FaultHost::counting(Arc::new(SystemHost));
    let with = |key: &str, value: &str| -> Result<VolumeSpec> {
        let mut spec = spec(&custom(Content::Filesystem, "v1")?);
        spec.config.insert(key.to_owned(), value.to_owned());
        Ok(spec)
    };
    for (key, value) in [
        ("no.such.key", "1"),
        ("size", "huge"),
        ("security.shifted", "perhaps"),
        ("snapshots.schedule", "at noon"),
    ] {
        let refused = world.pool().create_volume(&world.cx(&host), &with(key, value)?, &EmptyFill);
        let text = refused.as_ref().err().map(StorageError::chain).unwrap_or_default();
        fails(refused, ErrorKind::Invalid, key)?;
        ensure(text.contains(key), format!("{text} does not name {key}"))?;
    }
    let empty = VolumeSpec::new(custom(Content::Block, "v1")?).with_size(ByteSize::from_bytes(0));
    fails(
        world.pool().create_volume(&world.cx(&host), &empty, &EmptyFill),
        ErrorKind::Invalid,
        "a disk of 0 bytes",
    )?;
    same(&host.changing_steps(), &Vec::new(), "the changing steps")
}

fn what_the_driver_cannot_do_is_refused_before_any_change(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let volume = custom(Content::Filesystem, "v1")?;
    with_two_snapshots(&world, &volume)?;
    let host = FaultHost::counting(Arc::new(SystemHost));
    let cx = world.cx(&host);
    let driver = world.pool().driver();
    let live = Place::live(&volume);
    let staged = live.staged(cx.ticket());
    let capabilities = lab.capabilities();
    let mut refused = Vec::new();
    if capabilities.clone == CloneKind::None {
        refused.push(driver.create_clone(&cx, &staged, &live, &spec(&volume)));
    }
    if capabilities.snapshot == SnapshotKind::Copied {
        refused.push(driver.snapshot(&cx, &live, &snapshot_name("s9")?));
    }
    match capabilities.restore {
        Restore::Exchange => refused.push(driver.restore(&cx, &live, &snapshot_name("newer")?)),
        Restore::InPlace | Restore::InPlaceNewest => refused.push(driver.exchange(&cx, &staged, &live)),
    }
    for outcome in refused {
        let is_unsupported =
            matches!(&outcome, Err(error) if matches!(error.kind(), ErrorKind::Unsupported(_)));
        ensure(is_unsupported, format!("{outcome:?}"))?;
    }
    same(&host.changing_steps(), &Vec::new(), "the changing steps")
}

fn the_pool_tells_its_space(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 1)?;
    let usage = world.pool().usage(&world.cx(&SystemHost))?;
    ensure(usage.total_bytes > 0 && usage.used_bytes <= usage.total_bytes, format!("{usage:?}"))
}

/// A small generator with a seed, so that a failure can be told again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What a plain map says is there: text now, and of each snapshot.
type Model = std::collections::BTreeMap<VolumeId, (String, std::collections::BTreeMap<String, String>)>;

fn random_verbs_do_what_a_plain_map_does(lab: &dyn Lab) -> Outcome {
    let seed = std::env::var("LARDER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |now| u64::from(now.subsec_nanos()))
    });
    let mut chance = Chance(seed);
    let world = World::fresh(lab, 1)?;
    let mut model = Model::new();
    for step in 0..60 {
        one_verb(&world, &mut model, &mut chance, step)
            .map_err(|error| format!("LARDER_SEED={seed}, step {step}: {error}"))?;
    }
    for (volume, (text, snapshots)) in &model {
        same(&world.read(volume)?, text, &format!("LARDER_SEED={seed}: {volume}"))?;
        for (name, text) in snapshots {
            same(
                &world.read_snapshot(volume, &snapshot_name(name)?)?,
                text,
                &format!("LARDER_SEED={seed}: {volume}/{name}"),
            )?;
        }
    }
    let places = model.values().map(|(_, snapshots)| 1 + snapshots.len()).sum::<usize>();
    same(
        &world.pool().places(&world.cx(&SystemHost))?.len(),
        &places,
        &format!("LARDER_SEED={seed}: the number of places"),
    )
}

fn one_verb(world: &World, model: &mut Model, chance: &mut Chance, step: u32) -> Outcome {
    let cx = world.cx(&SystemHost);
    let volume = match chance.below(4) {
        3 => machine("m1")?,
        number => custom(Content::Filesystem, &format!("v{number}"))?,
    };
    let snapshot = format!("s{}", chance.below(3));
    let text = format!("text {step}");
    let is_there = model.contains_key(&volume);
    let has_snapshot = model.get(&volume).is_some_and(|(_, snapshots)| snapshots.contains_key(&snapshot));
    let name = snapshot_name(&snapshot)?;
    match chance.below(7) {
        0 => {
            let made = world.make(&volume, &text);
            ensure(made.is_ok() != is_there, format!("create: {made:?}"))?;
            model.entry(volume).or_insert((text, Default::default()));
        }
        1 if is_there => {
            world.write(&volume, &text)?;
            model.entry(volume).and_modify(|(now, _)| *now = text);
        }
        2 => {
            let made = world.snapshot(&cx, &volume, &name);
            ensure(made.is_ok() == (is_there && !has_snapshot), format!("snapshot: {made:?}"))?;
            if let Some((now, snapshots)) = model.get_mut(&volume) {
                snapshots.entry(snapshot).or_insert_with(|| now.clone());
            }
        }
        3 if has_snapshot => {
            let newest = model.get(&volume).is_some_and(|(_, snapshots)| snapshots.len() == 1);
            if newest {
                world.restore(&cx, &volume, &name, true)?;
                model.entry(volume).and_modify(|(now, snapshots)| now.clone_from(&snapshots[&snapshot]));
            }
        }
        4 if is_there => {
            world.delete(&cx, &Place::live(&volume))?;
            model.remove(&volume);
        }
        5 if has_snapshot => {
            world.delete(&cx, &Place::live(&volume).at_snapshot(&name))?;
            model.entry(volume).and_modify(|(_, snapshots)| drop(snapshots.remove(&snapshot)));
        }
        6 if is_there && volume.content == Content::Filesystem => {
            let to = custom(Content::Filesystem, &format!("v{}", chance.below(3)))?;
            let renamed = world.rename(&cx, &volume, &to);
            ensure(renamed.is_ok() != model.contains_key(&to), format!("rename: {renamed:?}"))?;
            if renamed.is_ok()
                && let Some(state) = model.remove(&volume)
            {
                model.insert(to, state);
            }
        }
        _ => {}
    }
    Ok(())
}
