//! Volumes between two zpools: that nothing is copied file by file, and no more is sent than what changed.

use super::between::{Side, go_across};
use super::btrfs::cx;
use super::streams::{CHANGED, HELD, a_stopped_copy, copy, count, name, refresh};
use super::zfs::{ZfsLab, run};
use super::zfs_trials::{Run, custom, ensure, lab, property, spec, volume};
use larder_base::ByteSize;
use larder_storage_conformance::Outcome;
use larder_storage_driver::{Content, Mode, Place, VolumeId, VolumeKind, VolumeSpec};
use larder_storage_pool::{EmptyFill, Locks};
use std::ops::Deref;

/// All trials.
pub(super) const TRIALS: &[(&str, Run)] = &[
    ("volumes_go_from_zpool_to_zpool", volumes_go_from_zpool_to_zpool),
    ("a_refresh_sends_only_what_changed", a_refresh_sends_only_what_changed),
    ("a_copy_that_is_stopped_leaves_nothing", a_copy_that_is_stopped_leaves_nothing),
    ("what_is_received_is_mounted_by_nobody_else", what_is_received_is_mounted_by_nobody_else),
    ("block_mode_goes_by_a_stream", block_mode_goes_by_a_stream),
    ("what_no_stream_can_make_is_copied_by_files", what_no_stream_can_make_is_copied_by_files),
];

/// A zpool with one pool on it.
struct OnZpool {
    side: Side,
    dataset: String,
    _lab: ZfsLab,
}

impl Deref for OnZpool {
    type Target = Side;

    fn deref(&self) -> &Side {
        &self.side
    }
}

/// Two zpools, each with a pool.
fn two_sides() -> Result<[OnZpool; 2], Box<dyn std::error::Error>> {
    let locks = Locks::new();
    let side = |name: &str| -> Result<OnZpool, Box<dyn std::error::Error>> {
        let lab = lab(&[])?;
        Ok(OnZpool { side: Side::new(&lab, name, &locks)?, dataset: lab.dataset(0), _lab: lab })
    };
    Ok([side("one")?, side("other")?])
}

impl OnZpool {
    /// Bytes in use on the zpool.
    fn used(&self) -> Result<u64, Box<dyn std::error::Error>> {
        run("zpool", &["sync"])?;
        Ok(property("used", &self.dataset)?.parse()?)
    }
}

fn volumes_go_from_zpool_to_zpool() -> Outcome {
    for content in [Content::Filesystem, Content::Block] {
        go_across(&lab(&[])?, &lab(&[])?, content)?;
    }
    Ok(())
}

fn a_refresh_sends_only_what_changed() -> Outcome {
    let [one, other] = two_sides()?;
    let (source, target) = (custom("v1")?, custom("copy")?);
    one.pool.create_volume(&cx(), &VolumeSpec::new(source.clone()), &EmptyFill)?;
    one.write(&source, "held", HELD)?;
    one.snapshot(&source, "s0")?;
    let spec = VolumeSpec::new(target.clone());
    let host = copy(&one, &source, &other, &spec, &["s0"])?;
    ensure(count(&host, "zfs receive") == 2, format!("the copy: {:?}", host.changing_steps()))?;
    other.snapshot(&target, "own")?;

    one.write(&source, "changed", CHANGED)?;
    one.snapshot(&source, "s1")?;
    let live = Place::live(&source);
    let (old, new) = (live.at_snapshot(&name("s0")?), live.at_snapshot(&name("s1")?));
    let (whole, part) = (one.sent(&new, None)?, one.sent(&new, Some(&old))?);
    ensure(whole > HELD && part < 2 * CHANGED, format!("{whole} bytes in all, {part} of what changed"))?;
    let before = other.used()?;
    let host = refresh(&one, &source, &other, &spec, &[("s0", false), ("s1", true)])?;
    let steps = host.changing_steps();
    ensure(count(&host, "zfs receive") == 2 && count(&host, "zfs promote") == 1, format!("{steps:?}"))?;
    let is_by_file = |step: &String| step.starts_with("mount ");
    ensure(!steps.iter().any(is_by_file), format!("something was copied file by file: {steps:?}"))?;
    let written = other.used()?.saturating_sub(before);
    ensure(written < 2 * CHANGED, format!("{written} bytes more than before the refresh"))?;
    for file in ["held", "changed"] {
        ensure(one.read(&source, file)? == other.read(&target, file)?, format!("{file} differs"))?;
    }
    let places = other.pool.places(&cx())?;
    let target = Place::live(&target);
    let wanted = [target.clone(), target.at_snapshot(&name("s0")?), target.at_snapshot(&name("s1")?)];
    ensure(places == wanted, format!("{places:?}"))?;
    // The next one builds on what this one left.
    one.write(&source, "changed", CHANGED)?;
    let host = refresh(&one, &source, &other, &spec, &[("s0", false), ("s1", false)])?;
    ensure(count(&host, "zfs receive") == 1, format!("{:?}", host.changing_steps()))?;
    ensure(one.read(&source, "changed")? == other.read(&spec.id, "changed")?, "the second refresh")
}

