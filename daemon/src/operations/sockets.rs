//! The websockets of an operation: each has a name and a secret, and is connected once.

use axum::extract::ws::WebSocket;
use larder_api::Metadata;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use tokio::sync::oneshot;

/// What connecting with a secret met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// No socket has that secret.
    Unknown,
    /// The socket is connected already, or nobody waits for it any more.
    Gone,
}

struct Slot {
    secret: String,
    wanted: Option<oneshot::Sender<WebSocket>>,
}

/// The sockets of one operation.
pub struct Sockets {
    slots: Mutex<BTreeMap<String, Slot>>,
}

impl fmt::Debug for Sockets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Sockets")
            .field("names", &self.slots.lock().keys().collect::<Vec<_>>())
            .finish()
    }
}

impl Sockets {
    /// Sockets with these names, and where each arrives.
    pub fn named(names: &[&str]) -> (Self, BTreeMap<String, oneshot::Receiver<WebSocket>>) {
        let mut slots = BTreeMap::new();
        let mut arrivals = BTreeMap::new();
        for name in names {
            let (wanted, arrival) = oneshot::channel();
            let secret = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
            slots.insert((*name).to_owned(), Slot { secret, wanted: Some(wanted) });
            arrivals.insert((*name).to_owned(), arrival);
        }
        (Self { slots: Mutex::new(slots) }, arrivals)
    }

    /// `{"fds": {name: secret}}`, as the client reads it.
    pub fn metadata(&self) -> Metadata {
        let fds = self
            .slots
            .lock()
            .iter()
            .map(|(name, slot)| (name.clone(), Value::String(slot.secret.clone())))
            .collect();
        Metadata::from_iter([("fds".to_owned(), Value::Object(fds))])
    }

    /// Reserves the socket with this secret: the upgraded websocket goes into what is returned.
    pub fn take(&self, secret: &str) -> Result<oneshot::Sender<WebSocket>, Taken> {
        let mut slots = self.slots.lock();
        let slot = slots.values_mut().find(|slot| slot.secret == secret).ok_or(Taken::Unknown)?;
        slot.wanted.take().filter(|wanted| !wanted.is_closed()).ok_or(Taken::Gone)
    }
}
