//! Connections that read, beside the one that writes.
//!
//! To begin and to end a transaction costs about as much as a lookup. So between two changes of the bucket an idle
//! connection keeps its transaction open for the next reader. Each change ends them first: nobody sees an old state, and the
//! write-ahead logs can be written back.

use crate::Result;
use crate::layout::Layout;
use crate::schema::{self, explain};
use crate::{BucketError, epoch::Epochs};
use parking_lot::Mutex;
use rusqlite::Connection;
use std::fmt;

/// How many idle connections are kept: opening one costs more than many lookups.
const IDLE: usize = 16;

/// A connection, and the generation that its open transaction sees.
struct Reader {
    connection: Connection,
    sees: Option<u64>,
}

impl Reader {
    /// Begins a transaction. It sees the index as it was no later than the small objects, so that it finds all those it
    /// knows of; a [`Pin`](crate::epoch::Pin) keeps them there.
    fn begin(&mut self, generation: u64) -> rusqlite::Result<()> {
        self.connection.prepare_cached("BEGIN")?.execute([])?;
        self.sees = Some(generation);
        for look in ["SELECT 1 FROM main.usage", "SELECT 1 FROM small.pending LIMIT 1"] {
            self.connection.prepare_cached(look)?.exists([])?;
        }
        Ok(())
    }

    fn end(&mut self) -> rusqlite::Result<()> {
        if self.sees.take().is_some() {
            self.connection.prepare_cached("COMMIT")?.execute([])?;
        }
        Ok(())
    }
}

/// The connections nobody uses. Their transactions are all of the present generation; while there are changes none is open.
#[derive(Default)]
struct Idle {
    readers: Vec<Reader>,
    /// Counts the changes that are over.
    generation: u64,
    /// The changes under way.
    changes: usize,
}

impl Idle {
    /// What a transaction that begins now may be kept for.
    fn kept_for(&self) -> Option<u64> {
        (self.changes == 0).then_some(self.generation)
    }
}

/// Hands out reading connections; as many at once as are asked for.
pub(crate) struct Readers {
    layout: Layout,
    idle: Mutex<Idle>,
    pub(crate) epochs: Epochs,
}

/// While this exists no transaction is kept open.
pub(crate) struct Changing<'r>(&'r Readers);

impl Readers {
    pub(crate) fn new(layout: Layout) -> Self {
        Self { layout, idle: Mutex::default(), epochs: Epochs::default() }
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let mut reader = self.take()?;
        let outcome = work(&reader.connection);
        // Whatever failed: the next one begins anew.
        if outcome.is_ok() || reader.end().is_ok() {
            self.give_back(reader);
        }
        outcome.map_err(|error| match error {
            BucketError::Index(source) => explain(&self.layout.index(), source),
            other => other,
        })
    }

    fn take(&self) -> Result<Reader> {
        let (found, kept_for) = {
            let mut idle = self.idle.lock();
            (idle.readers.pop(), idle.kept_for())
        };
        let mut reader = match found {
            Some(reader) => reader,
            None => Reader { connection: schema::open_for_reading(&self.layout)?, sees: None },
        };
        if let (None, Some(generation)) = (reader.sees, kept_for) {
            reader.begin(generation).map_err(|error| explain(&self.layout.index(), error))?;
        }
        Ok(reader)
    }

    fn give_back(&self, mut reader: Reader) {
        loop {
            {
                let mut idle = self.idle.lock();
                if reader.sees.is_none() || reader.sees == idle.kept_for() {
                    if idle.readers.len() < IDLE {
                        idle.readers.push(reader);
                    }
                    return;
                }
            }
            if reader.end().is_err() {
                return;
            }
        }
    }

    /// Ends the transactions that were kept open. Called before the bucket changes, and before its logs are written back;
    /// the change is over when what is returned is dropped.
    pub(crate) fn change(&self) -> Changing<'_> {
        let mut idle = self.idle.lock();
        idle.changes += 1;
        idle.readers.retain_mut(|reader| reader.end().is_ok());
        Changing(self)
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        let mut idle = self.0.idle.lock();
        idle.changes -= 1;
        idle.generation += 1;
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Readers").field("layout", &self.layout).finish_non_exhaustive()
    }
}
