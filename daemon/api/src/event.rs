//! Events.

use crate::Metadata;
use jiff::Timestamp;
use serde_json::Value;

wire! {
    /// A message of the events websocket.
    pub struct Event {
        /// `operation`, `lifecycle` or `logging`.
        #[serde(rename = "type")]
        pub kind: String,
        /// When it happened.
        pub timestamp: Timestamp,
        /// An [`Operation`](crate::Operation), an [`EventLifecycle`] or an [`EventLogging`].
        pub metadata: Value,
        /// The member it happened on; `none` on a single machine.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub location: String,
        /// The project it concerns; empty for the whole server.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub project: String,
    }

    /// Something was made, changed, used or deleted.
    pub struct EventLifecycle {
        /// What happened, such as `storage-volume-created`.
        pub action: String,
        /// URL of the thing.
        pub source: String,
        /// More to know, such as `old_name`.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub context: Metadata,
        /// Who asked for it.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub requestor: Option<Requestor>,
        /// The thing's name.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub name: String,
        /// Its project.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub project: String,
    }

    /// Who asked for something.
    pub struct Requestor {
        /// The user, or the certificate's fingerprint.
        pub username: String,
        /// `unix` or `tls`.
        pub protocol: String,
        /// Where from; `@` for the unix socket.
        pub address: String,
    }

    /// A line of the daemon's log.
    pub struct EventLogging {
        /// The text.
        pub message: String,
        /// `trace`, `debug`, `info`, `warning` or `error`.
        pub level: String,
        /// What it is about.
        pub context: crate::Config,
    }
}
