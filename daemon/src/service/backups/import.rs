//! Volumes from uploaded files: backups in the portable form, ISO images, and tars of files.

use super::Layout;
use super::disk::write_disk;
use super::manifest::{self, Described, Manifest};
use super::survey::{self, Wanted};
use crate::service::{NewVolume, OpenPool, Result, Service, ServiceError, Task};
use larder_base::{ByteSize, ProjectName, SnapshotName, VolumeName};
use larder_catalog::documents::{Snapshot, Volume};
use larder_images::{Limits, Select, UnpackRequest};
use larder_storage_driver::{
    Attached, Config, Content, Cx, ErrorKind, KeyScope, StorageError, VolumeSpec, check_config,
};
use larder_storage_pool::Fill;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

/// How long one unpacking may take.
pub(super) const UNPACK_SECONDS: u64 = 24 * 3600;

/// What an uploaded file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportKind {
    /// A backup with its manifest.
    Backup,
    /// An ISO image.
    Iso,
    /// A tar of files.
    Files,
}

/// An uploaded file that shall become a volume.
#[derive(Debug, Clone)]
pub struct BackupImport {
    /// The file on this machine.
    pub file: PathBuf,
    /// What it is.
    pub kind: ImportKind,
    /// The project of the new volume (already the one that holds volumes).
    pub project: ProjectName,
    /// The new volume's name; a backup has one of its own.
    pub name: Option<VolumeName>,
}

/// An import of which all is checked that can be known without reading the whole file.
#[derive(Debug, Clone)]
pub struct CheckedImport {
    file: PathBuf,
    new: NewVolume,
    /// Oldest first, as a backup's manifest has them.
    snapshots: Vec<(SnapshotName, Described)>,
    kind: ImportKind,
}

impl CheckedImport {
    /// The new volume's name.
    pub fn name(&self) -> &VolumeName {
        &self.new.name
    }
}

impl Service {
    /// Looks at the beginning of an uploaded file: what it would become, and whether that can be.
    pub fn check_import(&self, pool: &OpenPool, import: BackupImport) -> Result<CheckedImport> {
        let checked = match import.kind {
            ImportKind::Backup => check_backup(pool, import)?,
            ImportKind::Iso => check_iso(import)?,
            ImportKind::Files => {
                let new = named(&import, Content::Filesystem, Config::new())?;
                CheckedImport { file: import.file, new, snapshots: Vec::new(), kind: import.kind }
            }
        };
        self.plan_volume(pool, checked.new.clone())?;
        self.custom_name_must_be_free(pool, &checked.new.project, &checked.new.name)?;
        Ok(checked)
    }

    /// Refuses a name that a custom volume of the project has on a pool.
    pub fn custom_name_must_be_free(
        &self,
        pool: &OpenPool,
        project: &ProjectName,
        name: &VolumeName,
    ) -> Result<()> {
        match self.store.volume(&pool.document, project, "custom", name.as_str())? {
            Some(_) => Err(ServiceError::taken(format!("the custom volume {:?}", name.as_str()))),
            None => Ok(()),
        }
    }

    /// Makes a volume from an uploaded file. All or nothing; a backup is read whole before the first change.
    pub fn import_volume(&self, task: &Task, pool: &OpenPool, import: CheckedImport) -> Result<()> {
        let CheckedImport { file, new, snapshots, kind } = import;
        match kind {
            ImportKind::Backup => self.import_backup(task, pool, &file, new, &snapshots),
            ImportKind::Iso => self.create_filled(task, pool, new, &|cx: &Cx<'_>, into: &Attached| {
                write_disk(cx, &mut File::open(&file)?, into.disk()?)
            }),
            ImportKind::Files => {
                let limits =
                    Limits { bytes: self.room(task, pool)?, seconds: UNPACK_SECONDS, ..Limits::default() };
                self.create_filled(task, pool, new, &|cx: &Cx<'_>, into: &Attached| {
                    self.unpack(
                        cx,
                        &UnpackRequest {
                            archive: &file,
                            into: into.directory()?,
                            limits,
                            select: Select::All,
                        },
                    )
                })
            }
        }
    }

    fn import_backup(
        &self,
        task: &Task,
        pool: &OpenPool,
        file: &Path,
        mut new: NewVolume,
        snapshots: &[(SnapshotName, Described)],
    ) -> Result<()> {
        let content = new.content;
        let layout = Layout::of("custom");
        let folders: Vec<String> = snapshots
            .iter()
            .map(|(name, _)| format!("{}/{name}", layout.snapshots))
            .chain([layout.volume.to_owned()])
            .collect();
        let wanted = match content {
            Content::Filesystem => Wanted::Folders(folders.clone()),
            Content::Block | Content::Iso => {
                Wanted::Disks(folders.iter().map(|name| disk_of(name)).collect())
            }
        };
        let room = self.room(task, pool)?;
        let found = survey::survey(file, &wanted, room, task)?;
        if let Some(disk) = found.disks.values().max() {
            grow(&mut new.config, ByteSize::from_bytes(*disk));
        }
        let limits = Limits {
            bytes: found.bytes.saturating_add(room),
            inodes: Limits::default().inodes.max(found.members.saturating_mul(2)),
            seconds: UNPACK_SECONDS,
        };
        let (volume, spec) = self.plan_volume(pool, new)?;
        let documents: Vec<_> = snapshots
            .iter()
            .map(|(name, described)| self.imported_snapshot(&volume, name, described))
            .collect();
        let fills: Vec<_> = folders
            .into_iter()
            .map(|member| MemberFill { service: self, file, content, limits, member })
            .collect();
        self.creating(task, pool, &volume, &documents, |cx| create(cx, pool, &spec, snapshots, &fills))
    }

    fn imported_snapshot(&self, volume: &Volume, name: &SnapshotName, described: &Described) -> Snapshot {
        let config = if described.config.is_empty() { &volume.config } else { &described.config };
        Snapshot {
            id: larder_catalog::SnapshotId::random(),
            volume: volume.id,
            name: name.to_string(),
            description: described.description.clone(),
            config: config.clone(),
            created_at: described
                .created_at
                .and_then(larder_api::given_time)
                .unwrap_or_else(|| self.clock.now()),
            expires_at: described.expires_at.and_then(larder_api::given_time),
            is_ready: true,
        }
    }

    /// How many bytes more the pool can take.
    pub(super) fn room(&self, task: &Task, pool: &OpenPool) -> Result<u64> {
        let usage = self.with_cx(task, |cx| pool.pool.usage(cx))?;
        Ok(usage.total_bytes.saturating_sub(usage.used_bytes))
    }
}

