//! What ceph alone does: OSD pools that are made and go, clusters that do not answer, filesystems in use, what peers left.

use super::btrfs::cx;
use super::lvm::output;
use super::machine::{config, refused, same};
use super::{fast_folder, scratch};
use larder_base::ByteSize;
use larder_storage_conformance::{Outcome, OwnTrial};
use larder_storage_driver::{
    Attached, Config, Content, Cx, Driver, ErrorKind, Mode, Place, Result, VolumeId, VolumeSpec,
};
use larder_storage_drivers::{PoolSetup, load};
use larder_storage_pool::{Locks, Pool};
use libtest_mimic::Failed;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

type Run = fn(&Machine) -> Outcome;

/// All trials, in namespaces of the OSD pool `home`.
pub(crate) fn all(home: &str) -> Vec<OwnTrial> {
    let trials: [(&str, Run); 7] = [
        ("an_osd_pool_is_made_belongs_to_one_and_goes", an_osd_pool),
        ("a_cluster_that_does_not_answer_is_unavailable_in_time", a_silent_cluster),
        ("a_filesystem_grows_in_use_and_shrinks", a_filesystem_grows_and_shrinks),
        ("a_snapshot_of_a_volume_in_use_is_whole", a_snapshot_in_use),
        ("what_a_peer_protected_goes_with_its_last_clone", what_a_peer_protected),
        ("what_a_peer_has_beside_a_pool_stays", what_a_peer_has),
        ("a_rename_that_was_cut_off_is_finished", a_rename_that_was_cut_off),
    ];
    let trial = |(name, run): (&str, Run)| {
        let home = home.to_owned();
        OwnTrial::new(format!("ceph::own::{name}"), move || {
            let machine = Machine::new(&home).map_err(|error| Failed::from(error.to_string()))?;
            run(&machine).map_err(|error| Failed::from(chain(error.as_ref())))
        })
    };
    trials.into_iter().map(trial).collect()
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A folder to mount in, and names that nobody else has.
struct Machine {
    folder: tempfile::TempDir,
    id: String,
    namespace: String,
}

impl Machine {
    fn new(home: &str) -> std::io::Result<Self> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        Ok(Self { folder: scratch(fast_folder())?, namespace: format!("{home}/own-{id}"), id })
    }

    fn driver(&self, config: Config) -> Result<Box<dyn Driver>> {
        let (root, disks) = (self.folder.path().join("pool"), self.folder.path().join("disks"));
        load("ceph", PoolSetup { name: "pool0".parse()?, root, disks, ceph_conf: None, config })
    }

    fn pool(&self) -> Result<Pool> {
        let keys = [("source", self.namespace.as_str()), ("volume.size", "64MiB")];
        Pool::create(&cx(), "pool0".parse()?, self.driver(config(&keys))?, Locks::new())
    }
}

fn volume() -> Result<VolumeId> {
    Ok(VolumeId::custom(Content::Filesystem, "default".parse()?, "v1".parse()?))
}

fn holding(text: &'static str) -> impl Fn(&Cx<'_>, &Attached) -> Result<()> {
    move |_, into| Ok(fs::write(into.directory()?.join("file"), text)?)
}

fn text(folder: &Path) -> Result<String> {
    Ok(fs::read_to_string(folder.join("file"))?)
}

