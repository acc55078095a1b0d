//! `/1.0/storage-pools`.

use super::glue::{App, Body, Matched, blocking, created, done, list, matched, sync};
use super::{Query, Reply};
use crate::service::{NewPool, OpenPool, Service, ServiceError, url};
use axum::extract::{Path, State};
use larder_api::{ResourcesStoragePool, StoragePool, StoragePoolPut, StoragePoolsPost, Usage};
use larder_catalog::documents::Pool;
use serde_json::json;

/// GET `/1.0/storage-pools`.
pub(crate) async fn get_all(State(app): State<App>, query: Query) -> Reply {
    let pools = blocking(&app, move |service| {
        let volumes = service.store().volumes()?;
        let mut users = service.store().all_users()?;
        let pools = service.store().pools()?;
        let mut used_by = |pool: &Pool| {
            let own = volumes.iter().filter(|record| record.volume.pool == pool.id && record.is_listed());
            let mut urls: Vec<String> =
                own.map(|record| service.user_url(&pool.name, &record.volume)).collect();
            urls.extend(users.remove(&pool.id.to_string()).unwrap_or_default());
            urls
        };
        Ok(pools.iter().map(|pool| wire(service, pool, used_by(pool))).collect::<Vec<_>>())
    })
    .await?;
    list(&query, pools, |pool| url(&["storage-pools", &pool.name], &"default"))
}

/// POST `/1.0/storage-pools`.
pub(crate) async fn post(State(app): State<App>, query: Query, Body(body): Body<StoragePoolsPost>) -> Reply {
    let name = body.name.parse().map_err(ServiceError::from)?;
    let location = url(&["storage-pools", &body.name], &"default");
    let new = NewPool { name, driver: body.driver, description: body.description, config: body.config };
    let task = query.task();
    blocking(&app, move |service| service.create_pool(&task, new)).await?;
    created(&location)
}

/// GET `/1.0/storage-pools/{pool}`.
pub(crate) async fn get(State(app): State<App>, Path(name): Path<String>) -> Reply {
    let (pool, etag) = blocking(&app, move |service| {
        let pool = service.pool_document(&name)?;
        let users = service.pool_users(&pool)?;
        Ok((wire(service, &pool, users), etag(&pool)))
    })
    .await?;
    super::glue::sync_with_etag(&pool, &etag)
}

/// PUT `/1.0/storage-pools/{pool}`.
pub(crate) async fn put(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    guard: Matched,
    Body(body): Body<StoragePoolPut>,
) -> Reply {
    change(app, name, query, guard, move |_| (body.config, body.description)).await
}

/// PATCH `/1.0/storage-pools/{pool}`.
pub(crate) async fn patch(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    guard: Matched,
    Body(body): Body<super::glue::Patch>,
) -> Reply {
    change(app, name, query, guard, move |pool| {
        let mut config = pool.document.config.clone();
        config.extend(body.config);
        (config, body.description.unwrap_or_else(|| pool.document.description.clone()))
    })
    .await
}

async fn change(
    app: App,
    name: String,
    query: Query,
    guard: Matched,
    new: impl FnOnce(&OpenPool) -> (larder_storage_driver::Config, String) + Send + 'static,
) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let pool = service.open_pool(&name)?;
        matched(&guard, &etag(&pool.document))?;
        let (config, description) = new(&pool);
        service.update_pool(&task, &pool, config, description)
    })
    .await?;
    done()
}

/// DELETE `/1.0/storage-pools/{pool}`.
pub(crate) async fn delete(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply {
    let task = query.task();
    blocking(&app, move |service| service.delete_pool(&task, &name)).await?;
    done()
}

/// GET `/1.0/storage-pools/{pool}/resources`.
pub(crate) async fn resources(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply {
    let task = query.task();
    let usage = blocking(&app, move |service| {
        let pool = service.open_pool(&name)?;
        Ok(service.with_cx(&task, |cx| pool.pool.usage(cx))?)
    })
    .await?;
    sync(&ResourcesStoragePool {
        space: Usage { used: usage.used_bytes, total: usage.total_bytes },
        inodes: Usage { used: usage.used_inodes, total: usage.total_inodes },
    })
}

fn wire(service: &Service, pool: &Pool, used_by: Vec<String>) -> StoragePool {
    let status = if service.pool_is_open(&pool.name) { "Created" } else { "Unavailable" };
    StoragePool {
        name: pool.name.clone(),
        driver: pool.driver.clone(),
        description: pool.description.clone(),
        config: pool.config.clone(),
        used_by,
        status: status.to_owned(),
        locations: vec!["none".to_owned()],
    }
}

fn etag(pool: &Pool) -> serde_json::Value {
    json!([pool.name, pool.driver, pool.config])
}
