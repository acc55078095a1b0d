//! What LVM alone does: its sources, its thin pools, the filesystems on its volumes.

use super::lvm::output;
use super::{fast_folder, scratch};
use larder_base::host::SystemHost;
use larder_base::{ByteSize, Cancel, Progress, ProjectName, Ticket};
use larder_storage_conformance::{Outcome, OwnTrial};
use larder_storage_driver::{
    Content, Cx, ErrorKind, Mode, Place, Result, StorageError, VolumeId, VolumeSpec,
};
use larder_storage_drivers::PoolSetup;
use larder_storage_drivers::lvm::Lvm;
use larder_storage_pool::{CopyPlan, CopySource, EmptyFill, Locks, Pool};
use libtest_mimic::Failed;
use std::fs;
use std::path::Path;
use uuid::Uuid;

type Run = fn(&Machine) -> Outcome;

/// All trials.
pub(crate) fn all() -> Vec<OwnTrial> {
    let trials: Vec<(&str, Run)> = vec![
        ("a_pool_on_a_device_is_wiped_only_when_asked", a_pool_on_a_device),
        ("a_volume_group_that_others_use_is_refused_clearly", a_volume_group_of_others),
        ("a_thin_pool_that_is_there_is_used_and_stays", a_thin_pool_that_is_there),
        ("a_pool_in_a_file_grows_and_is_taken_over", a_pool_in_a_file),
        ("a_pool_beside_another_in_its_group_takes_nothing_with_it", a_pool_beside_another),
        ("a_thin_pool_that_is_filling_grows_into_its_group", a_thin_pool_that_is_filling),
        ("what_others_have_in_a_group_that_was_made_stays", what_others_have),
        ("ext4_grows_shrinks_and_is_cloned_with_a_new_identifier", |machine| a_filesystem(machine, "ext4")),
        ("xfs_grows_and_is_cloned_with_a_new_identifier", |machine| a_filesystem(machine, "xfs")),
        ("btrfs_grows_shrinks_and_is_cloned_with_a_new_identifier", |machine| a_filesystem(machine, "btrfs")),
        ("what_lvm_cannot_spell_is_refused", what_lvm_cannot_spell),
        ("what_cannot_be_mounted_is_not_left_active", what_cannot_be_mounted),
    ];
    let trial = |(name, run): (&str, Run)| {
        OwnTrial::new(format!("lvm::own::{name}"), move || {
            let machine = Machine::new().map_err(|error| Failed::from(error.to_string()))?;
            run(&machine).map_err(|error| match error.downcast_ref::<StorageError>() {
                Some(error) => Failed::from(error.chain()),
                None => Failed::from(error.to_string()),
            })
        })
    };
    trials.into_iter().map(trial).collect()
}

/// A device of the machine and a folder, both gone when this is.
#[derive(Debug)]
struct Machine {
    folder: tempfile::TempDir,
    device: String,
    vg: String,
}

impl Machine {
    fn new() -> std::io::Result<Self> {
        let folder = scratch(fast_folder())?;
        let file = folder.path().join("device");
        fs::File::create(&file)?.set_len(4 << 30)?;
        let device = output("losetup", &["--find", "--show", &file.to_string_lossy()])?.trim().to_owned();
        Ok(Self { folder, device, vg: format!("lab-{}", Uuid::new_v4().simple()) })
    }

    fn driver(&self, keys: &[(&str, &str)]) -> Result<Lvm> {
        self.driver_at("pool", keys)
    }

    fn driver_at(&self, root: &str, keys: &[(&str, &str)]) -> Result<Lvm> {
        let config = keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (root, disks) = (self.folder.path().join(root), self.folder.path().join("disks"));
        Lvm::new(PoolSetup { name: "pool0".parse()?, root, disks, ceph_conf: None, config })
    }

