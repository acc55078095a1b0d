//! Volumes between two pools of ceph: that nothing is copied file by file, and no more is sent than what changed.

use super::between::{Side, go_across};
use super::btrfs::cx;
use super::ceph::CephLab;
use super::lvm::output;
use super::machine::same;
use super::streams::{CHANGED, HELD, a_stopped_copy, copy, count, name, refresh};
use super::zfs_trials::{custom, ensure, spec};
use larder_base::ByteSize;
use larder_base::host::FaultHost;
use larder_storage_conformance::{Outcome, OwnTrial};
use larder_storage_driver::{Content, Mode, Place, VolumeId, VolumeSpec};
use larder_storage_pool::{EmptyFill, Locks};
use libtest_mimic::Failed;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Run = fn() -> Outcome;
type Found<T> = Result<T, Box<dyn std::error::Error>>;

/// All trials.
pub(super) fn all() -> Vec<OwnTrial> {
    let trials: [(&str, Run); 6] = [
        ("volumes_go_from_pool_to_pool", volumes_go_from_pool_to_pool),
        ("a_refresh_sends_only_what_changed", a_refresh_sends_only_what_changed),
        ("a_copy_that_is_stopped_leaves_nothing", a_copy_that_is_stopped_leaves_nothing),
        ("a_copy_has_what_its_pool_wants_and_is_used_beside_its_source", a_copy_has_what_its_pool_wants),
        ("another_filesystem_is_copied_by_files", another_filesystem_is_copied_by_files),
        ("what_a_killed_program_had_open_goes", what_a_killed_program_had_open_goes),
    ];
    let trial = |(name, run): (&str, Run)| {
        OwnTrial::new(format!("ceph::own::{name}"), move || {
            run().map_err(|error| Failed::from(super::ceph_trials::chain(error.as_ref())))
        })
    };
    trials.into_iter().map(trial).collect()
}

/// Labs with the defaults, and with what else the kernel can.
fn labs() -> Result<[CephLab; 2], String> {
    Ok([CephLab::named("ceph")?, CephLab::named("ceph_xfs")?])
}

/// Two pools in namespaces of their own.
fn two_sides(one: &CephLab, other: &CephLab) -> Found<[Side; 2]> {
    let locks = Locks::new();
    Ok([Side::new(one, "one", &locks)?, Side::new(other, "other", &locks)?])
}

/// Whether nothing that was done was a mount, which copying files needs.
fn is_native(host: &FaultHost) -> bool {
    count(host, "import-diff") > 0 && !host.changing_steps().iter().any(|step| step.starts_with("mount "))
}

fn home(side: &Side) -> String {
    side.pool.driver().recorded_config().get("source").cloned().unwrap_or_default()
}

fn volumes_go_from_pool_to_pool() -> Outcome {
    let [lab, _] = labs()?;
    for content in [Content::Filesystem, Content::Block] {
        go_across(&lab, &lab, content)?;
    }
    Ok(())
}

fn a_refresh_sends_only_what_changed() -> Outcome {
    let [lab, _] = labs()?;
    let [one, other] = two_sides(&lab, &lab)?;
    let (source, target) = (custom("v1")?, custom("copy")?);
    one.pool.create_volume(&cx(), &VolumeSpec::new(source.clone()), &EmptyFill)?;
    one.write(&source, "held", HELD)?;
    one.snapshot(&source, "s0")?;
    let spec = VolumeSpec::new(target.clone());
    let host = copy(&one, &source, &other, &spec, &["s0"])?;
    ensure(is_native(&host), format!("the copy: {:?}", host.changing_steps()))?;
    other.snapshot(&target, "own")?;

    one.write(&source, "changed", CHANGED)?;
    one.snapshot(&source, "s1")?;
    let live = Place::live(&source);
    let (old, new) = (live.at_snapshot(&name("s0")?), live.at_snapshot(&name("s1")?));
    let (whole, part) = (one.sent(&new, None)?, one.sent(&new, Some(&old))?);
    ensure(whole > HELD && part < 4 * CHANGED, format!("{whole} bytes in all, {part} of what changed"))?;
    let host = refresh(&one, &source, &other, &spec, &[("s0", false), ("s1", true)])?;
    let steps = host.changing_steps();
    ensure(is_native(&host) && count(&host, "import-diff") == 3, format!("{steps:?}"))?;
    for file in ["held", "changed"] {
        ensure(one.read(&source, file)? == other.read(&target, file)?, format!("{file} differs"))?;
    }
    let target = Place::live(&target);
    let wanted = vec![target.clone(), target.at_snapshot(&name("s0")?), target.at_snapshot(&name("s1")?)];
    same(&other.pool.places(&cx())?, &wanted, "what is there")?;

    // A name says nothing: s1 is another one now.
    one.pool.driver().destroy(&cx(), &new)?;
    one.write(&source, "changed", CHANGED)?;
    one.snapshot(&source, "s1")?;
    let host = refresh(&one, &source, &other, &spec, &[("s0", false), ("s1", false)])?;
    ensure(count(&host, "import-diff") == 0, format!("{:?}", host.changing_steps()))?;
    ensure(one.read(&source, "changed")? == other.read(&spec.id, "changed")?, "the second refresh")
}

