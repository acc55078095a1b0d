//! All operations of this run: started here, found here, and forgotten a few seconds after their end.

use super::operation::{Class, Operation, Outcome};
use super::{Sockets, Status};
use crate::events::Events;
use crate::service::{Requestor, Result, Service, ServiceError, Task};
use axum::extract::ws::WebSocket;
use larder_api::Metadata;
use larder_base::{Cancel, Clock, Progress};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use uuid::Uuid;

/// How long an operation can be looked at after its end.
const REMEMBERED: Duration = Duration::from_secs(5);

/// How long a stopping daemon waits for an operation that was asked to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is told of an operation when it is started.
#[derive(Debug, Clone, Default)]
pub struct NewOperation {
    /// What is being done, for people.
    pub description: String,
    /// The project it belongs to.
    pub project: String,
    /// URLs of what it is about, by kind.
    pub resources: BTreeMap<String, Vec<String>>,
    /// What its metadata has from the start.
    pub metadata: Metadata,
    /// Who asked.
    pub requestor: Requestor,
}

#[derive(Debug, Default)]
struct Known {
    operations: BTreeMap<Uuid, Arc<Operation>>,
    closing: bool,
}

/// The operations of this run; cloning shares them.
#[derive(Debug, Clone)]
pub struct Operations {
    known: Arc<Mutex<Known>>,
    events: Events,
    clock: Arc<dyn Clock>,
}

impl Operations {
    /// None yet. Changes are told to `events`.
    pub fn new(events: Events, clock: Arc<dyn Clock>) -> Self {
        Self { known: Arc::default(), events, clock }
    }

