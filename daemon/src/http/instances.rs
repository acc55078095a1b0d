//! `/1.0/instances`.

use super::glue::{
    App, Body, Matched, Upload, accepted, blocking, done, list, matched, start, sync, sync_with_etag,
};
use super::{ApiError, Query, Reply};
use crate::service::{
    Described, InstanceChange, InstanceSource, InstanceTarget, InstanceUsage, NewInstance, RemoteImage,
    Result, Service, ServiceError, Stop, Task, instance_url, url,
};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::IntoResponse;
use larder_api::{
    InstanceFull, InstancePost, InstancePut, InstanceState, InstanceStateCpu, InstanceStateDisk,
    InstanceStateMemory, InstanceStatePut, InstancesPost, InstancesPut, or_zero_time,
};
use larder_catalog::VolumeId;
use larder_catalog::documents::{Backup, Instance};
use larder_runtime::Status;
use larder_storage_driver::StorageError;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many instances are started or stopped at once.
const AT_ONCE: usize = 8;

/// GET `/1.0/instances`: URLs, objects, or with `recursion=2` objects with state and snapshots.
pub(crate) async fn get_all(State(app): State<App>, query: Query) -> Reply {
    let wanted = query.clone();
    if wanted.recursion < 2 {
        let instances = blocking(&app, move |service| {
            Ok(described(service, &wanted)?.iter().map(wire).collect::<Vec<_>>())
        })
        .await?;
        return list(&query, instances, |instance| url(&["instances", &instance.name], &instance.project));
    }
    let full = blocking(&app, move |service| {
        let task = wanted.task();
        let backups = service.store().backups_by_volume()?;
        let instances = described(service, &wanted)?;
        let usages = service.usages_of(&task, &instances)?;
        let all = instances.iter().zip(&usages);
        all.map(|(one, usage)| full(service, one, usage, &backups)).collect::<Result<Vec<_>>>()
    })
    .await?;
    list(&query, full, |full| url(&["instances", &full.instance.name], &full.instance.project))
}

fn described(service: &Service, query: &Query) -> Result<Vec<Described>> {
    let project = service.project(&query.project)?.name;
    service.instances((!query.all_projects).then_some(&project))
}

/// POST `/1.0/instances`: from a source, or from an uploaded backup; an operation.
pub(crate) async fn post(State(app): State<App>, query: Query, headers: HeaderMap, body: Upload) -> Reply {
    if super::glue::is_octet_stream(&headers) {
        return super::instance_backups::import(app, query, headers, body).await;
    }
    let body: InstancesPost = super::glue::parse(&body.bounded().await?)?;
    if !matches!(body.kind.as_str(), "" | "container") {
        return Err(ServiceError::not_implemented(format!("instances of type {:?}", body.kind)).into());
    }
    let source = source_of(&body, &query)?;
    let (wanted, name) = (query.clone(), body.name.clone());
    let may_be_there = body.source.refresh;
    let name = blocking(&app, move |service| {
        let project = service.project(&wanted.project)?.name;
        match name.as_str() {
            "" => service.free_instance_name(&project),
            _ if !may_be_there && service.store().instance(&project, &name)?.is_some() => {
                Err(ServiceError::taken(format!("the instance {name:?}")))
            }
            _ => name
                .parse::<larder_base::InstanceName>()
                .map(|name| name.to_string())
                .map_err(ServiceError::from),
        }
    })
    .await?;
    let location = url(&["instances", &name], &query.project);
    let new = NewInstance {
        project: query.project.clone(),
        name,
        description: body.description,
        config: body.config,
        devices: body.devices,
        profiles: body.profiles,
        ephemeral: body.ephemeral,
    };
    let shared = Arc::clone(&app.service);
    let operation =
        start(&app, &query, "Creating instance", "instances", &location, move |service, task| {
            let instance = service.create_instance(task, &new, &source)?;
            if body.start { shared.start_instance(task, &instance) } else { Ok(()) }
        })?;
    accepted(&operation)
}