    fn cx(&self) -> Cx<'static> {
        let ticket = Ticket::new("none", Uuid::new_v4(), Uuid::new_v4());
        Cx::new(&SystemHost, Progress::silent(), Cancel::never(), ticket)
    }

    fn create(&self, keys: &[(&str, &str)]) -> Result<Pool> {
        Pool::create(&self.cx(), "pool0".parse()?, Box::new(self.driver(keys)?), Locks::new())
    }

    fn adopt(&self, keys: &[(&str, &str)]) -> Result<Pool> {
        Pool::adopt(&self.cx(), "pool0".parse()?, Box::new(self.driver(keys)?), Locks::new())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = output("vgremove", &["--force", "--force", "--yes", &self.vg]);
        let _ = output("losetup", &["--detach", &self.device]);
    }
}

fn ensure(holds: bool, what: impl Into<String>) -> Outcome {
    if holds { Ok(()) } else { Err(what.into().into()) }
}

fn fails<T: std::fmt::Debug>(outcome: Result<T>, kind: ErrorKind, words: &str) -> Outcome {
    match outcome {
        Err(error) if error.kind() == kind && error.chain().contains(words) => Ok(()),
        other => {
            let found = other.map_err(|error| (error.kind(), error.chain()));
            Err(format!("expected {kind:?} with {words:?}: {found:?}").into())
        }
    }
}

fn volume(name: &str) -> Result<VolumeId> {
    Ok(VolumeId::custom(Content::Filesystem, ProjectName::default_project(), name.parse()?))
}

fn spec(name: &str, mebibytes: u64, keys: &[(&str, &str)]) -> Result<VolumeSpec> {
    let config = keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let spec = VolumeSpec::new(volume(name)?).with_size(ByteSize::from_mebibytes(mebibytes));
    Ok(VolumeSpec { config, ..spec })
}

fn has_group(name: &str) -> std::io::Result<bool> {
    Ok(output("vgs", &["--noheadings", "--options", "vg_name"])?.lines().any(|line| line.trim() == name))
}

fn a_pool_on_a_device(machine: &Machine) -> Outcome {
    output("mkfs.ext4", &["-q", "-F", &machine.device])?;
    let keys = [("source", machine.device.as_str()), ("lvm.vg_name", machine.vg.as_str())];
    fails(machine.create(&keys), ErrorKind::Invalid, "ext4")?;
    ensure(output("blkid", &["--probe", &machine.device])?.contains("ext4"), "a refusal wiped the device")?;
    let wiping = [keys[0], keys[1], ("source.wipe", "true")];
    let pool = machine.create(&wiping)?;
    let usage = pool.usage(&machine.cx())?;
    ensure(usage.total_bytes > 3 << 30 && usage.used_bytes < 1 << 30, format!("{usage:?}"))?;
    pool.destroy_pool(&machine.cx())?;
    ensure(!has_group(&machine.vg)?, "the volume group is left")?;
    ensure(
        output("blkid", &["--probe", &machine.device])?.trim().is_empty(),
        "the device is not free again",
    )?;
    ensure(!machine.folder.path().join("pool").exists(), "the folder is left")
}

fn a_volume_group_of_others(machine: &Machine) -> Outcome {
    let keys = [("source", machine.vg.as_str())];
    fails(machine.create(&keys), ErrorKind::NotFound, &machine.vg)?;
    output("vgcreate", &["--quiet", &machine.vg, &machine.device])?;
    output("lvcreate", &["--quiet", "--yes", "--size", "16m", "--name", "root", &machine.vg])?;
    fails(machine.create(&keys), ErrorKind::InUse, "root")?;
    output("vgchange", &["--addtag", "incus_pool", &machine.vg])?;
    fails(machine.create(&keys), ErrorKind::InUse, "Incus")?;
    let sharing = [keys[0], ("lvm.vg.force_reuse", "true"), ("lvm.thinpool_name", "ours")];
    let pool = machine.create(&sharing)?;
    pool.create_volume(&machine.cx(), &spec("v1", 64, &[])?, &EmptyFill)?;
    ensure(pool.places(&machine.cx())? == [Place::live(&volume("v1")?)], "what is not ours was listed")?;
    let theirs = "custom_default_theirs";
    output("lvcreate", &["--quiet", "--yes", "--size", "16m", "--name", theirs, &machine.vg])?;
    pool.trash(&machine.cx(), &Place::live(&volume("v1")?))?;
    pool.destroy_pool(&machine.cx())?;
    let left = output("lvs", &["--noheadings", "--options", "lv_name", &machine.vg])?;
    let is_left = |name: &&str| ["root", theirs].contains(name);
    ensure(
        left.split_whitespace().all(|name| is_left(&name)) && left.split_whitespace().count() == 2,
        format!("not what was there before is left: {left}"),
    )?;
    let tags = output("vgs", &["--noheadings", "--options", "vg_tags", &machine.vg])?;
    ensure(tags.trim() == "incus_pool", format!("not the tags there were before: {tags}"))
}

