//! How long requests wait for the start: the daemon answers who it is at once, and all else when its pools are settled.
//!
//! What a start does grows with what there is, and a pool whose cluster does not answer takes its deadline.

use crate::service::Service;
use anyhow::Result;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{oneshot, watch};

/// Whether the start is over.
#[derive(Debug, Clone)]
pub(crate) struct Ready(watch::Receiver<bool>);

impl Ready {
    /// Waits for a true; when nobody can say it any more, for ever.
    pub(crate) fn told_by(start: watch::Receiver<bool>) -> Self {
        Self(start)
    }

    /// Pends until the start is over; for ever when it has failed, since the daemon ends then.
    pub(crate) async fn wait(mut self) {
        if self.0.wait_for(|is_ready| *is_ready).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Makes the service ready, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Start {
    work: Option<Work>,
    thread: Option<JoinHandle<()>>,
    /// Where requests wait.
    pub(crate) ready: Ready,
    /// How it ended. It can be taken once.
    pub(crate) outcome: oneshot::Receiver<Result<()>>,
}

/// What the thread is given.
#[derive(Debug)]
struct Work {
    service: Arc<Service>,
    is_ready: watch::Sender<bool>,
    told: oneshot::Sender<Result<()>>,
}

impl Start {
    /// A start that is not begun yet; requests can already wait for it.
    pub(crate) fn of(service: &Arc<Service>) -> Self {
        let (is_ready, ready) = watch::channel(false);
        let (told, outcome) = oneshot::channel();
        let work = Work { service: Arc::clone(service), is_ready, told };
        Self { work: Some(work), thread: None, ready: Ready::told_by(ready), outcome }
    }

    /// Begins it. Whoever asks who the daemon is waits for what comes before this, so it is called last.
    pub(crate) fn begin(&mut self) -> Result<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        self.thread = Some(std::thread::Builder::new().name("start".to_owned()).spawn(|| work.run())?);
        Ok(())
    }

    /// Waits until nothing of it runs any more.
    pub(crate) fn end(self) {
        if self.thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the start panicked");
        }
    }
}

impl Work {
    fn run(self) {
        let prepared = prepare(&self.service);
        if prepared.is_ok() {
            self.is_ready.send_replace(true);
        }
        // The daemon was told to end meanwhile: nobody waits for it.
        let _ = self.told.send(prepared);
    }
}

fn prepare(service: &Service) -> Result<()> {
    // Before anything is written.
    service.store().catalog().check()?;
    service.prepare()?;
    service.open_s3_endpoint()?;
    service.open_access_log()?;
    Ok(())
}