fn source_of(body: &InstancesPost, query: &Query) -> Result<InstanceSource> {
    let source = &body.source;
    match source.kind.as_str() {
        "image" => {}
        "copy" => {
            let (name, snapshot) = match source.source.split_once('/') {
                Some((name, snapshot)) => (name, Some(snapshot.to_owned())),
                None => (source.source.as_str(), None),
            };
            let project =
                if source.project.is_empty() { query.project.clone() } else { source.project.clone() };
            let instance_only = source.instance_only || source.container_only;
            return Ok(InstanceSource::Copy {
                project,
                name: name.to_owned(),
                snapshot,
                instance_only,
                refresh: source.refresh,
                excludes_older: source.refresh_exclude_older,
            });
        }
        "none" => return Ok(InstanceSource::Nothing),
        kind @ ("migration" | "conversion" | "backup") => {
            return Err(ServiceError::not_implemented(format!(
                "making an instance from a source of type {kind:?}"
            )));
        }
        other => {
            return Err(ServiceError::bad(format!(
                "unknown instance source type {other:?}: it is image or copy"
            )));
        }
    }
    let name = if source.alias.is_empty() { &source.fingerprint } else { &source.alias };
    if name.is_empty() {
        return Err(ServiceError::bad(
            "the instance's source names no image: give an alias or a fingerprint",
        ));
    }
    match (source.server.as_str(), source.protocol.as_str()) {
        ("", _) => Ok(InstanceSource::Image(name.clone())),
        (server, "simplestreams") => Ok(InstanceSource::Remote(RemoteImage {
            server: server.to_owned(),
            name: name.clone(),
            kind: "container".to_owned(),
        })),
        (_, other) => {
            Err(ServiceError::not_implemented(format!("images from a server of protocol {other:?}")))
        }
    }
}

/// PUT `/1.0/instances`: one action on all instances of a project that it applies to.
pub(crate) async fn put_all(State(app): State<App>, query: Query, Body(body): Body<InstancesPut>) -> Reply {
    let change = body.state.ok_or_else(|| ServiceError::bad("nothing to do: give state with an action"))?;
    let action = Action::of(&change)?;
    let wanted = query.clone();
    let shared = Arc::clone(&app.service);
    let location = url(&["instances"], &query.project);
    let operation =
        start(&app, &query, "Changing instances", "instances", &location, move |service, task| {
            let mut all = described(service, &wanted)?;
            all.retain(|one| action.applies_to(one.state.status));
            let instances: Vec<Instance> = all.into_iter().map(|one| one.instance).collect();
            action.apply_to_all(&shared, task, &instances)
        })?;
    accepted(&operation)
}

