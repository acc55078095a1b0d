//! `larder export` and `larder import`.

use super::{Context, transfer};
use crate::client::ApiPath;
use crate::fields::pair;
use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use urlencoding::encode;

/// Export an instance to a backup file
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The instance
    #[arg(value_name = "[REMOTE:]INSTANCE")]
    instance: String,
    /// The file to write (default: INSTANCE.tar.gz or what the compression is called)
    file: Option<String>,
    #[command(flatten)]
    options: transfer::BackupOptions,
    /// Leave the snapshots out
    #[arg(long)]
    instance_only: bool,
}

/// Import an instance from a backup file
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// A remote as in local:, the file, and the name of the new instance (default: the one in the backup)
    #[arg(value_name = "[REMOTE:] FILE [INSTANCE]", required = true, num_args = 1..=3)]
    words: Vec<String>,
    /// The storage pool
    #[arg(short, long)]
    storage: Option<String>,
    /// A key of a device over the backup's; may be given more than once
    #[arg(short, long, value_name = "DEVICE,KEY=VALUE")]
    device: Vec<String>,
}

/// The devices as a query string, each with its keys as such a string.
fn device_header(changes: &[String]) -> Result<String> {
    let mut devices: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for change in changes {
        let Some((device, setting)) = change.split_once(',') else {
            bail!("{change:?} is not of the form device,key=value");
        };
        let (key, value) = pair(setting)?;
        devices.entry(device).or_default().push(format!("{}={}", encode(&key), encode(&value)));
    }
    let device = |(name, keys): (&str, Vec<String>)| format!("{}={}", encode(name), encode(&keys.join("&")));
    Ok(devices.into_iter().map(device).collect::<Vec<_>>().join("&"))
}

pub(crate) async fn export(context: &Context, args: ExportArgs) -> Result<()> {
    let (client, instance) = context.named(&args.instance, "instance")?;
    let mut request = args.options.request();
    request["instance_only"] = json!(args.instance_only);
    let backups = ApiPath::of(["instances", instance.as_str(), "backups"]);
    transfer::export(context, &client, &backups, request, args.file.as_deref(), &instance).await
}

pub(crate) async fn import(context: &Context, args: ImportArgs) -> Result<()> {
    let (remote, words) = match args.words.split_first() {
        Some((first, rest)) if first.ends_with(':') && !Path::new(first).exists() => {
            (Some(first.as_str()), rest)
        }
        _ => (None, args.words.as_slice()),
    };
    let (file, name) = match words {
        [file] => (file, None),
        [file, name] => (file, Some(name)),
        _ => bail!("name the file to import"),
    };
    let client = context.optional(remote)?;
    let mut headers = transfer::Headers::octet_stream();
    if let Some(name) = name {
        headers.add("name", name)?;
    }
    if let Some(pool) = &args.storage {
        headers.add("pool", pool)?;
    }
    if !args.device.is_empty() {
        headers.add("devices", &device_header(&args.device)?)?;
    }
    let path = ApiPath::of(["instances"]);
    let finished = transfer::upload(context, &client, &path, headers, Path::new(file)).await?;
    let made = finished.operation.and_then(|operation| operation.resource_name("instances"));
    let told = made.or(name.cloned()).unwrap_or_else(|| "from the backup".to_owned());
    context.done(&format!("Instance {told} imported"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_go_as_a_query_string_in_another() {
        let given = ["root,pool=p2", "root,size=5GiB", "d 1,path=/a"].map(str::to_owned);
        assert_eq!(device_header(&given).unwrap(), "d%201=path%3D%252Fa&root=pool%3Dp2%26size%3D5GiB");
        assert!(device_header(&["root".to_owned()]).is_err());
    }
}
