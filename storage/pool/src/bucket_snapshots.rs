//! Snapshots of buckets of a pool whose technology keeps the objects itself. Such a technology has none: a snapshot is a bucket
//! of its own, to which nobody has a key, with copies of the objects that share their bytes inside the store.
//!
//! Nobody but a passing key of the bucket beside it gets in while something is copied. As with buckets, the caller writes down
//! first what is about to happen; [`Pool::forget_bucket`] removes a snapshot, or what there is of it.

use crate::Pool;
use crate::locks::LockMode;
use crate::mirror::{Seen, Way};
use crate::objects::{reopened, twice};
use crate::undo::scope;
use larder_storage_driver::{
    Cx, ErrorKind, ObjectAccess, ObjectBucket, ObjectKey, ObjectStore, Result, StorageError,
};

/// The passing keys for a copy: nobody else ever has them.
#[derive(Debug, Clone)]
pub struct PassingKeys {
    /// The key of the bucket that objects are copied from or into.
    pub filler: ObjectKey,
    /// The snapshot's own, until it knows whom it lets in.
    pub keeper: ObjectKey,
}

fn alone(key: &ObjectKey) -> ObjectAccess {
    ObjectAccess { size: None, keys: vec![key.clone()] }
}

fn with(access: &ObjectAccess, key: &ObjectKey) -> ObjectAccess {
    let mut all = access.clone();
    all.keys.push(key.clone());
    all
}

/// The same, but nobody may write.
fn stopped(access: &ObjectAccess) -> ObjectAccess {
    let mut still = access.clone();
    still.keys.iter_mut().for_each(|key| key.may_write = false);
    still
}

/// Lets the fillers of buckets into a snapshot, to which nobody has a key then.
fn admit(
    store: &dyn ObjectStore,
    cx: &Cx<'_>,
    snapshot: &ObjectBucket,
    guests: &[&ObjectBucket],
    keys: &PassingKeys,
) -> Result<()> {
    store.admit(cx, snapshot, &keys.keeper, guests, &keys.filler)?;
    store.change(cx, snapshot, &ObjectAccess::default())
}

impl Pool {
    /// Makes a snapshot of a bucket, whole or not at all: all of its current objects as they were at one moment. Most are copied
    /// while clients write; then all of its keys may only read until what has changed is copied too. The caller has written
    /// down that the snapshot is being made and the bucket changed.
    pub fn capture_bucket(
        &self,
        cx: &Cx<'_>,
        bucket: &ObjectBucket,
        access: &ObjectAccess,
        snapshot: &ObjectBucket,
        keys: &PassingKeys,
    ) -> Result<()> {
        let store = self.store()?;
        store.check(&snapshot.volume)?;
        let _lock = self.lock(cx, &bucket.volume, LockMode::Exclusive)?;
        let way = Way { store, from: &bucket.volume, into: &snapshot.volume, key: &keys.filler };
        let captured = scope(cx, |undo| {
            undo.push("destroy the snapshot", |cx| twice(|| store.destroy(cx, snapshot)));
            cx.checkpoint()?;
            store.create(cx, snapshot, &alone(&keys.keeper))?;
            admit(store, cx, snapshot, &[bucket], keys)?;
            undo.push("give the bucket back its keys", |cx| {
                reopened(twice(|| store.change(cx, bucket, access)))
            });
            store.change(cx, bucket, &with(access, &keys.filler))?;
            let mut seen = Seen::default();
            way.copy_all(cx, &mut seen)?;
            store.change(cx, bucket, &with(&stopped(access), &keys.filler))?;
            way.copy_changes(cx, &mut seen)?;
            store.change(cx, bucket, &with(access, &keys.filler))?;
            way.remove_what_is_gone(cx, &seen)?;
            cx.checkpoint()?;
            store.change(cx, bucket, access)
        });
        captured.map_err(|error| error.while_doing(format!("making a snapshot of the {}", bucket.volume)))
    }

