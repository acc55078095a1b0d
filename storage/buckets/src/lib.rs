//! Buckets of objects in a directory: durable, listed from an index, rebuilt from the objects themselves.
//!
//! [`Bucket`] is the whole of it. Objects lie in files named by an id, never by their key; an index beside them is written
//! last. What a call acknowledged is on stable storage. Nothing here knows of HTTP, users or policies: settings and access
//! control lists are text that the layer above spells.

mod bucket;
mod content;
mod delete;
mod epoch;
mod error;
mod header;
mod incoming;
mod layout;
mod listing;
mod multipart;
mod readers;
mod rebuild;
mod record;
mod recovery;
mod room;
mod rows;
mod schema;
mod scrub;
mod writer;

pub use bucket::{Bucket, MAX_KEY, Put, Usage};
pub use content::Content;
pub use delete::{Delete, Deleted};
pub use error::{BucketError, Result};
pub use incoming::{Incoming, SMALL, Staged};
pub use listing::{Entry, Listed, Page, Query};
pub use multipart::{Complete, MIN_PART, Upload, UploadedPart};
pub use rebuild::{Rebuilt, rebuild};
pub use record::{
    Carrier, Checksum, EtagMatch, Home, NULL_VERSION, Part, Precondition, Record, Retention, RetentionMode,
    Version, Versioning,
};
pub use scrub::{Damage, Scrubbed};
pub use writer::WriteStop;
