//! `larder config`: of the server when no instance is named.

use super::device::{self, DeviceCommand, Owner};
use super::resource::{KeyArgs, Resource, SetArgs};
use super::{Context, snapshot};
use crate::client::ApiPath;
use crate::output;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;

/// The fields of an instance a PUT takes.
pub(crate) const INSTANCE_FIELDS: &[&str] =
    &["architecture", "config", "description", "devices", "ephemeral", "profiles", "stateful"];

/// Manage the configuration of instances and of the server
///
/// Without the name of an instance, the server's configuration is meant.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show the configuration as YAML
    Show(ShowArgs),
    /// Edit the configuration as YAML
    Edit(TargetArgs),
    /// Show the value of a key: config get [INSTANCE] KEY
    Get(GetArgs),
    /// Set keys: config set [INSTANCE] KEY=VALUE...
    Set(WordsArgs),
    /// Take a key away: config unset [INSTANCE] KEY
    Unset(WordsArgs),
    #[command(subcommand)]
    Device(DeviceCommand),
}

#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// The instance, or INSTANCE/SNAPSHOT; without it, the server
    #[arg(value_name = "[REMOTE:][INSTANCE]")]
    target: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Show what the profiles bring along too
    #[arg(short, long)]
    expanded: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    words: WordsArgs,
    /// Look at what the profiles bring along too
    #[arg(short, long)]
    expanded: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WordsArgs {
    /// The instance (or none, for the server), then the key or KEY=VALUE
    #[arg(value_name = "[REMOTE:][INSTANCE] KEY[=VALUE]", required = true)]
    words: Vec<String>,
    /// Mean a field of the instance, such as description, instead of a configuration key
    #[arg(short, long)]
    property: bool,
}

pub(crate) async fn run(context: &Context, command: ConfigCommand) -> Result<()> {
    match command {
        ConfigCommand::Show(args) => show(context, &args).await,
        ConfigCommand::Edit(args) => resource(context, args.target.as_deref())?.edit(context).await,
        ConfigCommand::Get(args) => get(context, args).await,
        ConfigCommand::Set(args) => {
            let (target, settings) = split_set(&args.words);
            let settings = SetArgs { settings: settings.to_vec(), property: args.property };
            resource(context, target)?.set(context, &settings).await
        }
        ConfigCommand::Unset(args) => {
            let (target, key) = split_key(&args)?;
            resource(context, target)?.unset(context, &key).await
        }
        ConfigCommand::Device(command) => device::run(context, command, Owner::instance).await,
    }
}

/// Tells the instance from the settings: `a=1`, `key value`, `c1 a=1` and `c1 key value` are all understood.
fn split_set(words: &[String]) -> (Option<&str>, &[String]) {
    match words {
        [first, rest @ ..] if first.ends_with(':') => (Some(first), rest),
        [first, ..] if first.contains('=') => (None, words),
        [_, second] if !second.contains('=') => (None, words),
        [first, rest @ ..] => (Some(first), rest),
        [] => (None, words),
    }
}

fn split_key(args: &WordsArgs) -> Result<(Option<&str>, KeyArgs)> {
    let key = |key: &String| KeyArgs { key: key.clone(), property: args.property };
    match args.words.as_slice() {
        [one] => Ok((None, key(one))),
        [target, one] => Ok((Some(target), key(one))),
        _ => bail!("expected an instance and one key, or one key of the server"),
    }
}

/// What is meant: an instance, one of its snapshots, or the server.
fn resource(context: &Context, target: Option<&str>) -> Result<Resource> {
    let (client, name) = match target {
        Some(target) => context.target(target)?,
        None => (context.optional(None)?, String::new()),
    };
    Ok(match name.split_once('/') {
        _ if name.is_empty() => Resource {
            client,
            path: ApiPath::root(),
            kind: "server",
            name: "server".to_owned(),
            writable: &["config"],
        },
        Some((instance, snapshot)) => {
            let path = snapshot::snapshots_path(instance).at(snapshot);
            Resource { client, path, kind: "snapshot", name, writable: &["expires_at"] }
        }
        None => {
            let path = ApiPath::of(["instances", name.as_str()]);
            Resource { client, path, kind: "instance", name, writable: INSTANCE_FIELDS }
        }
    })
}

async fn show(context: &Context, args: &ShowArgs) -> Result<()> {
    let resource = resource(context, args.target.target.as_deref())?;
    let mut object = resource.read().await?.metadata;
    if resource.kind == "server" {
        return output::show(&json!({"config": object["config"]}));
    }
    if let Some(fields) = object.as_object_mut() {
        for name in ["config", "devices"] {
            if let Some(expanded) = fields.remove(&format!("expanded_{name}"))
                && args.expanded
            {
                fields.insert(name.to_owned(), expanded);
            }
        }
        // What changes by itself is shown by `info` and `list`.
        for name in ["status_code", "last_used_at"] {
            fields.remove(name);
        }
    }
    output::show(&object)
}

async fn get(context: &Context, args: GetArgs) -> Result<()> {
    let (target, key) = split_key(&args.words)?;
    let resource = resource(context, target)?;
    if !args.expanded {
        return resource.get(&key).await;
    }
    let object = resource.read().await?.metadata;
    output::line(object["expanded_config"][&key.key].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_is_told_from_the_settings() {
        let split = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let (target, rest) = split_set(&words);
            (target.map(str::to_owned), rest.len())
        };
        assert_eq!(split(&["a=1", "b=2"]), (None, 2));
        assert_eq!(split(&["core.https_address", ":8443"]), (None, 2));
        assert_eq!(split(&["c1", "a=1"]), (Some("c1".to_owned()), 1));
        assert_eq!(split(&["c1", "limits.cpu", "2"]), (Some("c1".to_owned()), 2));
        assert_eq!(split(&["local:", "a=1"]), (Some("local:".to_owned()), 1));
    }
}
