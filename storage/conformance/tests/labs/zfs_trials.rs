//! What zfs alone does with volumes: its keys, its clones, its sizes.

use super::zfs::{ZfsLab, run};
use larder_base::host::{Fault, FaultHost, FaultMode, SystemHost};
use larder_base::{ByteSize, ProjectName, SnapshotName};
use larder_storage_conformance::{Outcome, OwnTrial, World};
use larder_storage_driver::{
    Config, Content, ErrorKind, Mode, Place, Result, VolumeId, VolumeKind, VolumeSpec,
};
use larder_storage_pool::{CopyPlan, CopySource, EmptyFill};
use libtest_mimic::Failed;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// What a trial does.
pub(super) type Run = fn() -> Outcome;

/// All trials.
pub(crate) fn all() -> Vec<OwnTrial> {
    let own: Vec<(&str, Run)> = vec![
        ("an_image_goes_with_its_last_clone", an_image_goes_with_its_last_clone),
        ("copies_share_what_clone_copy_says", copies_share_what_clone_copy_says),
        ("a_copy_made_since_refuses_a_restore", a_copy_made_since_refuses_a_restore),
        ("younger_snapshots_go_only_if_they_may", younger_snapshots_go_only_if_they_may),
        ("sizes_are_enforced", sizes_are_enforced),
        ("keys_become_properties", keys_become_properties),
        ("block_mode_keeps_files_on_a_zvol", block_mode_keeps_files_on_a_zvol),
        ("an_attach_that_fails_half_way_leaves_nothing", an_attach_that_fails_half_way),
        ("a_delegated_dataset_is_the_namespaces", a_delegated_dataset_is_the_namespaces),
        ("what_zfs_cannot_spell_is_refused", what_zfs_cannot_spell_is_refused),
        ("what_is_busy_for_a_moment_is_waited_for", what_is_busy_for_a_moment_is_waited_for),
    ];
    let trial = |(name, run): (&str, Run)| {
        OwnTrial::new(format!("zfs::own::{name}"), move || {
            run().map_err(|error| Failed::from(chain(error.as_ref())))
        })
    };
    let others = super::zfs_pools::TRIALS.iter().chain(super::zfs_streams::TRIALS);
    own.into_iter().chain(others.copied()).map(trial).collect()
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

pub(super) fn folder() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("larder-zfs-").tempdir_in("/dev/shm")
}

pub(super) fn lab(keys: &[(&str, &str)]) -> std::result::Result<ZfsLab, Box<dyn std::error::Error>> {
    Ok(ZfsLab::new(folder()?, keys)?)
}

pub(super) fn volume(kind: VolumeKind, content: Content, name: &str) -> Result<VolumeId> {
    Ok(VolumeId { kind, content, project: ProjectName::default_project(), name: name.parse()? })
}

pub(super) fn custom(name: &str) -> Result<VolumeId> {
    volume(VolumeKind::Custom, Content::Filesystem, name)
}

pub(super) fn spec(volume: &VolumeId, keys: &[(&str, &str)]) -> VolumeSpec {
    let config = keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    VolumeSpec { config, ..VolumeSpec::new(volume.clone()) }
}

pub(super) fn ensure(holds: bool, what: impl Into<String>) -> Outcome {
    if holds { Ok(()) } else { Err(what.into().into()) }
}

pub(super) fn fails<T: std::fmt::Debug>(outcome: Result<T>, kind: ErrorKind, words: &str) -> Outcome {
    match outcome {
        Err(error) if error.kind() == kind && error.chain().contains(words) => Ok(()),
        other => {
            let found = other.map_err(|error| (error.kind(), error.chain()));
            Err(format!("expected {kind:?} with {words:?}: {found:?}").into())
        }
    }
}

pub(super) fn property(name: &str, dataset: &str) -> std::result::Result<String, String> {
    Ok(run("zfs", &["get", "-Hp", "-o", "value", name, dataset])?.trim_end().to_owned())
}

fn copy(world: &World, from: &VolumeId, to: &VolumeId) -> Result<()> {
    let source = CopySource { pool: world.pool(), volume: from, snapshot: None };
    let plan = CopyPlan { spec: &VolumeSpec::new(to.clone()), snapshots: &[] };
    world.pool().copy_volume(&world.cx(&SystemHost), source, &plan)
}

