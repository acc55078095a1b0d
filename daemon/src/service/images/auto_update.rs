//! Images that follow their server: every `images.auto_update_interval` hours each that is marked so is asked for anew.

use crate::service::{Result, Service, Task};
use jiff::{SignedDuration, Timestamp};
use larder_base::{Fingerprint, ProjectName};
use larder_catalog::documents::Image;
use parking_lot::Mutex;
use std::collections::HashMap;

const DEFAULT_HOURS: i64 = 6;

/// When the server of an image was last asked, by this run.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<HashMap<(ProjectName, Fingerprint), Timestamp>>);

impl Asked {
    fn last(&self, image: &Image) -> Timestamp {
        let key = (image.project.clone(), image.fingerprint.clone());
        self.0.lock().get(&key).copied().unwrap_or(image.uploaded_at)
    }

    /// Forgets what is about none of these.
    fn keep(&self, images: &[Image]) {
        let is_there = |(project, fingerprint): &(ProjectName, Fingerprint)| {
            images.iter().any(|image| image.project == *project && image.fingerprint == *fingerprint)
        };
        self.0.lock().retain(|key, _| is_there(key));
    }

    fn note(&self, image: &Image, now: Timestamp) {
        self.0.lock().insert((image.project.clone(), image.fingerprint.clone()), now);
    }
}

impl Service {
    /// Whether an image that comes along with an instance follows its server, by `images.auto_update_cached`.
    pub(in crate::service) fn updates_cached_images(&self) -> Result<bool> {
        let config = self.server_config()?;
        Ok(!config.contains_key("images.auto_update_cached")
            || larder_runtime::keys::is_true(&config, "images.auto_update_cached"))
    }

    fn update_interval(&self) -> Result<Option<SignedDuration>> {
        let config = self.server_config()?;
        let hours = config.get("images.auto_update_interval").and_then(|hours| hours.parse().ok());
        let hours = hours.unwrap_or(DEFAULT_HOURS);
        Ok((hours > 0).then(|| SignedDuration::from_hours(hours)))
    }

    /// The images whose server is to be asked now.
    fn images_to_update(&self) -> Result<Vec<Image>> {
        let Some(interval) = self.update_interval()? else { return Ok(Vec::new()) };
        let now = self.clock.now();
        let mut images = self.store.all_images()?;
        self.images.asked.keep(&images);
        images.retain(|image| {
            let follows = image.auto_update && image.update_source.is_some();
            follows && now.duration_since(self.images.asked.last(image)) >= interval
        });
        Ok(images)
    }

    /// Replaces images by newer ones of their servers, where there are any. Goes on after a failure, which is tried again
    /// after the interval; returns how many were replaced.
    pub fn update_images(&self) -> Result<usize> {
        // Those that a look before this one began with may not be through.
        let Some(_claim) = self.images.updating.try_take(()) else { return Ok(0) };
        let mut updated = 0;
        for image in self.images_to_update()? {
            if self.stopping.is_cancelled() {
                break;
            }
            let task = Task::until(self.stopping.clone());
            self.images.asked.note(&image, self.clock.now());
            match self.refresh_image(&task, &image) {
                Ok(true) => updated += 1,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(image = %image.fingerprint, %error, "an image stays as it is: its server gives no newer one");
                }
            }
        }
        Ok(updated)
    }
}

#[cfg(test)]
mod tests {
    use crate::service::images::cache::tests::{World, tar_of};
    use crate::service::{NewImage, RemoteImage, Requestor, Task};
    use axum::extract::{Path, State};
    use axum::http::StatusCode;
    use jiff::SignedDuration;
    use larder_storage_driver::Config;
    use parking_lot::Mutex;
    use serde_json::json;
    use sha2::{Digest, Sha256};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

    /// An image server on this machine, and a world that knows it.
    struct Updates {
        world: World,
        files: Files,
        url: String,
        runtime: tokio::runtime::Runtime,
    }

