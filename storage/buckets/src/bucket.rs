//! A bucket: opening it, putting, reading and deleting objects, and its settings.

use crate::content::{self, Content};
use crate::header::Header;
use crate::incoming::{Incoming, Staged};
use crate::layout::Layout;
use crate::readers::Readers;
use crate::record::{Carrier, Home, Precondition, Record, Version, Versioning};
use crate::room::Room;
use crate::writer::{Change, WriteStop, Writer};
use crate::{BucketError, NULL_VERSION, Result, recovery, rows, schema};
use jiff::Timestamp;
use larder_base::Clock;
use rusqlite::OptionalExtension;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};

/// Keys have at most this many bytes.
pub const MAX_KEY: usize = 1024;

/// What the bucket counts as used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all versions and of the parts of uploads.
    pub bytes: u64,
    /// Versions that are not delete markers.
    pub objects: u64,
}

/// A bucket in an attached directory. Blocking; shared between threads.
#[derive(Debug)]
pub struct Bucket {
    pub(crate) layout: Layout,
    pub(crate) readers: Arc<Readers>,
    pub(crate) writer: Writer,
    pub(crate) clock: Arc<dyn Clock>,
    sequence: AtomicI64,
    pub(crate) room: Room,
    versioning: AtomicU8,
}

/// What to put.
#[derive(Debug, Default)]
pub struct Put {
    /// The key.
    pub key: String,
    /// What is known of the object; parts and carrier are filled in.
    pub record: Record,
    /// The ETag, without quotes, where it isn't the MD5 of the stored bytes.
    pub etag: Option<String>,
    /// What must hold of the current object.
    pub precondition: Precondition,
}

impl Bucket {
    /// Opens the bucket in a directory, made if it is empty, and finishes or removes what a crash left.
    /// `quota` is in bytes.
    ///
    /// Fails with [`BucketError::IndexUnusable`] when the index is damaged, or missing where there are objects:
    /// [`crate::rebuild`] makes a new one.
    pub fn open(directory: &Path, quota: Option<u64>, clock: Arc<dyn Clock>) -> Result<Self> {
        let layout = Layout::new(directory);
        layout.create()?;
        layout.remove_new_index()?;
        let stores = schema::open_for_writing(&layout)?;
        let garbage = recovery::recover(&layout, &stores)?;
        let sequence = stores.index.query_row("SELECT sequence FROM usage", [], |row| row.get(0))?;
        let readers = Arc::new(Readers::new(layout.clone()));
        let writer = Writer::start(stores, layout.clone(), Arc::clone(&readers), garbage)?;
        let bucket = Self {
            layout,
            readers,
            writer,
            clock,
            sequence: AtomicI64::new(sequence),
            room: Room::new(directory, quota),
            versioning: AtomicU8::new(Versioning::Off as u8),
        };
        let versioning = bucket.setting(VERSIONING)?.map_or(Versioning::Off, |text| Versioning::parse(&text));
        bucket.versioning.store(versioning as u8, Ordering::Release);
        Ok(bucket)
    }

    /// Sets or lifts the quota, in bytes. What is there already stays.
    pub fn set_quota(&self, quota: Option<u64>) {
        self.room.set_quota(quota);
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.layout.root()
    }

    /// The time by the bucket's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Begins to receive a blob. `expected` is its size where it is known. Fails before the first byte when the quota,
    /// beside what others are bringing, or the volume can't take it.
    pub fn receive(&self, expected: u64) -> Result<Incoming> {
        let reservation = self.room.reserve(|| Ok(self.usage()?.bytes), expected)?;
        Ok(Incoming::new(self.layout.clone(), reservation))
    }

    /// Fails when an upload of which so many bytes came already can't be taken whole.
    pub fn must_have_room_beside(&self, came: u64) -> Result<()> {
        self.room.check_under_way(|| Ok(self.usage()?.bytes), came)
    }

    /// The same as [`Bucket::receive`] without blocking, where there was far more room a moment ago.
    pub fn receive_at_once(&self, expected: u64) -> Option<Incoming> {
        let reservation = self.room.reserve_at_once(expected)?;
        Some(Incoming::new(self.layout.clone(), reservation))
    }

