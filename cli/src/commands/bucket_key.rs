//! `larder storage bucket key`.

use super::Context;
use super::bucket::BucketArgs;
use super::resource::Resource;
use crate::fields::Fields;
use crate::output::{self, Column, Format, choose};
use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Manage the keys of a bucket
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List the keys of a bucket
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show a key as YAML, with its secret
    Show(NamedArgs),
    /// Create a key and show its secret
    Create(CreateArgs),
    /// Edit a key as YAML
    Edit(NamedArgs),
    /// Delete a key
    #[command(visible_alias = "rm")]
    Delete(NamedArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    bucket: BucketArgs,
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// The columns: n name, d description, r role, a access key
    #[arg(short, long, default_value = "ndra")]
    columns: String,
}

#[derive(Debug, Args)]
pub(crate) struct NamedArgs {
    #[command(flatten)]
    bucket: BucketArgs,
    /// The key
    key: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    key: NamedArgs,
    /// What it may do: admin or read-only
    #[arg(long, default_value = "read-only", value_parser = ["admin", "read-only"])]
    role: String,
    #[command(flatten)]
    pair: PairArgs,
    /// A description
    #[arg(long, default_value = "")]
    description: String,
}

/// The values of a key pair that a person brings.
#[derive(Debug, Clone, Args)]
pub(crate) struct PairArgs {
    /// The access key (default: made up)
    #[arg(long, default_value = "")]
    access_key: String,
    /// The secret key (default: made up); others on this machine can see it: better give a file
    #[arg(long, default_value = "", conflicts_with = "secret_key_file")]
    secret_key: String,
    /// A file whose first line is the secret key
    #[arg(long, value_name = "FILE")]
    secret_key_file: Option<PathBuf>,
}

impl PairArgs {
    /// Adds them to a request.
    pub(crate) fn add_to(&self, body: &mut Value) -> Result<()> {
        let secret = match &self.secret_key_file {
            None => self.secret_key.clone(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("can't read {}", path.display()))?;
                text.lines().next().unwrap_or_default().to_owned()
            }
        };
        body["access-key"] = json!(self.access_key);
        body["secret-key"] = json!(secret);
        Ok(())
    }
}

impl NamedArgs {
    fn resource(&self, context: &Context) -> Result<Resource> {
        let (client, bucket) = self.bucket.locate(context)?;
        let writable = &["description", "role", "access-key", "secret-key"];
        let path = bucket.at("keys").at(&self.key);
        Ok(Resource { client, path, kind: "storage bucket key", name: self.key.clone(), writable })
    }
}

pub(crate) async fn run(context: &Context, command: KeyCommand) -> Result<()> {
    match command {
        KeyCommand::List(args) => list(context, &args).await,
        KeyCommand::Show(args) => args.resource(context)?.show().await,
        KeyCommand::Create(args) => create(context, args).await,
        KeyCommand::Edit(args) => args.resource(context)?.edit(context).await,
        KeyCommand::Delete(args) => args.resource(context)?.delete(context).await,
    }
}

async fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let (client, bucket) = args.bucket.locate(context)?;
    let known = vec![
        Column::new('n', "NAME", |key| key.text("name").to_owned()),
        Column::new('d', "DESCRIPTION", |key| key.text("description").to_owned()),
        Column::new('r', "ROLE", |key| key.text("role").to_owned()),
        Column::new('a', "ACCESS KEY", |key| key.text("access-key").to_owned()),
    ];
    let columns = choose(known, &args.columns)?;
    let keys = client.get(&bucket.at("keys").query("recursion", "1")).await?.metadata;
    output::list(args.format, &columns, keys.as_array().map(Vec::as_slice).unwrap_or_default())
}

async fn create(context: &Context, args: CreateArgs) -> Result<()> {
    let (client, bucket) = args.key.bucket.locate(context)?;
    let name = &args.key.key;
    let mut body = json!({ "name": name, "role": args.role, "description": args.description });
    args.pair.add_to(&mut body)?;
    let path = bucket.at("keys");
    let made = context.change(&client, &format!("Creating {name}"), Method::POST, &path, Some(body)).await?;
    context.done(&format!("Storage bucket key {name} created"))?;
    tell(&made.metadata)
}

/// Shows a key pair that was made: what no list shows.
pub(crate) fn tell(pair: &Value) -> Result<()> {
    match pair.text("access-key") {
        "" => Ok(()),
        access_key => {
            output::line(&format!("Access key: {access_key}\nSecret key: {}", pair.text("secret-key")))
        }
    }
}
