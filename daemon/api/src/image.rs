//! Images.

use crate::{Config, ImageAlias};
use jiff::Timestamp;
use std::collections::BTreeMap;

wire! {
    /// An image.
    pub struct Image {
        /// Whether newer ones replace it.
        pub auto_update: bool,
        /// What is said of it.
        pub properties: Config,
        /// Whether strangers may have it.
        pub public: bool,
        /// When its support ends; [`ZERO_TIME`](crate::ZERO_TIME) for never.
        pub expires_at: Timestamp,
        /// Profiles for instances made from it.
        pub profiles: Vec<String>,
        /// Its aliases.
        pub aliases: Vec<ImageAlias>,
        /// The kernel's name of its architecture.
        pub architecture: String,
        /// Whether it came along with an instance, and goes when nobody uses it.
        pub cached: bool,
        /// The name of its file.
        pub filename: String,
        /// SHA-256 of its files, hexadecimal.
        pub fingerprint: String,
        /// Size of its files in bytes.
        pub size: u64,
        /// Where newer ones come from.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub update_source: Option<ImageUpdateSource>,
        /// `container` or `virtual-machine`.
        #[serde(rename = "type")]
        pub kind: String,
        /// When it was built.
        pub created_at: Timestamp,
        /// When an instance was made from it last; [`ZERO_TIME`](crate::ZERO_TIME) for never.
        pub last_used_at: Timestamp,
        /// When it came here.
        pub uploaded_at: Timestamp,
        /// Its project.
        pub project: String,
    }

    /// Where an image comes from.
    pub struct ImageUpdateSource {
        /// The alias asked for.
        pub alias: String,
        /// The server's certificate, where no known authority signed it.
        pub certificate: String,
        /// `simplestreams`, `lxd`, `incus` or `oci`.
        pub protocol: String,
        /// The server's URL.
        pub server: String,
        /// `container` or `virtual-machine`; empty for any.
        pub image_type: String,
    }

    /// What can be changed of an image.
    pub struct ImagePut {
        /// Whether newer ones replace it.
        pub auto_update: bool,
        /// What is said of it.
        pub properties: Config,
        /// Whether strangers may have it.
        pub public: bool,
        /// When its support ends; unchanged when absent.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub expires_at: Option<Timestamp>,
        /// Profiles for instances made from it; the default profile when absent.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub profiles: Option<Vec<String>>,
    }

    /// A new image, from somewhere.
    pub struct ImagesPost {
        /// Whether newer ones replace it.
        pub auto_update: bool,
        /// What is said of it.
        pub properties: Config,
        /// Whether strangers may have it.
        pub public: bool,
        /// When its support ends; as the image says when absent.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub expires_at: Option<Timestamp>,
        /// Profiles for instances made from it; the default profile when absent.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub profiles: Option<Vec<String>>,
        /// The name of its file.
        pub filename: String,
        /// Where from.
        pub source: ImagesPostSource,
        /// How to compress an image made here; as the server's keys say when empty.
        pub compression_algorithm: String,
        /// `unified` or `split`.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub format: String,
        /// Names to give it.
        pub aliases: Vec<ImageAlias>,
    }

    /// Where a new image comes from.
    pub struct ImagesPostSource {
        /// `image`, `instance`, `container`, `virtual-machine`, `snapshot` or `url`.
        #[serde(rename = "type")]
        pub kind: String,
        /// `pull` (also when empty) or `push`.
        pub mode: String,
        /// The server's URL.
        pub server: String,
        /// `simplestreams`, `lxd`, `incus` or `oci`.
        pub protocol: String,
        /// The server's certificate, where no known authority signed it.
        pub certificate: String,
        /// A name on the server.
        pub alias: String,
        /// A fingerprint, or the beginning of one.
        pub fingerprint: String,
        /// A token for an image that is not public.
        pub secret: String,
        /// `container` or `virtual-machine`; empty for any.
        pub image_type: String,
        /// The instance or snapshot to make it from.
        pub name: String,
        /// The project on the other side.
        pub project: String,
        /// Where the file is.
        pub url: String,
    }

    /// Where to push an image to.
    pub struct ImageExportPost {
        /// The other server's URL.
        pub target: String,
        /// The token it gave.
        pub secret: String,
        /// Its certificate.
        pub certificate: String,
        /// Names to give it there.
        pub aliases: Vec<ImageAlias>,
        /// The project there.
        pub project: String,
        /// Profiles for instances made from it there.
        pub profiles: Option<Vec<String>>,
    }

    /// What an image or an instance says of itself.
    pub struct ImageMetadata {
        /// The kernel's name of its architecture.
        pub architecture: String,
        /// When it was built, in seconds.
        pub creation_date: i64,
        /// When its support ends, in seconds; 0 for never.
        pub expiry_date: i64,
        /// What is said of it.
        pub properties: Config,
        /// Files written by templates, by path.
        pub templates: BTreeMap<String, ImageMetadataTemplate>,
    }

    /// A file written by a template.
    pub struct ImageMetadataTemplate {
        /// When: `create`, `copy`, `start`, `rename`.
        pub when: Vec<String>,
        /// Whether only a file that is not there is written.
        pub create_only: bool,
        /// The template's file.
        pub template: String,
        /// What the template may use.
        pub properties: Config,
    }
}
