//! `larder publish`.

use super::context::Finished;
use super::snapshot::expiry;
use super::{Context, state};
use crate::client::{ApiPath, Client};
use crate::failure::Told;
use crate::fields::{Fields, pairs, texts};
use anyhow::{Result, bail};
use clap::Args;
use http::Method;
use serde_json::{Value, json};

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
    let instance = if kind == "instance" { client.get(&path).await?.metadata } else { Value::Null };
    let made = match (instance.text("status"), args.force) {
        ("Running", false) => {
            bail!("the instance {name:?} is running: stop it first, or use --force to stop it meanwhile");
        }
        ("Running", true) => {
            let _held = context.hold_interrupts();
            let stopping =
                Stopping { client: &client, name: &name, is_ephemeral: instance["ephemeral"] == true };
            stopping.publish(context, body).await?
        }
        _ => publish(context, &client, body).await?,
    };
    context.done(&format!("Instance published with fingerprint: {}", made.metadata.text("fingerprint")))
}

async fn publish(context: &Context, client: &Client, body: Value) -> Result<Finished> {
    context.change(client, "Publishing", Method::POST, &ApiPath::of(["images"]), Some(body)).await
}

/// A running instance that is stopped while an image is made of it.
struct Stopping<'a> {
    client: &'a Client,
    name: &'a str,
    /// Whether it would be deleted when it stops: until it runs again it is told not to be.
    is_ephemeral: bool,
}

impl Stopping<'_> {
    /// Publishes it. It runs again and is what it was, also when that fails.
    async fn publish(&self, context: &Context, body: Value) -> Result<Finished> {
        self.shall_go_when_it_stops(context, false).await?;
        let made = self.publish_stopped(context, body).await;
        self.shall_go_when_it_stops(context, true).await?;
        made
    }

    async fn publish_stopped(&self, context: &Context, body: Value) -> Result<Finished> {
        state::force_stop(context, self.client, self.name).await?;
        let made = publish(context, self.client, body).await;
        let path = ApiPath::of(["instances", self.name, "state"]);
        let start = json!({"action": "start", "timeout": -1});
        context.change(self.client, "Starting", Method::PUT, &path, Some(start)).await?;
        made
    }

    async fn shall_go_when_it_stops(&self, context: &Context, is_ephemeral: bool) -> Result<()> {
        if self.is_ephemeral {
            let path = ApiPath::of(["instances", self.name]);
            let body = json!({ "ephemeral": is_ephemeral });
            context.change(self.client, "Publishing", Method::PATCH, &path, Some(body)).await?;
        }
        Ok(())
    }
}
