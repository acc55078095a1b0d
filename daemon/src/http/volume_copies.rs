//! POST `/1.0/storage-pools/{pool}/volumes` with a volume as the source: a new copy, or an older one brought up to date.

use super::glue::{App, accepted, blocking, start};
use super::volumes::{find, new_volume};
use super::{Query, Reply};
use crate::service::{NewVolume, OpenPool, Result, Service, ServiceError, VolumeRecord, VolumeSource, url};
use larder_api::StorageVolumesPost;
use larder_base::SnapshotName;

/// An operation.
pub(super) async fn post(app: App, pool: String, query: Query, request: StorageVolumesPost) -> Reply {
    if !["", "copy"].contains(&request.source.kind.as_str()) {
        let message = format!("a volume source of type {:?}", request.source.kind);
        return Err(ServiceError::not_implemented(message).into());
    }
    let location = url(&["storage-pools", &pool, "volumes", "custom", &request.name], &query.project);
    let excludes_older = request.source.refresh_exclude_older;
    let (wanted, copy_query) = (query.clone(), query.clone());
    let (target, source, copy) = blocking(&app, move |service| {
        let target = service.open_pool(&pool)?;
        let source = source_of(service, &wanted, &request, &target)?;
        let copy = copy_of(service, &copy_query, &request, &target, &source)?;
        Ok((target, source, copy))
    })
    .await?;
    let description = match &copy {
        Copy::New(_) => "Copying storage volume",
        Copy::Older(_) => "Refreshing storage volume",
    };
    let operation =
        start(&app, &query, description, "storage_volumes", &location, move |service, task| match copy {
            Copy::New(new) => service.copy_volume(task, &target, &source, new),
            Copy::Older(record) => service.refresh_volume(task, &target, &record, &source, excludes_older),
        })?;
    accepted(&operation)
}

/// What a copy becomes.
enum Copy {
    /// A volume that is not there yet.
    New(NewVolume),
    /// A volume that is brought up to date.
    Older(Box<VolumeRecord>),
}

fn copy_of(
    service: &Service,
    query: &Query,
    request: &StorageVolumesPost,
    target: &OpenPool,
    source: &VolumeSource,
) -> Result<Copy> {
    let content = source.record.storage_id()?.content;
    let mut new = new_volume(service, query, request, Some(content))?;
    if service.store().volume(&target.document, &new.project, "custom", new.name.as_str())?.is_some() {
        if !request.source.refresh {
            return Err(ServiceError::taken(format!("the custom volume {:?}", new.name.as_str())));
        }
        let found = find(service, &target.document.name, "custom", new.name.as_str(), &query.project)?;
        return Ok(Copy::Older(Box::new(found.record)));
    }
    if request.config.is_empty() {
        new.config = source.record.volume.config.clone();
    }
    if request.description.is_empty() {
        new.description = source.record.volume.description.clone();
    }
    Ok(Copy::New(new))
}

fn source_of(
    service: &Service,
    query: &Query,
    request: &StorageVolumesPost,
    target: &OpenPool,
) -> Result<VolumeSource> {
    let source = &request.source;
    let pool = if source.pool.is_empty() { target.document.name.clone() } else { source.pool.clone() };
    let project = if source.project.is_empty() { query.project.clone() } else { source.project.clone() };
    let (name, snapshot) = match source.name.split_once('/') {
        Some((name, snapshot)) => (name, Some(snapshot.parse::<SnapshotName>()?)),
        None => (source.name.as_str(), None),
    };
    let found = find(service, &pool, "custom", name, &project)?;
    Ok(VolumeSource { pool: found.pool, record: found.record, snapshot, with_snapshots: !source.volume_only })
}
