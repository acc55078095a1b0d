//! What a container shall be.

use crate::idmap::IdMap;
use crate::keys::KeyError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

/// A container to start: plain values, none of them looked up here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its name on this host, unique among all containers; letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// The directory that is its root.
    pub root: PathBuf,
    /// Whose ids its ids are; none only for a privileged one.
    pub idmap: Option<IdMap>,
    /// Whether the root holds the container's own ids and is mounted with mapped ids; otherwise it holds host
    /// ids.
    pub idmapped_root: bool,
    /// What is mounted in it.
    pub disks: Vec<DiskMount>,
    /// Variables of its init and of every command run in it.
    pub environment: BTreeMap<String, String>,
    /// What it may use.
    pub limits: Limits,
    /// Where its logs go: `lxc.log` and `console.log`.
    pub log_dir: PathBuf,
    /// What it calls itself.
    pub hostname: String,
    /// Whether its root is the host's root. Whoever is root in it can become root of the host.
    pub privileged: bool,
    /// Whether containers may run in it.
    pub nesting: bool,
}

/// A file or folder of the host, mounted in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskMount {
    /// The device's name, unique in its container.
    pub device: String,
    /// The file or folder on the host.
    pub source: PathBuf,
    /// Where it appears inside; made when it is not there.
    pub path: PathBuf,
    /// Whether it is a file, not a folder.
    pub file: bool,
    /// Whether nothing may be written through it.
    pub read_only: bool,
    /// Whether what is mounted below the source comes along.
    pub recursive: bool,
    /// Whether it holds the container's own ids and is mounted with mapped ids, where the container has a map.
    pub idmapped: bool,
}

/// What a container may use; nothing is limited by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processors.
    pub cpu: Option<CpuLimit>,
    /// Processes.
    pub processes: Option<u64>,
}

/// Which processors, or how many.
///
/// ```
/// use larder_runtime::CpuLimit;
/// assert_eq!("2".parse(), Ok(CpuLimit::Count(2)));
/// assert_eq!("0-2,5".parse(), Ok(CpuLimit::Set(vec![0, 1, 2, 5])));
/// assert!("2-1".parse::<CpuLimit>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuLimit {
    /// So many, whichever.
    Count(u32),
    /// These, by number, ascending.
    Set(Vec<u32>),
}

impl CpuLimit {
    /// The processors meant, out of those that are there. A count begins at a place that depends on `name`,
    /// so that containers spread over the machine.
    pub fn choose(&self, online: &[u32], name: &str) -> Vec<u32> {
        match self {
            Self::Set(set) => set.clone(),
            Self::Count(count) => {
                let count = usize::try_from(*count).unwrap_or(usize::MAX).min(online.len());
                let sum = name.bytes().fold(5381u32, |sum, byte| sum.wrapping_mul(33) ^ u32::from(byte));
                let first = usize::try_from(sum).unwrap_or(0) % online.len().max(1);
                let mut chosen: Vec<u32> = online.iter().copied().cycle().skip(first).take(count).collect();
                chosen.sort_unstable();
                chosen
            }
        }
    }
}

impl FromStr for CpuLimit {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if let Ok(count) = text.parse::<u32>() {
            let refuse = || KeyError::value("limits.cpu", text, "at least one processor is needed");
            return if count == 0 { Err(refuse()) } else { Ok(Self::Count(count)) };
        }
        cpu_list(text).map(Self::Set).ok_or_else(|| {
            KeyError::value("limits.cpu", text, "expected a number of processors, or a list such as 0-3,5")
        })
    }
}

/// Reads a list such as `0-3,5`.
pub(super) fn cpu_list(text: &str) -> Option<Vec<u32>> {
    const HIGHEST: u32 = 8191;
    let mut numbers = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > HIGHEST {
            return None;
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_takes_so_many_of_what_is_there_and_spreads() {
        let online: Vec<u32> = (0..8).collect();
        let chosen = CpuLimit::Count(3).choose(&online, "c1");
        assert_eq!(chosen.len(), 3);
        assert!(chosen.is_sorted() && chosen.iter().all(|cpu| online.contains(cpu)));
        assert_eq!(CpuLimit::Count(99).choose(&online, "c1"), online);
        assert!((0..20).any(|n| CpuLimit::Count(3).choose(&online, &n.to_string()) != chosen));
        assert!(CpuLimit::Count(1).choose(&[], "c1").is_empty());
    }

    #[test]
    fn lists_are_read_and_nonsense_is_refused() {
        assert_eq!(cpu_list("3,0-1\n"), Some(vec![0, 1, 3]));
        for bad in ["", "a", "1-", "3-1", "1,,2", "0-99999999"] {
            assert_eq!(cpu_list(bad), None, "{bad}");
        }
        assert!("0".parse::<CpuLimit>().is_err());
    }
}
