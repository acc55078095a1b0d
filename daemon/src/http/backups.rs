//! Stored backups of volumes and instances, and volumes from uploaded files.

use super::glue::{App, Body, Upload, about, accepted, blocking, download, header, list, start, sync};
use super::volumes::{Found, find_custom, find_record, must_be_changeable, place};
use super::{ApiError, Query, Reply, families};
use crate::service::{
    BackupImport, ImportKind, NewBackup, Result, Service, ServiceError, Task, VolumeRecord, bucket_name, url,
};
use axum::body::Body as HttpBody;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use futures_util::{StreamExt, TryStreamExt};
use larder_api::{
    StorageVolumeBackup, StorageVolumeBackupPost, StorageVolumeBackupsPost, given_time, or_zero_time,
};
use larder_base::VolumeName;
use larder_catalog::documents::Backup;
use serde::Serialize;

/// The form of metadata that backups are written in.
const METADATA_VERSION: u32 = 1;

/// Pool, kind and name of a volume.
type VolumePath = Path<(String, String, String)>;
/// The same with a backup.
type BackupPath = Path<(String, String, String, String)>;

/// What backups are of.
#[derive(Debug, Clone)]
pub(super) enum Subject {
    /// A volume: its pool, kind and name.
    Volume(String, String, String),
    /// An instance: its root volume's backups are its.
    Instance(String),
}

/// What backups are of, as the catalog has it: its pool may be away.
struct Recorded {
    pool: String,
    record: VolumeRecord,
}

impl Subject {
    /// With its pool open, to make one.
    fn find(&self, service: &Service, query: &Query) -> Result<Found> {
        match self {
            Self::Volume(pool, kind, name) => find_custom(service, pool, kind, name, &query.project),
            Self::Instance(name) => {
                let (record, pool) = service.root_and_pool(&service.instance(&query.project, name)?)?;
                record.must_be_whole()?;
                Ok(Found { pool, record })
            }
        }
    }

    /// For stored ones, which are files beside the pools.
    fn find_recorded(&self, service: &Service, query: &Query) -> Result<Recorded> {
        match self {
            Self::Volume(pool, kind, name) => {
                let document = service.pool_document(pool)?;
                let record = find_record(service, &document, kind, name, &query.project)?;
                must_be_changeable(&record)?;
                Ok(Recorded { pool: document.name, record })
            }
            Self::Instance(name) => {
                let root = service.store().root_of(&service.instance(&query.project, name)?)?;
                let gone = || ServiceError::internal(format!("the root volume of instance {name} is gone"));
                let record = root.ok_or_else(gone)?;
                Ok(Recorded { pool: service.store().pool_by_id(record.volume.pool)?.name, record })
            }
        }
    }

    fn find_backup(&self, service: &Service, query: &Query, name: &str) -> Result<(Recorded, Backup)> {
        let found = self.find_recorded(service, query)?;
        let backup = service.backup(&found.record, name)?;
        Ok((found, backup))
    }

    fn url(&self, backup: &str, query: &Query) -> String {
        match self {
            Self::Volume(pool, kind, name) => {
                url(&place(pool, kind, name, &["backups", backup]), &query.project)
            }
            Self::Instance(name) => url(&["instances", name, "backups", backup], &query.project),
        }
    }

    /// What operations call it.
    fn noun(&self) -> &'static str {
        match self {
            Self::Volume(..) => "storage volume",
            Self::Instance(_) => "instance",
        }
    }
}

impl From<(String, String, String)> for Subject {
    fn from((pool, kind, name): (String, String, String)) -> Self {
        Self::Volume(pool, kind, name)
    }
}

/// What a new backup is asked to be. A form of the driver's own is not among it: no driver has one, and a client that wants
/// one gets the portable form, as the peers do it then.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) expires_at: Option<jiff::Timestamp>,
    /// Without snapshots.
    pub(super) bare: bool,
    pub(super) compression: String,
    pub(super) has_target: bool,
    pub(super) version: u32,
}

