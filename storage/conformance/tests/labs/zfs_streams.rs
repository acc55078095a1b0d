//! Volumes between two zpools: that nothing is copied file by file, and no more is sent than what changed.

use super::between::go_across;
use super::btrfs::cx_over;
use super::zfs::{ZfsLab, run};
use super::zfs_trials::{Run, custom, ensure, lab, property, spec, volume};
use larder_base::host::{FaultHost, SystemHost};
use larder_base::{ByteSize, Cancel, SnapshotName};
use larder_storage_conformance::{Bench, Lab, Outcome};
use larder_storage_driver::{Content, Cx, ErrorKind, Mode, Place, Result, VolumeId, VolumeKind, VolumeSpec};
use larder_storage_pool::{CopyPlan, CopySource, EmptyFill, Locks, Pool, RefreshPlan, RefreshedSnapshot};
use std::fs;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

/// All trials.
pub(super) const TRIALS: &[(&str, Run)] = &[
    ("volumes_go_from_zpool_to_zpool", volumes_go_from_zpool_to_zpool),
    ("a_refresh_sends_only_what_changed", a_refresh_sends_only_what_changed),
    ("a_copy_that_is_stopped_leaves_nothing", a_copy_that_is_stopped_leaves_nothing),
    ("what_is_received_is_mounted_by_nobody_else", what_is_received_is_mounted_by_nobody_else),
    ("block_mode_goes_by_a_stream", block_mode_goes_by_a_stream),
    ("what_no_stream_can_make_is_copied_by_files", what_no_stream_can_make_is_copied_by_files),
];

/// What a tree holds, and what of it changes: neither can be made smaller.
const HELD: u64 = 24 << 20;
const CHANGED: u64 = 1 << 20;

/// A zpool with one pool on it.
struct Side {
    pool: Pool,
    dataset: String,
    _bench: Box<dyn Bench>,
    _lab: ZfsLab,
}

/// Two zpools, each with a pool.
fn two_sides() -> Result<[Side; 2], Box<dyn std::error::Error>> {
    let locks = Locks::new();
    let side = |name: &str| -> Result<Side, Box<dyn std::error::Error>> {
        let lab = lab(&[])?;
        let (bench, dataset) = (lab.bench()?, lab.dataset(0));
        let pool = Pool::create(&cx(), name.parse()?, bench.driver()?, Arc::clone(&locks))?;
        Ok(Side { pool, dataset, _bench: bench, _lab: lab })
    };
    Ok([side("one")?, side("other")?])
}

fn cx() -> Cx<'static> {
    cx_over(&SystemHost)
}

fn name(text: &str) -> Result<SnapshotName> {
    Ok(text.parse()?)
}

impl Side {
    /// Writes bytes that can't be made smaller to a file of a volume.
    fn write(&self, volume: &VolumeId, file: &str, bytes: u64) -> Outcome {
        let attached = self.pool.attach(&cx(), volume, Mode::ReadWrite)?;
        let written = random(&attached.directory()?.join(file), bytes);
        self.pool.detach(&cx(), volume)?;
        Ok(written?)
    }

    fn read(&self, volume: &VolumeId, file: &str) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let attached = self.pool.attach(&cx(), volume, Mode::ReadOnly)?;
        let read = fs::read(attached.directory()?.join(file));
        self.pool.detach(&cx(), volume)?;
        Ok(read?)
    }

    fn snapshot(&self, volume: &VolumeId, text: &str) -> Outcome {
        Ok(self.pool.snapshot(&cx(), volume, &name(text)?)?)
    }

    /// Bytes in use on the zpool.
    fn used(&self) -> Result<u64, Box<dyn std::error::Error>> {
        run("zpool", &["sync"])?;
        Ok(property("used", &self.dataset)?.parse()?)
    }

    /// How many bytes a stream of a snapshot has.
    fn sent(&self, of: &Place, base: Option<&Place>) -> Result<u64, Box<dyn std::error::Error>> {
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

fn copy(
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

fn refresh(
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
fn count(host: &FaultHost, words: &str) -> usize {
    host.changing_steps().iter().filter(|step| step.contains(words)).count()
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
    let source = custom("v1")?;
    one.pool.create_volume(&cx(), &VolumeSpec::new(source.clone()), &EmptyFill)?;
    one.write(&source, "held", 4 * HELD)?;
    let cancel = Cancel::new();
    let cx_of = |cancel: Cancel| {
        let cx = cx();
        Cx::new(cx.host(), cx.progress().clone(), cancel, cx.ticket().clone())
    };
    let ours = format!("{}/.larder", other.dataset);
    let stopped = std::thread::scope(|scope| {
        let copying = scope.spawn(|| {
            let plan = CopyPlan { spec: &VolumeSpec::new(custom("copy")?), snapshots: &[] };
            let from = CopySource { pool: &one.pool, volume: &source, snapshot: None };
            other.pool.copy_volume(&cx_of(cancel.clone()), from, &plan)
        });
        // As soon as anything arrives.
        let has_begun = || {
            run("zfs", &["list", "-Hr", "-d", "1", "-o", "name", &ours])
                .is_ok_and(|all| all.contains("staging."))
        };
        while !has_begun() && !copying.is_finished() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        cancel.cancel();
        copying.join()
    });
    let stopped = stopped.map_err(|_| "the copy panicked")?;
    let kind = stopped.as_ref().err().map(larder_storage_driver::StorageError::kind);
    ensure(kind == Some(ErrorKind::Cancelled), format!("{stopped:?}"))?;
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
