//! `/1.0/storage-pools/{pool}/volumes` and `/1.0/storage-volumes`.

use super::glue::{
    App, Body, Matched, Patch, Upload, accepted, blocking, created, done, list, matched, start, sync,
    sync_with_etag,
};
use super::{Query, Reply};
use crate::service::{
    NewVolume, OpenPool, Result, Service, ServiceError, Task, VolumeChange, VolumeRecord, VolumeSource,
    image_url, url,
};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use larder_api::{
    StorageVolume, StorageVolumeFull, StorageVolumePost, StorageVolumePut, StorageVolumeState,
    StorageVolumeStateUsage, StorageVolumesPost,
};
use larder_base::{ProjectName, VolumeName};
use larder_catalog::documents::{Pool, Snapshot, Volume};
use larder_storage_driver::{Content, VolumeKind};
use serde_json::json;
use std::collections::{HashMap, HashSet};

/// A custom volume that a request names, with all that is needed to work on it.
pub(crate) struct Found {
    pub(crate) pool: OpenPool,
    pub(crate) record: VolumeRecord,
}

/// Looks a volume up. `kind` is the path's; the project is the one that holds volumes for the one asked for.
pub(crate) fn find(service: &Service, pool: &str, kind: &str, name: &str, project: &str) -> Result<Found> {
    let pool = service.open_pool(pool)?;
    let record = find_record(service, &pool.document, kind, name, project)?;
    record.must_be_whole()?;
    Ok(Found { pool, record })
}

pub(crate) fn find_record(
    service: &Service,
    pool: &Pool,
    kind: &str,
    name: &str,
    project: &str,
) -> Result<VolumeRecord> {
    let kind: VolumeKind = kind.parse().map_err(ServiceError::bad)?;
    let project = project_of(service, kind, project)?;
    let found = service.store().volume(pool, &project, kind.as_str(), name)?;
    found.ok_or_else(|| ServiceError::not_found(format!("{kind} volume {name:?} on pool {:?}", pool.name)))
}

/// Where a volume, or a bucket, is reached.
pub(crate) fn place<'a>(pool: &'a str, kind: &'a str, name: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    let own = if kind == "bucket" { vec!["buckets", name] } else { vec!["volumes", kind, name] };
    [&["storage-pools", pool], own.as_slice(), rest].concat()
}

/// Only custom volumes, and buckets at their own place, are changed through this interface.
pub(crate) fn find_custom(
    service: &Service,
    pool: &str,
    kind: &str,
    name: &str,
    project: &str,
) -> Result<Found> {
    let found = find(service, pool, kind, name, project)?;
    must_be_changeable(&found.record)?;
    Ok(found)
}

pub(crate) fn must_be_changeable(record: &VolumeRecord) -> Result<()> {
    let changeable = [VolumeKind::Custom, VolumeKind::Bucket].map(VolumeKind::as_str);
    if changeable.contains(&record.volume.kind.as_str()) {
        return Ok(());
    }
    Err(ServiceError::bad(format!(
        "{} volumes are changed through what they belong to; only custom volumes are changed here",
        record.volume.kind
    )))
}

fn project_of(service: &Service, kind: VolumeKind, project: &str) -> Result<ProjectName> {
    match kind {
        VolumeKind::Custom => service.volume_project(project),
        VolumeKind::Bucket => service.feature_project(project, "features.storage.buckets"),
        VolumeKind::Image => Ok(ProjectName::default_project()),
        VolumeKind::Container | VolumeKind::VirtualMachine => Ok(service.project(project)?.name),
    }
}

/// GET `/1.0/storage-pools/{pool}/volumes`.
pub(crate) async fn get_all(State(app): State<App>, Path(pool): Path<String>, query: Query) -> Reply {
    list_volumes(app, Some(pool), None, query).await
}

/// GET `/1.0/storage-pools/{pool}/volumes/{type}`.
pub(crate) async fn get_kind(
    State(app): State<App>,
    Path((pool, kind)): Path<(String, String)>,
    query: Query,
) -> Reply {
    list_volumes(app, Some(pool), Some(kind), query).await
}

/// GET `/1.0/storage-volumes`.
pub(crate) async fn get_everywhere(State(app): State<App>, query: Query) -> Reply {
    list_volumes(app, None, None, query).await
}

/// GET `/1.0/storage-volumes/{type}`.
pub(crate) async fn get_kind_everywhere(
    State(app): State<App>,
    Path(kind): Path<String>,
    query: Query,
) -> Reply {
    list_volumes(app, None, Some(kind), query).await
}

