//! Objects that are put, listed and read.

use super::{World, access, bucket, cx, key};
use crate::{Outcome, ensure};
use larder_base::host::SystemHost;
use larder_storage_driver::{ErrorKind, ListedObject, NewObject, ObjectFacts, StorageError};
use std::path::Path;
use uuid::Uuid;

/// An object whose bytes are its key, described in all ways, with its file in a folder.
pub(super) fn object(folder: &Path, key: &str) -> Result<NewObject, StorageError> {
    let file = folder.join(Uuid::new_v4().to_string());
    std::fs::write(&file, key)?;
    let pairs =
        |list: &[(&str, &str)]| list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let facts = ObjectFacts {
        headers: pairs(&[("content-type", "text/plain; charset=utf-8"), ("cache-control", "max-age=1")]),
        metadata: pairs(&[("of", "grün  \"und\" blau"), ("who", "\\me")]),
        tags: vec![("a b".to_owned(), "ü&=".to_owned()), ("empty".to_owned(), String::new())],
        storage_class: None,
    };
    Ok(NewObject { key: key.to_owned(), file, facts })
}

/// Keys that are no paths, in the order of the store.
const ODD: [&str; 10] = [".", "..", "../up", "/root", "a", "a/", "a/..", "q?x=1&y+z%25", "x//y", "ä ö"];

pub(super) fn objects_come_back_as_they_were_put(world: &mut World<'_>) -> Outcome {
    let cx = cx(&SystemHost);
    world.create(&cx, &bucket(1), access(2))?;
    let (store, at, admin) =
        (world.pool.objects().ok_or("no object store")?, bucket(1).volume, key("admin", true, 1));
    ensure(store.list_objects(&cx, &at, &admin, "")?.is_empty(), "a new bucket has objects")?;
    let folder = tempfile::tempdir()?;
    let long = "k".repeat(1024);
    let mut names: Vec<String> = ODD.iter().map(|name| (*name).to_owned()).collect();
    names.insert(7, long);
    let objects = names.iter().map(|name| object(folder.path(), name)).collect::<Result<Vec<_>, _>>()?;
    // Twice: each takes the place of what has its key.
    for _ in 0..2 {
        store.write_objects(&cx, &at, &admin, &objects)?;
    }
    let keys = |listed: Vec<ListedObject>| listed.into_iter().map(|one| one.key).collect::<Vec<_>>();
    let listed = keys(store.list_objects(&cx, &at, &admin, "")?);
    ensure(listed == names, format!("{listed:?} is listed"))?;
    let rest = keys(store.list_objects(&cx, &at, &admin, &names[4])?);
    ensure(rest == names[5..], format!("{rest:?} is listed after {:?}", names[4]))?;
    // What is gone meanwhile is left out, wherever it stood.
    let mut asked = names.clone();
    for place in [0, 4, names.len() + 2] {
        asked.insert(place, format!("gone-{place}"));
    }
    let mut found = Vec::new();
    store.read_objects(&cx, &at, &admin, &asked, &mut |object, bytes| {
        let mut text = String::new();
        bytes.read_to_string(&mut text)?;
        found.push((object.clone(), text));
        Ok(())
    })?;
    ensure(found.len() == objects.len(), format!("{} objects are read", found.len()))?;
    for ((is, text), was) in found.iter().zip(&objects) {
        let is_whole = (&is.key, text, is.size) == (&was.key, &was.key, was.key.len() as u64);
        ensure(is_whole && is.facts == was.facts && is.modified > 0, format!("{is:?} ({text}) was {was:?}"))?;
    }
    // Whoever has enough of it gets no more.
    let failed = store.read_objects(&cx, &at, &admin, &names, &mut |_, _| {
        Err(StorageError::new(ErrorKind::NoSpace, "enough"))
    });
    let kind = failed.err().map(|error| error.kind());
    ensure(kind == Some(ErrorKind::NoSpace), format!("a reader's failure is {kind:?}"))
}

pub(super) fn a_key_that_may_only_read_reads_alone(world: &mut World<'_>) -> Outcome {
    let cx = cx(&SystemHost);
    world.create(&cx, &bucket(1), access(2))?;
    let (store, at, reader) =
        (world.pool.objects().ok_or("no object store")?, bucket(1).volume, key("reader", false, 1));
    let folder = tempfile::tempdir()?;
    let one = [object(folder.path(), "one")?];
    let refused = store.write_objects(&cx, &at, &reader, &one);
    ensure(refused.is_err_and(|error| error.to_string().contains("AccessDenied")), "it may write")?;
    store.write_objects(&cx, &at, &key("admin", true, 1), &one)?;
    ensure(store.list_objects(&cx, &at, &reader, "")?[0].key == "one", "it may not list")?;
    let mut read = 0;
    store.read_objects(&cx, &at, &reader, &["one".to_owned()], &mut |_, _| {
        read += 1;
        Ok(())
    })?;
    ensure(read == 1, "it may not read")?;
    let mut bad = one.clone();
    bad[0].facts.metadata.insert("a".to_owned(), "line\nx-amz-acl: public-read".to_owned());
    let kind = store.write_objects(&cx, &at, &key("admin", true, 1), &bad).err().map(|error| error.kind());
    ensure(kind == Some(ErrorKind::Invalid), format!("a value of two lines is {kind:?}"))
}
