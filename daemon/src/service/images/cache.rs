//! The ten-day rule: a cached image that nobody used for `images.remote_cache_expiry` days goes.

use crate::service::{Requestor, Result, Service, Task};
use larder_catalog::documents::Image;
use larder_images::{CacheExpiry, CachedImage};

const DEFAULT_DAYS: u32 = 10;

fn cached(image: &Image) -> CachedImage {
    CachedImage { cached: image.cached, last_used_at: image.last_used_at, uploaded_at: image.uploaded_at }
}

impl Service {
    fn cache_expiry(&self) -> Result<CacheExpiry> {
        let config = self.server_config()?;
        let days = config.get("images.remote_cache_expiry").and_then(|days| days.parse().ok());
        Ok(CacheExpiry::after_days(days.unwrap_or(DEFAULT_DAYS)))
    }

    /// Deletes the cached images whose time has come, with their files and volumes. Goes on after a failure; returns how
    /// many went.
    pub fn delete_expired_images(&self) -> Result<usize> {
        let images = self.store.all_images()?;
        let facts: Vec<CachedImage> = images.iter().map(cached).collect();
        let mut deleted = 0;
        for place in self.cache_expiry()?.expired(&facts, self.clock.now()) {
            let image = &images[place];
            match self.delete_image(&Task::quiet(Requestor::default()), image) {
                Ok(()) => deleted += 1,
                Err(error) => {
                    tracing::warn!(image = %image.fingerprint, %error, "an unused cached image stays");
                }
            }
        }
        Ok(deleted)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use crate::service::{Directories, NewImage, Requestor, Service, Task};
    use jiff::SignedDuration;
    use larder_base::host::SystemHost;
    use larder_base::{Clock, ManualClock, ProjectName};
    use larder_catalog::SqliteCatalog;
    use larder_catalog::documents::Image;
    use larder_images::{ImageFiles, JailLauncher};
    use larder_storage_driver::Config;
    use std::sync::Arc;

    pub(in crate::service::images) struct World {
        _folder: tempfile::TempDir,
        pub(in crate::service::images) clock: Arc<ManualClock>,
        pub(in crate::service::images) service: Service,
    }

    /// The tar of the smallest image there can be.
    pub(in crate::service::images) fn tar_of(name: &str) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let architecture = larder_images::local_architecture();
        let text = format!(
            "architecture: {architecture}\ncreation_date: 1\nproperties: {{description: \"{name}\"}}\n"
        );
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, "metadata.yaml", text.as_bytes()).unwrap();
        let mut folder = tar::Header::new_gnu();
        folder.set_entry_type(tar::EntryType::Directory);
        folder.set_size(0);
        folder.set_mode(0o755);
        tar.append_data(&mut folder, "rootfs/", std::io::empty()).unwrap();
        tar.into_inner().unwrap()
    }

    impl World {
        pub(in crate::service::images) fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let directories = Directories::new(folder.path());
            directories.prepare().unwrap();
            let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
            let catalog = Arc::new(SqliteCatalog::in_memory().unwrap());
            let launcher = JailLauncher::new("/nonexistent".into());
            let shared: Arc<dyn Clock> = clock.clone();
            let service = Service::new(catalog, Arc::new(SystemHost), shared, directories, launcher).unwrap();
            service.store().ensure_default_project().unwrap();
            Self { _folder: folder, clock, service }
        }

        /// What is told of an image of the default project.
        pub(in crate::service::images) fn new_image(&self, name: &str, cached: bool) -> NewImage {
            NewImage {
                project: ProjectName::default_project(),
                filename: name.to_owned(),
                public: false,
                auto_update: false,
                cached,
                properties: Config::new(),
                expires_at: None,
                profiles: None,
                aliases: vec![(name.to_owned(), String::new())],
                update_source: None,
            }
        }

        fn import(&self, name: &str, cached: bool) -> Image {
            let (path, mut file) = self.service.image_store().new_part().unwrap();
            std::io::Write::write_all(&mut file, &tar_of(name)).unwrap();
            let new = self.new_image(name, cached);
            let upload = crate::service::ImageUpload {
                files: ImageFiles { main: path, rootfs: None },
                expected: None,
            };
            let task = Task::quiet(Requestor::default());
            let fingerprint = self.service.import_image(&task, &upload, &new).unwrap();
            self.service.image(&new.project, fingerprint.as_str()).unwrap()
        }

        fn days_later(&self, days: i64) -> Vec<String> {
            self.clock.advance(SignedDuration::from_hours(24 * days));
            self.service.delete_expired_images().unwrap();
            let mut names: Vec<_> =
                self.service.store().all_images().unwrap().into_iter().map(|image| image.filename).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn nine_days_stay_ten_go_used_again_stays_and_not_cached_stays() {
        let world = World::new();
        let unused = world.import("unused", true);
        let used = world.import("used", true);
        world.import("own", false);
        assert_eq!(world.days_later(9), ["own", "unused", "used"]);
        world.service.image_is_used(&used).unwrap();
        assert_eq!(world.days_later(1), ["own", "used"]);
        assert!(world.service.image_store().files(&unused.fingerprint).is_none(), "its files went along");
        assert!(world.service.image_alias(&unused.project, "unused").is_err(), "its alias went along");
        assert_eq!(world.days_later(8), ["own", "used"]);
        assert_eq!(world.days_later(1), ["own"]);
    }

    #[test]
    fn zero_days_keep_all_and_other_numbers_count() {
        let world = World::new();
        world.import("image", true);
        let task = Task::quiet(Requestor::default());
        let days = |days: &str| Config::from([("images.remote_cache_expiry".to_owned(), days.to_owned())]);
        world.service.update_server_config(&task, &Config::new(), days("0")).unwrap();
        assert_eq!(world.days_later(1000), ["image"]);
        let too_late = world.service.update_server_config(&task, &Config::new(), days("1")).unwrap_err();
        assert!(too_late.message.contains("somebody else changed it"), "{too_late:?}");
        world.service.update_server_config(&task, &days("0"), days("1001")).unwrap();
        assert_eq!(world.days_later(0), ["image"]);
        assert!(world.days_later(1).is_empty());
    }
}
