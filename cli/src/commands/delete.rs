//! `larder delete`.

use super::snapshot::snapshots_path;
use super::{Context, state};
use crate::client::{ApiPath, Client, ClientError};
use crate::failure::Told;
use crate::fields::Fields;
use crate::terminal;
use anyhow::{Result, bail};
use clap::Args;
use http::Method;

/// Delete instances, or snapshots when the names are INSTANCE/SNAPSHOT
#[derive(Debug, Args)]
#[command(visible_alias = "rm")]
pub(crate) struct DeleteArgs {
    /// What to delete
    #[arg(value_name = "[REMOTE:]INSTANCE[/SNAPSHOT]", required = true)]
    names: Vec<String>,
    /// Stop running instances first
    #[arg(short, long)]
    force: bool,
    /// Ask before each one
    #[arg(short, long)]
    interactive: bool,
}

pub(crate) async fn run(context: &Context, args: DeleteArgs) -> Result<()> {
    // All names are looked at before the first is deleted.
    for name in &args.names {
        context.named(name, "instance")?;
    }
    for text in &args.names {
        let (client, name) = context.named(text, "instance")?;
        if args.interactive && !agreed(&name).await? {
            continue;
        }
        match name.split_once('/') {
            Some((instance, snapshot)) => {
                let path = snapshots_path(instance).at(snapshot);
                context.change(&client, "Deleting", Method::DELETE, &path, None).await?;
            }
            None => delete(context, &client, &name, args.force).await?,
        }
    }
    Ok(())
}

async fn agreed(name: &str) -> Result<bool> {
    let answer = terminal::ask(&format!("Delete {name}? (yes/no)")).await?;
    match answer.to_lowercase().as_str() {
        "y" | "yes" => Ok(true),
        "n" | "no" | "" => Ok(false),
        _ => bail!("{answer:?} is neither yes nor no"),
    }
}

async fn delete(context: &Context, client: &Client, name: &str, force: bool) -> Result<()> {
    let path = ApiPath::of(["instances", name]);
    let instance = client.get(&path).await?.metadata;
    let runs = !matches!(instance.text("status"), "Stopped" | "Error" | "");
    if runs && !force {
        return Err(Told::new(
            format!("the instance {name:?} is {}", instance.text("status").to_lowercase()),
            format!("stop it first, or delete it with: larder delete --force {name}"),
        )
        .into());
    }
    if runs {
        state::force_stop(context, client, name).await?;
        if instance.is("ephemeral") {
            // It went with its stop.
            return Ok(());
        }
    }
    match context.change(client, "Deleting", Method::DELETE, &path, None).await {
        Err(error) if runs && error.downcast_ref().is_some_and(ClientError::is_not_found) => Ok(()),
        other => other.map(drop),
    }
}
