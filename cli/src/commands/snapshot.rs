//! `larder snapshot` and `larder restore`.

use super::Context;
use super::resource::Resource;
use crate::client::{ApiPath, Client};
use crate::fields::Fields;
use crate::output::{self, Column, Format, choose, human};
use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Manage snapshots of instances; without a command, take one: snapshot INSTANCE [SNAPSHOT]
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    command: Option<SnapshotCommand>,
    #[command(flatten)]
    create: Option<CreateArgs>,
}

#[derive(Debug, Subcommand)]
enum SnapshotCommand {
    /// Take a snapshot
    Create(CreateArgs),
    /// List the snapshots of an instance
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show a snapshot as YAML
    Show(NamedArgs),
    /// Rename a snapshot
    Rename(RenameArgs),
    /// Restore the instance from a snapshot
    Restore(RestoreArgs),
    /// Delete a snapshot
    #[command(visible_alias = "rm")]
    Delete(NamedArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The instance
    #[arg(value_name = "[REMOTE:]INSTANCE")]
    instance: String,
    /// The name of the snapshot (default: the server chooses)
    snapshot: Option<String>,
    /// Save the running state too
    #[arg(long)]
    stateful: bool,
    /// Never expire, whatever the instance's snapshots.expiry says
    #[arg(long)]
    no_expiry: bool,
    /// When it expires (RFC 3339)
    #[arg(long, value_name = "TIME", conflicts_with = "no_expiry")]
    expires: Option<String>,
    /// Replace a snapshot of the same name
    #[arg(long)]
    reuse: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The instance
    #[arg(value_name = "[REMOTE:]INSTANCE")]
    instance: String,
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// The columns: n name, T taken at, E expires at, s stateful
    #[arg(short, long, default_value = "nTEs")]
    columns: String,
}

#[derive(Debug, Args)]
struct NamedArgs {
    /// The instance
    #[arg(value_name = "[REMOTE:]INSTANCE")]
    instance: String,
    /// The snapshot
    snapshot: String,
}

#[derive(Debug, Args)]
struct RenameArgs {
    #[command(flatten)]
    snapshot: NamedArgs,
    /// Its new name
    new_name: String,
}

/// Restore an instance from a snapshot
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    snapshot: NamedArgs,
    /// Restore the running state too
    #[arg(long)]
    stateful: bool,
}

/// When something new is to expire: `None` leaves it to the server, an empty time is never.
pub(crate) fn expiry(never: bool, text: Option<&str>) -> Result<Option<String>> {
    match text {
        _ if never => Ok(Some("0001-01-01T00:00:00Z".to_owned())),
        None => Ok(None),
        Some(text) => {
            let moment: Timestamp =
                text.parse().with_context(|| format!("{text:?} is not an RFC 3339 time"))?;
            Ok(Some(moment.to_string()))
        }
    }
}

/// The path of the snapshots of an instance.
pub(crate) fn snapshots_path(instance: &str) -> ApiPath {
    ApiPath::of(["instances", instance, "snapshots"])
}

pub(crate) async fn run(context: &Context, args: SnapshotArgs) -> Result<()> {
    match (args.command, args.create) {
        (Some(SnapshotCommand::Create(create)), _) | (None, Some(create)) => take(context, &create).await,
        (Some(SnapshotCommand::List(args)), _) => list(context, &args).await,
        (Some(SnapshotCommand::Show(args)), _) => named(context, &args)?.show().await,
        (Some(SnapshotCommand::Rename(args)), _) => {
            named(context, &args.snapshot)?.rename(context, &args.new_name).await
        }
        (Some(SnapshotCommand::Restore(args)), _) => restore(context, args).await,
        (Some(SnapshotCommand::Delete(args)), _) => named(context, &args)?.delete(context).await,
        (None, None) => bail!("name the instance to take a snapshot of"),
    }
}

fn named(context: &Context, args: &NamedArgs) -> Result<Resource> {
    let (client, instance) = context.named(&args.instance, "instance")?;
    let path = snapshots_path(&instance).at(&args.snapshot);
    let name = format!("{instance}/{}", args.snapshot);
    Ok(Resource { client, path, kind: "snapshot", name, writable: &["expires_at"] })
}

async fn take(context: &Context, args: &CreateArgs) -> Result<()> {
    let (client, instance) = context.named(&args.instance, "instance")?;
    // `c1/s0` is how lists name snapshots.
    let (instance, snapshot) = match instance.split_once('/') {
        Some((instance, snapshot)) => (instance.to_owned(), Some(snapshot.to_owned())),
        None => (instance, args.snapshot.clone()),
    };
    let path = snapshots_path(&instance);
    if let (true, Some(snapshot)) = (args.reuse, &snapshot) {
        delete_if_there(context, &client, &path.clone().at(snapshot)).await?;
    }
    let mut body = json!({"name": snapshot.unwrap_or_default(), "stateful": args.stateful});
    if let Some(expires_at) = expiry(args.no_expiry, args.expires.as_deref())? {
        body["expires_at"] = json!(expires_at);
    }
    context.change(&client, "Taking a snapshot", Method::POST, &path, Some(body)).await?;
    Ok(())
}

async fn delete_if_there(context: &Context, client: &Client, path: &ApiPath) -> Result<()> {
    match client.get(path).await {
        Ok(_) => drop(context.change(client, "Deleting", Method::DELETE, path, None).await?),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// The columns of lists of instance snapshots.
pub(crate) fn columns() -> Vec<Column> {
    let own_name = |snapshot: &Value| snapshot.text("name").rsplit('/').next().unwrap_or_default().to_owned();
    vec![
        Column::new('n', "NAME", own_name),
        Column::new('T', "TAKEN AT", |snapshot| human::minute(snapshot.text("created_at"))),
        Column::new('E', "EXPIRES AT", |snapshot| human::minute(snapshot.text("expires_at"))),
        Column::new('s', "STATEFUL", |snapshot| human::yes(snapshot.is("stateful")).to_uppercase()),
    ]
}

async fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let (client, instance) = context.named(&args.instance, "instance")?;
    let columns = choose(columns(), &args.columns)?;
    let snapshots = client.get(&snapshots_path(&instance).query("recursion", "1")).await?.metadata;
    output::list(args.format, &columns, snapshots.as_array().map(Vec::as_slice).unwrap_or_default())
}

pub(crate) async fn restore(context: &Context, args: RestoreArgs) -> Result<()> {
    let (client, instance) = context.named(&args.snapshot.instance, "instance")?;
    let path = ApiPath::of(["instances", instance.as_str()]);
    let body = json!({"restore": args.snapshot.snapshot, "stateful": args.stateful});
    context.change(&client, "Restoring", Method::PUT, &path, Some(body)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::expiry;

    #[test]
    fn an_expiry_is_left_to_the_server_or_never_or_a_time() {
        assert_eq!(expiry(false, None).unwrap(), None);
        assert_eq!(expiry(true, None).unwrap().as_deref(), Some("0001-01-01T00:00:00Z"));
        let time = expiry(false, Some("2026-12-03T10:00:00+02:00")).unwrap();
        assert_eq!(time.as_deref(), Some("2026-12-03T08:00:00Z"));
        assert!(expiry(false, Some("tomorrow")).is_err());
    }
}
