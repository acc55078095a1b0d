//! `larder info`: of an instance, or of the server.

use super::snapshot;
use super::{Context, console};
use crate::client::{ApiPath, Client};
use crate::fields::Fields;
use crate::output::{self, Format, choose, human};
use anyhow::Result;
use clap::Args;
use serde_json::Value;

/// Show an instance and its state, or the server
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// The instance; without it, the server
    #[arg(value_name = "[REMOTE:][INSTANCE]")]
    target: Option<String>,
    /// Show the instance's console log too
    #[arg(long)]
    show_log: bool,
    /// Show the server's hardware instead
    #[arg(long)]
    resources: bool,
}

pub(crate) async fn run(context: &Context, args: InfoArgs) -> Result<()> {
    let (client, name) = match args.target.as_deref() {
        Some(target) => context.target(target)?,
        None => (context.optional(None)?, String::new()),
    };
    if !name.is_empty() {
        return instance(&client, &name, args.show_log).await;
    }
    if args.resources {
        return output::show(&client.get(&ApiPath::of(["resources"])).await?.metadata);
    }
    output::show(client.server().await?)
}

async fn instance(client: &Client, name: &str, show_log: bool) -> Result<()> {
    let path = ApiPath::of(["instances", name]);
    let instance = client.get(&path).await?.metadata;
    let state = client.get(&path.clone().at("state")).await?.metadata;
    output::text(&describe(&instance, &state))?;
    let snapshots = client.get(&snapshot::snapshots_path(name).query("recursion", "1")).await?.metadata;
    let snapshots = snapshots.as_array().map(Vec::as_slice).unwrap_or_default();
    if !snapshots.is_empty() {
        output::line("\nSnapshots:")?;
        output::list(Format::Table, &choose(snapshot::columns(), "nTEs")?, snapshots)?;
    }
    if show_log {
        output::line("\nConsole log:")?;
        console::show_log(client, name).await?;
    }
    Ok(())
}

/// The text about an instance.
fn describe(instance: &Value, state: &Value) -> String {
    let mut lines = vec![
        format!("Name: {}", instance.text("name")),
        format!("Status: {}", instance.text("status").to_uppercase()),
    ];
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("{name}: {value}"));
        }
    };
    let kind = if instance.is("ephemeral") { " (ephemeral)" } else { "" };
    add("Description", instance.text("description").to_owned());
    add("Type", format!("{}{kind}", instance.text("type")));
    add("Architecture", instance.text("architecture").to_owned());
    add("PID", state["pid"].as_i64().filter(|pid| *pid > 0).map(|pid| pid.to_string()).unwrap_or_default());
    add("Created", human::minute(instance.text("created_at")));
    add("Last used", human::minute(instance.text("last_used_at")));
    if instance.text("status") == "Running" {
        lines.extend(resources(state));
    }
    format!("{}\n", lines.join("\n"))
}

fn resources(state: &Value) -> Vec<String> {
    let mut lines = vec!["\nResources:".to_owned()];
    lines.push(format!("  Processes: {}", state["processes"].as_i64().unwrap_or_default().max(0)));
    for (name, disk) in state["disk"].as_object().into_iter().flatten() {
        lines.push(format!("  Disk usage of {name}: {}", human::bytes(disk.number("usage"))));
    }
    lines.push(format!("  CPU usage in seconds: {}", state["cpu"].number("usage") / 1_000_000_000));
    for (heading, field) in
        [("Memory usage", "usage"), ("Memory peak", "usage_peak"), ("Swap usage", "swap_usage")]
    {
        let bytes = state["memory"].number(field);
        if bytes > 0 {
            lines.push(format!("  {heading}: {}", human::bytes(bytes)));
        }
    }
    for (name, network) in state["network"].as_object().into_iter().flatten() {
        lines.push(format!("  Network {name}: {}", network.text("state").to_uppercase()));
        let counters = &network["counters"];
        let (received, sent) = (counters.number("bytes_received"), counters.number("bytes_sent"));
        lines.push(format!("    Received: {}, sent: {}", human::bytes(received), human::bytes(sent)));
        for address in network.items("addresses") {
            let (text, mask) = (address.text("address"), address.text("netmask"));
            lines.push(format!("    {}: {text}/{mask} ({})", address.text("family"), address.text("scope")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_running_instance_is_described() {
        let instance = json!({"name": "c1", "status": "Running", "type": "container", "architecture": "x86_64",
            "created_at": "2026-11-23T20:34:34Z", "last_used_at": "1970-01-01T00:00:00Z", "ephemeral": true});
        let state = json!({"pid": 42, "processes": 3, "cpu": {"usage": 2_500_000_000_u64},
            "memory": {"usage": 1_048_576}, "disk": {"root": {"usage": 2048}},
            "network": {"lo": {"state": "up", "counters": {"bytes_received": 10, "bytes_sent": 20},
                "addresses": [{"family": "inet", "address": "127.0.0.1", "netmask": "8", "scope": "local"}]}}});
        insta::assert_snapshot!(describe(&instance, &state));
    }
}
