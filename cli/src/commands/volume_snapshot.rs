//! `larder storage volume snapshot` and `restore`.

use super::Context;
use super::resource::Resource;
use super::snapshot::expiry;
use super::volume::{Located, VolumeArgs, VolumeName, snapshot_columns};
use crate::output::{self, Format, choose};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

/// Manage snapshots of volumes; without a command, take one: snapshot POOL VOLUME [SNAPSHOT]
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
    /// List the snapshots of a volume
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show a snapshot as YAML
    Show(NamedArgs),
    /// Rename a snapshot
    Rename(RenameArgs),
    /// Restore the volume from a snapshot
    Restore(RestoreArgs),
    /// Delete a snapshot
    #[command(visible_alias = "rm")]
    Delete(NamedArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The storage pool
    #[arg(value_name = "[REMOTE:]POOL")]
    pool: String,
    /// The volume
    volume: String,
    /// The name of the snapshot (default: the server chooses)
    snapshot: Option<String>,
    /// Never expire, whatever the volume's snapshots.expiry says
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
    #[command(flatten)]
    volume: VolumeArgs,
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// The columns: n name, d description, c taken at, e expires at
    #[arg(short, long, default_value = "ndce")]
    columns: String,
}

#[derive(Debug, Args)]
struct NamedArgs {
    #[command(flatten)]
    volume: VolumeArgs,
    /// The snapshot; may also be written VOLUME/SNAPSHOT
    snapshot: Option<String>,
}

#[derive(Debug, Args)]
struct RenameArgs {
    #[command(flatten)]
    volume: VolumeArgs,
    /// The snapshot
    snapshot: String,
    /// Its new name
    new_name: String,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    volume: VolumeArgs,
    /// The snapshot
    snapshot: String,
}

pub(crate) async fn run(context: &Context, args: SnapshotArgs) -> Result<()> {
    match (args.command, args.create) {
        (Some(SnapshotCommand::Create(create)), _) | (None, Some(create)) => take(context, &create).await,
        (Some(SnapshotCommand::List(args)), _) => list(context, &args).await,
        (Some(SnapshotCommand::Show(args)), _) => {
            snapshot(context, &args.volume, args.snapshot.as_deref())?.show().await
        }
        (Some(SnapshotCommand::Rename(args)), _) => {
            snapshot(context, &args.volume, Some(&args.snapshot))?.rename(context, &args.new_name).await
        }
        (Some(SnapshotCommand::Restore(args)), _) => restore(context, &args).await,
        (Some(SnapshotCommand::Delete(args)), _) => {
            snapshot(context, &args.volume, args.snapshot.as_deref())?.delete(context).await
        }
        (None, None) => bail!("name a pool and a volume to take a snapshot of"),
    }
}

fn snapshot(context: &Context, volume: &VolumeArgs, snapshot: Option<&str>) -> Result<Resource> {
    let mut full = volume.clone();
    if let Some(snapshot) = snapshot {
        full.volume = format!("{}/{snapshot}", volume.volume);
    }
    if VolumeName::parse(&full.volume)?.snapshot.is_none() {
        bail!("the name of the snapshot is missing");
    }
    full.resource(context)
}

async fn take(context: &Context, args: &CreateArgs) -> Result<()> {
    let volume = VolumeArgs { pool: args.pool.clone(), volume: args.volume.clone() };
    let Located { client, pool, name } = volume.locate(context)?;
    let path = name.no_snapshot()?.volume_path(&pool).at("snapshots");
    if let (true, Some(snapshot)) = (args.reuse, &args.snapshot) {
        let old = path.clone().at(snapshot);
        match client.get(&old).await {
            Ok(_) => drop(context.change(&client, "Deleting", Method::DELETE, &old, None).await?),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut body = json!({"name": args.snapshot.as_deref().unwrap_or_default()});
    if let Some(expires_at) = expiry(args.no_expiry, args.expires.as_deref())? {
        body["expires_at"] = json!(expires_at);
    }
    context.change(&client, "Taking a snapshot", Method::POST, &path, Some(body)).await?;
    Ok(())
}

async fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let Located { client, pool, name } = args.volume.locate(context)?;
    let path = name.no_snapshot()?.volume_path(&pool).at("snapshots").query("recursion", "1");
    let columns = choose(snapshot_columns(), &args.columns)?;
    let snapshots = client.get(&path).await?.metadata;
    output::list(args.format, &columns, snapshots.as_array().map(Vec::as_slice).unwrap_or_default())
}

pub(crate) async fn restore(context: &Context, args: &RestoreArgs) -> Result<()> {
    let Located { client, pool, name } = args.volume.locate(context)?;
    let path = name.no_snapshot()?.volume_path(&pool);
    let body = json!({"restore": args.snapshot});
    context.change(&client, "Restoring", Method::PUT, &path, Some(body)).await?;
    Ok(())
}
