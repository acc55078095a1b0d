//! `…/volumes/{type}/{name}/snapshots`.

use super::glue::{App, Body, Matched, accepted, blocking, done, list, matched, start, sync_with_etag};
use super::volumes::{find_custom, find_record, place};
use super::{Query, Reply};
use crate::service::{NewSnapshot, Result, Service, ServiceError, url};
use axum::extract::{Path, State};
use larder_api::{
    StorageVolumeSnapshot, StorageVolumeSnapshotPost, StorageVolumeSnapshotPut, StorageVolumeSnapshotsPost,
    given_time, or_zero_time,
};
use larder_base::SnapshotName;
use larder_catalog::documents::{Snapshot, Volume};
use serde_json::json;

/// Pool, kind and name of a volume.
type VolumePath = Path<(String, String, String)>;
/// The same with a snapshot.
type SnapshotPath = Path<(String, String, String, String)>;

/// A snapshot that a request names.
fn find_snapshot(service: &Service, volume: &Volume, name: &str) -> Result<Snapshot> {
    let found = service.store().snapshot(volume, name)?;
    found.ok_or_else(|| ServiceError::not_found(format!("snapshot {name:?} of volume {:?}", volume.name)))
}

fn url_of(pool: &str, kind: &str, volume: &str, snapshot: &str, project: &str) -> String {
    url(&place(pool, kind, volume, &["snapshots", snapshot]), &project)
}

/// GET `…/snapshots`.
pub(crate) async fn get_all(
    State(app): State<App>,
    Path((pool, kind, name)): VolumePath,
    query: Query,
) -> Reply {
    let (at, wanted) = ((pool.clone(), kind.clone(), name.clone()), query.clone());
    let snapshots = blocking(&app, move |service| {
        let document = service.pool_document(&pool)?;
        let volume = find_record(service, &document, &kind, &name, &wanted.project)?.volume;
        let snapshots = service.store().snapshots_of(&volume)?;
        Ok(snapshots.iter().map(|snapshot| wire(&volume, snapshot)).collect::<Vec<_>>())
    })
    .await?;
    list(&query, snapshots, |snapshot| {
        let own = snapshot.name.rsplit('/').next().unwrap_or_default();
        url_of(&at.0, &at.1, &at.2, own, &query.project)
    })
}

/// POST `…/snapshots`: an operation. A name that nobody gave is made first, so that the operation can tell it.
pub(crate) async fn post(
    State(app): State<App>,
    Path((pool, kind, name)): VolumePath,
    query: Query,
    Body(body): Body<StorageVolumeSnapshotsPost>,
) -> Reply {
    let (wanted, at) = (query.clone(), (pool.clone(), kind.clone(), name.clone()));
    let (found, new) = blocking(&app, move |service| {
        let found = find_custom(service, &pool, &kind, &name, &wanted.project)?;
        let name = match body.name.as_str() {
            "" => service.next_snapshot_name(&found.record)?,
            text => text.parse::<SnapshotName>()?,
        };
        if service.store().snapshot(&found.record.volume, name.as_str())?.is_some() {
            return Err(ServiceError::taken(format!("the snapshot {:?}", name.as_str())));
        }
        let expires_at = body.expires_at.map(given_time);
        service.expiry_must_be_ahead(expires_at.flatten(), name.as_str())?;
        Ok((found, NewSnapshot { name, description: body.description, expires_at }))
    })
    .await?;
    let location = url_of(&at.0, &at.1, &at.2, new.name.as_str(), &query.project);
    let operation = start(
        &app,
        &query,
        "Creating storage volume snapshot",
        "storage_volume_snapshots",
        &location,
        move |service, task| service.create_snapshot(task, &found.pool, &found.record, new),
    )?;
    accepted(&operation)
}

/// GET `…/snapshots/{snapshot}`.
pub(crate) async fn get(
    State(app): State<App>,
    Path((pool, kind, name, snapshot)): SnapshotPath,
    query: Query,
) -> Reply {
    let (snapshot, etag) = blocking(&app, move |service| {
        let document = service.pool_document(&pool)?;
        let volume = find_record(service, &document, &kind, &name, &query.project)?.volume;
        let snapshot = find_snapshot(service, &volume, &snapshot)?;
        // Here alone "never" is a time, with both families.
        let expires_at = Some(or_zero_time(snapshot.expires_at));
        let alone = StorageVolumeSnapshot { expires_at, ..wire_bare(&volume, &snapshot) };
        Ok((alone, etag(&snapshot)))
    })
    .await?;
    sync_with_etag(&snapshot, &etag)
}

