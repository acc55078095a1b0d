//! Which host ids a container's ids are.

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

/// No map can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdMapError {
    /// A line of `/etc/subuid` or `/etc/subgid` is not `name:first:count`.
    #[error("{file}, line {line}: expected `name:first:count`, got {text:?}")]
    Line {
        /// The file.
        file: &'static str,
        /// The line's number, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// The range that root may use is too small for a system.
    #[error(
        "{file} gives root {size} ids, at least 65536 are needed: add the line `root:1000000:1000000000`"
    )]
    TooSmall {
        /// The file.
        file: &'static str,
        /// How many ids it gives.
        size: u32,
    },
    /// A file could not be read.
    #[error("read {file}")]
    Read {
        /// The file.
        file: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A row of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdRange {
    /// The first id inside.
    pub container: u32,
    /// The host id that it is.
    pub host: u32,
    /// How many.
    pub size: u32,
}

impl IdRange {
    fn to_host(self, container: u32) -> Option<u32> {
        let offset = container.checked_sub(self.container).filter(|offset| *offset < self.size)?;
        self.host.checked_add(offset)
    }

    fn to_container(self, host: u32) -> Option<u32> {
        let offset = host.checked_sub(self.host).filter(|offset| *offset < self.size)?;
        self.container.checked_add(offset)
    }
}

/// Which host ids a container's user and group ids are.
///
/// ```
/// use larder_runtime::IdMap;
/// let map = IdMap::simple(100_000, 65_536);
/// assert_eq!(map.host_user(33), Some(100_033));
/// assert_eq!(map.container_user(100_033), Some(33));
/// assert_eq!(map.host_user(65_536), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdMap {
    /// User ids.
    pub users: Vec<IdRange>,
    /// Group ids.
    pub groups: Vec<IdRange>,
}

const SUBUID: &str = "/etc/subuid";
const SUBGID: &str = "/etc/subgid";
const FALLBACK: IdRange = IdRange { container: 0, host: 1_000_000, size: 1_000_000_000 };
const SMALLEST: u32 = 65_536;

impl IdMap {
    /// The map `0..size` → `host..host + size` for users and groups.
    pub fn simple(host: u32, size: u32) -> Self {
        let range = IdRange { container: 0, host, size };
        Self { users: vec![range], groups: vec![range] }
    }

    /// The map that this machine gives root: the largest range of root in `/etc/subuid` and `/etc/subgid`, or
    /// a thousand million ids from one million on where root has none.
    pub fn of_this_machine() -> Result<Self, IdMapError> {
        Self::from_texts(&read(SUBUID)?, &read(SUBGID)?)
    }

    /// The same from the texts of the two files.
    pub fn from_texts(subuid: &str, subgid: &str) -> Result<Self, IdMapError> {
        Ok(Self { users: vec![range_of_root(SUBUID, subuid)?], groups: vec![range_of_root(SUBGID, subgid)?] })
    }

    /// As much of the map, from its first id on, as has no id that is one inside and one outside. None when that is too
    /// little for a system.
    pub fn apart(&self) -> Option<Self> {
        let apart = |ranges: &[IdRange]| -> Vec<IdRange> {
            let most = |range: &IdRange| range.host.saturating_sub(range.container).min(range.size);
            ranges.iter().take(1).map(|range| IdRange { size: most(range), ..*range }).collect()
        };
        let map = Self { users: apart(&self.users), groups: apart(&self.groups) };
        let is_enough = |ranges: &[IdRange]| ranges.iter().any(|range| range.size >= SMALLEST);
        (is_enough(&map.users) && is_enough(&map.groups)).then_some(map)
    }

    /// Whether no id is one inside and one outside.
    pub fn is_apart(&self) -> bool {
        let end = |first: u32, size: u32| u64::from(first) + u64::from(size);
        let meet = |one: &IdRange, other: &IdRange| {
            u64::from(one.container) < end(other.host, other.size)
                && u64::from(other.host) < end(one.container, one.size)
        };
        [&self.users, &self.groups]
            .into_iter()
            .all(|ranges| !ranges.iter().any(|one| ranges.iter().any(|other| meet(one, other))))
    }

