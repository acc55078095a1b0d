//! `/1.0/projects`.

use super::glue::{
    App, Body, Matched, Patch, accepted, blocking, created, done, list, matched, start, sync, sync_with_etag,
};
use super::{Query, Reply};
use crate::service::{Service, ServiceError, VolumeRecord, image_url, profile_url, url};
use axum::extract::{Path, State};
use larder_api::{ProjectPost, ProjectPut, ProjectState, ProjectStateResource, ProjectsPost};
use larder_base::{ByteSize, ProjectName};
use larder_catalog::documents::{Project, Volume};
use larder_storage_driver::Config;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};

fn url_of(name: &str) -> String {
    url(&["projects", name], &"default")
}

/// GET `/1.0/projects`.
pub(crate) async fn get_all(State(app): State<App>, query: Query) -> Reply {
    let projects = blocking(&app, move |service| {
        let mut users = users(service)?;
        let projects = service.store().projects()?.into_iter();
        Ok(projects
            .map(|project| wire(&project, users.remove(&project.name).unwrap_or_default()))
            .collect::<Vec<_>>())
    })
    .await?;
    list(&query, projects, |project| url_of(&project.name))
}

/// POST `/1.0/projects`.
pub(crate) async fn post(State(app): State<App>, query: Query, Body(body): Body<ProjectsPost>) -> Reply {
    let name: ProjectName = body.name.parse().map_err(ServiceError::from)?;
    let (task, location) = (query.task(), url_of(name.as_str()));
    blocking(&app, move |service| service.create_project(&task, &name, body.description, body.config))
        .await?;
    created(&location)
}

/// GET `/1.0/projects/{name}`.
pub(crate) async fn get(State(app): State<App>, Path(name): Path<String>) -> Reply {
    let (project, etag) = blocking(&app, move |service| {
        let project = service.project(&name)?;
        Ok((wire(&project, service.project_users(&project.name)?), etag(&project)))
    })
    .await?;
    sync_with_etag(&project, &etag)
}

/// PUT `/1.0/projects/{name}`.
pub(crate) async fn put(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    guard: Matched,
    Body(body): Body<ProjectPut>,
) -> Reply {
    change(app, name, query, guard, move |_| (body.config, body.description)).await
}

/// PATCH `/1.0/projects/{name}`.
pub(crate) async fn patch(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    guard: Matched,
    Body(body): Body<Patch>,
) -> Reply {
    change(app, name, query, guard, move |project| {
        let mut config = project.config.clone();
        config.extend(body.config);
        (config, body.description.unwrap_or_else(|| project.description.clone()))
    })
    .await
}

async fn change(
    app: App,
    name: String,
    query: Query,
    guard: Matched,
    new: impl FnOnce(&Project) -> (Config, String) + Send + 'static,
) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let project = service.project(&name)?;
        matched(&guard, &etag(&project))?;
        let (config, description) = new(&project);
        service.update_project(&task, &project, config, description)
    })
    .await?;
    done()
}

/// POST `/1.0/projects/{name}`: another name, as an operation.
pub(crate) async fn rename(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    Body(body): Body<ProjectPost>,
) -> Reply {
    let (project, new) = blocking(&app, move |service| {
        let project = service.project(&name)?;
        let new: ProjectName = body.name.parse()?;
        match service.store().project(new.as_str())? {
            Some(_) => Err(ServiceError::taken(format!("the project {:?}", new.as_str()))),
            None => Ok((project, new)),
        }
    })
    .await?;
    let location = url_of(new.as_str());
    let operation = start(&app, &query, "Renaming project", "projects", &location, move |service, task| {
        service.rename_project(task, &project, &new)
    })?;
    accepted(&operation)
}

/// DELETE `/1.0/projects/{name}`.
pub(crate) async fn delete(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let project = service.project(&name)?;
        service.delete_project(&task, &project)
    })
    .await?;
    done()
}

