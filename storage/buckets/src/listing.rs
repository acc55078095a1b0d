//! Lists, in the order of keys' bytes. A list with a delimiter jumps over what lies behind a common prefix instead of
//! reading it, and every page begins with a seek: the thousandth costs what the first does.

use crate::bucket::Bucket;
use crate::multipart::Upload;
use crate::{BucketError, Result, rows};
use jiff::Timestamp;
use rusqlite::{Connection, params};

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only keys that begin with it.
    pub prefix: String,
    /// Keys are cut behind the first one after the prefix; empty for none.
    pub delimiter: String,
    /// Only what comes after it: a key, or a common prefix and all that lies in it.
    pub after: Option<String>,
    /// Where `after` names a key: only versions, or uploads, after this id of it; without it the whole key is passed.
    pub after_id: Option<String>,
    /// At most so many entries, common prefixes included.
    pub limit: usize,
}

/// An object, a version or an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: String,
    /// The version id, or the upload's.
    pub id: String,
    /// Whether it is a delete marker.
    pub is_marker: bool,
    /// Whether it is the newest of its key.
    pub is_latest: bool,
    /// Bytes.
    pub size: u64,
    /// ETag without quotes.
    pub etag: String,
    /// When it was written.
    pub modified: Timestamp,
    /// Canonical id of the owner.
    pub owner: String,
    /// The checksum's algorithm and kind, separated by a space.
    pub checksum: Option<String>,
    /// The storage class the client asked for.
    pub class: Option<String>,
    sequence: i64,
}

impl Listed {
    /// Orders the versions of the bucket: larger is newer.
    pub fn sequence(&self) -> i64 {
        self.sequence
    }
}

/// An entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An object, a version or an upload.
    Item(Listed),
    /// What all keys of a group begin with.
    Prefix(String),
}

impl Entry {
    /// What to pass as `after` to go on behind this entry.
    pub fn key(&self) -> &str {
        match self {
            Self::Item(item) => &item.key,
            Self::Prefix(prefix) => prefix,
        }
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The entries, in order.
    pub entries: Vec<Entry>,
    /// Whether more follow.
    pub is_truncated: bool,
}

/// Where a fetch begins: at a key, and behind a sequence of exactly that key.
#[derive(Debug, Clone)]
struct Start {
    key: Vec<u8>,
    /// Of `key` itself: none, all, or those after this id (older versions, later uploads).
    rest: Rest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rest {
    All,
    Nothing,
    AfterSequence(i64),
    AfterId(String),
}

/// How many rows the first fetch of a list with a delimiter asks for.
const FIRST_FETCH: usize = 100;
const MOST: usize = 1000;

impl Bucket {
    /// Current objects.
    pub fn list(&self, query: &Query) -> Result<Page> {
        self.readers.read(|connection| {
            let start = query.start(|_| Ok(Rest::Nothing))?;
            walk(query, start, |start, limit| objects(connection, start, limit))
        })
    }

    /// All versions and delete markers, the newest of a key first.
    pub fn list_versions(&self, query: &Query) -> Result<Page> {
        self.readers.read(|connection| {
            let start = query.start(|key| match &query.after_id {
                None => Ok(Rest::Nothing),
                Some(id) => {
                    let sequence = rows::sequence_of(connection, key, id)?;
                    Ok(sequence.map_or(Rest::Nothing, Rest::AfterSequence))
                }
            })?;
            walk(query, start, |start, limit| versions(connection, start, limit))
        })
    }

    /// Uploads in progress, in the order of keys and then of their beginning.
    pub fn list_uploads(&self, query: &Query) -> Result<Page> {
        self.readers.read(|connection| {
            let start = query.start(|_| Ok(query.after_id.clone().map_or(Rest::Nothing, Rest::AfterId)))?;
            walk(query, start, |start, limit| uploads(connection, start, limit))
        })
    }

    /// All uploads in progress that began before a time.
    pub fn uploads_before(&self, time: Timestamp) -> Result<Vec<Upload>> {
        let ids: Vec<(String, String)> = self.readers.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT key, id FROM uploads WHERE created < ?1")?;
            let found =
                statement.query_map([time.as_millisecond()], |row| Ok((rows::key_of(row)?, row.get(1)?)))?;
            Ok(found.collect::<Result<_, _>>()?)
        })?;
        let found = ids.iter().map(|(key, id)| self.upload(key, id));
        found.filter(|upload| !matches!(upload, Err(BucketError::NoSuchUpload))).collect()
    }
}

impl Query {
    fn start(&self, rest: impl FnOnce(&str) -> Result<Rest>) -> Result<Start> {
        let prefix = self.prefix.as_bytes();
        let Some(after) = self.after.as_deref().filter(|after| after.as_bytes() >= prefix) else {
            return Ok(Start { key: prefix.to_vec(), rest: Rest::All });
        };
        // A common prefix that was the last entry of the page before: all in it was told of.
        if self.after_id.is_none() && self.common_prefix(after).is_some_and(|common| common == after) {
            let key = successor(after.as_bytes()).unwrap_or_else(|| vec![0xff; crate::MAX_KEY + 1]);
            return Ok(Start { key, rest: Rest::All });
        }
        Ok(Start { key: after.as_bytes().to_vec(), rest: rest(after)? })
    }

    /// The common prefix a key is shown as.
    fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        if self.delimiter.is_empty() {
            return None;
        }
        let rest = key.strip_prefix(self.prefix.as_str())?;
        let found = rest.find(&self.delimiter)?;
        key.get(..self.prefix.len() + found + self.delimiter.len())
    }
}

