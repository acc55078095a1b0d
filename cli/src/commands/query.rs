//! `larder query`: a request as it is.

use super::Context;
use crate::client::{ApiPath, Body, Operation};
use crate::output;
use crate::terminal;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::BodyExt;
use serde_json::Value;

/// Send a request to the API
///
/// Prints the metadata of the answer as JSON.
#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// The path, as in /1.0/storage-pools
    #[arg(value_name = "[REMOTE:]PATH")]
    path: String,
    /// The method
    #[arg(short = 'X', long = "request", default_value = "GET")]
    method: String,
    /// The JSON body; - reads it from standard input
    #[arg(short, long)]
    data: Option<String>,
    /// Wait for the operation to complete
    #[arg(long)]
    wait: bool,
    /// Print the answer as it is
    #[arg(long)]
    raw: bool,
}

pub(crate) async fn run(context: &Context, args: QueryArgs) -> Result<()> {
    let (client, path) = if args.path.starts_with('/') {
        (context.optional(None)?, args.path.clone())
    } else {
        context.target(&args.path)?
    };
    if !path.starts_with('/') {
        bail!("a path begins with a slash, as in /1.0: not {path:?}");
    }
    let method: Method = args.method.to_uppercase().parse().context("this is no method")?;
    let mut headers = HeaderMap::new();
    let body = match args.data.as_deref() {
        None => Body::empty(),
        Some(data) => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let data = if data == "-" { terminal::read_stdin().await? } else { data.to_owned() };
            Body::bytes(data.into_bytes())
        }
    };
    let path = ApiPath::raw(&path);
    if args.raw {
        let response = client.send(method, &path, headers, body).await?;
        let bytes = response.into_body().collect().await?.to_bytes();
        return output::text(&String::from_utf8_lossy(&bytes));
    }
    let response = client.download(method, &path, headers, body).await?;
    let bytes = response.into_body().collect().await?.to_bytes();
    let Ok(envelope) = serde_json::from_slice::<Value>(&bytes) else {
        return output::text(&String::from_utf8_lossy(&bytes));
    };
    let mut metadata = envelope.get("metadata").cloned().unwrap_or(envelope.clone());
    if args.wait && envelope["type"] == "async" {
        let operation: Operation = serde_json::from_value(metadata)?;
        metadata = serde_json::to_value(client.wait(&operation).await?)?;
    }
    match metadata {
        Value::Null => Ok(()),
        Value::Object(object) if object.is_empty() => Ok(()),
        Value::String(text) => output::line(&text),
        other => output::line(&serde_json::to_string_pretty(&other)?),
    }
}
