//! Operations.

use crate::{Metadata, Requestor};
use jiff::Timestamp;
use std::collections::BTreeMap;

wire! {
    /// Work in the background.
    pub struct Operation {
        /// Its UUID.
        pub id: String,
        /// `task`, `websocket` or `token`.
        pub class: String,
        /// What is being done, for people.
        pub description: String,
        /// When it was asked for.
        pub created_at: Timestamp,
        /// When it changed last.
        pub updated_at: Timestamp,
        /// The status in words.
        pub status: String,
        /// The status as a number; final from 200 on.
        pub status_code: u16,
        /// URLs of what it is about, by kind.
        pub resources: BTreeMap<String, Vec<String>>,
        /// Progress and results; `null` for none.
        pub metadata: Option<Metadata>,
        /// Whether it can be cancelled.
        pub may_cancel: bool,
        /// Why it failed, else empty.
        pub err: String,
        /// The HTTP status the failure would have had, else 0.
        pub err_code: u16,
        /// The member that does it; `none` on a single machine.
        pub location: String,
        /// Who asked for it.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub requestor: Option<Requestor>,
    }
}

impl Operation {
    /// Whether it has ended, well or badly.
    pub fn is_final(&self) -> bool {
        self.status_code >= 200
    }

    /// Whether it has ended well.
    pub fn is_success(&self) -> bool {
        self.status_code == 200
    }
}
