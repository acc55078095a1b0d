//! An image on a pool: unpacked once into a volume, which every instance made from it then is a copy or clone of.

use super::root_keys::RootKeys;
use crate::service::{Kind, OpenPool, Result, Service, ServiceError, Task, VolumeRecord};
use larder_base::ProjectName;
use larder_catalog::documents::{Image, Volume, VolumeState};
use larder_images::{ImageFiles, Limits, Select, UnpackRequest};
use larder_storage_driver::{
    Attached, Content, Cx, ErrorKind, StorageError, VolumeId, VolumeKind, VolumeSpec,
};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// The folder of a root volume that becomes the instance's root.
pub(in crate::service) const ROOTFS: &str = "rootfs";
/// The folder with the templates that its metadata names.
pub(in crate::service) const TEMPLATES: &str = "templates";

impl Service {
    /// The volume of an image on a pool; made now if it is not there, and made anew if the pool says otherwise by now how volumes
    /// are made.
    pub(super) fn image_volume(&self, task: &Task, pool: &OpenPool, image: &Image) -> Result<VolumeRecord> {
        let project = ProjectName::default_project();
        let find = || {
            self.store.volume(
                &pool.document,
                &project,
                VolumeKind::Image.as_str(),
                image.fingerprint.as_str(),
            )
        };
        let config = RootKeys::on(pool).of_image();
        let is_good = |known: &VolumeRecord| RootKeys::on(pool).can_become(&known.volume.config, &config);
        if let Some(known) = find()?.filter(is_good) {
            return Ok(known);
        }
        let what = (pool.document.id, image.fingerprint.clone());
        let _unpacking =
            self.instances.unpacking.take_unless(what, &task.cancel).map_err(StorageError::from)?;
        let files = self.image_paths(image)?;
        match find()? {
            Some(known) if is_good(&known) => return Ok(known),
            Some(other) => match self.delete_volume(task, pool, &other) {
                // Somebody else deletes it.
                Err(error) if error.kind == Kind::NotFound => {}
                deleted => deleted?,
            },
            None => {}
        }
        let id = VolumeId {
            kind: VolumeKind::Image,
            content: Content::Filesystem,
            project: project.clone(),
            name: image.fingerprint.as_str().parse()?,
        };
        let volume = Volume {
            id: larder_catalog::VolumeId::random(),
            pool: pool.document.id,
            project: project.clone(),
            kind: VolumeKind::Image.as_str().to_owned(),
            content: Content::Filesystem.as_str().to_owned(),
            name: image.fingerprint.to_string(),
            description: String::new(),
            config: config.clone(),
            state: VolumeState::Creating,
            created_at: self.clock.now(),
            takes_over: None,
        };
        let spec = VolumeSpec { id, size: None, config: config.clone() };
        self.creating(task, pool, &volume, &[], |cx| self.unpack_to(cx, pool, &spec, &files))?;
        find()?.ok_or_else(|| {
            ServiceError::internal(format!("the volume of image {} went away", image.fingerprint))
        })
    }

    /// Makes a volume that holds what an image's files hold.
    pub(super) fn unpack_to(
        &self,
        cx: &Cx<'_>,
        pool: &OpenPool,
        spec: &VolumeSpec,
        files: &ImageFiles,
    ) -> larder_storage_driver::Result<()> {
        let fill = |cx: &Cx<'_>, into: &Attached| self.unpack_image(cx, files, into.directory()?);
        pool.pool.create_volume(cx, spec, &fill)
    }

    fn unpack_image(
        &self,
        cx: &Cx<'_>,
        files: &ImageFiles,
        into: &Path,
    ) -> larder_storage_driver::Result<()> {
        self.unpack(cx, &whole(&files.main, into))?;
        let rootfs = into.join(ROOTFS);
        if let Some(archive) = &files.rootfs {
            std::fs::DirBuilder::new().mode(0o755).create(&rootfs)?;
            self.unpack(cx, &whole(archive, &rootfs))?;
        }
        check_root(into)?;
        if !is_file(&into.join(METADATA)) {
            return Err(not_as_it_must_be(METADATA));
        }
        Ok(())
    }
}

const METADATA: &str = larder_images::metadata::METADATA_FILE;

/// Looks whether what we look at later in a root volume is its own, not a link to something of this machine.
pub(in crate::service) fn check_root(folder: &Path) -> larder_storage_driver::Result<()> {
    for (name, is_right) in [
        (ROOTFS, is_folder as fn(&Path) -> bool),
        (TEMPLATES, is_folder_or_absent),
        (METADATA, is_file_or_absent),
    ] {
        if !is_right(&folder.join(name)) {
            return Err(not_as_it_must_be(name));
        }
    }
    Ok(())
}

fn not_as_it_must_be(name: &str) -> StorageError {
    let message = format!("its {name} is not what it must be: a plain file or folder of its own");
    StorageError::new(ErrorKind::Invalid, message)
}

fn whole<'a>(archive: &'a Path, into: &'a Path) -> UnpackRequest<'a> {
    UnpackRequest { archive, into, limits: Limits::default(), select: Select::All }
}

fn is_folder(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn is_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

fn is_file_or_absent(path: &Path) -> bool {
    std::fs::symlink_metadata(path).map_or(true, |found| found.is_file())
}

fn is_folder_or_absent(path: &Path) -> bool {
    std::fs::symlink_metadata(path).map_or(true, |found| found.is_dir())
}
