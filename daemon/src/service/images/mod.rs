//! Images: kept by fingerprint, known by projects, fetched from servers, and forgotten when nobody uses them.
//!
//! The files are shared by all projects that know an image; they go with the last of them. Files have their names before
//! the catalog knows the image, and the catalog forgets it before they go: what a crash leaves in between is files that
//! nobody knows, which the next start removes.

mod aliases;
mod auto_update;
mod cache;
mod publish;
mod remote;
mod upload;

pub use publish::PublishSource;
pub use remote::RemoteImage;
pub use upload::{ImageUpload, NewImage};

use super::claim::Claims;
use super::store::cause_of;
use super::{Result, Service, ServiceError, Task, url};
use larder_base::{Clock, Fingerprint, ProjectName};
use larder_catalog::documents::{Image, ImageAlias};
use larder_images::{
    DownloadError, DownloadOptions, Downloader, ImageFiles, ImageStore, ListCache, StoreError,
};
use larder_storage_driver::Config;
use parking_lot::{Mutex, MutexGuard};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long a server's list of images is taken for new.
const LIST_LIFE: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);
/// How long a download that broke off may be gone on with.
const PART_LIFE: Duration = Duration::from_secs(24 * 3600);

/// What the use-cases of images need.
#[derive(Debug)]
pub(super) struct Images {
    store: ImageStore,
    downloader: Downloader,
    lists: ListCache,
    asked: auto_update::Asked,
    /// Held while an image comes from a server, so that it comes once.
    downloading: Claims<Fingerprint>,
    /// Held while images are replaced by newer ones.
    updating: Claims<()>,
    /// Held while files and catalog change together.
    changing: Mutex<()>,
}

impl Images {
    pub(super) fn open(directory: &Path, clock: &Arc<dyn Clock>) -> Result<Self> {
        Ok(Self {
            store: ImageStore::open(directory)?,
            downloader: Downloader::new(DownloadOptions::default())?,
            lists: ListCache::new(Arc::clone(clock), LIST_LIFE),
            asked: auto_update::Asked::default(),
            downloading: Claims::default(),
            updating: Claims::default(),
            changing: Mutex::default(),
        })
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock()
    }
}

/// What can be changed of an image.
#[derive(Debug, Clone)]
pub struct ImageChange {
    /// Whether strangers may have it.
    pub public: bool,
    /// Whether newer ones replace it.
    pub auto_update: bool,
    /// What is said of it.
    pub properties: Config,
    /// When its support ends.
    pub expires_at: Option<jiff::Timestamp>,
    /// Profiles for instances made from it; `None` leaves them.
    pub profiles: Option<Vec<String>>,
}

impl Service {
    /// The project that holds the images of `project`: itself, or the default project.
    pub fn image_project(&self, name: &str) -> Result<ProjectName> {
        self.feature_project(name, "features.images")
    }

    /// The image of a project whose fingerprint begins with `prefix`.
    pub fn image(&self, project: &ProjectName, prefix: &str) -> Result<Image> {
        let missing = || ServiceError::not_found(format!("image {prefix:?}"));
        if prefix.is_empty() {
            return Err(missing());
        }
        let images = self.store.images_of(project)?;
        let mut found = images.into_iter().filter(|image| image.fingerprint.as_str().starts_with(prefix));
        match (found.next(), found.next()) {
            (Some(image), None) => Ok(image),
            (Some(_), Some(_)) => {
                Err(ServiceError::bad(format!("{prefix:?} begins several fingerprints: give more of it")))
            }
            (None, _) => Err(missing()),
        }
    }

    /// The files of an image that a project knows.
    pub fn image_paths(&self, image: &Image) -> Result<ImageFiles> {
        let missing =
            || ServiceError::internal(format!("the files of image {} are missing", image.fingerprint));
        self.images.store.files(&image.fingerprint).ok_or_else(missing)
    }

    /// The directory of image files, for uploads.
    pub fn image_store(&self) -> &ImageStore {
        &self.images.store
    }

