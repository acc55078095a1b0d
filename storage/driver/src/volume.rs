//! What a volume is.

use crate::Config;
use larder_base::{ByteSize, ProjectName, VolumeName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a volume is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeKind {
    /// The root of a container.
    Container,
    /// The root of a virtual machine: a small filesystem for its configuration, and its disk.
    VirtualMachine,
    /// An unpacked image, from which roots are cloned. Its name is the fingerprint.
    Image,
    /// Made by a user.
    Custom,
    /// Holds the objects of an S3 bucket.
    Bucket,
}

impl VolumeKind {
    /// All kinds, in the order of their names on the wire.
    pub const ALL: [Self; 5] =
        [Self::Bucket, Self::Container, Self::Custom, Self::Image, Self::VirtualMachine];

    /// The name on the wire and in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::VirtualMachine => "virtual-machine",
            Self::Image => "image",
            Self::Custom => "custom",
            Self::Bucket => "bucket",
        }
    }
}

impl fmt::Display for VolumeKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for VolumeKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            format!(
                "unknown volume type {text:?}: it is one of container, virtual-machine, image, custom, bucket"
            )
        })
    }
}

/// What a volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// A tree of files.
    Filesystem,
    /// A disk. A [`VolumeKind::VirtualMachine`] and a virtual machine's image also have a small filesystem.
    Block,
    /// A read-only disk image of a CD or DVD.
    Iso,
}

impl Content {
    /// The name on the wire and in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filesystem => "filesystem",
            Self::Block => "block",
            Self::Iso => "iso",
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Content {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Filesystem, Self::Block, Self::Iso]
            .into_iter()
            .find(|content| content.as_str() == text)
            .ok_or_else(|| format!("unknown content type {text:?}: it is one of filesystem, block, iso"))
    }
}

/// Which volume of a pool. The content is part of it because it decides how drivers spell it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VolumeId {
    /// What it is for.
    pub kind: VolumeKind,
    /// What it holds.
    pub content: Content,
    /// The project it belongs to. Images belong to the default project whoever uses them.
    pub project: ProjectName,
    /// Its name in the project.
    pub name: VolumeName,
}

impl VolumeId {
    /// A custom volume.
    pub fn custom(content: Content, project: ProjectName, name: VolumeName) -> Self {
        Self { kind: VolumeKind::Custom, content, project, name }
    }

    /// Whether it has a tree of files (alone, or beside its disk).
    pub fn has_filesystem(&self) -> bool {
        self.content == Content::Filesystem || self.has_two_parts()
    }

    /// Whether it has a disk (block or iso).
    pub fn has_disk(&self) -> bool {
        self.content != Content::Filesystem
    }

    /// Whether it is a filesystem *and* a disk, as the root of a virtual machine is.
    pub fn has_two_parts(&self) -> bool {
        self.content == Content::Block && matches!(self.kind, VolumeKind::VirtualMachine | VolumeKind::Image)
    }

    /// The folder of its tree whose files never change once they are there: a bucket's objects. Trees that are copies of each
    /// other may share them.
    pub fn unchanging_folder(&self) -> Option<&'static str> {
        (self.kind == VolumeKind::Bucket).then_some("data")
    }

    /// The entry's name in the peers' layout: instances and images are `name` in the default project,
    /// everything else is `project_name`.
    pub fn entry(&self) -> String {
        match self.kind {
            VolumeKind::Custom | VolumeKind::Bucket => format!("{}_{}", self.project, self.name),
            VolumeKind::Image => self.name.to_string(),
            VolumeKind::Container | VolumeKind::VirtualMachine if self.project.is_default() => {
                self.name.to_string()
            }
            VolumeKind::Container | VolumeKind::VirtualMachine => format!("{}_{}", self.project, self.name),
        }
    }

    /// Reads an entry's name back; `None` for what no volume is spelled as.
    pub fn from_entry(kind: VolumeKind, content: Content, entry: &str) -> Option<Self> {
        let (project, name) = match (kind, entry.split_once('_')) {
            (VolumeKind::Image, _) => (ProjectName::default_project(), entry),
            (VolumeKind::Container | VolumeKind::VirtualMachine, None) => {
                (ProjectName::default_project(), entry)
            }
            // The default project's instances bear no prefix, so a prefix that says "default" is foreign.
            (VolumeKind::Container | VolumeKind::VirtualMachine, Some(("default", _))) => return None,
            (_, Some((project, name))) => (project.parse().ok()?, name),
            (_, None) => return None,
        };
        Some(Self { kind, content, project, name: name.parse().ok()? })
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} volume {}", self.kind, self.name)?;
        if self.project.is_default() { Ok(()) } else { write!(formatter, " in project {}", self.project) }
    }
}

/// What a new volume shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Which volume.
    pub id: VolumeId,
    /// Its size: a quota for filesystems (`None` = unlimited), the disk's size for block content.
    pub size: Option<ByteSize>,
    /// The volume's keys with the pool's `volume.*` defaults already filled in.
    pub config: Config,
}

/// The peers' size of a block volume nobody gave a size.
pub const DEFAULT_BLOCK_SIZE: ByteSize = ByteSize::from_mebibytes(10 * 1024);

impl VolumeSpec {
    /// A volume without keys or a size.
    pub fn new(id: VolumeId) -> Self {
        Self { id, size: None, config: Config::new() }
    }

    /// The same with a size.
    #[must_use]
    pub fn with_size(mut self, size: ByteSize) -> Self {
        self.size = Some(size);
        self
    }

    /// The size of its disk in bytes: as asked for or 10 GiB, rounded up to whole 8 KiB as the peers do.
    pub fn disk_size(&self) -> ByteSize {
        let size = self.size.unwrap_or(DEFAULT_BLOCK_SIZE);
        size.round_up(8192).unwrap_or(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_entry_reads_back_to_the_same_volume(
            project in "[a-z][a-z0-9-]{0,10}[a-z0-9]", name in "[a-z][a-z0-9_.-]{0,20}[a-z0-9]", kind in 0..5usize
        ) {
            let kind = VolumeKind::ALL[kind];
            let (Ok(project), Ok(name)) = (project.parse(), name.parse::<VolumeName>()) else { return Ok(()) };
            let instance = matches!(kind, VolumeKind::Container | VolumeKind::VirtualMachine);
            prop_assume!(!(instance && name.as_str().contains('_')));
            let project = if kind == VolumeKind::Image { ProjectName::default_project() } else { project };
            let id = VolumeId { kind, content: Content::Filesystem, project, name };
            prop_assert_eq!(VolumeId::from_entry(kind, Content::Filesystem, &id.entry()), Some(id));
        }

        #[test]
        fn reading_entries_never_panics(entry in "\\PC{0,40}") {
            for kind in VolumeKind::ALL {
                let _ = VolumeId::from_entry(kind, Content::Block, &entry);
            }
        }
    }
}
