//! The tables of the index and of the store of small objects.

use crate::layout::{Layout, sync_folder};
use crate::{BucketError, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rusqlite_migration::{M, MigrationDefinitionError, Migrations};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// Numbered for ever: a released step is never edited, a change is a new step at the end.
///
/// `current` answers lists without touching the versions: in the order of keys, each with what a list shows.
const INDEX: &[M<'static>] = &[M::up(
    "CREATE TABLE versions (
         key BLOB NOT NULL, sequence INTEGER NOT NULL, id TEXT NOT NULL,
         is_latest INTEGER NOT NULL, is_marker INTEGER NOT NULL,
         size INTEGER NOT NULL, etag TEXT NOT NULL, modified INTEGER NOT NULL,
         owner TEXT NOT NULL, checksum TEXT, class TEXT, record TEXT NOT NULL,
         PRIMARY KEY (key, sequence DESC)
     ) WITHOUT ROWID, STRICT;
     CREATE INDEX current ON versions (key, size, etag, modified, owner, checksum, class)
         WHERE is_latest = 1 AND is_marker = 0;
     CREATE INDEX unversioned ON versions (key) WHERE id = 'null';
     CREATE TABLE uploads (
         key BLOB NOT NULL, id TEXT NOT NULL UNIQUE, created INTEGER NOT NULL, record TEXT NOT NULL,
         PRIMARY KEY (key, id)
     ) WITHOUT ROWID, STRICT;
     CREATE TABLE parts (
         upload TEXT NOT NULL, number INTEGER NOT NULL, modified INTEGER NOT NULL, part TEXT NOT NULL,
         PRIMARY KEY (upload, number)
     ) WITHOUT ROWID, STRICT;
     CREATE TABLE completed (
         upload TEXT PRIMARY KEY, key BLOB NOT NULL, version TEXT NOT NULL, etag TEXT NOT NULL,
         created INTEGER NOT NULL
     ) WITHOUT ROWID, STRICT;
     CREATE TABLE garbage (id TEXT PRIMARY KEY, home TEXT NOT NULL) WITHOUT ROWID, STRICT;
     CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
     CREATE TABLE usage (
         only INTEGER PRIMARY KEY CHECK (only = 1), bytes INTEGER NOT NULL, objects INTEGER NOT NULL,
         sequence INTEGER NOT NULL
     ) STRICT;
     INSERT INTO usage VALUES (1, 0, 0, 0);",
)];

/// `pending` names the rows of the last group: only those can be unknown to the index after a crash. `headers` has those of files
/// that have changed since the files were written.
const SMALL: &[M<'static>] = &[
    M::up(
        "CREATE TABLE blobs (id TEXT PRIMARY KEY, header TEXT NOT NULL, bytes BLOB NOT NULL) STRICT;
         CREATE TABLE pending (id TEXT PRIMARY KEY) WITHOUT ROWID, STRICT;",
    ),
    M::up("CREATE TABLE headers (id TEXT PRIMARY KEY, header TEXT NOT NULL) WITHOUT ROWID, STRICT;"),
];

const BUSY_WAIT: Duration = Duration::from_secs(10);

/// KiB of pages that a reading connection keeps of the index: its inner pages, of a million keys too.
const INDEX_CACHE: i32 = 1024;
/// The same of the small objects: the inner pages only, the kernel keeps the rest.
const SMALL_CACHE: i32 = 256;

/// The writing connections of a bucket.
pub(crate) struct Stores {
    pub(crate) index: Connection,
    pub(crate) small: Connection,
}

/// Where there are objects and no index, none is made: the bucket would look empty, and what a crash left unfinished would go.
pub(crate) fn open_for_writing(layout: &Layout) -> Result<Stores> {
    let path = layout.index();
    let is_in_use = layout.is_in_use()?;
    if is_in_use {
        must_have_tables(&path)?;
    }
    let index = open(&path, INDEX)?;
    if !is_in_use {
        // There is never a store of small objects without an index, not after a power cut either.
        sync_folder(layout.root())?;
    }
    Ok(Stores { index, small: open_small(layout)? })
}

/// A connection that writes the small objects.
pub(crate) fn open_small(layout: &Layout) -> Result<Connection> {
    open(&layout.small(), SMALL)
}

/// An empty index beside the one in use.
pub(crate) fn open_new_index(layout: &Layout) -> Result<Connection> {
    open(&layout.new_index(), INDEX)
}

/// Closes the index beside the one in use, with all of it in its file and on stable storage.
pub(crate) fn finish_new_index(layout: &Layout, index: Connection) -> Result<()> {
    let path = layout.new_index();
    write_back(&index)?;
    index.close().map_err(|(_, error)| explain(&path, error))?;
    File::open(&path).and_then(|file| file.sync_all()).map_err(BucketError::file(&path))
}

/// Moves what stands in a database's journal into its file.
pub(crate) fn write_back(connection: &Connection) -> Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

/// Refuses an index that is missing, or in which nothing was ever written.
fn must_have_tables(path: &Path) -> Result<()> {
    if !path.try_exists().map_err(BucketError::file(path))? {
        return Err(unusable(path, "it is missing"));
    }
    let version: i64 = connect(path)?
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|error| explain(path, error))?;
    if version == 0 { Err(unusable(path, "it is empty")) } else { Ok(()) }
}

/// A connection that reads the index, with the small objects beside it.
pub(crate) fn open_for_reading(layout: &Layout) -> Result<Connection> {
    let connection = connect(&layout.index())?;
    let small = layout.small();
    let small = small.to_str().ok_or_else(|| unusable(&small, "its path is not UTF-8"))?;
    connection.execute("ATTACH ?1 AS small", [small])?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(Some("main"), "cache_size", -INDEX_CACHE)?;
    connection.pragma_update(Some("small"), "cache_size", -SMALL_CACHE)?;
    Ok(connection)
}

fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| explain(path, error))?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn open(path: &Path, steps: &[M<'_>]) -> Result<Connection> {
    create_if_missing(path)?;
    let mut connection = connect(path)?;
    prepare(&mut connection, steps).map_err(|error| match error {
        rusqlite_migration::Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead) => {
            BucketError::NewerIndex { path: path.to_owned() }
        }
        rusqlite_migration::Error::RusqliteError { err, .. } => explain(path, err),
        other => unusable(path, &other.to_string()),
    })?;
    Ok(connection)
}

fn prepare(connection: &mut Connection, steps: &[M<'_>]) -> Result<(), rusqlite_migration::Error> {
    // Acknowledged means on stable storage.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    Migrations::from_slice(steps).to_latest(connection)
}

/// SQLite would make a file that everybody can read.
fn create_if_missing(path: &Path) -> Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(BucketError::file(path)(error)),
        _ => Ok(()),
    }
}

fn unusable(path: &Path, reason: &str) -> BucketError {
    BucketError::IndexUnusable { path: path.to_owned(), reason: reason.to_owned() }
}

/// Names the file when it is the file that is broken.
pub(crate) fn explain(path: &Path, error: rusqlite::Error) -> BucketError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => unusable(path, &error.to_string()),
        _ => BucketError::Index(error),
    }
}