fn a_thin_pool_that_is_there(machine: &Machine) -> Outcome {
    output("vgcreate", &["--quiet", &machine.vg, &machine.device])?;
    let thin = ["--quiet", "--yes", "--type", "thin-pool", "--size", "1g", "--name", "tank", &machine.vg];
    output("lvcreate", &thin)?;
    let keys = [("source", machine.vg.as_str()), ("lvm.thinpool_name", "tank")];
    let pool = machine.create(&keys)?;
    ensure(pool.usage(&machine.cx())?.total_bytes == 1 << 30, "another pool's size")?;
    pool.create_volume(&machine.cx(), &spec("v1", 64, &[])?, &EmptyFill)?;
    pool.trash(&machine.cx(), &Place::live(&volume("v1")?))?;
    pool.destroy_pool(&machine.cx())?;
    let left = output("lvs", &["--noheadings", "--options", "lv_name", &machine.vg])?;
    ensure(left.split_whitespace().eq(["tank"]), format!("not what was there before is left: {left}"))
}

fn a_pool_in_a_file(machine: &Machine) -> Outcome {
    let keys = [("size", "1GiB"), ("lvm.vg_name", machine.vg.as_str())];
    let pool = machine.create(&keys)?;
    let before = pool.usage(&machine.cx())?.total_bytes;
    pool.create_volume(&machine.cx(), &spec("v1", 64, &[])?, &EmptyFill)?;
    let (old, new) = (config(&keys), config(&[("size", "2GiB"), keys[1]]));
    pool.change(&machine.cx(), &old, &new)?;
    let after = pool.usage(&machine.cx())?.total_bytes;
    ensure(after > before + (700 << 20), format!("{before} grew to {after} only"))?;
    fails(
        pool.change(&machine.cx(), &new, &old),
        ErrorKind::Unsupported(larder_storage_driver::Need::Shrink),
        "shrink",
    )?;
    pool.close(&machine.cx())?;
    ensure(!has_group(&machine.vg)?, "a closed pool's volume group is still there")?;
    let pool = machine.adopt(&[("size", "2GiB"), keys[1], ("source.recover", "true")])?;
    ensure(pool.places(&machine.cx())? == [Place::live(&volume("v1")?)], "not what was there")?;
    pool.destroy_pool(&machine.cx())?;
    ensure(fs::read_dir(machine.folder.path().join("disks"))?.next().is_none(), "the pool's file is left")
}

