//! `larder rename`.

use super::Context;
use super::resource::Resource;
use super::snapshot::snapshots_path;
use crate::client::ApiPath;
use anyhow::{Result, bail};
use clap::Args;

/// Rename an instance, or a snapshot when the names are INSTANCE/SNAPSHOT
#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    /// What to rename
    #[arg(value_name = "[REMOTE:]INSTANCE[/SNAPSHOT]")]
    name: String,
    /// Its new name
    new_name: String,
}

pub(crate) async fn run(context: &Context, args: RenameArgs) -> Result<()> {
    // The remote may be repeated before the new name, if it is the same.
    if args.new_name.contains(':') && !context.same_server(&args.name, &args.new_name)? {
        bail!("a new name is on the same server");
    }
    let new_name = match args.new_name.split_once(':') {
        Some((_, name)) => name,
        None => args.new_name.as_str(),
    };
    rename(context, &args.name, new_name).await
}

/// Renames an instance or a snapshot.
pub(crate) async fn rename(context: &Context, text: &str, new_name: &str) -> Result<()> {
    let (client, name) = context.named(text, "instance")?;
    match name.split_once('/') {
        Some((instance, snapshot)) => {
            // Both `c1/s0 c1/s1` and `c1/s0 s1` are understood.
            let new_name = match new_name.split_once('/') {
                Some((other, _)) if other != instance => bail!("a snapshot can't move to another instance"),
                Some((_, new_name)) => new_name,
                None => new_name,
            };
            let path = snapshots_path(instance).at(snapshot);
            let writable = &["expires_at"];
            Resource { client, path, kind: "snapshot", name, writable }.rename(context, new_name).await
        }
        None => {
            let path = ApiPath::of(["instances", name.as_str()]);
            let writable = super::config::INSTANCE_FIELDS;
            Resource { client, path, kind: "instance", name, writable }.rename(context, new_name).await
        }
    }
}