    async fn file(State(files): State<Files>, Path(path): Path<String>) -> Result<Vec<u8>, StatusCode> {
        files.lock().get(&path).cloned().ok_or(StatusCode::NOT_FOUND)
    }

    impl Updates {
        fn new() -> Self {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let files = Files::default();
            let router = axum::Router::new()
                .route("/{*path}", axum::routing::get(file))
                .with_state(Arc::clone(&files));
            let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            runtime.spawn(async move { axum::serve(listener, router).await });
            Self { world: World::new(), files, url, runtime }
        }

        /// Publishes a version; its fingerprint.
        fn publish(&self, version: &str) -> String {
            let image = tar_of(version);
            let (fingerprint, path) = (hex::encode(Sha256::digest(&image)), format!("images/{version}.tar"));
            let item = json!({ "ftype": "lxd_combined.tar.gz", "sha256": fingerprint, "size": image.len(), "path": path });
            let versions = json!({ version: { "items": { "lxd_combined.tar.gz": item } } });
            let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
            let product = json!({ "aliases": "tiny", "arch": arch, "os": "Tiny", "release": "1", "versions": versions });
            let list = json!({ "format": "products:1.0", "datatype": "image-downloads", "products": { format!("tiny:1:{arch}:default"): product } });
            let index = json!({ "format": "index:1.0", "index": { "images": { "datatype": "image-downloads",
                "format": "products:1.0", "path": "streams/v1/images.json", "products": [format!("tiny:1:{arch}:default")] } } });
            let mut files = self.files.lock();
            files.insert(path, image);
            files.insert("streams/v1/images.json".to_owned(), list.to_string().into_bytes());
            files.insert("streams/v1/index.json".to_owned(), index.to_string().into_bytes());
            fingerprint
        }

        fn copy(&self, auto_update: bool) -> String {
            self.fetch(auto_update).0
        }

        /// Copies the image; its fingerprint, and whether it came now.
        fn fetch(&self, auto_update: bool) -> (String, bool) {
            let remote =
                RemoteImage { server: self.url.clone(), name: "tiny".to_owned(), kind: String::new() };
            let new = NewImage {
                auto_update,
                aliases: vec![("mine".to_owned(), String::new())],
                ..self.world.new_image("tiny", false)
            };
            let _inside = self.runtime.enter();
            let task = Task::quiet(Requestor::default());
            let (image, came_now) = self.world.service.fetch_image(&task, &remote, &new).unwrap();
            (image.fingerprint.to_string(), came_now)
        }

        /// What `mine` means after some time and the housekeeping that follows.
        fn hours_later(&self, hours: i64) -> String {
            self.world.clock.advance(SignedDuration::from_hours(hours));
            let _inside = self.runtime.enter();
            self.world.service.update_images().unwrap();
            let project = larder_base::ProjectName::default_project();
            self.world.service.image_by_name(&project, "mine").unwrap().fingerprint.to_string()
        }

        fn set(&self, key: &str, value: &str) {
            let config = Config::from([(key.to_owned(), value.to_owned())]);
            let task = Task::quiet(Requestor::default());
            let known = self.world.service.server_config().unwrap();
            self.world.service.update_server_config(&task, &known, config).unwrap();
        }
    }

    #[test]
    fn an_image_follows_its_server_every_six_hours() {
        let updates = Updates::new();
        let first = updates.publish("20260101_00:00");
        assert_eq!(updates.copy(true), first);
        let second = updates.publish("20260102_00:00");
        assert_eq!(updates.hours_later(5), first);
        assert_eq!(updates.hours_later(1), second);
        assert_eq!(updates.world.service.store().all_images().unwrap().len(), 1, "the old one went");
        let third = updates.publish("20260103_00:00");
        assert_eq!(updates.hours_later(5), second);
        // A server that is broken is asked again after the interval.
        let broken = std::mem::take(&mut *updates.files.lock());
        assert_eq!(updates.hours_later(1), second);
        *updates.files.lock() = broken;
        assert_eq!(updates.hours_later(5), second);
        assert_eq!(updates.hours_later(1), third);
    }

