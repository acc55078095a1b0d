//! `/1.0/storage-pools/{pool}/buckets`.

use super::glue::{
    App, Body, Matched, Patch, Upload, blocking, created_with, done, list, matched, sync_with_etag,
};
use super::{Query, Reply};
use crate::service::{
    Elsewhere, KeyPair, NewBucket, OpenPool, Result, Service, ServiceError, Task, VolumeChange, VolumeRecord,
    VolumeSource, bucket_name, url,
};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use larder_api::{
    StorageBucket, StorageBucketFull, StorageBucketKey, StorageBucketPut, StorageBucketSource,
    StorageBucketsPost,
};
use larder_base::SnapshotName;
use larder_catalog::documents::{BucketRole, Pool, Volume, VolumeState};
use serde_json::{Value, json};
use std::collections::HashMap;

/// A bucket that a request names, with all that is needed to work on it.
pub(crate) struct Found {
    pub(crate) pool: OpenPool,
    pub(crate) record: VolumeRecord,
}

/// Looks a bucket up in the project that holds buckets for the one asked for.
pub(crate) fn find_record(service: &Service, pool: &Pool, name: &str, project: &str) -> Result<VolumeRecord> {
    let project = service.bucket_project(project)?;
    let found = service.store().volume(pool, &project, "bucket", name)?;
    found.ok_or_else(|| ServiceError::not_found(format!("bucket {name:?} on pool {:?}", pool.name)))
}

/// The same for work on it.
pub(crate) fn find(service: &Service, pool: &str, name: &str, project: &str) -> Result<Found> {
    let pool = service.open_pool(pool)?;
    let record = find_record(service, &pool.document, name, project)?;
    if record.volume.state != VolumeState::Ready {
        let message = format!("the bucket {name:?} is being changed by another operation: try again later");
        return Err(ServiceError { kind: crate::service::Kind::Unavailable, message });
    }
    Ok(Found { pool, record })
}

/// The same for its deletion, which goes on where an earlier one was cut off.
fn find_to_delete(service: &Service, pool: &str, name: &str, project: &str) -> Result<Found> {
    let open = service.open_pool(pool)?;
    let record = find_record(service, &open.document, name, project)?;
    match record.volume.state {
        VolumeState::Deleting => Ok(Found { pool: open, record }),
        // It is closed, and there must be a way out when it can't be ended.
        VolumeState::Restoring if open.pool.objects().is_some() => Ok(Found { pool: open, record }),
        _ => find(service, pool, name, project),
    }
}

/// GET `…/buckets`.
pub(crate) async fn get_all(State(app): State<App>, Path(pool): Path<String>, query: Query) -> Reply {
    let wanted = query.clone();
    let name = pool.clone();
    let buckets = blocking(&app, move |service| collect(service, &name, &wanted)).await?;
    let url_of =
        |bucket: &StorageBucket| url(&["storage-pools", &pool, "buckets", &bucket.name], &bucket.project);
    match query.recursion {
        0 | 1 => list(&query, buckets.into_iter().map(|full| full.bucket).collect(), |bucket| url_of(bucket)),
        _ => list(&query, buckets, |full| url_of(&full.bucket)),
    }
}

/// One scan of volumes, one of what buckets have beside them, one of keys; joined in memory.
fn collect(service: &Service, pool: &str, query: &Query) -> Result<Vec<StorageBucketFull>> {
    let pool = service.pool_document(pool)?;
    let project = service.bucket_project(&query.project)?;
    let is_full = query.recursion > 1;
    let beside = Beside::of(service, &pool)?;
    let mut keys = if is_full { service.store().bucket_keys_by_volume()? } else { HashMap::new() };
    let mut backups = if is_full { service.store().backups_by_volume()? } else { HashMap::new() };
    let mut found = Vec::new();
    for record in service.store().volumes_in(&pool)? {
        let (is_there, volume) = (record.is_listed(), record.volume);
        if volume.kind != "bucket" || !is_there || !(query.all_projects || volume.project == project) {
            continue;
        }
        let own = keys.remove(&volume.id).unwrap_or_default();
        let stored = backups.remove(&volume.id).unwrap_or_default();
        found.push(StorageBucketFull {
            bucket: beside.wire(service, &volume)?,
            backups: stored.iter().map(|backup| super::backups::wire(backup).into()).collect(),
            keys: own
                .iter()
                .map(|key| service.unsealed(key).map(|pair| wire_key(&pair)))
                .collect::<Result<_>>()?,
        });
    }
    found.sort_by(|one, other| {
        (&one.bucket.project, &one.bucket.name).cmp(&(&other.bucket.project, &other.bucket.name))
    });
    Ok(found)
}