fn a_copy_that_is_stopped_leaves_nothing() -> Outcome {
    let [one, other] = two_sides()?;
    let ours = format!("{}/.larder", other.dataset);
    a_stopped_copy(&one, &other, &VolumeSpec::new(custom("v1")?), || {
        run("zfs", &["list", "-Hr", "-d", "1", "-o", "name", &ours]).is_ok_and(|all| all.contains("staging."))
    })?;
    for side in [&one, &other] {
        let all = run("zfs", &["list", "-Hr", "-t", "all", "-o", "name", &side.dataset])?;
        let left = all
            .lines()
            .find(|line| line.contains("staging.") || line.contains("trash.") || line.contains("copy"));
        ensure(left.is_none(), format!("left behind: {left:?}"))?;
    }
    Ok(())
}

fn what_is_received_is_mounted_by_nobody_else() -> Outcome {
    let [one, other] = two_sides()?;
    let source = custom("v1")?;
    one.pool.create_volume(&cx(), &VolumeSpec::new(source.clone()), &EmptyFill)?;
    let dataset = format!("{}/custom/default_v1", one.dataset);
    run("zfs", &["set", "mountpoint=/foreign", "canmount=noauto", "exec=off", "foreign:key=1", &dataset])?;
    one.pool.snapshot(&cx(), &source, &name("s0")?)?;
    let wanted =
        spec(&custom("copy")?, &[("zfs.blocksize", "64KiB")]).with_size(ByteSize::from_mebibytes(64));
    copy(&one, &source, &other, &VolumeSpec { size: None, ..wanted.clone() }, &["s0"])?;
    let copied = format!("{}/custom/default_copy", other.dataset);
    for (key, value) in [
        ("mountpoint", "legacy"),
        ("canmount", "noauto"),
        ("exec", "on"),
        ("foreign:key", "-"),
        ("recordsize", "65536"),
        ("larder:content_type", "filesystem"),
    ] {
        let found = property(key, &copied)?;
        ensure(found == value, format!("{key} is {found}"))?;
    }
    Ok(())
}

fn block_mode_goes_by_a_stream() -> Outcome {
    for filesystem in ["ext4", "xfs"] {
        let [one, other] = two_sides()?;
        let source = custom("v1")?;
        let keys = [("zfs.block_mode", "true"), ("block.filesystem", filesystem)];
        let sized = |id: &VolumeId| spec(id, &keys).with_size(ByteSize::from_mebibytes(320));
        one.pool.create_volume(&cx(), &sized(&source), &EmptyFill)?;
        one.write(&source, "file", CHANGED)?;
        one.snapshot(&source, "s0")?;
        let wanted = sized(&custom("copy")?);
        let host = copy(&one, &source, &other, &wanted, &["s0"])?;
        ensure(count(&host, "zfs receive") == 2, format!("{filesystem}: {:?}", host.changing_steps()))?;
        one.write(&source, "file", CHANGED)?;
        let host = refresh(&one, &source, &other, &wanted, &[("s0", false)])?;
        ensure(count(&host, "zfs receive") == 1, format!("{filesystem}: {:?}", host.changing_steps()))?;
        // Both are used at once.
        one.pool.attach(&cx(), &source, Mode::ReadOnly)?;
        let read = other.read(&wanted.id, "file");
        one.pool.detach(&cx(), &source)?;
        ensure(read? == one.read(&source, "file")?, format!("{filesystem}: the file differs"))?;
    }
    Ok(())
}

fn what_no_stream_can_make_is_copied_by_files() -> Outcome {
    let [one, other] = two_sides()?;
    let (tree, disk) = (custom("v1")?, volume(VolumeKind::Custom, Content::Block, "b1")?);
    let small = ByteSize::from_mebibytes(8);
    one.pool.create_volume(&cx(), &VolumeSpec::new(tree.clone()), &EmptyFill)?;
    one.write(&tree, "file", CHANGED)?;
    one.pool.create_volume(&cx(), &VolumeSpec::new(disk.clone()).with_size(small), &EmptyFill)?;
    // A tree becomes a zvol with a filesystem, a zvol gets other blocks.
    let wanted =
        spec(&custom("copy")?, &[("zfs.block_mode", "true")]).with_size(ByteSize::from_mebibytes(320));
    copy(&one, &tree, &other, &wanted, &[])?;
    ensure(one.read(&tree, "file")? == other.read(&wanted.id, "file")?, "the file differs")?;
    let wanted = spec(&disk, &[("zfs.blocksize", "32KiB")]).with_size(small);
    copy(&one, &disk, &other, &wanted, &[])?;
    let found = property("volblocksize", &format!("{}/custom/default_b1", other.dataset))?;
    ensure(found == "32768", format!("volblocksize is {found}"))?;
    // Room for what is sent, but not for the snapshot that nobody wants while it comes along.
    one.snapshot(&tree, "s0")?;
    let wanted = VolumeSpec::new(custom("tight")?).with_size(small);
    let unlimited = VolumeSpec { size: None, ..wanted.clone() };
    copy(&one, &tree, &other, &unlimited, &["s0"])?;
    other.write(&wanted.id, "own", 7 << 20)?;
    other.snapshot(&wanted.id, "own")?;
    one.pool.resize(&cx(), &tree, None, Some(small))?;
    let host = refresh(&one, &tree, &other, &wanted, &[("s0", false)])?;
    ensure(count(&host, "zfs promote") == 0, format!("{:?}", host.changing_steps()))?;
    ensure(one.read(&tree, "file")? == other.read(&wanted.id, "file")?, "the file differs")
}
