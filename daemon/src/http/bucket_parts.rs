//! `…/buckets/{bucket}/snapshots` and `…/buckets/{bucket}/backups`: what volumes have, at a bucket's own place.

use super::glue::{App, Body, Matched};
use super::{ApiError, Query, Reply, backups, snapshots};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use larder_api::{
    StorageVolumeBackupPost, StorageVolumeBackupsPost, StorageVolumeSnapshotPost, StorageVolumeSnapshotPut,
    StorageVolumeSnapshotsPost,
};

/// Pool and bucket.
type BucketPath = Path<(String, String)>;
/// The same with a snapshot or a backup.
type PartPath = Path<(String, String, String)>;

fn volume(Path((pool, bucket)): BucketPath) -> Path<(String, String, String)> {
    Path((pool, "bucket".to_owned(), bucket))
}

fn part(Path((pool, bucket, part)): PartPath) -> Path<(String, String, String, String)> {
    Path((pool, "bucket".to_owned(), bucket, part))
}

/// Everything at `…/volumes/bucket`.
pub(crate) async fn no_volume() -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "a bucket is reached at …/buckets, not as a volume")
}

/// GET `…/snapshots`.
pub(crate) async fn get_snapshots(app: State<App>, at: BucketPath, query: Query) -> Reply {
    snapshots::get_all(app, volume(at), query).await
}

/// POST `…/snapshots`.
pub(crate) async fn post_snapshot(
    app: State<App>,
    at: BucketPath,
    query: Query,
    body: Body<StorageVolumeSnapshotsPost>,
) -> Reply {
    snapshots::post(app, volume(at), query, body).await
}

/// GET `…/snapshots/{snapshot}`.
pub(crate) async fn get_snapshot(app: State<App>, at: PartPath, query: Query) -> Reply {
    snapshots::get(app, part(at), query).await
}

/// PUT `…/snapshots/{snapshot}`.
pub(crate) async fn put_snapshot(
    app: State<App>,
    at: PartPath,
    query: Query,
    guard: Matched,
    body: Body<StorageVolumeSnapshotPut>,
) -> Reply {
    snapshots::put(app, part(at), query, guard, body).await
}

/// PATCH `…/snapshots/{snapshot}`.
pub(crate) async fn patch_snapshot(
    app: State<App>,
    at: PartPath,
    query: Query,
    guard: Matched,
    body: Body<snapshots::Change>,
) -> Reply {
    snapshots::patch(app, part(at), query, guard, body).await
}

/// POST `…/snapshots/{snapshot}`.
pub(crate) async fn rename_snapshot(
    app: State<App>,
    at: PartPath,
    query: Query,
    body: Body<StorageVolumeSnapshotPost>,
) -> Reply {
    snapshots::rename(app, part(at), query, body).await
}

/// DELETE `…/snapshots/{snapshot}`.
pub(crate) async fn delete_snapshot(app: State<App>, at: PartPath, query: Query) -> Reply {
    snapshots::delete(app, part(at), query).await
}

/// GET `…/backups`.
pub(crate) async fn get_backups(app: State<App>, at: BucketPath, query: Query) -> Reply {
    backups::get_all(app, volume(at), query).await
}

/// POST `…/backups`.
pub(crate) async fn post_backup(
    app: State<App>,
    at: BucketPath,
    query: Query,
    headers: HeaderMap,
    body: Body<StorageVolumeBackupsPost>,
) -> Reply {
    backups::post(app, volume(at), query, headers, body).await
}

/// GET `…/backups/{backup}`.
pub(crate) async fn get_backup(app: State<App>, at: PartPath, query: Query) -> Reply {
    backups::get(app, part(at), query).await
}

/// POST `…/backups/{backup}`.
pub(crate) async fn rename_backup(
    app: State<App>,
    at: PartPath,
    query: Query,
    body: Body<StorageVolumeBackupPost>,
) -> Reply {
    backups::rename(app, part(at), query, body).await
}

/// DELETE `…/backups/{backup}`.
pub(crate) async fn delete_backup(app: State<App>, at: PartPath, query: Query) -> Reply {
    backups::delete(app, part(at), query).await
}

/// GET `…/backups/{backup}/export`.
pub(crate) async fn export(app: State<App>, at: PartPath, query: Query) -> Reply {
    backups::export(app, part(at), query).await
}
