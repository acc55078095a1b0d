//! Warnings.

use jiff::Timestamp;

wire! {
    /// Something a person should know.
    pub struct Warning {
        /// `new`, `acknowledged` or `resolved`.
        pub status: String,
        /// Its UUID.
        pub uuid: String,
        /// The member it is about; `none` on a single machine.
        pub location: String,
        /// The project it is about, or empty.
        pub project: String,
        /// What kind of trouble, in words.
        #[serde(rename = "type")]
        pub kind: String,
        /// How often it came.
        pub count: u64,
        /// When it came first.
        pub first_seen_at: Timestamp,
        /// When it came last.
        pub last_seen_at: Timestamp,
        /// What was said last.
        pub last_message: String,
        /// `low`, `moderate` or `high`.
        pub severity: String,
        /// URL of what it is about, or empty.
        pub entity_url: String,
    }

    /// What can be changed of a warning.
    pub struct WarningPut {
        /// `new` or `acknowledged`.
        pub status: String,
    }
}