fn an_osd_pool(machine: &Machine) -> Outcome {
    let name = format!("larder-{}", machine.id);
    let keys = [("source", name.as_str()), ("ceph.osd.pg_num", "8")];
    let recorded = machine.driver(config(&keys))?.recorded_config();
    let driver = machine.driver(recorded.clone())?;
    driver.create_pool(&cx())?;
    driver.create_pool(&cx())?;
    driver.open_pool(&cx())?;
    driver.must_answer(&cx())?;
    let other = machine.driver(config(&keys))?;
    refused(other.create_pool(&cx()), ErrorKind::Invalid, "another storage pool")?;
    refused(other.open_pool(&cx()), ErrorKind::Invalid, "source.recover")?;
    let taking_over = machine.driver(config(&[keys[0], ("source.recover", "true")]))?;
    taking_over.open_pool(&cx())?;
    refused(driver.must_answer(&cx()), ErrorKind::Unavailable, "taken over")?;
    let theirs = format!("{name}/theirs");
    output("rbd", &["namespace", "create", &theirs])?;
    refused(taking_over.destroy_pool(&cx()), ErrorKind::InUse, "the namespace theirs")?;
    output("rbd", &["namespace", "remove", &theirs])?;
    taking_over.destroy_pool(&cx())?;
    taking_over.destroy_pool(&cx())?;
    refused(driver.open_pool(&cx()), ErrorKind::NotFound, &name)?;
    let pools = output("rados", &["lspools"])?;
    same(&pools.lines().any(|pool| pool == name), &false, "whether the OSD pool is left")
}

/// A monitor at a port where nobody listens.
fn a_silent_cluster(machine: &Machine) -> Outcome {
    let file = Path::new("/etc/ceph").join(format!("{}.conf", machine.id));
    fs::write(&file, "[global]\nmon host = v1:127.0.0.1:9\nkeyring = /etc/ceph/ceph.client.admin.keyring\n")?;
    let driver = machine.driver(config(&[("source", "any"), ("ceph.cluster_name", &machine.id)]))?;
    let since = Instant::now();
    let outcomes = [driver.create_pool(&cx()), driver.open_pool(&cx()), driver.list(&cx()).map(drop)];
    let took = since.elapsed();
    fs::remove_file(&file)?;
    for outcome in outcomes {
        refused(outcome, ErrorKind::Unavailable, "does not answer")?;
    }
    same(&(took < Duration::from_secs(3 * 90)), &true, &format!("{took:?} was in time"))
}

fn a_filesystem_grows_and_shrinks(machine: &Machine) -> Outcome {
    let (pool, volume) = (machine.pool()?, volume()?);
    let (small, large) = (ByteSize::from_mebibytes(64), ByteSize::from_mebibytes(160));
    pool.create_volume(&cx(), &VolumeSpec::new(volume.clone()), &holding("text"))?;
    let attached = pool.attach(&cx(), &volume, Mode::ReadWrite)?;
    let folder = attached.directory()?;
    pool.resize(&cx(), &volume, Some(small), Some(large))?;
    let usage = pool.volume_usage(&cx(), &volume)?;
    let total = usage.total_bytes.unwrap_or_default();
    same(&(total > 130 << 20), &true, &format!("the filesystem has grown to {total}"))?;
    refused(pool.resize(&cx(), &volume, Some(large), Some(small)), ErrorKind::InUse, "in use")?;
    pool.detach(&cx(), &volume)?;
    pool.resize(&cx(), &volume, Some(large), Some(small))?;
    same(&pool.volume_usage(&cx(), &volume)?.total_bytes, &Some(small.as_bytes()), "the size")?;
    pool.attach(&cx(), &volume, Mode::ReadOnly)?;
    same(&text(folder)?, &"text".to_owned(), "the content")?;
    pool.detach(&cx(), &volume)?;
    Ok(pool.destroy_pool(&cx())?)
}

fn a_snapshot_in_use(machine: &Machine) -> Outcome {
    let (pool, volume, name) = (machine.pool()?, volume()?, "s0".parse()?);
    pool.create_volume(&cx(), &VolumeSpec::new(volume.clone()), &holding("past"))?;
    let attached = pool.attach(&cx(), &volume, Mode::ReadWrite)?;
    fs::write(attached.directory()?.join("file"), "just written")?;
    pool.snapshot(&cx(), &volume, &name)?;
    // Nothing is held still any more.
    fs::write(attached.directory()?.join("file"), "later")?;
    let snapshot = pool.attach_snapshot(&cx(), &volume, &name)?;
    same(&text(snapshot.directory()?)?, &"just written".to_owned(), "the snapshot")?;
    pool.detach_snapshot(&cx(), &volume, &name)?;
    pool.detach(&cx(), &volume)?;
    Ok(pool.destroy_pool(&cx())?)
}

