//! What an image makes, and the names of architectures.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of instance an image makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageKind {
    /// A container: its root is a tree of files.
    Container,
    /// A virtual machine: its root is a disk.
    VirtualMachine,
}

impl ImageKind {
    /// The word the REST API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::VirtualMachine => "virtual-machine",
        }
    }

    /// The kind a separate root file makes, told by its first bytes: a qcow2 disk or an archive of a tree.
    pub fn of_rootfs(head: &[u8]) -> Option<Self> {
        if head.starts_with(b"QFI\xfb") {
            return Some(Self::VirtualMachine);
        }
        crate::Format::detect(head).map(|_| Self::Container)
    }
}

impl fmt::Display for ImageKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Names of architectures: as the kernel says them, and as image servers and distributions do.
const ARCHITECTURES: [(&str, &[&str]); 13] = [
    ("x86_64", &["amd64"]),
    ("i686", &["i386", "i586", "386", "x86"]),
    ("aarch64", &["arm64"]),
    ("armv6l", &["armel", "arm"]),
    ("armv7l", &["armhf", "armhfp", "armv7a_hardfp", "armv7"]),
    ("armv8l", &[]),
    ("ppc", &["powerpc"]),
    ("ppc64", &["powerpc64"]),
    ("ppc64le", &["ppc64el"]),
    ("s390x", &[]),
    ("riscv64", &["riscv"]),
    ("loongarch64", &["loong64"]),
    ("mips64", &["mips64el"]),
];

/// The kernel's name of an architecture, whichever name it goes by.
///
/// ```
/// use larder_images::kernel_architecture;
/// assert_eq!(kernel_architecture("amd64"), Some("x86_64"));
/// assert_eq!(kernel_architecture("aarch64"), Some("aarch64"));
/// assert_eq!(kernel_architecture("z80"), None);
/// ```
pub fn kernel_architecture(name: &str) -> Option<&'static str> {
    ARCHITECTURES
        .iter()
        .find(|(kernel, others)| *kernel == name || others.contains(&name))
        .map(|(kernel, _)| *kernel)
}

/// This machine's architecture, as the kernel says it.
pub fn local_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86" => "i686",
        "arm" => "armv7l",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => kernel_architecture(other).unwrap_or(other),
    }
}
