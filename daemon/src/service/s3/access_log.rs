//! The access log of the S3 endpoint: one line of JSON a request, in a file that is put aside when it is large. Requests
//! don't wait for it: what it can't take at once is lost, and counted.

use crate::service::{Result, ServiceError};
use jiff::Timestamp;
use larder_base::Clock;
use larder_s3::Answered;
use parking_lot::Mutex;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// How many lines wait to be written.
const WAITING: usize = 4096;
/// At this size the file is put aside, in the place of the one before.
const LARGE: u64 = 64 << 20;
/// What of a query lets anybody repeat the request.
const SECRETS: [&str; 3] = ["X-Amz-Signature", "X-Amz-Security-Token", "Signature"];

/// A line.
#[derive(Debug, Serialize)]
struct Line {
    time: Timestamp,
    request: String,
    client: String,
    access_key: String,
    bucket: String,
    method: String,
    target: String,
    status: u16,
    code: String,
    received: u64,
    sent: u64,
    is_whole: bool,
    milliseconds: f64,
    user_agent: String,
}

impl Line {
    fn of(answered: &Answered, time: Timestamp) -> Self {
        let text = |value: Option<&http::HeaderValue>| {
            value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
        };
        Self {
            time,
            request: text(answered.id.as_ref()),
            client: answered.client.map(|client| client.to_string()).unwrap_or_default(),
            access_key: answered.access_key.clone(),
            bucket: answered.bucket.clone().unwrap_or_default(),
            method: answered.method.to_string(),
            target: without_secrets(&answered.target),
            status: answered.status.as_u16(),
            code: answered.code.clone().unwrap_or_default(),
            received: answered.received,
            sent: answered.sent,
            is_whole: answered.is_whole,
            milliseconds: (answered.took.as_secs_f64() * 1e6).round() / 1e3,
            user_agent: text(answered.user_agent.as_ref()),
        }
    }
}

/// Path and query, without what a presigned request is signed with.
fn without_secrets(target: &http::Uri) -> String {
    let Some(query) = target.query() else { return target.path().to_owned() };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if SECRETS.contains(&name) => format!("{name}=-"),
        _ => pair.to_owned(),
    });
    format!("{}?{}", target.path(), pairs.collect::<Vec<_>>().join("&"))
}

#[derive(Debug)]
struct Open {
    lines: SyncSender<Line>,
    thread: JoinHandle<()>,
}

/// The log, on or off.
#[derive(Debug)]
pub(in crate::service) struct AccessLog {
    clock: Arc<dyn Clock>,
    path: PathBuf,
    open: Mutex<Option<Open>>,
    /// The same without the lock.
    is_on: AtomicBool,
    lost: AtomicU64,
}

impl AccessLog {
    /// One that is off.
    pub(in crate::service) fn new(folder: &Path, clock: Arc<dyn Clock>) -> Self {
        let path = folder.join("s3-access.log");
        Self { clock, path, open: Mutex::default(), is_on: AtomicBool::new(false), lost: AtomicU64::new(0) }
    }

    /// Switches it on or off; what was told before it is switched off is written.
    pub(super) fn switch(&self, is_on: bool) -> Result<()> {
        let mut open = self.open.lock();
        if is_on == open.is_some() {
            return Ok(());
        }
        self.is_on.store(is_on, Ordering::Release);
        if let Some(Open { lines, thread }) = open.take() {
            drop(lines);
            return thread.join().map_err(|_| ServiceError::internal("the access log's thread panicked"));
        }
        let file = append(&self.path)?;
        let (lines, inbox) = sync_channel(WAITING);
        let path = self.path.clone();
        let work = move || {
            if let Err(error) = keep(&path, file, &inbox) {
                tracing::error!(%error, file = %path.display(), "the S3 access log has ended");
            }
        };
        let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(work)?;
        *open = Some(Open { lines, thread });
        Ok(())
    }

    pub(super) fn write(&self, answered: &Answered) {
        if !self.is_on.load(Ordering::Acquire) {
            return;
        }
        let line = Line::of(answered, self.clock.now());
        let is_taken = self.open.lock().as_ref().is_some_and(|open| open.lines.try_send(line).is_ok());
        if !is_taken {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were lost.
    pub(in crate::service) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Writes lines until the other end is gone.
fn keep(path: &Path, file: File, inbox: &Receiver<Line>) -> io::Result<()> {
    let mut size = file.metadata()?.len();
    let mut file = BufWriter::new(file);
    while let Ok(first) = inbox.recv() {
        for line in std::iter::once(first).chain(inbox.try_iter()) {
            let mut text = serde_json::to_vec(&line)?;
            text.push(b'\n');
            file.write_all(&text)?;
            size += text.len() as u64;
            if size >= LARGE {
                file.flush()?;
                std::fs::rename(path, path.with_extension("log.1"))?;
                (file, size) = (BufWriter::new(append(path)?), 0);
            }
        }
        file.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_anybody_repeat_a_request_is_not_written() {
        let target = "/b/k?partNumber=1&X-Amz-Signature=abc&X-Amz-Security-Token=def&x=1".parse().unwrap();
        let written = without_secrets(&target);
        assert_eq!(written, "/b/k?partNumber=1&X-Amz-Signature=-&X-Amz-Security-Token=-&x=1");
        assert_eq!(without_secrets(&"/b/k".parse().unwrap()), "/b/k");
    }
}
