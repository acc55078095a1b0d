//! What was being done, for the next start to finish.

use crate::refresh::Exchange;
use larder_base::{ByteSize, SnapshotName};
use larder_storage_driver::{Place, VolumeId};
use serde::{Deserialize, Serialize};

/// A change of several steps. The caller writes it down before the first step and forgets it in the same
/// transaction that records the outcome; [`Pool::recover`](crate::Pool::recover) is given those that are left.
///
/// What is only *built* (create, copy, import) needs none: it stays in staging until its last step. With
/// [`Intent::Publish`] that last step can be promised before it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum Intent {
    /// A volume or snapshot moves: a rename, into the trash, into or out of keeping. Finished forward, unless the
    /// new name is taken.
    Move {
        /// Where it was.
        from: Place,
        /// Where it goes.
        to: Place,
    },
    /// A staged volume, whole, is published. Finished forward as long as it is still in staging.
    Publish {
        /// Where it was built.
        staged: Place,
    },
    /// A native snapshot is made. Whole or not at all.
    Snapshot {
        /// Of which volume.
        volume: VolumeId,
        /// Its name.
        snapshot: SnapshotName,
    },
    /// A volume goes back to a snapshot. Finished forward.
    Restore {
        /// Which volume.
        volume: VolumeId,
        /// To which of its snapshots.
        snapshot: SnapshotName,
    },
    /// A volume gets another size. Finished forward.
    Resize {
        /// Which volume.
        volume: VolumeId,
        /// The new size; `None` lifts the limit.
        size: Option<ByteSize>,
    },
    /// A copy is brought up to date. What is built beside it takes its place, finished forward once that is whole.
    Refresh(Exchange),
}

impl Intent {
    /// The volumes that change.
    pub(crate) fn volumes(&self) -> impl Iterator<Item = &VolumeId> {
        let (one, other) = match self {
            Self::Move { from, to } => (&from.volume, Some(&to.volume)),
            Self::Publish { staged } => (&staged.volume, None),
            Self::Snapshot { volume, .. } | Self::Restore { volume, .. } | Self::Resize { volume, .. } => {
                (volume, None)
            }
            Self::Refresh(exchange) => (exchange.volume(), None),
        };
        std::iter::once(one).chain(other)
    }

    /// What nobody may use meanwhile.
    pub fn wants_unused(&self) -> Option<Place> {
        match self {
            Self::Move { from, .. } => Some(from.clone()),
            Self::Restore { volume, .. } => Some(Place::live(volume)),
            Self::Resize { volume, .. } if volume.has_disk() => Some(Place::live(volume)),
            Self::Refresh(exchange) => Some(Place::live(exchange.volume())),
            Self::Publish { .. } | Self::Snapshot { .. } | Self::Resize { .. } => None,
        }
    }
}
