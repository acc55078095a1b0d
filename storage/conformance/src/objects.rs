//! What a technology with an object store must do under [`Pool`]: behaviour trials, and stories with a fault at every changing
//! step. Its buckets have no staging, so the caller around the pool plays the catalog's part here.

mod snapshots;
mod transfers;

use crate::share::{self, Share};
use crate::{Outcome, chain, ensure};
use larder_base::host::{Fault, FaultHost, FaultMode, Host, SystemHost};
use larder_base::{ByteSize, Cancel, PoolName, Progress, Ticket};
use larder_storage_driver::{
    Content, Cx, Driver, ErrorKind, ObjectAccess, ObjectBucket, ObjectKey, Place, StorageError, VolumeId,
    VolumeKind,
};
use larder_storage_pool::{Locks, Pool};
use libtest_mimic::{Failed, Trial};
use snapshots::{
    a_snapshot_lets_nobody_in, objects_are_copied_as_they_are_and_removed, passing_keys, snapshot,
    with_a_snapshot, with_objects,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use transfers::{a_key_that_may_only_read_reads_alone, object, objects_come_back_as_they_were_put};
use uuid::Uuid;

/// An object store on this machine.
pub trait ObjectLab: fmt::Debug + Send + Sync {
    /// What it is called in the trials' names.
    fn name(&self) -> &str;

    /// A driver of a new pool; it outlives the pool's closing by its recorded keys alone.
    fn driver(&self) -> larder_storage_driver::Result<Box<dyn Driver>>;

    /// The same pool again, as a daemon that starts finds it.
    fn again(&self, driver: &dyn Driver) -> larder_storage_driver::Result<Box<dyn Driver>>;

    /// All that the store has of a pool, in words; nothing of it asked through the driver.
    fn seen(&self, driver: &dyn Driver) -> Vec<String>;

    /// An access key that somebody else has there.
    fn taken_key(&self) -> String;
}

/// What the catalog says of a bucket.
#[derive(Debug, Clone)]
enum Recorded {
    Creating,
    Agreed(ObjectAccess),
    Changing(ObjectAccess),
    /// Being put back to a snapshot.
    Restoring(ObjectAccess, ObjectBucket),
    /// A whole snapshot.
    Snapshot,
    Deleting,
}

/// A pool with its caller.
struct World<'a> {
    lab: &'a dyn ObjectLab,
    pool: Pool,
    catalog: BTreeMap<Uuid, (ObjectBucket, Recorded)>,
}

type Story =
    (&'static str, fn(&mut World<'_>) -> Outcome, fn(&mut World<'_>, &Cx<'_>) -> Result<(), StorageError>);

const STORIES: &[Story] = &[
    ("create_a_bucket", |_| Ok(()), |world, cx| world.create(cx, &bucket(1), access(2))),
    ("change_keys_and_size", with_a_bucket, |world, cx| world.change(cx, &bucket(1), changed())),
    ("create_a_filled_bucket", |_| Ok(()), |world, cx| world.fill(cx, &bucket(1), access(2))),
    ("destroy_a_bucket", with_a_bucket, |world, cx| world.destroy(cx, &bucket(1))),
    ("take_a_snapshot", with_objects, |world, cx| world.capture(cx, &bucket(1), &snapshot(3))),
    ("restore_a_snapshot", with_a_snapshot, |world, cx| world.restore(cx, &bucket(1), &snapshot(3))),
    ("copy_a_snapshot", with_a_snapshot, |world, cx| world.copy(cx, &bucket(1), &snapshot(3))),
];

type Behaviour = (&'static str, fn(&mut World<'_>) -> Outcome);

