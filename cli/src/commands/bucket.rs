//! `larder storage bucket`.

use super::resource::{KeyArgs, Resource, SetArgs};
use super::{Context, bucket_key, bucket_repair, bucket_snapshot, transfer};
use crate::client::{ApiPath, Client};
use crate::fields::{Fields, pairs, texts};
use crate::output::{self, Column, Format, choose};
use anyhow::Result;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

/// Manage S3 buckets
#[derive(Debug, Subcommand)]
pub(crate) enum BucketCommand {
    /// List the buckets of a pool
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show a bucket as YAML
    Show(BucketArgs),
    /// Create a bucket and show its admin key
    Create(CreateArgs),
    /// Show the value of a configuration key
    Get(BucketKeyArgs),
    /// Set configuration keys
    Set(BucketSetArgs),
    /// Take a configuration key away
    Unset(BucketKeyArgs),
    /// Edit a bucket as YAML
    Edit(BucketArgs),
    /// Delete a bucket with all that is in it
    #[command(visible_alias = "rm")]
    Delete(BucketArgs),
    #[command(subcommand)]
    Key(bucket_key::KeyCommand),
    /// Copy a bucket, or one of its snapshots, to a new bucket and show its admin key
    #[command(visible_alias = "cp")]
    Copy(bucket_snapshot::CopyArgs),
    /// Export a bucket's objects to a backup file
    Export(ExportArgs),
    /// Import a bucket from a backup file
    Import(ImportArgs),
    Snapshot(bucket_snapshot::SnapshotArgs),
    /// Restore a bucket from a snapshot
    Restore(bucket_snapshot::NamedArgs),
    /// Read every byte of a bucket and list what is damaged
    Scrub(bucket_repair::ScrubArgs),
    /// Make the index of a bucket anew from its objects; the bucket is closed meanwhile
    RebuildIndex(bucket_repair::RebuildArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct BucketArgs {
    /// The storage pool
    #[arg(value_name = "[REMOTE:]POOL")]
    pub(crate) pool: String,
    /// The bucket
    pub(crate) bucket: String,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The storage pool (default: all pools)
    #[arg(value_name = "[REMOTE:]POOL")]
    pool: Option<String>,
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// The columns: p pool, e project, n name, d description, s size, u S3 URL, a account, L location
    #[arg(short, long)]
    columns: Option<String>,
    /// List the buckets of all projects
    #[arg(long)]
    all_projects: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    bucket: BucketArgs,
    /// Configuration keys, such as size=10GiB
    #[arg(value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// A description
    #[arg(long, default_value = "")]
    description: String,
}

#[derive(Debug, Args)]
pub(crate) struct BucketKeyArgs {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BucketSetArgs {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    settings: SetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    bucket: BucketArgs,
    /// The file to write (default: BUCKET.tar.gz or what the compression is called)
    file: Option<String>,
    /// The compression, such as gzip, zstd or none
    #[arg(long, default_value = "")]
    compression: String,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The storage pool
    #[arg(value_name = "[REMOTE:]POOL")]
    pool: String,
    /// The file
    file: std::path::PathBuf,
    /// The name of the new bucket (default: the name in the backup)
    bucket: Option<String>,
}

impl BucketArgs {
    /// The server and the path of the bucket.
    pub(crate) fn locate(&self, context: &Context) -> Result<(Client, ApiPath)> {
        let (client, pool) = context.named(&self.pool, "storage pool")?;
        Ok((client, ApiPath::of(["storage-pools", &pool, "buckets", &self.bucket])))
    }

    fn resource(&self, context: &Context) -> Result<Resource> {
        let (client, path) = self.locate(context)?;
        let writable = &["config", "description"];
        Ok(Resource { client, path, kind: "storage bucket", name: self.bucket.clone(), writable })
    }
}

pub(crate) async fn run(context: &Context, command: BucketCommand) -> Result<()> {
    match command {
        BucketCommand::List(args) => list(context, &args).await,
        BucketCommand::Show(args) => args.resource(context)?.show().await,
        BucketCommand::Create(args) => create(context, args).await,
        BucketCommand::Get(args) => args.bucket.resource(context)?.get(&args.key).await,
        BucketCommand::Set(args) => args.bucket.resource(context)?.set(context, &args.settings).await,
        BucketCommand::Unset(args) => args.bucket.resource(context)?.unset(context, &args.key).await,
        BucketCommand::Edit(args) => args.resource(context)?.edit(context).await,
        BucketCommand::Delete(args) => args.resource(context)?.delete(context).await,
        BucketCommand::Key(command) => bucket_key::run(context, command).await,
        BucketCommand::Copy(args) => bucket_snapshot::copy(context, &args).await,
        BucketCommand::Export(args) => export(context, &args).await,
        BucketCommand::Import(args) => import(context, &args).await,
        BucketCommand::Snapshot(args) => bucket_snapshot::run(context, args).await,
        BucketCommand::Restore(args) => bucket_snapshot::restore(context, &args).await,
        BucketCommand::Scrub(args) => bucket_repair::scrub(context, &args).await,
        BucketCommand::RebuildIndex(args) => bucket_repair::rebuild(context, &args).await,
    }
}

fn columns() -> Vec<Column> {
    vec![
        Column::new('p', "POOL", |bucket| bucket.text("pool").to_owned()),
        Column::new('e', "PROJECT", |bucket| bucket.text("project").to_owned()),
        Column::new('n', "NAME", |bucket| bucket.text("name").to_owned()),
        Column::new('d', "DESCRIPTION", |bucket| bucket.text("description").to_owned()),
        Column::new('s', "SIZE", |bucket| bucket.config("size").to_owned()),
        Column::new('u', "S3 URL", |bucket| bucket.text("s3_url").to_owned()),
        Column::new('a', "ACCOUNT", |bucket| bucket.text("account").to_owned()),
        Column::new('L', "LOCATION", |bucket| bucket.text("location").to_owned()),
    ]
}

async fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let (client, pool) = match &args.pool {
        Some(text) => context.target(text)?,
        None => (context.optional(None)?, String::new()),
    };
    let chosen = args.columns.clone().unwrap_or_else(|| {
        let pool_column = if pool.is_empty() { "p" } else { "" };
        let project_column = if args.all_projects { "e" } else { "" };
        format!("{project_column}{pool_column}ndsu")
    });
    let columns = choose(columns(), &chosen)?;
    let pools = if pool.is_empty() { pool_names(&client).await? } else { vec![pool] };
    let mut buckets = Vec::new();
    for pool in pools {
        let mut path = ApiPath::of(["storage-pools", pool.as_str(), "buckets"]).query("recursion", "1");
        if args.all_projects {
            path = path.query("all-projects", "true");
        }
        let Value::Array(found) = client.get(&path).await?.metadata else { continue };
        buckets.extend(found.into_iter().map(|mut bucket| {
            bucket["pool"] = json!(pool);
            bucket
        }));
    }
    output::list(args.format, &columns, &buckets)
}

async fn pool_names(client: &Client) -> Result<Vec<String>> {
    let pools = client.get(&ApiPath::of(["storage-pools"]).query("recursion", "1")).await?.metadata;
    let pools = pools.as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(pools.iter().map(|pool| pool.text("name").to_owned()).collect())
}

async fn create(context: &Context, args: CreateArgs) -> Result<()> {
    let (client, pool) = context.named(&args.bucket.pool, "storage pool")?;
    let name = &args.bucket.bucket;
    let body = json!({
        "name": name,
        "description": args.description,
        "config": texts(pairs(&args.config)?),
    });
    let path = ApiPath::of(["storage-pools", &pool, "buckets"]);
    let made = context.change(&client, &format!("Creating {name}"), Method::POST, &path, Some(body)).await?;
    context.done(&format!("Storage bucket {name} created"))?;
    bucket_key::tell(&made.metadata)
}

async fn export(context: &Context, args: &ExportArgs) -> Result<()> {
    let (client, bucket) = args.bucket.locate(context)?;
    let mut request = json!({});
    if !args.compression.is_empty() {
        request["compression_algorithm"] = json!(args.compression);
    }
    let (file, name) = (args.file.as_deref(), &args.bucket.bucket);
    transfer::export(context, &client, &bucket.at("backups"), request, file, name).await
}

async fn import(context: &Context, args: &ImportArgs) -> Result<()> {
    let (client, pool) = context.named(&args.pool, "storage pool")?;
    let mut headers = transfer::Headers::octet_stream();
    if let Some(name) = &args.bucket {
        headers.add("name", name)?;
    }
    let path = ApiPath::of(["storage-pools", &pool, "buckets"]);
    transfer::upload(context, &client, &path, headers, &args.file).await?;
    context.done(&format!("Storage bucket {} imported", args.bucket.as_deref().unwrap_or("from the backup")))
}