fn delete(world: &World, volume: &VolumeId) -> Result<()> {
    world.delete(&world.cx(&SystemHost), &Place::live(volume))
}

fn an_image_goes_with_its_last_clone() -> Outcome {
    let lab = lab(&[])?;
    let world = World::fresh(&lab, 1)?;
    let hidden =
        || run("zfs", &["list", "-H", "-r", "-d", "1", "-o", "name", &format!("{}/.larder", lab.dataset(0))]);
    for content in [Content::Filesystem, Content::Block] {
        let image = volume(VolumeKind::Image, content, "0123abcd")?;
        let kind = if content == Content::Block { VolumeKind::VirtualMachine } else { VolumeKind::Container };
        let (one, other) = (volume(kind, content, "c1")?, volume(kind, content, "c2")?);
        world.pool().create_volume(
            &world.cx(&SystemHost),
            &VolumeSpec::new(image.clone()).with_size(ByteSize::from_mebibytes(8)),
            &EmptyFill,
        )?;
        world.write(&image, "image")?;
        copy(&world, &image, &one)?;
        copy(&world, &image, &other)?;
        world.write(&one, "changed")?;
        delete(&world, &image)?;
        ensure(
            !world.pool().places(&world.cx(&SystemHost))?.contains(&Place::live(&image)),
            "the image is told",
        )?;
        // The same image again, beside the one that is gone.
        world.make(&image, "again")?;
        ensure(world.read(&other)? == "image" && world.read(&one)? == "changed", "a clone lost its content")?;
        delete(&world, &one)?;
        ensure(hidden()?.contains("gone."), "the image went before its last clone")?;
        delete(&world, &other)?;
        delete(&world, &image)?;
        ensure(hidden()?.lines().count() == 1, format!("left: {}", hidden()?))?;
    }
    Ok(())
}

fn copies_share_what_clone_copy_says() -> Outcome {
    for (clone_copy, shares_with) in
        [("true", "containers/c1@copy-"), ("false", "-"), ("rebase", "images/0123abcd@readonly")]
    {
        let lab = lab(&[("zfs.clone_copy", clone_copy)])?;
        let world = World::fresh(&lab, 1)?;
        let image = volume(VolumeKind::Image, Content::Filesystem, "0123abcd")?;
        let root = |name| volume(VolumeKind::Container, Content::Filesystem, name);
        world.make(&image, "image")?;
        copy(&world, &image, &root("c1")?)?;
        world.write(&root("c1")?, "changed")?;
        copy(&world, &root("c1")?, &root("c2")?)?;
        ensure(world.read(&root("c2")?)? == "changed", "the copy's content")?;
        let origin = property("origin", &format!("{}/containers/c2", lab.dataset(0)))?;
        ensure(origin.contains(shares_with), format!("zfs.clone_copy={clone_copy}: the origin is {origin}"))?;
        let disk = volume(VolumeKind::Custom, Content::Block, "disk")?;
        world.make(&disk, "disk")?;
        copy(&world, &disk, &volume(VolumeKind::Custom, Content::Block, "copy")?)?;
        ensure(
            world.read(&volume(VolumeKind::Custom, Content::Block, "copy")?)? == "disk",
            "the disk's copy",
        )?;
        let places = world.pool().places(&world.cx(&SystemHost))?;
        ensure(
            places.iter().all(|place| place.is_live() && place.snapshot.is_none()),
            format!("{places:?}"),
        )?;
        let snapshots = run("zfs", &["list", "-H", "-r", "-t", "snapshot", "-o", "name", &lab.dataset(0)])?;
        let copies = snapshots.lines().filter(|name| name.contains("@copy-")).count();
        ensure(copies == if clone_copy == "true" { 2 } else { 0 }, snapshots)?;
    }
    Ok(())
}

fn snapshot(world: &World, volume: &VolumeId, name: &str) -> Result<SnapshotName> {
    let name: SnapshotName = name.parse()?;
    world.snapshot(&world.cx(&SystemHost), volume, &name)?;
    Ok(name)
}