impl Wanted {
    fn check(&self) -> Result<()> {
        if self.has_target {
            return Err(ServiceError::not_implemented("uploading a backup to a target"));
        }
        if self.version > METADATA_VERSION {
            let message =
                format!("writing a backup's metadata in version {}: leave it out or give 1;", self.version);
            return Err(ServiceError::not_implemented(message));
        }
        Ok(())
    }
}

/// GET `…/backups`.
pub(super) async fn all_of<T: Serialize + Send + 'static>(
    app: App,
    subject: Subject,
    query: Query,
    wire: fn(&Backup) -> T,
    name: fn(&T) -> &str,
) -> Reply {
    let (at, wanted) = (subject.clone(), query.clone());
    let backups = blocking(&app, move |service| {
        let found = subject.find_recorded(service, &wanted)?;
        Ok(service.backups(&found.record)?.iter().map(wire).collect::<Vec<_>>())
    })
    .await?;
    list(&query, backups, |backup| at.url(name(backup), &query))
}

/// POST `…/backups`: an operation; or the backup itself, for who accepts nothing but bytes.
pub(super) async fn make(
    app: App,
    subject: Subject,
    query: Query,
    headers: &HeaderMap,
    body: Wanted,
) -> Reply {
    body.check()?;
    let is_direct = headers.get(ACCEPT).is_some_and(|value| value == "application/octet-stream");
    let (asked, at) = (query.clone(), subject.clone());
    let (found, new) = blocking(&app, move |service| {
        let found = at.find(service, &asked)?;
        let name = if body.name.is_empty() { service.next_backup_name(&found.record)? } else { body.name };
        if !is_direct && service.backups(&found.record)?.iter().any(|backup| backup.name == name) {
            return Err(ServiceError::taken(format!("the backup {name:?}")));
        }
        let expires_at = body.expires_at.and_then(given_time);
        let new = NewBackup::checked(service, name, expires_at, body.bare, &body.compression)?;
        Ok((found, new))
    })
    .await?;
    if is_direct {
        return stream(&app, &query, &subject, found, new);
    }
    let location = subject.url(&new.name, &query);
    let mut wanted = about(&query, &format!("Backing up {}", subject.noun()), "backups", &location);
    wanted.resources = families::backup_resources(&new.name);
    let operation = app.operations.start(&app.service, wanted, move |service, task| {
        service.create_backup(task, &found.pool, &found.record, &new)
    });
    accepted(&*operation.map_err(ApiError::from)?)
}

/// The backup as the body of the reply, while it is made. A failure breaks the body off: what came is no backup then.
fn stream(app: &App, query: &Query, subject: &Subject, found: Found, new: NewBackup) -> Reply {
    let (reader, writer) = std::io::pipe().map_err(ServiceError::from)?;
    let name = format!("{}{}", found.record.volume.name, new.suffix());
    let location = app.service.user_url(&found.pool.document.name, &found.record.volume);
    let kind = if matches!(subject, Subject::Instance(_)) { "instances" } else { "storage_volumes" };
    let work = move |service: &Service, task: &Task| {
        service.stream_backup(task, &found.pool, &found.record, &new, writer)
    };
    let operation = start(app, query, &format!("Exporting {}", subject.noun()), kind, &location, work)?;
    let failure = async move {
        operation.ended().await;
        let ended = operation.wire();
        (!ended.err.is_empty()).then(|| Err(std::io::Error::other(ended.err)))
    };
    let file = std::fs::File::from(std::os::fd::OwnedFd::from(reader));
    let bytes = HttpBody::into_data_stream(super::reply::file_body(file)).map_err(std::io::Error::other);
    let body = bytes.chain(futures_util::stream::once(failure).filter_map(std::future::ready));
    download(HttpBody::from_stream(body), None, &name)
}

/// GET `…/backups/{backup}`.
pub(super) async fn one_of<T: Serialize + Send + 'static>(
    app: App,
    subject: Subject,
    backup: String,
    query: Query,
    wire: fn(&Backup) -> T,
) -> Reply {
    let found = blocking(&app, move |service| subject.find_backup(service, &query, &backup)).await?;
    sync(&wire(&found.1))
}