/// GET `/1.0/instances/{name}`; with recursion its state and snapshots come along.
pub(crate) async fn get(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply {
    let (one, etag, details) = blocking(&app, move |service| {
        let one = service.describe_instance(service.instance(&query.project, &name)?)?;
        let etag = etag(&one.instance);
        let details = match query.recursion {
            0 => None,
            _ => {
                let usage = service.instance_usage(&query.task(), &one.instance)?;
                Some(full(service, &one, &usage, &service.store().backups_by_volume()?)?)
            }
        };
        Ok((wire(&one), etag, details))
    })
    .await?;
    match details {
        Some(full) => sync_with_etag(&full, &etag),
        None => sync_with_etag(&one, &etag),
    }
}

/// PUT `/1.0/instances/{name}`: the whole configuration, or `restore`, as an operation.
pub(crate) async fn put(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    guard: Matched,
    Body(body): Body<InstancePut>,
) -> Reply {
    let instance = find(&app, &query, name).await?;
    matched(&guard, &etag(&instance))?;
    let location = instance_url(&instance);
    let description = if body.restore.is_empty() { "Updating instance" } else { "Restoring snapshot" };
    let operation = start(&app, &query, description, "instances", &location, move |service, task| {
        if !body.restore.is_empty() {
            let snapshot = body.restore.rsplit('/').next().unwrap_or_default();
            return service.restore_instance(task, &instance, snapshot);
        }
        let change = InstanceChange {
            description: body.description,
            config: body.config,
            devices: body.devices,
            profiles: body.profiles,
            ephemeral: body.ephemeral,
        };
        service.update_instance(task, &instance, change)
    })?;
    accepted(&operation)
}

/// PATCH `/1.0/instances/{name}`.
pub(crate) async fn patch(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    guard: Matched,
    Body(body): Body<Value>,
) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let instance = service.instance(&query.project, &name)?;
        matched(&guard, &etag(&instance))?;
        let named: InstancePut = serde_json::from_value(body.clone())
            .map_err(|error| ServiceError::bad(format!("invalid request body: {error}")))?;
        let (mut config, mut devices) = (instance.config.clone(), instance.devices.clone());
        config.extend(named.config);
        devices.extend(named.devices);
        let change = InstanceChange {
            description: body["description"]
                .as_str()
                .map_or_else(|| instance.description.clone(), str::to_owned),
            config,
            devices,
            profiles: if body["profiles"].is_null() { instance.profiles.clone() } else { named.profiles },
            ephemeral: body["ephemeral"].as_bool().unwrap_or(instance.ephemeral),
        };
        service.update_instance(&task, &instance, change)
    })
    .await?;
    done()
}

/// POST `/1.0/instances/{name}`: another name, pool or project, as an operation.
pub(crate) async fn rename(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    Body(body): Body<InstancePost>,
) -> Reply {
    let has_settings = body.config.is_some() || body.devices.is_some() || body.profiles.is_some();
    let is_here = !body.pool.is_empty() || !body.project.is_empty() || has_settings;
    if body.target.is_some() || (body.migration && !is_here) {
        return Err(ServiceError::not_implemented("moving an instance to another server").into());
    }
    let instance = find(&app, &query, name).await?;
    if body.instance_only || body.container_only {
        let known = instance.clone();
        let snapshots = blocking(&app, move |service| service.store().instance_snapshots_of(&known)).await?;
        if !snapshots.is_empty() {
            let message = "an instance moves with its snapshots: delete them first, or copy it without them";
            return Err(ServiceError::bad(message).into());
        }
    }
    let target = InstanceTarget {
        project: if body.project.is_empty() { query.project.clone() } else { body.project },
        name: if body.name.is_empty() { instance.name.clone() } else { body.name },
        pool: Some(body.pool).filter(|pool| !pool.is_empty()),
        config: body.config,
        devices: body.devices,
        profiles: body.profiles,
    };
    let location = url(&["instances", &target.name], &target.project);
    let description = if is_here { "Moving instance" } else { "Renaming instance" };
    let operation = start(&app, &query, description, "instances", &location, move |service, task| {
        service.move_instance(task, &instance, &target)
    })?;
    accepted(&operation)
}

