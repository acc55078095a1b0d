//! Volumes that go from pool to pool: between every two technologies, and two pools of each.
//!
//! A tree with every kind of file, or a disk, is copied with its snapshots, brought up to date twice and moved. What comes out is
//! compared with what went in by other programs than ours. Where both ends speak the same stream, that it was used.

use super::btrfs::cx_over;
use super::compare::{differences, same_disk, same_tree};
use super::machine::same;
use super::scratch;
use larder_base::host::{FaultHost, Host, SystemHost};
use larder_base::{ByteSize, ProjectName, SnapshotName};
use larder_storage_conformance::{Bench, Lab, Outcome, make_every_kind_of_file};
use larder_storage_driver::{Attached, Content, Cx, Mode, Place, Result, VolumeId, VolumeSpec};
use larder_storage_pool::{CopyPlan, CopySource, Locks, Pool, RefreshPlan, RefreshedSnapshot};
use libtest_mimic::{Failed, Trial};
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

/// What the trials are called together.
pub(crate) const NAME: &str = "between";
/// Which labs take part when nobody says.
pub(crate) const USUAL: &[&str] = &["dir_on_ext4", "dir_on_xfs", "btrfs", "btrfs_subvolume"];
/// A volume's size on technologies where a filesystem has one, and a disk's.
const SIZE: ByteSize = ByteSize::from_mebibytes(32);

/// The trials of every two labs, each with itself too.
pub(crate) fn trials(labs: &[Arc<dyn Lab>]) -> Vec<Trial> {
    let mut trials =
        vec![Trial::test(
            format!("{NAME}::the_comparison_tells_what_differs"),
            || told(tells_what_differs()),
        )];
    for from in labs {
        for to in labs {
            for content in [Content::Filesystem, Content::Block] {
                let keeps = |lab: &Arc<dyn Lab>| lab.capabilities().contents.contains(&content);
                if keeps(from) && keeps(to) {
                    let name = format!("{NAME}::{content}_from_{}_to_{}", from.name(), to.name());
                    let (from, to) = (Arc::clone(from), Arc::clone(to));
                    trials.push(Trial::test(name, move || {
                        told(go_across(from.as_ref(), to.as_ref(), content))
                    }));
                }
            }
        }
    }
    trials
}

fn told(outcome: Outcome) -> std::result::Result<(), Failed> {
    outcome.map_err(|error| {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        let chain: Vec<_> =
            std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect();
        Failed::from(chain.join(": "))
    })
}

/// A pool, and what it is on.
pub(super) struct Side {
    pub(super) pool: Pool,
    _bench: Box<dyn Bench>,
}

impl Side {
    pub(super) fn new(
        lab: &dyn Lab,
        name: &str,
        locks: &Arc<Locks>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let bench = lab.bench()?;
        let pool = Pool::create(&cx(), name.parse()?, bench.driver()?, Arc::clone(locks))?;
        Ok(Self { pool, _bench: bench })
    }

    /// Looks at a volume or one of its snapshots.
    fn see(&self, of: &VolumeId, name: Option<&str>, look: impl FnOnce(&Attached) -> Outcome) -> Outcome {
        let name: Option<SnapshotName> = name.map(str::parse).transpose()?;
        let attached = match &name {
            Some(name) => self.pool.attach_snapshot(&cx(), of, name)?,
            None => self.pool.attach(&cx(), of, Mode::ReadOnly)?,
        };
        let outcome = look(&attached);
        match &name {
            Some(name) => self.pool.detach_snapshot(&cx(), of, name)?,
            None => self.pool.detach(&cx(), of)?,
        }
        outcome
    }

    fn change(&self, of: &VolumeId, round: usize) -> Outcome {
        let attached = self.pool.attach(&cx(), of, Mode::ReadWrite)?;
        let changed = change(&attached, round);
        self.pool.detach(&cx(), of)?;
        Ok(changed?)
    }