/// POST `…/backups/{backup}`: another name, as an operation.
pub(super) async fn give_name(
    app: App,
    subject: Subject,
    backup: String,
    query: Query,
    name: String,
) -> Reply {
    let location = subject.url(&name, &query);
    let description = format!("Renaming {} backup", subject.noun());
    let wanted = query.clone();
    let (found, backup) =
        blocking(&app, move |service| subject.find_backup(service, &wanted, &backup)).await?;
    let operation = start(&app, &query, &description, "backups", &location, move |service, task| {
        service.rename_backup(task, &found.pool, &found.record, &backup, &name)
    })?;
    accepted(&operation)
}

/// DELETE `…/backups/{backup}`: an operation.
pub(super) async fn remove(app: App, subject: Subject, backup: String, query: Query) -> Reply {
    let location = subject.url(&backup, &query);
    let description = format!("Deleting {} backup", subject.noun());
    let wanted = query.clone();
    let (found, backup) =
        blocking(&app, move |service| subject.find_backup(service, &wanted, &backup)).await?;
    let operation = start(&app, &query, &description, "backups", &location, move |service, task| {
        service.delete_backup(task, &found.pool, &found.record, &backup)
    })?;
    accepted(&operation)
}

/// GET `…/backups/{backup}/export`: the file.
pub(super) async fn file_of(app: App, subject: Subject, backup: String, query: Query) -> Reply {
    let (file, length, name, retrieved) = blocking(&app, move |service| {
        let (found, backup) = subject.find_backup(service, &query, &backup)?;
        let mut file = service.open_backup(&backup)?;
        let length = file.metadata()?.len();
        let format = larder_images::Format::of_file(&mut file)?;
        let suffix = format.map_or(".tar", larder_images::Format::suffix);
        let retrieved = service.backup_is_retrieved(&query.task(), &found.pool, &found.record, &backup);
        Ok((file, length, format!("{}{suffix}", found.record.volume.name), retrieved))
    })
    .await?;
    app.events.used(retrieved);
    download(super::reply::file_body(file), Some(length), &name)
}

/// GET `…/volumes/{type}/{name}/backups`.
pub(crate) async fn get_all(State(app): State<App>, Path(at): VolumePath, query: Query) -> Reply {
    all_of(app, at.into(), query, wire, |backup| &backup.name).await
}

/// POST `…/volumes/{type}/{name}/backups`.
pub(crate) async fn post(
    State(app): State<App>,
    Path(at): VolumePath,
    query: Query,
    headers: HeaderMap,
    Body(body): Body<StorageVolumeBackupsPost>,
) -> Reply {
    let wanted = Wanted {
        name: body.name,
        expires_at: body.expires_at,
        bare: body.volume_only,
        compression: body.compression_algorithm,
        has_target: body.target.is_some(),
        version: body.version,
    };
    make(app, at.into(), query, &headers, wanted).await
}

/// GET `…/volumes/{type}/{name}/backups/{backup}`.
pub(crate) async fn get(
    State(app): State<App>,
    Path((pool, kind, name, backup)): BackupPath,
    query: Query,
) -> Reply {
    one_of(app, Subject::Volume(pool, kind, name), backup, query, wire).await
}

/// POST `…/volumes/{type}/{name}/backups/{backup}`.
pub(crate) async fn rename(
    State(app): State<App>,
    Path((pool, kind, name, backup)): BackupPath,
    query: Query,
    Body(body): Body<StorageVolumeBackupPost>,
) -> Reply {
    give_name(app, Subject::Volume(pool, kind, name), backup, query, body.name).await
}

/// DELETE `…/volumes/{type}/{name}/backups/{backup}`.
pub(crate) async fn delete(
    State(app): State<App>,
    Path((pool, kind, name, backup)): BackupPath,
    query: Query,
) -> Reply {
    remove(app, Subject::Volume(pool, kind, name), backup, query).await
}

