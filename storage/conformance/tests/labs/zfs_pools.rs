//! What pools on zfs are made of: files, devices, zpools and datasets that are there, what a peer has left.

use super::zfs::{Zpool, run};
use super::zfs_trials::{Run, custom, ensure, fails, folder, volume};
use larder_base::host::SystemHost;
use larder_storage_conformance::Outcome;
use larder_storage_driver::{Config, Content, Cx, Driver, ErrorKind, Mode, Result, VolumeKind, VolumeSpec};
use larder_storage_drivers::PoolSetup;
use larder_storage_drivers::zfs::Zfs;
use larder_storage_pool::{EmptyFill, Locks, Pool};
use std::fs;
use std::path::{Path, PathBuf};

/// All trials.
pub(super) const TRIALS: &[(&str, Run)] = &[
    ("a_pool_in_a_file_is_made_grown_closed_and_removed", a_pool_in_a_file),
    ("a_pool_in_a_file_that_another_system_had_is_opened", a_pool_in_a_file_of_another_system),
    ("a_pool_on_a_device_is_wiped_only_when_asked", a_pool_on_a_device),
    ("what_exists_is_used_if_it_is_empty", what_exists_is_used_if_it_is_empty),
    ("a_pool_of_a_peer_is_taken_over", a_pool_of_a_peer_is_taken_over),
];

/// A pool of its own, wherever its keys say.
struct Own {
    folder: tempfile::TempDir,
    config: Config,
}

impl Own {
    fn new(name: &str, keys: &[(&str, &str)]) -> std::io::Result<Self> {
        let mut config: Config =
            keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        config.entry("zfs.pool_name".to_owned()).or_insert_with(|| format!("{name}{}", std::process::id()));
        Ok(Self { folder: folder()?, config })
    }

    fn driver(&self) -> Result<Box<dyn Driver>> {
        let (root, disks) = (self.folder.path().join("pool"), self.folder.path().join("disks"));
        Ok(Box::new(Zfs::new(PoolSetup {
            name: "own".parse()?,
            root,
            disks,
            ceph_conf: None,
            config: self.config.clone(),
        })?))
    }

    fn cx(&self) -> Cx<'static> {
        super::btrfs::cx_over(&SystemHost)
    }

    fn create(&self) -> Result<Pool> {
        Pool::create(&self.cx(), "own".parse()?, self.driver()?, Locks::new())
    }

    fn open(&self) -> Result<Pool> {
        Pool::open(&self.cx(), "own".parse()?, self.driver()?, Locks::new())
    }

    fn make(&self, pool: &Pool, name: &str) -> Result<()> {
        pool.create_volume(&self.cx(), &VolumeSpec::new(custom(name)?), &EmptyFill)
    }

    fn zpool(&self) -> &str {
        &self.config["zfs.pool_name"]
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("disks/own.img")
    }
}

fn a_pool_in_a_file() -> Outcome {
    let own = Own::new("larderf", &[("size", "512MiB")])?;
    let pool = own.create()?;
    let recorded = pool.driver().recorded_config();
    ensure(recorded.get("source").map(Path::new) == Some(own.disk().as_path()), format!("{recorded:?}"))?;
    ensure(recorded.get("size").map(String::as_str) == Some("512MiB"), format!("{recorded:?}"))?;
    own.make(&pool, "v1")?;
    let before = pool.usage(&own.cx())?.total_bytes;
    let larger = Config::from([("size".to_owned(), "1GiB".to_owned())]);
    pool.change(&own.cx(), &recorded, &larger)?;
    let after = pool.usage(&own.cx())?.total_bytes;
    ensure(after > before + (400 << 20), format!("grown from {before} to {after}"))?;
    let smaller = Config::from([("size".to_owned(), "256MiB".to_owned())]);
    let refused = pool.change(&own.cx(), &larger, &smaller);
    ensure(
        matches!(&refused, Err(error) if matches!(error.kind(), ErrorKind::Unsupported(_))),
        format!("{refused:?}"),
    )?;
    // What is in use stays.
    let attached = pool.attach(&own.cx(), &custom("v1")?, Mode::ReadWrite)?;
    pool.close(&own.cx())?;
    fs::write(attached.directory()?.join("file"), "text")?;
    pool.detach(&own.cx(), &custom("v1")?)?;
    pool.close(&own.cx())?;
    ensure(run("zpool", &["list", own.zpool()]).is_err(), "it was not exported")?;
    fails(
        Pool::create(&own.cx(), "own".parse()?, own.driver()?, Locks::new()).map(drop),
        ErrorKind::Invalid,
        "own.img",
    )?;
    ensure(own.disk().exists(), "a refused creation removed the file")?;
    let pool = own.open()?;
    ensure(pool.places(&own.cx())?.len() == 1, "the volume is there")?;
    // While it has volumes it is somebody's, even when its catalog is lost.
    fails(own.create().map(drop), ErrorKind::Invalid, "source.recover")?;
    pool.destroy_pool(&own.cx())?;
    pool.destroy_pool(&own.cx())?;
    ensure(run("zpool", &["list", own.zpool()]).is_err() && !own.disk().exists(), "what is left")
}

