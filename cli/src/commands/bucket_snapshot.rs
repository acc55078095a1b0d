//! `larder storage bucket snapshot`, `restore` and `copy`, which the peers do not have.

use super::Context;
use super::bucket::BucketArgs;
use super::resource::Resource;
use super::snapshot::expiry;
use super::volume::snapshot_columns;
use crate::client::ApiPath;
use crate::failure::Told;
use crate::output::{self, Format, choose};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

/// Manage snapshots of buckets; without a command, take one: snapshot POOL BUCKET [SNAPSHOT]
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
    /// List the snapshots of a bucket
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show a snapshot as YAML
    Show(NamedArgs),
    /// Rename a snapshot
    Rename(RenameArgs),
    /// Restore the bucket from a snapshot
    Restore(NamedArgs),
    /// Delete a snapshot
    #[command(visible_alias = "rm")]
    Delete(NamedArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The storage pool
    #[arg(value_name = "[REMOTE:]POOL")]
    pool: String,
    /// The bucket
    bucket: String,
    /// The name of the snapshot (default: the server chooses)
    snapshot: Option<String>,
    /// Never expire, whatever the bucket's snapshots.expiry says
    #[arg(long)]
    no_expiry: bool,
    /// When it expires (RFC 3339)
    #[arg(long, value_name = "TIME", conflicts_with = "no_expiry")]
    expires: Option<String>,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    bucket: BucketArgs,
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// The columns: n name, d description, c taken at, e expires at
    #[arg(short, long, default_value = "ndce")]
    columns: String,
}

#[derive(Debug, Args)]
pub(crate) struct NamedArgs {
    #[command(flatten)]
    bucket: BucketArgs,
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

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// What to copy
    #[arg(value_name = "[REMOTE:]POOL/BUCKET[/SNAPSHOT]")]
    source: String,
    /// Where to
    #[arg(value_name = "[REMOTE:]POOL/BUCKET")]
    target: String,
}

impl NamedArgs {
    fn resource(&self, context: &Context) -> Result<Resource> {
        let (client, bucket) = self.bucket.locate(context)?;
        let name = format!("{}/{}", self.bucket.bucket, self.snapshot);
        let path = bucket.at("snapshots").at(&self.snapshot);
        Ok(Resource {
            client,
            path,
            kind: "storage bucket snapshot",
            name,
            writable: &["description", "expires_at"],
        })
    }
}

pub(crate) async fn run(context: &Context, args: SnapshotArgs) -> Result<()> {
    match (args.command, args.create) {
        (Some(SnapshotCommand::Create(create)), _) | (None, Some(create)) => take(context, &create).await,
        (Some(SnapshotCommand::List(args)), _) => list(context, &args).await,
        (Some(SnapshotCommand::Show(args)), _) => args.resource(context)?.show().await,
        (Some(SnapshotCommand::Rename(args)), _) => {
            args.snapshot.resource(context)?.rename(context, &args.new_name).await
        }
        (Some(SnapshotCommand::Restore(args)), _) => restore(context, &args).await,
        (Some(SnapshotCommand::Delete(args)), _) => args.resource(context)?.delete(context).await,
        (None, None) => bail!("name a pool and a bucket to take a snapshot of"),
    }
}

async fn take(context: &Context, args: &CreateArgs) -> Result<()> {
    let bucket = BucketArgs { pool: args.pool.clone(), bucket: args.bucket.clone() };
    let (client, bucket) = bucket.locate(context)?;
    let mut body = json!({ "name": args.snapshot.as_deref().unwrap_or_default() });
    if let Some(expires_at) = expiry(args.no_expiry, args.expires.as_deref())? {
        body["expires_at"] = json!(expires_at);
    }
    let path = bucket.at("snapshots");
    context.change(&client, "Taking a snapshot", Method::POST, &path, Some(body)).await?;
    Ok(())
}

async fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let (client, bucket) = args.bucket.locate(context)?;
    let columns = choose(snapshot_columns(), &args.columns)?;
    let snapshots = client.get(&bucket.at("snapshots").query("recursion", "1")).await?.metadata;
    output::list(args.format, &columns, snapshots.as_array().map(Vec::as_slice).unwrap_or_default())
}

pub(crate) async fn restore(context: &Context, args: &NamedArgs) -> Result<()> {
    let (client, bucket) = args.bucket.locate(context)?;
    let body = json!({ "restore": args.snapshot });
    context.change(&client, "Restoring", Method::PUT, &bucket, Some(body)).await?;
    Ok(())
}

pub(crate) async fn copy(context: &Context, args: &CopyArgs) -> Result<()> {
    if !context.same_server(&args.source, &args.target)? {
        let hint = "export it from one and import it on the other: larder storage bucket export, larder storage bucket import";
        return Err(Told::new("can't copy a bucket between two servers", hint).into());
    }
    let (client, source) = context.target(&args.source)?;
    let (source_pool, source) = split(&source)?;
    let target = context.config.split(&args.target)?.1;
    let (target_pool, name) = split(target)?;
    let body = json!({ "name": name, "source": { "name": source, "pool": source_pool } });
    let path = ApiPath::of(["storage-pools", target_pool, "buckets"]);
    let made = context.change(&client, "Copying", Method::POST, &path, Some(body)).await?;
    context.done(&format!("Storage bucket {name} created"))?;
    super::bucket_key::tell(&made.metadata)
}

/// Reads `pool/bucket`.
fn split(text: &str) -> Result<(&str, &str)> {
    match text.split_once('/') {
        Some((pool, bucket)) if !pool.is_empty() && !bucket.is_empty() => Ok((pool, bucket)),
        _ => bail!("{text:?} is not POOL/BUCKET"),
    }
}
