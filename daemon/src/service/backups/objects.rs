//! Backups of buckets: a tar with one member an object, as the peers write it, and beside each what S3 knows of it.

use super::MANIFEST;
use super::survey::{self, damaged};
use crate::service::{Result, ServiceError};
use larder_base::Cancel;
use larder_storage_buckets::{Bucket, BucketError, Content, Entry, Put, Query, Record};
use larder_storage_driver::ObjectFacts;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The folder of the objects in the tar.
pub(super) const OBJECTS: &str = "backup/bucket/";
/// The name that a member has for readers without PAX.
const SHORT_NAME: &str = "backup/bucket/object";
/// The PAX record with what S3 knows of an object.
const RECORD: &str = "LARDER.object";
/// How many keys are listed, and how many bytes read, at once.
const PAGE: usize = 1000;
const CHUNK: usize = 256 << 10;

/// Writes the manifest and all current objects. Each object is whole; what comes or goes meanwhile may be in or not.
pub(super) fn write(bucket: &Bucket, manifest: &Path, output: &File, cancel: &Cancel) -> Result<()> {
    let mut tar = tar::Builder::new(output);
    tar.append_path_with_name(manifest, MANIFEST)?;
    let mut query = Query { limit: PAGE, ..Query::default() };
    loop {
        let page = bucket.list(&query)?;
        for entry in &page.entries {
            cancel.checkpoint().map_err(larder_storage_driver::StorageError::from)?;
            if let Entry::Item(item) = entry {
                append(&mut tar, bucket, &item.key)?;
            }
        }
        query.after = page.entries.last().map(|entry| entry.key().to_owned());
        if !page.is_truncated || query.after.is_none() {
            break;
        }
    }
    tar.finish()?;
    Ok(())
}

fn append(tar: &mut tar::Builder<&File>, bucket: &Bucket, key: &str) -> Result<()> {
    let (version, content) = match bucket.read(key, None) {
        // It went since it was listed.
        Err(BucketError::NoSuchKey) => return Ok(()),
        other => other?,
    };
    let Record { headers, metadata, tags, storage_class, encryption, .. } = version.record;
    if encryption.is_some() {
        return Err(ServiceError::bad(format!(
            "the object {key:?} is encrypted with a key that its client keeps, so it can't be exported: copy a snapshot of the bucket instead"
        )));
    }
    let facts = ObjectFacts { headers, metadata, tags, storage_class };
    let modified = u64::try_from(version.modified.as_second()).unwrap_or(0);
    append_object(tar, key, &facts, (content.size(), modified), Bytes { content, at: 0 })
}

/// Appends one object: what is known of it, its size and time, and its bytes.
pub(super) fn append_object(
    tar: &mut tar::Builder<&File>,
    key: &str,
    facts: &ObjectFacts,
    (size, modified): (u64, u64),
    bytes: impl Read,
) -> Result<()> {
    let known = serde_json::to_vec(facts)
        .map_err(|error| ServiceError::internal(format!("an object can't be described: {error}")))?;
    let path = format!("{OBJECTS}{key}");
    tar.append_pax_extensions([("path", path.as_bytes()), (RECORD, known.as_slice())])?;
    let mut header = tar::Header::new_ustar();
    header.set_path(SHORT_NAME)?;
    header.set_mode(0o600);
    header.set_size(size);
    header.set_mtime(modified);
    header.set_cksum();
    Ok(tar.append(&header, bytes)?)
}

/// An object's bytes as a stream.
struct Bytes {
    content: Content,
    at: u64,
}

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.content.size() {
            return Ok(0);
        }
        let (_, bytes) = self.content.read(self.at, buffer.len().min(CHUNK)).map_err(io::Error::other)?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}

/// Puts all objects of a backup into a bucket, where they belong to `owner`.
pub(super) fn read(bucket: &Bucket, file: &Path, owner: &str, cancel: &Cancel) -> Result<()> {
    for_each(file, cancel, |key, facts, size, bytes| {
        let mut incoming = bucket.receive(size)?;
        pass_on(bytes, |part| Ok(incoming.write(part)?))?;
        let ObjectFacts { headers, metadata, tags, storage_class } = facts;
        let owner = owner.to_owned();
        let record = Record { owner, headers, metadata, tags, storage_class, ..Record::default() };
        bucket.put(incoming.finish(), Put { key, record, ..Put::default() })?;
        Ok(())
    })
}

/// Passes the bytes of an object on, part by part.
pub(super) fn pass_on(bytes: &mut dyn Read, mut write: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match bytes.read(&mut buffer).map_err(|error| damaged(&error))? {
            0 => return Ok(()),
            count => write(&buffer[..count])?,
        }
    }
}

