//! Volumes from uploaded files: backups in the portable form, ISO images, and tars of files.

use super::manifest::{self, Described, Manifest};
use super::{MANIFEST, SNAPSHOTS, VOLUME};
use crate::service::{NewVolume, OpenPool, Result, Service, ServiceError, Task};
use larder_base::{ByteSize, ProjectName, SnapshotName, VolumeName};
use larder_catalog::documents::{Snapshot, Volume};
use larder_images::archive;
use larder_images::{Format, Limits, Select, UnpackError, UnpackRequest};
use larder_storage_driver::{Attached, Config, Content, Cx, ErrorKind, StorageError};
use larder_storage_pool::Fill;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const MANIFEST_BYTES: u64 = 1 << 20;
/// How many members may stand before the manifest; the peers write it first.
const BEFORE_MANIFEST: usize = 16;
const CHUNK: usize = 1 << 20;

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

impl Service {
    /// Makes a volume from an uploaded file. Everything that can be known is checked before the first change.
    pub fn import_volume(&self, task: &Task, pool: &OpenPool, import: &BackupImport) -> Result<()> {
        match import.kind {
            ImportKind::Backup => self.import_backup(task, pool, import),
            ImportKind::Iso => self.import_iso(task, pool, import),
            ImportKind::Files => self.import_files(task, pool, import),
        }
    }

    fn import_backup(&self, task: &Task, pool: &OpenPool, import: &BackupImport) -> Result<()> {
        let Manifest { volume: described, content, snapshots } =
            manifest::read(&read_manifest(&import.file)?)?;
        let name = match &import.name {
            Some(name) => name.clone(),
            None => described.name.parse()?,
        };
        let names: Vec<SnapshotName> =
            snapshots.iter().map(|snapshot| snapshot.name.parse()).collect::<Result<_, _>>()?;
        let mut config = described.config.clone();
        if content != Content::Filesystem {
            let disk = disk_size(&import.file, &format!("{VOLUME}.img"))?;
            let known = config.get("size").and_then(|size| size.parse::<ByteSize>().ok());
            if known.is_none_or(|known| known < disk) {
                config.insert("size".to_owned(), disk.to_string());
            }
        }
        let new = NewVolume {
            project: import.project.clone(),
            name,
            content,
            description: described.description.clone(),
            config,
        };
        let (volume, spec) = self.plan_volume(pool, new)?;
        let documents: Vec<_> = snapshots.iter().map(|snapshot| self.imported(&volume, snapshot)).collect();
        let fill = |member: String| MemberFill { service: self, file: &import.file, content, member };
        let fills: Vec<_> = names.iter().map(|name| fill(format!("{SNAPSHOTS}/{name}"))).collect();
        let with_fills: Vec<(SnapshotName, &dyn Fill)> =
            names.iter().cloned().zip(fills.iter().map(|fill| fill as &dyn Fill)).collect();
        let own = fill(VOLUME.to_owned());
        self.creating(task, pool, &volume, &documents, |cx| {
            pool.pool.create_with_snapshots(cx, &spec, &with_fills, &own)
        })
    }

    fn imported(&self, volume: &Volume, described: &Described) -> Snapshot {
        Snapshot {
            id: larder_catalog::SnapshotId::random(),
            volume: volume.id,
            name: described.name.clone(),
            description: described.description.clone(),
            config: if described.config.is_empty() {
                volume.config.clone()
            } else {
                described.config.clone()
            },
            created_at: described.created_at.unwrap_or_else(|| self.clock.now()),
            expires_at: described.expires_at.and_then(larder_api::given_time),
            is_ready: true,
        }
    }

    fn import_iso(&self, task: &Task, pool: &OpenPool, import: &BackupImport) -> Result<()> {
        let size = std::fs::metadata(&import.file)?.len();
        if size == 0 {
            return Err(ServiceError::bad(
                "the ISO file is empty: upload the image's bytes as the request body",
            ));
        }
        let config = Config::from([("size".to_owned(), ByteSize::from_bytes(size).to_string())]);
        let new = self.named(import, Content::Iso, config)?;
        let fill = |cx: &Cx<'_>, into: &Attached| {
            let mut source = File::open(&import.file)?;
            write_disk(cx, &mut source, into.disk()?)
        };
        self.create_filled(task, pool, new, &fill)
    }

    fn import_files(&self, task: &Task, pool: &OpenPool, import: &BackupImport) -> Result<()> {
        let new = self.named(import, Content::Filesystem, Config::new())?;
        let fill =
            |cx: &Cx<'_>, into: &Attached| self.unpack(cx, &import.file, Select::All, into.directory()?);
        self.create_filled(task, pool, new, &fill)
    }

    fn named(&self, import: &BackupImport, content: Content, config: Config) -> Result<NewVolume> {
        let name = import.name.clone().ok_or_else(|| {
            ServiceError::bad(format!(
                "an uploaded {content} volume needs a name: give one in the header X-Incus-name or X-LXD-name"
            ))
        })?;
        Ok(NewVolume { project: import.project.clone(), name, content, description: String::new(), config })
    }

    fn unpack(
        &self,
        cx: &Cx<'_>,
        archive: &Path,
        select: Select,
        into: &Path,
    ) -> larder_storage_driver::Result<()> {
        let request = UnpackRequest { archive, into, limits: Limits::default(), select };
        self.launcher.unpack(&request, cx.cancel(), cx.progress()).map_err(|error| {
            let kind = match error {
                UnpackError::Cancelled => ErrorKind::Cancelled,
                UnpackError::NoHelper { .. } | UnpackError::NoJail { .. } | UnpackError::Open { .. } => {
                    ErrorKind::Unexpected
                }
                UnpackError::MissingTool { .. } => ErrorKind::Unavailable,
                _ => ErrorKind::Invalid,
            };
            StorageError::new(kind, "unpacking the upload").because(error)
        })
    }
}

