//! `/1.0/instances/{name}/backups`, and instances from uploaded backups.

use super::backups::{Subject, Wanted, all_of, file_of, give_name, make, one_of, remove};
use super::glue::{App, Body, Upload, accepted, blocking, header, start};
use super::{Query, Reply};
use crate::service::{InstanceImport, Result, Service, ServiceError, Task, url};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use larder_api::{InstanceBackup, InstanceBackupPost, InstanceBackupsPost, or_zero_time};
use larder_catalog::documents::Backup;
use larder_runtime::{Config, Devices};

/// An instance's name and a backup's.
type BackupPath = Path<(String, String)>;

/// GET `…/backups`.
pub(crate) async fn get_all(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply {
    all_of(app, Subject::Instance(name), query, wire, |backup| &backup.name).await
}

/// POST `…/backups`.
pub(crate) async fn post(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    headers: HeaderMap,
    Body(body): Body<InstanceBackupsPost>,
) -> Reply {
    let wanted = Wanted {
        name: body.name,
        expires_at: body.expires_at,
        bare: body.instance_only || body.container_only,
        compression: body.compression_algorithm,
        has_target: body.target.is_some(),
        version: body.version,
    };
    make(app, Subject::Instance(name), query, &headers, wanted).await
}

/// GET `…/backups/{backup}`.
pub(crate) async fn get(State(app): State<App>, Path((name, backup)): BackupPath, query: Query) -> Reply {
    one_of(app, Subject::Instance(name), backup, query, wire).await
}

/// POST `…/backups/{backup}`.
pub(crate) async fn rename(
    State(app): State<App>,
    Path((name, backup)): BackupPath,
    query: Query,
    Body(body): Body<InstanceBackupPost>,
) -> Reply {
    give_name(app, Subject::Instance(name), backup, query, body.name).await
}

/// DELETE `…/backups/{backup}`.
pub(crate) async fn delete(State(app): State<App>, Path((name, backup)): BackupPath, query: Query) -> Reply {
    remove(app, Subject::Instance(name), backup, query).await
}

/// GET `…/backups/{backup}/export`.
pub(crate) async fn export(State(app): State<App>, Path((name, backup)): BackupPath, query: Query) -> Reply {
    file_of(app, Subject::Instance(name), backup, query).await
}

/// POST `/1.0/instances` with bytes: an instance from a backup, as an operation.
pub(super) async fn import(app: App, query: Query, headers: HeaderMap, body: Upload) -> Reply {
    let (name, pool) =
        (header(&headers, "name").map(str::to_owned), header(&headers, "pool").map(str::to_owned));
    let (config, devices) = overrides(&headers)?;
    let (wanted, given) = (query.clone(), (name.clone(), pool.clone()));
    let folder = blocking(&app, move |service| {
        // Before the upload; once more after it.
        let project = service.project(&wanted.project)?.name;
        if let Some(name) = &given.0 {
            service.instance_name_must_be_free(&project, name)?;
        }
        if let Some(pool) = &given.1 {
            service.open_pool(pool)?;
        }
        Ok(service.directories().backups())
    })
    .await?;
    let spooled = body.spooled(&folder).await?;
    let file = spooled.path().to_owned();
    let import = InstanceImport { file, project: query.project.clone(), name, pool, config, devices };
    let import = blocking(&app, move |service| service.check_instance_import(import)).await?;
    let location = url(&["instances", import.name()], &query.project);
    let work = move |service: &Service, task: &Task| {
        let outcome = service.import_instance(task, &import).map(|_| ());
        drop(spooled);
        outcome
    };
    let operation = start(&app, &query, "Restoring backup", "instances", &location, work)?;
    accepted(&operation)
}

/// What the headers `…-config` and `…-devices` change: keys as a query string, and devices as a query string of such.
fn overrides(headers: &HeaderMap) -> Result<(Config, Devices)> {
    let config = pairs(header(headers, "config").unwrap_or_default())?;
    let devices = pairs(header(headers, "devices").unwrap_or_default())?;
    let devices = devices.into_iter().map(|(name, keys)| Ok((name, pairs(&keys)?)));
    Ok((config, devices.collect::<Result<_>>()?))
}

fn pairs(text: &str) -> Result<Config> {
    let decoded = |part: &str| {
        let decoded = urlencoding::decode(&part.replace('+', " ")).map(std::borrow::Cow::into_owned);
        decoded.map_err(|_| ServiceError::bad(format!("{part:?} in a header is not percent-encoded text")))
    };
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decoded(key)?, decoded(value)?))
    };
    text.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

pub(super) fn wire(backup: &Backup) -> InstanceBackup {
    InstanceBackup {
        name: backup.name.clone(),
        created_at: backup.created_at,
        expires_at: or_zero_time(backup.expires_at),
        instance_only: backup.volume_only,
        container_only: backup.volume_only,
        optimized_storage: backup.optimized,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_come_as_a_query_string_in_another() {
        let mut headers = HeaderMap::new();
        headers.insert("x-lxd-devices", "root=pool%3Dp2%26size%3D5GiB&d+1=type%3Dnone".parse().unwrap());
        headers.insert("x-incus-config", "user.note=a%20b".parse().unwrap());
        let (config, devices) = overrides(&headers).unwrap();
        assert_eq!(config["user.note"], "a b");
        assert_eq!((devices["root"]["pool"].as_str(), devices["root"]["size"].as_str()), ("p2", "5GiB"));
        assert_eq!(devices["d 1"]["type"], "none");
    }
}