/// What of a bucket its volume does not say.
struct Beside {
    owners: HashMap<larder_catalog::VolumeId, String>,
    /// Where the pool's buckets are, if not here.
    elsewhere: Option<Elsewhere>,
}

impl Beside {
    fn of(service: &Service, pool: &Pool) -> Result<Self> {
        let names: HashMap<_, _> =
            service.store().accounts()?.into_iter().map(|account| (account.id, account.name)).collect();
        let buckets = service.store().buckets()?.into_values();
        let owner = |bucket: larder_catalog::documents::Bucket| {
            Some((bucket.volume, names.get(&bucket.owner?)?.clone()))
        };
        let elsewhere = service.elsewhere(pool)?;
        Ok(Self { owners: buckets.filter_map(owner).collect(), elsewhere })
    }

    fn wire(&self, service: &Service, volume: &Volume) -> Result<StorageBucket> {
        let s3_url = match &self.elsewhere {
            Some(elsewhere) => elsewhere.url(volume)?,
            None => service.s3_url(&volume.name),
        };
        Ok(StorageBucket {
            config: volume.config.clone(),
            description: volume.description.clone(),
            name: volume.name.clone(),
            s3_url,
            location: "none".to_owned(),
            project: volume.project.to_string(),
            account: self.owners.get(&volume.id).cloned().unwrap_or_default(),
        })
    }
}

/// POST `…/buckets`: empty, with its first admin key in the reply; or from a backup.
pub(crate) async fn post(
    State(app): State<App>,
    Path(pool): Path<String>,
    query: Query,
    headers: HeaderMap,
    body: Upload,
) -> Reply {
    if super::glue::is_octet_stream(&headers) {
        return super::backups::import_bucket(app, pool, query, headers, body).await;
    }
    let request: StorageBucketsPost = super::glue::parse(&body.bounded().await?)?;
    let location = url(&["storage-pools", &pool, "buckets", &request.name], &query.project);
    let task = query.task();
    let first = blocking(&app, move |service| {
        let open = service.open_pool(&pool)?;
        let new = NewBucket {
            project: service.bucket_project(&query.project)?,
            name: bucket_name(&request.name)?,
            description: request.description,
            config: request.config,
            owner: None,
        };
        match request.source.name.is_empty() {
            true => service.create_bucket(&task, &open, new),
            false => copy(service, &task, &open, &request.source, &query.project, new),
        }
    })
    .await?;
    created_with(&location, &first.as_ref().map_or_else(StorageBucketKey::default, wire_key))
}

/// A copy of a bucket, or of one of its snapshots, with its keys and values where nobody gave any.
fn copy(
    service: &Service,
    task: &Task,
    target: &OpenPool,
    source: &StorageBucketSource,
    project: &str,
    mut new: NewBucket,
) -> Result<Option<KeyPair>> {
    let pool = if source.pool.is_empty() { &target.document.name } else { &source.pool };
    let project = if source.project.is_empty() { project } else { &source.project };
    let (name, snapshot) = match source.name.split_once('/') {
        Some((name, snapshot)) => (name, Some(snapshot.parse::<SnapshotName>()?)),
        None => (source.name.as_str(), None),
    };
    let Found { pool, record } = find(service, pool, name, project)?;
    if new.config.is_empty() {
        new.config = record.volume.config.clone();
    }
    if new.description.is_empty() {
        new.description = record.volume.description.clone();
    }
    let source = VolumeSource { pool, record, snapshot, with_snapshots: false };
    service.copy_bucket(task, target, &source, new)
}

