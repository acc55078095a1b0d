//! `larder profile`.

use super::Context;
use super::config::INSTANCE_FIELDS;
use super::device::{self, DeviceCommand, Owner};
use super::resource::{KeyArgs, Resource, SetArgs};
use crate::client::ApiPath;
use crate::edit;
use crate::fields::{Fields, writable};
use crate::output::{self, Column, Format, choose};
use crate::terminal;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

/// The fields of a profile a PUT takes.
pub(crate) const PROFILE_FIELDS: &[&str] = &["config", "description", "devices"];

/// Manage profiles
#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// List profiles
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show a profile as YAML
    Show(ProfileArgs),
    /// Create a profile, from YAML on standard input when that is no terminal
    Create(CreateArgs),
    /// Edit a profile as YAML
    Edit(ProfileArgs),
    /// Show the value of a configuration key
    Get(ProfileKeyArgs),
    /// Set configuration keys
    Set(ProfileSetArgs),
    /// Take a configuration key away
    Unset(ProfileKeyArgs),
    /// Copy a profile
    #[command(visible_alias = "cp")]
    Copy(CopyArgs),
    /// Rename a profile
    #[command(visible_alias = "mv")]
    Rename(RenameArgs),
    /// Delete a profile
    #[command(visible_alias = "rm")]
    Delete(ProfileArgs),
    /// Give an instance exactly these profiles
    #[command(visible_alias = "apply")]
    Assign(AssignArgs),
    /// Add a profile to an instance
    Add(MemberArgs),
    /// Take a profile of an instance away
    Remove(MemberArgs),
    #[command(subcommand)]
    Device(DeviceCommand),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// A remote, as in local:
    remote: Option<String>,
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// The columns: n name, d description, e project, u used by
    #[arg(short, long, default_value = "ndu")]
    columns: String,
}

#[derive(Debug, Args)]
pub(crate) struct ProfileArgs {
    /// The profile
    #[arg(value_name = "[REMOTE:]PROFILE")]
    profile: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    /// A description
    #[arg(long)]
    description: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ProfileKeyArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ProfileSetArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    settings: SetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    /// The new profile
    #[arg(value_name = "[REMOTE:]NEW")]
    new: String,
    /// The project to copy to
    #[arg(long)]
    target_project: Option<String>,
    /// Replace a profile of that name
    #[arg(long)]
    refresh: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    /// Its new name
    new_name: String,
}

#[derive(Debug, Args)]
pub(crate) struct AssignArgs {
    /// The instance
    #[arg(value_name = "[REMOTE:]INSTANCE")]
    instance: String,
    /// The profiles, comma-separated; empty for none
    profiles: String,
}

#[derive(Debug, Args)]
pub(crate) struct MemberArgs {
    /// The instance
    #[arg(value_name = "[REMOTE:]INSTANCE")]
    instance: String,
    /// The profile
    profile: String,
}

pub(crate) async fn run(context: &Context, command: ProfileCommand) -> Result<()> {
    match command {
        ProfileCommand::List(args) => list(context, &args).await,
        ProfileCommand::Show(args) => profile(context, &args)?.show().await,
        ProfileCommand::Create(args) => create(context, &args).await,
        ProfileCommand::Edit(args) => profile(context, &args)?.edit(context).await,
        ProfileCommand::Get(args) => profile(context, &args.profile)?.get(&args.key).await,
        ProfileCommand::Set(args) => profile(context, &args.profile)?.set(context, &args.settings).await,
        ProfileCommand::Unset(args) => profile(context, &args.profile)?.unset(context, &args.key).await,
        ProfileCommand::Copy(args) => copy(context, &args).await,
        ProfileCommand::Rename(args) => {
            profile(context, &args.profile)?.rename(context, &args.new_name).await
        }
        ProfileCommand::Delete(args) => profile(context, &args)?.delete(context).await,
        ProfileCommand::Assign(args) => assign(context, &args).await,
        ProfileCommand::Add(args) => add(context, &args).await,
        ProfileCommand::Remove(args) => remove(context, &args).await,
        ProfileCommand::Device(command) => device::run(context, command, Owner::profile).await,
    }
}