    /// The host id of a user inside.
    pub fn host_user(&self, container: u32) -> Option<u32> {
        self.users.iter().find_map(|range| range.to_host(container))
    }

    /// The host id of a group inside.
    pub fn host_group(&self, container: u32) -> Option<u32> {
        self.groups.iter().find_map(|range| range.to_host(container))
    }

    /// The user inside that a host id is.
    pub fn container_user(&self, host: u32) -> Option<u32> {
        self.users.iter().find_map(|range| range.to_container(host))
    }

    /// The group inside that a host id is.
    pub fn container_group(&self, host: u32) -> Option<u32> {
        self.groups.iter().find_map(|range| range.to_container(host))
    }
}

fn read(file: &'static str) -> Result<String, IdMapError> {
    match fs::read_to_string(Path::new(file)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(|source| IdMapError::Read { file, source }),
    }
}

fn range_of_root(file: &'static str, text: &str) -> Result<IdRange, IdMapError> {
    let mut largest: Option<IdRange> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let refuse = || IdMapError::Line { file, line: index + 1, text: line.to_owned() };
        let mut fields = line.split(':');
        let (Some(name), Some(first), Some(count), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(refuse());
        };
        if name != "root" && name != "0" {
            continue;
        }
        let first: u32 = first.parse().map_err(|_| refuse())?;
        let count: u32 = count.parse().map_err(|_| refuse())?;
        // The last id, 4294967295, means "nobody at all" to the kernel.
        if first == 0 || first.checked_add(count).is_none() {
            return Err(refuse());
        }
        if largest.is_none_or(|range| range.size < count) {
            largest = Some(IdRange { container: 0, host: first, size: count });
        }
    }
    match largest {
        Some(range) if range.size < SMALLEST => Err(IdMapError::TooSmall { file, size: range.size }),
        Some(range) => Ok(range),
        None => Ok(FALLBACK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_range_of_root_is_taken() {
        let text = "# comment\n\nuser:1:70000\nroot:100000:65536\nroot:1000000:2000000\n";
        let map = IdMap::from_texts(text, "0:5000:65536").unwrap();
        assert_eq!(map.users, [IdRange { container: 0, host: 1_000_000, size: 2_000_000 }]);
        assert_eq!(map.groups, [IdRange { container: 0, host: 5000, size: 65_536 }]);
    }

    #[test]
    fn without_an_entry_root_gets_the_fallback() {
        assert_eq!(IdMap::from_texts("user:1:2", "").unwrap(), IdMap::simple(1_000_000, 1_000_000_000));
    }

    #[test]
    fn what_is_no_range_is_refused_with_its_line() {
        for (text, line) in
            [("root:1", 1), ("\nroot:x:65536", 2), ("root:4294967295:65536", 1), ("a:b:c:d", 1)]
        {
            match IdMap::from_texts(text, "") {
                Err(IdMapError::Line { line: found, .. }) => assert_eq!(found, line, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(
            matches!(IdMap::from_texts("root:0:65536", ""), Err(IdMapError::Line { .. })),
            "host root itself"
        );
        assert!(matches!(IdMap::from_texts("root:5:10", ""), Err(IdMapError::TooSmall { size: 10, .. })));
    }

    #[test]
    fn the_part_that_is_apart_has_no_id_twice() {
        let map = IdMap::simple(100_000, 10_000_001);
        assert!(!map.is_apart());
        let apart = map.apart().unwrap();
        assert_eq!(apart, IdMap::simple(100_000, 100_000));
        assert!(apart.is_apart());
        assert!(IdMap::simple(1_000_000, 65_536).is_apart());
        assert_eq!(IdMap::simple(5000, 70_000).apart(), None, "too little is left");
    }

    proptest! {
        #[test]
        fn mapping_and_back_is_the_identity(host in 1u32..2_000_000_000, size in 1u32..1_000_000, id: u32) {
            let map = IdMap::simple(host, size);
            match map.host_user(id) {
                Some(outside) => prop_assert_eq!(map.container_user(outside), Some(id)),
                None => prop_assert!(id >= size),
            }
        }
    }
}
