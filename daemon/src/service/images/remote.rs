//! Images from simplestreams servers.

use super::upload::{Looked, NewImage};
use super::{Images, chain, image_url};
use crate::service::store::cause_of;
use crate::service::{Result, Service, ServiceError, Task};
use larder_base::{Fingerprint, ProjectName};
use larder_catalog::documents::{Image, ImageAlias, UpdateSource};
use larder_images::{DownloadError, ImageKind, ImageList, StreamImage, Url, local_architecture};
use larder_storage_driver::{Config, StorageError};

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
            // All who fetch it write to the same files: one after the other, and who waited finds what came.
            let claim = self.images.downloading.take_unless(offered.fingerprint.clone(), &task.cancel);
            let _claim = claim.map_err(StorageError::from)?;
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
        let successor = match came_now {
            true => Image { last_used_at: image.last_used_at, ..fresh.clone() },
            // What was cached until now stays as the one does that it follows.
            false => Image { cached: fresh.cached && image.cached, ..fresh.clone() },
        };
        match self.store.replace_image(image, &fresh, &successor) {
            Ok(()) => self.delete_image(task, image).map(|()| true),
            Err(error) => {
                // Who asked for it themselves meanwhile keeps it.
                let is_ours = self.store.image(&fresh.project, &fresh.fingerprint)?.as_ref() == Some(&fresh);
                if came_now && is_ours {
                    self.delete_image(task, &fresh)?;
                }
                // Who deleted it while its successor came wants neither.
                let is_gone = self.store.image(&image.project, &image.fingerprint)?.is_none();
                if is_gone { Ok(false) } else { Err(error) }
            }
        }
    }

    /// Makes an image that was here already what it is asked for as: one that stays though nobody uses it, with the aliases
    /// and all else that is said of it now.
    pub fn keep_image(&self, task: &Task, image: &Image, new: &NewImage) -> Result<()> {
        let mut aliases = Vec::new();
        for (name, description) in &new.aliases {
            super::aliases::check_name(name)?;
            match self.store.image_alias(&image.project, name)? {
                Some(known) if known.fingerprint == image.fingerprint => {}
                Some(_) => return Err(ServiceError::taken(format!("the image alias {name:?}"))),
                None => aliases.push(ImageAlias {
                    project: image.project.clone(),
                    name: name.clone(),
                    description: description.clone(),
                    fingerprint: image.fingerprint.clone(),
                    kind: image.kind.clone(),
                }),
            }
        }
        let mut properties = image.properties.clone();
        properties.extend(new.properties.clone());
        let kept = Image {
            cached: false,
            public: image.public || new.public,
            auto_update: image.auto_update || new.auto_update,
            properties,
            expires_at: new.expires_at.or(image.expires_at),
            profiles: new.profiles.clone().or_else(|| image.profiles.clone()),
            ..image.clone()
        };
        if kept == *image && aliases.is_empty() {
            return Ok(());
        }
        let cause = cause_of(task, "image-updated", &image_url(image), &image.project);
        self.store.change_image(image, &kept, &aliases, Some(&cause))
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
