//! The conformance suite over the in-memory driver in several shapes, and over the technologies that this machine has.

mod labs;

use labs::between;
use labs::btrfs::BtrfsLab;
use labs::cephobject::{self, GatewayLab};
use labs::lvm::{Kind, LvmLab};
use labs::zfs::ZfsLab;
use larder_storage_conformance::{Bench, Journal, Lab, ObjectLab, OwnTrial, Proof, object_suite, suite};
use larder_storage_driver::{Capabilities, CloneKind, Config, Driver, Restore, Result, SnapshotKind};
use larder_storage_drivers::PoolSetup;
use larder_storage_drivers::dir::Dir;
use larder_storage_drivers::memory::{Disk, Memory, Options};
use libtest_mimic::Arguments;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// Memory, where the machine has it as a filesystem: the suite makes and removes tens of thousands of files.
fn fast_folder() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new("/var/tmp") }
}

/// A folder of its own for one pool.
fn scratch(below: &Path) -> std::io::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("larder-conformance-").tempdir_in(below)?;
    // Others may pass: what keeps them out must be the driver.
    fs::set_permissions(
        folder.path(),
        <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755),
    )?;
    Ok(folder)
}

#[derive(Debug, Clone, Copy)]
struct MemoryLab {
    name: &'static str,
    options: Options,
}

#[derive(Debug)]
struct MemoryBench {
    disk: Arc<Disk>,
    folder: tempfile::TempDir,
}

impl Lab for MemoryLab {
    fn name(&self) -> &str {
        self.name
    }

    fn bench(&self) -> std::io::Result<Box<dyn Bench>> {
        let folder = scratch(fast_folder())?;
        let disk = Disk::new(&folder.path().join("contents"), self.options)?;
        Ok(Box::new(MemoryBench { disk, folder }))
    }

    fn capabilities(&self) -> Capabilities {
        Memory::new(
            Disk::new(&std::env::temp_dir(), self.options)
                .unwrap_or_else(|error| panic!("no scratch folder: {error}")),
        )
        .capabilities()
    }

    fn own_trials(&self) -> Vec<OwnTrial> {
        labs::refused_sizes::trials(*self)
    }
}

