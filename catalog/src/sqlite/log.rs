//! The log of committed transactions: written with each, read by watches page by page.

use super::readers::Readers;
use super::schema::last_revision;
use crate::watch::Log;
use crate::{CatalogError, Cause, Change, HISTORY, Key, Result, Revision};
use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many changes a watch reads at once.
const PAGE: i64 = 256;
/// After how many transactions the log is trimmed.
const TRIM_EVERY: i64 = 100;

/// How a change is written.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Changes {
    pub(super) puts: Vec<(String, String)>,
    pub(super) deletes: Vec<String>,
}

/// Writes one line of the log, in the transaction it tells of.
pub(super) fn append(
    connection: &Connection,
    revision: Revision,
    time: Timestamp,
    changes: &Changes,
    cause: Option<&Cause>,
) -> Result<()> {
    let unwritable = |source| CatalogError::Unwritable { kind: "log", source };
    let changes = serde_json::to_string(changes).map_err(unwritable)?;
    let cause = cause.map(serde_json::to_string).transpose().map_err(unwritable)?;
    let mut insert = connection.prepare_cached("INSERT INTO log VALUES (?1, ?2, ?3, ?4)")?;
    insert.execute(params![revision.0, time.to_string(), changes, cause])?;
    if revision.0 % TRIM_EVERY == 0 {
        let mut trim = connection.prepare_cached("DELETE FROM log WHERE revision <= ?1")?;
        trim.execute(params![revision.0 - HISTORY])?;
    }
    Ok(())
}

/// Fails with [`CatalogError::Compacted`] when the change after `from` is no longer known.
pub(super) fn ensure_known_after(connection: &Connection, from: Revision) -> Result<()> {
    let mut statement = connection.prepare_cached("SELECT min(revision) FROM log")?;
    let oldest: Option<i64> = statement.query_row([], |row| row.get(0))?;
    let oldest = match oldest {
        Some(oldest) => Revision(oldest),
        None => Revision(last_revision(connection)?.0 + 1),
    };
    if from.0 + 1 < oldest.0 { Err(CatalogError::Compacted { from, oldest }) } else { Ok(()) }
}

/// One view of the database for both questions: trimming between them would tear a hole.
fn page_after(connection: &Connection, from: Revision) -> Result<Vec<Change>> {
    let view = connection.unchecked_transaction()?;
    ensure_known_after(&view, from)?;
    let sql = "SELECT revision, time, changes, cause FROM log WHERE revision > ?1 ORDER BY revision LIMIT ?2";
    let mut statement = view.prepare_cached(sql)?;
    let mut rows = statement.query(params![from.0, PAGE])?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        page.push(change_of(row)?);
    }
    Ok(page)
}

fn change_of(row: &rusqlite::Row<'_>) -> Result<Change> {
    let revision = Revision(row.get(0)?);
    let unreadable =
        |source| CatalogError::Unreadable { key: Key::of(["log", &revision.to_string()]), source };
    let time: String = row.get(1)?;
    let changes: String = row.get(2)?;
    let cause: Option<String> = row.get(3)?;
    let Changes { puts, deletes } = serde_json::from_str(&changes).map_err(unreadable)?;
    Ok(Change {
        revision,
        at: serde_json::from_value(time.into()).map_err(unreadable)?,
        puts: puts.into_iter().map(|(key, value)| (Key::stored(key), value)).collect(),
        deletes: deletes.into_iter().map(Key::stored).collect(),
        cause: cause.map(|cause| serde_json::from_str(&cause).map_err(unreadable)).transpose()?,
    })
}

#[derive(Debug)]
struct State {
    last: Revision,
    is_closed: bool,
}

/// Tells watches that there is more in the log.
#[derive(Debug)]
pub(super) struct Committed {
    state: Mutex<State>,
    changed: Condvar,
}

impl Committed {
    pub(super) fn new(last: Revision) -> Self {
        Self { state: Mutex::new(State { last, is_closed: false }), changed: Condvar::new() }
    }

    /// The last one, from memory: it is asked for at every request.
    pub(super) fn last(&self) -> Revision {
        self.state.lock().last
    }

    pub(super) fn advance(&self, last: Revision) {
        self.state.lock().last = last;
        self.changed.notify_all();
    }

    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Whether something after `from` was committed before `limit` was over.
    fn wait_beyond(&self, from: Revision, limit: Duration) -> Result<bool> {
        let until = Instant::now().checked_add(limit);
        let mut state = self.state.lock();
        loop {
            if state.last > from {
                return Ok(true);
            }
            if state.is_closed {
                return Err(CatalogError::Closed);
            }
            match until {
                None => self.changed.wait(&mut state),
                Some(until) if self.changed.wait_until(&mut state, until).timed_out() => {
                    return Ok(state.last > from);
                }
                Some(_) => {}
            }
        }
    }
}

/// What a watch of this store reads.
#[derive(Debug)]
pub(super) struct SqliteLog {
    pub(super) readers: Arc<Readers>,
    pub(super) committed: Arc<Committed>,
}

impl Log for SqliteLog {
    fn page_after(&self, from: Revision, limit: Duration) -> Result<Vec<Change>> {
        match self.committed.wait_beyond(from, limit)? {
            true => self.readers.read(|connection| page_after(connection, from)),
            false => Ok(Vec::new()),
        }
    }
}
