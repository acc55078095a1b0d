//! `larder start`, `stop`, `restart`, `pause`, `resume`.

use super::{Context, console};
use crate::client::{ApiPath, Client};
use crate::failure;
use crate::fields::Fields;
use crate::terminal;
use anyhow::{Result, bail};
use clap::Args;
use http::Method;
use serde_json::{Value, json};

/// Which instances are meant.
#[derive(Debug, Args)]
struct Names {
    /// The instances
    #[arg(value_name = "[REMOTE:]INSTANCE")]
    names: Vec<String>,
    /// All instances
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

/// Start instances
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    names: Names,
    /// Attach to the console at once
    #[arg(long)]
    console: bool,
    /// Ignore a saved running state
    #[arg(long)]
    stateless: bool,
}

/// Stop instances
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    names: Names,
    /// Kill them instead of asking them to shut down
    #[arg(short, long)]
    force: bool,
    /// How many seconds to wait for the shutdown (-1: for ever)
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    timeout: i64,
    /// Save the running state
    #[arg(long)]
    stateful: bool,
}

/// Restart instances
#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    names: Names,
    /// Kill them instead of asking them to shut down
    #[arg(short, long)]
    force: bool,
    /// How many seconds to wait for the shutdown (-1: for ever)
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    timeout: i64,
    /// Attach to the console at once
    #[arg(long)]
    console: bool,
}

/// Pause instances
#[derive(Debug, Args)]
#[command(alias = "freeze")]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    names: Names,
}

/// Resume paused instances
#[derive(Debug, Args)]
#[command(alias = "unfreeze")]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    names: Names,
}

/// One change of state.
#[derive(Debug, Clone)]
struct Action {
    word: &'static str,
    doing: &'static str,
    timeout: i64,
    force: bool,
    stateful: bool,
}

impl Action {
    fn new(word: &'static str, doing: &'static str) -> Self {
        Self { word, doing, timeout: -1, force: false, stateful: false }
    }

    fn body(&self) -> Value {
        json!({"action": self.word, "timeout": self.timeout, "force": self.force, "stateful": self.stateful})
    }

    async fn take(&self, context: &Context, client: &Client, name: &str) -> Result<()> {
        let path = ApiPath::of(["instances", name, "state"]);
        context.change(client, self.doing, Method::PUT, &path, Some(self.body())).await?;
        Ok(())
    }

    /// Whether there is anything to do for an instance in this state, when all of them are meant.
    fn concerns(&self, instance: &Value) -> bool {
        match (self.word, instance.text("status")) {
            ("start", status) => status == "Stopped",
            ("unfreeze", status) => status == "Frozen",
            ("freeze" | "stop" | "restart", status) => status == "Running",
            _ => true,
        }
    }
}

pub(crate) async fn start(context: &Context, args: StartArgs) -> Result<()> {
    // An instance that stopped with its state comes back with it unless told otherwise.
    let mut action = Action::new("start", "Starting");
    if let [name] = args.names.names.as_slice() {
        let (client, name) = context.named(name, "instance")?;
        let instance = client.get(&ApiPath::of(["instances", name.as_str()])).await?.metadata;
        if instance.text("status") == "Frozen" {
            action.word = "unfreeze";
        }
        action.stateful = instance.is("stateful") && !args.stateless;
    }
    each(context, &args.names, &action).await?;
    attach(context, &args.names, args.console).await
}

pub(crate) async fn stop(context: &Context, args: StopArgs) -> Result<()> {
    let StopArgs { names, force, timeout, stateful } = args;
    each(context, &names, &Action { timeout, force, stateful, ..Action::new("stop", "Stopping") }).await
}

pub(crate) async fn restart(context: &Context, args: RestartArgs) -> Result<()> {
    let action = Action { timeout: args.timeout, force: args.force, ..Action::new("restart", "Restarting") };
    each(context, &args.names, &action).await?;
    attach(context, &args.names, args.console).await
}

pub(crate) async fn pause(context: &Context, args: PauseArgs) -> Result<()> {
    each(context, &args.names, &Action::new("freeze", "Pausing")).await
}

pub(crate) async fn resume(context: &Context, args: ResumeArgs) -> Result<()> {
    each(context, &args.names, &Action::new("unfreeze", "Resuming")).await
}

/// Stops an instance whatever it does.
pub(crate) async fn force_stop(context: &Context, client: &Client, name: &str) -> Result<()> {
    let action = Action { force: true, ..Action::new("stop", "Stopping") };
    action.take(context, client, name).await
}

async fn attach(context: &Context, names: &Names, wanted: bool) -> Result<()> {
    match names.names.as_slice() {
        [name] if wanted => {
            let (client, name) = context.named(name, "instance")?;
            console::attach(context, &client, &name).await
        }
        _ if wanted => bail!("--console goes with one instance"),
        _ => Ok(()),
    }
}

/// Does it to each; one that fails doesn't keep the others from it.
async fn each(context: &Context, names: &Names, action: &Action) -> Result<()> {
    let targets = targets(context, names, action).await?;
    let mut failed = Vec::new();
    let count = targets.len();
    for (client, name) in targets {
        match action.take(context, &client, &name).await {
            Ok(()) => {}
            Err(error) if count == 1 => return Err(error),
            Err(error) => {
                terminal::notice(failure::text(&error.context(name.clone())).trim_end());
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("this failed for {} of {count} instances: {}", failed.len(), failed.join(", "));
    }
    Ok(())
}

async fn targets(context: &Context, names: &Names, action: &Action) -> Result<Vec<(Client, String)>> {
    if !names.all {
        if names.names.is_empty() {
            bail!("name the instances, or say --all");
        }
        return names.names.iter().map(|name| context.named(name, "instance")).collect();
    }
    let instances =
        context.optional(None)?.get(&ApiPath::of(["instances"]).query("recursion", "1")).await?.metadata;
    let concerned = instances.as_array().into_iter().flatten().filter(|instance| action.concerns(instance));
    concerned.map(|instance| Ok((context.optional(None)?, instance.text("name").to_owned()))).collect()
}
