//! Images from simplestreams servers.

use super::upload::{Looked, NewImage};
use super::{Images, chain};
use crate::service::{Result, Service, ServiceError, Task};
use larder_base::{Fingerprint, ProjectName};
use larder_catalog::documents::{Image, UpdateSource};
use larder_images::{DownloadError, ImageKind, ImageList, StreamImage, Url, local_architecture};
use larder_storage_driver::Config;

/// How many digits of a fingerprint clients show, and must give at least.
const FINGERPRINT_DIGITS: usize = 12;

/// An image on a server, as a client names it.
#[derive(Debug, Clone)]
pub struct RemoteImage {
    /// The server's addresses, tried in order; parted by commas.
    pub server: String,
    /// An alias there, or the beginning of a fingerprint.
    pub name: String,
    /// What it shall make; empty for a container.
    pub kind: String,
}

impl RemoteImage {
    fn urls(&self) -> Result<Vec<Url>> {
        let addresses = self.server.split(',').map(str::trim).filter(|address| !address.is_empty());
        let url = |address: &str| {
            Url::parse(address).map_err(|error| {
                ServiceError::bad(format!("{address:?} is no address of an image server ({error}): give one such as https://images.example.org"))
            })
        };
        addresses.map(url).collect()
    }

    fn kind(&self) -> Result<ImageKind> {
        match self.kind.as_str() {
            "" | "container" => Ok(ImageKind::Container),
            "virtual-machine" => Ok(ImageKind::VirtualMachine),
            other => Err(ServiceError::bad(format!(
                "unknown image type {other:?}: it is container or virtual-machine"
            ))),
        }
    }
}