const BEHAVIOURS: &[Behaviour] = &[
    ("verbs_can_be_repeated", verbs_can_be_repeated),
    ("what_is_absent_can_be_closed_and_destroyed", what_is_absent_can_be_closed_and_destroyed),
    ("a_closed_bucket_is_opened_by_a_change", a_closed_bucket_is_opened_by_a_change),
    ("a_taken_access_key_is_refused_and_nothing_is_left", a_taken_access_key_is_refused_and_nothing_is_left),
    ("a_taken_name_is_refused_and_the_first_stays", a_taken_name_is_refused_and_the_first_stays),
    ("an_access_key_goes_from_key_to_key", an_access_key_goes_from_key_to_key),
    ("objects_come_back_as_they_were_put", objects_come_back_as_they_were_put),
    ("a_key_that_may_only_read_reads_alone", a_key_that_may_only_read_reads_alone),
    ("objects_are_copied_as_they_are_and_removed", objects_are_copied_as_they_are_and_removed),
    ("a_snapshot_lets_nobody_in", a_snapshot_lets_nobody_in),
];

/// All trials of one object store, named `lab::trial`.
pub fn object_suite(lab: &Arc<dyn ObjectLab>) -> Vec<Trial> {
    let behaviours = BEHAVIOURS.iter().map(|(name, run)| {
        trial(lab, name, |lab| {
            let mut world = World::fresh(lab)?;
            run(&mut world)?;
            world.remove_all()
        })
    });
    let stories = STORIES.iter().map(|story| {
        let name = format!("every_fault_leaves_all_or_nothing::{}", story.0);
        trial(lab, &name, |lab| every_fault_leaves_all_or_nothing(lab, story))
    });
    behaviours.chain(stories).collect()
}

fn trial(
    lab: &Arc<dyn ObjectLab>,
    name: &str,
    run: impl Fn(&dyn ObjectLab) -> Outcome + Send + 'static,
) -> Trial {
    let lab = Arc::clone(lab);
    Trial::test(format!("{}::{name}", lab.name()), move || {
        run(lab.as_ref()).map_err(|error| Failed::from(chain(error.as_ref())))
    })
}

/// The bucket of a name, as the `mark`th that bears it.
fn marked(lab_wide: &str, mark: u128) -> ObjectBucket {
    let parsed = |text: &str| (text.parse().ok(), "default".parse().ok());
    let (Some(name), Some(project)) = parsed(lab_wide) else { unreachable!("{lab_wide} is a name") };
    let volume = VolumeId { kind: VolumeKind::Bucket, content: Content::Filesystem, project, name };
    ObjectBucket { volume, mark: Uuid::from_u128(mark) }
}

fn bucket(mark: u128) -> ObjectBucket {
    marked("conformance", mark)
}

fn key(name: &str, may_write: bool, secret: u32) -> ObjectKey {
    let access_key = format!("CONFORMANCE-{name}");
    ObjectKey { name: name.to_owned(), may_write, access_key, secret_key: format!("secret-{secret}") }
}

fn access(mebibytes: u64) -> ObjectAccess {
    let keys = vec![key("admin", true, 1), key("reader", false, 1), key("other", false, 1)];
    ObjectAccess { size: Some(ByteSize::from_mebibytes(mebibytes)), keys }
}

/// One key that stays, one with another role and secret, one that goes, one that comes; another size.
fn changed() -> ObjectAccess {
    let keys = vec![key("admin", true, 1), key("reader", true, 2), key("new", false, 1)];
    ObjectAccess { size: Some(ByteSize::from_mebibytes(5)), keys }
}

fn with_a_bucket(world: &mut World<'_>) -> Outcome {
    Ok(world.create(&cx(&SystemHost), &bucket(1), access(2))?)
}

fn cx(host: &dyn Host) -> Cx<'_> {
    Cx::new(host, Progress::silent(), Cancel::never(), Ticket::new("none", Uuid::nil(), Uuid::new_v4()))
}

impl<'a> World<'a> {
    fn over(lab: &'a dyn ObjectLab, driver: Box<dyn Driver>) -> Result<Self, Box<dyn std::error::Error>> {
        let name: PoolName = "pool0".parse()?;
        let pool = Pool::open(&cx(&SystemHost), name, driver, Locks::new())?;
        Ok(Self { lab, pool, catalog: BTreeMap::new() })
    }

