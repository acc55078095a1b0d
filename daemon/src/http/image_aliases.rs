//! `/1.0/images/aliases`. A name may have slashes.

use super::glue::{App, Body, Matched, blocking, created, done, list, matched, sync_with_etag};
use super::images::project_of;
use super::{Query, Reply};
use crate::service::{ServiceError, url};
use axum::extract::{Path, State};
use larder_api::{ImageAliasesEntry, ImageAliasesEntryPost, ImageAliasesEntryPut, ImageAliasesPost};
use larder_catalog::documents::ImageAlias;
use serde_json::{Value, json};

fn url_of(name: &str, query: &Query) -> String {
    url(&["images", "aliases", name], &query.project)
}

/// GET `/1.0/images/aliases`.
pub(crate) async fn get_all(State(app): State<App>, query: Query) -> Reply {
    let project = project_of(&app, &query).await?;
    let aliases = blocking(&app, move |service| {
        Ok(service.store().image_aliases_of(&project)?.iter().map(wire).collect::<Vec<_>>())
    })
    .await?;
    list(&query, aliases, |alias| url_of(&alias.name, &query))
}

/// POST `/1.0/images/aliases`.
pub(crate) async fn post(State(app): State<App>, query: Query, Body(body): Body<ImageAliasesPost>) -> Reply {
    let project = project_of(&app, &query).await?;
    let location = url_of(&body.name, &query);
    let task = query.task();
    blocking(&app, move |service| {
        if body.target.is_empty() {
            return Err(ServiceError::bad("an image alias needs a target: give the fingerprint of an image"));
        }
        service.create_image_alias(&task, &project, &body.name, body.description, &body.target)
    })
    .await?;
    created(&location)
}

/// GET `/1.0/images/aliases/{name}`.
pub(crate) async fn get(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply {
    let project = project_of(&app, &query).await?;
    let alias = blocking(&app, move |service| service.image_alias(&project, &name)).await?;
    sync_with_etag(&wire(&alias), &etag(&alias))
}

/// PUT `/1.0/images/aliases/{name}`.
pub(crate) async fn put(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    guard: Matched,
    Body(body): Body<ImageAliasesEntryPut>,
) -> Reply {
    change(app, name, query, guard, move |_| (body.description, body.target)).await
}

/// PATCH `/1.0/images/aliases/{name}`.
pub(crate) async fn patch(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    guard: Matched,
    Body(body): Body<Value>,
) -> Reply {
    change(app, name, query, guard, move |alias| {
        let text = |field: &str| body[field].as_str().map(str::to_owned);
        let description = text("description").unwrap_or_else(|| alias.description.clone());
        (description, text("target").unwrap_or_else(|| alias.fingerprint.to_string()))
    })
    .await
}

async fn change(
    app: App,
    name: String,
    query: Query,
    guard: Matched,
    new: impl FnOnce(&ImageAlias) -> (String, String) + Send + 'static,
) -> Reply {
    let project = project_of(&app, &query).await?;
    let task = query.task();
    blocking(&app, move |service| {
        let alias = service.image_alias(&project, &name)?;
        matched(&guard, &etag(&alias))?;
        let (description, target) = new(&alias);
        service.update_image_alias(&task, &alias, description, &target)
    })
    .await?;
    done()
}

/// POST `/1.0/images/aliases/{name}`: another name.
pub(crate) async fn rename(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    Body(body): Body<ImageAliasesEntryPost>,
) -> Reply {
    let project = project_of(&app, &query).await?;
    let (task, location) = (query.task(), url_of(&body.name, &query));
    blocking(&app, move |service| {
        let alias = service.image_alias(&project, &name)?;
        service.rename_image_alias(&task, &alias, &body.name)
    })
    .await?;
    created(&location)
}

/// DELETE `/1.0/images/aliases/{name}`.
pub(crate) async fn delete(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply {
    let project = project_of(&app, &query).await?;
    let task = query.task();
    blocking(&app, move |service| {
        let alias = service.image_alias(&project, &name)?;
        service.delete_image_alias(&task, &alias)
    })
    .await?;
    done()
}

fn wire(alias: &ImageAlias) -> ImageAliasesEntry {
    ImageAliasesEntry {
        description: alias.description.clone(),
        target: alias.fingerprint.to_string(),
        name: alias.name.clone(),
        kind: alias.kind.clone(),
    }
}

fn etag(alias: &ImageAlias) -> Value {
    json!([alias.description, alias.fingerprint])
}
