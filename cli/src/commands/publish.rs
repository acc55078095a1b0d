//! `larder publish`.

use super::snapshot::expiry;
use super::{Context, state};
use crate::client::ApiPath;
use crate::failure::Told;
use crate::fields::{Fields, pairs, texts};
use anyhow::{Result, bail};
use clap::Args;
use http::Method;
use serde_json::json;

/// Make an image from an instance or a snapshot
#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// The instance or snapshot
    #[arg(value_name = "[REMOTE:]INSTANCE[/SNAPSHOT]")]
    source: String,
    /// Properties of the image, such as description=Web
    #[arg(value_name = "[REMOTE:] KEY=VALUE")]
    properties: Vec<String>,
    /// An alias for the image; may be given more than once
    #[arg(long)]
    alias: Vec<String>,
    /// The compression, such as gzip, zstd or none
    #[arg(long)]
    compression: Option<String>,
    /// When the image expires (RFC 3339)
    #[arg(long, value_name = "TIME")]
    expire: Option<String>,
    /// Stop the instance while the image is made
    #[arg(short, long)]
    force: bool,
    /// Make the image public
    #[arg(long)]
    public: bool,
}

pub(crate) async fn run(context: &Context, args: PublishArgs) -> Result<()> {
    let (client, name) = context.named(&args.source, "instance")?;
    let properties = match args.properties.split_first() {
        Some((target, rest)) if target.ends_with(':') => {
            if !context.same_server(&args.source, target)? {
                return Err(Told::new(
                    "an image can't be published to another server",
                    "publish it here, then: larder image export, larder image import",
                )
                .into());
            }
            rest
        }
        _ => &args.properties,
    };
    let kind = if name.contains('/') { "snapshot" } else { "instance" };
    let mut body = json!({
        "source": {"type": kind, "name": name},
        "properties": texts(pairs(properties)?),
        "public": args.public,
        "aliases": args.alias.iter().map(|alias| json!({"name": alias})).collect::<Vec<_>>(),
    });
    if let Some(compression) = &args.compression {
        body["compression_algorithm"] = json!(compression);
    }
    if let Some(expires_at) = expiry(false, args.expire.as_deref())? {
        body["expires_at"] = json!(expires_at);
    }
    let path = ApiPath::of(["instances", name.as_str()]);
    let running = kind == "instance" && client.get(&path).await?.metadata.text("status") == "Running";
    if running && !args.force {
        bail!("the instance {name:?} is running: stop it first, or use --force to stop it meanwhile");
    }
    if running {
        state::force_stop(context, &client, &name).await?;
    }
    let made =
        context.change(&client, "Publishing", Method::POST, &ApiPath::of(["images"]), Some(body)).await;
    if running {
        let body = json!({"action": "start", "timeout": -1});
        context.change(&client, "Starting", Method::PUT, &path.at("state"), Some(body)).await?;
    }
    context.done(&format!("Instance published with fingerprint: {}", made?.metadata.text("fingerprint")))
}
