//! `larder warning`.

use super::Context;
use super::resource::Resource;
use crate::client::ApiPath;
use crate::fields::Fields;
use crate::output::{self, Column, Format, choose, human};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

/// Manage warnings
#[derive(Debug, Subcommand)]
pub(crate) enum WarningCommand {
    /// List warnings
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show a warning as YAML
    Show(WarningArgs),
    /// Acknowledge a warning: it is hidden until it occurs again
    #[command(visible_alias = "ack")]
    Acknowledge(WarningArgs),
    /// Delete warnings
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// A remote, as in local:
    remote: Option<String>,
    /// Also list acknowledged and resolved warnings
    #[arg(short, long)]
    all: bool,
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// The columns: u id, t type, s status, S severity, c count, p project, l last seen, f first seen, m message
    #[arg(short, long, default_value = "utSscpl")]
    columns: String,
}

#[derive(Debug, Args)]
pub(crate) struct WarningArgs {
    /// The id of the warning
    #[arg(value_name = "[REMOTE:]WARNING")]
    warning: String,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The id of the warning
    #[arg(value_name = "[REMOTE:]WARNING")]
    warning: Option<String>,
    /// Delete all warnings
    #[arg(short, long, conflicts_with = "warning")]
    all: bool,
}

pub(crate) async fn run(context: &Context, command: WarningCommand) -> Result<()> {
    match command {
        WarningCommand::List(args) => list(context, &args).await,
        WarningCommand::Show(args) => warning(context, &args.warning)?.show().await,
        WarningCommand::Acknowledge(args) => {
            let warning = warning(context, &args.warning)?;
            let body = json!({"status": "acknowledged"});
            context.change(&warning.client, "Acknowledging", Method::PUT, &warning.path, Some(body)).await?;
            context.done(&format!("Warning {} acknowledged", warning.name))
        }
        WarningCommand::Delete(args) => delete(context, &args).await,
    }
}

fn warning(context: &Context, text: &str) -> Result<Resource> {
    let (client, name) = context.named(text, "warning")?;
    let path = ApiPath::of(["warnings", name.as_str()]);
    Ok(Resource { client, path, kind: "warning", name, writable: &["status"] })
}

async fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let client = context.optional(args.remote.as_deref())?;
    let Value::Array(mut warnings) =
        client.get(&ApiPath::of(["warnings"]).query("recursion", "1")).await?.metadata
    else {
        bail!("the server's answer has no list of warnings");
    };
    warnings.retain(|warning| args.all || warning.text("status") == "new");
    let columns = vec![
        Column::new('u', "UUID", |warning| warning.text("uuid").to_owned()),
        Column::new('t', "TYPE", |warning| warning.text("type").to_owned()),
        Column::new('s', "STATUS", |warning| warning.text("status").to_uppercase()),
        Column::new('S', "SEVERITY", |warning| warning.text("severity").to_uppercase()),
        Column::new('c', "COUNT", |warning| warning.number("count").to_string()),
        Column::new('p', "PROJECT", |warning| warning.text("project").to_owned()),
        Column::new('m', "MESSAGE", |warning| warning.text("last_message").to_owned()),
        Column::new('f', "FIRST SEEN", |warning| human::minute(warning.text("first_seen_at"))),
        Column::new('l', "LAST SEEN", |warning| human::minute(warning.text("last_seen_at"))),
    ];
    output::list(args.format, &choose(columns, &args.columns)?, &warnings)
}

async fn delete(context: &Context, args: &DeleteArgs) -> Result<()> {
    let Some(text) = args.warning.as_deref().filter(|_| !args.all) else {
        if !args.all {
            bail!("name a warning, or say --all");
        }
        let client = context.optional(None)?;
        let urls = client.get(&ApiPath::of(["warnings"])).await?.metadata;
        for url in urls.as_array().into_iter().flatten().filter_map(Value::as_str) {
            context.change(&client, "Deleting", Method::DELETE, &ApiPath::raw(url), None).await?;
        }
        return Ok(());
    };
    warning(context, text)?.delete(context).await
}
