//! What every other part of Larder is written in terms of: checked names, sizes with units,
//! fingerprints, signatures, time, progress, cancellation, threads that share work, and the [`host`] seam
//! through which commands and changing system calls pass.
//!
//! Nothing here decides anything: no policy, no knowledge of pools, images or HTTP.

pub mod cancel;
pub mod clock;
pub mod crew;
pub mod fingerprint;
pub mod host;
pub mod name;
pub mod progress;
pub mod signature;
pub mod size;
pub mod ticket;

pub use cancel::{Cancel, Cancelled};
pub use clock::{Clock, ManualClock, SystemClock};
pub use crew::Crew;
pub use fingerprint::Fingerprint;
pub use name::{InstanceName, NameError, PoolName, ProjectName, SnapshotName, VolumeName};
pub use progress::{Progress, ProgressReport, Unit};
pub use size::ByteSize;
pub use ticket::{KeptId, Ticket};
