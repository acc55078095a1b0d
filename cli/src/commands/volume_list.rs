//! `larder storage volume list`.

use super::Context;
use crate::client::{ApiPath, Client};
use crate::fields::Fields;
use crate::output::{self, Column, Format, choose, human};
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

/// List storage volumes
///
/// A filter is a part of the name, or KEY=VALUE where the key is a configuration key or a field such as type
/// or content_type. All filters must hold.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The storage pool (default: all of them)
    #[arg(value_name = "[REMOTE:][POOL]")]
    pool: Option<String>,
    /// Show only volumes these hold for
    filters: Vec<String>,
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// The columns: p pool, e project, t type, n name, d description, c content type, u used by, U usage,
    /// L location
    #[arg(short, long)]
    columns: Option<String>,
    /// List the volumes of all projects
    #[arg(long)]
    all_projects: bool,
}

/// Where the usage that was asked for separately is kept while the table is made.
const USAGE: &str = "larder.usage";

pub(crate) async fn run(context: &Context, args: &ListArgs) -> Result<()> {
    let (client, pool) = match &args.pool {
        Some(text) => context.target(text)?,
        None => (context.optional(None)?, String::new()),
    };
    let chosen = args.columns.clone().unwrap_or_else(|| {
        let pool_column = if pool.is_empty() { "p" } else { "" };
        let project_column = if args.all_projects { "e" } else { "" };
        format!("{project_column}{pool_column}tndcu")
    });
    let columns = choose(known(), &chosen)?;
    let pools = if pool.is_empty() { pool_names(&client).await? } else { vec![pool] };
    let mut volumes = Vec::new();
    for pool in pools {
        volumes.extend(in_pool(&client, &pool, args).await?);
    }
    if chosen.contains('U') && matches!(args.format, Format::Table | Format::Compact | Format::Csv) {
        add_usage(&client, &mut volumes).await;
    }
    output::list(args.format, &columns, &volumes)
}

fn known() -> Vec<Column> {
    let kind = |volume: &Value| {
        let snapshot = if volume.text("name").contains('/') { " (snapshot)" } else { "" };
        format!("{}{snapshot}", volume.text("type"))
    };
    let usage = |volume: &Value| volume[USAGE].as_u64().map(human::bytes).unwrap_or_default();
    vec![
        Column::new('p', "POOL", |volume| volume.text("pool").to_owned()),
        Column::new('e', "PROJECT", |volume| volume.text("project").to_owned()),
        Column::new('t', "TYPE", kind),
        Column::new('n', "NAME", |volume| volume.text("name").to_owned()),
        Column::new('d', "DESCRIPTION", |volume| volume.text("description").to_owned()),
        Column::new('c', "CONTENT-TYPE", |volume| volume.text("content_type").to_owned()),
        Column::new('u', "USED BY", |volume| volume.count("used_by").to_string()),
        Column::new('U', "USAGE", usage),
        Column::new('L', "LOCATION", |volume| volume.text("location").to_owned()),
    ]
}

async fn pool_names(client: &Client) -> Result<Vec<String>> {
    let pools = client.get(&ApiPath::of(["storage-pools"]).query("recursion", "1")).await?.metadata;
    let pools = pools.as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(pools.iter().map(|pool| pool.text("name").to_owned()).collect())
}

async fn in_pool(client: &Client, pool: &str, args: &ListArgs) -> Result<Vec<Value>> {
    let mut path = ApiPath::of(["storage-pools", pool, "volumes"]).query("recursion", "1");
    if args.all_projects {
        path = path.query("all-projects", "true");
    }
    let Value::Array(mut volumes) = client.get(&path).await?.metadata else { return Ok(Vec::new()) };
    volumes.retain(|volume| args.filters.iter().all(|filter| holds(volume, filter)));
    for volume in &mut volumes {
        volume["pool"] = json!(pool);
    }
    volumes.sort_by(|one, other| sort_key(one).cmp(&sort_key(other)));
    Ok(volumes)
}

fn sort_key(volume: &Value) -> (&str, &str, &str) {
    (volume.text("project"), volume.text("type"), volume.text("name"))
}

fn holds(volume: &Value, filter: &str) -> bool {
    match filter.split_once('=') {
        None => volume.text("name").contains(filter),
        Some((key, value)) => match &volume[key] {
            Value::String(text) => text == value,
            _ => volume["config"][key] == *value,
        },
    }
}

async fn add_usage(client: &Client, volumes: &mut [Value]) {
    for volume in volumes.iter_mut().filter(|volume| !volume.text("name").contains('/')) {
        let (pool, kind, name) = (volume.text("pool"), volume.text("type"), volume.text("name"));
        let path = ApiPath::of(["storage-pools", pool, "volumes", kind, name, "state"])
            .query_if("project", Some(volume.text("project")).filter(|project| !project.is_empty()));
        // Some volumes have no usage (images, drivers that can't tell): their cell stays empty.
        if let Ok(state) = client.get(&path).await {
            volume[USAGE] = state.metadata["usage"]["used"].clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_parts_of_names_fields_and_config() {
        let volume = json!({"name": "web-data", "type": "custom", "config": {"size": "1GiB"}});
        for (filter, expected) in
            [("web", true), ("db", false), ("type=custom", true), ("type=image", false), ("size=1GiB", true)]
        {
            assert_eq!(holds(&volume, filter), expected, "{filter}");
        }
    }
}
