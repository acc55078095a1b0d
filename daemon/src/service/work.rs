//! One piece of work: who asked, whose ticket, how to report, and what the next start must know.

use larder_base::{Cancel, Progress, Ticket};
use larder_catalog::InstanceId;
use larder_catalog::documents::{InstanceSnapshot, Snapshot};
use larder_storage_pool::Intent;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use uuid::Uuid;

/// Who asked, for the event that tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requestor {
    /// The user's name or the certificate's.
    pub username: String,
    /// `unix` or `tls`.
    pub protocol: String,
    /// Where from.
    pub address: String,
}

/// One piece of work, long or short.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its own id: the operation's, where there is one.
    pub id: Uuid,
    /// Who asked.
    pub requestor: Requestor,
    /// Where it reports.
    pub progress: Progress,
    /// Whether it shall stop.
    pub cancel: Cancel,
    /// Gone with the last copy of the task.
    presence: Arc<()>,
}

impl Task {
    /// Work under the id of its operation.
    pub fn new(id: Uuid, requestor: Requestor, progress: Progress, cancel: Cancel) -> Self {
        Self { id, requestor, progress, cancel, presence: Arc::default() }
    }

    /// Work that nobody watches and nobody can stop.
    pub fn quiet(requestor: Requestor) -> Self {
        Self::new(Uuid::new_v4(), requestor, Progress::silent(), Cancel::never())
    }

    /// Work of our own until it is asked to stop.
    pub(super) fn until(cancel: Cancel) -> Self {
        Self { cancel, ..Self::quiet(Requestor::default()) }
    }
}

/// Which tasks of this run that had a ticket still go on.
#[derive(Debug, Default)]
pub(super) struct AtWork {
    tasks: Mutex<HashMap<Ticket, Weak<()>>>,
}

impl AtWork {
    /// Notes that a task works under a ticket, until it is dropped.
    pub(super) fn note(&self, ticket: Ticket, task: &Task) {
        let mut tasks = self.tasks.lock();
        if tasks.len() == tasks.capacity() {
            tasks.retain(|_, presence| presence.strong_count() > 0);
        }
        tasks.insert(ticket, Arc::downgrade(&task.presence));
    }

    /// Whether a task works under a ticket.
    pub(super) fn has(&self, ticket: &Ticket) -> bool {
        self.tasks.lock().get(ticket).is_some_and(|presence| presence.strong_count() > 0)
    }
}

/// This daemon among others, and this run of it.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The member's name; `none` on a single machine.
    pub member: String,
    /// This run.
    pub boot: Uuid,
}

impl Identity {
    /// A new run of a daemon on its own.
    pub fn alone() -> Self {
        Self { member: "none".to_owned(), boot: Uuid::new_v4() }
    }

    /// The ticket of some work of this run.
    pub fn ticket(&self, work: Uuid) -> Ticket {
        Ticket::new(&self.member, self.boot, work)
    }
}

/// What an intent document holds: what the pool must finish, and what the catalog must say then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// For [`Pool::recover`](larder_storage_pool::Pool::recover).
    pub(crate) storage: Intent,
    /// For the catalog, once that is finished.
    pub(crate) then: Then,
}

/// What the catalog must say once the pool has finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "then", rename_all = "snake_case")]
pub(crate) enum Then {
    /// The volume has this name and project.
    VolumeIsNamed { project: String, name: String },
    /// The volume is gone.
    VolumeIsGone,
    /// The snapshot of this id has this name.
    SnapshotIsNamed { snapshot: Uuid, name: String },
    /// The snapshot of this id is gone.
    SnapshotIsGone { snapshot: Uuid },
    /// The snapshot of this id is there, if the pool has it, and with it that of the instance whose root it is of.
    SnapshotIsMade {
        snapshot: Uuid,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of_instance: Option<Box<InstanceSnapshot>>,
    },
    /// The volume that was being created is there, if the pool has it.
    VolumeIsMade,
    /// The volume is as it shall be.
    VolumeIsReady,
    /// The volume is as it shall be, and the instance whose root it is has the settings of its snapshot of this id.
    InstanceIsRestored { instance: InstanceId, snapshot: Uuid },
    /// The volume has this size and these snapshots more and less, if the pool has done it.
    VolumeIsRefreshed { size: Option<String>, new: Vec<Snapshot>, gone: Vec<Snapshot> },
}
