//! `larder storage volume copy` and `move`.

use super::Context;
use super::volume::VolumeName;
use crate::client::ApiPath;
use crate::failure::Told;
use anyhow::{Result, bail};
use clap::Args;
use http::Method;
use serde_json::json;

/// Copy a volume within a pool or between pools
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// What to copy
    #[arg(value_name = "[REMOTE:]POOL/VOLUME[/SNAPSHOT]")]
    source: String,
    /// Where to
    #[arg(value_name = "[REMOTE:]POOL/VOLUME")]
    target: String,
    /// Leave the snapshots out
    #[arg(long)]
    volume_only: bool,
    /// Bring an existing copy up to date
    #[arg(long)]
    refresh: bool,
    /// When refreshing, leave out snapshots older than the newest one of the copy
    #[arg(long, requires = "refresh")]
    refresh_exclude_older: bool,
    /// The project to copy to
    #[arg(long)]
    target_project: Option<String>,
}

/// Move a volume to another pool, name or project
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// What to move
    #[arg(value_name = "[REMOTE:]POOL/VOLUME")]
    source: String,
    /// Where to
    #[arg(value_name = "[REMOTE:]POOL/VOLUME")]
    target: String,
    /// The project to move to
    #[arg(long)]
    target_project: Option<String>,
}

/// Reads `pool/volume`.
fn split(text: &str) -> Result<(String, VolumeName)> {
    match text.split_once('/') {
        Some((pool, volume)) if !pool.is_empty() => Ok((pool.to_owned(), VolumeName::parse(volume)?)),
        _ => bail!("{text:?} is not POOL/VOLUME"),
    }
}

/// Refuses what is no custom volume: those of instances and images go along with them.
fn must_be_custom(name: &VolumeName) -> Result<()> {
    let hint = match name.kind.as_str() {
        "custom" => return Ok(()),
        "image" => format!("copy the image: larder image copy {}", name.volume),
        _ => format!("copy or move the instance: larder copy {0}, larder move {0}", name.volume),
    };
    let message =
        format!("{}/{} is no custom volume: it can't be copied or moved alone", name.kind, name.volume);
    Err(Told::new(message, hint).into())
}

/// The error for two servers: volumes travel between them as backup files.
fn two_servers(what: &str) -> anyhow::Error {
    Told::new(
        format!("can't {what} between two servers"),
        "export it from one and import it on the other: larder storage volume export, larder storage volume import",
    )
    .into()
}

pub(crate) async fn copy(context: &Context, args: CopyArgs) -> Result<()> {
    if !context.same_server(&args.source, &args.target)? {
        return Err(two_servers("copy a volume"));
    }
    let (client, source) = context.target(&args.source)?;
    let (source_pool, source) = split(&source)?;
    let (target_pool, target) = split(context.config.split(&args.target)?.1)?;
    let target = target.no_snapshot()?;
    must_be_custom(&source)?;
    must_be_custom(&target)?;
    let read = client.get(&source.path(&source_pool)).await?.metadata;
    let name = match &source.snapshot {
        Some(snapshot) => format!("{}/{snapshot}", source.volume),
        None => source.volume.clone(),
    };
    let content = read.get("content_type").cloned().unwrap_or(json!("filesystem"));
    let body = json!({
        "name": target.volume,
        "type": "custom",
        "content_type": content,
        "description": read["description"],
        "config": read["config"],
        "source": {
            "type": "copy",
            "name": name,
            "pool": source_pool,
            "project": client.project().unwrap_or_default(),
            "volume_only": args.volume_only,
            "refresh": args.refresh,
            "refresh_exclude_older": args.refresh_exclude_older,
        },
    });
    let path = ApiPath::of(["storage-pools", &target_pool, "volumes", "custom"])
        .query_if("project", args.target_project.as_deref());
    context.change(&client, "Copying", Method::POST, &path, Some(body)).await?;
    context.done("Storage volume copied")
}

pub(crate) async fn r#move(context: &Context, args: MoveArgs) -> Result<()> {
    if !context.same_server(&args.source, &args.target)? {
        return Err(two_servers("move a volume"));
    }
    let (client, source) = context.target(&args.source)?;
    let (source_pool, source) = split(&source)?;
    let (target_pool, target) = split(context.config.split(&args.target)?.1)?;
    let (source, target) = (source.no_snapshot()?, target.no_snapshot()?);
    must_be_custom(&source)?;
    must_be_custom(&target)?;
    let mut body = json!({"name": target.volume});
    if target_pool != source_pool || args.target_project.is_some() {
        body["pool"] = json!(target_pool);
    }
    if let Some(project) = &args.target_project {
        body["project"] = json!(project);
    }
    let path = source.volume_path(&source_pool);
    context.change(&client, "Moving", Method::POST, &path, Some(body)).await?;
    context.done("Storage volume moved")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_custom_volumes_go_alone() {
        let refused = |text| must_be_custom(&split(text).unwrap().1).is_err();
        assert!(!refused("p/v") && !refused("p/custom/v/s0"));
        assert!(refused("p/container/c1") && refused("p/virtual-machine/v1") && refused("p/image/abc"));
    }
}
