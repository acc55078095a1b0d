//! What happened, told to whoever listens: lifecycle events are read from the catalog's committed log, in order, so that
//! none tells of what was rolled back; operation events come from memory; log events are the daemon's own log.

mod lifecycle;
mod logging;

pub use logging::LogEvents;

use jiff::Timestamp;
use larder_api::{Event, Operation};
use larder_base::Clock;
use larder_catalog::{Cause, Revision};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// How many events a listener may be behind before it is cut off: it is never shown a stream with holes.
const BACKLOG: usize = 4096;
/// How long a new listener waits at most for what was committed before it came.
const CATCHING_UP: Duration = Duration::from_secs(5);

/// Where events go; cloning shares it.
#[derive(Debug, Clone)]
pub struct Events {
    sender: broadcast::Sender<Arc<Event>>,
    /// How far into the committed log has been told.
    told: watch::Sender<Revision>,
    clock: Arc<dyn Clock>,
}

impl Events {
    /// Events that nobody listens to yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { sender: broadcast::Sender::new(BACKLOG), told: watch::Sender::new(Revision(0)), clock }
    }

    /// Everything that happens after the commit `now`: what was committed before it, and is still on its way to those
    /// who listen already, is let pass first.
    pub async fn listen(&self, now: Revision) -> broadcast::Receiver<Arc<Event>> {
        let mut told = self.told.subscribe();
        // Who tells has ended, or hangs: there is nothing to let pass.
        let _ = tokio::time::timeout(CATCHING_UP, told.wait_for(|told| *told >= now)).await;
        self.sender.subscribe()
    }

    /// Tells of a change of an operation.
    pub fn operation(&self, operation: &Operation, project: &str) {
        self.tell("operation", self.clock.now(), project, || {
            serde_json::to_value(operation).unwrap_or_default()
        });
    }

    /// Tells of a use that changed nothing in the catalog, such as the download of a backup.
    pub fn used(&self, cause: Cause) {
        self.lifecycle(self.clock.now(), cause);
    }

    fn lifecycle(&self, at: Timestamp, cause: Cause) {
        let lifecycle = lifecycle::told_of(cause);
        self.tell("lifecycle", at, &lifecycle.project, || {
            serde_json::to_value(&lifecycle).unwrap_or_default()
        });
    }

    fn tell(&self, kind: &str, timestamp: Timestamp, project: &str, metadata: impl FnOnce() -> Value) {
        if self.sender.receiver_count() == 0 {
            return;
        }
        let event = Event {
            kind: kind.to_owned(),
            timestamp,
            metadata: metadata(),
            location: "none".to_owned(),
            project: project.to_owned(),
        };
        // Nobody listens any more: that is fine.
        let _ = self.sender.send(Arc::new(event));
    }
}
