//! Which faults a run injects: all of them, or a share that another seed chooses otherwise, and how many it did.
//!
//! `LARDER_FAULT_SHARE` is the share in percent (100 when not set), `LARDER_FAULT_SEED` any text, such as the commit.
//! `LARDER_FAULT_SECONDS` is how long after its beginning a run begins a fault (for ever when not set): those that were due later
//! are left out, and counted as such.

use larder_base::host::Fault;
use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The faults that a run injects.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    percent: u64,
    seed: String,
    limit: Option<Duration>,
}

impl Share {
    /// As the environment says.
    pub(crate) fn of_this_run() -> Result<Self, String> {
        let share = number_in("LARDER_FAULT_SHARE", "a percentage from 0 to 100", |percent| percent <= 100)?;
        Ok(Self {
            percent: share.unwrap_or(100),
            seed: std::env::var("LARDER_FAULT_SEED").unwrap_or_default(),
            limit: number_in("LARDER_FAULT_SECONDS", "a number of seconds", |_| true)?
                .map(Duration::from_secs),
        })
    }

    /// Whether a fault of `story` is among them.
    pub(crate) fn has(&self, story: &str, fault: &Fault) -> bool {
        let text = format!("{}/{story}/{}/{:?}", self.seed, fault.step, fault.mode);
        mixed(&text) % 100 < self.percent
    }

    /// Whether there is time left for another fault.
    pub(crate) fn has_time(&self) -> bool {
        self.limit.is_none_or(|limit| BEGAN.elapsed() < limit)
    }

    /// Where a run begins that may not come to the end of so many stories: elsewhere with another seed.
    pub(crate) fn first_of(&self, stories: usize) -> usize {
        let stories = u64::try_from(stories.max(1)).unwrap_or(u64::MAX);
        let first = self.limit.map_or(0, |_| mixed(&self.seed) % stories);
        usize::try_from(first).unwrap_or_default()
    }
}

/// When the run began: at its first look.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Begins to count the time of a run.
pub(crate) fn begin() {
    LazyLock::force(&BEGAN);
}

/// A number in the environment; fails with what would be right.
fn number_in(variable: &str, wanted: &str, is_right: fn(u64) -> bool) -> Result<Option<u64>, String> {
    let Ok(text) = std::env::var(variable) else { return Ok(None) };
    match text.parse().ok().filter(|number| is_right(*number)) {
        Some(number) => Ok(Some(number)),
        None => Err(format!("invalid {variable} {text:?}: give {wanted}")),
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

/// What a run did of the faults that it chose.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) injected: usize,
    /// For want of time.
    pub(crate) left_out: usize,
}

static TALLIES: Mutex<BTreeMap<String, Tally>> = Mutex::new(BTreeMap::new());

/// Counts faults that were injected in a lab.
pub(crate) fn injected(lab: &str, faults: usize) {
    note(lab, |tally| tally.injected += faults);
}

/// Counts faults of a lab that were left out.
pub(crate) fn left_out(lab: &str, faults: usize) {
    note(lab, |tally| tally.left_out += faults);
}

fn note(lab: &str, change: impl FnOnce(&mut Tally)) {
    change(TALLIES.lock().unwrap_or_else(PoisonError::into_inner).entry(lab.to_owned()).or_default());
}

/// What was done of a lab's faults so far.
pub(crate) fn tally(lab: &str) -> Tally {
    TALLIES.lock().unwrap_or_else(PoisonError::into_inner).get(lab).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_base::host::FaultMode;

    fn share(percent: u64, seed: &str, limit: Option<Duration>) -> Share {
        Share { percent, seed: seed.to_owned(), limit }
    }

    #[test]
    fn a_run_with_little_time_begins_elsewhere_each_time_and_one_with_all_time_at_the_beginning() {
        let firsts = |limit| -> std::collections::BTreeSet<usize> {
            (0..50).map(|seed| share(10, &seed.to_string(), limit).first_of(40)).collect()
        };
        assert_eq!(firsts(None), [0].into());
        let firsts = firsts(Some(Duration::from_secs(60)));
        assert!(firsts.len() > 20 && firsts.iter().all(|first| *first < 40), "{firsts:?}");
        assert!(share(10, "", None).has_time());
        assert!(!share(10, "", Some(Duration::ZERO)).has_time());
        assert_eq!(share(10, "", Some(Duration::ZERO)).first_of(0), 0);
    }

    #[test]
    fn a_share_is_as_large_as_it_says_and_changes_with_the_seed() {
        let faults = |percent, seed: &str| -> Vec<usize> {
            let share = share(percent, seed, None);
            let fault = |step| Fault { step, mode: FaultMode::Refuse };
            (0..2000).filter(|step| share.has("story", &fault(*step))).collect()
        };
        assert_eq!(faults(100, "a").len(), 2000);
        assert_eq!(faults(0, "a"), Vec::<usize>::new());
        assert!((120..280).contains(&faults(10, "a").len()), "{}", faults(10, "a").len());
        assert_ne!(faults(10, "a"), faults(10, "b"));
    }
}