impl Service {
    /// Brings an image from a server here, unless the project knows it already. Tells whether it came now.
    pub fn fetch_image(&self, task: &Task, remote: &RemoteImage, new: &NewImage) -> Result<(Image, bool)> {
        let (urls, kind) = (remote.urls()?, remote.kind()?);
        let mut has_asked_anew = false;
        loop {
            let offered = self.look_up(task, &urls, remote, kind)?;
            if let Some(known) = self.store.image(&new.project, &offered.fingerprint)? {
                return Ok((known, false));
            }
            self.must_be_new(&new.project, &offered.fingerprint, &new.aliases)?;
            match self.download(task, &urls, &offered) {
                Ok(()) => return Ok((self.record_download(task, remote, kind, &offered, new)?, true)),
                // Withdrawn since the list was made: a new list names what is there now.
                Err(error) if error.is_not_found() && !has_asked_anew => {
                    has_asked_anew = true;
                    self.images.lists.forget(&urls);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes an image of files that have come and are what the server said.
    fn record_download(
        &self,
        task: &Task,
        remote: &RemoteImage,
        kind: ImageKind,
        offered: &StreamImage,
        new: &NewImage,
    ) -> Result<Image> {
        let mut properties: Config = offered.properties.clone();
        properties.extend(new.properties.clone());
        let new = NewImage {
            properties,
            expires_at: new.expires_at.or(offered.expires_at),
            update_source: Some(UpdateSource {
                server: remote.server.clone(),
                protocol: "simplestreams".to_owned(),
                alias: remote.name.clone(),
                certificate: String::new(),
                image_type: kind.as_str().to_owned(),
            }),
            ..new.clone()
        };
        let _changing = self.images.change();
        let files = self.images.store.files(&offered.fingerprint).ok_or_else(|| {
            ServiceError::internal(format!(
                "the files of image {} went away while they were checked: try again",
                offered.fingerprint
            ))
        })?;
        let looked = match Looked::at(&files) {
            Ok(looked) => looked,
            Err(error) => {
                // Verified, but no image: nobody shall know it.
                self.images.store.remove(&offered.fingerprint)?;
                return Err(error);
            }
        };
        self.record_image(task, &offered.fingerprint, &looked, &new)
    }

    /// Replaces an image by the newest one its server offers under the same name. Tells whether there was one.
    pub fn refresh_image(&self, task: &Task, image: &Image) -> Result<bool> {
        let Some(source) = image.update_source.as_ref().filter(|source| source.protocol == "simplestreams")
        else {
            return Err(ServiceError::bad(format!(
                "the image {} did not come from a server: there is nothing to refresh it from",
                image.fingerprint.short()
            )));
        };
        let remote = RemoteImage {
            server: source.server.clone(),
            name: source.alias.clone(),
            kind: source.image_type.clone(),
        };
        let new = NewImage {
            project: image.project.clone(),
            filename: String::new(),
            public: image.public,
            auto_update: image.auto_update,
            cached: image.cached,
            properties: Config::new(),
            expires_at: None,
            profiles: image.profiles.clone(),
            aliases: Vec::new(),
            update_source: None,
        };
        // What is known of the server may be an hour old, and the question is what is new.
        self.images.lists.forget(&remote.urls()?);
        let (fresh, came_now) = self.fetch_image(task, &remote, &new)?;
        if fresh.fingerprint == image.fingerprint {
            return Ok(false);
        }
        if came_now {
            self.store.change_image(&Image { last_used_at: image.last_used_at, ..fresh.clone() }, None)?;
        }
        self.move_aliases(image, &fresh.fingerprint)?;
        self.delete_image(task, image)?;
        Ok(true)
    }

    fn move_aliases(&self, from: &Image, to: &Fingerprint) -> Result<()> {
        for alias in self.store.image_aliases_of(&from.project)? {
            if alias.fingerprint == from.fingerprint {
                self.store.change_image_alias(
                    &larder_catalog::documents::ImageAlias { fingerprint: to.clone(), ..alias },
                    None,
                )?;
            }
        }
        Ok(())
    }

    /// Gives an image that was here already the aliases it was asked for with.
    pub fn add_missing_aliases(&self, task: &Task, image: &Image, new: &NewImage) -> Result<()> {
        for (name, description) in &new.aliases {
            let known = self.store.image_alias(&new.project, name)?;
            if known.is_none_or(|known| known.fingerprint != image.fingerprint) {
                self.create_image_alias(
                    task,
                    &new.project,
                    name,
                    description.clone(),
                    image.fingerprint.as_str(),
                )?;
            }
        }
        Ok(())
    }

    /// What a server offers under a name. It is asked anew before it is said to offer nothing.
    fn look_up(
        &self,
        task: &Task,
        urls: &[Url],
        remote: &RemoteImage,
        kind: ImageKind,
    ) -> Result<StreamImage> {
        let Images { lists, downloader, .. } = &self.images;
        let asked_at = self.clock.now();
        let known = wait(lists.get(downloader, urls, &task.cancel))?;
        if let Some(reason) = &known.stale {
            tracing::warn!(server = remote.server, error = %chain(reason), "the server gives no new list of images: an older one is used");
        }
        let mut found = offered(&known.list, remote, kind);
        if found.is_none() && known.stale.is_none() && known.fetched_at < asked_at {
            lists.forget(urls);
            found = offered(&wait(lists.get(downloader, urls, &task.cancel))?.list, remote, kind);
        }
        found.ok_or_else(|| {
            ServiceError::not_found(format!(
                "image {:?} for a {} on {} ({})",
                remote.name,
                kind.as_str(),
                remote.server,
                local_architecture()
            ))
        })
    }

    fn download(
        &self,
        task: &Task,
        urls: &[Url],
        offered: &StreamImage,
    ) -> std::result::Result<(), DownloadError> {
        let Images { downloader, store, .. } = &self.images;
        wait(downloader.image(urls, offered, store, &task.cancel, &task.progress)).map(|_| ())
    }

    /// Lets another project know an image that is here.
    pub fn share_image(&self, task: &Task, image: &Image, new: &NewImage) -> Result<Fingerprint> {
        self.must_be_new(&new.project, &image.fingerprint, &new.aliases)?;
        let _changing = self.images.change();
        let looked = Looked::at(&self.image_paths(image)?)?;
        let mut properties = image.properties.clone();
        properties.extend(new.properties.clone());
        let new = NewImage { properties, update_source: image.update_source.clone(), ..new.clone() };
        Ok(self.record_image(task, &image.fingerprint, &looked, &new)?.fingerprint)
    }

    /// The image an alias of a project means, or whose fingerprint begins like this.
    pub fn image_by_name(&self, project: &ProjectName, name: &str) -> Result<Image> {
        match self.store.image_alias(project, name)? {
            Some(alias) => self.image(project, alias.fingerprint.as_str()),
            None => self.image(project, name),
        }
    }
}

/// The image of a list that a name means. A word that only looks like the beginning of a fingerprint is none.
fn offered(list: &ImageList, remote: &RemoteImage, kind: ImageKind) -> Option<StreamImage> {
    let by_fingerprint = || {
        Some(&remote.name)
            .filter(|name| name.len() >= FINGERPRINT_DIGITS)
            .and_then(|name| list.by_fingerprint(name))
    };
    list.by_alias(&remote.name, kind, local_architecture()).or_else(by_fingerprint).cloned()
}

/// Waits for network work on a thread that may block.
fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(work)
}
