//! zfs for real: one zpool on a file for the whole run, and in it a dataset for each pool that a trial needs.

use larder_storage_conformance::{Bench, Lab, OwnTrial};
use larder_storage_driver::{Capabilities, Config, Driver, Result};
use larder_storage_drivers::PoolSetup;
use larder_storage_drivers::zfs::Zfs;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs a program as a person would, and gives what it says.
pub(crate) fn run(program: &str, arguments: &[&str]) -> std::result::Result<String, String> {
    #[expect(clippy::disallowed_methods, reason = "the test prepares the machine as a person would")]
    let output = std::process::Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// A zpool on a file, destroyed when this is dropped.
#[derive(Debug)]
pub(crate) struct Zpool {
    name: String,
    folder: tempfile::TempDir,
}

impl Zpool {
    /// Fails with the reason why this machine can't have one.
    pub(crate) fn new(folder: tempfile::TempDir, bytes: u64) -> std::result::Result<Self, String> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        if !Path::new("/dev/zfs").exists() {
            run("modprobe", &["zfs"]).map_err(|error| format!("no zfs in this kernel ({error})"))?;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("lab{}-{number}", std::process::id());
        let file = folder.path().join("zpool");
        fs::File::create(&file)
            .and_then(|file| file.set_len(bytes))
            .map_err(|error| format!("no file for a zpool: {error}"))?;
        // Nothing here outlives the machine: what is synced need not be. The file lies in memory, so that what is freed in it
        // must be free there.
        let options = ["-m", "none", "-o", "autotrim=on", "-O", "sync=disabled"];
        run("zpool", &[&["create"], &options[..], &[&name, &file.to_string_lossy()]].concat())?;
        Ok(Self { name, folder })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A folder that goes with it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Zpool {
    fn drop(&mut self) {
        let _ = run("zpool", &["destroy", &self.name]);
    }
}

/// The lab.
#[derive(Debug)]
pub(crate) struct ZfsLab {
    zpool: Zpool,
    config: Config,
    next: AtomicUsize,
}

/// A dataset of its own, and a folder to mount in.
#[derive(Debug)]
struct ZfsBench {
    dataset: String,
    config: Config,
    folder: tempfile::TempDir,
}

impl ZfsLab {
    /// A lab with its zpool below `folder`, whose pools have `keys`.
    pub(crate) fn new(folder: tempfile::TempDir, keys: &[(&str, &str)]) -> std::result::Result<Self, String> {
        let config = keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Ok(Self { zpool: Zpool::new(folder, 2 << 30)?, config, next: AtomicUsize::new(0) })
    }

    /// The dataset of the pool that was made as the `number`th.
    pub(crate) fn dataset(&self, number: usize) -> String {
        format!("{}/w{number}", self.zpool.name())
    }

    /// The folder below which its pools are mounted.
    pub(crate) fn folder(&self) -> &Path {
        self.zpool.folder()
    }

    fn fresh(&self) -> std::io::Result<ZfsBench> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::Builder::new().prefix("world-").tempdir_in(self.zpool.folder())?;
        let open = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs::set_permissions(folder.path(), open)?;
        Ok(ZfsBench { dataset: self.dataset(number), config: self.config.clone(), folder })
    }
}

impl Lab for ZfsLab {
    fn name(&self) -> &str {
        "zfs"
    }

    fn own_trials(&self) -> Vec<OwnTrial> {
        super::zfs_trials::all()
    }

    fn bench(&self) -> std::io::Result<Box<dyn Bench>> {
        Ok(Box::new(self.fresh()?))
    }

    fn capabilities(&self) -> Capabilities {
        let bench = self.fresh().unwrap_or_else(|error| panic!("no scratch folder: {error}"));
        let driver = bench.driver().unwrap_or_else(|error| panic!("{}", error.chain()));
        driver.capabilities()
    }

    fn tools(&self) -> Vec<String> {
        let said = run("zfs", &["version"]).unwrap_or_default();
        said.lines().map(str::to_owned).collect()
    }
}

impl Bench for ZfsBench {
    fn driver(&self) -> Result<Box<dyn Driver>> {
        let mut config = self.config.clone();
        config.insert("source".to_owned(), self.dataset.clone());
        let (root, disks) = (self.folder.path().join("pool"), self.folder.path().join("disks"));
        Ok(Box::new(Zfs::new(PoolSetup { name: "pool0".parse()?, root, disks, ceph_conf: None, config })?))
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    fn name(&self) -> Option<&str> {
        Some(&self.dataset)
    }
}

impl Drop for ZfsBench {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below = self.folder.path().to_string_lossy().into_owned();
        for target in mounts.lines().filter_map(|line| line.split(' ').nth(4)) {
            if target.starts_with(&below) {
                let _ = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
            }
        }
        let _ = run("zfs", &["destroy", "-R", &self.dataset]);
    }
}
