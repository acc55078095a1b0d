//! `larder operation`.

use super::Context;
use super::resource::Resource;
use crate::client::ApiPath;
use crate::fields::Fields;
use crate::output::{self, Column, Format, choose, human};
use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;

/// Manage background operations
#[derive(Debug, Subcommand)]
pub(crate) enum OperationCommand {
    /// List background operations
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show an operation as YAML
    Show(OperationArgs),
    /// Cancel an operation
    #[command(visible_aliases = ["cancel", "rm"])]
    Delete(OperationArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// A remote, as in local:
    remote: Option<String>,
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// List the operations of all projects
    #[arg(long)]
    all_projects: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OperationArgs {
    /// The id of the operation
    #[arg(value_name = "[REMOTE:]OPERATION")]
    operation: String,
}

pub(crate) async fn run(context: &Context, command: OperationCommand) -> Result<()> {
    match command {
        OperationCommand::List(args) => list(context, &args).await,
        OperationCommand::Show(args) => operation(context, &args)?.show().await,
        OperationCommand::Delete(args) => operation(context, &args)?.delete(context).await,
    }
}

fn operation(context: &Context, args: &OperationArgs) -> Result<Resource> {
    let (client, name) = context.named(&args.operation, "operation")?;
    let path = ApiPath::of(["operations", name.as_str()]);
    Ok(Resource { client, path, kind: "operation", name, writable: &[] })
}

async fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let client = context.optional(args.remote.as_deref())?;
    let mut path = ApiPath::of(["operations"]).query("recursion", "1");
    if args.all_projects {
        path = path.query("all-projects", "true");
    }
    let groups = client.get(&path).await?.metadata;
    // Grouped by status; one list, oldest first, is easier to read.
    let mut operations: Vec<Value> = groups
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|(_, group)| group.as_array().cloned().unwrap_or_default())
        .collect();
    operations.sort_by(|one, other| one.text("created_at").cmp(other.text("created_at")));
    let columns = vec![
        Column::new('i', "ID", |operation| operation.text("id").to_owned()),
        Column::new('t', "TYPE", |operation| operation.text("class").to_uppercase()),
        Column::new('d', "DESCRIPTION", |operation| operation.text("description").to_owned()),
        Column::new('s', "STATUS", |operation| operation.text("status").to_uppercase()),
        Column::new('c', "CANCELABLE", |operation| human::yes(operation.is("may_cancel")).to_uppercase()),
        Column::new('C', "CREATED", |operation| human::minute(operation.text("created_at"))),
    ];
    output::list(args.format, &choose(columns, "itdscC")?, &operations)
}
