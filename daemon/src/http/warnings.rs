//! `/1.0/warnings`.

use super::glue::{App, Body, blocking, done, list, sync};
use super::{Query, Reply};
use crate::service::url;
use axum::extract::{Path, State};
use larder_api::WarningPut;
use larder_catalog::documents::{Warning, WarningStatus};

/// GET `/1.0/warnings`, newest first.
pub(crate) async fn get_all(State(app): State<App>, query: Query) -> Reply {
    let wanted = query.get("project").map(str::to_owned);
    let warnings = blocking(&app, move |service| {
        let mut warnings = service.all_warnings()?;
        warnings.retain(|warning| wanted.as_ref().is_none_or(|project| warning.project == *project));
        warnings.sort_by_key(|warning| std::cmp::Reverse((warning.last_seen, warning.id)));
        Ok(warnings.iter().map(wire).collect::<Vec<_>>())
    })
    .await?;
    list(&query, warnings, |warning| url(&["warnings", &warning.uuid], &"default"))
}

/// GET `/1.0/warnings/{id}`.
pub(crate) async fn get(State(app): State<App>, Path(id): Path<String>) -> Reply {
    sync(&blocking(&app, move |service| service.warning(&id).map(|warning| wire(&warning))).await?)
}

/// PUT and PATCH `/1.0/warnings/{id}`: `new` or `acknowledged`.
pub(crate) async fn put(
    State(app): State<App>,
    Path(id): Path<String>,
    Body(body): Body<WarningPut>,
) -> Reply {
    blocking(&app, move |service| service.set_warning_status(&id, &body.status)).await?;
    done()
}

/// DELETE `/1.0/warnings/{id}`.
pub(crate) async fn delete(State(app): State<App>, Path(id): Path<String>) -> Reply {
    blocking(&app, move |service| service.delete_warning(&id)).await?;
    done()
}

fn wire(warning: &Warning) -> larder_api::Warning {
    let status = match warning.status {
        WarningStatus::New => "new",
        WarningStatus::Acknowledged => "acknowledged",
        WarningStatus::Resolved => "resolved",
    };
    larder_api::Warning {
        status: status.to_owned(),
        uuid: warning.id.to_string(),
        location: "none".to_owned(),
        project: warning.project.clone(),
        kind: warning.kind.clone(),
        count: warning.count,
        first_seen_at: warning.first_seen,
        last_seen_at: warning.last_seen,
        last_message: warning.last_message.clone(),
        severity: warning.severity.clone(),
        entity_url: warning.entity_url.clone(),
    }
}