    pub(super) fn snapshot(&self, of: &VolumeId, name: &str) -> Outcome {
        Ok(self.pool.snapshot(&cx(), of, &name.parse()?)?)
    }

    fn delete(&self, place: &Place) -> Outcome {
        let trashed = self.pool.trash(&cx(), place)?;
        Ok(self.pool.destroy(&cx(), &trashed)?)
    }

    /// The names of a volume's snapshots; fails when anything is there that is not live.
    fn snapshots(&self, of: &VolumeId) -> Result<Vec<String>, Box<dyn std::error::Error>> {
        let places = self.pool.places(&cx())?;
        if let Some(left) = places.iter().find(|place| !place.is_live()) {
            return Err(format!("left behind: {left}").into());
        }
        let of_it = places.iter().filter(|place| place.volume == *of);
        let mut names: Vec<String> =
            of_it.filter_map(|place| Some(place.snapshot.as_ref()?.to_string())).collect();
        names.sort();
        Ok(names)
    }
}

fn cx() -> Cx<'static> {
    cx_over(&SystemHost)
}

fn volume(content: Content, name: &str) -> Result<VolumeId> {
    Ok(VolumeId::custom(content, ProjectName::default_project(), name.parse()?))
}

fn spec(id: &VolumeId) -> VolumeSpec {
    let spec = VolumeSpec::new(id.clone());
    if id.has_disk() { spec.with_size(SIZE) } else { spec }
}

fn names(of: &[&str]) -> Result<Vec<SnapshotName>> {
    of.iter().map(|name| Ok(name.parse()?)).collect()
}