/// GET `…/volumes/{type}/{name}/backups/{backup}/export`.
pub(crate) async fn export(
    State(app): State<App>,
    Path((pool, kind, name, backup)): BackupPath,
    query: Query,
) -> Reply {
    file_of(app, Subject::Volume(pool, kind, name), backup, query).await
}

/// POST `…/volumes/custom` with bytes: a volume from a backup, an ISO image or a tar of files, as an operation.
pub(crate) async fn import(app: App, pool: String, query: Query, headers: HeaderMap, body: Upload) -> Reply {
    let kind = match header(&headers, "type") {
        None | Some("backup") => ImportKind::Backup,
        Some("iso") => ImportKind::Iso,
        Some("tar") => ImportKind::Files,
        Some(other) => {
            return Err(ServiceError::bad(format!(
                "unknown type of upload {other:?}: it is one of backup, iso, tar"
            ))
            .into());
        }
    };
    let name =
        header(&headers, "name").map(str::parse::<VolumeName>).transpose().map_err(ServiceError::from)?;
    let (wanted, given) = (query.clone(), name.clone());
    let (open, project, folder) = blocking(&app, move |service| {
        let (open, project) = (service.open_pool(&pool)?, service.volume_project(&wanted.project)?);
        if let Some(name) = &given {
            // Before the upload; once more after it.
            service.custom_name_must_be_free(&open, &project, name)?;
        }
        Ok((open, project, service.directories().backups()))
    })
    .await?;
    let spooled = body.spooled(&folder).await?;
    let import = BackupImport { file: spooled.path().to_owned(), kind, project, name };
    let (open, import) = blocking(&app, move |service| {
        let import = service.check_import(&open, import)?;
        Ok((open, import))
    })
    .await?;
    let name = import.name().as_str();
    let location = url(&["storage-pools", &open.document.name, "volumes", "custom", name], &query.project);
    let work = move |service: &Service, task: &Task| {
        let outcome = service.import_volume(task, &open, import);
        drop(spooled);
        outcome
    };
    let operation = start(&app, &query, "Importing storage volume", "storage_volumes", &location, work)?;
    accepted(&operation)
}

/// POST `…/buckets` with bytes: a bucket from a backup, as an operation.
pub(crate) async fn import_bucket(
    app: App,
    pool: String,
    query: Query,
    headers: HeaderMap,
    body: Upload,
) -> Reply {
    let name = header(&headers, "name").map(bucket_name).transpose()?;
    let (wanted, given) = (query.clone(), name.clone());
    let (open, project, folder) = blocking(&app, move |service| {
        let (open, project) = (service.open_pool(&pool)?, service.bucket_project(&wanted.project)?);
        if let Some(name) = &given {
            // Before the upload; once more after it.
            service.bucket_name_must_be_free(&open, &project, name)?;
        }
        Ok((open, project, service.directories().backups()))
    })
    .await?;
    let spooled = body.spooled(&folder).await?;
    let import = BackupImport { file: spooled.path().to_owned(), kind: ImportKind::Backup, project, name };
    let (open, import) = blocking(&app, move |service| {
        let import = service.check_bucket_import(&open, import)?;
        Ok((open, import))
    })
    .await?;
    let location =
        url(&["storage-pools", &open.document.name, "buckets", import.name().as_str()], &query.project);
    let work = move |service: &Service, task: &Task| {
        let outcome = service.import_bucket(task, &open, import);
        drop(spooled);
        outcome
    };
    let operation = start(&app, &query, "Importing storage bucket", "storage_buckets", &location, work)?;
    accepted(&operation)
}

pub(crate) fn wire(backup: &Backup) -> StorageVolumeBackup {
    StorageVolumeBackup {
        name: backup.name.clone(),
        created_at: backup.created_at,
        expires_at: or_zero_time(backup.expires_at),
        volume_only: backup.volume_only,
        optimized_storage: backup.optimized,
    }
}