    /// Notes that an instance was made from an image: from here on its days count anew. No event, and no other ETag.
    pub fn image_is_used(&self, image: &Image) -> Result<()> {
        self.store.image_is_used(image, self.clock.now())
    }

    /// Changes what can be changed of an image.
    pub fn update_image(&self, task: &Task, image: &Image, change: ImageChange) -> Result<()> {
        let changed = Image {
            public: change.public,
            auto_update: change.auto_update,
            properties: change.properties.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
            expires_at: change.expires_at,
            profiles: change.profiles.or_else(|| image.profiles.clone()),
            ..image.clone()
        };
        let cause = cause_of(task, "image-updated", &image_url(image), &image.project);
        self.store.change_image(image, &changed, &[], Some(&cause))
    }

    /// Forgets an image of a project; its files and its volumes on pools go with the last project that knows it.
    pub fn delete_image(&self, task: &Task, image: &Image) -> Result<()> {
        {
            let _changing = self.images.change();
            let others = self.store.all_images()?;
            let is_last = !others
                .iter()
                .any(|other| other.fingerprint == image.fingerprint && other.project != image.project);
            let cause = cause_of(task, "image-deleted", &image_url(image), &image.project);
            self.store.forget_image(image, is_last, Some(cause))?;
            if !is_last {
                return Ok(());
            }
            self.images.store.remove(&image.fingerprint)?;
        }
        // Pools may take their time to answer, for which no other image waits. Whoever adds the same image meanwhile at most
        // has it unpacked once more.
        self.delete_image_volumes(&image.fingerprint)
    }

    /// The volumes that pools hold of an image; one that can't go now is told of and goes with the next start.
    fn delete_image_volumes(&self, fingerprint: &Fingerprint) -> Result<()> {
        for record in self.store.volumes()? {
            if record.volume.kind != "image" || record.volume.name != fingerprint.as_str() {
                continue;
            }
            let task = Task::quiet(super::Requestor::default());
            let gone = self
                .open_pool(&self.store.pool_by_id(record.volume.pool)?.name)
                .and_then(|pool| self.delete_volume(&task, &pool, &record));
            if let Err(error) = gone {
                tracing::warn!(image = %fingerprint, %error, "the image's volume stays for now");
            }
        }
        Ok(())
    }

    /// Removes what an interrupted run left: files that no project knows, volumes of images that are gone, and parts of
    /// downloads that nobody has gone on with for a day.
    pub(super) fn sweep_images(&self) -> Result<()> {
        let known = self.store.all_images()?;
        for fingerprint in self.images.store.list()? {
            if !known.iter().any(|image| image.fingerprint == fingerprint) {
                tracing::info!(image = %fingerprint, "removed files that no project knows");
                self.images.store.remove(&fingerprint)?;
            }
        }
        let gone = |record: &super::VolumeRecord| {
            record.volume.kind == "image"
                && !known.iter().any(|image| image.fingerprint.as_str() == record.volume.name)
        };
        for record in self.store.volumes()?.iter().filter(|record| gone(record)) {
            self.delete_image_volumes(&record.volume.name.parse().map_err(
                |error: larder_base::fingerprint::FingerprintError| ServiceError::internal(error.to_string()),
            )?)?;
        }
        self.images.store.sweep(PART_LIFE, SystemTime::now())?;
        Ok(())
    }
}

/// An image's URL.
pub fn image_url(image: &Image) -> String {
    url(&["images", image.fingerprint.as_str()], &image.project)
}

fn alias_url(alias: &ImageAlias) -> String {
    url(&["images", "aliases", &alias.name], &alias.project)
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Mismatch { .. } => Self::bad(chain(&error)),
            StoreError::Cancelled => Self::bad("cancelled"),
            other => Self::internal(chain(&other)),
        }
    }
}

impl From<DownloadError> for ServiceError {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::Cancelled => Self::bad("cancelled"),
            DownloadError::Store(error) => error.into(),
            DownloadError::File { .. } => Self::internal(chain(&error)),
            other => Self::bad(chain(&other)),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    super::store::chain(error)
}