fn a_copy_made_since_refuses_a_restore() -> Outcome {
    let lab = lab(&[])?;
    let world = World::fresh(&lab, 1)?;
    let (source, clone) = (custom("v1")?, custom("v2")?);
    world.make(&source, "past")?;
    let name = snapshot(&world, &source, "s0")?;
    world.write(&source, "now")?;
    copy(&world, &source, &clone)?;
    let host = FaultHost::counting(Arc::new(SystemHost));
    fails(world.restore(&world.cx(&host), &source, &name, true), ErrorKind::InUse, "custom/default_v2")?;
    ensure(host.changing_steps().is_empty(), "something was changed")?;
    delete(&world, &clone)?;
    world.restore(&world.cx(&SystemHost), &source, &name, true)?;
    ensure(world.read(&source)? == "past", "the past")
}

fn younger_snapshots_go_only_if_they_may() -> Outcome {
    let lab = lab(&[])?;
    let world = World::fresh(&lab, 1)?;
    let cx = world.cx(&SystemHost);
    let volume = custom("v1")?;
    let live = Place::live(&volume);
    world.make(&volume, "older")?;
    let older = snapshot(&world, &volume, "older")?;
    world.write(&volume, "newer")?;
    let newer = snapshot(&world, &volume, "newer")?;
    let driver = world.pool().driver();
    let may = Config::from([("zfs.remove_snapshots".to_owned(), "true".to_owned())]);
    ensure(!driver.may_remove_younger(&cx, &live, &older, &Config::new())?, "without the key")?;
    ensure(driver.may_remove_younger(&cx, &live, &older, &may)?, "with the key")?;
    let older_refused = driver.restore(&cx, &live, &older);
    ensure(
        matches!(older_refused, Err(ref error) if error.to_string().contains("newer")),
        format!("{older_refused:?}"),
    )?;
    let source = CopySource { pool: world.pool(), volume: &volume, snapshot: Some(&newer) };
    let plan = CopyPlan { spec: &VolumeSpec::new(custom("v2")?), snapshots: &[] };
    world.pool().copy_volume(&cx, source, &plan)?;
    fails(driver.may_remove_younger(&cx, &live, &older, &may), ErrorKind::InUse, "default_v2")?;
    delete(&world, &custom("v2")?)?;
    world.delete(&cx, &live.at_snapshot(&newer))?;
    world.restore(&cx, &volume, &older, true)?;
    ensure(world.read(&volume)? == "older", "the older content")
}

/// Writes some bytes that can't be compressed; what a full quota says may come at the sync.
fn write_bytes(
    world: &World,
    volume: &VolumeId,
    mebibytes: usize,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let cx = world.cx(&SystemHost);
    let attached = world.pool().attach(&cx, volume, Mode::ReadWrite)?;
    let mut seed = 1_u64;
    let bytes: Vec<u8> = (0..mebibytes << 17)
        .flat_map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed.to_le_bytes()
        })
        .collect();
    let path = attached.directory()?.join("bytes");
    let written = fs::write(&path, &bytes).and_then(|()| fs::File::open(&path)?.sync_all());
    world.pool().detach(&cx, volume)?;
    run("zpool", &["sync"])?;
    Ok(written?)
}

fn sizes_are_enforced() -> Outcome {
    let lab = lab(&[])?;
    let world = World::fresh(&lab, 1)?;
    let cx = world.cx(&SystemHost);
    let mebibytes = ByteSize::from_mebibytes;
    for (name, keys, quota) in [
        ("v1", &[][..], "quota"),
        ("v2", &[("zfs.use_refquota", "true")], "refquota"),
        ("v3", &[("zfs.reserve_space", "true"), ("zfs.use_refquota", "true")], "refquota"),
    ] {
        let volume = custom(name)?;
        let dataset = format!("{}/custom/default_{name}", lab.dataset(0));
        world.pool().create_volume(&cx, &spec(&volume, keys).with_size(mebibytes(10)), &EmptyFill)?;
        ensure(property(quota, &dataset)? == "10485760", "the quota")?;
        let reserved = if keys.len() == 2 { "10485760" } else { "0" };
        ensure(property("refreservation", &dataset)?.replace("none", "0") == reserved, "the reservation")?;
        ensure(write_bytes(&world, &volume, 20).is_err(), "more was written than the size")?;
        world.pool().resize(&cx, &volume, Some(mebibytes(10)), Some(mebibytes(40)))?;
        write_bytes(&world, &volume, 20)?;
        let usage = world.pool().volume_usage(&cx, &volume)?;
        ensure(usage.total_bytes == Some(40 << 20), format!("{usage:?}"))?;
        ensure(
            usage.used_bytes.is_some_and(|used| (20 << 20..30 << 20).contains(&used)),
            format!("{usage:?}"),
        )?;
        fails(
            world.pool().resize(&cx, &volume, Some(mebibytes(40)), Some(mebibytes(10))),
            ErrorKind::Invalid,
            "delete some of it first",
        )?;
        world.pool().resize(&cx, &volume, Some(mebibytes(40)), None)?;
        ensure(world.pool().volume_usage(&cx, &volume)?.total_bytes.is_none(), "the limit was not lifted")?;
    }
    Ok(())
}

