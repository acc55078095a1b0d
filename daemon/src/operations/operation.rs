//! One operation.

use super::status::Status;
use super::{Sockets, progress};
use crate::service::{Kind, Requestor, Result, ServiceError};
use jiff::Timestamp;
use larder_api::Metadata;
use larder_base::{Cancel, ProgressReport};
use serde_json::Value;
use std::collections::BTreeMap;
use tokio::sync::watch;
use uuid::Uuid;

/// What kind of operation it is, with what only that kind has.
#[derive(Debug)]
pub enum Class {
    /// Work that ends by itself and can be asked to stop.
    Task(Cancel),
    /// Work that talks to its client over websockets. Asking it to stop is asking its work to.
    Websocket(Sockets, Cancel),
    /// A secret that waits to be used; goes when it is, or when it is cancelled.
    Token,
}

impl Class {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Task(_) => "task",
            Self::Websocket(..) => "websocket",
            Self::Token => "token",
        }
    }
}

/// What work hands back, for the operation's metadata.
#[derive(Debug, Clone, Default)]
pub struct Outcome(pub Metadata);

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<Metadata> for Outcome {
    fn from(metadata: Metadata) -> Self {
        Self(metadata)
    }
}

#[derive(Debug, Clone)]
struct State {
    status: Status,
    metadata: Metadata,
    error: String,
    error_code: u16,
    updated_at: Timestamp,
}

/// One asynchronous change.
#[derive(Debug)]
pub struct Operation {
    /// Its id.
    pub id: Uuid,
    /// The project it belongs to; empty for the whole server.
    pub project: String,
    pub(super) class: Class,
    pub(super) description: String,
    pub(super) created_at: Timestamp,
    pub(super) resources: BTreeMap<String, Vec<String>>,
    pub(super) requestor: Requestor,
    state: watch::Sender<State>,
}

impl Operation {
    pub(super) fn new(class: Class, wanted: super::NewOperation, id: Uuid, now: Timestamp) -> Self {
        let state = State {
            status: Status::Pending,
            metadata: wanted.metadata,
            error: String::new(),
            error_code: 0,
            updated_at: now,
        };
        Self {
            id,
            project: wanted.project,
            class,
            description: wanted.description,
            created_at: now,
            resources: wanted.resources,
            requestor: wanted.requestor,
            state: watch::Sender::new(state),
        }
    }

    /// `/1.0/operations/<id>`.
    pub fn url(&self) -> String {
        format!("/1.0/operations/{}", self.id)
    }

    /// Where it is.
    pub fn status(&self) -> Status {
        self.state.borrow().status
    }

    /// The sockets of a websocket operation.
    pub fn sockets(&self) -> Option<&Sockets> {
        match &self.class {
            Class::Websocket(sockets, _) => Some(sockets),
            Class::Task(_) | Class::Token => None,
        }
    }

    /// Whether `secret` is the one in a token's metadata.
    pub fn has_secret(&self, secret: &str) -> bool {
        self.state.borrow().metadata.get("secret").and_then(Value::as_str) == Some(secret)
    }

    /// Waits for the end.
    pub async fn ended(&self) {
        let mut state = self.state.subscribe();
        // The sender lives as long as `self`.
        let _ = state.wait_for(|state| state.status.is_final()).await;
    }

    /// Waits until it is asked to stop, or has ended.
    pub async fn asked_to_stop(&self) {
        let mut state = self.state.subscribe();
        // The sender lives as long as `self`.
        let _ = state.wait_for(|state| state.status == Status::Cancelling || state.status.is_final()).await;
    }

    /// Asks it to stop. Fails when it can't be.
    pub(super) fn ask_to_stop(&self, now: Timestamp) -> Result<Status> {
        if self.status().is_final() {
            return Err(ServiceError::bad(format!("the operation {} has ended already", self.id)));
        }
        let next = match &self.class {
            Class::Task(cancel) | Class::Websocket(_, cancel) => {
                cancel.cancel();
                Status::Cancelling
            }
            Class::Token => Status::Cancelled,
        };
        self.become_status(next, now);
        Ok(next)
    }

    pub(super) fn become_status(&self, next: Status, now: Timestamp) -> bool {
        self.state.send_if_modified(|state| {
            let may = state.status.may_become(next);
            if may {
                state.status = next;
                state.updated_at = now;
            }
            may
        })
    }

    pub(super) fn end(&self, outcome: Result<Outcome>, now: Timestamp) {
        self.state.send_modify(|state| {
            let was_asked_to_stop = state.status == Status::Cancelling;
            state.updated_at = now;
            state.metadata.remove("progress");
            match outcome {
                Ok(Outcome(metadata)) => {
                    state.status = Status::Success;
                    state.metadata.extend(metadata);
                }
                Err(error) => {
                    state.status = if was_asked_to_stop { Status::Cancelled } else { Status::Failure };
                    state.error_code = status_of(error.kind);
                    state.error = error.message;
                }
            }
        });
    }

    pub(super) fn report(&self, report: &ProgressReport, now: Timestamp) {
        self.add_metadata(progress::metadata_of(report), now);
    }

    pub(super) fn add_metadata(&self, metadata: Metadata, now: Timestamp) {
        self.state.send_modify(|state| {
            state.metadata.extend(metadata);
            state.updated_at = now;
        });
    }

    /// As clients see it.
    pub fn wire(&self) -> larder_api::Operation {
        let state = self.state.borrow();
        let requestor = larder_api::Requestor {
            username: self.requestor.username.clone(),
            protocol: self.requestor.protocol.clone(),
            address: self.requestor.address.clone(),
        };
        larder_api::Operation {
            id: self.id.to_string(),
            class: self.class.as_str().to_owned(),
            description: self.description.clone(),
            created_at: self.created_at,
            updated_at: state.updated_at,
            status: state.status.as_str().to_owned(),
            status_code: state.status.code(),
            resources: self.resources.clone(),
            metadata: (!state.metadata.is_empty()).then(|| state.metadata.clone()),
            may_cancel: !state.status.is_final(),
            err: state.error.clone(),
            err_code: state.error_code,
            location: "none".to_owned(),
            requestor: Some(requestor),
        }
    }
}

/// The HTTP status that a failure of this kind has.
pub(crate) fn status_of(kind: Kind) -> u16 {
    match kind {
        Kind::BadRequest => 400,
        Kind::NotFound => 404,
        Kind::Conflict => 409,
        Kind::Changed => 412,
        Kind::Internal => 500,
        Kind::NotImplemented => 501,
        Kind::Unavailable => 503,
    }
}
