//! Buckets of a pool whose technology keeps the objects itself. There is no staging: what is being made, changed or destroyed is
//! the catalog's to know, and [`Pool::forget_bucket`] and [`Pool::align_bucket`] finish it from there.

use crate::Pool;
use crate::locks::LockMode;
use crate::undo::scope;
use larder_storage_driver::{
    Cx, ErrorKind, Need, ObjectAccess, ObjectBucket, ObjectKey, ObjectStore, Result, StorageError,
};

impl Pool {
    /// The technology's own object store, where it has one.
    pub fn objects(&self) -> Option<&dyn ObjectStore> {
        self.driver.objects()
    }

    pub(crate) fn store(&self) -> Result<&dyn ObjectStore> {
        self.objects().ok_or_else(|| {
            let message = format!("the {} driver has no object store", self.driver.name());
            StorageError::unsupported(Need::ObjectStore, message)
        })
    }

    /// Makes a bucket, whole or not at all. The caller has written down that it is being made.
    pub fn create_bucket(&self, cx: &Cx<'_>, bucket: &ObjectBucket, access: &ObjectAccess) -> Result<()> {
        let store = self.store()?;
        store.check(&bucket.volume)?;
        let _lock = self.lock(cx, &bucket.volume, LockMode::Exclusive)?;
        let made = scope(cx, |undo| {
            undo.push("destroy the bucket", |cx| twice(|| store.destroy(cx, bucket)));
            cx.checkpoint()?;
            store.create(cx, bucket, access)
        });
        made.map_err(|error| error.while_doing(format!("creating the {}", bucket.volume)))
    }

    /// Makes a bucket with what `fill` puts into it, whole or not at all. Until it is full nobody gets in but `filler`, an admin's
    /// key that goes then; that the others are free is found out before. The caller has written down that it is being made.
    pub fn create_filled_bucket(
        &self,
        cx: &Cx<'_>,
        bucket: &ObjectBucket,
        access: &ObjectAccess,
        filler: &ObjectKey,
        fill: impl FnOnce(&Cx<'_>, &dyn ObjectStore) -> Result<()>,
    ) -> Result<()> {
        let store = self.store()?;
        store.check(&bucket.volume)?;
        let _lock = self.lock(cx, &bucket.volume, LockMode::Exclusive)?;
        let alone = ObjectAccess { size: None, keys: vec![filler.clone()] };
        let mut all = access.clone();
        all.keys.insert(0, filler.clone());
        let made = scope(cx, |undo| {
            undo.push("destroy the bucket", |cx| twice(|| store.destroy(cx, bucket)));
            cx.checkpoint()?;
            store.create(cx, bucket, &all)?;
            store.change(cx, bucket, &alone)?;
            fill(cx, store)?;
            cx.checkpoint()?;
            store.change(cx, bucket, access)
        });
        made.map_err(|error| error.while_doing(format!("filling the {}", bucket.volume)))
    }

    /// Gives a bucket other keys or another size: all of `new`, or `old` as before. The caller has written down that it is being
    /// changed.
    pub fn change_bucket(
        &self,
        cx: &Cx<'_>,
        bucket: &ObjectBucket,
        old: &ObjectAccess,
        new: &ObjectAccess,
    ) -> Result<()> {
        let store = self.store()?;
        let _lock = self.lock(cx, &bucket.volume, LockMode::Exclusive)?;
        let changed = scope(cx, |undo| {
            undo.push("give the bucket back its keys and size", |cx| twice(|| store.change(cx, bucket, old)));
            cx.checkpoint()?;
            store.change(cx, bucket, new)
        });
        changed.map_err(|error| error.while_doing(format!("changing the {}", bucket.volume)))
    }

    /// Destroys a bucket with all that is in it. The caller has written down that it goes. Fails with
    /// [`ErrorKind::Degraded`] when it could not be destroyed whole: from then on it is closed, and to be destroyed by
    /// [`Pool::forget_bucket`]; of any other failure it is as it was.
    pub fn destroy_bucket(&self, cx: &Cx<'_>, bucket: &ObjectBucket, access: &ObjectAccess) -> Result<()> {
        let store = self.store()?;
        let _lock = self.lock(cx, &bucket.volume, LockMode::Exclusive)?;
        let closed = scope(cx, |undo| {
            undo.push("open the bucket again", |cx| reopened(twice(|| store.change(cx, bucket, access))));
            cx.checkpoint()?;
            store.close(cx, bucket)
        });
        closed.map_err(|error| error.while_doing(format!("closing the {}", bucket.volume)))?;
        let cx = cx.uncancellable();
        twice(|| store.destroy(&cx, bucket)).map_err(|error| {
            let message = format!("the {} is closed and only partly destroyed", bucket.volume);
            StorageError::new(ErrorKind::Degraded, message).because(error)
        })
    }

    /// Makes a bucket what the catalog says it is, after a change that was cut off.
    pub fn align_bucket(&self, cx: &Cx<'_>, bucket: &ObjectBucket, access: &ObjectAccess) -> Result<()> {
        let store = self.store()?;
        let _lock = self.lock(cx, &bucket.volume, LockMode::Exclusive)?;
        reopened(store.change(cx, bucket, access))
            .map_err(|error| error.while_doing(format!("bringing the {} in line", bucket.volume)))
    }

    /// Removes what there is of a bucket that was not made to the end, or not destroyed to the end. Ok when there is nothing.
    pub fn forget_bucket(&self, cx: &Cx<'_>, bucket: &ObjectBucket) -> Result<()> {
        let store = self.store()?;
        let _lock = self.lock(cx, &bucket.volume, LockMode::Exclusive)?;
        store
            .destroy(cx, bucket)
            .map_err(|error| error.while_doing(format!("removing what is left of the {}", bucket.volume)))
    }
}

/// A bucket that somebody else removed needs not be opened; that it is missing is told elsewhere.
pub(crate) fn reopened(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A first failure is answered with a second try, unless nobody answers: that took long enough.
pub(crate) fn twice(work: impl Fn() -> Result<()>) -> Result<()> {
    work().or_else(|error| match error.kind() {
        ErrorKind::Unavailable => Err(error),
        _ => work(),
    })
}
