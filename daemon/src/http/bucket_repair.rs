//! `…/buckets/{bucket}/scrub` and `…/buckets/{bucket}/rebuild-index`: operations that tell what they found in their metadata.
//! Ours alone (`larder_bucket_repair`).

use super::buckets::{Found, find};
use super::glue::{App, accepted, blocking, start};
use super::{ApiError, Query, Reply};
use crate::service::{must_serve_here, url};
use axum::extract::{Path, State};
use larder_api::{Metadata, StorageBucketDamage, StorageBucketRebuild, StorageBucketScrub};
use larder_storage_buckets::{Rebuilt, Scrubbed};
use serde::Serialize;
use serde_json::{Value, json};

/// POST `…/scrub`: reads every byte and changes nothing.
pub(crate) async fn scrub(
    State(app): State<App>,
    Path((pool, bucket)): Path<(String, String)>,
    query: Query,
) -> Reply {
    let location = url(&["storage-pools", &pool, "buckets", &bucket], &query.project);
    let found = find_here(&app, pool, bucket, &query).await?;
    let description = "Scrubbing storage bucket";
    let operation = start(&app, &query, description, "storage_buckets", &location, move |service, task| {
        Ok(told(&scrubbed(service.scrub_bucket(task, &found.record)?)))
    })?;
    accepted(&operation)
}

/// POST `…/rebuild-index`: makes the index anew from the objects; the bucket is closed meanwhile.
pub(crate) async fn rebuild(
    State(app): State<App>,
    Path((pool, bucket)): Path<(String, String)>,
    query: Query,
) -> Reply {
    let location = url(&["storage-pools", &pool, "buckets", &bucket], &query.project);
    let found = find_here(&app, pool, bucket, &query).await?;
    let description = "Rebuilding storage bucket index";
    let operation = start(&app, &query, description, "storage_buckets", &location, move |service, task| {
        Ok(told(&rebuilt(service.rebuild_bucket_index(task, &found.pool, &found.record)?)))
    })?;
    accepted(&operation)
}

/// Looks up a bucket whose objects this daemon keeps.
async fn find_here(app: &App, pool: String, bucket: String, query: &Query) -> Result<Found, ApiError> {
    let project = query.project.clone();
    blocking(app, move |service| {
        let found = find(service, &pool, &bucket, &project)?;
        must_serve_here(&found.pool)?;
        Ok(found)
    })
    .await
}

fn scrubbed(found: Scrubbed) -> StorageBucketScrub {
    let damaged = found.damaged.into_iter().map(|damage| StorageBucketDamage {
        key: damage.key,
        version: damage.version,
        problem: damage.problem,
    });
    StorageBucketScrub { versions: found.versions, bytes: found.bytes, damaged: damaged.collect() }
}

fn rebuilt(found: Rebuilt) -> StorageBucketRebuild {
    StorageBucketRebuild {
        versions: found.versions,
        incomplete: found.incomplete,
        unreadable: found.unreadable,
        unused: found.unused,
    }
}

/// What an operation tells when it has ended.
fn told<T: Serialize>(found: &T) -> Metadata {
    match json!(found) {
        Value::Object(fields) => fields,
        _ => Metadata::new(),
    }
}
