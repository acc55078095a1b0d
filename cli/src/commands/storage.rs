//! `larder storage`: pools.

use super::resource::{KeyArgs, Resource, SetArgs};
use super::{Context, account, bucket, volume};
use crate::client::ApiPath;
use crate::fields::{Fields, pairs, texts};
use crate::output::{self, Column, Format, choose, human};
use anyhow::Result;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

/// Manage storage pools, volumes and buckets
#[derive(Debug, Subcommand)]
pub(crate) enum StorageCommand {
    /// List storage pools
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show a storage pool as YAML
    Show(ShowArgs),
    /// Create a storage pool
    Create(CreateArgs),
    /// Show how much room a storage pool has and who uses it
    Info(InfoArgs),
    /// Show the value of a configuration key
    Get(PoolKeyArgs),
    /// Set configuration keys
    Set(PoolSetArgs),
    /// Take a configuration key away
    Unset(PoolKeyArgs),
    /// Edit a storage pool as YAML
    Edit(PoolArgs),
    /// Delete a storage pool
    #[command(visible_alias = "rm")]
    Delete(PoolArgs),
    #[command(subcommand, visible_alias = "vol")]
    Volume(volume::VolumeCommand),
    #[command(subcommand)]
    Bucket(bucket::BucketCommand),
    #[command(subcommand)]
    Account(account::AccountCommand),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// A remote, as in local:
    remote: Option<String>,
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// The columns: n name, D driver, d description, S source, u used by, s state
    #[arg(short, long, default_value = "nDSdus")]
    columns: String,
}

#[derive(Debug, Args)]
pub(crate) struct PoolArgs {
    /// The storage pool
    #[arg(value_name = "[REMOTE:]POOL")]
    pool: String,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pool: PoolArgs,
    /// Show the pool's space and inodes instead
    #[arg(long)]
    resources: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pool: PoolArgs,
    /// Show sizes as numbers of bytes
    #[arg(long)]
    bytes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pool: PoolArgs,
    /// The driver, such as dir or btrfs
    driver: String,
    /// Configuration keys, such as source=/srv/pool
    #[arg(value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// A description
    #[arg(long, default_value = "")]
    description: String,
}

#[derive(Debug, Args)]
pub(crate) struct PoolKeyArgs {
    #[command(flatten)]
    pool: PoolArgs,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PoolSetArgs {
    #[command(flatten)]
    pool: PoolArgs,
    #[command(flatten)]
    settings: SetArgs,
}

pub(crate) async fn run(context: &Context, command: StorageCommand) -> Result<()> {
    match command {
        StorageCommand::List(args) => list(context, &args).await,
        StorageCommand::Show(args) => show(context, &args).await,
        StorageCommand::Create(args) => create(context, args).await,
        StorageCommand::Info(args) => info(context, &args).await,
        StorageCommand::Get(args) => pool(context, &args.pool)?.get(&args.key).await,
        StorageCommand::Set(args) => pool(context, &args.pool)?.set(context, &args.settings).await,
        StorageCommand::Unset(args) => pool(context, &args.pool)?.unset(context, &args.key).await,
        StorageCommand::Edit(args) => pool(context, &args)?.edit(context).await,
        StorageCommand::Delete(args) => pool(context, &args)?.delete(context).await,
        StorageCommand::Volume(command) => volume::run(context, command).await,
        StorageCommand::Bucket(command) => bucket::run(context, command).await,
        StorageCommand::Account(command) => account::run(context, command).await,
    }
}

fn pool(context: &Context, args: &PoolArgs) -> Result<Resource> {
    let (client, name) = context.named(&args.pool, "storage pool")?;
    let path = ApiPath::of(["storage-pools", name.as_str()]);
    Ok(Resource { client, path, kind: "storage pool", name, writable: &["config", "description"] })
}

async fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let client = context.optional(args.remote.as_deref())?;
    let known = vec![
        Column::new('n', "NAME", |pool| pool.text("name").to_owned()),
        Column::new('D', "DRIVER", |pool| pool.text("driver").to_owned()),
        Column::new('S', "SOURCE", |pool| pool.config("source").to_owned()),
        Column::new('d', "DESCRIPTION", |pool| pool.text("description").to_owned()),
        Column::new('u', "USED BY", |pool| pool.count("used_by").to_string()),
        Column::new('s', "STATE", |pool| pool.text("status").to_uppercase()),
    ];
    let columns = choose(known, &args.columns)?;
    let pools = client.get(&ApiPath::of(["storage-pools"]).query("recursion", "1")).await?.metadata;
    output::list(args.format, &columns, pools.as_array().map(Vec::as_slice).unwrap_or_default())
}

async fn show(context: &Context, args: &ShowArgs) -> Result<()> {
    let pool = pool(context, &args.pool)?;
    if !args.resources {
        return pool.show().await;
    }
    output::show(&pool.client.get(&pool.path.at("resources")).await?.metadata)
}

async fn create(context: &Context, args: CreateArgs) -> Result<()> {
    let (client, name) = context.named(&args.pool.pool, "storage pool")?;
    let body = json!({
        "name": name,
        "driver": args.driver,
        "description": args.description,
        "config": texts(pairs(&args.config)?),
    });
    let path = ApiPath::of(["storage-pools"]);
    context.change(&client, &format!("Creating {name}"), Method::POST, &path, Some(body)).await?;
    context.done(&format!("Storage pool {name} created"))
}

async fn info(context: &Context, args: &InfoArgs) -> Result<()> {
    let pool = pool(context, &args.pool)?;
    let object = pool.read().await?.metadata;
    let resources = pool.client.get(&pool.path.clone().at("resources")).await?.metadata;
    let size = |name: &str| {
        let bytes = resources["space"].number(name);
        if args.bytes { bytes.to_string() } else { human::bytes(bytes) }
    };
    let mut used_by = serde_json::Map::new();
    for url in object.items("used_by").iter().filter_map(|url| url.as_str()) {
        let (kind, name) = user(url);
        let names = used_by.entry(kind).or_insert_with(|| json!([]));
        if let Some(names) = names.as_array_mut() {
            names.push(json!(name));
        }
    }
    output::show(&json!({
        "info": {
            "name": object.text("name"),
            "driver": object.text("driver"),
            "description": object.text("description"),
            "space used": size("used"),
            "total space": size("total"),
        },
        "used by": used_by,
    }))
}

/// What kind of thing a `used_by` URL names, and its name.
fn user(url: &str) -> (String, String) {
    let path = url.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_start_matches("/1.0/").split('/').collect();
    let (kind, name) = match parts.as_slice() {
        ["storage-pools", _, "volumes", _, name, ..] => ("volumes", *name),
        ["storage-pools", _, kind, name, ..] => (*kind, *name),
        [kind, name, ..] => (*kind, *name),
        _ => ("others", path),
    };
    let decoded = urlencoding::decode(name).map_or_else(|_| name.to_owned(), std::borrow::Cow::into_owned);
    (kind.to_owned(), decoded)
}

#[cfg(test)]
mod tests {
    use super::user;

    #[test]
    fn users_of_a_pool_are_told_by_kind() {
        let told = |url: &str| user(url);
        assert_eq!(told("/1.0/instances/c1?project=p"), ("instances".to_owned(), "c1".to_owned()));
        let volume = told("/1.0/storage-pools/p/volumes/custom/v%201");
        assert_eq!(volume, ("volumes".to_owned(), "v 1".to_owned()));
        assert_eq!(told("/1.0/storage-pools/p/buckets/b").0, "buckets");
    }
}
