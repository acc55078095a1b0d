//! What users do, as stories that are told once without a fault and then with one at every changing step.

use crate::content::{DISK, custom, machine, spec};
use crate::{Lab, World};
use larder_base::host::SystemHost;
use larder_base::{ByteSize, KeptId, SnapshotName};
use larder_storage_driver::{
    Area, Content, Cx, ErrorKind, Place, Restore, Result, StorageError, VolumeId, VolumeSpec,
};
use larder_storage_pool::{CopyPlan, CopySource, Intent, RefreshPlan, RefreshedSnapshot};

/// A story: how the world is before, and what is done in it.
pub(crate) struct Story {
    pub(crate) name: &'static str,
    /// How many pools it needs.
    pub(crate) pools: usize,
    pub(crate) prepare: fn(&World) -> Result<()>,
    pub(crate) act: fn(&World, &Cx<'_>) -> Result<()>,
}

const fn story(
    name: &'static str,
    prepare: fn(&World) -> Result<()>,
    act: fn(&World, &Cx<'_>) -> Result<()>,
) -> Story {
    Story { name, pools: 1, prepare, act }
}

fn nothing(_: &World) -> Result<()> {
    Ok(())
}

fn name(text: &str) -> Result<SnapshotName> {
    Ok(text.parse()?)
}

fn volume() -> Result<VolumeId> {
    Ok(custom(Content::Filesystem, "v1")?)
}

/// A volume with three snapshots, each with a content of its own, and a bystander.
fn with_snapshots(world: &World, volume: &VolumeId) -> Result<()> {
    world.make(&custom(Content::Filesystem, "bystander")?, "bystander")?;
    world.make(volume, "made")?;
    for snapshot in ["s0", "s1", "s2"] {
        world.write(volume, snapshot)?;
        world.snapshot(&world.cx(&SystemHost), volume, &name(snapshot)?)?;
    }
    world.write(volume, "now")
}

fn volume_with_snapshots(world: &World) -> Result<()> {
    with_snapshots(world, &volume()?)
}

fn machine_with_snapshots(world: &World) -> Result<()> {
    with_snapshots(world, &machine("m1")?)
}

fn copy(
    world: &World,
    cx: &Cx<'_>,
    to: &larder_storage_pool::Pool,
    source: &VolumeId,
    target: &VolumeId,
) -> Result<()> {
    let snapshots =
        ["s0", "s1", "s2"].map(str::parse).into_iter().collect::<Result<Vec<SnapshotName>, _>>()?;
    let source = CopySource { pool: world.pool(), volume: source, snapshot: None };
    to.copy_volume(cx, source, &CopyPlan { spec: &spec(target), snapshots: &snapshots })
}

/// A copy that has aged: its source has lost `s1`, got another `s2` and a new `s3`, and was written; the copy has a
/// snapshot of its own.
fn aged(world: &World, to: usize, source: &VolumeId, target: &VolumeId) -> Result<()> {
    let cx = || world.cx(&SystemHost);
    with_snapshots(world, source)?;
    copy(world, &cx(), world.pool_at(to), source, target)?;
    world.snapshot_on(to, &cx(), target, &name("own")?)?;
    for snapshot in ["s1", "s2"] {
        world.delete(&cx(), &Place::live(source).at_snapshot(&name(snapshot)?))?;
    }
    for snapshot in ["s2", "s3"] {
        world.write(source, &format!("another {snapshot}"))?;
        world.snapshot(&cx(), source, &name(snapshot)?)?;
    }
    world.write(source, "the newest")
}

/// Only `s0` stays.
fn refresh(world: &World, cx: &Cx<'_>, to: usize, source: &VolumeId, target: &VolumeId) -> Result<()> {
    let snapshot = |text, is_new| Ok::<_, StorageError>(RefreshedSnapshot { name: name(text)?, is_new });
    let snapshots = [snapshot("s0", false)?, snapshot("s2", true)?, snapshot("s3", true)?];
    let source = CopySource { pool: world.pool(), volume: source, snapshot: None };
    world.refresh(cx, to, source, &RefreshPlan { spec: &spec(target), snapshots: &snapshots })
}

fn refreshes() -> Vec<Story> {
    vec![
        story(
            "refresh",
            |world| aged(world, 0, &volume()?, &custom(Content::Filesystem, "copy")?),
            |world, cx| refresh(world, cx, 0, &volume()?, &custom(Content::Filesystem, "copy")?),
        ),
        story(
            "refresh_a_machine",
            |world| aged(world, 0, &machine("m1")?, &machine("m2")?),
            |world, cx| refresh(world, cx, 0, &machine("m1")?, &machine("m2")?),
        ),
        Story {
            name: "refresh_across_pools",
            pools: 2,
            prepare: |world| aged(world, 1, &volume()?, &custom(Content::Filesystem, "copy")?),
            act: |world, cx| refresh(world, cx, 1, &volume()?, &custom(Content::Filesystem, "copy")?),
        },
        Story {
            name: "refresh_a_machine_across_pools",
            pools: 2,
            prepare: |world| aged(world, 1, &machine("m1")?, &machine("m2")?),
            act: |world, cx| refresh(world, cx, 1, &machine("m1")?, &machine("m2")?),
        },
        Story {
            name: "refresh_a_disk_across_pools",
            pools: 2,
            prepare: |world| aged(world, 1, &custom(Content::Block, "v1")?, &custom(Content::Block, "copy")?),
            act: |world, cx| {
                refresh(world, cx, 1, &custom(Content::Block, "v1")?, &custom(Content::Block, "copy")?)
            },
        },
    ]
}

/// Copies a volume as it is: a clone, where the technology has such.
fn copy_alone(world: &World, cx: &Cx<'_>) -> Result<()> {
    let from = volume()?;
    let source = CopySource { pool: world.pool(), volume: &from, snapshot: None };
    let spec = VolumeSpec::new(custom(Content::Filesystem, "copy")?);
    world.pool().copy_volume(cx, source, &CopyPlan { spec: &spec, snapshots: &[] })
}

fn copied(world: &World) -> Result<()> {
    volume_with_snapshots(world)?;
    copy_alone(world, &world.cx(&SystemHost))
}

/// All stories that a lab's technology can tell.
pub(crate) fn all(lab: &dyn Lab) -> Vec<Story> {
    let mut stories = vec![
        story("create_filesystem", nothing, |world, cx| world.make_with(cx, &volume()?, "new")),
        story("create_block", nothing, |world, cx| {
            world.make_with(cx, &custom(Content::Block, "v1")?, "new")
        }),
        story("create_agreed", nothing, |world, cx| world.make_agreed(cx, &volume()?, "new")),
        story("create_agreed_machine", nothing, |world, cx| world.make_agreed(cx, &machine("m1")?, "new")),
        story("create_with_snapshots", nothing, |world, cx| world.make_with_snapshots(cx, &volume()?)),
        story("create_machine_with_snapshots", nothing, |world, cx| {
            world.make_with_snapshots(cx, &machine("m1")?)
        }),
        story("create_machine", nothing, |world, cx| world.make_with(cx, &machine("m1")?, "new")),
        story("snapshot", volume_with_snapshots, |world, cx| world.snapshot(cx, &volume()?, &name("s3")?)),
        story("snapshot_of_a_machine", machine_with_snapshots, |world, cx| {
            world.snapshot(cx, &machine("m1")?, &name("s3")?)
        }),
        story("rename", volume_with_snapshots, |world, cx| {
            world.rename(cx, &volume()?, &custom(Content::Filesystem, "v2")?)
        }),
        story("rename_a_machine", machine_with_snapshots, |world, cx| {
            world.rename(cx, &machine("m1")?, &machine("m2")?)
        }),
        story("rename_a_snapshot", volume_with_snapshots, |world, cx| {
            let live = Place::live(&volume()?);
            let (from, to) = (name("s1")?, name("renamed")?);
            let intent = Intent::Move { from: live.at_snapshot(&from), to: live.at_snapshot(&to) };
            world.intending(&intent, || world.pool().rename_snapshot(cx, &live.volume, &from, &to))
        }),
        story("restore_the_newest", volume_with_snapshots, |world, cx| {
            world.restore(cx, &volume()?, &name("s2")?, true)
        }),
        story("restore_a_machine", machine_with_snapshots, |world, cx| {
            world.restore(cx, &machine("m1")?, &name("s2")?, true)
        }),
        story("delete", volume_with_snapshots, |world, cx| world.delete(cx, &Place::live(&volume()?))),
        story("delete_a_machine", machine_with_snapshots, |world, cx| {
            world.delete(cx, &Place::live(&machine("m1")?))
        }),
        story("delete_a_snapshot", volume_with_snapshots, |world, cx| {
            world.delete(cx, &Place::live(&volume()?).at_snapshot(&name("s1")?))
        }),
        story("delete_beside_kept_trash", kept_trash, |world, cx| world.delete(cx, &Place::live(&volume()?))),
        story("keep", volume_with_snapshots, |world, cx| {
            let id = kept_id()?;
            let from = Place::live(&volume()?);
            let intent = Intent::Move { to: from.within(Area::Kept(id)), from };
            world.intending(&intent, || world.pool().keep(cx, &volume()?, id)).map(|_| ())
        }),
        story("bring_back", kept, |world, cx| {
            let id = kept_id()?;
            let to = Place::live(&volume()?);
            let intent = Intent::Move { from: to.within(Area::Kept(id)), to };
            world.intending(&intent, || world.pool().bring_back(cx, &volume()?, id))
        }),
        story(
            "grow_a_disk",
            |world| world.make(&custom(Content::Block, "v1")?, "disk"),
            |world, cx| {
                let disk = custom(Content::Block, "v1")?;
                let (old, new) = (Some(DISK), Some(ByteSize::from_mebibytes(8)));
                let intent = Intent::Resize { volume: disk.clone(), size: new };
                world.intending(&intent, || world.pool().resize(cx, &disk, old, new))
            },
        ),
        story("copy_with_three_snapshots", volume_with_snapshots, |world, cx| {
            copy(world, cx, world.pool(), &volume()?, &custom(Content::Filesystem, "copy")?)
        }),
        story("copy_a_machine", machine_with_snapshots, |world, cx| {
            copy(world, cx, world.pool(), &machine("m1")?, &machine("m2")?)
        }),
        story("copy_a_snapshot", volume_with_snapshots, |world, cx| {
            let (from, snapshot) = (volume()?, name("s1")?);
            let source = CopySource { pool: world.pool(), volume: &from, snapshot: Some(&snapshot) };
            let spec = VolumeSpec::new(custom(Content::Filesystem, "copy")?);
            world.pool().copy_volume(cx, source, &CopyPlan { spec: &spec, snapshots: &[] })
        }),
        story("copy_without_snapshots", volume_with_snapshots, copy_alone),
        story("delete_what_was_copied", copied, |world, cx| world.delete(cx, &Place::live(&volume()?))),
        story(
            "delete_the_copy_of_what_is_gone",
            |world| {
                copied(world)?;
                world.delete(&world.cx(&SystemHost), &Place::live(&volume()?))
            },
            |world, cx| world.delete(cx, &Place::live(&custom(Content::Filesystem, "copy")?)),
        ),
        Story {
            name: "copy_across_pools",
            pools: 2,
            prepare: volume_with_snapshots,
            act: |world, cx| {
                copy(world, cx, world.other_pool(), &volume()?, &custom(Content::Filesystem, "copy")?)
            },
        },
        Story {
            name: "copy_a_machine_across_pools",
            pools: 2,
            prepare: machine_with_snapshots,
            act: |world, cx| copy(world, cx, world.other_pool(), &machine("m1")?, &machine("m2")?),
        },
    ];
    stories.extend(refreshes());
    if lab.capabilities().restore != Restore::InPlaceNewest {
        stories.push(story("restore_an_older_one", volume_with_snapshots, |world, cx| {
            world.restore(cx, &volume()?, &name("s0")?, false)
        }));
    }
    stories
}

/// The same in every world, so that worlds can be compared.
fn kept_id() -> Result<KeptId> {
    let unexpected =
        |error: larder_base::ticket::TicketError| StorageError::new(ErrorKind::Unexpected, error.to_string());
    "00000000000000000000000000000001".parse().map_err(unexpected)
}

fn kept(world: &World) -> Result<()> {
    volume_with_snapshots(world)?;
    world.pool().keep(&world.cx(&SystemHost), &volume()?, kept_id()?).map(|_| ())
}

/// A volume was kept, and its name is taken again.
fn kept_trash(world: &World) -> Result<()> {
    kept(world)?;
    world.make(&volume()?, "second")?;
    world.snapshot(&world.cx(&SystemHost), &volume()?, &name("s0")?)
}
