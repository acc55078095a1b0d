//! Which path goes to which handler.

use super::glue::{App, sync};
use super::methods::{Methods, any, get, post, put};
use super::{
    ApiError, Reply, accounts, backups, bucket_keys, bucket_parts, bucket_repair, buckets, events,
    image_aliases, images, instance_backups, instance_console, instance_exec, instance_files,
    instance_snapshots, instances, metadata, metrics, operations, pools, profiles, projects, resources,
    server, sftp, snapshots, volumes, warnings,
};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};

/// Paths with their methods.
trait Paths {
    /// Adds a path. Any other method is refused there; [`Router::method_not_allowed_fallback`] says the same of all paths, but
    /// it copies every handler, and the code that does stays in memory.
    fn at(self, path: &str, methods: Methods) -> Self;
}

impl Paths for Router<App> {
    fn at(self, path: &str, methods: Methods) -> Self {
        self.route(path, methods.otherwise(wrong_method))
    }
}

/// All of the REST API.
pub(crate) fn router(app: App) -> Router {
    Router::new()
        .at("/", get(versions))
        .merge(of_the_server())
        .merge(of_images())
        .merge(of_instances())
        .merge(of_profiles())
        .merge(of_pools())
        .merge(of_volumes())
        .merge(of_buckets())
        .merge(of_accounts())
        .fallback(unknown)
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}

fn of_the_server() -> Router<App> {
    Router::new()
        .at("/1.0", get(server::get).put(server::put).patch(server::patch))
        .at("/1.0/catalog/backups", post(server::back_up_catalog))
        .at("/1.0/events", get(events::get))
        .at("/1.0/metadata/configuration", get(metadata::get))
        .at("/1.0/metrics", get(metrics::get))
        .at("/1.0/operations", get(operations::get_all))
        .at("/1.0/operations/{id}", get(operations::get).delete(operations::delete))
        .at("/1.0/operations/{id}/wait", get(operations::wait))
        .at("/1.0/operations/{id}/websocket", get(operations::websocket))
        .at("/1.0/projects", get(projects::get_all).post(projects::post))
        .at(
            "/1.0/projects/{name}",
            get(projects::get)
                .put(projects::put)
                .patch(projects::patch)
                .post(projects::rename)
                .delete(projects::delete),
        )
        .at("/1.0/projects/{name}/state", get(projects::state))
        .at("/1.0/resources", get(resources::get))
        .at("/1.0/warnings", get(warnings::get_all))
        .at(
            "/1.0/warnings/{id}",
            get(warnings::get).put(warnings::put).patch(warnings::put).delete(warnings::delete),
        )
        .at("/internal/ready", get(server::ready))
        .at("/internal/shutdown", put(server::shut_down))
}

fn of_images() -> Router<App> {
    Router::new()
        .at("/1.0/images", get(images::get_all).post(images::post))
        .at("/1.0/images/aliases", get(image_aliases::get_all).post(image_aliases::post))
        .at(
            "/1.0/images/aliases/{*name}",
            get(image_aliases::get)
                .put(image_aliases::put)
                .patch(image_aliases::patch)
                .post(image_aliases::rename)
                .delete(image_aliases::delete),
        )
        .at(
            "/1.0/images/{fingerprint}",
            get(images::get).put(images::put).patch(images::patch).delete(images::delete),
        )
        .at("/1.0/images/{fingerprint}/export", get(images::export))
        .at("/1.0/images/{fingerprint}/refresh", post(images::refresh))
}

fn of_profiles() -> Router<App> {
    Router::new().at("/1.0/profiles", get(profiles::get_all).post(profiles::post)).at(
        "/1.0/profiles/{name}",
        get(profiles::get)
            .put(profiles::put)
            .patch(profiles::patch)
            .post(profiles::rename)
            .delete(profiles::delete),
    )
}

fn of_instances() -> Router<App> {
    const INSTANCE: &str = "/1.0/instances/{name}";
    let below = |rest: &str| format!("{INSTANCE}/{rest}");
    Router::new()
        .at("/1.0/instances", get(instances::get_all).post(instances::post).put(instances::put_all))
        .at(
            INSTANCE,
            get(instances::get)
                .put(instances::put)
                .patch(instances::patch)
                .post(instances::rename)
                .delete(instances::delete),
        )
        .at(&below("backups"), get(instance_backups::get_all).post(instance_backups::post))
        .at(
            &below("backups/{backup}"),
            get(instance_backups::get).post(instance_backups::rename).delete(instance_backups::delete),
        )
        .at(&below("backups/{backup}/export"), get(instance_backups::export))
        .at(&below("console"), get(instances::console_log).post(instance_console::post))
        .at(&below("exec"), post(instance_exec::post))
        .at(
            &below("files"),
            get(instance_files::get)
                .head(instance_files::head)
                .post(instance_files::post)
                .delete(instance_files::delete),
        )
        .at(&below("sftp"), get(sftp::get))
        .at(&below("state"), get(instances::get_state).put(instances::put_state))
        .at(&below("snapshots"), get(instance_snapshots::get_all).post(instance_snapshots::post))
        .at(
            &below("snapshots/{snapshot}"),
            get(instance_snapshots::get)
                .put(instance_snapshots::put)
                .patch(instance_snapshots::put)
                .post(instance_snapshots::rename)
                .delete(instance_snapshots::delete),
        )
}

fn of_pools() -> Router<App> {
    Router::new()
        .at("/1.0/storage-pools", get(pools::get_all).post(pools::post))
        .at(
            "/1.0/storage-pools/{pool}",
            get(pools::get).put(pools::put).patch(pools::patch).delete(pools::delete),
        )
        .at("/1.0/storage-pools/{pool}/resources", get(pools::resources))
        .at("/1.0/storage-volumes", get(volumes::get_everywhere))
        .at("/1.0/storage-volumes/{kind}", get(volumes::get_kind_everywhere))
}

