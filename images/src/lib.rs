//! Image files: where they come from, how they are kept, and how a hostile one is unpacked without harm.
//!
//! - [`jail`]: unpacking in a helper process that has nothing to break. Start at [`JailLauncher`].
//! - [`archive`]: what a file is packed with, told by its first bytes.
//! - [`metadata`]: what an image says of itself.
//! - [`store`]: the files by fingerprint; part files until they are verified.
//! - [`simplestreams`]: what an image server offers.
//! - [`download`]: lists and images from servers, resumable, verified before anybody sees them.
//! - [`expiry`]: which cached images go.
//! - [`templates`]: files rendered into an instance's root.
//!
//! Nothing here knows volumes, the catalog or HTTP servers: the daemon joins them.

pub mod archive;
pub mod download;
pub mod expiry;
pub mod jail;
pub mod kind;
pub mod metadata;
pub mod simplestreams;
pub mod store;
pub mod templates;

pub use archive::Format;
pub use download::{
    CachedList, DownloadError, DownloadOptions, Downloader, ListCache, Roots, Url, WantedFile,
};
pub use expiry::{CacheExpiry, CachedImage};
pub use jail::{JAIL_ARGUMENT, JailLauncher, Limits, Select, UnpackError, UnpackRequest, jail_main};
pub use kind::{ImageKind, kernel_architecture, local_architecture};
pub use metadata::{ImageContents, ImageMetadata, MetadataError, RootPart, TemplateEntry, Trigger, inspect};
pub use simplestreams::{ImageList, StreamFile, StreamImage, StreamsError};
pub use store::{ImageFiles, ImageStore, StoreError, fingerprint_of};
pub use templates::{InstanceFacts, TemplateError, TemplateRun, TemplateValues};
