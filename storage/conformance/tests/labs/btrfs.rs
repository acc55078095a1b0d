//! btrfs on files of the driver's own, as a person gets it who gives no source.

use super::{Mounted, btrfs_pool, btrfs_volumes, fast_folder, machine, mounted, scratch};
use larder_base::host::{Host, SystemHost};
use larder_base::{Cancel, Progress, Ticket};
use larder_storage_conformance::{Bench, Lab, OwnTrial, Spares};
use larder_storage_driver::{Capabilities, Config, Cx, Driver, Result};
use larder_storage_drivers::PoolSetup;
use larder_storage_drivers::btrfs::Btrfs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// Whether this machine can tell: why not, if not.
fn missing() -> Option<String> {
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let knows = filesystems.lines().any(|line| line.trim() == "btrfs");
    match (SystemHost::find("mkfs.btrfs"), knows) {
        (None, _) => Some("install btrfs-progs".to_owned()),
        (_, false) => Some("the kernel has no btrfs".to_owned()),
        (Some(_), true) => None,
    }
}

/// A context for work of the lab's own.
pub(crate) fn cx() -> Cx<'static> {
    cx_over(&SystemHost)
}

/// The same over another host.
pub(crate) fn cx_over(host: &dyn Host) -> Cx<'_> {
    let ticket = Ticket::new("lab", Uuid::new_v4(), Uuid::new_v4());
    Cx::new(host, Progress::silent(), Cancel::never(), ticket)
}

/// btrfs, with another subvolume in each volume's tree or without.
#[derive(Debug, Default)]
pub(crate) struct BtrfsLab {
    pub(crate) nested: bool,
    pub(crate) spares: Arc<Spares>,
    /// A btrfs that is there: each pool is a subvolume in it instead of a file of its own.
    pub(crate) existing: Option<Arc<Existing>>,
}

/// A mounted btrfs, unmounted when the last bench in it is gone.
#[derive(Debug)]
pub(crate) struct Existing {
    at: PathBuf,
    _mounted: Mounted,
}

#[derive(Debug)]
struct BtrfsBench {
    folder: tempfile::TempDir,
    nested: bool,
    existing: Option<Arc<Existing>>,
}

/// What the lab is called.
pub(crate) fn name(nested: bool) -> &'static str {
    if nested { "btrfs_nested" } else { "btrfs" }
}

impl BtrfsLab {
    /// The lab, or why this machine can't have it.
    pub(crate) fn offered(nested: bool) -> std::result::Result<Self, String> {
        missing().map_or_else(|| Ok(Self { nested, ..Self::default() }), Err)
    }

    /// The same in subvolumes of a btrfs that is there.
    pub(crate) fn in_existing() -> std::result::Result<Self, String> {
        let (at, mounted) = mounted("btrfs")?;
        let existing = Some(Arc::new(Existing { at, _mounted: mounted }));
        Ok(Self { existing, ..Self::offered(false)? })
    }
}

impl Lab for BtrfsLab {
    fn name(&self) -> &str {
        if self.existing.is_some() { "btrfs_subvolume" } else { name(self.nested) }
    }

    fn tools(&self) -> Vec<String> {
        let told = run("mkfs.btrfs", &["--version".as_ref()]).unwrap_or_default();
        told.lines().map(|line| line.trim().to_owned()).collect()
    }

    fn own_trials(&self) -> Vec<OwnTrial> {
        match self.nested {
            true => Vec::new(),
            false => machine::trials(&[btrfs_pool::TRIALS, btrfs_volumes::TRIALS].concat()),
        }
    }

    fn bench(&self) -> io::Result<Box<dyn Bench>> {
        let below = self.existing.as_ref().map_or(fast_folder(), |existing| &existing.at);
        let existing = self.existing.clone();
        Ok(Box::new(BtrfsBench { folder: scratch(below)?, nested: self.nested, existing }))
    }

    fn capabilities(&self) -> Capabilities {
        let bench = self.bench().unwrap_or_else(|error| panic!("no scratch folder: {error}"));
        let driver = bench.driver().unwrap_or_else(|error| panic!("{}", error.chain()));
        driver.capabilities()
    }

    fn spares(&self) -> Option<&Arc<Spares>> {
        Some(&self.spares)
    }
}

impl Bench for BtrfsBench {
    fn driver(&self) -> Result<Box<dyn Driver>> {
        let folder = self.folder.path();
        let source = folder.join("source").display().to_string();
        let kept_on = if self.existing.is_some() { ("source", source.as_str()) } else { ("size", "2GiB") };
        let config = Config::from([(kept_on.0.to_owned(), kept_on.1.to_owned())]);
        let recorded = folder.join("recorded");
        let setup = |config| -> Result<PoolSetup> {
            let (root, disks) = (folder.join("pool"), folder.join("disks"));
            Ok(PoolSetup { name: "pool0".parse()?, root, disks, ceph_conf: None, config })
        };
        // What the daemon would have written down.
        if let Ok(text) = std::fs::read_to_string(&recorded) {
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            let config = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            return Ok(Box::new(Btrfs::new(setup(config)?)?));
        }
        let driver = Btrfs::new(setup(config)?)?;
        let lines = driver.recorded_config().into_iter().map(|(key, value)| format!("{key}={value}\n"));
        std::fs::write(&recorded, lines.collect::<String>())?;
        Ok(Box::new(driver))
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    fn furnish(&self, tree: &Path, text: &str) -> io::Result<()> {
        if !self.nested {
            return Ok(());
        }
        let inner = tree.join("folder/inner");
        if !inner.exists() {
            make_subvolume(&tree.join("folder"), b"inner")?;
        }
        assert_eq!(std::fs::metadata(&inner)?.ino(), 256, "what was a subvolume is one still");
        std::fs::write(inner.join("file"), text)
    }
}

impl Drop for BtrfsBench {
    #[expect(clippy::print_stderr, reason = "a failure to clean up fails no trial, and should be seen")]
    fn drop(&mut self) {
        if let Err(error) = self.driver().and_then(|driver| driver.destroy_pool(&cx())) {
            eprintln!("a pool is left at {}: {}", self.folder.path().display(), error.chain());
        }
    }
}

/// Makes a subvolume as somebody in a container would (`BTRFS_IOC_SUBVOL_CREATE`).
pub(crate) fn make_subvolume(parent: &Path, name: &[u8]) -> io::Result<()> {
    const SUBVOLUME_CREATE: libc::c_ulong = 0x5000_940e;
    let mut arguments = [0_u8; 4096];
    arguments[8..8 + name.len()].copy_from_slice(name);
    let parent = std::fs::File::open(parent)?;
    // SAFETY: the kernel reads a `struct btrfs_ioctl_vol_args`: a number and a name, 4096 bytes.
    let done = unsafe { libc::ioctl(parent.as_raw_fd(), SUBVOLUME_CREATE, arguments.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs a program as a person would.
pub(crate) fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> io::Result<String> {
    #[expect(clippy::disallowed_methods, reason = "the test plays the person who uses the machine")]
    let output = std::process::Command::new(program).args(arguments).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            Err(io::Error::other(format!("{program}: {}", stderr.trim())))
        }
    }
}
