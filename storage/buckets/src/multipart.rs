//! Multipart uploads. Completing one copies nothing: the object's manifest names the parts where they lie.

use crate::bucket::{Bucket, publish};
use crate::header::Header;
use crate::incoming::Staged;
use crate::record::{Carrier, Home, Part, Precondition, Record, Version};
use crate::writer::Change;
use crate::{BucketError, Result, rows};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

/// All parts but the last have at least this many bytes.
pub const MIN_PART: u64 = 5 << 20;
/// For how long completing an upload again gives the same answer, in milliseconds.
const REMEMBERED: i64 = 24 * 3600 * 1000;

/// An upload in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The key the object will have.
    pub key: String,
    /// The upload's id.
    pub id: String,
    /// When it began.
    pub created: Timestamp,
    /// What the object will be like.
    pub record: Record,
}

/// A part that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadedPart {
    /// Its number, size, MD5 and checksum.
    pub part: Part,
    /// When it was uploaded.
    pub modified: Timestamp,
}

/// How an upload becomes an object.
#[derive(Debug, Default)]
pub struct Complete {
    /// The key.
    pub key: String,
    /// The upload's id.
    pub upload: String,
    /// What the object is like; its parts are those of the upload that are wanted, in order.
    pub record: Record,
    /// The object's ETag, without quotes.
    pub etag: String,
    /// What must hold of the current object.
    pub precondition: Precondition,
}

impl Bucket {
    /// Begins an upload.
    pub fn create_upload(&self, key: &str, record: &Record) -> Result<Upload> {
        if key.is_empty() || key.len() > crate::MAX_KEY {
            return Err(BucketError::KeyLength(key.len()));
        }
        let created = rows::time(self.clock.now().as_millisecond());
        // Ids in the order of their making, so that a list of a key's uploads is in that order too.
        let id = rows::new_id(self.next_sequence());
        let upload = Upload { key: key.to_owned(), id, created, record: record.clone() };
        let text = json(record)?;
        self.writer.commit(move |change| {
            let mut statement = change.index.prepare_cached("INSERT INTO uploads VALUES (?1, ?2, ?3, ?4)")?;
            let created = upload.created.as_millisecond();
            statement.execute(params![upload.key.as_bytes(), upload.id, created, text])?;
            let sequence = i64::from_str_radix(upload.id.get(..16).unwrap_or_default(), 16).unwrap_or(0);
            change.count(0, 0, sequence)?;
            Ok(upload.clone())
        })
    }

    /// Makes a received blob a part of an upload; one of the same number is replaced.
    pub fn put_part(
        &self,
        key: &str,
        upload: &str,
        number: u32,
        mut staged: Staged,
        checksum: Option<String>,
    ) -> Result<Part> {
        let part = Part { number, checksum, ..staged.part().clone() };
        let header = Header::Part { upload: upload.to_owned(), number, size: part.size };
        staged.seal(&header)?;
        let bytes = staged.take_bytes();
        let header = header.to_json()?;
        let (key, upload) = (key.to_owned(), upload.to_owned());
        let modified = self.clock.now().as_millisecond();
        let check_quota = self.room.in_change();
        let part = self.writer.commit(move |change| {
            require_upload(change.index, &key, &upload)?;
            if let Some(older) = part_of(change.index, &upload, number)? {
                change.discard(&older.id, older.home)?;
                change.count(-rows::signed(older.size), 0, 0)?;
            }
            let mut statement =
                change.index.prepare_cached("INSERT OR REPLACE INTO parts VALUES (?1, ?2, ?3, ?4)")?;
            statement.execute(params![upload, number, modified, json(&part)?])?;
            match part.home {
                Home::Small => change.effects.small.push((part.id.clone(), header.clone(), bytes.clone())),
                Home::File => change.effects.files.push(part.id.clone()),
            }
            change.count(rows::signed(part.size), 0, 0)?;
            check_quota(change, part.size)?;
            Ok(part.clone())
        })?;
        staged.keep();
        Ok(part)
    }

    /// An upload in progress.
    pub fn upload(&self, key: &str, upload: &str) -> Result<Upload> {
        self.readers.read(|connection| require_upload(connection, key, upload))
    }

