//! Which faults a run injects: all of them, or a share that another seed chooses otherwise, and how many it did.
//!
//! `LARDER_FAULT_SHARE` is the share in percent (100 when not set), `LARDER_FAULT_SEED` any text, such as the commit.

use larder_base::host::Fault;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The faults that a run injects.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    percent: u64,
    seed: String,
}

impl Share {
    /// As the environment says.
    pub(crate) fn of_this_run() -> Result<Self, String> {
        let percent = match std::env::var("LARDER_FAULT_SHARE") {
            Err(_) => 100,
            Ok(text) => {
                let wanted =
                    || format!("invalid LARDER_FAULT_SHARE {text:?}: give a percentage from 0 to 100");
                text.parse().ok().filter(|percent| *percent <= 100).ok_or_else(wanted)?
            }
        };
        Ok(Self { percent, seed: std::env::var("LARDER_FAULT_SEED").unwrap_or_default() })
    }

    /// Whether a fault of `story` is among them.
    pub(crate) fn has(&self, story: &str, fault: &Fault) -> bool {
        let text = format!("{}/{story}/{}/{:?}", self.seed, fault.step, fault.mode);
        mixed(&text) % 100 < self.percent
    }
}

/// A number for a text: FNV-1a, then mixed, since texts that differ in one digit shall not fall together.
pub(crate) fn mixed(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd) >> 32
}

/// The share of this run in percent, if it is a share.
pub(crate) fn percent() -> Option<u64> {
    Share::of_this_run().ok().map(|share| share.percent)
}

static INJECTED: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

/// Counts faults that were injected.
pub(crate) fn count(lab: &str, faults: usize) {
    *INJECTED.lock().unwrap_or_else(PoisonError::into_inner).entry(lab.to_owned()).or_default() += faults;
}

/// How many faults were injected in a lab so far.
pub(crate) fn injected(lab: &str) -> usize {
    INJECTED.lock().unwrap_or_else(PoisonError::into_inner).get(lab).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_base::host::FaultMode;

    #[test]
    fn a_share_is_as_large_as_it_says_and_changes_with_the_seed() {
        let faults = |percent, seed: &str| -> Vec<usize> {
            let share = Share { percent, seed: seed.to_owned() };
            let fault = |step| Fault { step, mode: FaultMode::Refuse };
            (0..2000).filter(|step| share.has("story", &fault(*step))).collect()
        };
        assert_eq!(faults(100, "a").len(), 2000);
        assert_eq!(faults(0, "a"), Vec::<usize>::new());
        assert!((120..280).contains(&faults(10, "a").len()), "{}", faults(10, "a").len());
        assert_ne!(faults(10, "a"), faults(10, "b"));
    }
}
