//! Counts what a tool makes, from the names it lists, so that an archive of ten million empty files is stopped.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// Counts files and directories, those among them that no member names but that members lie in.
#[derive(Debug, Default)]
pub(super) struct Listing {
    hasher: RandomState,
    directories: HashSet<u64>,
    made: u64,
}

impl Listing {
    /// Takes one listed name (a directory's may end in `/`) and tells how many were made up to now.
    pub(super) fn add(&mut self, line: &[u8]) -> u64 {
        let is_directory = line.ends_with(b"/");
        let name = line.strip_suffix(b"/").unwrap_or(line);
        for (at, _) in name.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at > 0) {
            self.add_directory(&name[..at]);
        }
        if is_directory {
            self.add_directory(name);
        } else {
            self.made += 1;
        }
        self.made
    }

    fn add_directory(&mut self, path: &[u8]) {
        if self.directories.insert(self.hasher.hash_one(path)) {
            self.made += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_count_once_whether_listed_or_implied() {
        let mut listing = Listing::default();
        assert_eq!(listing.add(b"rootfs/"), 1);
        assert_eq!(listing.add(b"rootfs/etc/hostname"), 3);
        assert_eq!(listing.add(b"rootfs/etc/"), 3);
        assert_eq!(listing.add(b"rootfs/etc/hosts"), 4);
        assert_eq!(listing.add(b"rootfs/a/b/c/d"), 8);
    }
}