/// Gives all objects of a backup: key, what is known, size and bytes.
pub(super) fn for_each(
    file: &Path,
    cancel: &Cancel,
    mut take: impl FnMut(String, ObjectFacts, u64, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let mut tar = tar::Archive::new(survey::open(file, cancel)?);
    for entry in tar.entries().map_err(|error| damaged(&error))? {
        let mut entry = entry.map_err(|error| damaged(&error))?;
        let path = entry.path_bytes().into_owned();
        let Some(key) = key_of(&path)?.filter(|_| entry.header().entry_type().is_file()) else { continue };
        let (facts, size) = (known(&mut entry)?, entry.size());
        take(key, facts, size, &mut entry)?;
    }
    Ok(())
}

/// The key of a member; `None` for what is no object. A key is never a path: nothing in it is special.
fn key_of(path: &[u8]) -> Result<Option<String>> {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let Some(key) = path.strip_prefix(OBJECTS.as_bytes()).filter(|key| !key.is_empty()) else {
        return Ok(None);
    };
    match std::str::from_utf8(key) {
        Ok(key) if key.len() <= larder_storage_buckets::MAX_KEY => Ok(Some(key.to_owned())),
        _ => Err(ServiceError::bad(format!(
            "the backup has an object whose key is no UTF-8 text of at most {} bytes: {:?}",
            larder_storage_buckets::MAX_KEY,
            String::from_utf8_lossy(key)
        ))),
    }
}

fn known(entry: &mut tar::Entry<'_, impl Read>) -> Result<ObjectFacts> {
    let Some(records) = entry.pax_extensions().map_err(|error| damaged(&error))? else {
        return Ok(ObjectFacts::default());
    };
    for record in records {
        let record = record.map_err(|error| damaged(&error))?;
        if record.key_bytes() == RECORD.as_bytes() {
            return serde_json::from_slice(record.value_bytes())
                .map_err(|error| ServiceError::bad(format!("the backup's {RECORD} can't be read: {error}")));
        }
    }
    Ok(ObjectFacts::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn bucket(folder: &Path) -> Bucket {
        std::fs::create_dir_all(folder).unwrap();
        Bucket::open(folder, None, Arc::new(larder_base::SystemClock)).unwrap()
    }

    fn put(bucket: &Bucket, key: &str, bytes: &[u8], metadata: &[(&str, &str)]) {
        let mut incoming = bucket.receive(bytes.len() as u64).unwrap();
        incoming.write(bytes).unwrap();
        let metadata =
            metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let record = Record { metadata, tags: vec![("t".to_owned(), "v".to_owned())], ..Record::default() };
        bucket.put(incoming.finish(), Put { key: key.to_owned(), record, ..Put::default() }).unwrap();
    }

    #[test]
    fn every_key_comes_back_with_its_bytes_and_what_is_known_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (bucket(&folder.path().join("from")), bucket(&folder.path().join("to")));
        let large = vec![7; 700_000];
        let keys = [
            "a",
            "a/b",
            "a/",
            "../up",
            "/root",
            "x//y",
            "ä ö.meta",
            "./dot",
            &"k".repeat(1024),
            "index.yaml",
        ];
        for key in keys {
            put(&from, key, key.as_bytes(), &[("of", key)]);
        }
        put(&from, "large", &large, &[]);
        let (index, tar) = (folder.path().join("index"), folder.path().join("tar"));
        std::fs::write(&index, "type: bucket\n").unwrap();
        write(&from, &index, &File::create(&tar).unwrap(), &Cancel::never()).unwrap();
        read(&to, &tar, "owner", &Cancel::never()).unwrap();
        for key in keys {
            let (version, mut content) = to.read(key, None).unwrap();
            assert_eq!(content.read(0, 2000).unwrap().1, key.as_bytes(), "{key}");
            assert_eq!(version.record.metadata["of"], key);
            assert_eq!((version.record.tags.len(), version.record.owner.as_str()), (1, "owner"));
        }
        assert_eq!(to.find("large", None).unwrap().etag, from.find("large", None).unwrap().etag);
        assert_eq!(to.usage().unwrap(), from.usage().unwrap());
    }

    #[test]
    fn a_member_is_an_object_below_its_folder_alone() {
        for (path, key) in [
            ("backup/bucket/a/../b", Some("a/../b")),
            ("./backup/bucket/a", Some("a")),
            ("backup/bucket/", None),
            ("backup/index.yaml", None),
            ("backup/bucketful", None),
        ] {
            assert_eq!(key_of(path.as_bytes()).unwrap().as_deref(), key, "{path}");
        }
        assert!(key_of(b"backup/bucket/\xff").is_err());
        assert!(key_of(format!("{OBJECTS}{}", "k".repeat(1025)).as_bytes()).is_err());
    }
}
