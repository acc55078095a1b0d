//! `larder image copy`.

use super::image::{self, CONTAINER, VIRTUAL_MACHINE};
use super::image_alias::NewAliases;
use super::{Context, image_files};
use crate::client::{ApiPath, Client};
use crate::config::Remote;
use crate::failure::Told;
use crate::fields::Fields;
use crate::image_server::{self, is_fingerprint};
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};

/// Copy an image to a server
///
/// From an image server the target fetches it itself. From another server or another project it goes through
/// this command.
#[derive(Debug, Args)]
#[command(visible_alias = "cp")]
pub(crate) struct CopyArgs {
    /// The image
    #[arg(value_name = "[REMOTE:]IMAGE")]
    image: String,
    /// The server to copy it to
    #[arg(value_name = "REMOTE:")]
    target: String,
    #[command(flatten)]
    aliases: NewAliases,
    /// Give it the aliases it has at its source too
    #[arg(long)]
    copy_aliases: bool,
    /// Have the server replace it by newer ones; only from an image server, and named by an alias
    #[arg(long)]
    auto_update: bool,
    /// Make the copy public
    #[arg(long)]
    public: bool,
    /// Copy the image for virtual machines
    #[arg(long)]
    vm: bool,
    /// The project to copy to
    #[arg(long, value_name = "PROJECT")]
    target_project: Option<String>,
    /// How it is transferred (default: whichever is possible)
    #[arg(long, value_enum)]
    mode: Option<Mode>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// The target fetches it.
    Pull,
    /// It goes through this command.
    Relay,
}

pub(crate) async fn run(context: &Context, args: &CopyArgs) -> Result<()> {
    let mut target = context.optional(Some(&args.target))?;
    if args.target_project.is_some() {
        target = target.with_project(args.target_project.clone());
    }
    let (remote, name) = context.config.split(&args.image)?;
    if name.is_empty() {
        bail!("the name of the image is missing in {:?}", args.image);
    }
    let fingerprint = if context.is_image_server(&args.image)? {
        pull(context, args, context.config.remote(remote)?, name, &target).await?
    } else {
        relay(context, args, &target).await?
    };
    context.done(&format!("Image copied with fingerprint: {fingerprint}"))
}

/// The type of image that is meant.
fn kind(args: &CopyArgs) -> &'static str {
    if args.vm { VIRTUAL_MACHINE } else { CONTAINER }
}

async fn pull(
    context: &Context,
    args: &CopyArgs,
    server: &Remote,
    name: &str,
    target: &Client,
) -> Result<String> {
    if args.mode == Some(Mode::Relay) {
        bail!("images of an image server are fetched by the server they go to: leave --mode relay out");
    }
    if args.auto_update && is_fingerprint(name) {
        bail!("{name:?} is a fingerprint, and what it names never changes: name an alias for --auto-update");
    }
    let mut aliases = args.aliases.clone();
    if args.copy_aliases {
        let images = image_server::images(&server.addr).await?;
        aliases.add(alias_names(image_server::find(&images, name, kind(args))?));
    }
    aliases.check(target).await?;
    let field = if is_fingerprint(name) { "fingerprint" } else { "alias" };
    let mut source =
        json!({"type": "image", "mode": "pull", "server": server.addr, "protocol": "simplestreams"});
    source["image_type"] = json!(kind(args));
    source[field] = json!(name);
    let body = json!({"source": source, "public": args.public, "auto_update": args.auto_update});
    let doing = format!("Copying {name}");
    let finished = context.change(target, &doing, Method::POST, &ApiPath::of(["images"]), Some(body)).await?;
    let fingerprint = image_files::fingerprint_of(&finished.metadata)?;
    aliases.give(context, target, &fingerprint).await?;
    Ok(fingerprint)
}

fn alias_names(image: &Value) -> Vec<String> {
    image.items("aliases").iter().map(|alias| alias.text("name").to_owned()).collect()
}

/// Fetches it from one server and sends it to the other: servers behind sockets can't reach each other.
async fn relay(context: &Context, args: &CopyArgs, target: &Client) -> Result<String> {
    let (source, name) = context.named(&args.image, "image")?;
    let project = |client: &Client| client.project().unwrap_or("default").to_owned();
    if source.socket() == target.socket() && project(&source) == project(target) {
        return Err(Told::new(
            "the image is there already",
            "name another remote or --target-project; for another name use: larder image alias create",
        )
        .into());
    }
    if args.mode == Some(Mode::Pull) {
        bail!("servers that are reached by a socket can't fetch from each other: use --mode relay");
    }
    if args.auto_update {
        bail!("only images of an image server can be kept up to date");
    }
    let image = image::find(&source, &name, args.vm.then_some(VIRTUAL_MACHINE)).await?;
    let mut aliases = args.aliases.clone();
    if args.copy_aliases {
        aliases.add(alias_names(&image));
    }
    aliases.check(target).await?;
    let fingerprint = image.text("fingerprint").to_owned();
    let folder = tempfile::tempdir()?;
    let received = image_files::receive(context, &source, &fingerprint, folder.path()).await?;
    let files = received.keep_in(folder.path())?;
    let properties: Vec<(String, String)> = image
        .entries("properties")
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    image_files::send(context, target, &files, args.public, &properties).await?;
    aliases.give(context, target, &fingerprint).await?;
    Ok(fingerprint)
}