    fn fresh(lab: &'a dyn ObjectLab) -> Result<Self, Box<dyn std::error::Error>> {
        Self::over(lab, lab.driver()?)
    }

    fn seen(&self) -> Vec<String> {
        self.lab.seen(self.pool.driver())
    }

    fn record(&mut self, bucket: &ObjectBucket, recorded: Recorded) {
        self.catalog.insert(bucket.mark, (bucket.clone(), recorded));
    }

    /// What the daemon does: it writes down what begins, and takes that back when all was undone.
    fn create(
        &mut self,
        cx: &Cx<'_>,
        bucket: &ObjectBucket,
        access: ObjectAccess,
    ) -> Result<(), StorageError> {
        self.record(bucket, Recorded::Creating);
        let made = self.pool.create_bucket(cx, bucket, &access);
        self.is_made(bucket, access, made)
    }

    /// The same of a bucket that is made with objects in it.
    fn fill(&mut self, cx: &Cx<'_>, bucket: &ObjectBucket, access: ObjectAccess) -> Result<(), StorageError> {
        let folder = tempfile::tempdir()?;
        let objects = [object(folder.path(), "a/")?, object(folder.path(), "../up")?];
        let filler = ObjectKey { name: "/filler".to_owned(), ..key("filler", true, 1) };
        self.record(bucket, Recorded::Creating);
        let made = self.pool.create_filled_bucket(cx, bucket, &access, &filler, |cx, store| {
            objects.iter().try_for_each(|one| {
                store.write_objects(cx, &bucket.volume, &filler, std::slice::from_ref(one))
            })
        });
        self.is_made(bucket, access, made)
    }

    fn is_made(
        &mut self,
        bucket: &ObjectBucket,
        access: ObjectAccess,
        made: Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        match &made {
            Ok(()) => self.record(bucket, Recorded::Agreed(access)),
            Err(error) if error.undo_failures().is_empty() => drop(self.catalog.remove(&bucket.mark)),
            Err(_) => {}
        }
        made
    }

    fn change(&mut self, cx: &Cx<'_>, bucket: &ObjectBucket, new: ObjectAccess) -> Result<(), StorageError> {
        let old = self.access(bucket)?;
        self.record(bucket, Recorded::Changing(old.clone()));
        let outcome = self.pool.change_bucket(cx, bucket, &old, &new);
        match &outcome {
            Ok(()) => self.record(bucket, Recorded::Agreed(new)),
            Err(error) if error.undo_failures().is_empty() => self.record(bucket, Recorded::Agreed(old)),
            Err(_) => {}
        }
        outcome
    }

    fn destroy(&mut self, cx: &Cx<'_>, bucket: &ObjectBucket) -> Result<(), StorageError> {
        let access = self.access(bucket)?;
        self.record(bucket, Recorded::Deleting);
        let outcome = self.pool.destroy_bucket(cx, bucket, &access);
        match &outcome {
            Ok(()) => drop(self.catalog.remove(&bucket.mark)),
            Err(error) if error.kind() == ErrorKind::Degraded => {}
            Err(error) if error.undo_failures().is_empty() => self.record(bucket, Recorded::Agreed(access)),
            Err(_) => {}
        }
        outcome
    }

    fn access(&self, bucket: &ObjectBucket) -> Result<ObjectAccess, StorageError> {
        match self.catalog.get(&bucket.mark) {
            Some((_, Recorded::Agreed(access))) => Ok(access.clone()),
            other => Err(StorageError::new(ErrorKind::Invalid, format!("the bucket is {other:?}"))),
        }
    }