async fn list_volumes(app: App, pool: Option<String>, kind: Option<String>, query: Query) -> Reply {
    let wanted = query.clone();
    let kind = kind.map(|kind| kind.parse::<VolumeKind>().map_err(ServiceError::bad)).transpose()?;
    let (volumes, details) = blocking(&app, move |service| {
        let pools = match pool {
            Some(name) => vec![service.pool_document(&name)?],
            None => service.store().pools()?,
        };
        let volumes = collect(service, &pools, kind, &wanted)?;
        let details =
            if wanted.recursion > 1 { Some(Details::of(service, &pools, &volumes, &wanted)?) } else { None };
        Ok((volumes, details))
    })
    .await?;
    match details {
        None => list(&query, volumes, url_of),
        Some(mut details) => {
            let full = volumes.into_iter().map(|volume| details.add_to(volume)).collect();
            list(&query, full, |full| url_of(&full.volume))
        }
    }
}

fn url_of(volume: &StorageVolume) -> String {
    match volume.name.split_once('/') {
        Some((name, snapshot)) => url(
            &["storage-pools", &volume.pool, "volumes", &volume.kind, name, "snapshots", snapshot],
            &volume.project,
        ),
        None => url(&["storage-pools", &volume.pool, "volumes", &volume.kind, &volume.name], &volume.project),
    }
}

/// What hangs on volumes, for `recursion=2`, by the volume's URL.
struct Details {
    known: HashMap<String, StorageVolumeFull>,
}

impl Details {
    /// Those of the volumes that are `listed`, and of no others: measuring one may start a program.
    fn of(service: &Service, pools: &[Pool], listed: &[StorageVolume], query: &Query) -> Result<Self> {
        let listed: HashSet<_> = listed.iter().map(url_of).collect();
        let mut snapshots = service.store().snapshots_by_volume()?;
        let mut backups = service.store().backups_by_volume()?;
        let mut records: HashMap<_, Vec<_>> = HashMap::new();
        for record in service.store().volumes()? {
            records.entry(record.volume.pool).or_default().push(record);
        }
        let mut known = HashMap::new();
        for pool in pools {
            let mut own = records.remove(&pool.id).unwrap_or_default();
            own.retain(|record| listed.contains(&url_of(&wire(&pool.name, &record.volume, Vec::new()))));
            if own.is_empty() {
                continue;
            }
            let states = usages_of(service, &query.task(), &pool.name, &own)?;
            for (record, state) in own.iter().zip(states) {
                let snapshots = snapshots.remove(&record.volume.id).unwrap_or_default();
                let backups = backups.remove(&record.volume.id).unwrap_or_default();
                let full = StorageVolumeFull {
                    volume: StorageVolume::default(),
                    snapshots: snapshots
                        .iter()
                        .map(|snapshot| super::snapshots::wire_bare(&record.volume, snapshot))
                        .collect(),
                    backups: backups.iter().map(super::backups::wire).collect(),
                    state,
                };
                known.insert(url_of(&wire(&pool.name, &record.volume, Vec::new())), full);
            }
        }
        Ok(Self { known })
    }

    fn add_to(&mut self, volume: StorageVolume) -> StorageVolumeFull {
        let known = self.known.remove(&url_of(&volume)).unwrap_or_default();
        StorageVolumeFull { volume, ..known }
    }
}

/// How full a volume is; not known while its pool is not there or the volume is being changed.
fn usage_of(service: &Service, task: &Task, pool: &str, record: &VolumeRecord) -> Result<StorageVolumeState> {
    let Ok(open) = service.open_pool(pool) else { return Ok(StorageVolumeState::default()) };
    let id = record.storage_id()?;
    let usage = service.with_cx(task, |cx| open.pool.volume_usage(cx, &id)).ok();
    Ok(usage.as_ref().map(state_of).unwrap_or_default())
}

/// The same of many volumes of a pool, which is asked once.
fn usages_of(
    service: &Service,
    task: &Task,
    pool: &str,
    records: &[VolumeRecord],
) -> Result<Vec<StorageVolumeState>> {
    let ids = records.iter().map(VolumeRecord::storage_id).collect::<Result<Vec<_>>>()?;
    let asked = match service.open_pool(pool) {
        Ok(open) => service.with_cx(task, |cx| open.pool.volume_usages(cx, &ids)).ok(),
        Err(_) => None,
    };
    let usages = asked.unwrap_or_else(|| vec![None; ids.len()]);
    Ok(usages.iter().map(|usage| usage.as_ref().map(state_of).unwrap_or_default()).collect())
}