/// DELETE `/1.0/instances/{name}`: an operation.
pub(crate) async fn delete(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply {
    let instance = find(&app, &query, name).await?;
    let location = instance_url(&instance);
    let is_forced = matches!(query.get("force"), Some("1" | "true"));
    let operation =
        start(&app, &query, "Deleting instance", "instances", &location, move |service, task| {
            if is_forced && service.instance_status(&instance)? != Status::Stopped {
                service.stop_instance(task, &instance, Stop::Forced)?;
            }
            service.delete_instance(task, &instance)
        })?;
    accepted(&operation)
}

/// GET `/1.0/instances/{name}/state`.
pub(crate) async fn get_state(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply {
    let usage = blocking(&app, move |service| {
        let instance = service.instance(&query.project, &name)?;
        service.instance_usage(&query.task(), &instance)
    })
    .await?;
    sync(&wire_state(&usage))
}

/// PUT `/1.0/instances/{name}/state`: an operation.
pub(crate) async fn put_state(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    Body(body): Body<InstanceStatePut>,
) -> Reply {
    let action = Action::of(&body)?;
    let instance = find(&app, &query, name).await?;
    let location = instance_url(&instance);
    let shared = Arc::clone(&app.service);
    let operation = start(&app, &query, action.description(), "instances", &location, move |_, task| {
        action.apply(&shared, task, &instance)
    })?;
    accepted(&operation)
}

/// What can be done with a running or stopped instance.
#[derive(Debug, Clone, Copy)]
enum Action {
    Start,
    Stop(Stop),
    Restart(Stop),
    Freeze,
    Unfreeze,
}

impl Action {
    fn of(body: &InstanceStatePut) -> Result<Self> {
        if body.stateful {
            return Err(ServiceError::not_implemented("saving or loading the memory of an instance"));
        }
        let stop = match (body.force, u64::try_from(body.timeout)) {
            (true, _) => Stop::Forced,
            (false, Ok(seconds)) if seconds > 0 => Stop::Cleanly(Some(Duration::from_secs(seconds))),
            (false, _) => Stop::Cleanly(None),
        };
        match body.action.as_str() {
            "start" => Ok(Self::Start),
            "stop" => Ok(Self::Stop(stop)),
            "restart" => Ok(Self::Restart(stop)),
            "freeze" => Ok(Self::Freeze),
            "unfreeze" => Ok(Self::Unfreeze),
            other => Err(ServiceError::bad(format!(
                "unknown action {other:?}: it is one of start, stop, restart, freeze, unfreeze"
            ))),
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Start => "Starting instance",
            Self::Stop(_) => "Stopping instance",
            Self::Restart(_) => "Restarting instance",
            Self::Freeze => "Freezing instance",
            Self::Unfreeze => "Unfreezing instance",
        }
    }

    fn applies_to(self, status: Status) -> bool {
        match self {
            Self::Start => status == Status::Stopped,
            Self::Stop(_) | Self::Restart(_) => status != Status::Stopped,
            Self::Freeze => status == Status::Running,
            Self::Unfreeze => status == Status::Frozen,
        }
    }

    /// Does it to each, several at once. One that fails keeps no other from it; the failures are told together.
    fn apply_to_all(self, service: &Arc<Service>, task: &Task, instances: &[Instance]) -> Result<()> {
        let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some(instance) = instances.get(next.fetch_add(1, Ordering::Relaxed)) {
                let cancelled = task.cancel.checkpoint().map_err(StorageError::from);
                let outcome =
                    cancelled.map_err(Into::into).and_then(|()| self.apply(service, task, instance));
                if let Err(error) = outcome {
                    failures.lock().push((instance_url(instance), error));
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(instances.len()) {
                scope.spawn(work);
            }
        });
        told_together(failures.into_inner(), instances.len())
    }

    fn apply(self, service: &Arc<Service>, task: &Task, instance: &Instance) -> Result<()> {
        match self {
            Self::Start => service.start_instance(task, instance),
            Self::Stop(how) => service.stop_instance(task, instance, how),
            Self::Restart(how) => service.restart_instance(task, instance, how),
            Self::Freeze => service.freeze_instance(task, instance, true),
            Self::Unfreeze => service.freeze_instance(task, instance, false),
        }
    }
}

/// One error for what failed of `count` things.
fn told_together(mut failures: Vec<(String, ServiceError)>, count: usize) -> Result<()> {
    failures.sort_by(|(one, _), (other, _)| one.cmp(other));
    let each: Vec<String> = failures.iter().map(|(url, error)| format!("{url}: {error}")).collect();
    match failures.first() {
        None => Ok(()),
        Some((_, first)) => Err(ServiceError {
            kind: first.kind,
            message: format!("{} of {count} instances failed: {}", failures.len(), each.join("; ")),
        }),
    }
}

/// GET `/1.0/instances/{name}/console`: what the console has shown.
pub(crate) async fn console_log(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply {
    if query.get("type").is_some_and(|kind| kind != "log" && kind != "console") {
        return Err(ServiceError::not_implemented("a picture of the console").into());
    }
    let log =
        blocking(&app, move |service| service.console_log(&service.instance(&query.project, &name)?)).await?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok((headers, log).into_response())
}

pub(super) async fn find(app: &App, query: &Query, name: String) -> std::result::Result<Instance, ApiError> {
    let project = query.project.clone();
    blocking(app, move |service| service.instance(&project, &name)).await
}

fn full(
    service: &Service,
    one: &Described,
    usage: &InstanceUsage,
    backups: &HashMap<VolumeId, Vec<Backup>>,
) -> Result<InstanceFull> {
    let snapshots = service.instance_snapshots(&one.instance)?;
    let backups = one.instance.root.and_then(|root| backups.get(&root)).map_or(&[][..], Vec::as_slice);
    Ok(InstanceFull {
        instance: wire(one),
        backups: backups.iter().map(super::instance_backups::wire).collect(),
        state: Some(wire_state(usage)),
        snapshots: snapshots.iter().map(super::instance_snapshots::wire).collect(),
    })
}

fn status_of(status: Status) -> (&'static str, u16) {
    match status {
        Status::Stopped => ("Stopped", 102),
        Status::Starting => ("Starting", 106),
        Status::Running => ("Running", 103),
        Status::Stopping => ("Stopping", 107),
        Status::Frozen => ("Frozen", 110),
    }
}

fn wire(one: &Described) -> larder_api::Instance {
    let Described { instance, expanded, state } = one;
    let (status, status_code) = status_of(state.status);
    larder_api::Instance {
        architecture: instance.architecture.clone(),
        config: instance.config.clone(),
        devices: instance.devices.clone(),
        ephemeral: instance.ephemeral,
        profiles: instance.profiles.clone(),
        stateful: instance.stateful,
        description: instance.description.clone(),
        created_at: instance.created_at,
        expanded_config: expanded.config.clone(),
        expanded_devices: expanded.devices.clone(),
        name: instance.name.clone(),
        status: status.to_owned(),
        status_code,
        last_used_at: or_zero_time(instance.last_used_at),
        location: "none".to_owned(),
        kind: instance.kind.clone(),
        project: instance.project.to_string(),
    }
}

fn wire_state(usage: &InstanceUsage) -> InstanceState {
    let (status, status_code) = status_of(usage.state.status);
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let running = usage.usage.as_ref();
    let disk = usage.disk.map(|(used, total)| {
        ("root".to_owned(), InstanceStateDisk { usage: number(used), total: number(total) })
    });
    InstanceState {
        status: status.to_owned(),
        status_code,
        disk: disk.into_iter().collect::<BTreeMap<_, _>>(),
        memory: InstanceStateMemory {
            usage: running.map_or(0, |usage| number(usage.memory)),
            usage_peak: running.map_or(0, |usage| number(usage.memory_peak)),
            total: running.and_then(|usage| usage.memory_limit).map_or(0, number),
            swap_usage: running.map_or(0, |usage| number(usage.swap)),
            swap_usage_peak: 0,
        },
        network: None,
        pid: usage.state.init.map_or(0, i64::from),
        processes: running.map_or(0, |usage| number(usage.processes)),
        cpu: InstanceStateCpu { usage: running.map_or(0, |usage| number(usage.cpu_nanoseconds)) },
        started_at: larder_api::ZERO_TIME,
    }
}

fn etag(instance: &Instance) -> Value {
    json!([instance.architecture, instance.config, instance.devices, instance.ephemeral, instance.profiles])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_together_by_name() {
        assert!(told_together(Vec::new(), 3).is_ok());
        let failure = |name: &str| (format!("/1.0/instances/{name}"), ServiceError::bad("no"));
        let error = told_together(vec![failure("c2"), failure("c1")], 3).unwrap_err();
        let told = "2 of 3 instances failed: /1.0/instances/c1: no; /1.0/instances/c2: no";
        assert_eq!(error, ServiceError::bad(told));
    }
}