    /// The next sequence: later ones are larger, also after a restart.
    pub(crate) fn next_sequence(&self) -> i64 {
        self.sequence.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// A version that is about to be written, under the id the bucket's versioning gives it.
    pub(crate) fn new_version(&self, key: &str, record: Record) -> Result<Version> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(BucketError::KeyLength(key.len()));
        }
        let sequence = self.next_sequence();
        let id = match self.versioning() {
            Versioning::Enabled => rows::new_id(sequence),
            Versioning::Off | Versioning::Suspended => NULL_VERSION.to_owned(),
        };
        let modified = rows::time(self.clock.now().as_millisecond());
        Ok(Version {
            key: key.to_owned(),
            sequence,
            id,
            is_marker: false,
            is_latest: true,
            size: record.parts.iter().map(|part| part.size).sum(),
            etag: String::new(),
            modified,
            record,
        })
    }

    /// Makes a received blob the current object of a key. On stable storage when it returns.
    pub fn put(&self, mut staged: Staged, put: Put) -> Result<Version> {
        let mut record = put.record;
        let part = staged.part().clone();
        record.carrier = Some(Carrier { id: part.id.clone(), home: part.home });
        // A part number or checksum of the blob is the caller's: it set it in the record's only part.
        let checksum = record.parts.pop().and_then(|given| given.checksum);
        record.parts = vec![crate::Part { checksum, ..part.clone() }];
        let mut version = self.new_version(&put.key, record)?;
        version.etag = put.etag.unwrap_or_else(|| part.md5.clone());
        let header = Header::Object(Box::new(version.clone()));
        staged.seal(&header)?;
        let bytes = staged.take_bytes();
        let small = (part.home == Home::Small).then(|| header.to_json()).transpose()?;
        let (wanted, precondition) = (version.size, put.precondition);
        let check_quota = self.room.in_change();
        let stored = self.writer.commit(move |change| {
            precondition.check(rows::latest(change.index, &version.key)?.as_ref())?;
            match &small {
                Some(header) => change.effects.small.push((part.id.clone(), header.clone(), bytes.clone())),
                None => change.effects.files.push(part.id.clone()),
            }
            publish(change, &version)?;
            check_quota(change, wanted)?;
            Ok(version.clone())
        })?;
        staged.keep();
        Ok(stored)
    }

    /// The current object of a key, or a version of it; delete markers included.
    pub fn find(&self, key: &str, version: Option<&str>) -> Result<Version> {
        let found = self.readers.read(|connection| rows::find(connection, key, version))?;
        found.ok_or_else(|| missing(version))
    }

    /// The same with the bytes, which stay readable while the content exists.
    pub fn read(&self, key: &str, version: Option<&str>) -> Result<(Version, Content)> {
        let pin = self.readers.epochs.pin();
        let found = self.readers.read(|connection| {
            let Some(found) = rows::find(connection, key, version)? else { return Ok(None) };
            let parts = &found.record.parts;
            let small = parts.first().filter(|part| part.home == Home::Small);
            let bytes = small.map(|part| content::small(connection, part)).transpose()?;
            Ok(Some((found, bytes)))
        })?;
        let (found, bytes) = found.ok_or_else(|| missing(version))?;
        let parts = found.record.parts.clone();
        let content = Content::open(self.layout.clone(), Arc::clone(&self.readers), parts, bytes, pin)?;
        Ok((found, content))
    }

    /// Changes what is known of a version: tags, lock, access control list. `change` sees the stored version and may
    /// refuse. It may run more than once.
    pub fn update<F>(&self, key: &str, version: Option<&str>, change_version: F) -> Result<Version>
    where
        F: Fn(&mut Version) -> Result<()> + Send + 'static,
    {
        let (key, id) = (key.to_owned(), version.map(str::to_owned));
        self.writer.commit(move |change| {
            let found = match &id {
                None => rows::latest(change.index, &key)?.ok_or(BucketError::NoSuchKey)?,
                Some(id) => rows::by_id(change.index, &key, id)?.ok_or(BucketError::NoSuchVersion)?,
            };
            let mut version = found;
            change_version(&mut version)?;
            rows::update_record(change.index, &version)?;
            if let Some(carrier) = version.record.carrier.clone() {
                change.effects.headers.push((
                    carrier.id,
                    carrier.home,
                    Header::Object(Box::new(version.clone())),
                ));
            }
            Ok(version)
        })
    }

    /// Bytes and objects in use.
    pub fn usage(&self) -> Result<Usage> {
        self.readers.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT bytes, objects FROM usage")?;
            Ok(statement.query_row([], |row| {
                Ok(Usage { bytes: rows::unsigned(row.get(0)?), objects: rows::unsigned(row.get(1)?) })
            })?)
        })
    }

    /// Whether nothing is in the bucket: no version, no delete marker.
    pub fn is_empty(&self) -> Result<bool> {
        self.readers.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT 1 FROM versions LIMIT 1")?;
            Ok(!statement.exists([])?)
        })
    }

    /// Whether old versions are kept.
    pub fn versioning(&self) -> Versioning {
        match self.versioning.load(Ordering::Acquire) {
            number if number == Versioning::Enabled as u8 => Versioning::Enabled,
            number if number == Versioning::Suspended as u8 => Versioning::Suspended,
            _ => Versioning::Off,
        }
    }

    /// Switches the keeping of old versions.
    pub fn set_versioning(&self, versioning: Versioning) -> Result<()> {
        self.set_setting(VERSIONING, Some(versioning.as_str()))?;
        self.versioning.store(versioning as u8, Ordering::Release);
        Ok(())
    }

    /// A setting of the bucket, as its owner spells it.
    pub fn setting(&self, name: &str) -> Result<Option<String>> {
        self.readers.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT value FROM settings WHERE name = ?1")?;
            Ok(statement.query_row([name], |row| row.get(0)).optional()?)
        })
    }

    /// All settings of the bucket.
    pub fn settings(&self) -> Result<BTreeMap<String, String>> {
        self.readers.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT name, value FROM settings")?;
            let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(found.collect::<Result<_, _>>()?)
        })
    }

    /// Sets or removes a setting.
    pub fn set_setting(&self, name: &str, value: Option<&str>) -> Result<()> {
        let (name, value) = (name.to_owned(), value.map(str::to_owned));
        self.writer.commit(move |change| {
            match &value {
                Some(value) => {
                    change.index.execute("INSERT OR REPLACE INTO settings VALUES (?1, ?2)", [&name, value])?
                }
                None => change.index.execute("DELETE FROM settings WHERE name = ?1", [&name])?,
            };
            change.effects.settings = true;
            Ok(())
        })
    }

    /// Writes everything back to the directory's files and stops writing until the returned value is dropped: a snapshot
    /// of the directory made meanwhile is a snapshot of the bucket. Reading goes on.
    pub fn checkpoint(&self) -> Result<WriteStop> {
        let stop = self.writer.pause()?;
        let root = self.layout.root();
        let folder = std::fs::File::open(root).map_err(BucketError::file(root))?;
        rustix::fs::syncfs(&folder).map_err(|error| BucketError::file(root)(error.into()))?;
        Ok(stop)
    }
}

/// Why nothing was found.
fn missing(version: Option<&str>) -> BucketError {
    if version.is_some() { BucketError::NoSuchVersion } else { BucketError::NoSuchKey }
}

/// The setting that holds the versioning.
const VERSIONING: &str = "versioning";

/// Puts a version into the index. A null version replaces the one before, unless that is locked.
pub(crate) fn publish(change: &mut Change<'_>, version: &Version) -> Result<()> {
    if version.id == NULL_VERSION
        && let Some(older) = rows::by_id(change.index, &version.key, NULL_VERSION)?
    {
        older.must_be_unlocked(version.modified, false)?;
        withdraw(change, &older)?;
    }
    rows::insert(change.index, &Version { is_latest: false, ..version.clone() })?;
    rows::refresh_latest(change.index, &version.key)?;
    change.count(rows::signed(version.size), i64::from(!version.is_marker), version.sequence)
}

/// Takes a version out of the index and gives its blobs up.
pub(crate) fn withdraw(change: &mut Change<'_>, version: &Version) -> Result<()> {
    rows::remove(change.index, version)?;
    for (id, home) in version.blobs() {
        change.discard(&id, home)?;
    }
    change.count(-rows::signed(version.size), -i64::from(!version.is_marker), 0)
}