    /// Lets the filler of another bucket into a snapshot, to make a copy of it, beside that of its own bucket. The caller has
    /// written down that its own bucket is being changed: [`Pool::seal_snapshot`] is the way back.
    pub fn admit_to_snapshot(
        &self,
        cx: &Cx<'_>,
        bucket: &ObjectBucket,
        snapshot: &ObjectBucket,
        guest: &ObjectBucket,
        keys: &PassingKeys,
    ) -> Result<()> {
        let store = self.store()?;
        scope(cx, |undo| {
            undo.push("take the snapshot's key away", |cx| self.seal_snapshot(cx, snapshot));
            store.change(cx, snapshot, &alone(&keys.keeper))?;
            admit(store, cx, snapshot, &[bucket, guest], keys)
        })
        .map_err(|error| error.while_doing(format!("opening the snapshot {}", snapshot.volume.name)))
    }

    /// Takes every key of a snapshot away.
    pub fn seal_snapshot(&self, cx: &Cx<'_>, snapshot: &ObjectBucket) -> Result<()> {
        let store = self.store()?;
        reopened(twice(|| store.change(cx, snapshot, &ObjectAccess::default())))
    }

    /// Makes a bucket with what a snapshot holds that has admitted its filler, whole or not at all.
    pub fn create_bucket_from(
        &self,
        cx: &Cx<'_>,
        snapshot: &ObjectBucket,
        bucket: &ObjectBucket,
        access: &ObjectAccess,
        filler: &ObjectKey,
    ) -> Result<()> {
        self.create_filled_bucket(cx, bucket, access, filler, |cx, store| {
            let way = Way { store, from: &snapshot.volume, into: &bucket.volume, key: filler };
            way.copy_all(cx, &mut Seen::default())
        })
    }

    /// Puts a bucket back to one of its snapshots. Nobody gets in meanwhile. The caller has written it down. Fails with
    /// [`ErrorKind::Degraded`] when it could not be put back whole: from then on the bucket is closed, and
    /// [`Pool::go_on_restoring_bucket`] is the way out; of any other failure it is as it was.
    pub fn restore_bucket(
        &self,
        cx: &Cx<'_>,
        bucket: &ObjectBucket,
        access: &ObjectAccess,
        snapshot: &ObjectBucket,
        filler: &ObjectKey,
    ) -> Result<()> {
        let store = self.store()?;
        let closed = scope(cx, |undo| {
            let _lock = self.lock(cx, &bucket.volume, LockMode::Exclusive)?;
            undo.push("open the bucket again", |cx| reopened(twice(|| store.change(cx, bucket, access))));
            cx.checkpoint()?;
            store.change(cx, bucket, &alone(filler))?;
            // A snapshot that somebody removed, or that can't be read, takes nothing away.
            store.list_objects(cx, &snapshot.volume, filler, "").map(drop)
        });
        closed.map_err(|error| error.while_doing(format!("closing the {}", bucket.volume)))?;
        let cx = cx.uncancellable();
        twice(|| self.go_on_restoring_bucket(&cx, bucket, access, snapshot, filler)).map_err(|error| {
            let message = format!("the {} is closed and only partly restored", bucket.volume);
            StorageError::new(ErrorKind::Degraded, message).because(error)
        })
    }

    /// Puts a bucket back whose restore was cut off.
    pub fn go_on_restoring_bucket(
        &self,
        cx: &Cx<'_>,
        bucket: &ObjectBucket,
        access: &ObjectAccess,
        snapshot: &ObjectBucket,
        filler: &ObjectKey,
    ) -> Result<()> {
        let store = self.store()?;
        let _lock = self.lock(cx, &bucket.volume, LockMode::Exclusive)?;
        let way = Way { store, from: &snapshot.volume, into: &bucket.volume, key: filler };
        store
            .change(cx, bucket, &alone(filler))
            .and_then(|()| way.bring_back(cx))
            .and_then(|()| store.change(cx, bucket, access))
            .map_err(|error| error.while_doing(format!("restoring the {}", bucket.volume)))
    }
}
