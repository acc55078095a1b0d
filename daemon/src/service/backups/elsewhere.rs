//! Backups of buckets that the pool's technology keeps: the same files, with the objects from there and to there.

use super::MANIFEST;
use super::objects::{append_object, for_each, pass_on};
use crate::service::ServiceError;
use crate::service::buckets::Opened;
use larder_storage_driver::{Cx, ErrorKind, NewObject, Result, StorageError};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// How many objects, and about how many bytes of them, wait on this machine until they are sent together.
const BATCH: usize = 200;
const BATCH_BYTES: u64 = 64 << 20;

/// Writes the manifest and all current objects. Each object is whole; what comes or goes meanwhile may be in or not.
pub(super) fn write(cx: &Cx<'_>, from: &Opened<'_>, manifest: &Path, output: &File) -> Result<()> {
    let mut tar = tar::Builder::new(output);
    tar.append_path_with_name(manifest, MANIFEST)?;
    let mut after = String::new();
    loop {
        cx.checkpoint()?;
        let listed = from.store.list_objects(cx, &from.bucket, &from.key, &after)?;
        let keys: Vec<String> = listed.into_iter().map(|object| object.key).collect();
        from.store.read_objects(cx, &from.bucket, &from.key, &keys, &mut |object, bytes| {
            Ok(append_object(&mut tar, &object.key, &object.facts, (object.size, object.modified), bytes)?)
        })?;
        match keys.into_iter().next_back() {
            None => break,
            Some(last) if last == after => {
                let message = format!("the list of the bucket {} does not end", from.bucket.name);
                return Err(StorageError::new(ErrorKind::Unexpected, message));
            }
            Some(last) => after = last,
        }
    }
    Ok(tar.finish()?)
}

/// Puts all objects of a backup into a bucket. What is not sent yet waits in files below `folder`.
pub(super) fn read(cx: &Cx<'_>, into: &Opened<'_>, backup: &Path, folder: &Path) -> Result<()> {
    let waiting = tempfile::tempdir_in(folder)?;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let send = |batch: &mut Vec<NewObject>| {
        into.store.write_objects(cx, &into.bucket, &into.key, batch)?;
        batch.drain(..).try_for_each(|sent| std::fs::remove_file(sent.file).map_err(StorageError::from))
    };
    let mut refusal = None;
    let outcome = for_each(backup, cx.cancel(), |key, facts, size, content| {
        let file = waiting.path().join(batch.len().to_string());
        let mut spooled = File::create(&file)?;
        pass_on(content, |part| Ok(spooled.write_all(part)?))?;
        bytes += size;
        batch.push(NewObject { key, file, facts });
        if batch.len() < BATCH && bytes < BATCH_BYTES {
            return Ok(());
        }
        bytes = 0;
        send(&mut batch).map_err(|error| {
            let message = error.chain();
            refusal = Some(error);
            ServiceError::internal(message)
        })
    });
    cx.checkpoint()?;
    match (refusal, outcome) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(error.into()),
        (None, Ok(())) => send(&mut batch),
    }
}