/// The first byte string after all that begin with this one.
fn successor(bytes: &[u8]) -> Option<Vec<u8>> {
    let last = bytes.iter().rposition(|byte| *byte != 0xff)?;
    let mut next = bytes[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

fn walk(
    query: &Query,
    mut start: Start,
    mut fetch: impl FnMut(&Start, usize) -> Result<Vec<Listed>>,
) -> Result<Page> {
    let mut page = Page::default();
    let mut size = if query.delimiter.is_empty() { MOST } else { FIRST_FETCH };
    loop {
        let wanted = size.min(query.limit.saturating_sub(page.entries.len()).saturating_add(1).max(2));
        let rows = fetch(&start, wanted)?;
        let is_last = rows.len() < wanted;
        let mut jump: Option<Vec<u8>> = None;
        let mut last = None;
        for row in rows {
            if !row.key.starts_with(query.prefix.as_str()) {
                return Ok(page);
            }
            if jump.as_ref().is_some_and(|jump| row.key.as_bytes() < jump.as_slice()) {
                continue;
            }
            if page.entries.len() == query.limit {
                page.is_truncated = true;
                return Ok(page);
            }
            jump = None;
            match query.common_prefix(&row.key) {
                Some(common) => {
                    jump = successor(common.as_bytes());
                    page.entries.push(Entry::Prefix(common.to_owned()));
                }
                None => {
                    last = Some(start_after(&row));
                    page.entries.push(Entry::Item(row));
                }
            }
        }
        if is_last {
            return Ok(page);
        }
        // Many keys behind one prefix: fetch less and jump more often, or the other way round.
        size = if jump.is_some() { (size / 2).max(8) } else { (size * 2).min(MOST) };
        match (jump, last) {
            (Some(key), _) => start = Start { key, rest: Rest::All },
            (None, Some(after)) => start = after,
            (None, None) => return Ok(page),
        }
    }
}

fn start_after(row: &Listed) -> Start {
    let rest = match row.sequence {
        0 => Rest::AfterId(row.id.clone()),
        sequence => Rest::AfterSequence(sequence),
    };
    Start { key: row.key.clone().into_bytes(), rest }
}

fn objects(connection: &Connection, start: &Start, limit: usize) -> Result<Vec<Listed>> {
    let comparison = if start.rest == Rest::All { ">=" } else { ">" };
    let sql = format!(
        "SELECT key, size, etag, modified, owner, checksum, class, sequence FROM versions INDEXED BY current
         WHERE is_latest = 1 AND is_marker = 0 AND key {comparison} ?1 ORDER BY key LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = statement.query_map(params![start.key, limit], |row| {
        Ok(Listed {
            key: rows::key_of(row)?,
            id: String::new(),
            is_marker: false,
            is_latest: true,
            size: rows::unsigned(row.get(1)?),
            etag: row.get(2)?,
            modified: rows::time(row.get(3)?),
            owner: row.get(4)?,
            checksum: row.get(5)?,
            class: row.get(6)?,
            sequence: row.get(7)?,
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn versions(connection: &Connection, start: &Start, limit: usize) -> Result<Vec<Listed>> {
    let mut found = Vec::new();
    if let Rest::AfterSequence(sequence) = start.rest {
        let sql = "key = ?1 AND sequence < ?3";
        found = version_rows(connection, sql, params![start.key, limit_of(limit), sequence])?;
    }
    let comparison = if start.rest == Rest::All { "key >= ?1" } else { "key > ?1" };
    if found.len() < limit {
        let left = limit_of(limit - found.len());
        found.extend(version_rows(connection, comparison, params![start.key, left])?);
    }
    Ok(found)
}

fn version_rows(
    connection: &Connection,
    condition: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<Listed>> {
    let sql = format!(
        "SELECT key, size, etag, modified, owner, checksum, class, sequence, id, is_marker, is_latest FROM versions
         WHERE {condition} ORDER BY key, sequence DESC LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map(parameters, |row| {
        Ok(Listed {
            key: rows::key_of(row)?,
            id: row.get(8)?,
            is_marker: row.get(9)?,
            is_latest: row.get(10)?,
            size: rows::unsigned(row.get(1)?),
            etag: row.get(2)?,
            modified: rows::time(row.get(3)?),
            owner: row.get(4)?,
            checksum: row.get(5)?,
            class: row.get(6)?,
            sequence: row.get(7)?,
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn uploads(connection: &Connection, start: &Start, limit: usize) -> Result<Vec<Listed>> {
    let (sql, after) = match &start.rest {
        Rest::All => ("key >= ?1 AND id >= ?3", ""),
        Rest::AfterId(id) => ("(key, id) > (?1, ?3)", id.as_str()),
        Rest::Nothing | Rest::AfterSequence(_) => ("key > ?1 AND id >= ?3", ""),
    };
    let sql = format!("SELECT key, id, created, record FROM uploads WHERE {sql} ORDER BY key, id LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map(params![start.key, limit_of(limit), after], |row| {
        let record: crate::Record = serde_json::from_str(row.get_ref(3)?.as_str()?).unwrap_or_default();
        Ok(Listed {
            key: rows::key_of(row)?,
            id: row.get(1)?,
            is_marker: false,
            is_latest: false,
            size: 0,
            etag: String::new(),
            modified: rows::time(row.get(2)?),
            owner: record.owner,
            checksum: record.checksum.map(|checksum| format!("{} {}", checksum.algorithm, checksum.kind)),
            class: record.storage_class,
            sequence: 0,
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
