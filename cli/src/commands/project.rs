//! `larder project`.

use super::Context;
use super::resource::{KeyArgs, Resource, SetArgs};
use crate::client::ApiPath;
use crate::fields::{Fields, pairs, texts};
use crate::output::{self, Column, Format, choose};
use anyhow::Result;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

/// Manage projects
#[derive(Debug, Subcommand)]
pub(crate) enum ProjectCommand {
    /// List projects
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show a project as YAML
    Show(ProjectArgs),
    /// Create a project
    Create(CreateArgs),
    /// Edit a project as YAML
    Edit(ProjectArgs),
    /// Show the value of a configuration key
    Get(ProjectKeyArgs),
    /// Set configuration keys
    Set(ProjectSetArgs),
    /// Take a configuration key away
    Unset(ProjectKeyArgs),
    /// Rename a project
    #[command(visible_alias = "mv")]
    Rename(RenameArgs),
    /// Delete a project
    #[command(visible_alias = "rm")]
    Delete(ProjectArgs),
    /// Work in this project from now on
    Switch(ProjectArgs),
    /// Show what a project uses of its limits
    Info(InfoArgs),
    /// Show the project commands work in
    GetCurrent,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// A remote, as in local:
    remote: Option<String>,
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ProjectArgs {
    /// The project
    #[arg(value_name = "[REMOTE:]PROJECT")]
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// A configuration key, such as features.images=false
    #[arg(short, long, value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// A description
    #[arg(long, default_value = "")]
    description: String,
}

#[derive(Debug, Args)]
pub(crate) struct ProjectKeyArgs {
    #[command(flatten)]
    project: ProjectArgs,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ProjectSetArgs {
    #[command(flatten)]
    project: ProjectArgs,
    #[command(flatten)]
    settings: SetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// Its new name
    new_name: String,
}

pub(crate) async fn run(context: &Context, command: ProjectCommand) -> Result<()> {
    match command {
        ProjectCommand::List(args) => list(context, &args).await,
        ProjectCommand::Show(args) => project(context, &args)?.show().await,
        ProjectCommand::Create(args) => create(context, args).await,
        ProjectCommand::Edit(args) => project(context, &args)?.edit(context).await,
        ProjectCommand::Get(args) => project(context, &args.project)?.get(&args.key).await,
        ProjectCommand::Set(args) => project(context, &args.project)?.set(context, &args.settings).await,
        ProjectCommand::Unset(args) => project(context, &args.project)?.unset(context, &args.key).await,
        ProjectCommand::Rename(args) => {
            project(context, &args.project)?.rename(context, &args.new_name).await
        }
        ProjectCommand::Delete(args) => project(context, &args)?.delete(context).await,
        ProjectCommand::Switch(args) => switch(context, &args).await,
        ProjectCommand::Info(args) => info(context, &args).await,
        ProjectCommand::GetCurrent => output::line(context.optional(None)?.project().unwrap_or("default")),
    }
}

fn project(context: &Context, args: &ProjectArgs) -> Result<Resource> {
    let (client, name) = context.named(&args.name, "project")?;
    let path = ApiPath::of(["projects", name.as_str()]);
    Ok(Resource { client, path, kind: "project", name, writable: &["config", "description"] })
}

async fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let client = context.optional(args.remote.as_deref())?;
    let current = client.project().unwrap_or("default").to_owned();
    let name = move |project: &Value| {
        let name = project.text("name");
        if name == current { format!("{name} (current)") } else { name.to_owned() }
    };
    let feature = |letter, heading, key: &'static str| {
        let shown =
            move |project: &Value| if project.config(key) == "true" { "YES" } else { "NO" }.to_owned();
        Column::new(letter, heading, shown)
    };
    let columns = vec![
        Column::new('n', "NAME", name),
        feature('i', "IMAGES", "features.images"),
        feature('p', "PROFILES", "features.profiles"),
        feature('v', "STORAGE VOLUMES", "features.storage.volumes"),
        Column::new('d', "DESCRIPTION", |project| project.text("description").to_owned()),
        Column::new('u', "USED BY", |project| project.count("used_by").to_string()),
    ];
    let columns = choose(columns, "nipvdu")?;
    let projects = client.get(&ApiPath::of(["projects"]).query("recursion", "1")).await?.metadata;
    output::list(args.format, &columns, projects.as_array().map(Vec::as_slice).unwrap_or_default())
}

async fn create(context: &Context, args: CreateArgs) -> Result<()> {
    let (client, name) = context.named(&args.project.name, "project")?;
    let body = json!({"name": name, "description": args.description, "config": texts(pairs(&args.config)?)});
    context.change(&client, "Creating", Method::POST, &ApiPath::of(["projects"]), Some(body)).await?;
    context.done(&format!("Project {name} created"))
}

async fn switch(context: &Context, args: &ProjectArgs) -> Result<()> {
    let project = project(context, args)?;
    project.read().await?;
    let mut config = context.config.clone();
    let remote = config.split(&args.name)?.0.to_owned();
    config.remote_mut(&remote)?.project = (project.name != "default").then(|| project.name.clone());
    config.save()
}

async fn info(context: &Context, args: &InfoArgs) -> Result<()> {
    let project = project(context, &args.project)?;
    let state = project.client.get(&project.path.at("state")).await?.metadata;
    let resources = state["resources"].as_object().cloned().unwrap_or_default();
    let items: Vec<Value> = resources
        .into_iter()
        .map(|(name, resource)| json!({"name": name, "limit": resource["Limit"], "usage": resource["Usage"]}))
        .collect();
    let limit = |item: &Value| match item["limit"].as_i64() {
        Some(limit) if limit >= 0 => limit.to_string(),
        _ => "UNLIMITED".to_owned(),
    };
    let columns = [
        Column::new('n', "RESOURCE", |item| item.text("name").to_uppercase()),
        Column::new('l', "LIMIT", limit),
        Column::new('u', "USAGE", |item| item["usage"].to_string()),
    ];
    output::list(args.format, &columns, &items)
}
