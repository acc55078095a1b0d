//! `/1.0/profiles`.

use super::glue::{App, Body, Matched, blocking, created, done, list, matched, sync_with_etag};
use super::{Query, Reply};
use crate::service::{ProfileContent, profile_url, url};
use axum::extract::{Path, State};
use larder_api::{Devices, ProfilePost, ProfilePut, ProfilesPost};
use larder_catalog::documents::Profile;
use serde::Deserialize;
use serde_json::{Value, json};

/// A change of some of a profile: what is not named stays, a device that is named is replaced.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProfilePatch {
    config: Option<larder_api::Config>,
    description: Option<String>,
    devices: Option<Devices>,
}

/// GET `/1.0/profiles`.
pub(crate) async fn get_all(State(app): State<App>, query: Query) -> Reply {
    let wanted = query.clone();
    let profiles = blocking(&app, move |service| {
        let profiles = match wanted.all_projects {
            true => service.store().all_profiles()?,
            false => service.profiles(&service.profile_project(&wanted.project)?)?,
        };
        let mut users = service.store().all_users()?;
        let mut own = |profile: &Profile| users.remove(&profile.id.to_string()).unwrap_or_default();
        Ok(profiles.iter().map(|profile| wire(profile, own(profile))).collect::<Vec<_>>())
    })
    .await?;
    list(&query, profiles, |profile| url(&["profiles", &profile.name], &profile.project))
}

/// POST `/1.0/profiles`.
pub(crate) async fn post(State(app): State<App>, query: Query, Body(body): Body<ProfilesPost>) -> Reply {
    let task = query.task();
    let profile = blocking(&app, move |service| {
        let project = service.profile_project(&query.project)?;
        let content =
            ProfileContent { config: body.config, description: body.description, devices: body.devices };
        service.create_profile(&task, &project, &body.name, content)
    })
    .await?;
    created(&profile_url(&profile))
}

/// GET `/1.0/profiles/{name}`.
pub(crate) async fn get(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply {
    let (profile, users) = blocking(&app, move |service| {
        let profile = service.profile(&service.profile_project(&query.project)?, &name)?;
        let users = service.profile_users(&profile)?;
        Ok((profile, users))
    })
    .await?;
    sync_with_etag(&wire(&profile, users), &etag(&profile))
}

/// PUT `/1.0/profiles/{name}`.
pub(crate) async fn put(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    guard: Matched,
    Body(body): Body<ProfilePut>,
) -> Reply {
    change(app, name, query, guard, move |_| ProfileContent {
        config: body.config,
        description: body.description,
        devices: body.devices,
    })
    .await
}

/// PATCH `/1.0/profiles/{name}`.
pub(crate) async fn patch(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    guard: Matched,
    Body(body): Body<ProfilePatch>,
) -> Reply {
    change(app, name, query, guard, move |profile| {
        let Profile { mut config, mut devices, description, .. } = profile.clone();
        config.extend(body.config.unwrap_or_default());
        devices.extend(body.devices.unwrap_or_default());
        ProfileContent { config, description: body.description.unwrap_or(description), devices }
    })
    .await
}

async fn change(
    app: App,
    name: String,
    query: Query,
    guard: Matched,
    new: impl FnOnce(&Profile) -> ProfileContent + Send + 'static,
) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let profile = service.profile(&service.profile_project(&query.project)?, &name)?;
        matched(&guard, &etag(&profile))?;
        service.update_profile(&task, &profile, new(&profile))
    })
    .await?;
    done()
}

/// POST `/1.0/profiles/{name}`: another name.
pub(crate) async fn rename(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    Body(body): Body<ProfilePost>,
) -> Reply {
    let task = query.task();
    let profile = blocking(&app, move |service| {
        let profile = service.profile(&service.profile_project(&query.project)?, &name)?;
        service.rename_profile(&task, &profile, &body.name)
    })
    .await?;
    created(&profile_url(&profile))
}

/// DELETE `/1.0/profiles/{name}`.
pub(crate) async fn delete(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let profile = service.profile(&service.profile_project(&query.project)?, &name)?;
        service.delete_profile(&task, &profile)
    })
    .await?;
    done()
}

fn wire(profile: &Profile, mut used_by: Vec<String>) -> larder_api::Profile {
    used_by.sort();
    larder_api::Profile {
        config: profile.config.clone(),
        description: profile.description.clone(),
        devices: profile.devices.clone(),
        name: profile.name.clone(),
        used_by,
        project: profile.project.to_string(),
    }
}

fn etag(profile: &Profile) -> Value {
    json!([profile.config, profile.description, profile.devices])
}
