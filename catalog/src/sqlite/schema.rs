//! Where the database lies, its tables and their migrations.

use super::readers::explain;
use crate::{CatalogError, Result, Revision};
use rusqlite::{Connection, OpenFlags, ffi};
use rusqlite_migration::{M, MigrationDefinitionError, Migrations};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Numbered for ever: a released step is never edited, a change is a new step at the end.
const STEPS: &[M<'static>] = &[M::up(
    "CREATE TABLE documents (
         key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL
     ) WITHOUT ROWID, STRICT;
     CREATE TABLE log (
         revision INTEGER PRIMARY KEY, time TEXT NOT NULL, changes TEXT NOT NULL, cause TEXT
     ) STRICT;
     CREATE TABLE counter (only INTEGER PRIMARY KEY CHECK (only = 1), revision INTEGER NOT NULL) STRICT;
     INSERT INTO counter VALUES (1, 0);",
)];

/// Marks the file as ours: `lard` in the header's application id.
const APPLICATION: i64 = 0x6c61_7264;
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// Where a database lies.
#[derive(Debug, Clone)]
pub(super) enum Location {
    File(PathBuf),
    /// Shared by all connections of this process under this name, gone with the last of them.
    Memory(String),
}

impl Location {
    pub(super) fn new_memory() -> Self {
        Self::Memory(format!("file:/larder-{}?vfs=memdb", uuid::Uuid::new_v4()))
    }

    /// What to call it in errors.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Memory(_) => PathBuf::from("the catalog in memory"),
        }
    }

    fn connect(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match self {
            Self::File(path) => Connection::open_with_flags(path, flags),
            Self::Memory(uri) => {
                let more = OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_URI;
                Connection::open_with_flags(uri, flags | more)
            }
        };
        let connection = connection.map_err(|source| explain(self, source))?;
        connection.busy_timeout(BUSY_WAIT)?;
        Ok(connection)
    }
}

pub(super) fn open_for_writing(location: &Location) -> Result<Connection> {
    if let Location::File(path) = location {
        create_if_missing(path)?;
    }
    let mut connection = location.connect()?;
    inspect(&connection).map_err(|source| explain(location, source)).and_then(|finding| match finding {
        Finding::Ours => Ok(()),
        Finding::Empty => Ok(connection.pragma_update(None, "application_id", APPLICATION)?),
        Finding::Foreign => Err(CatalogError::Foreign { path: location.path() }),
    })?;
    let migrations = Migrations::from_slice(STEPS);
    migrations.to_latest(&mut connection).map_err(|error| refused_migration(location, error))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Acknowledged means on stable storage.
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

pub(super) fn open_for_reading(location: &Location) -> Result<Connection> {
    let connection = location.connect()?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// SQLite would make a file that everybody can read; its WAL gets the permissions of the file.
fn create_if_missing(path: &Path) -> Result<()> {
    let failed = |source| CatalogError::File { path: path.to_owned(), source };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => sync_folder_of(path).map_err(failed),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// Makes the name of a new file as durable as its content.
pub(super) fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

enum Finding {
    Empty,
    Ours,
    Foreign,
}

/// Looks at a database and changes nothing.
fn inspect(connection: &Connection) -> rusqlite::Result<Finding> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let application = number("PRAGMA application_id")?;
    let is_empty = number("SELECT count(*) FROM sqlite_schema")? == 0;
    match application {
        APPLICATION => Ok(Finding::Ours),
        0 if is_empty => Ok(Finding::Empty),
        _ => Ok(Finding::Foreign),
    }
}

/// Reads all of a database. Damage is an error of SQLite's.
pub(super) fn check(connection: &Connection) -> rusqlite::Result<()> {
    let health: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    match health.as_str() {
        "ok" => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(health))),
    }
}

fn refused_migration(location: &Location, error: rusqlite_migration::Error) -> CatalogError {
    use rusqlite_migration::Error;
    match error {
        Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead) => {
            CatalogError::NewerDatabase { path: location.path() }
        }
        Error::RusqliteError { err, .. } => explain(location, err),
        other => {
            let code = ffi::Error::new(ffi::SQLITE_ERROR);
            CatalogError::Database(rusqlite::Error::SqliteFailure(code, Some(other.to_string())))
        }
    }
}

pub(super) fn last_revision(connection: &Connection) -> Result<Revision> {
    let mut statement = connection.prepare_cached("SELECT revision FROM counter")?;
    Ok(Revision(statement.query_row([], |row| row.get(0))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails when a released step was edited or a new one added without thought. Old databases must come out the same
    /// as new ones.
    #[test]
    fn the_schema_is_the_one_that_was_agreed() {
        let connection = open_for_writing(&Location::new_memory()).unwrap();
        let mut statement = connection.prepare("SELECT sql FROM sqlite_schema ORDER BY name").unwrap();
        let tables = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let words = |sql: String| sql.split_whitespace().collect::<Vec<_>>().join(" ");
        let tables: Vec<_> = tables.map(|sql| words(sql.unwrap())).collect();
        assert_eq!(
            tables,
            [
                "CREATE TABLE counter (only INTEGER PRIMARY KEY CHECK (only = 1), revision INTEGER NOT NULL) STRICT",
                "CREATE TABLE documents ( key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL ) \
                 WITHOUT ROWID, STRICT",
                "CREATE TABLE log ( revision INTEGER PRIMARY KEY, time TEXT NOT NULL, changes TEXT NOT NULL, \
                 cause TEXT ) STRICT",
            ]
        );
        let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!((number("user_version"), number("application_id")), (1, 0x6c61_7264));
    }
}
