//! Connections that read, beside the one that writes.

use crate::Result;
use crate::layout::Layout;
use crate::schema::{self, explain};
use crate::{BucketError, epoch::Epochs};
use parking_lot::Mutex;
use rusqlite::Connection;
use std::fmt;

/// How many idle connections are kept.
const IDLE: usize = 4;

/// Hands out reading connections; as many at once as are asked for.
pub(crate) struct Readers {
    layout: Layout,
    idle: Mutex<Vec<Connection>>,
    pub(crate) epochs: Epochs,
}

impl Readers {
    pub(crate) fn new(layout: Layout) -> Self {
        Self { layout, idle: Mutex::default(), epochs: Epochs::default() }
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => schema::open_for_reading(&self.layout)?,
        };
        let outcome = work(&connection);
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push(connection);
        }
        outcome.map_err(|error| match error {
            BucketError::Index(source) => explain(&self.layout.index(), source),
            other => other,
        })
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Readers").field("layout", &self.layout).finish_non_exhaustive()
    }
}
