//! The one thread that changes the index. Changes that wait together share one commit: each is still all or nothing by
//! itself, and each is answered only after the commit is on stable storage.
//!
//! The order within a group: bytes in files (synced by their writers, their names here), then small objects with their
//! headers, then the index. What a crash leaves between two of them is unknown to the index and removed by the next open.

use crate::epoch::Epochs;
use crate::header::Header;
use crate::layout::{Layout, sync_folder};
use crate::readers::Readers;
use crate::record::Home;
use crate::schema::{Stores, write_back};
use crate::{BucketError, Result};
use rusqlite::{Connection, TransactionBehavior, params};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How many waiting changes share one commit.
const GROUP: usize = 64;
/// How long garbage waits for the next change before it is removed by itself.
const IDLE: Duration = Duration::from_millis(200);

/// What a change does outside the index.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Small blobs to store: id, header, bytes.
    pub(crate) small: Vec<(String, String, Vec<u8>)>,
    /// Files in staging that the index will name.
    pub(crate) files: Vec<String>,
    /// Blobs whose header changes.
    pub(crate) headers: Vec<(String, Home, Header)>,
    /// Blobs nobody needs any more.
    pub(crate) garbage: Vec<(String, Home)>,
    /// Whether a setting changed.
    pub(crate) settings: bool,
}

impl Effects {
    fn absorb(&mut self, other: Self) {
        self.small.extend(other.small);
        self.files.extend(other.files);
        self.headers.extend(other.headers);
        self.garbage.extend(other.garbage);
        self.settings |= other.settings;
    }
}

/// A change while it is made.
pub(crate) struct Change<'c> {
    pub(crate) index: &'c Connection,
    pub(crate) effects: Effects,
}

impl Change<'_> {
    /// Gives a blob up: it is removed once nobody reads it.
    pub(crate) fn discard(&mut self, id: &str, home: Home) -> Result<()> {
        let mut statement = self.index.prepare_cached("INSERT OR IGNORE INTO garbage VALUES (?1, ?2)")?;
        statement.execute(params![id, home_name(home)])?;
        self.effects.garbage.push((id.to_owned(), home));
        Ok(())
    }

    /// Adds to what the bucket counts as used, and remembers that a sequence is taken (0: none).
    pub(crate) fn count(&self, bytes: i64, objects: i64, sequence: i64) -> Result<()> {
        let mut statement = self.index.prepare_cached(
            "UPDATE usage SET bytes = bytes + ?1, objects = objects + ?2, sequence = max(sequence, ?3)",
        )?;
        statement.execute(params![bytes, objects, sequence])?;
        Ok(())
    }
}

pub(crate) fn home_name(home: Home) -> &'static str {
    match home {
        Home::File => "file",
        Home::Small => "small",
    }
}

trait Job: Send {
    fn work(&mut self, change: &mut Change<'_>) -> Result<()>;
    fn answer(self: Box<Self>, outcome: Result<()>);
}

struct Task<T, W> {
    work: W,
    value: Option<T>,
    answer: Sender<Result<T>>,
}

impl<T: Send, W: FnMut(&mut Change<'_>) -> Result<T> + Send> Job for Task<T, W> {
    fn work(&mut self, change: &mut Change<'_>) -> Result<()> {
        self.value = Some((self.work)(change)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<()>) {
        let Self { value, answer, .. } = *self;
        // Nobody listens any more to a caller that panicked.
        let _ = answer.send(outcome.and_then(|()| value.ok_or(BucketError::Closed)));
    }
}

enum Message {
    Change(Box<dyn Job>),
    /// Stop until the other side of the receiver is dropped, after everything is written back.
    Pause(Sender<Result<()>>, Receiver<()>),
}

/// A handle of the writing thread; the thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Writer {
    messages: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
}

/// While this exists nothing is written to the bucket.
#[derive(Debug)]
pub struct WriteStop {
    _until: Sender<()>,
}

impl Writer {
    pub(crate) fn start(
        stores: Stores,
        layout: Layout,
        readers: Arc<Readers>,
        garbage: Vec<(String, Home)>,
    ) -> Result<Self> {
        let (messages, inbox) = channel();
        let waste = if garbage.is_empty() { vec![] } else { vec![(readers.epochs.advance(), garbage)] };
        let root = layout.root().to_owned();
        let mut state = State { stores, layout, readers, waste, collected: Vec::new(), unsettled: vec![] };
        let thread = std::thread::Builder::new().name("bucket-writer".to_owned());
        let thread = thread.spawn(move || state.serve(&inbox)).map_err(BucketError::file(&root))?;
        Ok(Self { messages: Some(messages), thread: Some(thread) })
    }

