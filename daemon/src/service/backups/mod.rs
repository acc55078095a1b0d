//! Backups of volumes and instances in the portable form: stored files that can be downloaded, and their import. An
//! instance's is its root volume's, with more told in it.

mod bucket;
mod disk;
mod elsewhere;
mod import;
mod instance;
mod instance_manifest;
mod manifest;
mod objects;
pub(super) mod pack;
mod survey;

pub use bucket::CheckedBucket;
pub use import::{BackupImport, ImportKind};
pub use instance::InstanceImport;

use super::crash::{Point, point};
use super::store::cause_of;
use super::{OpenPool, Requestor, Result, Service, ServiceError, Task, VolumeRecord, url};
use jiff::Timestamp;
use larder_base::SnapshotName;
use larder_catalog::Cause;
use larder_catalog::documents::{Backup, Snapshot, Volume};
use larder_storage_driver::{Content, Cx};
use larder_storage_pool::{BackupMember, ExportPlan};
use pack::{Compression, PatientPipe};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The folder and name of a volume in the tar, and of its snapshots (the peers' layout).
#[derive(Debug, Clone, Copy)]
struct Layout {
    volume: &'static str,
    snapshots: &'static str,
}

impl Layout {
    /// That of a kind of volume.
    fn of(kind: &str) -> Self {
        match kind {
            "container" => Self { volume: "backup/container", snapshots: "backup/snapshots" },
            _ => Self { volume: "backup/volume", snapshots: "backup/volume-snapshots" },
        }
    }
}

/// Where the peers look for what `index.yaml` says, in an instance's root volume.
const PEERS_NOTE: &str = "backup.yaml";
const MANIFEST: &str = "backup/index.yaml";
const UNFINISHED: &str = "part";
/// How work that makes a backup calls what it is at; clients look for `create_backup_progress`.
const STAGE: &str = "create_backup";

/// What a new backup shall be, checked.
#[derive(Debug, Clone)]
pub struct NewBackup {
    /// Its name.
    pub name: String,
    /// When it goes.
    pub expires_at: Option<Timestamp>,
    /// Whether the snapshots are left out.
    pub volume_only: bool,
    compression: Compression,
}

impl NewBackup {
    /// Checks what was asked for. An empty compression is the server's.
    pub fn checked(
        service: &Service,
        name: String,
        expires_at: Option<Timestamp>,
        volume_only: bool,
        compression: &str,
    ) -> Result<Self> {
        let is_plain =
            !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']) && name.len() <= 255;
        if !is_plain {
            return Err(ServiceError::bad(format!(
                "invalid backup name {name:?}: it has at most 255 bytes, none of them a slash, and does not begin with a dot"
            )));
        }
        if expires_at.is_some_and(|at| at <= service.clock.now()) {
            return Err(ServiceError::bad(format!("the expiry of backup {name:?} has passed already")));
        }
        let default =
            service.server_config()?.get("backups.compression_algorithm").cloned().unwrap_or_default();
        let wanted =
            [compression, &default, "gzip"].into_iter().find(|name| !name.is_empty()).unwrap_or("gzip");
        Ok(Self { name, expires_at, volume_only, compression: wanted.parse()? })
    }

    /// The end of a file name for it, such as `.tar.gz`.
    pub fn suffix(&self) -> &'static str {
        self.compression.suffix()
    }
}

/// Whether the text of a manifest is understood: a volume's, or an instance's.
pub(crate) fn check_manifest(text: &str) -> Result<()> {
    manifest::read(text).map(drop).or_else(|_| instance_manifest::read(text).map(drop))
}

fn member(content: Content, folder: &str) -> BackupMember {
    match content {
        Content::Filesystem => BackupMember { directory: Some(folder.to_owned()), disk: None },
        Content::Block | Content::Iso => {
            BackupMember { directory: None, disk: Some(format!("{folder}.img")) }
        }
    }
}

impl Service {
    /// Makes a stored backup. The file is complete before it has a document.
    pub fn create_backup(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        new: &NewBackup,
    ) -> Result<()> {
        let backup = Backup {
            id: Uuid::new_v4(),
            volume: record.volume.id,
            name: new.name.clone(),
            created_at: self.clock.now(),
            expires_at: new.expires_at,
            volume_only: new.volume_only,
            optimized: false,
        };
        let path = self.backup_path(&backup);
        let part = path.with_extension(UNFINISHED);
        let written = self.store_backup(task, pool, record, new, &part).and_then(|()| {
            fs::rename(&part, &path)?;
            File::open(self.directories.backups())?.sync_all()?;
            point(Point::Act);
            let cause = self.backup_cause(task, &pool.document.name, &record.volume, &backup.name, "created");
            self.store.add_backup(&backup, Some(cause))
        });
        if written.is_err() {
            for file in [&part, &path] {
                remove_file(file)?;
            }
        }
        written
    }

