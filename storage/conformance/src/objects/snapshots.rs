//! Buckets that are captured, put back, and copied inside a store.

use super::transfers::object;
use super::{Recorded, World, access, bucket, cx, key, marked};
use crate::{Outcome, ensure};
use larder_base::host::SystemHost;
use larder_storage_driver::{Cx, ErrorKind, ObjectAccess, ObjectBucket, ObjectKey, StorageError};
use larder_storage_pool::PassingKeys;

pub(super) fn snapshot(mark: u128) -> ObjectBucket {
    marked("snapshot-of-it", mark)
}

fn copied() -> ObjectBucket {
    marked("conformance-copy", 2)
}

pub(super) fn passing_keys() -> PassingKeys {
    let named = |access_key: &str| ObjectKey { name: "/filler".to_owned(), ..key(access_key, true, 1) };
    PassingKeys { filler: named("filler"), keeper: named("keeper") }
}

fn put(world: &World<'_>, names: &[&str]) -> Outcome {
    let folder = tempfile::tempdir()?;
    let objects = names.iter().map(|name| object(folder.path(), name)).collect::<Result<Vec<_>, _>>()?;
    let store = world.pool.objects().ok_or("no object store")?;
    Ok(store.write_objects(&cx(&SystemHost), &bucket(1).volume, &key("admin", true, 1), &objects)?)
}

pub(super) fn with_objects(world: &mut World<'_>) -> Outcome {
    world.create(&cx(&SystemHost), &bucket(1), access(2))?;
    put(world, &["a", "a/..", "gone"])
}

/// With other objects since.
pub(super) fn with_a_snapshot(world: &mut World<'_>) -> Outcome {
    with_objects(world)?;
    let cx = cx(&SystemHost);
    world.capture(&cx, &bucket(1), &snapshot(3))?;
    put(world, &["new"])?;
    let (store, gone) = (world.pool.objects().ok_or("no object store")?, ["gone".to_owned()]);
    Ok(store.remove_objects(&cx, &bucket(1).volume, &key("admin", true, 1), &gone)?)
}

impl World<'_> {
    pub(super) fn capture(
        &mut self,
        cx: &Cx<'_>,
        bucket: &ObjectBucket,
        snapshot: &ObjectBucket,
    ) -> Result<(), StorageError> {
        let access = self.access(bucket)?;
        self.record(snapshot, Recorded::Creating);
        self.record(bucket, Recorded::Changing(access.clone()));
        let outcome = self.pool.capture_bucket(cx, bucket, &access, snapshot, &passing_keys());
        if outcome.as_ref().err().is_none_or(|error| error.undo_failures().is_empty()) {
            self.record(bucket, Recorded::Agreed(access));
            self.record(snapshot, Recorded::Snapshot);
            if outcome.is_err() {
                self.catalog.remove(&snapshot.mark);
            }
        }
        outcome
    }

    pub(super) fn restore(
        &mut self,
        cx: &Cx<'_>,
        bucket: &ObjectBucket,
        snapshot: &ObjectBucket,
    ) -> Result<(), StorageError> {
        let (access, filler) = (self.access(bucket)?, passing_keys().filler);
        self.record(bucket, Recorded::Restoring(access.clone(), snapshot.clone()));
        let outcome = self.pool.restore_bucket(cx, bucket, &access, snapshot, &filler);
        match &outcome {
            Err(error) if error.kind() == ErrorKind::Degraded || !error.undo_failures().is_empty() => {}
            _ => self.record(bucket, Recorded::Agreed(access)),
        }
        outcome
    }

    pub(super) fn copy(
        &mut self,
        cx: &Cx<'_>,
        bucket: &ObjectBucket,
        snapshot: &ObjectBucket,
    ) -> Result<(), StorageError> {
        let keys = passing_keys();
        let admin = ObjectKey { access_key: "CONFORMANCE-copied".to_owned(), ..key("admin", true, 1) };
        let access = ObjectAccess { size: None, keys: vec![admin] };
        self.pool.admit_to_snapshot(cx, bucket, snapshot, &copied(), &keys)?;
        self.record(&copied(), Recorded::Creating);
        let made = self.pool.create_bucket_from(cx, snapshot, &copied(), &access, &keys.filler);
        self.is_made(&copied(), access, made)
    }
}

pub(super) fn objects_are_copied_as_they_are_and_removed(world: &mut World<'_>) -> Outcome {
    let cx = cx(&SystemHost);
    with_objects(world)?;
    let (store, admin) = (world.pool.objects().ok_or("no object store")?, key("admin", true, 1));
    let names = ["a", "absent", "a/..", "gone"].map(str::to_owned);
    let at = bucket(1).volume;
    let before = store.list_objects(&cx, &at, &admin, "")?;
    let gone = store.copy_objects(&cx, &at, &at, &admin, &names[1..2])?;
    ensure(gone == ["absent"], format!("{gone:?} is told as gone"))?;
    world.capture(&cx, &bucket(1), &snapshot(3))?;
    world.copy(&cx, &bucket(1), &snapshot(3))?;
    let (store, own) = (world.pool.objects().ok_or("no object store")?, copied().volume);
    let admin_of_copy = ObjectKey { access_key: "CONFORMANCE-copied".to_owned(), ..admin.clone() };
    let mut found = Vec::new();
    store.read_objects(&cx, &own, &admin_of_copy, &names, &mut |object, bytes| {
        let mut text = String::new();
        bytes.read_to_string(&mut text)?;
        found.push((object.key.clone(), text, object.facts.clone()));
        Ok(())
    })?;
    let folder = tempfile::tempdir()?;
    for (name, (is, text, facts)) in ["a", "a/..", "gone"].iter().zip(&found) {
        let was = object(folder.path(), name)?;
        ensure(is == name && text == name && *facts == was.facts, format!("{is} ({text}) has {facts:?}"))?;
    }
    ensure(found.len() == 3, format!("{} objects are copied", found.len()))?;
    for _ in 0..2 {
        store.remove_objects(&cx, &own, &admin_of_copy, &names)?;
    }
    ensure(store.list_objects(&cx, &own, &admin_of_copy, "")?.is_empty(), "something is left")?;
    ensure(store.list_objects(&cx, &at, &admin, "")? == before, "the copied objects are other ones now")
}

pub(super) fn a_snapshot_lets_nobody_in(world: &mut World<'_>) -> Outcome {
    let cx = cx(&SystemHost);
    with_a_snapshot(world)?;
    let (store, at) = (world.pool.objects().ok_or("no object store")?, snapshot(3).volume);
    for key in [key("admin", true, 1), passing_keys().filler, passing_keys().keeper] {
        let listed = store.list_objects(&cx, &at, &key, "");
        ensure(listed.is_err(), format!("{key:?} lists it"))?;
        let read = store.read_objects(&cx, &at, &key, &["a".to_owned()], &mut |_, _| Ok(()));
        ensure(read.is_err(), format!("{key:?} reads it"))?;
        ensure(store.remove_objects(&cx, &at, &key, &["a".to_owned()]).is_err(), format!("{key:?} removes"))?;
    }
    Ok(())
}