fn of_volumes() -> Router<App> {
    const VOLUME: &str = "/1.0/storage-pools/{pool}/volumes/{kind}/{name}";
    let below = |rest: &str| format!("{VOLUME}/{rest}");
    Router::new()
        .at("/1.0/storage-pools/{pool}/volumes", get(volumes::get_all).post(volumes::post))
        .at("/1.0/storage-pools/{pool}/volumes/{kind}", get(volumes::get_kind).post(volumes::post_kind))
        .at(
            VOLUME,
            get(volumes::get)
                .put(volumes::put)
                .patch(volumes::patch)
                .post(volumes::rename)
                .delete(volumes::delete),
        )
        .at(&below("state"), get(volumes::state))
        .at(&below("snapshots"), get(snapshots::get_all).post(snapshots::post))
        .at(
            &below("snapshots/{snapshot}"),
            get(snapshots::get)
                .put(snapshots::put)
                .patch(snapshots::patch)
                .post(snapshots::rename)
                .delete(snapshots::delete),
        )
        .at(&below("backups"), get(backups::get_all).post(backups::post))
        .at(&below("backups/{backup}"), get(backups::get).post(backups::rename).delete(backups::delete))
        .at(&below("backups/{backup}/export"), get(backups::export))
}

fn of_buckets() -> Router<App> {
    const BUCKET: &str = "/1.0/storage-pools/{pool}/buckets/{bucket}";
    let below = |rest: &str| format!("{BUCKET}/{rest}");
    Router::new()
        .at("/1.0/storage-pools/{pool}/buckets", get(buckets::get_all).post(buckets::post))
        .at(BUCKET, get(buckets::get).put(buckets::put).patch(buckets::patch).delete(buckets::delete))
        .at(&below("snapshots"), get(bucket_parts::get_snapshots).post(bucket_parts::post_snapshot))
        .at(
            &below("snapshots/{snapshot}"),
            get(bucket_parts::get_snapshot)
                .put(bucket_parts::put_snapshot)
                .patch(bucket_parts::patch_snapshot)
                .post(bucket_parts::rename_snapshot)
                .delete(bucket_parts::delete_snapshot),
        )
        .at(&below("backups"), get(bucket_parts::get_backups).post(bucket_parts::post_backup))
        .at(
            &below("backups/{backup}"),
            get(bucket_parts::get_backup)
                .post(bucket_parts::rename_backup)
                .delete(bucket_parts::delete_backup),
        )
        .at(&below("backups/{backup}/export"), get(bucket_parts::export))
        .at(&below("scrub"), post(bucket_repair::scrub))
        .at(&below("rebuild-index"), post(bucket_repair::rebuild))
        .route("/1.0/storage-pools/{pool}/volumes/bucket", any(bucket_parts::no_volume))
        .route("/1.0/storage-pools/{pool}/volumes/bucket/{*rest}", any(bucket_parts::no_volume))
        .at(&below("keys"), get(bucket_keys::get_all).post(bucket_keys::post))
        .at(&below("keys/{key}"), get(bucket_keys::get).put(bucket_keys::put).delete(bucket_keys::delete))
}

fn of_accounts() -> Router<App> {
    Router::new()
        .at("/1.0/storage-accounts", get(accounts::get_all).post(accounts::post))
        .at(
            "/1.0/storage-accounts/{name}",
            get(accounts::get).put(accounts::put).patch(accounts::patch).delete(accounts::delete),
        )
        .at("/1.0/storage-accounts/{name}/keys", get(accounts::get_keys).post(accounts::post_key))
        .at(
            "/1.0/storage-accounts/{name}/keys/{access_key}",
            get(accounts::get_key).put(accounts::put_key).delete(accounts::delete_key),
        )
}

/// GET `/`.
async fn versions() -> Reply {
    sync(&["/1.0"])
}

/// Parts of the peers' API that this version does not have: a client is told so, instead of that a thing is missing.
const NOT_BUILT: &[&str] = &[
    "auth",
    "certificates",
    "cluster",
    "network-acls",
    "network-address-sets",
    "network-allocations",
    "network-integrations",
    "network-zones",
    "networks",
    "placement-groups",
    "replicators",
];

/// The same of an instance.
const NOT_BUILT_OF_INSTANCES: &[&str] =
    &["access", "bitmaps", "logs", "metadata", "nbd", "port-forward", "rebuild"];

/// The same of a volume.
const NOT_BUILT_OF_VOLUMES: &[&str] = &["bitmaps", "files", "nbd", "rebuild", "sftp"];

async fn unknown(uri: Uri) -> ApiError {
    let parts: Vec<&str> = uri.path().split('/').skip(1).collect();
    let is_not_built = match parts.as_slice() {
        ["1.0", "instances", _, part, ..] => NOT_BUILT_OF_INSTANCES.contains(part),
        ["1.0", "storage-pools", _, "volumes", _, _, part, ..] => NOT_BUILT_OF_VOLUMES.contains(part),
        ["1.0", part, ..] => NOT_BUILT.contains(part),
        _ => false,
    };
    if is_not_built {
        return ApiError::new(StatusCode::NOT_IMPLEMENTED, format!("{} is not implemented", uri.path()));
    }
    ApiError::new(StatusCode::NOT_FOUND, format!("{} not found", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_IMPLEMENTED, format!("{method} {} is not implemented", uri.path()))
}
