//! `larder copy` and `larder move`.

use super::Context;
use super::rename;
use super::snapshot::snapshots_path;
use crate::client::{ApiPath, Client};
use crate::failure::Told;
use crate::fields::{Fields, object_mut, pair};
use anyhow::{Result, bail};
use clap::Args;
use http::Method;
use serde_json::{Map, Value, json};

/// What may be different in the new instance.
#[derive(Debug, Args)]
struct Changes {
    /// A configuration key; may be given more than once
    #[arg(short, long, value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// A key of a device; may be given more than once
    #[arg(short, long, value_name = "DEVICE,KEY=VALUE")]
    device: Vec<String>,
    /// A profile; may be given more than once
    #[arg(short, long)]
    profile: Vec<String>,
    /// Use no profile
    #[arg(long, conflicts_with = "profile")]
    no_profiles: bool,
    /// The storage pool
    #[arg(short, long, value_name = "POOL")]
    storage: Option<String>,
    /// The project
    #[arg(long)]
    target_project: Option<String>,
    /// Leave the snapshots out
    #[arg(long)]
    instance_only: bool,
    /// Go on when files change while they are copied
    #[arg(long)]
    allow_inconsistent: bool,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.config.is_empty() && self.device.is_empty() && self.profile.is_empty() && !self.no_profiles
    }
}

/// Copy an instance or a snapshot to a new instance
#[derive(Debug, Args)]
#[command(visible_alias = "cp")]
pub(crate) struct CopyArgs {
    /// What to copy
    #[arg(value_name = "[REMOTE:]INSTANCE[/SNAPSHOT]")]
    source: String,
    /// The new instance (default: the server chooses the name)
    #[arg(value_name = "[REMOTE:]NAME")]
    target: Option<String>,
    #[command(flatten)]
    changes: Changes,
    /// Delete the new instance when it stops
    #[arg(short, long)]
    ephemeral: bool,
    /// Bring an existing copy up to date
    #[arg(long)]
    refresh: bool,
    /// When refreshing, leave out snapshots older than the newest one of the copy
    #[arg(long, requires = "refresh")]
    refresh_exclude_older: bool,
    /// Leave the saved running state out
    #[arg(long)]
    stateless: bool,
}

/// Move an instance to another name, pool or project
#[derive(Debug, Args)]
#[command(visible_alias = "mv")]
pub(crate) struct MoveArgs {
    /// What to move
    #[arg(value_name = "[REMOTE:]INSTANCE[/SNAPSHOT]")]
    source: String,
    /// Its new name
    #[arg(value_name = "[REMOTE:]NAME")]
    target: Option<String>,
    #[command(flatten)]
    changes: Changes,
    /// Leave the saved running state behind
    #[arg(long)]
    stateless: bool,
}

fn two_servers(what: &str) -> anyhow::Error {
    Told::new(
        format!("can't {what} between two servers"),
        "export it from one and import it on the other: larder export, larder import",
    )
    .into()
}

pub(crate) async fn copy(context: &Context, args: CopyArgs) -> Result<()> {
    let (client, source) = context.named(&args.source, "instance")?;
    let name = match args.target.as_deref() {
        Some(target) if !context.same_server(&args.source, target)? => {
            return Err(two_servers("copy an instance"));
        }
        Some(target) => context.config.split(target)?.1.to_owned(),
        None => String::new(),
    };
    let mut body = copied(&client, &source).await?;
    if args.ephemeral {
        body["ephemeral"] = json!(true);
    }
    apply(&mut body, &args.changes)?;
    body["name"] = json!(name);
    body["source"] = json!({
        "type": "copy",
        "source": source,
        "project": client.project().unwrap_or_default(),
        "instance_only": args.changes.instance_only,
        "container_only": args.changes.instance_only,
        "live": !args.stateless,
        "refresh": args.refresh,
        "refresh_exclude_older": args.refresh_exclude_older,
        "allow_inconsistent": args.changes.allow_inconsistent,
    });
    let path = ApiPath::of(["instances"]).query_if("project", args.changes.target_project.as_deref());
    let finished = context.change(&client, "Copying", Method::POST, &path, Some(body)).await?;
    if name.is_empty()
        && let Some(made) = finished.operation.and_then(|operation| operation.resource_name("instances"))
    {
        context.done(&format!("Instance name is: {made}"))?;
    }
    Ok(())
}

