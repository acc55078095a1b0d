//! Objects copied from bucket to bucket inside a store, so that one holds what the other does: at once where nobody writes, in two
//! passes where somebody does until the second.

use larder_storage_driver::{
    Cx, ErrorKind, ListedObject, ObjectKey, ObjectStore, Result, StorageError, VolumeId,
};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// How many objects are copied or removed between two looks at whether to go on.
const AT_ONCE: usize = 500;
/// How far apart the clocks of a store's servers may be, in milliseconds: with more, none of them would take the others' requests.
const SKEW: i64 = 15 * 60 * 1000;

/// From which bucket into which, with a key that may read the one and write the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) store: &'a dyn ObjectStore,
    pub(crate) from: &'a VolumeId,
    pub(crate) into: &'a VolumeId,
    pub(crate) key: &'a ObjectKey,
}

/// What the passes have seen of a bucket, as hashes: some bytes an object.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    hasher: RandomState,
    /// Objects as they were before they were copied.
    copied: HashSet<u64>,
    /// The keys of the last pass.
    keys: HashSet<u64>,
}

/// A bucket's objects, page by page, in order.
struct Listing<'a> {
    store: &'a dyn ObjectStore,
    bucket: &'a VolumeId,
    key: &'a ObjectKey,
    page: std::vec::IntoIter<ListedObject>,
    after: String,
}

impl<'a> Way<'a> {
    fn listing(&self, bucket: &'a VolumeId) -> Listing<'a> {
        let page = Vec::new().into_iter();
        Listing { store: self.store, bucket, key: self.key, page, after: String::new() }
    }

    /// Copies all objects into an empty bucket. Whoever writes meanwhile makes another pass necessary.
    pub(crate) fn copy_all(&self, cx: &Cx<'_>, seen: &mut Seen) -> Result<()> {
        self.pass(cx, seen).map(drop)
    }

    /// Copies what has changed since the first pass. Nobody writes meanwhile.
    pub(crate) fn copy_changes(&self, cx: &Cx<'_>, seen: &mut Seen) -> Result<()> {
        seen.keys.clear();
        for gone in self.pass(cx, seen)? {
            seen.keys.remove(&seen.hasher.hash_one(&gone));
        }
        Ok(())
    }

    /// Removes what the second pass did not see. The other bucket may be written to again.
    pub(crate) fn remove_what_is_gone(&self, cx: &Cx<'_>, seen: &Seen) -> Result<()> {
        let mut listing = self.listing(self.into);
        let mut removals = Batch::default();
        while let Some(object) = listing.next(cx)? {
            if !seen.keys.contains(&seen.hasher.hash_one(&object.key)) {
                removals.add(object.key, |names| self.remove(cx, names))?;
            }
        }
        removals.end(|names| self.remove(cx, names))
    }

    /// Makes a bucket what the one was into which it was copied earlier. What can be seen to be the same is left as it is.
    pub(crate) fn bring_back(&self, cx: &Cx<'_>) -> Result<()> {
        let (mut wanted, mut present) = (self.listing(self.from), self.listing(self.into));
        let (mut copies, mut removals) = (Batch::default(), Batch::default());
        let copy =
            |names: &[String]| self.store.copy_objects(cx, self.from, self.into, self.key, names).map(drop);
        let (mut next, mut found) = (wanted.next(cx)?, present.next(cx)?);
        loop {
            let order = match (&next, &found) {
                (None, None) => break,
                (Some(next), Some(found)) => next.key.cmp(&found.key),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
            };
            let is_same = matches!((&next, &found), (Some(next), Some(found)) if is_untouched(found, next));
            if order != Ordering::Greater
                && let Some(object) = std::mem::take(&mut next)
            {
                if order == Ordering::Less || !is_same {
                    copies.add(object.key, copy)?;
                }
                next = wanted.next(cx)?;
            }
            if order != Ordering::Less
                && let Some(object) = std::mem::take(&mut found)
            {
                if order == Ordering::Greater {
                    removals.add(object.key, |names| self.remove(cx, names))?;
                }
                found = present.next(cx)?;
            }
        }
        removals.end(|names| self.remove(cx, names))?;
        copies.end(copy)
    }

    /// Copies what has not been copied as it is; the keys of what was gone then.
    fn pass(&self, cx: &Cx<'_>, seen: &mut Seen) -> Result<Vec<String>> {
        let (mut listing, mut copies, mut gone) = (self.listing(self.from), Batch::default(), Vec::new());
        let mut copy = |names: &[String]| {
            gone.extend(self.store.copy_objects(cx, self.from, self.into, self.key, names)?);
            Ok(())
        };
        while let Some(object) = listing.next(cx)? {
            seen.keys.insert(seen.hasher.hash_one(&object.key));
            if seen.copied.insert(seen.hasher.hash_one(&object)) {
                self.must_be_copied_at_once(&object)?;
                copies.add(object.key, &mut copy)?;
            }
        }
        copies.end(&mut copy)?;
        Ok(gone)
    }

    fn remove(&self, cx: &Cx<'_>, names: &[String]) -> Result<()> {
        self.store.remove_objects(cx, self.into, self.key, names)
    }

    fn must_be_copied_at_once(&self, object: &ListedObject) -> Result<()> {
        let limit = self.store.largest_object();
        if object.size <= limit.as_bytes() {
            return Ok(());
        }
        let message = format!(
            "the object {:?} has {} bytes, and only one of at most {limit} can be copied",
            object.key, object.size
        );
        Err(StorageError::new(ErrorKind::Invalid, message))
    }
}

/// Whether an object is still the one that was copied: it has the copy's bytes, and was there as it is before the copy was.
fn is_untouched(original: &ListedObject, copy: &ListedObject) -> bool {
    let has_its_bytes = (&original.key, &original.etag, original.size) == (&copy.key, &copy.etag, copy.size);
    has_its_bytes && original.modified.saturating_add(SKEW) <= copy.modified
}

impl Listing<'_> {
    fn next(&mut self, cx: &Cx<'_>) -> Result<Option<ListedObject>> {
        if self.page.len() == 0 {
            cx.checkpoint()?;
            self.page = self.store.list_objects(cx, self.bucket, self.key, &self.after)?.into_iter();
        }
        let Some(object) = self.page.next() else { return Ok(None) };
        if object.key <= self.after {
            let message = format!("the list of the bucket {} is not in order", self.bucket.name);
            return Err(StorageError::new(ErrorKind::Unexpected, message));
        }
        self.after.clone_from(&object.key);
        Ok(Some(object))
    }
}

