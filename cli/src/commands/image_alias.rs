//! `larder image alias`, and giving aliases to an image that has just come.

use super::resource::Resource;
use super::{Context, image};
use crate::client::{ApiPath, Client};
use crate::failure::Told;
use crate::fields::Fields;
use crate::output::{self, Column, Format, choose};
use anyhow::Result;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

/// Manage aliases of images
#[derive(Debug, Subcommand)]
pub(crate) enum AliasCommand {
    List(ListArgs),
    /// Give an image another alias
    Create(CreateArgs),
    /// Take an alias away; the image stays
    #[command(visible_alias = "rm")]
    Delete(AliasArgs),
    /// Rename an alias
    #[command(visible_alias = "mv")]
    Rename(RenameArgs),
}

/// List aliases
///
/// A filter is a part of the alias, or the beginning of a fingerprint. All filters must hold.
#[derive(Debug, Args)]
#[command(visible_alias = "ls")]
pub(crate) struct ListArgs {
    /// A remote as in local:, and filters
    #[arg(value_name = "[REMOTE:] FILTER")]
    words: Vec<String>,
    /// The columns: a alias, f and F fingerprint, t type, d description
    #[arg(short, long, default_value = "aftd")]
    columns: String,
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct AliasArgs {
    /// The alias
    #[arg(value_name = "[REMOTE:]ALIAS")]
    alias: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    alias: AliasArgs,
    /// The image: its fingerprint, the beginning of it, or another alias
    #[arg(value_name = "IMAGE")]
    image: String,
    /// A description
    #[arg(long, default_value = "")]
    description: String,
}

#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    #[command(flatten)]
    alias: AliasArgs,
    /// Its new name
    new_name: String,
}

/// The aliases a new image gets.
#[derive(Debug, Clone, Args)]
pub(crate) struct NewAliases {
    /// An alias for the image; may be given more than once
    #[arg(long)]
    alias: Vec<String>,
    /// Take aliases that exist from the images that have them
    #[arg(long)]
    reuse: bool,
}

impl NewAliases {
    /// Adds some that were not named by the person, each once.
    pub(crate) fn add(&mut self, names: Vec<String>) {
        for name in names {
            if !self.alias.contains(&name) {
                self.alias.push(name);
            }
        }
    }

    /// Refuses aliases that are taken, before anything is transferred.
    pub(crate) async fn check(&self, client: &Client) -> Result<()> {
        if self.reuse {
            return Ok(());
        }
        for alias in &self.alias {
            match client.get(&path(alias)).await {
                Ok(_) => {
                    let message = format!("the alias {alias:?} exists already");
                    return Err(Told::new(
                        message,
                        "give another one, or move it to the new image with --reuse",
                    )
                    .into());
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Makes them point to an image that is there now.
    pub(crate) async fn give(&self, context: &Context, client: &Client, fingerprint: &str) -> Result<()> {
        for alias in &self.alias {
            let mut body = json!({"target": fingerprint});
            let existing = if self.reuse { client.get(&path(alias)).await.ok() } else { None };
            if let Some(existing) = existing {
                body["description"] = existing.metadata["description"].clone();
                context.change(client, "Moving the alias", Method::PUT, &path(alias), Some(body)).await?;
                continue;
            }
            body["name"] = json!(alias);
            let aliases = ApiPath::of(["images", "aliases"]);
            context.change(client, "Giving the alias", Method::POST, &aliases, Some(body)).await?;
        }
        Ok(())
    }
}

pub(crate) async fn run(context: &Context, command: AliasCommand) -> Result<()> {
    match command {
        AliasCommand::List(args) => list(context, &args).await,
        AliasCommand::Create(args) => create(context, &args).await,
        AliasCommand::Delete(args) => alias(context, &args)?.delete(context).await,
        AliasCommand::Rename(args) => alias(context, &args.alias)?.rename(context, &args.new_name).await,
    }
}

fn path(alias: &str) -> ApiPath {
    ApiPath::of(["images", "aliases", alias])
}

fn alias(context: &Context, args: &AliasArgs) -> Result<Resource> {
    let (client, name) = context.named(&args.alias, "alias")?;
    Ok(Resource { client, path: path(&name), kind: "alias", name, writable: &["description", "target"] })
}

async fn create(context: &Context, args: &CreateArgs) -> Result<()> {
    let (client, name) = context.named(&args.alias.alias, "alias")?;
    let target = image::fingerprint(&client, &args.image, None).await?;
    let body = json!({"name": name, "description": args.description, "target": target});
    context
        .change(&client, "Creating", Method::POST, &ApiPath::of(["images", "aliases"]), Some(body))
        .await?;
    context.done(&format!("Alias {name} created"))
}

async fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let (remote, filters) = match args.words.split_first() {
        Some((first, rest)) if first.ends_with(':') => (Some(first.as_str()), rest),
        _ => (None, args.words.as_slice()),
    };
    let known = vec![
        Column::new('a', "ALIAS", |alias: &Value| alias.text("name").to_owned()),
        Column::new('f', "FINGERPRINT", |alias| image::short(alias.text("target"))),
        Column::new('F', "FINGERPRINT", |alias| alias.text("target").to_owned()),
        Column::new('t', "TYPE", |alias| alias.text("type").to_uppercase()),
        Column::new('d', "DESCRIPTION", |alias| alias.text("description").to_owned()),
    ];
    let columns = choose(known, &args.columns)?;
    let mut aliases = match remote {
        Some(remote) if context.is_image_server(remote)? => {
            let server = context.config.remote(context.config.split(remote)?.0)?;
            of_image_server(&crate::image_server::images(&server.addr).await?)
        }
        _ => on_server(&context.optional(remote)?).await?,
    };
    aliases.retain(|alias| {
        let holds =
            |filter: &String| alias.text("name").contains(filter) || alias.text("target").starts_with(filter);
        filters.iter().all(holds)
    });
    aliases.sort_by(|one, other| one.text("name").cmp(other.text("name")));
    output::list(args.format, &columns, &aliases)
}

async fn on_server(client: &Client) -> Result<Vec<Value>> {
    match client.get(&ApiPath::of(["images", "aliases"]).query("recursion", "1")).await?.metadata {
        Value::Array(aliases) => Ok(aliases),
        _ => Ok(Vec::new()),
    }
}

fn of_image_server(images: &[Value]) -> Vec<Value> {
    let of_image = |image: &Value| {
        let (target, kind) = (&image["fingerprint"], &image["type"]);
        let entry = |alias: &Value| json!({"name": alias["name"], "target": target, "type": kind});
        image.items("aliases").iter().map(entry).collect::<Vec<_>>()
    };
    images.iter().flat_map(of_image).collect()
}
