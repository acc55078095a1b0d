//! `/1.0/instances/{name}/snapshots`.

use super::glue::{App, Body, Matched, accepted, blocking, list, matched, start, sync_with_etag};
use super::instances::find;
use super::{Query, Reply};
use crate::service::{DescribedSnapshot, ServiceError, url};
use axum::extract::{Path, State};
use larder_api::{
    InstanceSnapshot, InstanceSnapshotPost, InstanceSnapshotPut, InstanceSnapshotsPost, given_time,
    or_zero_time,
};
use larder_base::SnapshotName;
use larder_catalog::documents::InstanceSnapshot as Document;
use serde_json::{Value, json};

type SnapshotPath = Path<(String, String)>;

fn url_of(instance: &str, snapshot: &str, query: &Query) -> String {
    url(&["instances", instance, "snapshots", snapshot], &query.project)
}

/// GET `…/snapshots`.
pub(crate) async fn get_all(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply {
    let instance = find(&app, &query, name.clone()).await?;
    let snapshots = blocking(&app, move |service| {
        Ok(service.instance_snapshots(&instance)?.iter().map(wire).collect::<Vec<_>>())
    })
    .await?;
    list(&query, snapshots, |snapshot| url_of(&name, &snapshot.name, &query))
}

/// POST `…/snapshots`: an operation.
pub(crate) async fn post(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    Body(body): Body<InstanceSnapshotsPost>,
) -> Reply {
    if body.stateful {
        return Err(ServiceError::not_implemented("a snapshot of an instance's memory").into());
    }
    let instance = find(&app, &query, name).await?;
    let asked = instance.clone();
    let snapshot = blocking(&app, move |service| {
        let name = match body.name.as_str() {
            "" => service.next_instance_snapshot_name(&asked)?,
            text => text.parse::<SnapshotName>()?,
        };
        service.expiry_must_be_ahead(body.expires_at.and_then(given_time), name.as_str())?;
        match service.instance_snapshot(&asked, name.as_str()) {
            Ok(_) => Err(ServiceError::taken(format!("the snapshot {:?}", name.as_str()))),
            Err(_) => Ok(name),
        }
    })
    .await?;
    let location = url_of(&instance.name, snapshot.as_str(), &query);
    let expires_at = body.expires_at.map(given_time);
    let operation = start(
        &app,
        &query,
        "Snapshotting instance",
        "instances_snapshots",
        &location,
        move |service, task| service.snapshot_instance(task, &instance, &snapshot, expires_at),
    )?;
    accepted(&operation)
}

/// GET `…/snapshots/{snapshot}`.
pub(crate) async fn get(State(app): State<App>, Path((name, snapshot)): SnapshotPath, query: Query) -> Reply {
    let instance = find(&app, &query, name).await?;
    let snapshot = blocking(&app, move |service| {
        service.describe_instance_snapshot(&instance, service.instance_snapshot(&instance, &snapshot)?)
    })
    .await?;
    sync_with_etag(&wire(&snapshot), &etag(&snapshot.snapshot))
}

/// PUT and PATCH `…/snapshots/{snapshot}`: when it goes, as an operation.
pub(crate) async fn put(
    State(app): State<App>,
    Path((name, snapshot)): SnapshotPath,
    query: Query,
    guard: Matched,
    Body(body): Body<InstanceSnapshotPut>,
) -> Reply {
    let instance = find(&app, &query, name).await?;
    let location = url_of(&instance.name, &snapshot, &query);
    let expires_at = body.expires_at.and_then(given_time);
    let of = instance.clone();
    let known = blocking(&app, move |service| {
        let known = service.instance_snapshot(&of, &snapshot)?;
        matched(&guard, &etag(&known))?;
        if known.expires_at != expires_at {
            service.expiry_must_be_ahead(expires_at, &snapshot)?;
        }
        Ok(known)
    })
    .await?;
    let operation =
        start(&app, &query, "Updating snapshot", "instances_snapshots", &location, move |service, task| {
            service.update_instance_snapshot(task, &instance, &known, expires_at)
        })?;
    accepted(&operation)
}

/// POST `…/snapshots/{snapshot}`: another name, as an operation.
pub(crate) async fn rename(
    State(app): State<App>,
    Path((name, snapshot)): SnapshotPath,
    query: Query,
    Body(body): Body<InstanceSnapshotPost>,
) -> Reply {
    if body.migration {
        return Err(ServiceError::not_implemented("migration of a snapshot to another server").into());
    }
    let new: SnapshotName = body.name.parse().map_err(ServiceError::from)?;
    let instance = find(&app, &query, name).await?;
    let location = url_of(&instance.name, new.as_str(), &query);
    let operation =
        start(&app, &query, "Renaming snapshot", "instances_snapshots", &location, move |service, task| {
            service.rename_instance_snapshot(task, &instance, &snapshot, &new)
        })?;
    accepted(&operation)
}

/// DELETE `…/snapshots/{snapshot}`: an operation.
pub(crate) async fn delete(
    State(app): State<App>,
    Path((name, snapshot)): SnapshotPath,
    query: Query,
) -> Reply {
    let instance = find(&app, &query, name).await?;
    let asked = (instance.clone(), snapshot.clone());
    blocking(&app, move |service| service.instance_snapshot(&asked.0, &asked.1).map(|_| ())).await?;
    let location = url_of(&instance.name, &snapshot, &query);
    let operation =
        start(&app, &query, "Deleting snapshot", "instances_snapshots", &location, move |service, task| {
            service.delete_instance_snapshot(task, &instance, &snapshot)
        })?;
    accepted(&operation)
}

fn etag(snapshot: &Document) -> Value {
    json!([or_zero_time(snapshot.expires_at)])
}

pub(super) fn wire(described: &DescribedSnapshot) -> InstanceSnapshot {
    let DescribedSnapshot { snapshot, expanded } = described;
    InstanceSnapshot {
        architecture: snapshot.then.architecture.clone(),
        config: snapshot.then.config.clone(),
        created_at: snapshot.created_at,
        devices: snapshot.then.devices.clone(),
        ephemeral: snapshot.then.ephemeral,
        expanded_config: expanded.config.clone(),
        expanded_devices: expanded.devices.clone(),
        expires_at: or_zero_time(snapshot.expires_at),
        last_used_at: or_zero_time(snapshot.then.last_used_at),
        name: snapshot.name.clone(),
        profiles: snapshot.then.profiles.clone(),
        size: -1,
        stateful: snapshot.stateful,
        description: String::new(),
    }
}
