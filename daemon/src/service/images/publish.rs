//! Images made of instances and their snapshots: one file with the metadata, the root and its templates.

use super::{ImageUpload, NewImage};
use crate::service::backups::pack;
use crate::service::instances::{ROOTFS, TEMPLATES};
use crate::service::{OpenPool, Result, Service, ServiceError, Task, VolumeRecord};
use larder_base::{Fingerprint, SnapshotName};
use larder_catalog::documents::Instance;
use larder_images::metadata::METADATA_FILE;
use larder_images::{ImageFiles, ImageMetadata};
use larder_storage_driver::Config;
use larder_storage_pool::PartsPlan;
use std::fs::File;
use std::io::Write;

/// How the operation calls what it is at; clients look for `create_image_from_container_pack_progress`.
const STAGE: &str = "create_image_from_container_pack";

/// What an image is made of.
#[derive(Debug, Clone)]
pub struct PublishSource {
    /// The project of the instance.
    pub project: String,
    /// Its name.
    pub instance: String,
    /// One of its snapshots, to publish it as it was then.
    pub snapshot: Option<String>,
    /// How the file is compressed; as the server's key says when empty.
    pub compression: String,
}

impl Service {
    /// Makes an image of a stopped instance, or of one of its snapshots. Tells its fingerprint and size.
    pub fn publish_image(
        &self,
        task: &Task,
        source: &PublishSource,
        new: &NewImage,
    ) -> Result<(Fingerprint, u64)> {
        let instance = self.instance(&source.project, &source.instance)?;
        let compression = self.image_compression(&source.compression)?;
        let (claim, instance) = self.alone_with_instance(task, &instance)?;
        let then = match &source.snapshot {
            Some(name) => self.instance_snapshot(&instance, name)?.then,
            None => {
                self.must_be_stopped(&instance, "published")?;
                instance.clone()
            }
        };
        let snapshot = source.snapshot.as_deref().map(str::parse::<SnapshotName>).transpose()?;
        let (root, pool) = self.root_and_pool(&instance)?;
        root.must_be_whole()?;
        let metadata = self.published_metadata(task, (&pool, &root), snapshot.as_ref(), &then, new)?;
        let (path, file) = self.images.store.new_part()?;
        let upload = ImageUpload { files: ImageFiles { main: path, rootfs: None }, expected: None };
        // A snapshot stays while it is packed, whatever becomes of the instance meanwhile.
        let _claim = snapshot.is_none().then_some(claim);
        let packed = self.pack_image(task, (&pool, &root), snapshot.as_ref(), &metadata, compression, &file);
        if let Err(error) = packed {
            self.images.store.discard(&upload.files)?;
            return Err(error);
        }
        let size = file.metadata()?.len();
        Ok((self.import_image(task, &upload, new)?, size))
    }

    fn image_compression(&self, wanted: &str) -> Result<pack::Compression> {
        let config = self.server_config()?;
        let default = config.get("images.compression_algorithm").map_or("gzip", String::as_str);
        (if wanted.is_empty() { default } else { wanted }).parse()
    }

    /// What the image says of itself: what the one that the instance came from said, and what is said now over it.
    fn published_metadata(
        &self,
        task: &Task,
        (pool, root): (&OpenPool, &VolumeRecord),
        snapshot: Option<&SnapshotName>,
        instance: &Instance,
        new: &NewImage,
    ) -> Result<String> {
        let id = root.storage_id()?;
        let attached = self.with_cx(task, |cx| match snapshot {
            Some(name) => pool.pool.attach_snapshot(cx, &id, name),
            None => pool.pool.attach(cx, &id, larder_storage_driver::Mode::ReadOnly),
        })?;
        let read =
            attached.directory().map_err(ServiceError::from).and_then(
                |folder| match std::fs::read_to_string(folder.join(METADATA_FILE)) {
                    Ok(text) => Ok(Some(text)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error.into()),
                },
            );
        self.with_cx(task, |cx| match snapshot {
            Some(name) => pool.pool.detach_snapshot(&cx.uncancellable(), &id, name),
            None => pool.pool.detach(&cx.uncancellable(), &id),
        })?;
        let bad = |error: larder_images::MetadataError| ServiceError::bad(super::chain(&error));
        let known = read?.map(|text| ImageMetadata::parse(&text)).transpose().map_err(bad)?;
        let (mut properties, templates) =
            known.map_or_else(Default::default, |known| (known.properties, known.templates));
        properties.extend(new.properties.clone());
        let metadata = ImageMetadata {
            architecture: instance.architecture.clone(),
            creation_date: self.clock.now().as_second(),
            expiry_date: new.expires_at.map_or(0, |at| at.as_second().max(0)),
            properties: properties.into_iter().collect::<Config>(),
            templates,
        };
        metadata.to_yaml().map_err(bad)
    }

    fn pack_image(
        &self,
        task: &Task,
        (pool, root): (&OpenPool, &VolumeRecord),
        snapshot: Option<&SnapshotName>,
        metadata: &str,
        compression: pack::Compression,
        output: &File,
    ) -> Result<()> {
        let mut first = tempfile::NamedTempFile::new_in(self.directories.backups())?;
        first.write_all(metadata.as_bytes())?;
        let id = root.storage_id()?;
        let plan = PartsPlan {
            volume: &id,
            snapshot,
            first: (first.path(), METADATA_FILE),
            folders: &[ROOTFS, TEMPLATES],
        };
        pack::through(STAGE, compression, output, task, |output| {
            Ok(self.with_cx(task, |cx| pool.pool.export_parts(cx, &plan, &output))?)
        })
    }
}