    fn store_backup(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        new: &NewBackup,
        part: &Path,
    ) -> Result<()> {
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(part)?;
        self.write_backup(task, pool, record, new, &file)?;
        Ok(file.sync_all()?)
    }

    /// Writes a backup into a pipe instead of a file. After a failure what came out of it is no backup.
    pub fn stream_backup(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        new: &NewBackup,
        output: std::io::PipeWriter,
    ) -> Result<()> {
        self.write_backup(task, pool, record, new, PatientPipe::new(output, &task.cancel)?)
    }

    fn write_backup(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        new: &NewBackup,
        output: impl Write + Send,
    ) -> Result<()> {
        if record.is_bucket() {
            return self.write_bucket_backup(task, pool, record, new, output);
        }
        let snapshots = if new.volume_only { Vec::new() } else { self.store.snapshots_of(&record.volume)? };
        self.must_have_own_ids(task, pool, record, &snapshots)?;
        let (text, note) = self.manifests(pool, record, &snapshots)?;
        let index = self.temporary(&text)?;
        let note = note.map(|text| self.temporary(&text)).transpose()?;
        let files = (index.path(), note.as_ref().map(tempfile::NamedTempFile::path));
        pack::through(STAGE, new.compression, output, task, |output| {
            self.with_cx(task, |cx| export(cx, pool, record, &snapshots, files, &output))
        })
    }

    fn temporary(&self, text: &str) -> Result<tempfile::NamedTempFile> {
        let mut file = tempfile::NamedTempFile::new_in(self.directories.backups())?;
        file.write_all(text.as_bytes())?;
        Ok(file)
    }

    /// A volume's backups, by name.
    pub fn backups(&self, record: &VolumeRecord) -> Result<Vec<Backup>> {
        let mut backups = self.store.backups_of(&record.volume)?;
        backups.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(backups)
    }

    /// A backup by name.
    pub fn backup(&self, record: &VolumeRecord, name: &str) -> Result<Backup> {
        let found = self.store.backups_of(&record.volume)?.into_iter().find(|backup| backup.name == name);
        found.ok_or_else(|| {
            ServiceError::not_found(format!("backup {name:?} of volume {:?}", record.volume.name))
        })
    }

    /// The next free name: `backup0`, `backup1`, ….
    pub fn next_backup_name(&self, record: &VolumeRecord) -> Result<String> {
        let taken: Vec<String> =
            self.store.backups_of(&record.volume)?.into_iter().map(|backup| backup.name).collect();
        Ok(super::lifetime::name_from_pattern("backup%d", &taken, self.clock.now()))
    }

    /// A backup's file, open for reading: it stays readable when the backup is deleted meanwhile.
    pub fn open_backup(&self, backup: &Backup) -> Result<File> {
        File::open(self.backup_path(backup)).map_err(|error| {
            ServiceError::internal(format!("the file of backup {:?} can't be read: {error}", backup.name))
        })
    }

    /// What is told when a backup of what is on the pool called `pool` is downloaded.
    pub fn backup_is_retrieved(
        &self,
        task: &Task,
        pool: &str,
        record: &VolumeRecord,
        backup: &Backup,
    ) -> Cause {
        self.backup_cause(task, pool, &record.volume, &backup.name, "retrieved")
    }

    /// Gives a backup of what is on the pool called `pool` another name.
    pub fn rename_backup(
        &self,
        task: &Task,
        pool: &str,
        record: &VolumeRecord,
        backup: &Backup,
        name: &str,
    ) -> Result<()> {
        let NewBackup { name, .. } = NewBackup::checked(self, name.to_owned(), None, true, "none")?;
        let mut cause = self.backup_cause(task, pool, &record.volume, &name, "renamed");
        cause.context = serde_json::json!({ "old_name": backup.name });
        self.store.rename_backup(backup, &Backup { name, ..backup.clone() }, Some(cause))
    }

