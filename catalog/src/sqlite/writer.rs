//! The one thread that writes. Transactions that wait together share one commit: each is still atomic by itself, and each
//! is answered only after the commit is on stable storage.

use super::log::{self, Changes, Committed};
use super::readers::shrink;
use super::schema::last_revision;
use crate::{CatalogError, Guard, Key, Result, Revision, Transaction};
use jiff::Timestamp;
use larder_base::Clock;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::slice;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// How many waiting transactions share one commit.
const GROUP: usize = 64;

#[derive(Debug)]
enum Request {
    Commit {
        transaction: Transaction,
        answer: Sender<Result<Revision>>,
    },
    /// Let go of what was read and written, and tell when that is done.
    Rest {
        done: Sender<()>,
    },
}

/// A handle of the writing thread; the thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Writer {
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        committed: Arc<Committed>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let (requests, inbox) = channel();
        let thread = std::thread::Builder::new().name("catalog-writer".to_owned());
        let work = move || serve(connection, &inbox, &EndOfWriting(committed), clock.as_ref());
        let thread = thread.spawn(work).map_err(CatalogError::Thread)?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    pub(super) fn commit(&self, transaction: Transaction) -> Result<Revision> {
        let (answer, answered) = channel();
        let requests = self.requests.as_ref().ok_or(CatalogError::Closed)?;
        requests.send(Request::Commit { transaction, answer }).map_err(|_| CatalogError::Closed)?;
        answered.recv().unwrap_or(Err(CatalogError::Closed))
    }

    /// Lets go of what the connection holds only to be quick.
    pub(super) fn rest(&self) {
        let (done, is_done) = channel();
        if self.requests.as_ref().is_some_and(|requests| requests.send(Request::Rest { done }).is_ok()) {
            // A thread that has ended holds nothing.
            let _ = is_done.recv();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Watches must not wait for a thread that has ended, however it ended.
struct EndOfWriting(Arc<Committed>);

impl Drop for EndOfWriting {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn serve(mut connection: Connection, inbox: &Receiver<Request>, watched: &EndOfWriting, clock: &dyn Clock) {
    while let Ok(first) = inbox.recv() {
        let (mut answers, mut transactions, mut resting) = (Vec::new(), Vec::new(), Vec::new());
        for request in std::iter::once(first).chain(inbox.try_iter().take(GROUP - 1)) {
            match request {
                Request::Commit { transaction, answer } => {
                    answers.push(answer);
                    transactions.push(transaction);
                }
                Request::Rest { done } => resting.push(done),
            }
        }
        let outcomes = match transactions.as_slice() {
            [] => Vec::new(),
            transactions => commit(&mut connection, transactions, clock.now()),
        };
        if let Some(last) = outcomes.iter().flatten().max() {
            watched.0.advance(*last);
        }
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // Nobody listens any more to a caller that panicked.
            let _ = answer.send(outcome);
        }
        if !resting.is_empty() {
            shrink(&connection);
        }
        for done in resting {
            let _ = done.send(());
        }
    }
}

/// Commits all that can be committed, together if possible. One that the database can't take, for instance because it is
/// too large for the disk, fails alone.
fn commit(
    connection: &mut Connection,
    transactions: &[Transaction],
    now: Timestamp,
) -> Vec<Result<Revision>> {
    match commit_together(connection, transactions, now) {
        Ok(outcomes) => outcomes,
        Err(error) if transactions.len() == 1 => {
            tracing::error!(error = &error as &dyn std::error::Error, "the catalog could not commit");
            vec![Err(error)]
        }
        Err(_) => transactions
            .iter()
            .flat_map(|transaction| commit(connection, slice::from_ref(transaction), now))
            .collect(),
    }
}

/// Commits those whose guards hold. When the database fails nothing at all was changed: it may have undone what came
/// before the failure, so nothing may be written after it.
fn commit_together(
    connection: &mut Connection,
    transactions: &[Transaction],
    now: Timestamp,
) -> Result<Vec<Result<Revision>>> {
    // Acknowledged means on stable storage, unless nobody in the group asks for that.
    let is_relaxed = transactions.iter().all(|transaction| transaction.is_relaxed);
    connection.pragma_update(None, "synchronous", if is_relaxed { "NORMAL" } else { "FULL" })?;
    let whole = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut outcomes = Vec::with_capacity(transactions.len());
    for transaction in transactions {
        outcomes.push(match broken_guard(&whole, transaction)? {
            Some(key) => Err(CatalogError::Conflict { key: key.clone() }),
            None => Ok(apply(&whole, transaction, now)?),
        });
    }
    whole.commit()?;
    Ok(outcomes)
}

fn broken_guard<'a>(connection: &Connection, transaction: &'a Transaction) -> Result<Option<&'a Key>> {
    let mut statement = connection.prepare_cached("SELECT revision FROM documents WHERE key = ?1")?;
    for (key, guard) in &transaction.guards {
        let found: Option<i64> = statement.query_row(params![key.as_str()], |row| row.get(0)).optional()?;
        let holds = match guard {
            Guard::Absent => found.is_none(),
            Guard::Present => found.is_some(),
            Guard::At(revision) => found == Some(revision.0),
        };
        if !holds {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

fn apply(connection: &Connection, transaction: &Transaction, now: Timestamp) -> Result<Revision> {
    let revision = Revision(last_revision(connection)?.0 + 1);
    let mut put = connection.prepare_cached(
        "INSERT INTO documents VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET value = ?2, revision = ?3",
    )?;
    let mut delete = connection.prepare_cached("DELETE FROM documents WHERE key = ?1")?;
    let mut changes = Changes::default();
    for (key, value) in &transaction.writes {
        let key = key.as_str();
        match value {
            Some(value) => {
                put.execute(params![key, value, revision.0])?;
                changes.puts.push((key.to_owned(), value.clone()));
            }
            None if delete.execute(params![key])? > 0 => changes.deletes.push(key.to_owned()),
            None => {}
        }
    }
    connection.prepare_cached("UPDATE counter SET revision = ?1")?.execute(params![revision.0])?;
    log::append(connection, revision, now, &changes, transaction.cause.as_ref())?;
    Ok(revision)
}

#[cfg(test)]
mod tests {
    use super::super::schema::{Location, open_for_writing};
    use super::*;

    fn keys(connection: &Connection) -> Vec<String> {
        let mut statement = connection.prepare("SELECT key FROM documents ORDER BY key").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_transaction_that_does_not_fit_fails_alone_and_the_others_of_its_group_are_committed() {
        let folder = tempfile::tempdir().unwrap();
        let file = Location::File(folder.path().join("larder.db"));
        let mut connection = open_for_writing(&file).unwrap();
        connection.pragma_update(None, "max_page_count", 30).unwrap();
        let put = |key: &str, size: usize| Transaction::new().put(Key::of([key]), "7".repeat(size));
        let group = [put("a", 1), put("b", 1_000_000), put("a", 2).guard_absent(Key::of(["a"])), put("c", 1)];
        let outcomes = commit(&mut connection, &group, Timestamp::UNIX_EPOCH);
        assert!(matches!(
            outcomes.as_slice(),
            [
                Ok(Revision(1)),
                Err(CatalogError::Database(_)),
                Err(CatalogError::Conflict { .. }),
                Ok(Revision(2))
            ]
        ));
        assert_eq!(keys(&connection), ["a", "c"]);
        assert_eq!(last_revision(&connection).unwrap(), Revision(2));
    }

    #[test]
    fn a_guard_sees_what_came_before_it_in_the_same_group() {
        let mut connection = open_for_writing(&Location::new_memory()).unwrap();
        let claim = || Transaction::new().guard_absent(Key::of(["name"])).put(Key::of(["name"]), "1".into());
        let outcomes = commit(&mut connection, &[claim(), claim()], Timestamp::UNIX_EPOCH);
        assert!(matches!(outcomes.as_slice(), [Ok(_), Err(CatalogError::Conflict { .. })]), "{outcomes:?}");
    }
}
