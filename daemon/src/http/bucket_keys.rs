//! `/1.0/storage-pools/{pool}/buckets/{bucket}/keys`.

use super::buckets::{find, find_record, role, role_name, wire_key};
use super::glue::{App, Body, Matched, blocking, created_with, done, list, matched, sync_with_etag};
use super::{Query, Reply};
use crate::service::{BucketKeyChange, KeyPair, NewBucketKey, Result, url};
use axum::extract::{Path, State};
use larder_api::{StorageBucketKeyPut, StorageBucketKeysPost};
use serde_json::{Value, json};

/// Pool, bucket and key.
type KeyPath = Path<(String, String, String)>;

fn url_of(pool: &str, bucket: &str, key: &str, project: &str) -> String {
    url(&["storage-pools", pool, "buckets", bucket, "keys", key], &project)
}

/// GET `…/keys`.
pub(crate) async fn get_all(
    State(app): State<App>,
    Path((pool, bucket)): Path<(String, String)>,
    query: Query,
) -> Reply {
    let (at, wanted) = ((pool.clone(), bucket.clone()), query.clone());
    let keys = blocking(&app, move |service| {
        let document = service.pool_document(&pool)?;
        let volume = find_record(service, &document, &bucket, &wanted.project)?.volume;
        let keys = service.store().bucket_keys(&volume)?;
        keys.iter().map(|key| service.unsealed(key).map(|pair| wire_key(&pair))).collect::<Result<Vec<_>>>()
    })
    .await?;
    list(&query, keys, |key| url_of(&at.0, &at.1, &key.name, &query.project))
}

/// POST `…/keys`: the new key is in the reply.
pub(crate) async fn post(
    State(app): State<App>,
    Path((pool, bucket)): Path<(String, String)>,
    query: Query,
    Body(body): Body<StorageBucketKeysPost>,
) -> Reply {
    let location = url_of(&pool, &bucket, &body.name, &query.project);
    let new = NewBucketKey {
        name: body.name,
        description: body.description,
        role: role(&body.role)?,
        access_key: body.access_key,
        secret_key: body.secret_key,
    };
    let task = query.task();
    let pair = blocking(&app, move |service| {
        let found = find(service, &pool, &bucket, &query.project)?;
        service.create_bucket_key(&task, &found.pool, &found.record, new)
    })
    .await?;
    created_with(&location, &wire_key(&pair))
}

/// GET `…/keys/{key}`.
pub(crate) async fn get(State(app): State<App>, Path((pool, bucket, key)): KeyPath, query: Query) -> Reply {
    let pair = blocking(&app, move |service| {
        let document = service.pool_document(&pool)?;
        let volume = find_record(service, &document, &bucket, &query.project)?.volume;
        service.unsealed(&service.bucket_key(&volume, &key)?)
    })
    .await?;
    sync_with_etag(&wire_key(&pair), &etag(&pair))
}

/// PUT `…/keys/{key}`.
pub(crate) async fn put(
    State(app): State<App>,
    Path((pool, bucket, key)): KeyPath,
    query: Query,
    guard: Matched,
    Body(body): Body<StorageBucketKeyPut>,
) -> Reply {
    let change = BucketKeyChange {
        description: body.description,
        role: role(&body.role)?,
        access_key: body.access_key,
        secret_key: body.secret_key,
    };
    let task = query.task();
    blocking(&app, move |service| {
        let found = find(service, &pool, &bucket, &query.project)?;
        let old = service.bucket_key(&found.record.volume, &key)?;
        matched(&guard, &etag(&service.unsealed(&old)?))?;
        service.update_bucket_key(&task, &found.pool, &found.record, &old, change)
    })
    .await?;
    done()
}

/// DELETE `…/keys/{key}`.
pub(crate) async fn delete(
    State(app): State<App>,
    Path((pool, bucket, key)): KeyPath,
    query: Query,
) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let found = find(service, &pool, &bucket, &query.project)?;
        let key = service.bucket_key(&found.record.volume, &key)?;
        service.delete_bucket_key(&task, &found.pool, &found.record, &key)
    })
    .await?;
    done()
}

fn etag(pair: &KeyPair) -> Value {
    json!([pair.name, pair.description, role_name(pair.role), pair.access_key, pair.secret_key])
}