/// Takes a volume with its snapshots from a pool of one lab to a pool of another, and brings the copy up to date.
pub(super) fn go_across(from: &dyn Lab, to: &dyn Lab, content: Content) -> Outcome {
    let locks = Locks::new();
    let (one, other) = (Side::new(from, "one", &locks)?, Side::new(to, "other", &locks)?);
    let (source, copy) = (volume(content, "v1")?, volume(content, "copy")?);
    one.pool.create_volume(&cx(), &spec(&source), &|_: &Cx<'_>, into: &Attached| Ok(fill(into)?))?;
    one.snapshot(&source, "s0")?;
    for (round, name) in [(1, "s1"), (2, "s2")] {
        one.change(&source, round)?;
        one.snapshot(&source, name)?;
    }
    one.change(&source, 3)?;

    let took = |steps: usize, staying: usize, host: &FaultHost| {
        took_the_stream(&one.pool, &other.pool, content, host, (steps, staying))
    };
    let host = FaultHost::counting(Arc::new(SystemHost));
    let snapshots = names(&["s0", "s1", "s2"])?;
    let plan = CopyPlan { spec: &spec(&copy), snapshots: &snapshots };
    other.pool.copy_volume(&cx_over(&host), source_of(&one, &source), &plan)?;
    took(4, 0, &host)?;
    must_be_the_same(&one, &source, &other, &copy, &["s0", "s1", "s2"])?;

    one.delete(&Place::live(&source).at_snapshot(&"s0".parse()?))?;
    one.snapshot(&source, "s3")?;
    one.change(&source, 4)?;
    let host = refresh(&one, &source, &other, &copy, &[("s1", false), ("s2", false), ("s3", true)])?;
    took(2, 2, &host)?;
    must_be_the_same(&one, &source, &other, &copy, &["s1", "s2", "s3"])?;

    // Once more: what stayed has changed its place, and no snapshot is new.
    one.delete(&Place::live(&source).at_snapshot(&"s3".parse()?))?;
    one.change(&source, 5)?;
    let host = refresh(&one, &source, &other, &copy, &[("s1", false), ("s2", false)])?;
    took(1, 2, &host)?;
    must_be_the_same(&one, &source, &other, &copy, &["s1", "s2"])?;

    let moved = volume(content, "moved")?;
    let snapshots = names(&["s1", "s2"])?;
    let plan = CopyPlan { spec: &spec(&moved), snapshots: &snapshots };
    other.pool.copy_volume(&cx(), source_of(&one, &source), &plan)?;
    one.delete(&Place::live(&source))?;
    must_be_the_same(&other, &copy, &other, &moved, &["s1", "s2"])?;
    same(&one.pool.places(&cx())?, &Vec::new(), "what is left where the volume was")
}

fn source_of<'a>(side: &'a Side, volume: &'a VolumeId) -> CopySource<'a> {
    CopySource { pool: &side.pool, volume, snapshot: None }
}

fn refresh(
    one: &Side,
    source: &VolumeId,
    other: &Side,
    copy: &VolumeId,
    wanted: &[(&str, bool)],
) -> Result<FaultHost, Box<dyn std::error::Error>> {
    let wanted = wanted
        .iter()
        .map(|(name, is_new)| Ok(RefreshedSnapshot { name: name.parse()?, is_new: *is_new }))
        .collect::<Result<Vec<_>>>()?;
    let (host, spec) = (FaultHost::counting(Arc::new(SystemHost)), spec(copy));
    let plan = RefreshPlan { spec: &spec, snapshots: &wanted };
    let cx = cx_over(&host as &dyn Host);
    let exchange = other.pool.plan_refresh(&cx, &plan);
    other.pool.refresh_volume(&cx, source_of(one, source), &plan, &exchange)?;
    other.pool.destroy(&cx, &exchange.old())?;
    drop(cx);
    Ok(host)
}

/// Where both pools speak the same stream of such a content, this many snapshots and volumes must have come through it; of those
/// that stay only where they can't be taken over.
fn took_the_stream(
    one: &Pool,
    other: &Pool,
    content: Content,
    host: &FaultHost,
    (come, staying): (usize, usize),
) -> Outcome {
    let takes_over = other.driver().stream().is_none_or(larder_storage_driver::Stream::takes_over);
    let stream = |pool: &Pool| -> Result<_> {
        let stream = pool.driver().stream().filter(|stream| stream.contents().contains(&content));
        stream.map(larder_storage_driver::Stream::end).transpose()
    };
    let (one, other) = (stream(one)?.flatten(), stream(other)?.flatten());
    let understood = one.zip(other).is_some_and(|(one, other)| other.understands(&one));
    let expected = match (understood, takes_over) {
        (false, _) => 0,
        (true, true) => come,
        (true, false) => come + staying,
    };
    let is_receiving = |step: &&String| step.contains(" receive ") || step.contains(" import-diff ");
    let received = host.changing_steps().iter().filter(is_receiving).count();
    same(&received, &expected, "what came through a stream")
}

fn must_be_the_same(
    one: &Side,
    source: &VolumeId,
    other: &Side,
    copy: &VolumeId,
    snapshots: &[&str],
) -> Outcome {
    same(&other.snapshots(copy)?, &snapshots.iter().map(|name| (*name).to_owned()).collect(), "snapshots")?;
    for name in snapshots.iter().map(|name| Some(*name)).chain([None]) {
        one.see(source, name, |first| {
            other.see(copy, name, |second| {
                let what = name.unwrap_or("the volume");
                match (&first.directory, &second.directory) {
                    (Some(first), Some(second)) => same_tree(first, second, what),
                    _ => same_disk(first.disk()?, second.disk()?, SIZE.as_bytes(), what),
                }
            })
        })?;
    }
    Ok(())
}

/// Fills a new volume: a tree with every kind of file and many plain ones, or a disk with some blocks written.
fn fill(into: &Attached) -> std::io::Result<()> {
    if let Some(tree) = &into.directory {
        make_every_kind_of_file(tree)?;
        fs::create_dir(tree.join("many"))?;
        for number in 0..200 {
            fs::write(tree.join(format!("many/{number}")), format!("{number}").repeat(number))?;
        }
    }
    write_disk(into, 0)
}

/// Changes what a volume holds, in another way each round.
fn change(into: &Attached, round: usize) -> std::io::Result<()> {
    if let Some(tree) = &into.directory {
        let text = format!("round {round}");
        fs::write(tree.join("plain"), &text)?;
        fs::write(tree.join(format!("new-{round}")), text.repeat(5000))?;
        fs::remove_file(tree.join(format!("many/{round}")))?;
        fs::rename(tree.join(format!("many/{}", 100 + round)), tree.join(format!("renamed-{round}")))?;
        fs::hard_link(tree.join("capable"), tree.join(format!("linked-{round}")))?;
        let mode = fs::Permissions::from_mode(0o600 + u32::try_from(round).unwrap_or(0));
        fs::set_permissions(tree.join("many/50"), mode)?;
        // A file becomes a link, a link a directory.
        let place = tree.join("turns");
        match round % 3 {
            1 => fs::write(&place, "file")?,
            2 => {
                fs::remove_file(&place)?;
                symlink("many/7", &place)?;
            }
            _ => {
                fs::remove_file(&place)?;
                fs::create_dir(&place)?;
                fs::rename(&place, tree.join(format!("turned-{round}")))?;
            }
        }
        let sparse = fs::OpenOptions::new().write(true).open(tree.join("sparse"))?;
        sparse.write_all_at(text.as_bytes(), (round as u64) << 20)?;
    }
    write_disk(into, round)
}

fn write_disk(into: &Attached, round: usize) -> std::io::Result<()> {
    let Some(disk) = &into.disk else { return Ok(()) };
    let disk = fs::OpenOptions::new().write(true).open(disk)?;
    for place in 0..4 {
        let bytes: Vec<u8> =
            (0..70_000_usize).map(|at| (at * 31 + round * 7 + place).to_le_bytes()[0]).collect();
        disk.write_all_at(&bytes, ((place * 8 + round) as u64) << 20)?;
    }
    disk.sync_all()
}

/// What all trials rest on: each thing that a copy could lose is seen.
fn tells_what_differs() -> Outcome {
    type Loss = (&'static str, fn(&Path) -> std::io::Result<()>);
    let losses: [Loss; 9] = [
        ("content", |tree| {
            let times = fs::metadata(tree.join("plain"))?.modified()?;
            fs::write(tree.join("plain"), "TEXT")?;
            fs::File::options().write(true).open(tree.join("plain"))?.set_modified(times)
        }),
        ("an attribute", |tree| Ok(rustix::fs::removexattr(tree.join("plain"), "user.colour")?)),
        ("a capability", |tree| Ok(rustix::fs::removexattr(tree.join("capable"), "security.capability")?)),
        ("a mode", |tree| fs::set_permissions(tree.join("setuid"), fs::Permissions::from_mode(0o755))),
        ("an owner", |tree| std::os::unix::fs::chown(tree.join("setuid"), Some(1), None)),
        ("a time", |tree| {
            let times = fs::metadata(tree.join("plain"))?.modified()? + std::time::Duration::from_nanos(1);
            fs::File::options().write(true).open(tree.join("plain"))?.set_modified(times)
        }),
        ("a link", |tree| {
            fs::copy(tree.join("capable"), tree.join("other"))?;
            fs::remove_file(tree.join("dir/deep/link"))?;
            fs::rename(tree.join("other"), tree.join("dir/deep/link"))
        }),
        ("a device", |tree| fs::remove_file(tree.join("null"))),
        ("a socket", |tree| fs::remove_file(tree.join("socket"))),
    ];
    for (what, lose) in losses {
        let folder = scratch(Path::new("/var/tmp"))?;
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        fs::create_dir(&one)?;
        fs::create_dir(&other)?;
        make_every_kind_of_file(&one)?;
        super::btrfs::run("cp", &["-aT".as_ref(), one.as_os_str(), other.as_os_str()])?;
        same_tree(&one, &other, what)?;
        lose(&other)?;
        if differences(&one, &other)?.is_empty() {
            return Err(format!("{what} that is lost is not told").into());
        }
    }
    Ok(())
}