/// A group that was made for one pool, and is shared by another.
fn a_pool_beside_another(machine: &Machine) -> Outcome {
    let pool = machine.create(&[("size", "1GiB"), ("lvm.vg_name", machine.vg.as_str())])?;
    pool.create_volume(&machine.cx(), &spec("v1", 64, &[])?, &EmptyFill)?;
    let keys =
        [("source", machine.vg.as_str()), ("lvm.vg.force_reuse", "true"), ("lvm.thinpool_name", "other")];
    let create = |keys: &[(&str, &str)]| {
        let driver = Box::new(machine.driver_at("beside", keys)?);
        Pool::create(&machine.cx(), "pool1".parse()?, driver, Locks::new())
    };
    let too_large = [keys[0], keys[1], keys[2], ("lvm.thinpool_metadata_size", "1GiB")];
    ensure(create(&too_large).is_err(), "there was room for the metadata")?;
    create(&keys)?.destroy_pool(&machine.cx())?;
    ensure(
        pool.places(&machine.cx())? == [Place::live(&volume("v1")?)],
        "not what was there before is left",
    )?;
    pool.destroy_pool(&machine.cx())?;
    ensure(!has_group(&machine.vg)?, "the volume group is left")
}

/// A thin pool that had only what somebody else left of the group, who then gives it back.
fn a_thin_pool_that_is_filling(machine: &Machine) -> Outcome {
    output("vgcreate", &["--quiet", &machine.vg, &machine.device])?;
    output("lvcreate", &["--quiet", "--yes", "--size", "3880m", "--name", "theirs", &machine.vg])?;
    let keys = [("source", machine.vg.as_str()), ("lvm.vg.force_reuse", "true")];
    let pool = machine.create(&keys)?;
    let (cx, id) = (machine.cx(), volume("v1")?);
    let before = pool.usage(&cx)?.total_bytes;
    pool.create_volume(&cx, &spec("v1", 400, &[])?, &EmptyFill)?;
    let attached = pool.attach(&cx, &id, Mode::ReadWrite)?;
    let file = fs::File::create(attached.directory()?.join("file"))?;
    // With what the filesystems of the volumes have beside files.
    let full = usize::try_from((before / 100 * 82).saturating_sub(pool.usage(&cx)?.used_bytes))?;
    std::io::Write::write_all(&mut &file, &vec![7; full])?;
    file.sync_all()?;
    drop(file);
    pool.create_volume(&cx, &spec("v2", 32, &[])?, &EmptyFill)?;
    ensure(pool.usage(&cx)?.total_bytes == before, "it grew into what somebody else has")?;
    output("lvremove", &["--quiet", "--yes", &format!("{}/theirs", machine.vg)])?;
    pool.create_volume(&cx, &spec("v3", 32, &[])?, &EmptyFill)?;
    let after = pool.usage(&cx)?.total_bytes;
    let fifth = before / 5;
    ensure((after - before).abs_diff(fifth) < 4 << 20, format!("{before} grew to {after}"))?;
    pool.detach(&cx, &id)?;
    for name in ["v1", "v2", "v3"] {
        pool.trash(&cx, &Place::live(&volume(name)?))?;
    }
    pool.destroy_pool(&cx)?;
    let left = output("lvs", &["--noheadings", "--options", "lv_name", &machine.vg])?;
    ensure(left.trim().is_empty(), format!("left: {left}"))
}