    /// The parts of an upload with numbers above `after`, at most `limit`.
    pub fn parts(&self, upload: &str, after: u32, limit: usize) -> Result<Vec<UploadedPart>> {
        self.readers.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT part, modified FROM parts WHERE upload = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let found = statement.query_map(params![upload, after, limit], |row| {
                Ok((row.get::<_, String>(0)?, row.get(1)?))
            })?;
            found
                .map(|row| {
                    let (part, modified) = row?;
                    Ok(UploadedPart { part: parse(&part)?, modified: rows::time(modified) })
                })
                .collect()
        })
    }

    /// Makes an upload's parts the current object of its key. Completing it again with the same result succeeds.
    pub fn complete(&self, complete: Complete) -> Result<Version> {
        let mut record = complete.record;
        let id = uuid::Uuid::new_v4().simple().to_string();
        record.carrier = Some(Carrier { id: id.clone(), home: Home::Small });
        record.is_multipart = true;
        let version = Version { etag: complete.etag, ..self.new_version(&complete.key, record)? };
        let header = Header::Object(Box::new(version.clone())).to_json()?;
        let upload = complete.upload;
        let precondition = complete.precondition;
        let now = self.clock.now().as_millisecond();
        self.writer.commit(move |change| {
            require_upload(change.index, &version.key, &upload)?;
            precondition.check(rows::latest(change.index, &version.key)?.as_ref())?;
            for part in &version.record.parts {
                let is_there =
                    part_of(change.index, &upload, part.number)?.is_some_and(|found| found.id == part.id);
                is_there.then_some(()).ok_or(BucketError::InvalidPart { number: part.number })?;
            }
            end_upload(change, &version.key, &upload, &version.record.parts)?;
            change.effects.small.push((id.clone(), header.clone(), Vec::new()));
            publish(change, &version)?;
            let index = change.index;
            index.execute("DELETE FROM completed WHERE created < ?1", [now - REMEMBERED])?;
            index.execute(
                "INSERT OR REPLACE INTO completed VALUES (?1, ?2, ?3, ?4, ?5)",
                params![upload, version.key.as_bytes(), version.id, version.etag, now],
            )?;
            Ok(version.clone())
        })
    }

    /// The version id and ETag an upload of this key was completed to, if that is not long ago.
    pub fn completed(&self, key: &str, upload: &str) -> Result<Option<(String, String)>> {
        self.readers.read(|connection| {
            let sql = "SELECT version, etag FROM completed WHERE upload = ?1 AND key = ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let found =
                statement.query_row(params![upload, key.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)));
            Ok(found.optional()?)
        })
    }

    /// Gives an upload and its parts up.
    pub fn abort_upload(&self, key: &str, upload: &str) -> Result<()> {
        let (key, upload) = (key.to_owned(), upload.to_owned());
        self.writer.commit(move |change| {
            require_upload(change.index, &key, &upload)?;
            end_upload(change, &key, &upload, &[])
        })
    }
}

/// Forgets an upload; parts that are not kept are discarded.
fn end_upload(change: &mut Change<'_>, key: &str, upload: &str, kept: &[Part]) -> Result<()> {
    let parts: Vec<Part> = {
        let mut statement = change.index.prepare_cached("SELECT part FROM parts WHERE upload = ?1")?;
        let found = statement.query_map([upload], |row| row.get::<_, String>(0))?;
        found.map(|text| parse(&text?)).collect::<Result<_>>()?
    };
    let kept: std::collections::HashSet<&str> = kept.iter().map(|part| part.id.as_str()).collect();
    let mut bytes = 0;
    for part in &parts {
        bytes += part.size;
        if !kept.contains(part.id.as_str()) {
            change.discard(&part.id, part.home)?;
        }
    }
    change.count(-rows::signed(bytes), 0, 0)?;
    change.index.prepare_cached("DELETE FROM parts WHERE upload = ?1")?.execute([upload])?;
    let mut statement = change.index.prepare_cached("DELETE FROM uploads WHERE key = ?1 AND id = ?2")?;
    statement.execute(params![key.as_bytes(), upload])?;
    Ok(())
}

fn require_upload(connection: &Connection, key: &str, upload: &str) -> Result<Upload> {
    let sql = "SELECT created, record FROM uploads WHERE key = ?1 AND id = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row(params![key.as_bytes(), upload], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
    });
    let (created, record) = found.optional()?.ok_or(BucketError::NoSuchUpload)?;
    let record = parse(&record)?;
    Ok(Upload { key: key.to_owned(), id: upload.to_owned(), created: rows::time(created), record })
}

pub(crate) fn part_of(connection: &Connection, upload: &str, number: u32) -> Result<Option<Part>> {
    let mut statement =
        connection.prepare_cached("SELECT part FROM parts WHERE upload = ?1 AND number = ?2")?;
    let found = statement.query_row(params![upload, number], |row| row.get::<_, String>(0)).optional()?;
    found.map(|text| parse(&text)).transpose()
}

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| BucketError::Damaged { what: error.to_string() })
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|error| BucketError::Damaged { what: format!("a stored record: {error}") })
}