fn keys_become_properties() -> Outcome {
    let lab = lab(&[])?;
    let world = World::fresh(&lab, 1)?;
    let cx = world.cx(&SystemHost);
    let (files, disk) = (custom("v1")?, volume(VolumeKind::Custom, Content::Block, "b1")?);
    let keys = [("zfs.blocksize", "64KiB"), ("initial.mode", "0750"), ("initial.uid", "7")];
    world.pool().create_volume(&cx, &spec(&files, &keys), &EmptyFill)?;
    let keys = [("zfs.blocksize", "32KiB"), ("zfs.reserve_space", "true")];
    world.pool().create_volume(
        &cx,
        &spec(&disk, &keys).with_size(ByteSize::from_bytes(40 << 10)),
        &EmptyFill,
    )?;
    for (name, of, value) in [
        ("recordsize", "default_v1", "65536"),
        ("mountpoint", "default_v1", "legacy"),
        ("volblocksize", "default_b1", "32768"),
        // In whole blocks.
        ("volsize", "default_b1", "65536"),
        ("volmode", "default_b1", "none"),
    ] {
        let found = property(name, &format!("{}/custom/{of}", lab.dataset(0)))?;
        ensure(found == value, format!("{name} of {of} is {found}"))?;
    }
    let reserved = |name: &str| property("refreservation", &format!("{}/custom/{name}", lab.dataset(0)));
    let set_aside = reserved("default_b1")?;
    ensure(set_aside != "none" && set_aside != "0", "no reservation")?;
    // A clone's is that of a new disk.
    let source = CopySource { pool: world.pool(), volume: &disk, snapshot: None };
    let copied = spec(&volume(VolumeKind::Custom, Content::Block, "b2")?, &keys);
    world.pool().copy_volume(&cx, source, &CopyPlan { spec: &copied, snapshots: &[] })?;
    let found = reserved("default_b2")?;
    ensure(found == set_aside, format!("{found} are set aside for a clone, {set_aside} for a new disk"))?;
    let origin = property("origin", &format!("{}/custom/default_b2", lab.dataset(0)))?;
    ensure(origin.contains("default_b1@"), "it is no clone")?;
    let attached = world.pool().attach(&cx, &files, Mode::ReadWrite)?;
    let found = fs::metadata(attached.directory()?)?;
    world.pool().detach(&cx, &files)?;
    use std::os::unix::fs::MetadataExt;
    ensure((found.mode() & 0o7777, found.uid()) == (0o750, 7), format!("{found:?}"))
}

fn block_mode_keeps_files_on_a_zvol() -> Outcome {
    for filesystem in ["ext4", "btrfs", "xfs"] {
        let lab = lab(&[])?;
        let world = World::fresh(&lab, 1)?;
        let outcome = on_a_zvol(&world, filesystem);
        outcome.map_err(|error| format!("{filesystem}: {}", chain(error.as_ref())))?;
        let places = world.pool().places(&world.cx(&SystemHost))?;
        ensure(places.is_empty(), format!("{filesystem}: left: {places:?}"))?;
    }
    Ok(())
}

