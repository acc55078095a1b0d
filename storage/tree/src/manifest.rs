//! A full listing of a tree, to tell whether two are the same. Written without the copier's code, so that it can prove it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// One file of a tree, of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `file`, `directory`, `symlink`, `block device`, `character device`, `fifo` or `socket`.
    pub kind: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Size in bytes; 0 for what is neither file nor link.
    pub size: u64,
    /// Time of the last change of the content, in nanoseconds; 0 for directories when left out.
    pub modified: i128,
    /// Major and minor number of a device, as one.
    pub device: u64,
    /// What a link points to.
    pub target: PathBuf,
    /// A hash of the content.
    pub content: u64,
    /// The first name of the same file, for one that has several.
    pub same_as: Option<PathBuf>,
    /// Extended attributes.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Everything in a tree by its path; the root is the empty path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest(pub BTreeMap<PathBuf, Entry>);

impl Manifest {
    /// The differences to `other`, a line each; empty when there are none.
    pub fn difference(&self, other: &Self) -> String {
        let mut text = String::new();
        for (path, entry) in &self.0 {
            let _ = match other.0.get(path) {
                None => writeln!(text, "only here: {}", path.display()),
                Some(there) if there != entry => {
                    writeln!(text, "{}: {entry:?}\n  there: {there:?}", path.display())
                }
                Some(_) => Ok(()),
            };
        }
        for path in other.0.keys().filter(|path| !self.0.contains_key(*path)) {
            let _ = writeln!(text, "only there: {}", path.display());
        }
        text
    }
}

/// Lists a tree.
pub fn manifest(root: &Path) -> io::Result<Manifest> {
    let mut entries = BTreeMap::new();
    let mut first_names = BTreeMap::new();
    walk(root, Path::new(""), &mut entries, &mut first_names)?;
    Ok(Manifest(entries))
}

fn walk(
    root: &Path,
    path: &Path,
    entries: &mut BTreeMap<PathBuf, Entry>,
    first_names: &mut BTreeMap<u64, PathBuf>,
) -> io::Result<()> {
    let full = root.join(path);
    let metadata = fs::symlink_metadata(&full)?;
    let same_as = match metadata.is_dir() || metadata.nlink() == 1 {
        true => None,
        false => Some(first_names.entry(metadata.ino()).or_insert_with(|| path.to_owned()).clone()),
    };
    entries.insert(path.to_owned(), entry(&full, &metadata, same_as)?);
    if metadata.is_dir() {
        let mut names: Vec<_> = fs::read_dir(&full)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<_, _>>()?;
        names.sort();
        for name in names {
            walk(root, &path.join(name), entries, first_names)?;
        }
    }
    Ok(())
}

fn entry(path: &Path, metadata: &fs::Metadata, same_as: Option<PathBuf>) -> io::Result<Entry> {
    let kind = metadata.file_type();
    let kind = match () {
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "symlink",
        () if kind.is_block_device() => "block device",
        () if kind.is_char_device() => "character device",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () => "file",
    };
    Ok(Entry {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        size: if matches!(kind, "file" | "symlink") { metadata.len() } else { 0 },
        modified: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
        device: if kind.ends_with("device") { metadata.rdev() } else { 0 },
        target: if kind == "symlink" { fs::read_link(path)? } else { PathBuf::new() },
        content: if kind == "file" { hash(path)? } else { 0 },
        same_as,
        attributes: attributes(path)?,
    })
}

fn hash(path: &Path) -> io::Result<u64> {
    let mut file = fs::File::open(path)?;
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        // Whole buffers, so that the hash does not depend on how the bytes come.
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read(&mut buffer[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        if filled == 0 {
            return Ok(hasher.finish());
        }
        hasher.write(&buffer[..filled]);
    }
}

fn attributes(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut list = vec![0; 64 << 10];
    let length = match rustix::fs::llistxattr(path, &mut list) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = BTreeMap::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, &mut value)?;
        value.truncate(length);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}
