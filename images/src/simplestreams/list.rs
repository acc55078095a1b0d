//! The images of a server, and which of them a name means.

use super::image::StreamImage;
use crate::kind::{ImageKind, kernel_architecture};
use larder_base::Fingerprint;
use std::cmp::Reverse;

/// The images of one server, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageList {
    /// The images: newest first, and of one version the preferred packing first.
    pub images: Vec<StreamImage>,
    /// How many products, versions, items and images were left out because they were not understood.
    pub skipped: usize,
}

impl ImageList {
    /// Takes the images of another products file of the same server.
    pub fn merge(&mut self, other: Self) {
        self.images.extend(other.images);
        self.skipped += other.skipped;
        self.sort();
    }

    /// The image an alias means: the newest of that kind, for `architecture` (a kernel's name) unless the alias
    /// itself ends in one, as in `alpine/3.20/arm64`.
    pub fn by_alias(&self, alias: &str, kind: ImageKind, architecture: &str) -> Option<&StreamImage> {
        let named = |name: &str, architecture: &str| {
            self.images.iter().find(|image| {
                image.kind == kind
                    && image.architecture == architecture
                    && image.aliases.iter().any(|alias| alias == name)
            })
        };
        named(alias, architecture).or_else(|| {
            let (name, own) = alias.rsplit_once('/')?;
            named(name, kernel_architecture(own)?)
        })
    }

    /// The image with a fingerprint that begins like this; `None` too when several do.
    pub fn by_fingerprint(&self, prefix: &str) -> Option<&StreamImage> {
        let mut matching = self.images.iter().filter(|image| image.fingerprint.as_str().starts_with(prefix));
        let first = matching.next().filter(|_| !prefix.is_empty())?;
        matching.all(|other| other.fingerprint == first.fingerprint).then_some(first)
    }

    /// The names an image goes by for a client of `architecture`: those it is the newest of. Each alias comes
    /// plain, if the image is of that architecture, and with the server's name of the architecture behind it.
    pub fn aliases_of(&self, fingerprint: &Fingerprint, architecture: &str) -> Vec<String> {
        let Some(image) = self.images.iter().find(|image| image.fingerprint == *fingerprint) else {
            return Vec::new();
        };
        let is_first = |alias: &&String| {
            let first = self.by_alias(alias, image.kind, &image.architecture);
            first.is_some_and(|first| first.fingerprint == *fingerprint)
        };
        let mut names = Vec::new();
        for alias in image.aliases.iter().filter(is_first) {
            if image.architecture == architecture {
                names.push(alias.clone());
            }
            names.push(format!("{alias}/{}", image.server_architecture));
        }
        names
    }

    pub(super) fn sort(&mut self) {
        self.images.sort_by(|a, b| {
            let key = |image: &StreamImage| (Reverse(image.version.clone()), image.rank);
            key(a).cmp(&key(b)).then_with(|| a.product.cmp(&b.product))
        });
    }
}
