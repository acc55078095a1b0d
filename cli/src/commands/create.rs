//! `larder launch` and `larder init`.

use super::{Context, console};
use crate::client::{ApiPath, Client};
use crate::config::Protocol;
use crate::edit;
use crate::failure::Told;
use crate::fields::{Fields, object_mut, pair};
use crate::image_server::is_fingerprint;
use crate::terminal;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use http::Method;
use serde_json::{Value, json};

/// Create and start an instance from an image
///
/// YAML with configuration, devices and profiles is read from standard input when that is no terminal.
#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    #[command(flatten)]
    create: CreateArgs,
    /// Attach to the console at once
    #[arg(long)]
    console: bool,
}

/// Create an instance from an image, without starting it
///
/// YAML with configuration, devices and profiles is read from standard input when that is no terminal.
#[derive(Debug, Args)]
#[command(visible_alias = "create")]
pub(crate) struct InitArgs {
    #[command(flatten)]
    create: CreateArgs,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The image and the name of the new instance (default: the server chooses); with --empty, only the name
    #[arg(value_name = "[REMOTE:]IMAGE [[REMOTE:]NAME]", num_args = 0..=2)]
    words: Vec<String>,
    /// A configuration key, such as limits.memory=1GiB; may be given more than once
    #[arg(short, long, value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// A key of a device, such as root,size=10GiB; may be given more than once
    #[arg(short, long, value_name = "DEVICE,KEY=VALUE")]
    device: Vec<String>,
    /// A profile; may be given more than once
    #[arg(short, long)]
    profile: Vec<String>,
    /// Use no profile
    #[arg(long, conflicts_with = "profile")]
    no_profiles: bool,
    /// The storage pool of the root volume
    #[arg(short, long, value_name = "POOL")]
    storage: Option<String>,
    /// The network of eth0
    #[arg(short, long)]
    network: Option<String>,
    /// Delete the instance when it stops
    #[arg(short, long)]
    ephemeral: bool,
    /// Create a virtual machine
    #[arg(long)]
    vm: bool,
    /// Create an empty instance, without an image
    #[arg(long)]
    empty: bool,
    /// The size of the instance, as in t2.micro or c2-m4
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    instance_type: Option<String>,
    /// A description
    #[arg(long)]
    description: Option<String>,
}

pub(crate) async fn launch(context: &Context, args: LaunchArgs) -> Result<()> {
    let (client, name) = create(context, &args.create, true).await?;
    if args.console { console::attach(context, &client, &name).await } else { Ok(()) }
}

pub(crate) async fn init(context: &Context, args: InitArgs) -> Result<()> {
    create(context, &args.create, false).await.map(drop)
}

/// What the words name: the image with its remote, and the target with its remote.
fn words(args: &CreateArgs) -> Result<(Option<&str>, Option<&str>)> {
    match (args.empty, args.words.as_slice()) {
        (true, []) => Ok((None, None)),
        (true, [name]) => Ok((None, Some(name))),
        (true, _) => bail!("--empty takes no image"),
        (false, []) => Err(Told::new("name an image", "see the images here with: larder image list").into()),
        (false, [image]) => Ok((Some(image), None)),
        (false, [image, name, ..]) => Ok((Some(image), Some(name))),
    }
}

async fn create(context: &Context, args: &CreateArgs, start: bool) -> Result<(Client, String)> {
    let (image, target) = words(args)?;
    let (client, name) = match (target, image) {
        (Some(target), _) => context.target(target)?,
        // Without a target the instance goes where the image is, if that can hold instances.
        (None, Some(image)) if !context.is_image_server(image)? => (context.target(image)?.0, String::new()),
        (None, _) => (context.optional(None)?, String::new()),
    };
    let source = match image {
        Some(image) => source(context, &client, image, target, args.vm).await?,
        None => json!({"type": "none"}),
    };
    let mut body = body(&client, args).await?;
    body["name"] = json!(name);
    body["source"] = source;
    let separate_start = start && !client.has_extension("instance_create_start").await?;
    if start && !separate_start {
        body["start"] = json!(true);
    }
    let shown = if name.is_empty() { "the instance" } else { name.as_str() };
    let doing = if start { "Launching" } else { "Creating" };
    context.done(&format!("{doing} {shown}"))?;
    let path = ApiPath::of(["instances"]);
    let finished =
        context.change(&client, &format!("{doing} {shown}"), Method::POST, &path, Some(body)).await?;
    let made = finished.operation.and_then(|operation| operation.resource_name("instances"));
    let made = match made.or_else(|| Some(name.clone()).filter(|name| !name.is_empty())) {
        Some(made) => made,
        None => bail!("the server didn't say how the new instance is called: look at it with larder list"),
    };
    if name.is_empty() {
        context.done(&format!("Instance name is: {made}"))?;
    }
    if separate_start {
        let state = ApiPath::of(["instances", made.as_str(), "state"]);
        let body = json!({"action": "start", "timeout": -1});
        context.change(&client, &format!("Starting {made}"), Method::PUT, &state, Some(body)).await?;
    }
    Ok((client, made))
}

