//! The catalog of one machine: an SQLite database in WAL mode, one thread that writes, readers beside it.

mod backup;
mod log;
mod readers;
mod schema;
mod writer;

use crate::{Catalog, CatalogError, Entry, Key, Prefix, Result, Revision, Transaction, Watch};
use larder_base::{Clock, SystemClock};
use log::{Committed, SqliteLog};
use readers::Readers;
use rusqlite::{OptionalExtension, params};
use schema::Location;
use std::path::Path;
use std::sync::Arc;
use writer::Writer;

const GET: &str = "SELECT value, revision FROM documents WHERE key = ?1";
const LIST: &str = "SELECT key, value, revision FROM documents WHERE key >= ?1 AND key < ?2 ORDER BY key";

/// An embedded catalog.
#[derive(Debug)]
pub struct SqliteCatalog {
    readers: Arc<Readers>,
    committed: Arc<Committed>,
    writer: Writer,
}

impl SqliteCatalog {
    /// Opens the database at `path`, or makes it, for its owner's eyes only. Its folder must be there.
    ///
    /// Fails with [`CatalogError::NewerDatabase`], [`CatalogError::Foreign`] or [`CatalogError::Unusable`], all naming
    /// the file, which is then left as it was.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with_clock(path, Arc::new(SystemClock))
    }

    /// The same, with the clock that tells the time of commits.
    pub fn open_with_clock(path: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::at(Location::File(path.to_owned()), clock)
    }

    /// A catalog that is gone when it is dropped.
    pub fn in_memory() -> Result<Self> {
        Self::at(Location::new_memory(), Arc::new(SystemClock))
    }

    fn at(location: Location, clock: Arc<dyn Clock>) -> Result<Self> {
        let writing = schema::open_for_writing(&location)?;
        let committed = Arc::new(Committed::new(schema::last_revision(&writing)?));
        let writer = Writer::start(writing, Arc::clone(&committed), clock)?;
        Ok(Self { readers: Arc::new(Readers::new(location)), committed, writer })
    }
}

impl Catalog for SqliteCatalog {
    fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.readers.read(|connection| {
            let row = |row: &rusqlite::Row<'_>| {
                Ok(Entry { key: key.clone(), value: row.get(0)?, revision: Revision(row.get(1)?) })
            };
            Ok(connection.prepare_cached(GET)?.query_row(params![key.as_str()], row).optional()?)
        })
    }

    fn list(&self, prefix: &Prefix) -> Result<Vec<Entry>> {
        let (from, to) = prefix.range();
        self.readers.read(|connection| {
            let mut statement = connection.prepare_cached(LIST)?;
            let entry = |row: &rusqlite::Row<'_>| {
                let key = Key::stored(row.get(0)?);
                Ok(Entry { key, value: row.get(1)?, revision: Revision(row.get(2)?) })
            };
            let entries = statement.query_map(params![from, to], entry)?.collect::<Result<_, _>>()?;
            Ok(entries)
        })
    }

    fn transact(&self, transaction: Transaction) -> Result<Revision> {
        match transaction.operations() {
            found if found > crate::MAX_OPERATIONS => Err(CatalogError::TooManyOperations { found }),
            _ => self.writer.commit(transaction).map_err(|error| self.readers.explain(error)),
        }
    }

    fn watch(&self, from: Revision) -> Result<Watch> {
        self.readers.read(|connection| log::ensure_known_after(connection, from))?;
        let log = SqliteLog { readers: Arc::clone(&self.readers), committed: Arc::clone(&self.committed) };
        Ok(Watch::new(Box::new(log), from))
    }

    fn revision(&self) -> Result<Revision> {
        // Every commit advances it before it is answered, so nobody who was answered sees an older one here.
        Ok(self.committed.last())
    }

    fn backup(&self, path: &Path) -> Result<()> {
        self.readers.read(|connection| backup::copy(connection, path))
    }

    fn check(&self) -> Result<()> {
        self.readers.read(|connection| Ok(schema::check(connection)?))
    }

    fn rest(&self) {
        self.readers.rest();
        self.writer.rest();
    }
}

/// Shared by the trait objects of the daemon.
impl From<SqliteCatalog> for Arc<dyn Catalog> {
    fn from(catalog: SqliteCatalog) -> Self {
        Arc::new(catalog)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_one_search_of_the_key_and_no_sorting() {
        let catalog = SqliteCatalog::in_memory().unwrap();
        let plan = catalog.readers.read(|connection| {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {LIST}"))?;
            let lines = statement.query_map(["a/", "a0"], |row| row.get::<_, String>(3))?;
            Ok(lines.collect::<Result<Vec<_>, _>>()?)
        });
        assert_eq!(plan.unwrap(), ["SEARCH documents USING PRIMARY KEY (key>? AND key<?)"]);
    }
}