impl Bench for MemoryBench {
    fn driver(&self) -> Result<Box<dyn Driver>> {
        Ok(Box::new(Memory::new(Arc::clone(&self.disk))))
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

/// dir on some filesystem.
#[derive(Debug)]
struct DirLab {
    name: String,
    below: PathBuf,
    /// Unmounts when the last trial is done.
    _mounted: Option<Mounted>,
}

#[derive(Debug)]
struct DirBench {
    folder: tempfile::TempDir,
}

impl DirBench {
    fn setup(&self) -> Result<PoolSetup> {
        let folder = self.folder.path();
        let (root, disks) = (folder.join("pool"), folder.join("disks"));
        Ok(PoolSetup { name: "pool0".parse()?, root, disks, ceph_conf: None, config: Config::new() })
    }
}

impl Lab for DirLab {
    fn name(&self) -> &str {
        &self.name
    }

    fn bench(&self) -> std::io::Result<Box<dyn Bench>> {
        Ok(Box::new(DirBench { folder: scratch(&self.below)? }))
    }

    fn capabilities(&self) -> Capabilities {
        let bench = DirBench {
            folder: scratch(&self.below).unwrap_or_else(|error| panic!("no scratch folder: {error}")),
        };
        let driver = bench.driver().unwrap_or_else(|error| panic!("{}", error.chain()));
        driver.capabilities()
    }

    fn own_trials(&self) -> Vec<OwnTrial> {
        // What is mounted stays so as long as the lab that made it.
        let lab = Self { name: self.name.clone(), below: self.below.clone(), _mounted: None };
        labs::refused_sizes::trials(lab)
    }
}

impl Bench for DirBench {
    fn driver(&self) -> Result<Box<dyn Driver>> {
        Ok(Box::new(Dir::new(self.setup()?)?))
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

/// A filesystem on a loop file, unmounted when this is dropped.
#[derive(Debug)]
struct Mounted {
    folder: tempfile::TempDir,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ =
            rustix::mount::unmount(self.folder.path().join("mounted"), rustix::mount::UnmountFlags::DETACH);
    }
}

/// A filesystem of a kind on a loop file: where it is mounted, and what unmounts it.
fn mounted(kind: &str) -> std::result::Result<(PathBuf, Mounted), String> {
    let text = |error: std::io::Error| error.to_string();
    let folder = scratch(fast_folder()).map_err(text)?;
    let (image, at) = (folder.path().join("image"), folder.path().join("mounted"));
    fs::create_dir(&at).map_err(text)?;
    fs::File::create(&image).and_then(|file| file.set_len(600 << 20)).map_err(text)?;
    let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
        #[expect(clippy::disallowed_methods, reason = "the test makes a filesystem as a person would")]
        let output = std::process::Command::new(program)
            .args(arguments)
            .output()
            .map_err(|error| format!("{program}: {error}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        }
    };
    run(&format!("mkfs.{kind}"), &["-q".as_ref(), image.as_os_str()])?;
    run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_os_str(), at.as_os_str()])?;
    Ok((at, Mounted { folder }))
}

fn dir_on(kind: &str) -> std::result::Result<DirLab, String> {
    let (below, mounted) = mounted(kind)?;
    Ok(DirLab { name: format!("dir_on_{kind}"), below, _mounted: Some(mounted) })
}

fn memory_labs() -> Vec<(&'static str, Arc<dyn Lab>)> {
    let shape = |name, snapshot, clone, restore| -> (&'static str, Arc<dyn Lab>) {
        let options = Options { snapshot, clone, restore, ..Options::default() };
        (name, Arc::new(MemoryLab { name, options }))
    };
    vec![
        shape("memory", SnapshotKind::Native, CloneKind::Independent, Restore::Exchange),
        shape("memory_in_place", SnapshotKind::Native, CloneKind::Dependent, Restore::InPlace),
        shape("memory_newest_only", SnapshotKind::Native, CloneKind::None, Restore::InPlaceNewest),
        shape("memory_copying", SnapshotKind::Copied, CloneKind::None, Restore::Exchange),
    ]
}

/// A lab by its name, and how it is set up; fails with the reason why this machine can't have it.
type Offer = (&'static str, Box<dyn FnOnce() -> std::result::Result<Arc<dyn Lab>, String>>);

/// Their suites tell nothing that another lab's does not: they are there for what goes between pools.
const ONLY_WHEN_NAMED: &[&str] = &["btrfs_subvolume"];

/// All labs that there are.
fn offers() -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    for (name, lab) in memory_labs() {
        offers.push((name, Box::new(move || Ok(lab))));
    }
    for (name, kind) in [("dir_on_ext4", "ext4"), ("dir_on_xfs", "xfs"), ("dir_on_btrfs", "btrfs")] {
        offers.push((name, Box::new(move || as_root(|| dir_on(kind)))));
    }
    offers.push(("dir", Box::new(|| as_root(dir))));
    for nested in [false, true] {
        let make = move || as_root(|| BtrfsLab::offered(nested));
        offers.push((labs::btrfs::name(nested), Box::new(make)));
    }
    offers.push(("btrfs_subvolume", Box::new(|| as_root(BtrfsLab::in_existing))));
    offers.push(("lvm", Box::new(|| as_root(|| LvmLab::new("lvm", Kind::Thin)))));
    offers.push(("lvm_thick", Box::new(|| as_root(|| LvmLab::new("lvm_thick", Kind::Thick)))));
    offers.push(("zfs", Box::new(|| as_root(zfs))));
    for technology in labs::ceph::TECHNOLOGIES {
        offers.push((technology.name, Box::new(|| as_root(|| ceph(*technology)))));
    }
    offers
}

fn as_root<L: Lab + 'static>(
    make: impl FnOnce() -> std::result::Result<L, String>,
) -> std::result::Result<Arc<dyn Lab>, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root".to_owned());
    }
    make().map(|lab| -> Arc<dyn Lab> { Arc::new(lab) })
}

/// dir on what this machine has, unless it was run on filesystems of its own.
fn dir() -> std::result::Result<DirLab, String> {
    Ok(DirLab { name: "dir".to_owned(), below: "/var/tmp".into(), _mounted: None })
}

fn zfs() -> std::result::Result<ZfsLab, String> {
    ZfsLab::new(scratch(fast_folder()).map_err(|error| error.to_string())?, &[])
}

fn ceph(technology: labs::ceph::Technology) -> std::result::Result<labs::ceph::CephLab, String> {
    labs::ceph::CephLab::new(technology, scratch(fast_folder()).map_err(|error| error.to_string())?)
}

/// Runs one lab's suite; tells whether all went well.
fn run(lab: &Arc<dyn Lab>, arguments: &Arguments) -> (Proof, bool) {
    let began = Instant::now();
    let journal = match Journal::of_this_run(lab.name()) {
        Ok(journal) => Arc::new(journal),
        Err(error) => return (Proof::skipped(lab.name(), &error.to_string()), false),
    };
    let trials = suite(lab, &journal);
    let count = trials.len();
    let conclusion = libtest_mimic::run(arguments, trials);
    let proof = Proof::of_run(lab.name(), lab.tools(), count, &conclusion, began.elapsed(), &journal);
    (proof, count > 0 && !conclusion.has_failed())
}