/// What a copy takes over of its source: everything but what the server keeps for itself. The image it came
/// from stays known.
async fn copied(client: &Client, source: &str) -> Result<Value> {
    let path = match source.split_once('/') {
        Some((instance, snapshot)) => snapshots_path(instance).at(snapshot),
        None => ApiPath::of(["instances", source]),
    };
    let read = client.get(&path).await?.metadata;
    let config: Map<String, Value> = read["config"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !key.starts_with("volatile.") || *key == "volatile.base_image")
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    // A snapshot doesn't say what it is a snapshot of.
    let kind = match (read.text("type"), source.split_once('/')) {
        ("", Some((instance, _))) => {
            client.get(&ApiPath::of(["instances", instance])).await?.metadata["type"].clone()
        }
        _ => read["type"].clone(),
    };
    Ok(json!({
        "type": kind,
        "architecture": read["architecture"],
        "config": config,
        "devices": read["devices"],
        "profiles": read["profiles"],
        "ephemeral": read["ephemeral"],
        "description": read.text("description"),
        "expanded_devices": read["expanded_devices"],
    }))
}

/// Makes the changes; `expanded_devices` in the body is what the profiles bring along, and is taken out.
fn apply(body: &mut Value, changes: &Changes) -> Result<()> {
    let inherited = body.as_object_mut().and_then(|body| body.remove("expanded_devices")).unwrap_or_default();
    if changes.no_profiles {
        body["profiles"] = json!([]);
    } else if !changes.profile.is_empty() {
        body["profiles"] = json!(changes.profile);
    }
    for setting in &changes.config {
        let (key, value) = pair(setting)?;
        object_mut(body, "config")?.insert(key, json!(value));
    }
    let devices = object_mut(body, "devices")?;
    if let Some(pool) = &changes.storage {
        let is_root = |device: &&Value| device.text("type") == "disk" && device.text("path") == "/";
        let all = inherited.as_object();
        let name =
            all.into_iter().flatten().find(|(_, device)| is_root(device)).map_or("root", |(name, _)| name);
        let blank = json!({"type": "disk", "path": "/"});
        let root = devices.entry(name).or_insert_with(|| inherited.get(name).cloned().unwrap_or(blank));
        root["pool"] = json!(pool);
    }
    for change in &changes.device {
        let Some((device, setting)) = change.split_once(',') else {
            bail!("{change:?} is not of the form device,key=value");
        };
        let (key, value) = pair(setting)?;
        devices.entry(device).or_insert_with(|| inherited.get(device).cloned().unwrap_or(json!({})))[key] =
            json!(value);
    }
    Ok(())
}

pub(crate) async fn r#move(context: &Context, args: MoveArgs) -> Result<()> {
    let (client, source) = context.named(&args.source, "instance")?;
    let name = match args.target.as_deref() {
        Some(target) if !context.same_server(&args.source, target)? => {
            return Err(two_servers("move an instance"));
        }
        Some(target) => context.config.split(target)?.1.to_owned(),
        None => String::new(),
    };
    let name = if name.is_empty() { source.clone() } else { name };
    let elsewhere = args.changes.storage.is_some() || args.changes.target_project.is_some();
    if !elsewhere && args.changes.is_empty() {
        if name == source {
            bail!("say where to move it: a new name, --storage or --target-project");
        }
        return rename::rename(context, &args.source, &name).await;
    }
    if source.contains('/') {
        bail!("a snapshot moves with its instance");
    }
    let path = ApiPath::of(["instances", source.as_str()]);
    let mut body = json!({
        "name": name,
        "migration": true,
        "live": !args.stateless && client.get(&path).await?.metadata.text("status") == "Running",
        "instance_only": args.changes.instance_only,
        "allow_inconsistent": args.changes.allow_inconsistent,
    });
    for (field, value) in [("pool", &args.changes.storage), ("project", &args.changes.target_project)] {
        if let Some(value) = value {
            body[field] = json!(value);
        }
    }
    if !args.changes.is_empty() {
        let mut changed = copied(&client, &source).await?;
        apply(&mut changed, &Changes { storage: None, ..args.changes })?;
        for field in ["config", "devices", "profiles"] {
            body[field] = changed[field].take();
        }
    }
    context.change(&client, "Moving", Method::POST, &path, Some(body)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_disk_of_a_profile_becomes_the_copys_own_on_another_pool() {
        let mut body = json!({"devices": {}, "config": {}, "profiles": ["default"],
            "expanded_devices": {"disk0": {"type": "disk", "path": "/", "pool": "p1", "size": "5GiB"}}});
        let changes = Changes {
            config: vec!["limits.cpu=2".to_owned()],
            device: vec!["disk0,size=9GiB".to_owned()],
            profile: Vec::new(),
            no_profiles: false,
            storage: Some("p2".to_owned()),
            target_project: None,
            instance_only: false,
            allow_inconsistent: false,
        };
        apply(&mut body, &changes).unwrap();
        let disk = json!({"type": "disk", "path": "/", "pool": "p2", "size": "9GiB"});
        assert_eq!(
            body,
            json!({"devices": {"disk0": disk}, "config": {"limits.cpu": "2"}, "profiles": ["default"]})
        );
    }
}
