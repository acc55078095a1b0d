//! What cephfs alone does: folders that somebody else has, restores under a quota.

use super::btrfs::cx;
use super::ceph_trials::chain;
use super::machine::{config, refused, same};
use super::{fast_folder, scratch};
use larder_base::ByteSize;
use larder_storage_conformance::{Outcome, OwnTrial};
use larder_storage_driver::{
    Attached, Content, Cx, Driver, ErrorKind, Mode, Place, Result, VolumeId, VolumeSpec,
};
use larder_storage_drivers::{PoolSetup, load};
use larder_storage_pool::{EmptyFill, Locks, Pool};
use libtest_mimic::Failed;
use std::fs;
use std::path::PathBuf;

type Run = fn(&Machine) -> Outcome;

/// All trials, in folders of the CephFS `home`.
pub(crate) fn all(home: &str) -> Vec<OwnTrial> {
    let trials: [(&str, Run); 4] = [
        ("what_has_no_mark_of_ours_stays", what_has_no_mark),
        ("a_restore_is_not_stopped_by_a_quota", a_restore_under_a_quota),
        ("snapshots_in_folders_of_a_volume_go_with_it", snapshots_in_folders),
        ("a_snapshot_has_what_was_just_written", what_was_just_written),
    ];
    let trial = |(name, run): (&str, Run)| {
        let home = home.to_owned();
        OwnTrial::new(format!("cephfs::own::{name}"), move || {
            let machine = Machine::new(&home).map_err(|error| Failed::from(error.to_string()))?;
            run(&machine).map_err(|error| Failed::from(chain(error.as_ref())))
        })
    };
    trials.into_iter().map(trial).collect()
}

/// A folder to mount in, and one of the CephFS that nobody else has.
struct Machine {
    folder: tempfile::TempDir,
    path: String,
}

impl Machine {
    fn new(home: &str) -> std::io::Result<Self> {
        let path = format!("{home}/own-{}", uuid::Uuid::new_v4().simple());
        Ok(Self { folder: scratch(fast_folder())?, path })
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("pool")
    }

    fn driver(&self, keys: &[(&str, &str)]) -> Result<Box<dyn Driver>> {
        let config = config(&[&[("cephfs.path", self.path.as_str())], keys].concat());
        let disks = self.folder.path().join("disks");
        load(
            "cephfs",
            PoolSetup { name: "pool0".parse()?, root: self.root(), disks, ceph_conf: None, config },
        )
    }
}

/// A creation that fails is undone by destroying the pool: that must not reach what somebody else has there.
fn what_has_no_mark(machine: &Machine) -> Outcome {
    let driver = machine.driver(&[])?;
    driver.create_pool(&cx())?;
    driver.open_pool(&cx())?;
    let theirs = machine.root().join("custom/default_theirs");
    fs::create_dir(&theirs)?;
    fs::write(theirs.join("file"), "text")?;
    fs::remove_dir_all(machine.root().join(".larder"))?;
    refused(machine.driver(&[])?.create_pool(&cx()), ErrorKind::Invalid, "not empty")?;
    driver.destroy_pool(&cx())?;
    same(&theirs.exists(), &false, "whether it is mounted still")?;
    let recovering = machine.driver(&[("source.recover", "true")])?;
    recovering.open_pool(&cx())?;
    same(&fs::read_to_string(theirs.join("file"))?, &"text".to_owned(), "what was there")?;
    Ok(recovering.destroy_pool(&cx())?)
}

/// CephFS lets whoever may write in a volume make snapshots in any folder of it.
fn snapshots_in_folders(machine: &Machine) -> Outcome {
    let pool = Pool::create(&cx(), "pool0".parse()?, machine.driver(&[])?, Locks::new())?;
    let id = VolumeId::custom(Content::Filesystem, "default".parse()?, "v1".parse()?);
    pool.create_volume(&cx(), &VolumeSpec::new(id.clone()), &EmptyFill)?;
    let folder = pool.attach(&cx(), &id, Mode::ReadWrite)?.directory()?.to_owned();
    let deep = folder.join("a/b");
    fs::create_dir_all(&deep)?;
    fs::write(deep.join("file"), "text")?;
    for snapshot in ["a/.snap/theirs", "a/b/.snap/theirs"] {
        fs::create_dir(folder.join(snapshot))?;
    }
    pool.snapshot(&cx(), &id, &"s0".parse()?)?;
    pool.detach(&cx(), &id)?;
    let trashed = pool.trash(&cx(), &Place::live(&id))?;
    pool.driver().destroy(&cx(), &trashed)?;
    same(&pool.places(&cx())?, &Vec::new(), "what is left")?;
    Ok(pool.destroy_pool(&cx())?)
}

/// A kernel may lose what it has still to write when a file is truncated right after a snapshot of it.
fn what_was_just_written(machine: &Machine) -> Outcome {
    let pool = Pool::create(&cx(), "pool0".parse()?, machine.driver(&[])?, Locks::new())?;
    let id = VolumeId::custom(Content::Filesystem, "default".parse()?, "v1".parse()?);
    pool.create_volume(&cx(), &VolumeSpec::new(id.clone()), &EmptyFill)?;
    let folder = pool.attach(&cx(), &id, Mode::ReadWrite)?.directory()?.to_owned();
    let file = folder.join("file");
    for name in (0..40).map(|number| format!("s{number}")) {
        fs::write(&file, &name)?;
        pool.snapshot(&cx(), &id, &name.parse()?)?;
        fs::write(&file, "now")?;
        same(&fs::read_to_string(folder.join(".snap").join(&name).join("file"))?, &name, "the snapshot")?;
    }
    pool.detach(&cx(), &id)?;
    Ok(pool.destroy_pool(&cx())?)
}

/// Both the files of the snapshot and those of now are there for a moment: more than the quota allows.
fn a_restore_under_a_quota(machine: &Machine) -> Outcome {
    let pool = Pool::create(&cx(), "pool0".parse()?, machine.driver(&[])?, Locks::new())?;
    let id = VolumeId::custom(Content::Filesystem, "default".parse()?, "v1".parse()?);
    let size = ByteSize::from_mebibytes(32);
    let spec = VolumeSpec { size: Some(size), ..VolumeSpec::new(id.clone()) };
    let content = vec![7; 24 << 20];
    let fill = |_: &Cx<'_>, into: &Attached| -> Result<()> {
        Ok(fs::write(into.directory()?.join("past"), &content)?)
    };
    pool.create_volume(&cx(), &spec, &fill)?;
    pool.snapshot(&cx(), &id, &"s0".parse()?)?;
    let attached = pool.attach(&cx(), &id, Mode::ReadWrite)?;
    let folder = attached.directory()?.to_owned();
    fs::remove_file(folder.join("past"))?;
    fs::File::open(&folder)?.sync_all()?;
    fs::write(folder.join("now"), &content)?;
    pool.detach(&cx(), &id)?;
    pool.restore(&cx(), &spec, &"s0".parse()?, true)?;
    same(&folder.join("now").exists(), &false, "what was written since")?;
    same(&(fs::read(folder.join("past"))? == content), &true, "whether the past is back")?;
    same(&pool.volume_usage(&cx(), &id)?.total_bytes, &Some(size.as_bytes()), "the quota")?;
    Ok(pool.destroy_pool(&cx())?)
}