/// A clone as the peers make them: of a protected snapshot.
fn what_a_peer_protected(machine: &Machine) -> Outcome {
    let (pool, volume) = (machine.pool()?, volume()?);
    pool.create_volume(&cx(), &VolumeSpec::new(volume.clone()), &holding("text"))?;
    let image = |name: &str| format!("{}/{name}", machine.namespace);
    let snapshot = image("custom_default_v1@snapshot_s0");
    output("rbd", &["snap", "create", "--no-progress", &snapshot])?;
    output("rbd", &["snap", "protect", &snapshot])?;
    output("rbd", &["clone", "--rbd-default-clone-format=1", &snapshot, &image("custom_default_v2")])?;
    let driver = pool.driver();
    let live = Place::live(&volume);
    let names = || output("rbd", &["ls", &machine.namespace]);
    driver.destroy(&cx(), &live.trashed(cx().ticket()).at_snapshot(&"none".parse()?))?;
    driver.destroy(&cx(), &live.at_snapshot(&"s0".parse()?))?;
    same(&driver.list(&cx())?.len(), &2, "the volumes, without the snapshot")?;
    driver.destroy(&cx(), &live)?;
    same(&names()?.lines().filter(|name| name.starts_with("zombie_")).count(), &1, "the zombies")?;
    let clone = VolumeId { name: "v2".parse()?, ..volume };
    same(&driver.list(&cx())?, &vec![Place::live(&clone)], "what is seen")?;
    driver.destroy(&cx(), &Place::live(&clone))?;
    same(&names()?, &String::new(), "what is left")?;
    Ok(pool.destroy_pool(&cx())?)
}

fn what_a_peer_has(machine: &Machine) -> Outcome {
    output("rbd", &["namespace", "create", &machine.namespace])?;
    let theirs = "custom_default_theirs";
    let image = format!("{}/{theirs}", machine.namespace);
    output("rbd", &["create", "--size", "8M", "--image-feature", "layering", &image])?;
    let keys = [("source", machine.namespace.as_str()), ("volume.size", "64MiB")];
    refused(machine.driver(config(&keys))?.create_pool(&cx()), ErrorKind::Invalid, "force_reuse")?;
    let keys = [keys[0], keys[1], ("ceph.osd.force_reuse", "true")];
    let pool = Pool::create(&cx(), "pool0".parse()?, machine.driver(config(&keys))?, Locks::new())?;
    pool.create_volume(&cx(), &VolumeSpec::new(volume()?), &holding("text"))?;
    // A device that they have in use, another that they only have, and one of ours.
    let device = output("rbd", &["map", &image])?.trim().to_owned();
    output("mkfs.ext4", &["-q", "-F", &device])?;
    let folder = machine.folder.path().join("theirs");
    fs::create_dir(&folder)?;
    output("mount", &[&device, &folder.to_string_lossy()])?;
    let copy = format!("{}/custom_default_copy.block", machine.namespace);
    output("rbd", &["create", "--size", "8M", "--image-feature", "layering", &copy])?;
    let unused = output("rbd", &["map", &copy])?.trim().to_owned();
    let ours = pool.attach(&cx(), &volume()?, Mode::ReadWrite)?.directory()?.to_owned();
    let has = |what: &str| -> Outcome {
        fs::write(folder.join(what), what)?;
        same(&Path::new(&unused).exists(), &true, &format!("whether their device is there {what}"))
    };
    pool.close(&cx())?;
    has("after the close")?;
    same(&ours.exists(), &false, "whether what was ours is mounted")?;
    pool.driver().open_pool(&cx())?;
    pool.detach(&cx(), &volume()?)?;
    let trashed = pool.trash(&cx(), &Place::live(&volume()?))?;
    clone_what_is_in_the_trash(machine)?;
    same(&pool.at_stake(&cx())?, &Vec::new(), "what is at stake")?;
    pool.destroy_pool(&cx())?;
    has("after the end")?;
    let names = output("rbd", &["ls", &machine.namespace])?;
    same(&names.lines().filter(|name| name.starts_with("zombie_larder_")).count(), &1, "the zombies")?;
    output("umount", &[&folder.to_string_lossy()])?;
    for device in [&device, &unused] {
        output("rbd", &["unmap", device])?;
    }
    // The zombie, whose name comes last, after its clone.
    for image in names.lines().filter(|name| *name != theirs) {
        output("rbd", &["rm", "--no-progress", &format!("{}/{image}", machine.namespace)])?;
    }
    same(&pool.places(&cx())?.contains(&trashed), &false, "whether what was ours is left")?;
    same(&output("rbd", &["ls", &machine.namespace])?.trim(), &theirs, "what is left")?;
    output("rbd", &["rm", "--no-progress", &format!("{}/{theirs}", machine.namespace)])?;
    output("rbd", &["namespace", "remove", &machine.namespace])?;
    Ok(())
}