fn on_a_zvol(world: &World, filesystem: &str) -> Outcome {
    let cx = world.cx(&SystemHost);
    let mebibytes = ByteSize::from_mebibytes;
    let keys = [("zfs.block_mode", "true"), ("block.filesystem", filesystem), ("initial.mode", "0750")];
    let files = custom("v1")?;
    let made = spec(&files, &keys).with_size(mebibytes(320));
    world.pool().create_volume(&cx, &made, &EmptyFill)?;
    world.write(&files, "past")?;
    // In use, and not written back by anybody.
    let attached = world.pool().attach(&cx, &files, Mode::ReadWrite)?;
    fs::write(attached.directory()?.join("folder/file"), "later")?;
    let name = snapshot(world, &files, "s0")?;
    ensure(fs::read_dir(attached.directory()?)?.count() == 1, "something of mkfs is left")?;
    ensure(world.read_snapshot(&files, &name)? == "later", "the snapshot, while both are mounted")?;
    world.pool().resize(&cx, &files, Some(mebibytes(320)), Some(mebibytes(400)))?;
    ensure(space_of(attached.directory()?)? > 330 << 20, "it did not grow in use")?;
    world.pool().detach(&cx, &files)?;
    world.write(&files, "now")?;
    world.pool().resize(&cx, &files, Some(mebibytes(400)), Some(mebibytes(480)))?;
    ensure(world.pool().volume_usage(&cx, &files)?.total_bytes == Some(480 << 20), "the size")?;
    let smaller = world.pool().resize(&cx, &files, Some(mebibytes(480)), Some(mebibytes(360)));
    match filesystem {
        "xfs" => ensure(
            matches!(&smaller, Err(error) if matches!(error.kind(), ErrorKind::Unsupported(_))),
            format!("{smaller:?}"),
        )?,
        _ => smaller?,
    }
    ensure(world.read(&files)? == "now", "the content after all that")?;
    // A clone is a volume of its own: both are used at once. Into a dataset the files are copied.
    let clone_spec = VolumeSpec { id: custom("v2")?, ..made }.with_size(mebibytes(480));
    let source = CopySource { pool: world.pool(), volume: &files, snapshot: None };
    world
        .pool()
        .copy_volume(&cx, source, &CopyPlan { spec: &clone_spec, snapshots: &[] })
        .map_err(|error| error.chain())?;
    copy(world, &files, &custom("v3")?)?;
    world.pool().attach(&cx, &files, Mode::ReadWrite)?;
    for name in ["v2", "v3"] {
        ensure(world.read(&custom(name)?)? == "now", format!("the copy {name}"))?;
    }
    world.pool().detach(&cx, &files)?;
    delete(world, &custom("v2")?)?;
    world.restore(&cx, &files, &name, true)?;
    ensure(world.read(&files)? == "later", "the past")?;
    delete(world, &files)?;
    Ok(delete(world, &custom("v3")?)?)
}

/// A snapshot of files on a zvol is read through a clone of it, and a machine's has a disk beside the files: each step of both fails.
fn an_attach_that_fails_half_way() -> Outcome {
    let lab = lab(&[])?;
    let world = World::fresh(&lab, 1)?;
    let cx = world.cx(&SystemHost);
    let files = spec(&custom("v1")?, &[("zfs.block_mode", "true")]).with_size(ByteSize::from_mebibytes(64));
    let machine = spec(&volume(VolumeKind::VirtualMachine, Content::Block, "m1")?, &[]);
    let machine = machine.with_size(ByteSize::from_mebibytes(8));
    for made in [files, machine] {
        world.pool().create_volume(&cx, &made, &EmptyFill)?;
        let name = snapshot(&world, &made.id, "s0")?;
        for mode in [FaultMode::Refuse, FaultMode::ActThenFail] {
            let faults = (0..).map(|step| FaultHost::with_fault(Arc::new(SystemHost), Fault { step, mode }));
            for host in faults {
                let attached = world.pool().attach_snapshot(&world.cx(&host), &made.id, &name);
                // That it is no dataset is found out by a mount that fails.
                if attached.is_ok() {
                    world.pool().detach_snapshot(&cx, &made.id, &name)?;
                }
                let steps = host.changing_steps().join(", ");
                nothing_is_attached(&lab).map_err(|error| format!("{error} after {steps} ({mode:?})"))?;
                if !host.was_hit() {
                    break;
                }
            }
        }
        delete(&world, &made.id)?;
    }
    Ok(())
}

fn nothing_is_attached(lab: &ZfsLab) -> Outcome {
    let views = run("zfs", &["list", "-H", "-r", "-o", "name", &format!("{}/.larder", lab.dataset(0))])?;
    ensure(!views.contains("/view."), format!("left: {views}"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let folder = lab.folder().to_string_lossy().into_owned();
    let is_left = |line: &&str| line.contains(&format!(" {folder}/"));
    let left: Vec<&str> = mounts.lines().filter(is_left).collect();
    ensure(left.is_empty(), format!("mounted: {left:?}"))
}

/// The bytes of a mounted filesystem.
fn space_of(folder: &Path) -> std::io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_blocks * found.f_frsize)
}