/// A group and a thin pool that were made, in a file, in which somebody else has volumes by now: one beside the thin pool that is
/// in use, one in it, and one that is called as the peers' are.
fn what_others_have(machine: &Machine) -> Outcome {
    let pool = machine.create(&[
        ("size", "1GiB"),
        ("lvm.vg_name", &machine.vg),
        ("lvm.thinpool_name", "tank"),
        ("lvm.thinpool_metadata_size", "4MiB"),
    ])?;
    let cx = machine.cx();
    let lvcreate = |words: &[&str]| output("lvcreate", &[&["--quiet", "--yes"], words].concat());
    lvcreate(&["--size", "8m", "--name", "root", &machine.vg])?;
    lvcreate(&["--thinpool", "tank", "--virtualsize", "16m", "--name", "data", &machine.vg])?;
    let named = "custom_default_theirs";
    lvcreate(&["--thinpool", "tank", "--virtualsize", "16m", "--name", named, &machine.vg])?;
    let root = format!("/dev/{}/root", machine.vg);
    let open = fs::File::open(&root)?;
    pool.create_volume(&cx, &spec("v1", 64, &[])?, &EmptyFill)?;
    pool.snapshot(&cx, &volume("v1")?, &"s0".parse()?)?;
    pool.trash(&cx, &Place::live(&volume("v1")?))?;
    ensure(pool.at_stake(&cx)?.is_empty(), "what is somebody else's is at stake")?;
    pool.destroy_pool(&cx)?;
    let listed = output("lvs", &["--noheadings", "--options", "lv_name", &machine.vg])?;
    let mut left: Vec<_> = listed.split_whitespace().collect();
    left.sort_unstable();
    ensure(
        left == [named, "data", "root", "tank"],
        format!("not what was somebody else's is left: {listed}"),
    )?;
    let tags = output("lvs", &["--noheadings", "--options", "vg_tags,lv_tags", &machine.vg])?;
    ensure(!tags.contains("larder"), format!("marks are left: {tags}"))?;
    drop(open);
    let file = machine.folder.path().join("disks/pool0.img");
    output("vgremove", &["--force", "--force", "--yes", &machine.vg])?;
    let device =
        output("losetup", &["--noheadings", "--output", "NAME", "--associated", &file.to_string_lossy()])?;
    output("losetup", &["--detach", device.trim()])?;
    Ok(())
}

fn config(keys: &[(&str, &str)]) -> larder_storage_driver::Config {
    keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn uuid_of(device: &Path) -> std::io::Result<String> {
    output("blkid", &["--probe", "--match-tag", "UUID", "--output", "value", &device.to_string_lossy()])
}

fn a_filesystem(machine: &Machine, kind: &str) -> Outcome {
    let pool =
        machine.create(&[("source", machine.device.as_str()), ("lvm.vg_name", machine.vg.as_str())])?;
    let cx = machine.cx();
    let (from, copy) = (volume("v1")?, volume("v2")?);
    let keys =
        [("block.filesystem", kind), ("block.mount_options", "noatime,discard"), ("initial.mode", "0750")];
    pool.create_volume(&cx, &spec("v1", 400, &keys)?, &EmptyFill)?;
    let attached = pool.attach(&cx, &from, Mode::ReadWrite)?;
    let root = attached.directory()?;
    ensure(fs::read_dir(root)?.next().is_none(), "a new volume is not empty")?;
    ensure(
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(root)?.permissions()) & 0o7777 == 0o750,
        "its mode",
    )?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mounted = mounts.lines().find(|line| line.contains(&*root.to_string_lossy())).unwrap_or_default();
    for option in [kind, "nodev", "nosuid", "noatime"] {
        ensure(mounted.contains(option), format!("{mounted} lacks {option}"))?;
    }
    fs::write(root.join("file"), "past")?;
    // In use: the snapshot, the copy and the original are mounted at once.
    pool.snapshot(&cx, &from, &"s0".parse()?)?;
    fs::write(root.join("file"), "now")?;
    let source = CopySource { pool: &pool, volume: &from, snapshot: None };
    pool.copy_volume(&cx, source, &CopyPlan { spec: &VolumeSpec::new(copy.clone()), snapshots: &[] })?;
    let snapshot = pool.attach_snapshot(&cx, &from, &"s0".parse()?)?;
    let copied = pool.attach(&cx, &copy, Mode::ReadWrite)?;
    let texts =
        [root, snapshot.directory()?, copied.directory()?].map(|root| fs::read_to_string(root.join("file")));
    let texts = texts.into_iter().collect::<std::io::Result<Vec<_>>>()?;
    ensure(texts == ["now", "past", "now"], format!("{texts:?}"))?;
    let device = |name: &str| Path::new("/dev").join(&machine.vg).join(name);
    let (one, other) = (uuid_of(&device("custom_default_v1"))?, uuid_of(&device("custom_default_v2"))?);
    ensure(
        !one.is_empty() && one != other,
        format!("the copy has the identifier {other} of its source {one}"),
    )?;
    let megabytes = |number| Some(ByteSize::from_mebibytes(number));
    pool.resize(&cx, &from, megabytes(400), megabytes(600))?;
    let size = |root: &Path| rustix::fs::statvfs(root).map(|found| found.f_blocks * found.f_frsize);
    ensure(size(root)? > 450 << 20, format!("in use it grew to {} only", size(root)?))?;
    for snapshot_or_copy in [&copy, &from] {
        pool.detach(&cx, snapshot_or_copy)?;
    }
    pool.detach_snapshot(&cx, &from, &"s0".parse()?)?;
    pool.resize(&cx, &copy, megabytes(400), megabytes(500))?;
    let shrunk = pool.resize(&cx, &copy, megabytes(500), megabytes(350));
    if kind == "xfs" {
        fails(shrunk, ErrorKind::Unsupported(larder_storage_driver::Need::Shrink), "xfs")?;
    } else {
        shrunk?;
        fails(pool.resize(&cx, &copy, megabytes(350), megabytes(4)), ErrorKind::Invalid, "needs")?;
    }
    let attached = pool.attach(&cx, &copy, Mode::ReadOnly)?;
    ensure(fs::read_to_string(attached.directory()?.join("file"))? == "now", "resizing lost the content")?;
    pool.detach(&cx, &copy)?;
    Ok(pool.destroy_pool(&cx)?)
}