/// What they made of a volume that is on its way out.
fn clone_what_is_in_the_trash(machine: &Machine) -> Outcome {
    let names = output("rbd", &["ls", &machine.namespace])?;
    let hidden = names.lines().find(|name| name.starts_with("larder.")).ok_or("nothing is in the trash")?;
    let snapshot = format!("{}/{hidden}@theirs", machine.namespace);
    let clone = format!("{}/clone", machine.namespace);
    output("rbd", &["snap", "create", "--no-progress", &snapshot])?;
    output("rbd", &["clone", "--rbd-default-clone-format=2", &snapshot, &clone])?;
    Ok(())
}

/// An image that is found by two names and listed by one: the first before the name in the list was changed, then after.
fn a_rename_that_was_cut_off(machine: &Machine) -> Outcome {
    let (pool, old) = (machine.pool()?, volume()?);
    let new = VolumeId { name: "v2".parse()?, ..old.clone() };
    pool.create_volume(&cx(), &VolumeSpec::new(old.clone()), &holding("text"))?;
    let Some((home, namespace)) = machine.namespace.split_once('/') else {
        return Err("no namespace".into());
    };
    let id = |name: &str| format!("rbd_id.custom_default_{name}");
    let file = machine.folder.path().join("id");
    let rados =
        |words: &[&str]| output("rados", &[&["--pool", home, "--namespace", namespace], words].concat());
    let copy = |from: &str, to: &str| {
        let file = file.display().to_string();
        rados(&["get", &id(from), &file])?;
        rados(&["put", &id(to), &file])
    };
    let rename = || pool.driver().rename(&cx(), &Place::live(&old), &Place::live(&new));
    let ids = || {
        let all = rados(&["ls"])?;
        Ok::<_, std::io::Error>(
            all.lines().filter(|name| name.starts_with("rbd_id.")).map(str::to_owned).collect::<Vec<_>>(),
        )
    };
    copy("v1", "v2")?;
    rename()?;
    same(&ids()?, &vec![id("v2")], "the names, of a rename that had not come to the list")?;
    copy("v2", "v1")?;
    rename()?;
    same(&ids()?, &vec![id("v2")], "the names, of a rename that had")?;
    same(&pool.places(&cx())?, &vec![Place::live(&new)], "what is there")?;
    let attached = pool.attach(&cx(), &new, Mode::ReadOnly)?;
    same(&text(attached.directory()?)?, &"text".to_owned(), "the content")?;
    pool.detach(&cx(), &new)?;
    Ok(pool.destroy_pool(&cx())?)
}
