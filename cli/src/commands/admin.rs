//! `larder admin`: a server's first steps, its backup, its end.

use super::preseed::Preseed;
use super::{Context, preseed_dump, transfer};
use crate::client::{ApiPath, Body, Client, ClientError};
use crate::failure::Told;
use crate::fields::Fields;
use crate::output;
use crate::terminal;
use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use http::{Method, header};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Set up and look after the server
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    Init(InitArgs),
    /// Look after the catalog, the record of what exists
    #[command(subcommand)]
    Catalog(CatalogCommand),
    /// Wait until the server takes requests
    Waitready(WaitArgs),
    /// End the server; running instances go on
    Shutdown(ShutdownArgs),
}

/// Set up a new server: a storage pool, and a default profile that uses it
///
/// Without a flag it asks. It never takes anything away, so it may be called again.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("way"))]
pub(crate) struct InitArgs {
    /// Ask nothing
    #[arg(long, group = "way")]
    auto: bool,
    /// Ask nothing and use a plain folder as the storage pool
    #[arg(long, group = "way")]
    minimal: bool,
    /// Read what the server shall be as YAML from standard input
    #[arg(long, group = "way")]
    preseed: bool,
    /// Show what the server is as YAML that --preseed takes
    #[arg(long, group = "way")]
    dump: bool,
    /// The driver of the storage pool, with --auto
    #[arg(long, value_name = "DRIVER", requires = "auto", default_value = "dir")]
    storage_backend: String,
    /// The name of the storage pool, with --auto
    #[arg(long, value_name = "POOL", requires = "auto", default_value = "default")]
    storage_pool: String,
    /// The folder, device or dataset of the storage pool, with --auto (default: one the server makes)
    #[arg(long, value_name = "SOURCE", requires = "auto", visible_alias = "storage-create-device")]
    storage_source: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CatalogCommand {
    /// Write a copy of the catalog to a new file, while the server runs
    Backup(BackupArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file; it must not exist
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// How many seconds to wait at most; 0 for as long as it takes
    #[arg(short, long, value_name = "SECONDS", default_value_t = 0)]
    timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ShutdownArgs {
    /// How many seconds to wait for its end; 0 for as long as it takes
    #[arg(short, long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// How often a server is looked at that comes or goes.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) async fn run(context: &Context, command: AdminCommand) -> Result<()> {
    match command {
        AdminCommand::Init(args) => init(context, &args).await,
        AdminCommand::Catalog(CatalogCommand::Backup(args)) => back_up(context, &args).await,
        AdminCommand::Waitready(args) => wait_ready(context, &args).await,
        AdminCommand::Shutdown(args) => shut_down(context, &args).await,
    }
}

async fn init(context: &Context, args: &InitArgs) -> Result<()> {
    let client = context.optional(None)?;
    if args.dump {
        return output::show(&preseed_dump::dump(&client).await?);
    }
    let preseed = if args.preseed {
        Preseed::parse(&terminal::read_stdin().await.context("can't read standard input")?)?
    } else {
        let pool = match (args.auto, args.minimal) {
            (true, _) => Some(NewPool {
                name: args.storage_pool.clone(),
                driver: args.storage_backend.clone(),
                source: args.storage_source.clone().unwrap_or_default(),
            }),
            (_, true) => Some(NewPool::minimal()),
            _ if terminal::stdin_is_terminal() => ask(&client).await?,
            _ => {
                let hint = "say how: --auto, --minimal, or --preseed with YAML on standard input";
                return Err(Told::new("there is no terminal to ask questions at", hint).into());
            }
        };
        Preseed::read(first_steps(&client, pool).await?)?
    };
    if preseed.is_empty() {
        return context.done("There is nothing to do");
    }
    preseed.apply(context, &client).await?;
    context.done("The server is set up")
}

/// The storage pool a new server gets.
#[derive(Debug)]
struct NewPool {
    name: String,
    driver: String,
    source: String,
}

impl NewPool {
    fn minimal() -> Self {
        Self { name: "default".to_owned(), driver: "dir".to_owned(), source: String::new() }
    }
}

/// Asks for the storage pool. `None` when there shall be none.
async fn ask(client: &Client) -> Result<Option<NewPool>> {
    if !pools(client).await?.is_empty() {
        return Ok(Some(NewPool::minimal()));
    }
    let offered = client.server().await?["environment"].items("storage_supported_drivers");
    let drivers: Vec<&str> = offered.iter().map(|driver| driver.text("Name")).collect();
    if !answer("Make a storage pool? (yes/no)", "yes").await?.to_lowercase().starts_with('y') {
        return Ok(None);
    }
    let name = answer("Its name?", "default").await?;
    let driver = loop {
        let driver = answer(&format!("Its driver? ({})", drivers.join(", ")), "dir").await?;
        if drivers.is_empty() || drivers.contains(&driver.as_str()) {
            break driver;
        }
        terminal::notice(&format!("This server has no driver {driver:?}."));
    };
    let source =
        answer("The folder, device or dataset it shall use? (empty: the server makes one)", "").await?;
    Ok(Some(NewPool { name, driver, source }))
}

async fn answer(question: &str, default: &str) -> Result<String> {
    let shown = if default.is_empty() { question.to_owned() } else { format!("{question} [{default}]") };
    let answer = terminal::ask(&shown).await.context("no answer")?;
    Ok(if answer.is_empty() { default.to_owned() } else { answer })
}

async fn pools(client: &Client) -> Result<Vec<Value>> {
    let path = ApiPath::of(["storage-pools"]).query("recursion", "1");
    Ok(client.get(&path).await?.metadata.as_array().cloned().unwrap_or_default())
}

/// The preseed that gives a server what it lacks of a first pool and a root disk in the default profile.
async fn first_steps(client: &Client, pool: Option<NewPool>) -> Result<Value> {
    let existing = pools(client).await?;
    let profile = match client.get(&ApiPath::of(["profiles", "default"])).await {
        Ok(profile) => Some(profile.metadata),
        // A server without instances has no profiles either.
        Err(error) if error.is_not_found() || error.is_not_built() => None,
        Err(error) => return Err(error.into()),
    };
    Ok(missing(&existing, profile.as_ref(), pool))
}

fn missing(existing: &[Value], profile: Option<&Value>, new: Option<NewPool>) -> Value {
    let mut preseed = json!({});
    let of_name = |name: &str| existing.iter().find(|pool| pool.text("name") == name);
    let wanted = new.as_ref().map_or("default", |pool| pool.name.as_str());
    let used = of_name(wanted).or_else(|| existing.first()).map(|pool| pool.text("name").to_owned());
    let used = match (used, new) {
        (Some(used), _) => used,
        (None, None) => return preseed,
        (None, Some(pool)) => {
            let mut item = json!({"name": pool.name, "driver": pool.driver});
            if !pool.source.is_empty() {
                item["config"] = json!({"source": pool.source});
            }
            preseed["storage_pools"] = json!([item]);
            pool.name
        }
    };
    let is_root = |device: &Value| device.text("type") == "disk" && device.text("path") == "/";
    let has_root =
        |profile: &Value| profile["devices"].as_object().is_some_and(|devices| devices.values().any(is_root));
    if profile.is_some_and(|profile| !has_root(profile)) {
        let root = json!({"type": "disk", "path": "/", "pool": used});
        preseed["profiles"] = json!([{"name": "default", "devices": {"root": root}}]);
    }
    preseed
}

async fn back_up(context: &Context, args: &BackupArgs) -> Result<()> {
    let client = context.optional(None)?;
    if args.file.symlink_metadata().is_ok() {
        bail!("{} exists already: name a new file", args.file.display());
    }
    if !client.has_extension("larder_catalog_backup").await? {
        bail!("this server can't give a copy of its catalog while it runs");
    }
    let mut headers = transfer::Headers::new();
    headers.set(header::ACCEPT, "application/octet-stream")?;
    let path = ApiPath::of(["catalog", "backups"]);
    let response = client.download(Method::POST, &path, headers.into_map(), Body::empty()).await?;
    transfer::save_secret(context, response, &args.file, "the catalog").await?;
    context.done(&format!("Catalog written: {}", args.file.display()))
}

/// Asks whether the server takes requests.
async fn ready(client: &Client) -> Result<(), ClientError> {
    client.get(&ApiPath::raw("/internal/ready")).await.map(drop)
}

fn deadline(seconds: u64) -> Option<Instant> {
    (seconds > 0).then(|| Instant::now() + Duration::from_secs(seconds))
}

async fn wait_ready(context: &Context, args: &WaitArgs) -> Result<()> {
    let client = context.optional(None)?;
    let deadline = deadline(args.timeout);
    loop {
        let error = match ready(&client).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let may_come = matches!(error, ClientError::NotRunning { .. } | ClientError::Broken(_));
        if !may_come && error.status() != Some(503) {
            return Err(error.into());
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(error).context(format!("the server wasn't ready after {} seconds", args.timeout));
        }
        sleep(PAUSE).await;
    }
}

async fn shut_down(context: &Context, args: &ShutdownArgs) -> Result<()> {
    let client = context.optional(None)?;
    let bar = context.bar("Shutting down");
    bar.say("waiting for the server's end");
    client.change(Method::PUT, &ApiPath::raw("/internal/shutdown"), None, None).await?;
    let deadline = deadline(args.timeout);
    loop {
        // Busy or starting anew, it is there; only a socket nobody listens on is its end.
        if let Err(ClientError::NotRunning { .. }) = ready(&client).await {
            return Ok(());
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            bail!("the server was told to end and still runs after {} seconds", args.timeout);
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_server_gets_a_pool_and_a_root_disk_on_it() {
        let bare = json!({"name": "default", "devices": {}});
        let pool =
            NewPool { name: "fast".to_owned(), driver: "btrfs".to_owned(), source: "/dev/sdb".to_owned() };
        let preseed = missing(&[], Some(&bare), Some(pool));
        let root = json!({"type": "disk", "path": "/", "pool": "fast"});
        let expected = json!({
            "storage_pools": [{"name": "fast", "driver": "btrfs", "config": {"source": "/dev/sdb"}}],
            "profiles": [{"name": "default", "devices": {"root": root}}],
        });
        assert_eq!(preseed, expected);
        assert!(Preseed::read(preseed).is_ok());
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let existing = [json!({"name": "slow"}), json!({"name": "default"})];
        let whole = json!({"devices": {"disk0": {"type": "disk", "path": "/", "pool": "slow"}}});
        assert_eq!(missing(&existing, Some(&whole), Some(NewPool::minimal())), json!({}));
        assert_eq!(missing(&existing, None, Some(NewPool::minimal())), json!({}));
        assert_eq!(
            missing(&[], Some(&json!({})), None),
            json!({}),
            "no pool was wanted, so there is none to use"
        );
        let profile = missing(&existing[..1], Some(&json!({})), Some(NewPool::minimal()));
        assert_eq!(profile["profiles"][0]["devices"]["root"]["pool"], "slow");
    }
}
