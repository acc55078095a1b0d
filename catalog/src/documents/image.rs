//! Images and their aliases. The files are shared by fingerprint and have a document; each project that knows an image
//! has one of its own too.

use super::Config;
use crate::{Document, Key, keys};
use jiff::Timestamp;
use larder_base::{Fingerprint, ProjectName};
use serde::{Deserialize, Serialize};

/// Where an image came from, and where newer ones come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UpdateSource {
    /// The server's URL.
    pub server: String,
    /// `simplestreams`, `lxd` or `incus`.
    pub protocol: String,
    /// The alias asked for.
    pub alias: String,
    /// The server's certificate, where it is not signed by a known authority.
    pub certificate: String,
    /// `container` or `virtual-machine`.
    pub image_type: String,
}

/// The files of an image, as all projects share them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFiles {
    /// SHA-256 of them, one after the other.
    pub fingerprint: Fingerprint,
    /// Their size in bytes.
    pub size: u64,
    /// When they were complete.
    pub stored_at: Timestamp,
}

impl Document for ImageFiles {
    const KIND: &'static str = "image files";

    fn key(&self) -> Key {
        keys::image(&self.fingerprint)
    }
}

/// An image as one project knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// SHA-256 of its files.
    pub fingerprint: Fingerprint,
    /// The project.
    pub project: ProjectName,
    /// The name of its file as it was uploaded.
    pub filename: String,
    /// Size of its files in bytes.
    pub size: u64,
    /// `container` or `virtual-machine`.
    pub kind: String,
    /// The kernel's name of its architecture.
    pub architecture: String,
    /// What is said of it.
    pub properties: Config,
    /// Whether strangers may have it.
    pub public: bool,
    /// Whether newer ones replace it.
    pub auto_update: bool,
    /// Whether it came along with an instance, and goes when nobody uses it.
    pub cached: bool,
    /// Profiles for instances made from it; `None` means the default profile.
    pub profiles: Option<Vec<String>>,
    /// When it was built.
    pub created_at: Timestamp,
    /// When its support ends.
    pub expires_at: Option<Timestamp>,
    /// When an instance was made from it last.
    pub last_used_at: Option<Timestamp>,
    /// When it came here.
    pub uploaded_at: Timestamp,
    /// Where it came from.
    pub update_source: Option<UpdateSource>,
}

impl Document for Image {
    const KIND: &'static str = "image";

    fn key(&self) -> Key {
        keys::image_entry(&self.project, &self.fingerprint)
    }
}

/// A movable name of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageAlias {
    /// The project.
    pub project: ProjectName,
    /// The name; may have slashes.
    pub name: String,
    /// For people.
    pub description: String,
    /// The image it points to.
    pub fingerprint: Fingerprint,
    /// The image's type.
    pub kind: String,
}

impl Document for ImageAlias {
    const KIND: &'static str = "image alias";

    fn key(&self) -> Key {
        keys::image_alias(&self.project, &self.name)
    }
}