fn a_copy_that_is_stopped_leaves_nothing() -> Outcome {
    let [lab, _] = labs()?;
    let [one, other] = two_sides(&lab, &lab)?;
    let images = |side: &Side| output("rbd", &["ls", "--long", &home(side)]);
    let spec = VolumeSpec::new(custom("v1")?).with_size(ByteSize::from_mebibytes(160));
    a_stopped_copy(&one, &other, &spec, || images(&other).is_ok_and(|all| all.contains("larder.staging.")))?;
    same(&images(&other)?, &String::new(), "what is left of the copy")?;
    let lines = images(&one)?;
    ensure(!lines.contains('@'), format!("left of the source's picture: {lines}"))
}

/// The copy has the features that its pool gives, and another identifier of its xfs.
fn a_copy_has_what_its_pool_wants() -> Outcome {
    let [ext4, xfs] = labs()?;
    let [one, other] = two_sides(&ext4, &xfs)?;
    let sized =
        |id: VolumeId| spec(&id, &[("block.filesystem", "xfs")]).with_size(ByteSize::from_mebibytes(320));
    let (source, wanted) = (sized(custom("v1")?), sized(custom("copy")?));
    let wanted = wanted.with_size(ByteSize::from_mebibytes(400));
    one.pool.create_volume(&cx(), &source, &EmptyFill)?;
    one.write(&source.id, "file", CHANGED)?;
    one.snapshot(&source.id, "s0")?;
    let host = copy(&one, &source.id, &other, &wanted, &["s0"])?;
    ensure(count(&host, "import-diff") == 2, format!("{:?}", host.changing_steps()))?;
    let info = output("rbd", &["info", &format!("{}/custom_default_copy", home(&other))])?;
    ensure(info.contains("fast-diff") && info.contains("size 400 MiB"), info)?;
    one.write(&source.id, "file", CHANGED)?;
    let host = refresh(&one, &source.id, &other, &wanted, &[("s0", false)])?;
    ensure(count(&host, "import-diff") == 2, format!("{:?}", host.changing_steps()))?;
    one.pool.attach(&cx(), &source.id, Mode::ReadOnly)?;
    let read = other.read(&wanted.id, "file");
    one.pool.detach(&cx(), &source.id)?;
    ensure(read? == one.read(&source.id, "file")?, "the file differs")
}

fn another_filesystem_is_copied_by_files() -> Outcome {
    let [ext4, xfs] = labs()?;
    let [one, other] = two_sides(&ext4, &xfs)?;
    let (source, target) = (custom("v1")?, custom("copy")?);
    one.pool.create_volume(&cx(), &VolumeSpec::new(source.clone()), &EmptyFill)?;
    one.write(&source, "file", CHANGED)?;
    copy(&one, &source, &other, &VolumeSpec::new(target.clone()), &[])?;
    let attached = other.pool.attach(&cx(), &target, Mode::ReadOnly)?;
    let kind = output("stat", &["--file-system", "--format=%T", &attached.directory()?.to_string_lossy()])?;
    other.pool.detach(&cx(), &target)?;
    same(&kind, &"xfs\n".to_owned(), "the filesystem")?;
    ensure(one.read(&source, "file")? == other.read(&target, "file")?, "the file differs")
}

/// The cluster takes half a minute to see that somebody is dead.
fn what_a_killed_program_had_open_goes() -> Outcome {
    let [lab, _] = labs()?;
    let [one, _] = two_sides(&lab, &lab)?;
    let volume = custom("v1")?;
    one.pool.create_volume(&cx(), &VolumeSpec::new(volume.clone()), &EmptyFill)?;
    let image = format!("{}/custom_default_v1", home(&one));
    let (reader, writer) = std::io::pipe()?;
    #[expect(clippy::disallowed_methods, reason = "the test kills what a machine that dies would")]
    let mut program = Command::new("rbd")
        .args(["import-diff", "--no-progress", "-", &image])
        .stdin(Stdio::from(OwnedFd::from(reader)))
        .stderr(Stdio::null())
        .spawn()?;
    let is_open = || output("rbd", &["status", &image]).is_ok_and(|said| said.contains("watcher="));
    let since = Instant::now();
    while !is_open() && since.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(100));
    }
    program.kill()?;
    program.wait()?;
    drop(writer);
    ensure(is_open(), "the image is not taken for open: this trial shows nothing")?;
    one.pool.driver().destroy(&cx(), &Place::live(&volume))?;
    same(&output("rbd", &["ls", &home(&one)])?, &String::new(), "what is left")
}