    /// A new daemon over the same pool and catalog: it finishes what was under way.
    fn start_again(self) -> Result<Self, Box<dyn std::error::Error>> {
        let mut world = Self::over(self.lab, self.lab.again(self.pool.driver())?)?;
        let cx = cx(&SystemHost);
        for (mark, (bucket, recorded)) in self.catalog {
            let recorded = match recorded {
                Recorded::Creating | Recorded::Deleting => {
                    world.pool.forget_bucket(&cx, &bucket)?;
                    continue;
                }
                Recorded::Changing(access) => {
                    world.pool.align_bucket(&cx, &bucket, &access)?;
                    Recorded::Agreed(access)
                }
                Recorded::Restoring(access, snapshot) => {
                    let filler = passing_keys().filler;
                    world.pool.go_on_restoring_bucket(&cx, &bucket, &access, &snapshot, &filler)?;
                    Recorded::Agreed(access)
                }
                Recorded::Snapshot => {
                    world.pool.seal_snapshot(&cx, &bucket)?;
                    Recorded::Snapshot
                }
                agreed => agreed,
            };
            world.catalog.insert(mark, (bucket, recorded));
        }
        let places = world.pool.places(&cx)?;
        let known: Vec<Place> =
            world.catalog.values().map(|(bucket, _)| Place::live(&bucket.volume)).collect();
        ensure(places == known, format!("catalog and store disagree: {places:?}, {known:?}"))?;
        Ok(world)
    }

    /// Removes what a trial has made: names are one space for all of them.
    fn remove_all(&self) -> Outcome {
        for (bucket, _) in self.catalog.values() {
            self.pool.forget_bucket(&cx(&SystemHost), bucket)?;
        }
        let left = self.seen();
        ensure(left.is_empty(), format!("it left {left:?}"))
    }
}

fn every_fault_leaves_all_or_nothing(lab: &dyn ObjectLab, story: &Story) -> Outcome {
    let (name, prepare, act) = *story;
    let mut world = World::fresh(lab)?;
    prepare(&mut world)?;
    let before = world.seen();
    let host = FaultHost::counting(Arc::new(SystemHost));
    act(&mut world, &cx(&host)).map_err(|error| error.chain())?;
    let goal = world.seen();
    world.remove_all()?;
    ensure(before != goal, "the story has no effect")?;
    let words = host.changing_steps();
    let share = Share::of_this_run()?;
    for (step, told) in words.iter().enumerate() {
        for mode in [FaultMode::Refuse, FaultMode::ActThenFail, FaultMode::StopDead] {
            let fault = Fault { step, mode };
            if share.has(name, &fault) {
                share::injected(lab.name(), 1);
                one_fault(lab, story, (&before, &goal), fault)
                    .map_err(|error| format!("step {step} of {} ({told}), {mode:?}: {error}", words.len()))?;
            }
        }
    }
    Ok(())
}

fn one_fault(
    lab: &dyn ObjectLab,
    (_, prepare, act): &Story,
    (before, goal): (&[String], &[String]),
    fault: Fault,
) -> Outcome {
    let mut world = World::fresh(lab)?;
    prepare(&mut world)?;
    let host = Arc::new(FaultHost::with_fault(Arc::new(SystemHost), fault));
    let outcome = act(&mut world, &cx(host.as_ref()));
    ensure(host.was_hit(), "the fault was not hit")?;
    if fault.mode != FaultMode::StopDead {
        let failures = outcome.as_ref().err().map_or(0, |error| error.undo_failures().len());
        ensure(failures == 0, "an undo failed")?;
        let wanted = if outcome.is_ok() { goal } else { before };
        let found = world.seen();
        ensure(found == wanted, format!("at once, after {outcome:?}: {found:#?} instead of {wanted:#?}"))?;
    }
    let world = world.start_again()?;
    let found = world.seen();
    ensure(
        found == before || found == goal,
        format!("after recovery {found:#?}, neither {before:#?} nor {goal:#?}"),
    )?;
    world.remove_all()
}

