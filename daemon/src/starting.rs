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

/// A start under way.
#[derive(Debug)]
pub(crate) struct Start {
    thread: JoinHandle<()>,
    /// Where requests wait.
    pub(crate) ready: Ready,
    /// How it ended. It can be taken once.
    pub(crate) outcome: oneshot::Receiver<Result<()>>,
}

impl Start {
    /// Begins to make the service ready, on a thread of its own.
    pub(crate) fn begin(service: &Arc<Service>) -> Result<Self> {
        let service = Arc::clone(service);
        let (is_ready, ready) = watch::channel(false);
        let (told, outcome) = oneshot::channel();
        let begin = move || {
            let prepared = prepare(&service);
            if prepared.is_ok() {
                is_ready.send_replace(true);
            }
            // The daemon was told to end meanwhile: nobody waits for it.
            let _ = told.send(prepared);
        };
        let thread = std::thread::Builder::new().name("start".to_owned()).spawn(begin)?;
        Ok(Self { thread, ready: Ready::told_by(ready), outcome })
    }

    /// Waits until nothing of it runs any more.
    pub(crate) fn end(self) {
        if self.thread.join().is_err() {
            tracing::error!("the thread of the start panicked");
        }
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