fn state_of(usage: &larder_storage_driver::VolumeUsage) -> StorageVolumeState {
    let known =
        usage.used_bytes.map(|used| StorageVolumeStateUsage { used, total: usage.total_bytes.unwrap_or(0) });
    StorageVolumeState { usage: known }
}

/// URLs of the images that a request's project knows, or all projects, by fingerprint: an unpacked one belongs to each.
fn images_known(service: &Service, query: &Query) -> Result<HashMap<String, Vec<String>>> {
    let images = match query.all_projects {
        true => service.store().all_images()?,
        false => service.store().images_of(&service.image_project(&query.project)?)?,
    };
    let mut known: HashMap<String, Vec<String>> = HashMap::new();
    for image in images {
        known.entry(image.fingerprint.to_string()).or_default().push(image_url(&image));
    }
    Ok(known)
}

/// One scan of volumes, one of snapshots, one each of what may use them; joined in memory.
fn collect(
    service: &Service,
    pools: &[Pool],
    kind: Option<VolumeKind>,
    query: &Query,
) -> Result<Vec<StorageVolume>> {
    let project = service.project(&query.project)?;
    let by_id: HashMap<_, _> = pools.iter().map(|pool| (pool.id, pool.name.as_str())).collect();
    let mut snapshots = service.store().snapshots_by_volume()?;
    let users = service.store().all_users()?;
    let profiles = service.volumes_of_profiles()?;
    let images = images_known(service, query)?;
    let mut effective = HashMap::new();
    for kind in VolumeKind::ALL {
        effective.insert(kind.as_str(), project_of(service, kind, project.name.as_str())?);
    }
    let mut found = Vec::new();
    for record in service.store().volumes()? {
        let (is_listed, volume) = (record.is_listed(), record.volume);
        let Some(pool) = by_id.get(&volume.pool) else { continue };
        // A bucket is listed as what it is, not as the volume that holds it.
        let is_strange = volume.kind == VolumeKind::Image.as_str() && !images.contains_key(&volume.name);
        let is_wanted = volume.kind != VolumeKind::Bucket.as_str()
            && (query.all_projects || !is_strange)
            && kind.is_none_or(|kind| kind.as_str() == volume.kind)
            && (query.all_projects || effective.get(volume.kind.as_str()) == Some(&volume.project))
            && is_listed;
        if !is_wanted {
            continue;
        }
        let mut used_by = users.get(&volume.id.to_string()).cloned().unwrap_or_default();
        used_by.extend_from_slice(profiles.naming(pool, &volume));
        if volume.kind == VolumeKind::Image.as_str() {
            used_by.extend(images.get(&volume.name).cloned().unwrap_or_default());
        }
        let own = snapshots.remove(&volume.id).unwrap_or_default();
        found.push(wire(pool, &volume, used_by));
        // A full volume has its snapshots in it.
        if query.recursion < 2 {
            found.extend(own.iter().map(|snapshot| wire_snapshot_as_volume(pool, &volume, snapshot)));
        }
    }
    found.sort_by(|one, other| {
        (&one.kind, &one.project, &one.name).cmp(&(&other.kind, &other.project, &other.name))
    });
    Ok(found)
}

/// POST `/1.0/storage-pools/{pool}/volumes`.
pub(crate) async fn post(
    State(app): State<App>,
    Path(pool): Path<String>,
    query: Query,
    headers: HeaderMap,
    body: Upload,
) -> Reply {
    post_any(app, pool, None, query, headers, body).await
}

/// POST `/1.0/storage-pools/{pool}/volumes/{type}`.
pub(crate) async fn post_kind(
    State(app): State<App>,
    Path((pool, kind)): Path<(String, String)>,
    query: Query,
    headers: HeaderMap,
    body: Upload,
) -> Reply {
    post_any(app, pool, Some(kind), query, headers, body).await
}

async fn post_any(
    app: App,
    pool: String,
    kind: Option<String>,
    query: Query,
    headers: HeaderMap,
    body: Upload,
) -> Reply {
    if super::glue::is_octet_stream(&headers) {
        return super::backups::import(app, pool, query, headers, body).await;
    }
    let bytes: Bytes = body.bounded().await?;
    let request: StorageVolumesPost = super::glue::parse(&bytes)?;
    let wanted = kind.unwrap_or_else(|| request.kind.clone());
    let kind: VolumeKind = wanted.parse().map_err(ServiceError::bad)?;
    if kind != VolumeKind::Custom {
        return Err(ServiceError::bad(format!(
            "only custom volumes can be created here, not {kind} volumes"
        ))
        .into());
    }
    if is_empty(&request) {
        let task = query.task();
        blocking(&app, move |service| {
            let open = service.open_pool(&pool)?;
            let new = new_volume(service, &query, &request, None)?;
            service.create_volume(&task, &open, new)
        })
        .await?;
        return done();
    }
    super::volume_copies::post(app, pool, query, request).await
}