    /// Deletes a backup.
    pub fn delete_backup(
        &self,
        task: &Task,
        pool: &str,
        record: &VolumeRecord,
        backup: &Backup,
    ) -> Result<()> {
        let cause = self.backup_cause(task, pool, &record.volume, &backup.name, "deleted");
        self.store.remove_backup(backup, Some(cause))?;
        point(Point::Commit);
        remove_file(&self.backup_path(backup))
    }

    /// Deletes the backups whose time has come. Returns how many went.
    pub fn delete_expired_backups(&self) -> Result<usize> {
        let now = self.clock.now();
        let mut deleted = 0;
        for backup in self.store.all_backups()? {
            if backup.expires_at.is_none_or(|at| at > now) {
                continue;
            }
            match self.delete_expired_backup(&backup) {
                Ok(()) => deleted += 1,
                Err(error) => tracing::warn!(backup = backup.name, %error, "an expired backup stays"),
            }
        }
        Ok(deleted)
    }

    fn delete_expired_backup(&self, backup: &Backup) -> Result<()> {
        let missing = || ServiceError::not_found(format!("the volume of backup {:?}", backup.name));
        let record = self.store.volume_by_id(backup.volume)?.ok_or_else(missing)?;
        let pool = self.store.pool_by_id(record.volume.pool)?;
        let task = Task::quiet(Requestor::default());
        let cause = self.backup_cause(&task, &pool.name, &record.volume, &backup.name, "deleted");
        self.store.remove_backup(backup, Some(cause))?;
        remove_file(&self.backup_path(backup))
    }

    /// Removes files that no backup has: unfinished ones, uploads, and those of volumes that are gone.
    pub fn sweep_backups(&self) -> Result<()> {
        let known: Vec<PathBuf> =
            self.store.all_backups()?.iter().map(|backup| self.backup_path(backup)).collect();
        for entry in fs::read_dir(self.directories.backups())? {
            let path = entry?.path();
            if !known.contains(&path) {
                tracing::info!(file = %path.display(), "removed what an interrupted run had left");
                if path.is_dir() { fs::remove_dir_all(&path)? } else { remove_file(&path)? }
            }
        }
        Ok(())
    }

    /// Removes the files of backups whose documents went with their volume.
    pub(super) fn forget_backup_files(&self, backups: &[Backup]) {
        for backup in backups {
            if let Err(error) = remove_file(&self.backup_path(backup)) {
                tracing::warn!(backup = backup.name, %error, "the file of a backup stays until the next start");
            }
        }
    }

    fn backup_path(&self, backup: &Backup) -> PathBuf {
        self.directories.backups().join(backup.id.to_string())
    }

    /// What happened to a backup: of a volume, a bucket, or the instance whose root it is.
    fn backup_cause(&self, task: &Task, pool: &str, volume: &Volume, backup: &str, what: &str) -> Cause {
        let (subject, parts) = match volume.kind.as_str() {
            "container" => ("instance", vec!["instances", &volume.name, "backups", backup]),
            "bucket" => {
                ("storage-bucket", vec!["storage-pools", pool, "buckets", &volume.name, "backups", backup])
            }
            kind => (
                "storage-volume",
                vec!["storage-pools", pool, "volumes", kind, &volume.name, "backups", backup],
            ),
        };
        let url = url(&parts, &volume.project);
        cause_of(task, &format!("{subject}-backup-{what}"), &url, &volume.project)
    }
}

fn export(
    cx: &Cx<'_>,
    pool: &OpenPool,
    record: &VolumeRecord,
    snapshots: &[Snapshot],
    (manifest, note): (&Path, Option<&Path>),
    output: &std::sync::Arc<File>,
) -> Result<()> {
    let (id, layout) = (record.storage_id()?, Layout::of(&record.volume.kind));
    let noted_as = format!("{}/{PEERS_NOTE}", layout.volume);
    let place = |snapshot: &Snapshot| -> Result<(SnapshotName, BackupMember)> {
        Ok((snapshot.name.parse()?, member(id.content, &format!("{}/{}", layout.snapshots, snapshot.name))))
    };
    let plan = ExportPlan {
        volume: &id,
        member: member(id.content, layout.volume),
        snapshots: snapshots.iter().map(place).collect::<Result<_>>()?,
        manifest: (manifest, MANIFEST),
        companion: note.map(|note| (note, noted_as.as_str())),
    };
    Ok(pool.pool.export(cx, &plan, output)?)
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
