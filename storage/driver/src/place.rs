//! Where a driver keeps a volume.

use crate::VolumeId;
use larder_base::{KeptId, SnapshotName, Ticket};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a place promises.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Area {
    /// Complete, and known by its name.
    Live,
    /// Being built; swept when its ticket's run is over.
    Staging(Ticket),
    /// On its way out; swept when its ticket's run is over.
    Trash(Ticket),
    /// Kept out of sight on purpose; never swept, only destroyed by name.
    Kept(KeptId),
}

impl Area {
    /// The ticket of what may be swept.
    pub fn ticket(&self) -> Option<&Ticket> {
        match self {
            Self::Staging(ticket) | Self::Trash(ticket) => Some(ticket),
            Self::Live | Self::Kept(_) => None,
        }
    }
}

/// A volume, or one of its snapshots, in one of the areas. Only the driver spells it on disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// What the place promises.
    pub area: Area,
    /// The volume.
    pub volume: VolumeId,
    /// One of its snapshots, or the volume itself.
    pub snapshot: Option<SnapshotName>,
}

impl Place {
    /// A volume in an area.
    pub fn new(area: Area, volume: &VolumeId) -> Self {
        Self { area, volume: volume.clone(), snapshot: None }
    }

    /// A live volume.
    pub fn live(volume: &VolumeId) -> Self {
        Self::new(Area::Live, volume)
    }

    /// The same volume or snapshot in another area.
    #[must_use]
    pub fn within(&self, area: Area) -> Self {
        Self { area, ..self.clone() }
    }

    /// The same staged under `ticket`.
    #[must_use]
    pub fn staged(&self, ticket: &Ticket) -> Self {
        self.within(Area::Staging(ticket.clone()))
    }

    /// The same in the trash under `ticket`.
    #[must_use]
    pub fn trashed(&self, ticket: &Ticket) -> Self {
        self.within(Area::Trash(ticket.clone()))
    }

    /// A snapshot of this volume in the same area.
    #[must_use]
    pub fn at_snapshot(&self, snapshot: &SnapshotName) -> Self {
        Self { snapshot: Some(snapshot.clone()), ..self.clone() }
    }

    /// The volume itself, whatever snapshot this names.
    #[must_use]
    pub fn main(&self) -> Self {
        Self { snapshot: None, ..self.clone() }
    }

    /// Whether it is known by its name.
    pub fn is_live(&self) -> bool {
        self.area == Area::Live
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.area {
            Area::Live => {}
            Area::Staging(_) => formatter.write_str("staged ")?,
            Area::Trash(_) => formatter.write_str("trashed ")?,
            Area::Kept(_) => formatter.write_str("kept ")?,
        }
        write!(formatter, "{}", self.volume)?;
        match &self.snapshot {
            Some(snapshot) => write!(formatter, ", snapshot {snapshot}"),
            None => Ok(()),
        }
    }
}