/// Whether a new volume has no source. One that is named is copied, also where nobody said so.
fn is_empty(request: &StorageVolumesPost) -> bool {
    request.source.kind.is_empty() && request.source.name.is_empty()
}

pub(super) fn new_volume(
    service: &Service,
    query: &Query,
    request: &StorageVolumesPost,
    content: Option<Content>,
) -> Result<NewVolume> {
    let content = match (content, request.content_type.as_str()) {
        (Some(content), _) => content,
        (None, "") => Content::Filesystem,
        (None, text) => text.parse().map_err(ServiceError::bad)?,
    };
    if content == Content::Iso && is_empty(request) {
        return Err(ServiceError::bad(
            "an ISO volume can't be created empty: import an ISO file (larder storage volume import --type=iso)",
        ));
    }
    Ok(NewVolume {
        project: service.volume_project(&query.project)?,
        name: request.name.parse::<VolumeName>()?,
        content,
        description: request.description.clone(),
        config: request.config.clone(),
    })
}

/// GET `…/volumes/{type}/{name}`; with recursion what hangs on it comes along.
pub(crate) async fn get(
    State(app): State<App>,
    Path((pool, kind, name)): Path<(String, String, String)>,
    query: Query,
) -> Reply {
    let (volume, etag, details) = blocking(&app, move |service| {
        let document = service.pool_document(&pool)?;
        let record = find_record(service, &document, &kind, &name, &query.project)?;
        let mut users = service.volume_users(&document.name, &record.volume)?;
        if record.volume.kind == VolumeKind::Image.as_str() {
            users.extend(images_known(service, &query)?.remove(&record.volume.name).unwrap_or_default());
        }
        let volume = wire(&pool, &record.volume, users);
        if query.recursion == 0 {
            return Ok((volume, etag(&record.volume), None));
        }
        let snapshots = service.store().snapshots_of(&record.volume)?;
        let full = StorageVolumeFull {
            volume: volume.clone(),
            snapshots: snapshots
                .iter()
                .map(|snapshot| super::snapshots::wire_bare(&record.volume, snapshot))
                .collect(),
            backups: service.store().backups_of(&record.volume)?.iter().map(super::backups::wire).collect(),
            state: usage_of(service, &query.task(), &pool, &record)?,
        };
        Ok((volume, etag(&record.volume), Some(full)))
    })
    .await?;
    match details {
        Some(full) => sync_with_etag(&full, &etag),
        None => sync_with_etag(&volume, &etag),
    }
}

/// PUT `…/volumes/{type}/{name}`: the whole configuration, or `restore`.
pub(crate) async fn put(
    State(app): State<App>,
    Path((pool, kind, name)): Path<(String, String, String)>,
    query: Query,
    guard: Matched,
    Body(body): Body<StorageVolumePut>,
) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let found = find_custom(service, &pool, &kind, &name, &query.project)?;
        matched(&guard, &etag(&found.record.volume))?;
        if !body.restore.is_empty() {
            return service.restore_volume(&task, &found.pool, &found.record, &body.restore);
        }
        let change = VolumeChange { config: body.config, description: body.description };
        service.update_volume(&task, &found.pool, &found.record, change)
    })
    .await?;
    done()
}

/// PATCH `…/volumes/{type}/{name}`.
pub(crate) async fn patch(
    State(app): State<App>,
    Path((pool, kind, name)): Path<(String, String, String)>,
    query: Query,
    guard: Matched,
    Body(body): Body<Patch>,
) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let found = find_custom(service, &pool, &kind, &name, &query.project)?;
        matched(&guard, &etag(&found.record.volume))?;
        let mut config = found.record.volume.config.clone();
        config.extend(body.config);
        let description = body.description.unwrap_or_else(|| found.record.volume.description.clone());
        service.update_volume(&task, &found.pool, &found.record, VolumeChange { config, description })
    })
    .await?;
    done()
}