fn a_delegated_dataset_is_the_namespaces() -> Outcome {
    let lab = lab(&[])?;
    let world = World::fresh(&lab, 1)?;
    let cx = world.cx(&SystemHost);
    let (theirs, other) = (custom("v1")?, custom("v2")?);
    world.make(&theirs, "theirs")?;
    world.make(&other, "other")?;
    #[expect(clippy::disallowed_methods, reason = "the test plays a container")]
    let mut container = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sleep", "100"])
        .spawn()?;
    let namespace = format!("/proc/{}/ns/user", container.id());
    let inside = |arguments: &[&str]| {
        run("nsenter", &[&["-t", &container.id().to_string(), "-U", "-m", "zfs"], arguments].concat())
    };
    // The namespace is there a moment after its process.
    let own = fs::read_link("/proc/self/ns/user")?;
    while fs::read_link(&namespace)? == own {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    for (volume, delegate) in [(&theirs, "true"), (&other, "false"), (&theirs, "true")] {
        let config = Config::from([("zfs.delegate".to_owned(), delegate.to_owned())]);
        world.pool().driver().delegate(&cx, &Place::live(volume), &config, Path::new(&namespace))?;
    }
    let dataset = format!("{}/custom/default_v1", lab.dataset(0));
    let seen = inside(&["list", "-H", "-o", "name"]);
    let made = inside(&["create", "-o", "canmount=off", &format!("{dataset}/child")]);
    container.kill()?;
    container.wait()?;
    ensure(
        seen.as_ref().is_ok_and(|seen| seen.contains(&dataset) && !seen.contains("default_v2")),
        format!("{seen:?}"),
    )?;
    made?;
    // It goes on as any other, with what was made below it.
    world.rename(&cx, &theirs, &custom("v3")?)?;
    ensure(world.pool().places(&cx)?.len() == 2, "the child is no volume")?;
    Ok(world.delete(&cx, &Place::live(&custom("v3")?))?)
}

fn what_zfs_cannot_spell_is_refused() -> Outcome {
    let lab = lab(&[])?;
    let world = World::fresh(&lab, 1)?;
    let host = FaultHost::counting(Arc::new(SystemHost));
    let cx = world.cx(&host);
    let create = |spec: &VolumeSpec| world.pool().create_volume(&cx, spec, &EmptyFill);
    fails(create(&spec(&custom("v@1")?, &[])), ErrorKind::Invalid, "'@'")?;
    fails(create(&spec(&custom("v1")?, &[("zfs.blocksize", "3KiB")])), ErrorKind::Invalid, "power of two")?;
    fails(
        create(&spec(&custom("v1")?, &[("zfs.clone_copy", "true")])),
        ErrorKind::Invalid,
        "zfs.clone_copy",
    )?;
    ensure(host.changing_steps().is_empty(), format!("{:?}", host.changing_steps()))?;
    let long = VolumeId { project: "p".repeat(60).parse()?, ..custom(&"v".repeat(64))? };
    world.make(&long, "text")?;
    fails(snapshot(&world, &long, &"s".repeat(64)), ErrorKind::Invalid, "shorter by")?;
    snapshot(&world, &long, "s").map(drop)?;
    Ok(world.delete(&world.cx(&SystemHost), &Place::live(&long))?)
}

fn what_is_busy_for_a_moment_is_waited_for() -> Outcome {
    let lab = lab(&[])?;
    let world = World::fresh(&lab, 1)?;
    let cx = world.cx(&SystemHost);
    let volume = custom("v1")?;
    world.make(&volume, "text")?;
    let attached = world.pool().attach(&cx, &volume, Mode::ReadWrite)?;
    let open = fs::File::open(attached.directory()?.join("folder/file"))?;
    world.pool().detach(&cx, &volume)?;
    let closer = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(1500));
        drop(open);
    });
    delete(&world, &volume)?;
    closer.join().map_err(|_| "the closer panicked")?;
    ensure(world.pool().places(&cx)?.is_empty(), "what is left")
}
