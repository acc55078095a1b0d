//! The files in which the kernel tells of the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The files below a root; a test makes a machine of its own there.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    pub(super) fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where `path` is, given without a leading slash.
    pub(super) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    pub(super) fn has(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// What stands in a file, without the space around it; nothing when it can't be read.
    pub(super) fn text(&self, path: impl AsRef<Path>) -> String {
        let bytes = fs::read(self.path(path)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }

    /// The number in a file; `None` when there is none, or one that does not fit, such as the -1 for "not known".
    pub(super) fn number<T: FromStr>(&self, path: impl AsRef<Path>) -> Option<T> {
        self.text(path).parse().ok()
    }

    /// What is in a folder, sorted.
    pub(super) fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The last part of where a link leads.
    pub(super) fn link(&self, path: impl AsRef<Path>) -> Option<String> {
        Some(fs::read_link(self.path(path)).ok()?.file_name()?.to_str()?.to_owned())
    }
}

/// How many there are.
pub(super) fn count(items: impl IntoIterator) -> u64 {
    items.into_iter().fold(0, |count, _| count + 1)
}

/// A machine with these files. A text that begins with `-> ` makes a link.
#[cfg(test)]
pub(super) fn made(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
    let folder = tempfile::tempdir().unwrap();
    let machine = Tree::below(folder.path());
    for (path, text) in files {
        let path = machine.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("-> ") {
            Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
            None => fs::write(path, text).unwrap(),
        }
    }
    (folder, machine)
}