/// Fills a volume or a snapshot from its part of a backup.
struct MemberFill<'a> {
    service: &'a Service,
    file: &'a Path,
    content: Content,
    /// The folder, or the disk without its ending.
    member: String,
}

impl Fill for MemberFill<'_> {
    fn fill(&self, cx: &Cx<'_>, into: &Attached) -> larder_storage_driver::Result<()> {
        match self.content {
            Content::Filesystem => {
                self.service.unpack(cx, self.file, Select::Below(self.member.clone()), into.directory()?)
            }
            Content::Block | Content::Iso => {
                let name = format!("{}.img", self.member);
                let disk = into.disk()?;
                let invalid = |message: String| StorageError::new(ErrorKind::Invalid, message);
                let found =
                    with_member(self.file, usize::MAX, &name, |_, data| Ok(write_disk(cx, data, disk)));
                match found.map_err(|error| invalid(error.message))? {
                    Some(written) => written,
                    None => Err(invalid(format!("the backup has no {name}"))),
                }
            }
        }
    }
}

/// Writes a disk's bytes, leaving holes where they are zero.
fn write_disk(cx: &Cx<'_>, from: &mut dyn Read, disk: &Path) -> larder_storage_driver::Result<()> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(disk)?;
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    loop {
        cx.checkpoint()?;
        let read = fill_buffer(from, &mut buffer)?;
        if read == 0 {
            return Ok(file.sync_all()?);
        }
        if buffer[..read].iter().any(|byte| *byte != 0) {
            file.write_all_at(&buffer[..read], at)?;
        }
        at += read as u64;
    }
}

fn fill_buffer(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

fn read_manifest(file: &Path) -> Result<String> {
    let text = with_member(file, BEFORE_MANIFEST, MANIFEST, |size, data| {
        if size > MANIFEST_BYTES {
            return Err(ServiceError::bad(format!(
                "the backup's index.yaml is too large: at most {} MiB",
                MANIFEST_BYTES >> 20
            )));
        }
        let mut text = String::new();
        data.read_to_string(&mut text).map_err(|error| damaged(&error))?;
        Ok(text)
    })?;
    text.ok_or_else(|| {
        ServiceError::bad("this is no backup: backup/index.yaml does not stand at its beginning")
    })
}

fn disk_size(file: &Path, name: &str) -> Result<ByteSize> {
    let size = with_member(file, usize::MAX, name, |size, _| Ok(ByteSize::from_bytes(size)))?;
    size.ok_or_else(|| ServiceError::bad(format!("the backup has no {name}")))
}

/// Looks for a plain file among the first `limit` members of a tar and reads from it.
fn with_member<T>(
    file: &Path,
    limit: usize,
    name: &str,
    read: impl FnOnce(u64, &mut dyn Read) -> Result<T>,
) -> Result<Option<T>> {
    let mut open = File::open(file)?;
    let format = Format::of_file(&mut open)?.filter(|format| *format != Format::Squashfs);
    let format =
        format.ok_or_else(|| ServiceError::bad("this is no backup: it is no tar file, packed or not"))?;
    let stream = archive::unpacked(open, format).map_err(|error| damaged(&error))?;
    let mut tar = tar::Archive::new(stream);
    for entry in tar.entries().map_err(|error| damaged(&error))?.take(limit) {
        let mut entry = entry.map_err(|error| damaged(&error))?;
        let path = entry.path_bytes().into_owned();
        let path = path.strip_prefix(b"./").unwrap_or(&path);
        if path == name.as_bytes() && entry.header().entry_type().is_file() {
            let size = entry.size();
            return read(size, &mut entry).map(Some);
        }
    }
    Ok(None)
}

fn damaged(error: &io::Error) -> ServiceError {
    ServiceError::bad(format!("the backup is damaged or cut off: {error}"))
}