/// GET `/1.0/projects/{name}/state`.
pub(crate) async fn state(State(app): State<App>, Path(name): Path<String>) -> Reply {
    let volumes = blocking(&app, move |service| {
        let project = service.project(&name)?.name;
        let volumes = service.store().volumes()?.into_iter().map(|record| record.volume);
        Ok(volumes.filter(|volume| volume.project == project).collect::<Vec<_>>())
    })
    .await?;
    sync(&ProjectState { resources: usage(&volumes) })
}

/// What volumes amount to: instances by their root volumes, disk by the sizes that are set. No project has limits: -1.
fn usage(volumes: &[Volume]) -> BTreeMap<String, ProjectStateResource> {
    let sum = |of: &dyn Fn(&Volume) -> u64| {
        let sum = volumes.iter().map(of).fold(0, u64::saturating_add);
        ProjectStateResource { limit: -1, usage: i64::try_from(sum).unwrap_or(i64::MAX) }
    };
    let kinds = |kinds: &[&str]| sum(&|volume| u64::from(kinds.contains(&volume.kind.as_str())));
    let size = |volume: &Volume| volume.config.get("size")?.parse::<ByteSize>().ok();
    BTreeMap::from([
        ("instances".to_owned(), kinds(&["container", "virtual-machine"])),
        ("containers".to_owned(), kinds(&["container"])),
        ("virtual-machines".to_owned(), kinds(&["virtual-machine"])),
        ("disk".to_owned(), sum(&|volume| size(volume).map_or(0, ByteSize::as_bytes))),
    ])
}

/// URLs of what is in each project, from one scan.
fn users(service: &Service) -> crate::service::Result<HashMap<ProjectName, Vec<String>>> {
    let pools: HashMap<_, _> =
        service.store().pools()?.into_iter().map(|pool| (pool.id, pool.name)).collect();
    let mut users: HashMap<_, Vec<String>> = HashMap::new();
    for VolumeRecord { volume, .. } in service.store().volumes()?.into_iter().filter(VolumeRecord::is_listed)
    {
        if let Some(pool) = pools.get(&volume.pool) {
            users.entry(volume.project.clone()).or_default().push(service.user_url(pool, &volume));
        }
    }
    for profile in service.store().all_profiles()? {
        users.entry(profile.project.clone()).or_default().push(profile_url(&profile));
    }
    for image in service.store().all_images()? {
        users.entry(image.project.clone()).or_default().push(image_url(&image));
    }
    Ok(users)
}

fn wire(project: &Project, mut used_by: Vec<String>) -> larder_api::Project {
    used_by.sort();
    larder_api::Project {
        config: project.config.clone(),
        description: project.description.clone(),
        name: project.name.to_string(),
        used_by,
    }
}

fn etag(project: &Project) -> serde_json::Value {
    json!([project.description, project.config])
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_catalog::documents::VolumeState;

    fn volume(kind: &str, size: Option<&str>) -> Volume {
        Volume {
            id: larder_catalog::VolumeId::random(),
            pool: larder_catalog::PoolId::random(),
            project: ProjectName::default_project(),
            kind: kind.to_owned(),
            content: "filesystem".to_owned(),
            name: "v1".to_owned(),
            description: String::new(),
            config: size.map(|size| ("size".to_owned(), size.to_owned())).into_iter().collect(),
            state: VolumeState::Ready,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            takes_over: None,
        }
    }

    #[test]
    fn usage_counts_instances_and_adds_up_sizes() {
        let volumes = [
            volume("container", Some("1GiB")),
            volume("virtual-machine", Some("10GiB")),
            volume("custom", None),
            volume("custom", Some("512MiB")),
        ];
        let usage = usage(&volumes);
        let of = |name: &str| (usage[name].usage, usage[name].limit);
        assert_eq!(of("instances"), (2, -1));
        assert_eq!(of("containers"), (1, -1));
        assert_eq!(of("disk"), ((11 << 30) + (512 << 20), -1));
        assert_eq!(super::usage(&[])["disk"].usage, 0);
    }
}
