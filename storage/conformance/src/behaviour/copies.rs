//! Copies, and clones that share with what they were made of.

use super::{snapshot_name, with_two_snapshots};
use crate::content::{DISK, custom, machine, read_text, same, spec};
use crate::{Behaviour, Lab, Outcome, World, ensure, files};
use larder_base::host::SystemHost;
use larder_base::{ByteSize, SnapshotName};
use larder_storage_driver::{Attached, Content, Cx, Mode, Place, Result, StorageError, VolumeId, VolumeSpec};
use larder_storage_pool::{CopyPlan, CopySource, RefreshPlan};
use larder_storage_tree::manifest;
use std::fs;
use std::os::unix::fs::MetadataExt;

pub(super) const TRIALS: &[Behaviour] = trials![
    a_copy_survives_its_source,
    a_copy_keeps_every_kind_of_file,
    a_copy_holds_a_disk_that_is_larger_than_recorded,
];

/// Where copies share with their sources.
pub(super) const CLONES: &[Behaviour] = trials![clones_and_their_sources_go_in_any_order];

/// Where trees lie in one filesystem, and copies are copies.
pub(super) const BESIDE: &[Behaviour] = trials![a_refresh_writes_only_what_differs];

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

fn a_copy_holds_a_disk_that_is_larger_than_recorded(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 2)?;
    let cx = world.cx(&SystemHost);
    let (from, copy) = (custom(Content::Block, "v1")?, custom(Content::Block, "copy")?);
    world.make(&from, "text")?;
    let larger = ByteSize::from_mebibytes(16);
    world.pool().resize(&cx, &from, Some(DISK), Some(larger))?;
    let source = CopySource { pool: world.pool(), volume: &from, snapshot: None };
    world.other_pool().copy_volume(&cx, source, &CopyPlan { spec: &spec(&copy), snapshots: &[] })?;
    let size = || Ok::<_, StorageError>(world.other_pool().volume_usage(&cx, &copy)?.total_bytes);
    same(&size()?, &Some(larger.as_bytes()), "the size of the copy")?;
    world.write(&from, "newer")?;
    let plan = RefreshPlan { spec: &spec(&copy), snapshots: &[] };
    let exchange = world.other_pool().plan_refresh(&cx, &plan);
    world.other_pool().refresh_volume(&cx, source, &plan, &exchange)?;
    world.other_pool().destroy(&cx, &exchange.old())?;
    same(&size()?, &Some(larger.as_bytes()), "the size of the refreshed copy")?;
    let attached = world.other_pool().attach(&cx, &copy, Mode::ReadOnly)?;
    let text = read_text(&attached)?;
    world.other_pool().detach(&cx, &copy)?;
    same(&text, &"newer".to_owned(), "the refreshed copy")
}

fn a_refresh_writes_only_what_differs(lab: &dyn Lab) -> Outcome {
    let world = World::fresh(lab, 2)?;
    let cx = world.cx(&SystemHost);
    let (from, copy) = (custom(Content::Filesystem, "v1")?, custom(Content::Filesystem, "copy")?);
    let fill = |_: &Cx<'_>, into: &Attached| -> Result<()> {
        let folder = into.directory()?;
        ["same", "changes", "goes"].iter().try_for_each(|name| fs::write(folder.join(name), name))?;
        Ok(())
    };
    world.pool().create_volume(&cx, &spec(&from), &fill)?;
    let source = CopySource { pool: world.pool(), volume: &from, snapshot: None };
    world.other_pool().copy_volume(&cx, source, &CopyPlan { spec: &spec(&copy), snapshots: &[] })?;
    world.with_tree(&from, |folder| {
        fs::write(folder.join("changes"), "changed")?;
        fs::remove_file(folder.join("goes"))?;
        Ok(fs::write(folder.join("comes"), "new")?)
    })?;
    let look = || -> Result<_> {
        let attached = world.other_pool().attach(&cx, &copy, Mode::ReadOnly)?;
        let folder = attached.directory()?;
        let files = ["same", "changes", "goes", "comes"].map(|name| {
            let path = folder.join(name);
            Some((fs::metadata(&path).ok()?.ino(), fs::read_to_string(path).ok()?))
        });
        world.other_pool().detach(&cx, &copy)?;
        Ok(files)
    };
    let before = look()?;
    let plan = RefreshPlan { spec: &spec(&copy), snapshots: &[] };
    let exchange = world.other_pool().plan_refresh(&cx, &plan);
    world.other_pool().refresh_volume(&cx, source, &plan, &exchange)?;
    let after = look()?;
    same(&after[0], &before[0], "the file that is the same")?;
    let text = |number: usize| after[number].as_ref().map(|(_, text)| text.as_str());
    same(&[text(1), text(2), text(3)], &[Some("changed"), None, Some("new")], "the other files")?;
    ensure(after[1] != before[1], "a file of the old copy was written to")?;
    world.other_pool().destroy(&cx, &exchange.old())?;
    same(&look()?, &after, "the copy when the old one is gone")
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