/// Where the image comes from. An alias of an image server goes to our server as it is: that one finds out
/// what it means, and downloads it.
async fn source(
    context: &Context,
    client: &Client,
    image: &str,
    target: Option<&str>,
    vm: bool,
) -> Result<Value> {
    let (remote, name) = context.config.split(image)?;
    if name.is_empty() {
        bail!("the name of the image is missing in {image:?}");
    }
    let address = context.config.remote(remote)?;
    if address.protocol == Protocol::Simplestreams {
        let mut source = json!({"type": "image", "mode": "pull", "protocol": "simplestreams"});
        source["server"] = json!(address.addr);
        source[if is_fingerprint(name) { "fingerprint" } else { "alias" }] = json!(name);
        return Ok(source);
    }
    if target.is_some_and(|target| context.same_server(image, target).is_ok_and(|same| !same)) {
        return Err(Told::new(
            "the image is on another server",
            "bring it here first: larder image export, larder image import",
        )
        .into());
    }
    let kind = if vm { "virtual-machine" } else { "container" };
    let fingerprint = super::image::fingerprint(client, name, Some(kind)).await?;
    Ok(json!({"type": "image", "fingerprint": fingerprint}))
}

/// Everything of the request except name and source.
async fn body(client: &Client, args: &CreateArgs) -> Result<Value> {
    let mut body = json!({});
    if !terminal::stdin_is_terminal() {
        let text = terminal::read_stdin().await?;
        if !text.trim().is_empty() {
            body = edit::parse(&text).context("on standard input")?;
        }
    }
    body["type"] = json!(if args.vm { "virtual-machine" } else { "container" });
    for setting in &args.config {
        let (key, value) = pair(setting)?;
        object_mut(&mut body, "config")?.insert(key, Value::String(value));
    }
    if args.no_profiles {
        body["profiles"] = json!([]);
    } else if !args.profile.is_empty() {
        body["profiles"] = json!(args.profile);
    }
    if args.ephemeral {
        body["ephemeral"] = json!(true);
    }
    if let Some(size) = &args.instance_type {
        body["instance_type"] = json!(size);
    }
    if let Some(description) = &args.description {
        body["description"] = json!(description);
    }
    if let Some(pool) = &args.storage {
        root_on(client, &mut body, pool).await?;
    }
    if let Some(network) = &args.network {
        let eth0 = json!({"type": "nic", "name": "eth0", "network": network});
        object_mut(&mut body, "devices")?.insert("eth0".to_owned(), eth0);
    }
    change_devices(client, &mut body, &args.device).await?;
    Ok(body)
}

/// Puts the root volume on a pool: the root disk the profiles bring along, or one of its own.
async fn root_on(client: &Client, body: &mut Value, pool: &str) -> Result<()> {
    client.get(&ApiPath::of(["storage-pools", pool])).await?;
    let inherited = profile_devices(client, body).await?;
    let is_root = |device: &Value| device.text("type") == "disk" && device.text("path") == "/";
    let found = inherited.into_iter().find(|(_, device)| is_root(device) && device.text("source").is_empty());
    let (name, mut root) = found.unwrap_or(("root".to_owned(), json!({"type": "disk", "path": "/"})));
    root["pool"] = json!(pool);
    object_mut(body, "devices")?.insert(name, root);
    Ok(())
}

async fn profile_devices(client: &Client, body: &Value) -> Result<Vec<(String, Value)>> {
    let default = [json!("default")];
    let profiles = body["profiles"].as_array().map_or(&default[..], Vec::as_slice);
    let mut devices = serde_json::Map::new();
    for profile in profiles.iter().filter_map(Value::as_str) {
        let mut profile = client.get(&ApiPath::of(["profiles", profile])).await?.metadata;
        devices.append(object_mut(&mut profile, "devices")?);
    }
    Ok(devices.into_iter().collect())
}

/// Applies `device,key=value`: to a device of its own, else to a copy of the one a profile brings along.
async fn change_devices(client: &Client, body: &mut Value, changes: &[String]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let inherited = profile_devices(client, body).await?;
    let devices = object_mut(body, "devices")?;
    for change in changes {
        let Some((device, setting)) = change.split_once(',') else {
            bail!("{change:?} is not of the form device,key=value");
        };
        let (key, value) = pair(setting)?;
        let own = devices.entry(device).or_insert_with(|| {
            inherited.iter().find(|(name, _)| name == device).map_or(json!({}), |(_, device)| device.clone())
        });
        own[key] = json!(value);
    }
    Ok(())
}
