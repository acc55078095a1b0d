//! Pools of volumes. Start at [`Pool`]; a technology implements
//! [`Driver`](larder_storage_driver::Driver).
//!
//! The sentence this crate keeps: *a live name always means a complete volume; whatever a failure leaves behind
//! is under a staging or trash name carrying our ticket, and the next [`Pool::recover`] removes it.*
//!
//! What is new is built in staging and renamed into place; what goes is renamed into the trash and then
//! destroyed; what changes in place carries an [`Intent`] that its caller has written down before. `Pool` never
//! sees documents: it is told ids and says what it found.

mod attachments;
mod backup;
mod bucket_snapshots;
mod content;
mod copy;
mod create;
mod device_member;
mod intent;
mod locks;
mod mirror;
mod moves;
mod objects;
mod pool;
mod recover;
mod refresh;
mod resize;
mod restore;
mod snapshot;
mod stream;
mod undo;

pub use backup::{BackupMember, ExportPlan, PartsPlan};
pub use bucket_snapshots::PassingKeys;
pub use copy::{CopyPlan, CopySource};
pub use create::{EmptyFill, Fill};
pub use intent::Intent;
pub use locks::{LockMode, Locks};
pub use pool::{Pool, Standing};
pub use recover::{Recovered, Running, Settled};
pub use refresh::{Exchange, RefreshPlan, RefreshedSnapshot};