    /// Makes a change. The work may run more than once: when a group can't be committed its members are tried alone.
    pub(crate) fn commit<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnMut(&mut Change<'_>) -> Result<T> + Send + 'static,
    {
        let (answer, answered) = channel();
        self.send(Message::Change(Box::new(Task { work, value: None, answer })))?;
        answered.recv().unwrap_or(Err(BucketError::Closed))
    }

    /// Writes the WALs back and stops writing until the returned value is dropped.
    pub(crate) fn pause(&self) -> Result<WriteStop> {
        let (until, dropped) = channel();
        let (answer, answered) = channel();
        self.send(Message::Pause(answer, dropped))?;
        answered.recv().unwrap_or(Err(BucketError::Closed))?;
        Ok(WriteStop { _until: until })
    }

    fn send(&self, message: Message) -> Result<()> {
        let messages = self.messages.as_ref().ok_or(BucketError::Closed)?;
        messages.send(message).map_err(|_| BucketError::Closed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.messages = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct State {
    stores: Stores,
    layout: Layout,
    readers: Arc<Readers>,
    /// Blobs that wait for the readers that began at or before this epoch.
    waste: Vec<(u64, Vec<(String, Home)>)>,
    /// Blobs that are gone and still stand in the garbage table.
    collected: Vec<String>,
    /// Files the index names that could not be moved out of staging yet.
    unsettled: Vec<String>,
}

impl State {
    fn serve(&mut self, inbox: &Receiver<Message>) {
        loop {
            let message = match self.has_waste() {
                false => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                true => inbox.recv_timeout(IDLE),
            };
            match message {
                Ok(Message::Change(first)) => {
                    if let Some((answer, until)) = self.serve_group(first, inbox) {
                        self.stand_still(&answer, &until);
                    }
                }
                Ok(Message::Pause(answer, until)) => self.stand_still(&answer, &until),
                Err(RecvTimeoutError::Timeout) => {
                    self.commit(&mut []);
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.commit(&mut []);
    }

    fn has_waste(&self) -> bool {
        !self.waste.is_empty() || !self.collected.is_empty()
    }

    fn serve_group(
        &mut self,
        first: Box<dyn Job>,
        inbox: &Receiver<Message>,
    ) -> Option<(Sender<Result<()>>, Receiver<()>)> {
        let mut jobs = vec![first];
        let mut pause = None;
        while jobs.len() < GROUP && pause.is_none() {
            match inbox.try_recv() {
                Ok(Message::Change(job)) => jobs.push(job),
                Ok(Message::Pause(answer, until)) => pause = Some((answer, until)),
                Err(_) => break,
            }
        }
        let outcomes = self.commit(&mut jobs);
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            job.answer(outcome);
        }
        pause
    }

    /// Writes everything back, so that the directory can be copied, and waits.
    fn stand_still(&mut self, answer: &Sender<Result<()>>, until: &Receiver<()>) {
        let readers = Arc::clone(&self.readers);
        let _change = readers.change();
        self.commit(&mut []);
        let written = write_back(&self.stores.index).and_then(|()| write_back(&self.stores.small));
        let _ = answer.send(written);
        // Nothing is ever sent: this returns when the other side is dropped.
        let _ = until.recv();
    }

    /// Commits all that can be committed, together if possible. One that the disk can't take fails alone.
    fn commit(&mut self, jobs: &mut [Box<dyn Job>]) -> Vec<Result<()>> {
        let readers = Arc::clone(&self.readers);
        let _change = readers.change();
        match self.commit_together(jobs) {
            Ok(outcomes) => outcomes,
            Err(error) if jobs.len() <= 1 => {
                tracing::error!(error = &error as &dyn std::error::Error, "a bucket could not commit");
                vec![Err(error)]
            }
            Err(_) => jobs.chunks_mut(1).flat_map(|job| self.commit(job)).collect(),
        }
    }

    fn commit_together(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<Vec<Result<()>>> {
        self.collect_files();
        let mut effects = Effects::default();
        let mut outcomes = Vec::with_capacity(jobs.len());
        let whole = self.stores.index.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for job in jobs {
            whole.execute_batch("SAVEPOINT change")?;
            let mut change = Change { index: &whole, effects: Effects::default() };
            let outcome = job.work(&mut change);
            match outcome {
                Ok(()) => effects.absorb(change.effects),
                Err(_) => whole.execute_batch("ROLLBACK TO change")?,
            }
            whole.execute_batch("RELEASE change")?;
            outcomes.push(outcome);
        }
        for id in &self.collected {
            whole.prepare_cached("DELETE FROM garbage WHERE id = ?1")?.execute([id])?;
        }
        if !effects.files.is_empty() {
            sync_folder(&self.layout.staging())?;
        }
        let waste = Waste { waiting: &self.waste, collected: &self.collected, epochs: &self.readers.epochs };
        let gone = settle_small(&mut self.stores.small, &effects, waste)?;
        if effects.settings {
            self.layout.write_settings(&settings_text(&whole)?)?;
        }
        whole.commit()?;
        self.collected = gone;
        self.after(effects);
        Ok(outcomes)
    }

    /// What needs no sync: the next open would do it as well.
    fn after(&mut self, effects: Effects) {
        // One that was given up meanwhile is gone.
        self.unsettled.retain(|id| self.layout.settle(id).is_err() && self.layout.staged(id).exists());
        for id in effects.files {
            if let Err(error) = self.layout.settle(&id) {
                tracing::warn!(error = &error as &dyn std::error::Error, "a file stays in staging for now");
                self.unsettled.push(id);
            }
        }
        if !self.collected.is_empty() {
            let collected: HashSet<&String> = self.collected.iter().collect();
            for (_, blobs) in &mut self.waste {
                blobs.retain(|(id, _)| !collected.contains(id));
            }
            self.waste.retain(|(_, blobs)| !blobs.is_empty());
        }
        if !effects.garbage.is_empty() {
            self.waste.push((self.readers.epochs.advance(), effects.garbage));
        }
    }

    /// Removes the files nobody reads any more.
    fn collect_files(&mut self) {
        for (epoch, blobs) in &mut self.waste {
            if self.readers.epochs.is_read_since(*epoch) {
                continue;
            }
            blobs.retain(|(id, home)| {
                let is_free = *home == Home::File && !self.readers.epochs.is_kept(id);
                let is_gone = is_free && self.layout.remove_blob(id).is_ok();
                if is_gone {
                    self.collected.push(id.clone());
                }
                !is_gone
            });
        }
        self.waste.retain(|(_, blobs)| !blobs.is_empty());
    }
}

/// Blobs that are given up.
#[derive(Clone, Copy)]
struct Waste<'s> {
    waiting: &'s [(u64, Vec<(String, Home)>)],
    /// Files that are gone.
    collected: &'s [String],
    epochs: &'s Epochs,
}

impl Waste<'_> {
    /// The small ones that nobody reads any more.
    fn small(&self) -> Vec<String> {
        let unread = self.waiting.iter().filter(|(epoch, _)| !self.epochs.is_read_since(*epoch));
        let small = unread.flat_map(|(_, blobs)| blobs).filter(|(_, home)| *home == Home::Small);
        small.filter(|(id, _)| !self.epochs.is_kept(id)).map(|(id, _)| id.clone()).collect()
    }

    /// The changed headers of files that are gone.
    fn headers(&self, small: &Connection) -> Result<Vec<&String>> {
        let mut statement = small.prepare_cached("SELECT 1 FROM headers WHERE id = ?1")?;
        let mut found = Vec::new();
        for id in self.collected {
            if statement.exists([id])? {
                found.push(id);
            }
        }
        Ok(found)
    }
}

/// Stores the group's small blobs and changed headers, and removes those nobody needs any more. Returns the removed blobs. A file
/// is never written again: snapshots of the bucket may have it too.
fn settle_small(small: &mut Connection, effects: &Effects, waste: Waste<'_>) -> Result<Vec<String>> {
    let (gone, stale) = (waste.small(), waste.headers(small)?);
    if effects.small.is_empty() && gone.is_empty() && effects.headers.is_empty() && stale.is_empty() {
        return Ok(gone);
    }
    let whole = small.transaction_with_behavior(TransactionBehavior::Immediate)?;
    whole.execute("DELETE FROM pending", [])?;
    for (id, header, bytes) in &effects.small {
        whole.prepare_cached("INSERT INTO blobs VALUES (?1, ?2, ?3)")?.execute(params![id, header, bytes])?;
        whole.prepare_cached("INSERT INTO pending VALUES (?1)")?.execute([id])?;
    }
    for (id, home, header) in &effects.headers {
        let sql = match home {
            Home::Small => "UPDATE blobs SET header = ?2 WHERE id = ?1",
            Home::File => "INSERT OR REPLACE INTO headers VALUES (?1, ?2)",
        };
        whole.prepare_cached(sql)?.execute(params![id, header.to_json()?])?;
    }
    for id in stale {
        whole.prepare_cached("DELETE FROM headers WHERE id = ?1")?.execute([id])?;
    }
    for id in &gone {
        whole.prepare_cached("DELETE FROM blobs WHERE id = ?1")?.execute([id])?;
    }
    whole.commit()?;
    Ok(gone)
}

fn settings_text(index: &Connection) -> Result<String> {
    let mut statement = index.prepare_cached("SELECT name, value FROM settings")?;
    let settings: BTreeMap<String, String> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    serde_json::to_string(&settings)
        .map_err(|error| BucketError::Damaged { what: format!("the settings: {error}") })
}
