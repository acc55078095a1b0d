//! `/1.0/operations`.

use super::glue::{App, blocking, done, sync};
use super::{ApiError, Query, Reply};
use crate::operations::{Operation, Taken};
use crate::service::ServiceError;
use axum::extract::{Path, State, WebSocketUpgrade};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// GET `/1.0/operations`: grouped by status.
pub(crate) async fn get_all(State(app): State<App>, query: Query) -> Reply {
    let project = query.project.clone();
    blocking(&app, move |service| service.project(&project).map(|_| ())).await?;
    let is_wanted = |operation: &Arc<Operation>| {
        query.all_projects || operation.project.is_empty() || operation.project == query.project
    };
    let mut groups: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for operation in app.operations.all().into_iter().filter(is_wanted) {
        let item = if query.recursion > 0 { json!(operation.wire()) } else { json!(operation.url()) };
        groups.entry(operation.status().as_str().to_lowercase()).or_default().push(item);
    }
    sync(&groups)
}

/// GET `/1.0/operations/{id}`.
pub(crate) async fn get(State(app): State<App>, Path(id): Path<String>) -> Reply {
    sync(&app.operations.find(&id)?.wire())
}

/// DELETE `/1.0/operations/{id}`: asks it to stop.
pub(crate) async fn delete(State(app): State<App>, Path(id): Path<String>) -> Reply {
    let operation = app.operations.find(&id)?;
    app.operations.cancel(&operation)?;
    done()
}

/// GET `/1.0/operations/{id}/wait`: answers at its end, or after `timeout` seconds (-1: no limit).
pub(crate) async fn wait(State(app): State<App>, Path(id): Path<String>, query: Query) -> Reply {
    let operation = app.operations.find(&id)?;
    let seconds: i64 = match query.get("timeout").filter(|text| !text.is_empty()) {
        None => -1,
        Some(text) => text.parse().map_err(|_| {
            ServiceError::bad(format!(
                "invalid timeout {text:?}: it must be a number of seconds, or -1 for no limit"
            ))
        })?,
    };
    match u64::try_from(seconds) {
        Ok(seconds) => {
            // What it is then is the answer, ended or not.
            let _ = tokio::time::timeout(Duration::from_secs(seconds), operation.ended()).await;
        }
        Err(_) => operation.ended().await,
    }
    sync(&operation.wire())
}

/// GET `/1.0/operations/{id}/websocket`: one of its websockets, named by its secret.
pub(crate) async fn websocket(
    State(app): State<App>,
    Path(id): Path<String>,
    query: Query,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Reply {
    let operation = app.operations.find(&id)?;
    let sockets = operation.sockets().ok_or_else(|| {
        ServiceError::bad(format!("the operation {id} has no websockets: its class is not websocket"))
    })?;
    let upgrade = upgrade.map_err(|error| ServiceError::bad(format!("not a websocket: {error}")))?;
    let wanted = sockets.take(query.get("secret").unwrap_or_default()).map_err(|taken| match taken {
        Taken::Unknown => {
            ApiError::new(StatusCode::FORBIDDEN, "wrong secret for this operation's websockets")
        }
        Taken::Gone => ApiError::new(StatusCode::BAD_REQUEST, "this websocket is connected already"),
    })?;
    Ok(upgrade.max_message_size(16 << 20).on_upgrade(move |socket| async move {
        // Nobody waits for it any more: dropping the socket closes it.
        let _ = wanted.send(socket);
    }))
}
