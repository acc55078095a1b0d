//! Ids of documents: immutable, one type a kind.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

macro_rules! id_type {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(Uuid);

        impl $type {
            /// An id that nothing bears yet.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// The id as it is stored.
            pub fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $type {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}", self.0)
            }
        }
    };
}

id_type!(
    /// A storage pool's id.
    PoolId
);
id_type!(
    /// A volume's id.
    VolumeId
);
id_type!(
    /// A volume snapshot's id.
    SnapshotId
);
id_type!(
    /// An instance's id.
    InstanceId
);
id_type!(
    /// An instance snapshot's id.
    InstanceSnapshotId
);
id_type!(
    /// A profile's id.
    ProfileId
);
id_type!(
    /// A storage account's id.
    AccountId
);
