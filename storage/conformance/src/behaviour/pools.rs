//! The pool around its volumes: who works on what, what comes back after a start, what is refused.

use super::{fails, snapshot_name, with_two_snapshots};
use crate::content::{custom, machine, same, spec};
use crate::{Behaviour, Lab, Outcome, World, ensure};
use larder_base::host::{FaultHost, SystemHost};
use larder_base::{ByteSize, Cancel, Ticket};
use larder_storage_driver::{
    CloneKind, Content, Cx, ErrorKind, Mode, Place, Restore, Result, SnapshotKind, StorageError, VolumeSpec,
};
use larder_storage_pool::EmptyFill;
use std::sync::Arc;
use uuid::Uuid;

pub(super) const TRIALS: &[Behaviour] = trials![
    what_is_in_use_is_not_pulled_away,
    work_on_one_volume_waits_for_its_turn,
    closing_and_opening_shows_the_same,
    recovery_sweeps_what_is_over_and_nothing_else,
    wrong_keys_and_sizes_are_refused_before_any_change,
    what_the_driver_cannot_do_is_refused_before_any_change,
    the_pool_tells_its_space,
];

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
