//! The envelope around every JSON answer.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResponseKind {
    /// Done; `metadata` is the result.
    Sync,
    /// Begun; `operation` is the URL of the operation and `metadata` the operation.
    Async,
    /// Refused or failed; see `error`.
    Error,
}

/// The envelope. All seven fields are always written.
///
/// ```
/// let reply = larder_api::Response::sync(serde_json::json!(["/1.0"]));
/// assert_eq!(
///     serde_json::to_string(&reply).unwrap(),
///     r#"{"type":"sync","status":"Success","status_code":200,"operation":"","error_code":0,"error":"","metadata":["/1.0"]}"#,
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response<T = Value> {
    /// What this answer is.
    #[serde(rename = "type")]
    pub kind: ResponseKind,
    /// `Success`, `Operation created`, or empty for an error.
    #[serde(default)]
    pub status: String,
    /// 200, 100, or 0 for an error.
    #[serde(default)]
    pub status_code: u16,
    /// The URL of the operation; empty unless asynchronous.
    #[serde(default)]
    pub operation: String,
    /// The HTTP status of an error, else 0.
    #[serde(default)]
    pub error_code: u16,
    /// What went wrong, else empty.
    #[serde(default)]
    pub error: String,
    /// The result.
    pub metadata: T,
}

impl<T> Response<T> {
    /// The work is done.
    pub fn sync(metadata: T) -> Self {
        Self {
            kind: ResponseKind::Sync,
            status: "Success".to_owned(),
            status_code: 200,
            operation: String::new(),
            error_code: 0,
            error: String::new(),
            metadata,
        }
    }

    /// The work has begun as the operation at `url`.
    pub fn operation_created(url: impl Into<String>, metadata: T) -> Self {
        Self {
            kind: ResponseKind::Async,
            status: "Operation created".to_owned(),
            status_code: 100,
            operation: url.into(),
            ..Self::sync(metadata)
        }
    }
}

impl Response<Value> {
    /// The request was refused, or failed.
    pub fn error(code: u16, message: impl Into<String>) -> Self {
        Self {
            kind: ResponseKind::Error,
            status: String::new(),
            status_code: 0,
            error_code: code,
            error: message.into(),
            ..Self::sync(Value::Null)
        }
    }
}