/// Which system this is, to zfs.
const HOST: &str = "/sys/module/spl/parameters/spl_hostid";

/// The system that this was before, for as long as this lives another one.
struct Renamed {
    before: String,
}

impl Renamed {
    fn new(host: &str) -> std::io::Result<Self> {
        let before = fs::read_to_string(HOST)?;
        fs::write(HOST, host)?;
        Ok(Self { before })
    }
}

impl Drop for Renamed {
    fn drop(&mut self) {
        let _ = fs::write(HOST, self.before.trim_end());
    }
}

/// The machine stopped with the pool open, and its folder went to another one.
fn a_pool_in_a_file_of_another_system() -> Outcome {
    let first = Renamed::new("11")?;
    let own = Own::new("larderh", &[("size", "512MiB")])?;
    let pool = own.create()?;
    own.make(&pool, "v1")?;
    run("zpool", &["sync", own.zpool()])?;
    let copy = own.folder.path().join("copy");
    fs::copy(own.disk(), &copy)?;
    pool.close(&own.cx())?;
    fs::rename(&copy, own.disk())?;
    drop(first);
    let _second = Renamed::new("12")?;
    let disks = own.folder.path().join("disks").to_string_lossy().into_owned();
    let refused = run("zpool", &["import", "-N", "-d", &disks, own.zpool()]);
    ensure(refused.is_err(), "zfs took it for a pool of this system's")?;
    let pool = own.open()?;
    ensure(pool.places(&own.cx())?.len() == 1, "the volume is there")?;
    Ok(pool.destroy_pool(&own.cx())?)
}

/// A loop device with a file of its own, for as long as this lives.
struct LoopDevice {
    path: String,
    _folder: tempfile::TempDir,
}

impl LoopDevice {
    fn new() -> std::result::Result<Self, Box<dyn std::error::Error>> {
        run("modprobe", &["loop"])?;
        let folder = folder()?;
        let file = folder.path().join("device");
        fs::File::create(&file)?.set_len(512 << 20)?;
        let path = run("losetup", &["--find", "--show", &file.to_string_lossy()])?.trim_end().to_owned();
        Ok(Self { path, _folder: folder })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = run("losetup", &["--detach", &self.path]);
    }
}

fn a_pool_on_a_device() -> Outcome {
    let device = LoopDevice::new()?;
    run("mkfs.ext4", &["-q", "-F", &device.path])?;
    let own = Own::new("larderd", &[("source", &device.path)])?;
    fails(own.create().map(drop), ErrorKind::Invalid, "source.wipe")?;
    let own = Own::new("larderd", &[("source", &device.path), ("source.wipe", "true")])?;
    let pool = own.create()?;
    ensure(!pool.driver().recorded_config().contains_key("source.wipe"), "source.wipe is recorded")?;
    own.make(&pool, "v1")?;
    pool.close(&own.cx())?;
    let pool = own.open()?;
    ensure(pool.places(&own.cx())?.len() == 1, "the volume is there")?;
    pool.destroy_pool(&own.cx())?;
    // What is destroyed leaves an empty device.
    let own = Own::new("larderd", &[("source", &device.path)])?;
    own.create()?.destroy_pool(&own.cx())?;
    let absent = Own::new("larderd", &[("source", "/dev/larder-absent")])?;
    ensure(absent.create().is_err(), "a device that is not there")
}

