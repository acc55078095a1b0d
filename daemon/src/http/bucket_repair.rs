//! `…/buckets/{bucket}/scrub` and `…/buckets/{bucket}/rebuild-index`: operations that tell what they found in their metadata.
//! Ours alone (`larder_bucket_repair`).

use super::buckets::{Found, find};
use super::glue::{App, accepted, blocking, start};
use super::{Query, Reply};
use crate::service::{Result, Service, Task, must_serve_here, url};
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
    begin(&app, (pool, bucket), &query, "Scrubbing storage bucket", |service, task, found| {
        Ok(told(&scrubbed(service.scrub_bucket(task, &found.record)?)))
    })
    .await
}

/// POST `…/rebuild-index`: makes the index anew from the objects; the bucket is closed meanwhile.
pub(crate) async fn rebuild(
    State(app): State<App>,
    Path((pool, bucket)): Path<(String, String)>,
    query: Query,
) -> Reply {
    begin(&app, (pool, bucket), &query, "Rebuilding storage bucket index", |service, task, found| {
        Ok(told(&rebuilt(service.rebuild_bucket_index(task, &found.pool, &found.record)?)))
    })
    .await
}

/// Begins an operation on a bucket whose objects this daemon keeps.
async fn begin(
    app: &App,
    (pool, bucket): (String, String),
    query: &Query,
    description: &str,
    work: impl FnOnce(&Service, &Task, &Found) -> Result<Metadata> + Send + 'static,
) -> Reply {
    let location = url(&["storage-pools", &pool, "buckets", &bucket], &query.project);
    let project = query.project.clone();
    let found = blocking(app, move |service| {
        let found = find(service, &pool, &bucket, &project)?;
        must_serve_here(&found.pool)?;
        Ok(found)
    })
    .await?;
    let operation = start(app, query, description, "storage_buckets", &location, move |service, task| {
        work(service, task, &found)
    })?;
    accepted(&operation)
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
