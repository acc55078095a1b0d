//! A machine of its own for trials that make, close and remove pools, and what they compare with.

use super::btrfs::{cx, cx_over, run};
use super::{fast_folder, scratch};
use larder_base::ProjectName;
use larder_base::host::Host;
use larder_storage_conformance::{Outcome, OwnTrial};
use larder_storage_driver::{Config, Content, Driver, ErrorKind, Mode, Result, VolumeId, VolumeSpec};
use larder_storage_drivers::{PoolSetup, load};
use larder_storage_pool::{EmptyFill, Locks, Pool};
use libtest_mimic::Failed;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A trial: its name, a sentence, and what it does.
pub(crate) type Own = (&'static str, fn() -> Outcome);

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Trials of btrfs alone.
pub(crate) fn trials(own: &[Own]) -> Vec<OwnTrial> {
    let trial = |(name, run): &Own| {
        let run = *run;
        let run = move || run().map_err(|error| Failed::from(chain(error.as_ref())));
        OwnTrial::new(format!("btrfs::{name}"), run)
    };
    own.iter().map(trial).collect()
}

pub(crate) fn same<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T, what: &str) -> Outcome {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what}: found {found:?}, expected {expected:?}").into()),
    }
}

pub(crate) fn refused<T>(outcome: Result<T>, kind: ErrorKind, word: &str) -> Outcome {
    let error = outcome.err().ok_or_else(|| format!("{word} was not refused"))?;
    same(&error.kind(), &kind, &error.chain())?;
    match error.chain().contains(word) {
        true => Ok(()),
        false => Err(format!("{:?} does not tell {word:?}", error.chain()).into()),
    }
}

pub(crate) fn config(keys: &[(&str, &str)]) -> Config {
    keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A machine of its own: what the daemon has written down, and a folder for everything.
pub(crate) struct Machine {
    pub(crate) folder: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { folder: scratch(fast_folder())? })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn driver(&self, config: &Config) -> Result<Box<dyn Driver>> {
        let (root, disks, config) = (self.path("pool"), self.path("disks"), config.clone());
        load("btrfs", PoolSetup { name: "p1".parse()?, root, disks, ceph_conf: None, config })
    }

    /// Makes a pool, and tells the keys that are written down.
    pub(crate) fn create(&self, keys: &[(&str, &str)]) -> Result<(Pool, Config)> {
        let driver = self.driver(&config(keys))?;
        let recorded = driver.recorded_config();
        Ok((Pool::create(&cx(), "p1".parse()?, driver, Locks::new())?, recorded))
    }

    /// Tries to make a pool over `host`; tells what is written down while it is being made.
    pub(crate) fn attempt(&self, host: &dyn Host, given: &Config) -> Result<(Result<Pool>, Config)> {
        let driver = self.driver(given)?;
        let known: Config = given.clone().into_iter().chain(driver.recorded_config()).collect();
        Ok((Pool::create(&cx_over(host), "p1".parse()?, driver, Locks::new()), known))
    }

    /// Tries to take over what is on `source`; tells what is written down.
    pub(crate) fn adopt(&self, source: &str) -> Result<(Result<Pool>, Config)> {
        let driver = self.driver(&config(&[("source", source), ("source.recover", "true")]))?;
        let recorded = driver.recorded_config();
        Ok((Pool::adopt(&cx(), "p1".parse()?, driver, Locks::new()), recorded))
    }

    pub(crate) fn open(&self, recorded: &Config) -> Result<Pool> {
        Pool::open(&cx(), "p1".parse()?, self.driver(recorded)?, Locks::new())
    }

    /// A device that is a file, as a disk would be.
    pub(crate) fn device(&self, name: &str) -> std::io::Result<Device> {
        let file = self.path(name);
        fs::File::create(&file)?.set_len(256 << 20)?;
        let told = run("losetup", &["--find".as_ref(), "--show".as_ref(), file.as_os_str()])?;
        Ok(Device(told.trim().into()))
    }

    pub(crate) fn loops(&self) -> std::io::Result<String> {
        let all = run("losetup", &["--all".as_ref()])?;
        let ours = all.lines().filter(|line| line.contains(&*self.folder.path().to_string_lossy()));
        Ok(ours.collect())
    }

    /// Fails when a loop device is left, after some patience with whoever else has it open.
    pub(crate) fn has_no_loop(&self, what: &str) -> Outcome {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.loops()?.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        same(&self.loops()?, &String::new(), what)
    }

    pub(crate) fn mounts(&self) -> std::io::Result<String> {
        let all = fs::read_to_string("/proc/self/mountinfo")?;
        let ours = all.lines().filter(|line| line.contains(&*self.folder.path().to_string_lossy()));
        Ok(ours.collect())
    }
}

impl Drop for Machine {
    /// A trial that failed leaves its pool mounted.
    fn drop(&mut self) {
        let root = self.path("pool");
        let _ = rustix::mount::unmount(&root, rustix::mount::UnmountFlags::DETACH);
        let found = run("losetup", &["--associated".as_ref(), self.path("disks/p1.img").as_os_str()]);
        for device in found.iter().flat_map(|told| told.lines()).filter_map(|line| line.split(':').next()) {
            let _ = run("losetup", &["--detach".as_ref(), device.as_ref()]);
        }
    }
}

/// A loop device that is taken off when this is dropped.
pub(crate) struct Device(pub(crate) String);

impl Drop for Device {
    fn drop(&mut self) {
        let _ = run("losetup", &["--detach".as_ref(), self.0.as_ref()]);
    }
}

pub(crate) fn volume(content: Content, name: &str) -> Result<VolumeId> {
    Ok(VolumeId::custom(content, ProjectName::default_project(), name.parse()?))
}

pub(crate) fn make(pool: &Pool, spec: &VolumeSpec) -> Result<PathBuf> {
    pool.create_volume(&cx(), spec, &EmptyFill)?;
    let attached = pool.attach(&cx(), &spec.id, Mode::ReadWrite)?;
    pool.detach(&cx(), &spec.id)?;
    Ok(attached.directory.or(attached.disk).unwrap_or_default())
}

pub(crate) fn inode(path: &Path) -> std::io::Result<u64> {
    Ok(fs::metadata(path)?.ino())
}