/// POST `…/volumes/{type}/{name}`: rename (at once) or move to another pool or project (an operation).
pub(crate) async fn rename(
    State(app): State<App>,
    Path((pool, kind, name)): Path<(String, String, String)>,
    query: Query,
    Body(body): Body<StorageVolumePost>,
) -> Reply {
    if body.migration {
        return Err(ServiceError::not_implemented("migration of a volume to another server").into());
    }
    let target_project = if body.project.is_empty() { query.project.clone() } else { body.project.clone() };
    let target_pool = if body.pool.is_empty() { pool.clone() } else { body.pool.clone() };
    let location = url(&["storage-pools", &target_pool, "volumes", "custom", &body.name], &target_project);
    let is_rename = target_pool == pool && target_project == query.project;
    let (task, project) = (query.task(), query.project.clone());
    let (found, target, holder, new_name) = blocking(&app, move |service| {
        let found = find_custom(service, &pool, &kind, &name, &project)?;
        let new_name: VolumeName = body.name.parse()?;
        let holder = service.volume_project(&target_project)?;
        let target = service.open_pool(&target_pool)?;
        if service.store().volume(&target.document, &holder, "custom", new_name.as_str())?.is_some() {
            return Err(ServiceError::taken(format!("the custom volume {:?}", new_name.as_str())));
        }
        // Told at once; the use-cases look again once they have the volume to themselves.
        service.must_be_unused(&found.record)?;
        Ok((found, target, holder, new_name))
    })
    .await?;
    let is_same_pool = found.pool.document.id == target.document.id;
    let work = move |service: &Service, task: &Task| match is_same_pool {
        true => service.rename_volume(task, &found.pool, &found.record, &holder, &new_name),
        false => {
            let source =
                VolumeSource { pool: found.pool, record: found.record, snapshot: None, with_snapshots: true };
            service.move_volume(task, &target, &source, &holder, &new_name)
        }
    };
    if is_rename {
        blocking(&app, move |service| work(service, &task)).await?;
        return created(&location);
    }
    let operation = start(&app, &query, "Moving storage volume", "storage_volumes", &location, work)?;
    accepted(&operation)
}

/// DELETE `…/volumes/{type}/{name}`. That of an image is what the pool has unpacked of it; the image itself stays.
pub(crate) async fn delete(
    State(app): State<App>,
    Path((pool, kind, name)): Path<(String, String, String)>,
    query: Query,
) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let found = find(service, &pool, &kind, &name, &query.project)?;
        if found.record.volume.kind != VolumeKind::Image.as_str() {
            must_be_changeable(&found.record)?;
        }
        service.delete_volume(&task, &found.pool, &found.record)
    })
    .await?;
    done()
}

/// GET `…/volumes/{type}/{name}/state`.
pub(crate) async fn state(
    State(app): State<App>,
    Path((pool, kind, name)): Path<(String, String, String)>,
    query: Query,
) -> Reply {
    let task = query.task();
    let usage = blocking(&app, move |service| {
        let found = find(service, &pool, &kind, &name, &query.project)?;
        let id = found.record.storage_id()?;
        Ok(service.with_cx(&task, |cx| found.pool.pool.volume_usage(cx, &id))?)
    })
    .await?;
    sync(&state_of(&usage))
}

pub(crate) fn wire(pool: &str, volume: &Volume, used_by: Vec<String>) -> StorageVolume {
    StorageVolume {
        name: volume.name.clone(),
        kind: volume.kind.clone(),
        content_type: volume.content.clone(),
        description: volume.description.clone(),
        config: volume.config.clone(),
        used_by: owner_of(volume, None).into_iter().chain(used_by).collect(),
        location: "none".to_owned(),
        project: volume.project.to_string(),
        pool: pool.to_owned(),
        created_at: volume.created_at,
    }
}

fn wire_snapshot_as_volume(pool: &str, volume: &Volume, snapshot: &Snapshot) -> StorageVolume {
    StorageVolume {
        name: format!("{}/{}", volume.name, snapshot.name),
        description: snapshot.description.clone(),
        config: snapshot.config.clone(),
        created_at: snapshot.created_at,
        used_by: owner_of(volume, Some(&snapshot.name)).into_iter().collect(),
        ..wire(pool, volume, Vec::new())
    }
}

/// The instance, or the snapshot of one, that a volume is of.
fn owner_of(volume: &Volume, snapshot: Option<&str>) -> Option<String> {
    match volume.kind.parse().ok()? {
        VolumeKind::Container | VolumeKind::VirtualMachine => {}
        VolumeKind::Image | VolumeKind::Custom | VolumeKind::Bucket => return None,
    }
    let parts = ["instances", &volume.name]
        .into_iter()
        .chain(snapshot.into_iter().flat_map(|name| ["snapshots", name]));
    Some(url(&parts.collect::<Vec<_>>(), &volume.project))
}

fn etag(volume: &Volume) -> serde_json::Value {
    json!([volume.name, volume.kind, volume.config])
}