/// Keys that wait until there are many.
#[derive(Default)]
struct Batch(Vec<String>);

impl Batch {
    fn add(&mut self, key: String, act: impl FnMut(&[String]) -> Result<()>) -> Result<()> {
        self.0.push(key);
        if self.0.len() < AT_ONCE { Ok(()) } else { self.end(act) }
    }

    fn end(&mut self, mut act: impl FnMut(&[String]) -> Result<()>) -> Result<()> {
        let names = std::mem::take(&mut self.0);
        if names.is_empty() { Ok(()) } else { act(&names) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(etag: &str, size: u64, modified: i64) -> ListedObject {
        ListedObject { key: "k".to_owned(), size, etag: etag.to_owned(), modified }
    }

    #[test]
    fn only_what_is_surely_as_it_was_is_left_alone() {
        let copy = object("e", 5, 10 * SKEW);
        assert!(is_untouched(&object("e", 5, 9 * SKEW), &copy));
        for other in [
            object("f", 5, 0),
            object("e", 6, 0),
            // Its metadata may have changed right after the copy, by a clock that is slow.
            object("e", 5, 9 * SKEW + 1),
            object("e", 5, 11 * SKEW),
        ] {
            assert!(!is_untouched(&other, &copy), "{other:?}");
        }
    }

    #[test]
    fn a_batch_acts_when_it_is_full_and_at_its_end() {
        let (mut batch, mut sizes) = (Batch::default(), Vec::new());
        let mut act = |names: &[String]| {
            sizes.push(names.len());
            Ok(())
        };
        for number in 0..AT_ONCE + 3 {
            batch.add(number.to_string(), &mut act).unwrap();
        }
        batch.end(&mut act).unwrap();
        batch.end(&mut act).unwrap();
        assert_eq!(sizes, [AT_ONCE, 3]);
    }
}
