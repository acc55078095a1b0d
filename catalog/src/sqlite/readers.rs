//! Connections that read, beside the one that writes.

use super::schema::{self, Location};
use crate::{CatalogError, Result};
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode};

/// How many idle connections are kept.
const IDLE: usize = 4;

/// Hands out reading connections; as many at once as are asked for.
#[derive(Debug)]
pub(super) struct Readers {
    location: Location,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(location: Location) -> Self {
        Self { location, idle: Mutex::default() }
    }

    pub(super) fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => schema::open_for_reading(&self.location)?,
        };
        let outcome = work(&connection);
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push(connection);
        }
        outcome.map_err(|error| self.explain(error))
    }

    /// Lets go of what was read, and of all connections but one.
    pub(super) fn rest(&self) {
        let mut idle = self.idle.lock();
        idle.truncate(1);
        for connection in idle.iter() {
            shrink(connection);
        }
    }

    /// Names the file when it is the file that is broken.
    pub(super) fn explain(&self, error: CatalogError) -> CatalogError {
        match error {
            CatalogError::Database(source) => explain(&self.location, source),
            other => other,
        }
    }
}

/// Lets go of what a connection holds only to be quick.
pub(super) fn shrink(connection: &Connection) {
    if let Err(error) = connection.execute_batch("PRAGMA shrink_memory") {
        tracing::debug!(%error, "a connection keeps its memory");
    }
}

/// The error for what SQLite said of a database.
pub(super) fn explain(location: &Location, source: rusqlite::Error) -> CatalogError {
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            CatalogError::Unusable { path: location.path(), source }
        }
        _ => CatalogError::Database(source),
    }
}