/// GET `…/buckets/{bucket}`; with recursion what hangs on it comes along.
pub(crate) async fn get(
    State(app): State<App>,
    Path((pool, name)): Path<(String, String)>,
    query: Query,
) -> Reply {
    let (full, etag) = blocking(&app, move |service| {
        let document = service.pool_document(&pool)?;
        let volume = find_record(service, &document, &name, &query.project)?.volume;
        let bucket = Beside::of(service, &document)?.wire(service, &volume)?;
        if query.recursion == 0 {
            return Ok((json!(bucket), etag(&volume)));
        }
        let keys = service.store().bucket_keys(&volume)?;
        let backups = service.store().backups_of(&volume)?;
        let full = StorageBucketFull {
            bucket,
            backups: backups.iter().map(|backup| super::backups::wire(backup).into()).collect(),
            keys: keys
                .iter()
                .map(|key| service.unsealed(key).map(|pair| wire_key(&pair)))
                .collect::<Result<_>>()?,
        };
        Ok((json!(full), etag(&volume)))
    })
    .await?;
    sync_with_etag(&full, &etag)
}

/// PUT `…/buckets/{bucket}`: the whole configuration, or `restore`.
pub(crate) async fn put(
    State(app): State<App>,
    Path(at): Path<(String, String)>,
    query: Query,
    guard: Matched,
    Body(body): Body<StorageBucketPut>,
) -> Reply {
    if !body.restore.is_empty() {
        let task = query.task();
        blocking(&app, move |service| {
            let found = find(service, &at.0, &at.1, &query.project)?;
            matched(&guard, &etag(&found.record.volume))?;
            service.restore_volume(&task, &found.pool, &found.record, &body.restore)
        })
        .await?;
        return done();
    }
    change(app, at, query, guard, move |_| VolumeChange {
        config: body.config,
        description: body.description,
    })
    .await
}

/// PATCH `…/buckets/{bucket}`.
pub(crate) async fn patch(
    State(app): State<App>,
    Path(at): Path<(String, String)>,
    query: Query,
    guard: Matched,
    Body(body): Body<Patch>,
) -> Reply {
    change(app, at, query, guard, move |volume| {
        let mut config = volume.config.clone();
        config.extend(body.config);
        let description = body.description.unwrap_or_else(|| volume.description.clone());
        VolumeChange { config, description }
    })
    .await
}

async fn change(
    app: App,
    (pool, name): (String, String),
    query: Query,
    guard: Matched,
    new: impl FnOnce(&Volume) -> VolumeChange + Send + 'static,
) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let found = find(service, &pool, &name, &query.project)?;
        matched(&guard, &etag(&found.record.volume))?;
        let change = new(&found.record.volume);
        service.update_bucket(&task, &found.pool, &found.record, change)
    })
    .await?;
    done()
}

/// DELETE `…/buckets/{bucket}`, whatever is in it.
pub(crate) async fn delete(
    State(app): State<App>,
    Path((pool, name)): Path<(String, String)>,
    query: Query,
) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let found = find_to_delete(service, &pool, &name, &query.project)?;
        service.delete_bucket(&task, &found.pool, &found.record)
    })
    .await?;
    done()
}

/// A key with its secret, for the wire.
pub(crate) fn wire_key(pair: &KeyPair) -> StorageBucketKey {
    StorageBucketKey {
        description: pair.description.clone(),
        role: role_name(pair.role).to_owned(),
        access_key: pair.access_key.clone(),
        secret_key: pair.secret_key.clone(),
        name: pair.name.clone(),
    }
}

/// A role's name on the wire.
pub(crate) fn role_name(role: BucketRole) -> &'static str {
    match role {
        BucketRole::Admin => "admin",
        BucketRole::ReadOnly => "read-only",
    }
}

/// Reads a role; nothing said means that it may read.
pub(crate) fn role(text: &str) -> Result<BucketRole> {
    match text {
        "admin" => Ok(BucketRole::Admin),
        "" | "read-only" => Ok(BucketRole::ReadOnly),
        other => Err(ServiceError::bad(format!("invalid role {other:?}: it is admin or read-only"))),
    }
}

fn etag(volume: &Volume) -> Value {
    json!([volume.name, volume.description, volume.config])
}
