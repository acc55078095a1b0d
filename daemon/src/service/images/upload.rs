//! Images from files on this machine: uploads, and downloads that have come.

use super::{chain, image_url};
use crate::service::store::cause_of;
use crate::service::{Result, Service, ServiceError, Task};
use jiff::Timestamp;
use larder_base::{Fingerprint, ProjectName};
use larder_catalog::documents::{Image, ImageAlias, ImageFiles as FilesDocument, UpdateSource};
use larder_images::{ImageFiles, ImageKind, ImageMetadata, MetadataError, RootPart, fingerprint_of};
use larder_storage_driver::Config;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What is told of a new image beside its files.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// The project (already the one that holds images).
    pub project: ProjectName,
    /// The name of its file as it was uploaded.
    pub filename: String,
    /// Whether strangers may have it.
    pub public: bool,
    /// Whether newer ones replace it.
    pub auto_update: bool,
    /// Whether it comes along with an instance, and goes when nobody uses it.
    pub cached: bool,
    /// What is said of it, over what it says itself.
    pub properties: Config,
    /// When its support ends, over what it says itself.
    pub expires_at: Option<Timestamp>,
    /// Profiles for instances made from it.
    pub profiles: Option<Vec<String>>,
    /// Names with descriptions.
    pub aliases: Vec<(String, String)>,
    /// Where it came from.
    pub update_source: Option<UpdateSource>,
}

/// Files that were uploaded, as part files of the store.
#[derive(Debug)]
pub struct ImageUpload {
    /// The files.
    pub files: ImageFiles,
    /// What they should be.
    pub expected: Option<Fingerprint>,
}

impl Service {
    /// Makes an image of uploaded files. All or nothing; the files are gone from where they were either way.
    pub fn import_image(&self, task: &Task, upload: &ImageUpload, new: &NewImage) -> Result<Fingerprint> {
        let imported = self.import_files_of(task, upload, new);
        if imported.is_err() {
            self.images.store.discard(&upload.files)?;
        }
        imported
    }

    fn import_files_of(&self, task: &Task, upload: &ImageUpload, new: &NewImage) -> Result<Fingerprint> {
        let looked = Looked::at(&upload.files)?;
        let found = fingerprint_of(&upload.files, &task.cancel, &task.progress)?;
        if let Some(expected) = upload.expected.as_ref().filter(|expected| **expected != found) {
            return Err(ServiceError::bad(format!(
                "the uploaded files have the fingerprint {found}, not {expected}: they are damaged or others, upload them again"
            )));
        }
        self.must_be_new(&new.project, &found, &new.aliases)?;
        let _changing = self.images.change();
        let fingerprint =
            self.images.store.publish(&upload.files, Some(&found), &task.cancel, &task.progress)?;
        self.record_image(task, &fingerprint, &looked, new)?;
        Ok(fingerprint)
    }

    /// Refuses what would fail at the end, before the work.
    pub(super) fn must_be_new(
        &self,
        project: &ProjectName,
        fingerprint: &Fingerprint,
        aliases: &[(String, String)],
    ) -> Result<()> {
        if self.store.image(project, fingerprint)?.is_some() {
            return Err(ServiceError::taken(format!("the image {fingerprint}")));
        }
        for (name, _) in aliases {
            super::aliases::check_name(name)?;
            if self.store.image_alias(project, name)?.is_some() {
                return Err(ServiceError::taken(format!("the image alias {name:?}")));
            }
        }
        Ok(())
    }

    /// Tells the catalog of files that are in the store. Files that no project knows go again when that fails.
    pub(super) fn record_image(
        &self,
        task: &Task,
        fingerprint: &Fingerprint,
        looked: &Looked,
        new: &NewImage,
    ) -> Result<Image> {
        let files = self.images.store.files(fingerprint).ok_or_else(|| {
            ServiceError::internal(format!("the files of image {fingerprint} went away: try again"))
        })?;
        let now = self.clock.now();
        let metadata = &looked.metadata;
        let mut properties: Config = metadata.properties.clone();
        properties.extend(new.properties.clone());
        let image = Image {
            fingerprint: fingerprint.clone(),
            project: new.project.clone(),
            filename: new.filename.clone(),
            size: files.size()?,
            kind: looked.kind.as_str().to_owned(),
            architecture: metadata.architecture.clone(),
            properties,
            public: new.public,
            auto_update: new.auto_update,
            cached: new.cached,
            profiles: new.profiles.clone(),
            created_at: Timestamp::from_second(metadata.creation_date).unwrap_or(now),
            expires_at: new.expires_at.or_else(|| {
                Some(metadata.expiry_date)
                    .filter(|date| *date > 0)
                    .and_then(|date| Timestamp::from_second(date).ok())
            }),
            last_used_at: new.cached.then_some(now),
            uploaded_at: now,
            update_source: new.update_source.clone(),
        };
        let alias = |(name, description): &(String, String)| ImageAlias {
            project: new.project.clone(),
            name: name.clone(),
            description: description.clone(),
            fingerprint: fingerprint.clone(),
            kind: image.kind.clone(),
        };
        let aliases: Vec<_> = new.aliases.iter().map(alias).collect();
        let document = FilesDocument { fingerprint: fingerprint.clone(), size: image.size, stored_at: now };
        let cause = cause_of(task, "image-created", &image_url(&image), &image.project);
        if let Err(error) = self.store.add_image(&image, &document, &aliases, Some(cause)) {
            let is_known = self.store.all_images()?.iter().any(|other| other.fingerprint == *fingerprint);
            if !is_known {
                self.images.store.remove(fingerprint)?;
            }
            return Err(error);
        }
        Ok(image)
    }
}

/// What the files say of themselves.
#[derive(Debug, Clone)]
pub(super) struct Looked {
    pub(super) metadata: ImageMetadata,
    pub(super) kind: ImageKind,
}

impl Looked {
    /// Looks into files without unpacking them. Fails when they are no image.
    pub(super) fn at(files: &ImageFiles) -> Result<Self> {
        let contents = larder_images::inspect(&files.main).map_err(|error| refusal(&error, &files.main))?;
        let kind = match (&files.rootfs, contents.root) {
            (Some(rootfs), RootPart::Absent) => kind_of(rootfs)?,
            (Some(_), _) => {
                return Err(ServiceError::bad(
                    "the metadata file has a root of its own: upload it alone, or one without a root",
                ));
            }
            (None, RootPart::Directory) => ImageKind::Container,
            (None, RootPart::Disk) => ImageKind::VirtualMachine,
            (None, RootPart::Absent) => {
                return Err(ServiceError::bad(
                    "the image has no root: add rootfs/ to it, or upload the root file beside it",
                ));
            }
        };
        Ok(Self { metadata: contents.metadata, kind })
    }
}

/// Why a file is no image, in words for the one who gave it: where we keep it tells them nothing.
fn refusal(error: &MetadataError, path: &Path) -> ServiceError {
    let text = chain(error);
    match error {
        MetadataError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            ServiceError::internal(text)
        }
        MetadataError::Read { source, .. } => ServiceError::bad(format!(
            "the image file could not be read to its end ({source}): it is damaged or cut off, upload it again"
        )),
        _ => ServiceError::bad(text.replace(&path.display().to_string(), "the image file")),
    }
}

fn kind_of(rootfs: &Path) -> Result<ImageKind> {
    let mut head = Vec::new();
    File::open(rootfs)?.take(512).read_to_end(&mut head)?;
    ImageKind::of_rootfs(&head).ok_or_else(|| {
        ServiceError::bad("the root file is neither a squashfs image, a tar file nor a qcow2 disk")
    })
}
