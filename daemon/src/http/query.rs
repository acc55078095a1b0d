//! What every request says in its query string, and who sent it.

use super::{ApiError, Peer};
use crate::service::{Requestor, Task};
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use std::collections::BTreeMap;

/// The parameters that cut across the API, and the sender.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// `project`; `default` when nothing is said.
    pub(crate) project: String,
    /// `all-projects`.
    pub(crate) all_projects: bool,
    /// `recursion`: 0 for URLs, 1 for objects, 2 for objects with what belongs to them.
    pub(crate) recursion: u8,
    /// `filter`.
    pub(crate) filter: String,
    /// Who asks.
    pub(crate) requestor: Requestor,
    all: BTreeMap<String, String>,
}

impl Query {
    /// Another parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all.get(name).map(String::as_str)
    }

    /// Short work for the sender.
    pub(crate) fn task(&self) -> Task {
        Task::quiet(self.requestor.clone())
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let refuse = |message: String| ApiError::new(StatusCode::BAD_REQUEST, message);
        let pairs = axum::extract::Query::<BTreeMap<String, String>>::try_from_uri(&parts.uri);
        let all = pairs.map_err(|error| refuse(format!("invalid query string: {error}")))?.0;
        let text = |name: &str| all.get(name).map(String::as_str).filter(|text| !text.is_empty());
        let recursion = match text("recursion").map(|value| value.split(';').next().unwrap_or(value)) {
            None => 0,
            Some(value) => value
                .parse()
                .map_err(|_| refuse(format!("invalid recursion {value:?}: it must be 0, 1 or 2")))?,
        };
        let all_projects = matches!(text("all-projects"), Some("true" | "1"));
        if all_projects && text("project").is_some() {
            return Err(refuse("project and all-projects exclude each other: give one".to_owned()));
        }
        if let Some(target) = text("target").filter(|target| *target != "none") {
            return Err(refuse(format!("target {target:?}: this server is not part of a cluster")));
        }
        let peer = parts.extensions.get::<Peer>().cloned().unwrap_or_default();
        Ok(Self {
            project: text("project").unwrap_or("default").to_owned(),
            all_projects,
            recursion,
            filter: text("filter").unwrap_or_default().to_owned(),
            requestor: Requestor {
                username: peer.name(),
                protocol: "unix".to_owned(),
                address: "@".to_owned(),
            },
            all,
        })
    }
}