/// PUT `…/snapshots/{snapshot}`.
pub(crate) async fn put(
    State(app): State<App>,
    Path(at): SnapshotPath,
    query: Query,
    guard: Matched,
    Body(body): Body<StorageVolumeSnapshotPut>,
) -> Reply {
    change(app, at, query, guard, move |snapshot| Snapshot {
        description: body.description,
        expires_at: body.expires_at.and_then(given_time),
        ..snapshot
    })
    .await
}

/// PATCH `…/snapshots/{snapshot}`.
pub(crate) async fn patch(
    State(app): State<App>,
    Path(at): SnapshotPath,
    query: Query,
    guard: Matched,
    Body(body): Body<Change>,
) -> Reply {
    change(app, at, query, guard, move |snapshot| Snapshot {
        description: body.description.unwrap_or(snapshot.description),
        expires_at: body.expires_at.map_or(snapshot.expires_at, given_time),
        ..snapshot
    })
    .await
}

/// What a PATCH names; the rest stays.
#[derive(Debug, Default, serde::Deserialize)]
pub(crate) struct Change {
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    expires_at: Option<jiff::Timestamp>,
}

async fn change(
    app: App,
    (pool, kind, name, snapshot): (String, String, String, String),
    query: Query,
    guard: Matched,
    new: impl FnOnce(Snapshot) -> Snapshot + Send + 'static,
) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let found = find_custom(service, &pool, &kind, &name, &query.project)?;
        let snapshot = find_snapshot(service, &found.record.volume, &snapshot)?;
        matched(&guard, &etag(&snapshot))?;
        service.update_snapshot(&task, &found.pool, &found.record, &snapshot, &new(snapshot.clone()))
    })
    .await?;
    done()
}

/// POST `…/snapshots/{snapshot}`: another name, as an operation.
pub(crate) async fn rename(
    State(app): State<App>,
    Path((pool, kind, name, snapshot)): SnapshotPath,
    query: Query,
    Body(body): Body<StorageVolumeSnapshotPost>,
) -> Reply {
    if body.migration {
        return Err(ServiceError::not_implemented("migration of a snapshot to another server").into());
    }
    let location = url_of(&pool, &kind, &name, &body.name, &query.project);
    let wanted = query.clone();
    let (found, snapshot, new) = blocking(&app, move |service| {
        let found = find_custom(service, &pool, &kind, &name, &wanted.project)?;
        let snapshot = find_snapshot(service, &found.record.volume, &snapshot)?;
        let new: SnapshotName = body.name.parse()?;
        match service.store().snapshot(&found.record.volume, new.as_str())? {
            Some(_) => Err(ServiceError::taken(format!("the snapshot {:?}", new.as_str()))),
            None => Ok((found, snapshot, new)),
        }
    })
    .await?;
    let operation = start(
        &app,
        &query,
        "Renaming storage volume snapshot",
        "storage_volume_snapshots",
        &location,
        move |service, task| service.rename_snapshot(task, &found.pool, &found.record, &snapshot, &new),
    )?;
    accepted(&operation)
}

/// DELETE `…/snapshots/{snapshot}`: an operation.
pub(crate) async fn delete(
    State(app): State<App>,
    Path((pool, kind, name, snapshot)): SnapshotPath,
    query: Query,
) -> Reply {
    let location = url_of(&pool, &kind, &name, &snapshot, &query.project);
    let wanted = query.clone();
    let (found, snapshot) = blocking(&app, move |service| {
        let found = find_custom(service, &pool, &kind, &name, &wanted.project)?;
        let snapshot = find_snapshot(service, &found.record.volume, &snapshot)?;
        Ok((found, snapshot))
    })
    .await?;
    let operation = start(
        &app,
        &query,
        "Deleting storage volume snapshot",
        "storage_volume_snapshots",
        &location,
        move |service, task| service.delete_snapshot(task, &found.pool, &found.record, &snapshot),
    )?;
    accepted(&operation)
}

/// As lists have it.
fn wire(volume: &Volume, snapshot: &Snapshot) -> StorageVolumeSnapshot {
    StorageVolumeSnapshot {
        name: format!("{}/{}", volume.name, snapshot.name),
        ..wire_bare(volume, snapshot)
    }
}

/// As it is in its volume: with its own name.
pub(crate) fn wire_bare(volume: &Volume, snapshot: &Snapshot) -> StorageVolumeSnapshot {
    StorageVolumeSnapshot {
        description: snapshot.description.clone(),
        expires_at: snapshot.expires_at,
        name: snapshot.name.clone(),
        config: snapshot.config.clone(),
        content_type: volume.content.clone(),
        created_at: snapshot.created_at,
    }
}

fn etag(snapshot: &Snapshot) -> serde_json::Value {
    json!([snapshot.description, or_zero_time(snapshot.expires_at)])
}