fn what_exists_is_used_if_it_is_empty() -> Outcome {
    let zpool = Zpool::new(folder()?, 512 << 20)?;
    let name = zpool.name();
    // A whole zpool stays when the pool goes.
    let own = Own::new("x", &[("source", name), ("zfs.pool_name", name)])?;
    let pool = own.create()?;
    own.make(&pool, "v1")?;
    pool.destroy_pool(&own.cx())?;
    ensure(
        run("zfs", &["list", "-H", "-r", "-o", "name", name])?.trim_end() == name,
        "what is left in the zpool",
    )?;
    // So does what is somebody else's, whatever is asked for.
    run("zfs", &["create", "-p", &format!("{name}/theirs/precious")])?;
    fails(own.create().map(drop), ErrorKind::Invalid, "is not empty")?;
    let theirs = format!("{name}/theirs");
    let own = Own::new("x", &[("source", &theirs), ("zfs.pool_name", &theirs)])?;
    fails(own.create().map(drop), ErrorKind::Invalid, "is not empty")?;
    run("zfs", &["list", &format!("{name}/theirs/precious")])?;
    // A dataset is made where there is none, and goes with the pool.
    let ours = format!("{name}/ours");
    let own = Own::new("x", &[("source", &ours), ("zfs.pool_name", &ours)])?;
    let pool = own.create()?;
    own.make(&pool, "v1")?;
    pool.destroy_pool(&own.cx())?;
    ensure(run("zfs", &["list", &ours]).is_err(), "the dataset is left")?;
    let nowhere = Own::new("x", &[("source", "nowhere/ours"), ("zfs.pool_name", "nowhere/ours")])?;
    fails(nowhere.create().map(drop), ErrorKind::Invalid, "nowhere/ours")
}

fn a_pool_of_a_peer_is_taken_over() -> Outcome {
    let zpool = Zpool::new(folder()?, 512 << 20)?;
    let name = zpool.name();
    for (options, dataset) in [
        (&["-o", "mountpoint=legacy"][..], "containers"),
        (&["-o", "mountpoint=legacy"], "containers/c1"),
        (&["-o", "mountpoint=legacy"], "virtual-machines"),
        (&["-o", "mountpoint=legacy"], "virtual-machines/m1"),
        (&["-s", "-V", "1M", "-o", "volmode=none"], "virtual-machines/m1.block"),
        (&["-o", "mountpoint=legacy"], "custom"),
        (&["-s", "-V", "1M", "-o", "volmode=none", "-o", "incus:content_type=iso"], "custom/default_cd.iso"),
        (&["-o", "mountpoint=none"], "deleted"),
    ] {
        let full = format!("{name}/{dataset}");
        run("zfs", &[&["create"], options, &[full.as_str()]].concat())?;
    }
    run("zfs", &["snapshot", &format!("{name}/containers/c1@snapshot-snap0")])?;
    let own = Own::new("x", &[("source", name), ("zfs.pool_name", name), ("source.recover", "true")])?;
    let pool = Pool::adopt(&own.cx(), "own".parse()?, own.driver()?, Locks::new())?;
    let places: Vec<String> = pool.places(&own.cx())?.iter().map(ToString::to_string).collect();
    let expected = [
        "container volume c1",
        "container volume c1, snapshot snap0",
        "virtual-machine volume m1",
        "custom volume cd",
    ];
    ensure(places == expected, format!("{places:?}"))?;
    let c1 = volume(VolumeKind::Container, Content::Filesystem, "c1")?;
    let attached = pool.attach(&own.cx(), &c1, Mode::ReadWrite)?;
    fs::write(attached.directory()?.join("file"), "text")?;
    pool.detach(&own.cx(), &c1)?;
    pool.close(&own.cx())?;
    run("zpool", &["import", "-d", &zpool.folder().to_string_lossy(), name])?;
    Ok(())
}