    /// Starts blocking work on a thread of its own. Fails when the daemon is stopping.
    pub fn start<T: Into<Outcome> + 'static>(
        &self,
        service: &Arc<Service>,
        wanted: NewOperation,
        work: impl FnOnce(&Service, &Task) -> Result<T> + Send + 'static,
    ) -> Result<Arc<Operation>> {
        let cancel = Cancel::new();
        let operation = self.register(Class::Task(cancel.clone()), wanted)?;
        let (operations, running, service) = (self.clone(), Arc::clone(&operation), Arc::clone(service));
        larder_s3::blocking::begin(Box::new(move || {
            operations.change(&running, Status::Running);
            let task = operations.task(&running, cancel);
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| work(&service, &task)));
            let outcome = outcome.unwrap_or_else(|_| {
                Err(ServiceError::internal("the operation panicked: see the daemon's log"))
            });
            operations.finish(&running, outcome.map(Into::into));
        }));
        Ok(operation)
    }

    /// Starts asynchronous work that talks over the websockets `names`; it is handed where each arrives.
    pub fn start_with_sockets<F>(
        &self,
        mut wanted: NewOperation,
        names: &[&str],
        work: impl FnOnce(Arc<Operation>, BTreeMap<String, oneshot::Receiver<WebSocket>>, Cancel) -> F,
    ) -> Result<Arc<Operation>>
    where
        F: Future<Output = Result<Outcome>> + Send + 'static,
    {
        let (sockets, arrivals) = Sockets::named(names);
        wanted.metadata.extend(sockets.metadata());
        let cancel = Cancel::new();
        let operation = self.register(Class::Websocket(sockets, cancel.clone()), wanted)?;
        self.change(&operation, Status::Running);
        let work = work(Arc::clone(&operation), arrivals, cancel);
        let (operations, running) = (self.clone(), Arc::clone(&operation));
        tokio::spawn(async move { operations.finish(&running, work.await) });
        Ok(operation)
    }

    /// Registers a secret that waits to be used.
    pub fn token(&self, wanted: NewOperation) -> Result<Arc<Operation>> {
        let operation = self.register(Class::Token, wanted)?;
        self.change(&operation, Status::Running);
        Ok(operation)
    }

    /// Uses a token up: the one of the project with this secret, about this resource. Tells whether there was one.
    pub fn use_token(&self, resource: &str, secret: &str) -> bool {
        let about = |operation: &Operation| operation.resources.values().flatten().any(|url| url == resource);
        let found = self.all().into_iter().find(|operation| {
            matches!(operation.class, Class::Token)
                && !operation.status().is_final()
                && operation.has_secret(secret)
                && about(operation)
        });
        // Only who ends it has used it.
        found.is_some_and(|operation| {
            self.change(&operation, Status::Cancelled) && self.forget_later(&operation)
        })
    }

    /// An operation by id.
    pub fn find(&self, id: &str) -> Result<Arc<Operation>> {
        let missing = || ServiceError::not_found(format!("operation {id:?}"));
        let parsed: Uuid = id.parse().map_err(|_| missing())?;
        self.known.lock().operations.get(&parsed).cloned().ok_or_else(missing)
    }

    /// All that can be looked at.
    pub fn all(&self) -> Vec<Arc<Operation>> {
        self.known.lock().operations.values().cloned().collect()
    }

    /// Those that go on, do this, and are about the thing with this URL.
    pub fn running(&self, description: &str, url: &str) -> Vec<Arc<Operation>> {
        let mut running = self.all();
        running.retain(|operation| {
            let is_about = operation.resources.values().flatten().any(|resource| resource == url);
            is_about && operation.description == description && !operation.status().is_final()
        });
        running
    }

    /// Asks one to stop.
    pub fn cancel(&self, operation: &Arc<Operation>) -> Result<()> {
        let next = operation.ask_to_stop(self.clock.now())?;
        self.events.operation(&operation.wire(), &operation.project);
        if next.is_final() {
            self.forget_later(operation);
        }
        Ok(())
    }

    /// Refuses new work, asks all running work to stop, and waits for its end, but not for ever.
    pub async fn close(&self) {
        self.known.lock().closing = true;
        let running: Vec<_> =
            self.all().into_iter().filter(|operation| !operation.status().is_final()).collect();
        for operation in &running {
            // One that has ended meanwhile is fine.
            let _ = self.cancel(operation);
        }
        for operation in &running {
            if tokio::time::timeout(PATIENCE, operation.ended()).await.is_err() {
                tracing::warn!(operation = %operation.id, "it does not end: the next start settles it");
            }
        }
    }

    /// Adds to what an operation tells of itself.
    pub fn tell(&self, operation: &Arc<Operation>, metadata: Metadata) {
        operation.add_metadata(metadata, self.clock.now());
        self.events.operation(&operation.wire(), &operation.project);
    }

    fn register(&self, class: Class, wanted: NewOperation) -> Result<Arc<Operation>> {
        let operation = Arc::new(Operation::new(class, wanted, Uuid::new_v4(), self.clock.now()));
        let mut known = self.known.lock();
        if known.closing {
            let message = "the daemon is stopping: try again when it runs again".to_owned();
            return Err(ServiceError { kind: crate::service::Kind::Unavailable, message });
        }
        known.operations.insert(operation.id, Arc::clone(&operation));
        drop(known);
        self.events.operation(&operation.wire(), &operation.project);
        Ok(operation)
    }

    fn task(&self, operation: &Arc<Operation>, cancel: Cancel) -> Task {
        let (operations, running) = (self.clone(), Arc::clone(operation));
        let progress = Progress::to(move |report| {
            running.report(&report, operations.clock.now());
            operations.events.operation(&running.wire(), &running.project);
        });
        Task::new(operation.id, operation.requestor.clone(), progress, cancel)
    }

    fn change(&self, operation: &Arc<Operation>, status: Status) -> bool {
        let is_changed = operation.become_status(status, self.clock.now());
        if is_changed {
            self.events.operation(&operation.wire(), &operation.project);
        }
        is_changed
    }

    fn finish(&self, operation: &Arc<Operation>, outcome: Result<Outcome>) {
        if let Err(error) = &outcome {
            tracing::warn!(operation = %operation.id, what = operation.description, %error, "an operation failed");
        }
        operation.end(outcome, self.clock.now());
        self.events.operation(&operation.wire(), &operation.project);
        self.forget_later(operation);
    }

    fn forget_later(&self, operation: &Arc<Operation>) -> bool {
        let (known, id) = (Arc::clone(&self.known), operation.id);
        let handle = tokio::runtime::Handle::current();
        handle.spawn(async move {
            tokio::time::sleep(REMEMBERED).await;
            known.lock().operations.remove(&id);
        });
        true
    }
}