fn check_backup(pool: &OpenPool, import: BackupImport) -> Result<CheckedImport> {
    let Manifest { mut volume, content, mut snapshots, backend } =
        manifest::read(&survey::read_manifest(&import.file)?)?;
    let driver = pool.pool.driver();
    let mut names = BTreeSet::new();
    for described in std::iter::once(&mut volume).chain(&mut snapshots) {
        if backend != driver.name() {
            // Another driver's own keys mean nothing here.
            let is_known = |key: &str| driver.config_keys().iter().any(|known| known.name == key);
            described.config.retain(|key, _| key.starts_with("user.") || is_known(key));
        }
        check_config(&described.config, KeyScope::Volume, driver.config_keys(), driver.name())?;
    }
    for snapshot in &snapshots {
        if !names.insert(&snapshot.name) {
            return Err(ServiceError::bad(format!(
                "the backup lists the snapshot {:?} twice",
                snapshot.name
            )));
        }
    }
    let name = match import.name {
        Some(name) => name,
        None => volume.name.parse()?,
    };
    let snapshots = snapshots
        .into_iter()
        .map(|snapshot| Ok((snapshot.name.parse()?, snapshot)))
        .collect::<Result<_>>()?;
    let Described { description, config, .. } = volume;
    let new = NewVolume { project: import.project, name, content, description, config };
    Ok(CheckedImport { file: import.file, new, snapshots, kind: import.kind })
}

fn check_iso(import: BackupImport) -> Result<CheckedImport> {
    let size = std::fs::metadata(&import.file)?.len();
    if size == 0 {
        return Err(ServiceError::bad("the ISO file is empty: upload the image's bytes as the request body"));
    }
    let config = Config::from([("size".to_owned(), ByteSize::from_bytes(size).to_string())]);
    let new = named(&import, Content::Iso, config)?;
    Ok(CheckedImport { file: import.file, new, snapshots: Vec::new(), kind: import.kind })
}

fn named(import: &BackupImport, content: Content, config: Config) -> Result<NewVolume> {
    let name = import.name.clone().ok_or_else(|| {
        ServiceError::bad(format!(
            "an uploaded {content} volume needs a name: give one in the header X-Incus-name or X-LXD-name"
        ))
    })?;
    Ok(NewVolume { project: import.project.clone(), name, content, description: String::new(), config })
}

/// Makes the `size` key large enough for a disk.
fn grow(config: &mut Config, disk: ByteSize) {
    let known = config.get("size").and_then(|size| size.parse::<ByteSize>().ok());
    if known.is_none_or(|known| known < disk) {
        config.insert("size".to_owned(), disk.to_string());
    }
}

fn disk_of(member: &str) -> String {
    format!("{member}.img")
}

/// `fills` has one for each snapshot and, last, the volume's own.
fn create(
    cx: &Cx<'_>,
    pool: &OpenPool,
    spec: &VolumeSpec,
    snapshots: &[(SnapshotName, Described)],
    fills: &[MemberFill<'_>],
) -> larder_storage_driver::Result<()> {
    let Some((own, fills)) = fills.split_last() else { return Ok(()) };
    let snapshots: Vec<(SnapshotName, &dyn Fill)> =
        snapshots.iter().zip(fills).map(|((name, _), fill)| (name.clone(), fill as &dyn Fill)).collect();
    pool.pool.create_with_snapshots(cx, spec, &snapshots, own)
}

/// Fills a volume or a snapshot from its part of a backup.
pub(super) struct MemberFill<'a> {
    pub(super) service: &'a Service,
    pub(super) file: &'a Path,
    pub(super) content: Content,
    pub(super) limits: Limits,
    /// The folder, or the disk without its ending.
    pub(super) member: String,
}

impl Fill for MemberFill<'_> {
    fn fill(&self, cx: &Cx<'_>, into: &Attached) -> larder_storage_driver::Result<()> {
        match self.content {
            Content::Filesystem => {
                let select = Select::Below(self.member.clone());
                let request = UnpackRequest {
                    archive: self.file,
                    into: into.directory()?,
                    limits: self.limits,
                    select,
                };
                self.service.unpack(cx, &request)
            }
            Content::Block | Content::Iso => {
                let (name, disk) = (disk_of(&self.member), into.disk()?);
                let write = |_, data: &mut dyn std::io::Read| Ok(write_disk(cx, data, disk));
                let invalid = |message: String| StorageError::new(ErrorKind::Invalid, message);
                match survey::with_member(self.file, usize::MAX, &name, cx.cancel(), write) {
                    Ok(Some(written)) => written,
                    Ok(None) => Err(invalid(format!("the backup has no {name}"))),
                    Err(error) => {
                        cx.checkpoint()?;
                        Err(invalid(error.message))
                    }
                }
            }
        }
    }
}
