//! The conformance suite over the in-memory driver in several shapes, and over dir on the filesystems this machine has.

mod labs;

use labs::btrfs::BtrfsLab;
use larder_storage_conformance::{Bench, Lab, suite};
use larder_storage_driver::{Capabilities, CloneKind, Config, Driver, Restore, Result, SnapshotKind};
use larder_storage_drivers::PoolSetup;
use larder_storage_drivers::dir::Dir;
use larder_storage_drivers::memory::{Disk, Memory, Options};
use libtest_mimic::{Arguments, Trial};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

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

#[derive(Debug)]
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
        Ok(PoolSetup { name: "pool0".parse()?, root, disks, config: Config::new() })
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

fn mounted(kind: &str) -> std::result::Result<DirLab, String> {
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
    Ok(DirLab { name: format!("dir_on_{kind}"), below: at, _mounted: Some(Mounted { folder }) })
}

fn memory_labs() -> Vec<Arc<dyn Lab>> {
    let shape = |name, snapshot, clone, restore| -> Arc<dyn Lab> {
        Arc::new(MemoryLab { name, options: Options { snapshot, clone, restore, ..Options::default() } })
    };
    vec![
        shape("memory", SnapshotKind::Native, CloneKind::Independent, Restore::Exchange),
        shape("memory_in_place", SnapshotKind::Native, CloneKind::Dependent, Restore::InPlace),
        shape("memory_newest_only", SnapshotKind::Native, CloneKind::None, Restore::InPlaceNewest),
        shape("memory_copying", SnapshotKind::Copied, CloneKind::None, Restore::Exchange),
    ]
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut labs = memory_labs();
    let mut own_trials = Vec::new();
    let mut skipped = Vec::new();
    if rustix::process::geteuid().is_root() {
        for kind in ["ext4", "xfs", "btrfs"] {
            match mounted(kind) {
                Ok(lab) => labs.push(Arc::new(lab)),
                Err(reason) => skipped.push(format!("skipped: dir_on_{kind}: {reason}")),
            }
        }
        if labs.len() == memory_labs().len() {
            labs.push(Arc::new(DirLab { name: "dir".to_owned(), below: "/var/tmp".into(), _mounted: None }));
        }
        match labs::btrfs::missing() {
            None => {
                for nested in [false, true] {
                    labs.push(Arc::new(BtrfsLab { nested, ..BtrfsLab::default() }));
                }
                own_trials.extend(labs::machine::trials(labs::btrfs_pool::TRIALS));
                own_trials.extend(labs::machine::trials(labs::btrfs_volumes::TRIALS));
            }
            Some(reason) => skipped.push(format!("skipped: btrfs: {reason}")),
        }
    } else {
        skipped.push("skipped: dir, btrfs: need root".to_owned());
    }
    let mut trials: Vec<Trial> = labs.iter().flat_map(suite).collect();
    trials.extend(own_trials);
    let count = trials.len();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let _ = std::io::Write::write_all(
        &mut std::io::stdout(),
        format!("{count} trials over {} labs\n{}\n", labs.len(), skipped.join("\n")).as_bytes(),
    );
    drop(labs);
    if count == 0 || conclusion.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
