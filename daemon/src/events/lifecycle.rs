//! Reads the committed log and tells of it.

use super::Events;
use larder_api::{EventLifecycle, Metadata, Requestor};
use larder_catalog::{Catalog, CatalogError, Cause, Revision};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How long one look at the log waits: the time a stopping daemon may be held up.
const LOOK: Duration = Duration::from_millis(500);

impl Events {
    /// Tells of every commit after `from` that has a cause, on a thread of its own, until the catalog is closed or
    /// `is_over` says so.
    pub fn follow(
        &self,
        catalog: Arc<dyn Catalog>,
        from: Revision,
        is_over: impl Fn() -> bool + Send + 'static,
    ) -> std::io::Result<std::thread::JoinHandle<()>> {
        let events = self.clone();
        std::thread::Builder::new().name("events".to_owned()).spawn(move || {
            if let Err(error) = events.follow_until(catalog.as_ref(), from, &is_over) {
                tracing::error!(%error, "lifecycle events have ended");
            }
        })
    }

    fn follow_until(
        &self,
        catalog: &dyn Catalog,
        from: Revision,
        is_over: &dyn Fn() -> bool,
    ) -> Result<(), CatalogError> {
        let mut watch = catalog.watch(from)?;
        self.told.send_replace(from);
        while !is_over() {
            match watch.next(LOOK) {
                Ok(Some(change)) => {
                    if let Some(cause) = change.cause {
                        self.lifecycle(change.at, cause);
                    }
                    self.told.send_replace(change.revision);
                }
                Ok(None) => {}
                Err(CatalogError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What is told of a cause.
pub(super) fn told_of(cause: Cause) -> EventLifecycle {
    let text = |name: &str| cause.requestor[name].as_str().unwrap_or_default().to_owned();
    let requestor =
        Requestor { username: text("username"), protocol: text("protocol"), address: text("address") };
    let path = cause.source.split('?').next().unwrap_or_default();
    let name = path
        .rsplit('/')
        .next()
        .and_then(|part| urlencoding::decode(part).ok())
        .unwrap_or_default()
        .into_owned();
    let context = match cause.context {
        Value::Object(context) => context,
        _ => Metadata::new(),
    };
    EventLifecycle {
        action: cause.action,
        source: cause.source,
        context,
        requestor: (!requestor.protocol.is_empty()).then_some(requestor),
        name,
        project: cause.project,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_base::SystemClock;
    use larder_catalog::{Key, SqliteCatalog, Transaction};
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn commits_are_told_in_order_and_only_those_with_a_cause() {
        let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::in_memory().unwrap());
        let events = Events::new(Arc::new(SystemClock));
        let mut listener = events.sender.subscribe();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let from = catalog.revision().unwrap();
        let thread =
            events.follow(Arc::clone(&catalog), from, move || is_over.load(Ordering::SeqCst)).unwrap();
        let commit = |name: &str, action: Option<&str>| {
            let transaction = Transaction::new().put(Key::of(["x", name]), "1".to_owned());
            let cause = action.map(|action| Cause {
                action: action.to_owned(),
                source: format!("/1.0/storage-pools/{name}?project=blue"),
                project: "blue".to_owned(),
                requestor: serde_json::json!({ "username": "root", "protocol": "unix", "address": "@" }),
                context: Value::Null,
            });
            catalog.transact(cause.into_iter().fold(transaction, Transaction::because)).unwrap();
        };
        commit("one", Some("storage-pool-created"));
        commit("two", None);
        commit("thr%C3%A9", Some("storage-pool-deleted"));
        let told: Vec<_> = (0..2).map(|_| listener.blocking_recv().unwrap().metadata.clone()).collect();
        assert_eq!(
            (told[0]["action"].as_str(), told[0]["name"].as_str()),
            (Some("storage-pool-created"), Some("one"))
        );
        assert_eq!(
            (told[1]["action"].as_str(), told[1]["name"].as_str()),
            (Some("storage-pool-deleted"), Some("thré"))
        );
        assert_eq!(told[0]["requestor"]["username"], "root");
        // Who comes later hears of what is committed later, and of nothing before.
        commit("four", Some("storage-pool-created"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut late = runtime.block_on(events.listen(catalog.revision().unwrap()));
        commit("five", Some("storage-pool-created"));
        assert_eq!(late.blocking_recv().unwrap().metadata["name"], "five");
        over.store(true, Ordering::SeqCst);
        thread.join().unwrap();
    }
}