fn verbs_can_be_repeated(world: &mut World<'_>) -> Outcome {
    let cx = cx(&SystemHost);
    world.create(&cx, &bucket(1), access(2))?;
    let made = world.seen();
    let store = world.pool.objects().ok_or("no object store")?;
    store.create(&cx, &bucket(1), &access(2))?;
    store.change(&cx, &bucket(1), &access(2))?;
    ensure(world.seen() == made, "a repeated creation changes something")?;
    let places = world.pool.places(&cx)?;
    ensure(places == [Place::live(&bucket(1).volume)], format!("{places:?} is listed"))?;
    let usage = world.pool.volume_usage(&cx, &bucket(1).volume)?;
    ensure(usage.used_bytes == Some(0), format!("an empty bucket has {usage:?}"))?;
    for _ in 0..2 {
        store.destroy(&cx, &bucket(1))?;
    }
    ensure(world.seen().is_empty(), "something is left")
}

fn what_is_absent_can_be_closed_and_destroyed(world: &mut World<'_>) -> Outcome {
    let cx = cx(&SystemHost);
    let store = world.pool.objects().ok_or("no object store")?;
    store.close(&cx, &bucket(1))?;
    store.destroy(&cx, &bucket(1))?;
    let missing = store.change(&cx, &bucket(1), &access(2)).err().map(|error| error.kind());
    ensure(missing == Some(ErrorKind::NotFound), format!("a change of what is absent is {missing:?}"))?;
    let missing = world.pool.volume_usage(&cx, &bucket(1).volume).err().map(|error| error.kind());
    ensure(missing == Some(ErrorKind::NotFound), format!("the usage of what is absent is {missing:?}"))
}

fn a_closed_bucket_is_opened_by_a_change(world: &mut World<'_>) -> Outcome {
    let cx = cx(&SystemHost);
    world.create(&cx, &bucket(1), access(2))?;
    let open = world.seen();
    let store = world.pool.objects().ok_or("no object store")?;
    store.close(&cx, &bucket(1))?;
    ensure(world.seen() != open, "closing changes nothing")?;
    store.change(&cx, &bucket(1), &access(2))?;
    ensure(world.seen() == open, "it is not as before")
}

fn a_taken_access_key_is_refused_and_nothing_is_left(world: &mut World<'_>) -> Outcome {
    let cx = cx(&SystemHost);
    let mut taken = access(2);
    taken.keys[1].access_key = world.lab.taken_key();
    let refused = world.create(&cx, &bucket(1), taken.clone()).err().map(|error| error.kind());
    ensure(refused == Some(ErrorKind::AlreadyExists), format!("a taken access key is {refused:?}"))?;
    ensure(world.seen().is_empty(), "something is left")?;
    world.create(&cx, &bucket(1), access(2))?;
    let before = world.seen();
    let refused = world.change(&cx, &bucket(1), taken).err().map(|error| error.kind());
    ensure(refused == Some(ErrorKind::AlreadyExists), format!("a taken access key is {refused:?}"))?;
    ensure(world.seen() == before, "the refused change left something")
}

fn a_taken_name_is_refused_and_the_first_stays(world: &mut World<'_>) -> Outcome {
    let cx = cx(&SystemHost);
    world.create(&cx, &bucket(1), access(2))?;
    let before = world.seen();
    let keys = vec![ObjectKey { access_key: "CONFORMANCE-second".to_owned(), ..key("admin", true, 1) }];
    let second = ObjectAccess { size: None, keys };
    let refused = world.create(&cx, &bucket(2), second).err().map(|error| error.kind());
    ensure(refused == Some(ErrorKind::AlreadyExists), format!("a taken name is {refused:?}"))?;
    world.pool.forget_bucket(&cx, &bucket(2))?;
    ensure(world.seen() == before, "the first bucket is not as it was")
}

fn an_access_key_goes_from_key_to_key(world: &mut World<'_>) -> Outcome {
    let cx = cx(&SystemHost);
    world.create(&cx, &bucket(1), access(2))?;
    let mut without = access(2);
    let freed = without.keys.remove(2).access_key;
    world.change(&cx, &bucket(1), without.clone())?;
    without.keys[1].access_key = freed;
    world.change(&cx, &bucket(1), without)?;
    let passed_on = world.seen();
    world.change(&cx, &bucket(1), access(2))?;
    ensure(world.seen() != passed_on, "it did not go back")
}
