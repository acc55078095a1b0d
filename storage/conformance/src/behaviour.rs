//! What a driver does under a pool, and what it refuses before the first change.

/// Behaviours by their functions' names.
macro_rules! trials {
    ($($trial:ident),* $(,)?) => { &[$((stringify!($trial), $trial)),*] };
}

mod copies;
mod disks;
mod pools;
mod random;
mod snapshots;
mod volumes;

use crate::{Behaviour, Lab, Outcome, World};
use larder_base::SnapshotName;
use larder_base::host::SystemHost;
use larder_storage_driver::{CloneKind, ErrorKind, Restore, Result, Shrink, Trees, VolumeId};

/// The trials that apply to a lab.
pub(crate) fn trials(lab: &dyn Lab) -> Vec<Behaviour> {
    let can = lab.capabilities();
    let mut trials =
        [volumes::TRIALS, snapshots::TRIALS, copies::TRIALS, disks::TRIALS, pools::TRIALS, random::TRIALS]
            .concat();
    trials.extend(match can.restore {
        Restore::InPlaceNewest => snapshots::NEWEST_ONLY,
        Restore::InPlace | Restore::Exchange => snapshots::WITH_OLDER,
    });
    match (can.clone, can.trees) {
        (CloneKind::None, Trees::Together) => trials.extend(copies::BESIDE),
        (CloneKind::None, Trees::Apart) => {}
        (CloneKind::Independent | CloneKind::Dependent, _) => trials.extend(copies::CLONES),
    }
    if can.shrink == Shrink::No {
        trials.extend(disks::GROWING_ONLY);
    }
    trials
}

fn snapshot_name(text: &str) -> Result<SnapshotName> {
    Ok(text.parse()?)
}

fn fails<T: std::fmt::Debug>(outcome: Result<T>, kind: ErrorKind, what: &str) -> Outcome {
    match outcome {
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => {
            Err(format!("{what}: {:?} instead of {kind:?}: {}", error.kind(), error.chain()).into())
        }
        Ok(value) => Err(format!("{what}: should have failed with {kind:?}, gave {value:?}").into()),
    }
}

fn with_two_snapshots(world: &World, volume: &VolumeId) -> Result<()> {
    world.make(volume, "older")?;
    world.snapshot(&world.cx(&SystemHost), volume, &snapshot_name("older")?)?;
    world.write(volume, "newer")?;
    world.snapshot(&world.cx(&SystemHost), volume, &snapshot_name("newer")?)?;
    world.write(volume, "now")
}
