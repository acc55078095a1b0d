//! Reading and writing the rows of versions.

use crate::record::Record;
use crate::{BucketError, Result, Version};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Selects what [`version_of`] reads.
macro_rules! select_versions {
    ($which:literal) => {
        concat!(
            "SELECT key, sequence, id, is_latest, is_marker, size, etag, modified, record FROM versions WHERE ",
            $which
        )
    };
}

fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    let bytes = row.get_ref(column)?.as_blob()?;
    String::from_utf8(bytes.to_vec()).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, Box::new(error))
    })
}

pub(crate) fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or_default()
}

pub(crate) fn key_of(row: &Row<'_>) -> rusqlite::Result<String> {
    text(row, 0)
}

/// A count that the schema keeps as SQLite's signed integer.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A size as SQLite stores it.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn record_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Record> {
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// Looks at the records of all versions.
pub(crate) fn for_each_record(connection: &Connection, mut look: impl FnMut(Record)) -> Result<()> {
    let mut statement = connection.prepare("SELECT record FROM versions")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        look(record_of(row, 0)?);
    }
    Ok(())
}

fn version_of(row: &Row<'_>) -> rusqlite::Result<Version> {
    let record = record_of(row, 8)?;
    Ok(Version {
        key: text(row, 0)?,
        sequence: row.get(1)?,
        id: row.get(2)?,
        is_latest: row.get(3)?,
        is_marker: row.get(4)?,
        size: unsigned(row.get(5)?),
        etag: row.get(6)?,
        modified: time(row.get(7)?),
        record,
    })
}

/// The newest version of a key, or the one that is named.
pub(crate) fn find(connection: &Connection, key: &str, id: Option<&str>) -> Result<Option<Version>> {
    match id {
        None => latest(connection, key),
        Some(id) => by_id(connection, key, id),
    }
}

/// The newest version of a key, delete markers included.
pub(crate) fn latest(connection: &Connection, key: &str) -> Result<Option<Version>> {
    let sql = select_versions!("key = ?1 ORDER BY sequence DESC LIMIT 1");
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([key.as_bytes()], version_of).optional()?)
}

/// A version by its id.
pub(crate) fn by_id(connection: &Connection, key: &str, id: &str) -> Result<Option<Version>> {
    let sql = select_versions!("key = ?1 AND sequence = ?2 AND id = ?3");
    match sequence_of(connection, key, id)? {
        Some(sequence) => {
            let mut statement = connection.prepare_cached(sql)?;
            Ok(statement.query_row(params![key.as_bytes(), sequence, id], version_of).optional()?)
        }
        None => Ok(None),
    }
}

/// The sequence of a version: an id tells it, only the null version has to be looked for.
pub(crate) fn sequence_of(connection: &Connection, key: &str, id: &str) -> Result<Option<i64>> {
    if id != crate::NULL_VERSION {
        return Ok(id.get(..16).and_then(|digits| i64::from_str_radix(digits, 16).ok()));
    }
    let sql = "SELECT sequence FROM versions WHERE key = ?1 AND id = 'null'";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([key.as_bytes()], |row| row.get(0)).optional()?)
}

/// Spells the id of a version that has this sequence.
pub(crate) fn new_id(sequence: i64) -> String {
    let chance = uuid::Uuid::new_v4().simple().to_string();
    format!("{sequence:016x}{}", chance.get(..16).unwrap_or_default())
}

fn record_text(version: &Version) -> Result<String> {
    serde_json::to_string(&version.record)
        .map_err(|error| BucketError::Damaged { what: format!("the record of {:?}: {error}", version.key) })
}

pub(crate) fn insert(connection: &Connection, version: &Version) -> Result<()> {
    let sql = "INSERT INTO versions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    connection.prepare_cached(sql)?.execute(params![
        version.key.as_bytes(),
        version.sequence,
        version.id,
        version.is_latest,
        version.is_marker,
        signed(version.size),
        version.etag,
        version.modified.as_millisecond(),
        version.record.owner,
        version.record.checksum.as_ref().map(|checksum| format!("{} {}", checksum.algorithm, checksum.kind)),
        version.record.storage_class,
        record_text(version)?,
    ])?;
    Ok(())
}

pub(crate) fn remove(connection: &Connection, version: &Version) -> Result<()> {
    let sql = "DELETE FROM versions WHERE key = ?1 AND sequence = ?2";
    connection.prepare_cached(sql)?.execute(params![version.key.as_bytes(), version.sequence])?;
    Ok(())
}

/// Stores what changed in a version's record.
pub(crate) fn update_record(connection: &Connection, version: &Version) -> Result<()> {
    let sql = "UPDATE versions SET record = ?3, owner = ?4 WHERE key = ?1 AND sequence = ?2";
    let key = version.key.as_bytes();
    connection.prepare_cached(sql)?.execute(params![
        key,
        version.sequence,
        record_text(version)?,
        version.record.owner
    ])?;
    Ok(())
}

/// Marks the newest version of a key as the latest, and no other.
pub(crate) fn refresh_latest(connection: &Connection, key: &str) -> Result<()> {
    let sql = "UPDATE versions SET is_latest = 0 WHERE key = ?1 AND is_latest = 1";
    connection.prepare_cached(sql)?.execute([key.as_bytes()])?;
    let sql = "UPDATE versions SET is_latest = 1 WHERE key = ?1 AND sequence =
               (SELECT max(sequence) FROM versions WHERE key = ?1)";
    connection.prepare_cached(sql)?.execute([key.as_bytes()])?;
    Ok(())
}