fn profile(context: &Context, args: &ProfileArgs) -> Result<Resource> {
    let (client, name) = context.named(&args.profile, "profile")?;
    let path = ApiPath::of(["profiles", name.as_str()]);
    Ok(Resource { client, path, kind: "profile", name, writable: PROFILE_FIELDS })
}

fn instance(context: &Context, text: &str) -> Result<Resource> {
    let (client, name) = context.named(text, "instance")?;
    let path = ApiPath::of(["instances", name.as_str()]);
    Ok(Resource { client, path, kind: "instance", name, writable: INSTANCE_FIELDS })
}

async fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let client = context.optional(args.remote.as_deref())?;
    let known = vec![
        Column::new('n', "NAME", |profile| profile.text("name").to_owned()),
        Column::new('e', "PROJECT", |profile| profile.text("project").to_owned()),
        Column::new('d', "DESCRIPTION", |profile| profile.text("description").to_owned()),
        Column::new('u', "USED BY", |profile| profile.count("used_by").to_string()),
    ];
    let columns = choose(known, &args.columns)?;
    let profiles = client.get(&ApiPath::of(["profiles"]).query("recursion", "1")).await?.metadata;
    output::list(args.format, &columns, profiles.as_array().map(Vec::as_slice).unwrap_or_default())
}

async fn create(context: &Context, args: &CreateArgs) -> Result<()> {
    let (client, name) = context.named(&args.profile.profile, "profile")?;
    let mut body = json!({});
    if !terminal::stdin_is_terminal() {
        let text = terminal::read_stdin().await?;
        if !text.trim().is_empty() {
            body = writable(&edit::parse(&text)?, PROFILE_FIELDS);
        }
    }
    body["name"] = json!(name);
    if let Some(description) = &args.description {
        body["description"] = json!(description);
    }
    context.change(&client, "Creating", Method::POST, &ApiPath::of(["profiles"]), Some(body)).await?;
    context.done(&format!("Profile {name} created"))
}

async fn copy(context: &Context, args: &CopyArgs) -> Result<()> {
    let source = profile(context, &args.profile)?;
    let mut body = writable(&source.read().await?.metadata, PROFILE_FIELDS);
    let (client, name) = context.named(&args.new, "new profile")?;
    let project = args.target_project.as_deref();
    let existing = ApiPath::of(["profiles", name.as_str()]).query_if("project", project);
    if args.refresh && client.get(&existing).await.is_ok() {
        context.change(&client, "Copying", Method::PUT, &existing, Some(body)).await?;
        return Ok(());
    }
    body["name"] = json!(name);
    let path = ApiPath::of(["profiles"]).query_if("project", project);
    context.change(&client, "Copying", Method::POST, &path, Some(body)).await?;
    Ok(())
}

async fn assign(context: &Context, args: &AssignArgs) -> Result<()> {
    let instance = instance(context, &args.instance)?;
    let profiles: Vec<&str> =
        args.profiles.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    instance
        .update(context, |object| {
            object["profiles"] = json!(profiles);
            Ok(())
        })
        .await?;
    let told = if profiles.is_empty() { "(none)".to_owned() } else { profiles.join(", ") };
    context.done(&format!("Profiles of {}: {told}", instance.name))
}

async fn add(context: &Context, args: &MemberArgs) -> Result<()> {
    let instance = instance(context, &args.instance)?;
    instance
        .update(context, |object| profiles(object).map(|profiles| profiles.push(json!(args.profile))))
        .await?;
    context.done(&format!("Profile {} added to {}", args.profile, instance.name))
}

async fn remove(context: &Context, args: &MemberArgs) -> Result<()> {
    let instance = instance(context, &args.instance)?;
    instance
        .update(context, |object| {
            let profiles = profiles(object)?;
            let before = profiles.len();
            profiles.retain(|profile| *profile != args.profile);
            if profiles.len() == before {
                bail!("the instance {:?} doesn't use the profile {:?}", instance.name, args.profile);
            }
            Ok(())
        })
        .await?;
    context.done(&format!("Profile {} removed from {}", args.profile, instance.name))
}

fn profiles(object: &mut Value) -> Result<&mut Vec<Value>> {
    if object["profiles"].is_null() {
        object["profiles"] = json!([]);
    }
    match object["profiles"].as_array_mut() {
        Some(profiles) => Ok(profiles),
        None => bail!("the server's answer has no list of profiles"),
    }
}