    #[test]
    fn a_cached_image_that_is_asked_for_stays_with_what_is_said_of_it() {
        let updates = Updates::new();
        updates.publish("20260101_00:00");
        let (service, task) = (&updates.world.service, Task::quiet(Requestor::default()));
        let remote =
            RemoteImage { server: updates.url.clone(), name: "tiny".to_owned(), kind: String::new() };
        let cached = NewImage { aliases: Vec::new(), ..updates.world.new_image("tiny", true) };
        let inside = updates.runtime.enter();
        service.fetch_image(&task, &remote, &cached).unwrap();
        let wanted = NewImage {
            public: true,
            properties: Config::from([("label".to_owned(), "mine".to_owned())]),
            ..updates.world.new_image("mine", false)
        };
        let (image, came_now) = service.fetch_image(&task, &remote, &wanted).unwrap();
        assert!(!came_now && image.cached);
        service.keep_image(&task, &image, &wanted).unwrap();
        drop(inside);
        updates.world.clock.advance(SignedDuration::from_hours(24 * 1000));
        assert_eq!(service.delete_expired_images().unwrap(), 0);
        let kept = service.image_by_name(&image.project, "mine").unwrap();
        assert!(kept.public && !kept.cached && !kept.auto_update);
        assert_eq!(kept.properties["label"], "mine");
        assert!(kept.properties.len() > 1, "what its server says of it stays: {:?}", kept.properties);
        let overtaken = service.keep_image(&task, &image, &wanted).unwrap_err();
        assert!(overtaken.message.contains("somebody else changed it"), "{overtaken:?}");
        service.keep_image(&task, &kept, &wanted).unwrap();
    }

    #[test]
    fn many_who_want_the_same_image_have_it_come_once() {
        let updates = Updates::new();
        let fingerprint = updates.publish("20260101_00:00");
        let fetched = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| updates.fetch(false))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(fetched.iter().all(|(found, _)| *found == fingerprint));
        assert_eq!(fetched.iter().filter(|(_, came_now)| *came_now).count(), 1);
    }

    #[test]
    fn one_that_does_not_follow_stays_and_the_interval_is_the_servers() {
        let updates = Updates::new();
        let first = updates.publish("20260101_00:00");
        updates.copy(false);
        updates.publish("20260102_00:00");
        assert_eq!(updates.hours_later(100), first);

        let updates = Updates::new();
        let first = updates.publish("20260101_00:00");
        updates.copy(true);
        let second = updates.publish("20260102_00:00");
        updates.set("images.auto_update_interval", "0");
        assert_eq!(updates.hours_later(1000), first);
        updates.set("images.auto_update_interval", "1001");
        assert_eq!(updates.hours_later(0), first);
        assert_eq!(updates.hours_later(1), second);
    }

    #[test]
    fn an_image_that_was_deleted_meanwhile_has_no_successor() {
        let updates = Updates::new();
        updates.publish("20260101_00:00");
        updates.copy(true);
        let (service, task) = (&updates.world.service, Task::quiet(Requestor::default()));
        let old = service.store().all_images().unwrap().remove(0);
        service.delete_image(&task, &old).unwrap();
        updates.publish("20260102_00:00");
        let _inside = updates.runtime.enter();
        assert!(!service.refresh_image(&task, &old).unwrap());
        assert!(service.store().all_images().unwrap().is_empty());
    }

    #[test]
    fn cached_images_follow_unless_the_server_says_no() {
        let updates = Updates::new();
        assert!(updates.world.service.updates_cached_images().unwrap());
        updates.set("images.auto_update_cached", "false");
        assert!(!updates.world.service.updates_cached_images().unwrap());
    }
}