fn what_cannot_be_mounted(machine: &Machine) -> Outcome {
    let pool = machine.create(&[
        ("source", &machine.device),
        ("lvm.vg_name", &machine.vg),
        ("lvm.thinpool_name", "thin"),
    ])?;
    let cx = machine.cx();
    pool.create_volume(&cx, &spec("v1", 32, &[])?, &EmptyFill)?;
    let active = || -> std::io::Result<Vec<String>> {
        let lvs = output("lvs", &["--noheadings", "--options", "lv_name,lv_active", &machine.vg])?;
        let active = lvs.lines().filter(|line| line.contains("active"));
        Ok(active.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    };
    let idle = active()?;
    let volume = volume("v1")?;
    pool.attach(&cx, &volume, Mode::ReadWrite)?;
    let in_use = active()?;
    pool.detach(&cx, &volume)?;
    ensure(in_use.len() == idle.len() + 1, format!("idle {idle:?}, in use {in_use:?}"))?;
    let lv = in_use.iter().find(|lv| !idle.contains(lv)).ok_or("nothing was active")?;
    let lv = format!("{}/{lv}", machine.vg);
    output("lvchange", &["--activate", "y", "--ignoreactivationskip", &lv])?;
    output("wipefs", &["--all", &format!("/dev/{lv}")])?;
    output("lvchange", &["--activate", "n", &lv])?;
    ensure(pool.attach(&cx, &volume, Mode::ReadWrite).is_err(), "no filesystem was mounted")?;
    ensure(active()? == idle, format!("{:?} are active, {idle:?} were", active()?))?;
    Ok(pool.destroy_pool(&cx)?)
}

fn what_lvm_cannot_spell(machine: &Machine) -> Outcome {
    let pool =
        machine.create(&[("source", machine.device.as_str()), ("lvm.vg_name", machine.vg.as_str())])?;
    let cx = machine.cx();
    for name in ["nämlich", "a@b", "x_tmeta", "v.block"] {
        fails(pool.create_volume(&cx, &spec(name, 64, &[])?, &EmptyFill), ErrorKind::Invalid, name)?;
    }
    pool.create_volume(&cx, &spec("v1", 64, &[])?, &EmptyFill)?;
    fails(pool.rename_volume(&cx, &volume("v1")?, &volume("a@b")?), ErrorKind::Invalid, "a@b")?;
    fails(pool.snapshot(&cx, &volume("v1")?, &"s:0".parse()?), ErrorKind::Invalid, "s:0")?;
    ensure(pool.places(&cx)? == [Place::live(&volume("v1")?)], "something was made")?;
    Ok(pool.destroy_pool(&cx)?)
}