/// The same for the object gateway, which keeps no volumes.
fn run_objects(arguments: &Arguments, is_named: bool) -> (Proof, bool) {
    let began = Instant::now();
    let lab: Arc<dyn ObjectLab> = match GatewayLab::start() {
        Ok(lab) => Arc::new(lab),
        Err(reason) => return (Proof::skipped(cephobject::NAME, &reason), !is_named),
    };
    let trials = object_suite(&lab);
    let count = trials.len();
    // One after the other: they all make buckets of the same name.
    let arguments = Arguments { test_threads: Some(1), ..arguments.clone() };
    let conclusion = libtest_mimic::run(&arguments, trials);
    let proof = Proof::of_run(
        cephobject::NAME,
        cephobject::tools(),
        count,
        &conclusion,
        began.elapsed(),
        &Journal::default(),
    );
    (proof, count > 0 && !conclusion.has_failed())
}

/// Names with commas between them in the environment.
fn named_in(variable: &str) -> Vec<String> {
    let text = std::env::var(variable).unwrap_or_default();
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Runs the trials between the labs that `LARDER_BETWEEN` names, or the usual ones that this machine can have.
fn run_between(arguments: &Arguments) -> (Proof, bool) {
    let began = Instant::now();
    let named = named_in("LARDER_BETWEEN");
    let wanted = |name: &str| match named.is_empty() {
        true => between::USUAL.contains(&name),
        false => named.iter().any(|named| named == name),
    };
    if let Some(reason) = labs::compare::missing() {
        return (Proof::skipped(between::NAME, &reason), named.is_empty());
    }
    let (mut labs, mut reasons) = (Vec::new(), Vec::new());
    for (name, make) in offers().into_iter().filter(|(name, _)| wanted(name)) {
        match make() {
            Ok(lab) => labs.push(lab),
            Err(reason) => reasons.push(format!("{name}: {reason}")),
        }
    }
    if labs.is_empty() {
        return (Proof::skipped(between::NAME, &reasons.join("; ")), named.is_empty());
    }
    let trials = between::trials(&labs);
    let count = trials.len();
    let conclusion = libtest_mimic::run(arguments, trials);
    let proof =
        Proof::of_run(between::NAME, Vec::new(), count, &conclusion, began.elapsed(), &Journal::default());
    (proof, !conclusion.has_failed() && (named.is_empty() || labs.len() == named.len()))
}

/// At its first look for the time rustix 1.1 panics where the vDSO has no `getcpu`, as that of User Mode Linux 7, and is right from
/// then on: so that this is no trial's.
fn look_for_the_time() {
    let _ = std::panic::catch_unwind(|| rustix::time::clock_gettime(rustix::time::ClockId::Realtime));
}

/// Runs the labs that `LARDER_LABS` names (with commas), or all that this machine can have. A lab that was named and can't be
/// had is a failure; so is a run without any lab.
fn main() -> ExitCode {
    look_for_the_time();
    let arguments = Arguments::from_args();
    let named = named_in("LARDER_LABS");
    let is_named = |name: &str| named.iter().any(|named| named == name);
    let is_offered = |name: &String| {
        [between::NAME, cephobject::NAME].contains(&name.as_str())
            || offers().iter().any(|(offered, _)| offered == name)
    };
    let mut good = named.iter().all(is_offered);
    let mut proofs = Vec::new();
    for (name, make) in offers() {
        let stands_for_it = |proof: &Proof| proof.has_run() && proof.lab().starts_with("dir_on_");
        let is_spare = match name {
            "dir" => proofs.iter().any(stands_for_it),
            name => ONLY_WHEN_NAMED.contains(&name),
        };
        if if named.is_empty() { is_spare } else { !is_named(name) } {
            continue;
        }
        let proof = match make() {
            Ok(lab) => {
                let (proof, is_good) = run(&lab, &arguments);
                good &= is_good;
                proof
            }
            Err(reason) => {
                good &= named.is_empty();
                Proof::skipped(name, &reason)
            }
        };
        good &= proof.write().is_ok();
        proofs.push(proof);
    }
    if named.is_empty() || is_named(between::NAME) {
        let (proof, is_good) = run_between(&arguments);
        good &= is_good && proof.write().is_ok();
        proofs.push(proof);
    }
    if named.is_empty() || is_named(cephobject::NAME) {
        let (proof, is_good) = run_objects(&arguments, is_named(cephobject::NAME));
        good &= is_good && proof.write().is_ok();
        proofs.push(proof);
    }
    let lines: String = proofs.iter().map(|proof| format!("{proof}\n")).collect();
    let _ = std::io::Write::write_all(&mut std::io::stdout(), lines.as_bytes());
    if good && proofs.iter().any(Proof::has_run) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
