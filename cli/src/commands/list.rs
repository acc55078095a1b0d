//! `larder list`.

use super::Context;
use crate::client::ApiPath;
use crate::fields::Fields;
use crate::output::{self, Column, Format, choose_extended, human};
use anyhow::Result;
use clap::Args;
use serde_json::Value;

/// List instances
///
/// A filter is the beginning of a name, or KEY=VALUE where the key is a configuration key or one of type,
/// status, architecture and project. All filters must hold.
///
/// Columns: n name, s state, 4 IPv4, 6 IPv6, t type, S snapshots, a architecture, b storage pool, c created,
/// d description, D disk usage, e project, l last used, m memory usage, N processes, p process id, P profiles,
/// u CPU seconds, f and F fingerprint of the image, L location. Between commas also [config:]KEY[:HEADING[:WIDTH]]
/// and devices:DEVICE.KEY.
#[derive(Debug, Args)]
#[command(visible_alias = "ls")]
pub(crate) struct ListArgs {
    /// A remote as in local:, and filters
    #[arg(value_name = "[REMOTE:] FILTER")]
    words: Vec<String>,
    /// The columns
    #[arg(short, long, default_value = "ns46tS")]
    columns: String,
    /// Show only columns that need no look at the running instances: nsacPt
    #[arg(long, conflicts_with = "columns")]
    fast: bool,
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// List the instances of all projects
    #[arg(long)]
    all_projects: bool,
}

/// Columns that need the state or the snapshots, not only the instance.
const FULL: &[char] = &['4', '6', 'S', 'D', 'm', 'N', 'p', 'u'];

pub(crate) async fn run(context: &Context, args: ListArgs) -> Result<()> {
    let (remote, filters) = match args.words.split_first() {
        Some((first, rest)) if first.ends_with(':') => (Some(first.as_str()), rest),
        _ => (None, args.words.as_slice()),
    };
    let client = context.optional(remote)?;
    let mut chosen = if args.fast { "nsacPt".to_owned() } else { args.columns.clone() };
    if args.all_projects && !chosen.contains('e') {
        chosen.insert(0, 'e');
    }
    let columns = choose_extended(known(), &chosen)?;
    let for_programs = matches!(args.format, Format::Json | Format::Yaml);
    let full =
        for_programs || chosen.split(',').any(|part| !part.contains(['.', ':']) && part.contains(FULL));
    let mut path = ApiPath::of(["instances"]).query("recursion", if full { "2" } else { "1" });
    if args.all_projects {
        path = path.query("all-projects", "true");
    }
    let mut instances = match client.get(&path).await?.metadata {
        Value::Array(instances) => instances,
        _ => Vec::new(),
    };
    instances.retain(|instance| filters.iter().all(|filter| holds(instance, filter)));
    instances.sort_by(|one, other| sort_key(one).cmp(&sort_key(other)));
    output::list(args.format, &columns, &instances)
}

fn sort_key(instance: &Value) -> (&str, &str) {
    (instance.text("project"), instance.text("name"))
}

fn holds(instance: &Value, filter: &str) -> bool {
    let Some((key, value)) = filter.split_once('=') else { return instance.text("name").starts_with(filter) };
    match key {
        "name" | "type" | "status" | "architecture" | "project" | "location" | "description" => {
            value.split(',').any(|value| instance.text(key).eq_ignore_ascii_case(value))
        }
        _ => {
            let of = |field: &str| instance[field].get(key).and_then(Value::as_str);
            of("expanded_config").or_else(|| of("config")) == Some(value)
        }
    }
}

fn known() -> Vec<Column> {
    let text = |letter, heading: &str, field: &'static str| {
        Column::new(letter, heading, move |instance: &Value| instance.text(field).to_owned())
    };
    let time = |letter, heading: &str, field: &'static str| {
        Column::new(letter, heading, move |instance: &Value| human::minute(instance.text(field)))
    };
    let image = |instance: &Value| expanded(instance, "volatile.base_image").to_owned();
    let usage =
        |value: &Value| value.as_u64().filter(|bytes| *bytes > 0).map(human::bytes).unwrap_or_default();
    let number = |value: &Value| {
        value.as_i64().filter(|number| *number > 0).map(|n| n.to_string()).unwrap_or_default()
    };
    vec![
        text('n', "NAME", "name"),
        Column::new('s', "STATE", |instance| instance.text("status").to_uppercase()),
        Column::new('4', "IPV4", |instance| addresses(instance, "inet")),
        Column::new('6', "IPV6", |instance| addresses(instance, "inet6")),
        Column::new('t', "TYPE", kind),
        Column::new('S', "SNAPSHOTS", |instance| instance.count("snapshots").to_string()),
        text('a', "ARCHITECTURE", "architecture"),
        Column::new('b', "STORAGE POOL", pool),
        time('c', "CREATED AT", "created_at"),
        text('d', "DESCRIPTION", "description"),
        Column::new('D', "DISK USAGE", move |instance| usage(&instance["state"]["disk"]["root"]["usage"])),
        text('e', "PROJECT", "project"),
        time('l', "LAST USED AT", "last_used_at"),
        Column::new('m', "MEMORY USAGE", move |instance| usage(&instance["state"]["memory"]["usage"])),
        Column::new('N', "PROCESSES", move |instance| number(&instance["state"]["processes"])),
        Column::new('p', "PID", move |instance| number(&instance["state"]["pid"])),
        Column::new('P', "PROFILES", profiles),
        Column::new('u', "CPU USAGE", cpu_seconds),
        Column::new('f', "BASE IMAGE", move |instance| image(instance).chars().take(12).collect()),
        Column::new('F', "BASE IMAGE", image),
        text('L', "LOCATION", "location"),
    ]
}

fn expanded<'a>(instance: &'a Value, key: &str) -> &'a str {
    instance["expanded_config"][key].as_str().unwrap_or_else(|| instance.config(key))
}

fn kind(instance: &Value) -> String {
    let kind = instance.text("type").to_uppercase();
    if instance.is("ephemeral") { format!("{kind} (EPHEMERAL)") } else { kind }
}

fn pool(instance: &Value) -> String {
    let devices = instance["expanded_devices"].as_object();
    let root = devices
        .into_iter()
        .flatten()
        .find(|(_, device)| device.text("type") == "disk" && device.text("path") == "/");
    root.map(|(_, device)| device.text("pool").to_owned()).unwrap_or_default()
}

fn profiles(instance: &Value) -> String {
    instance.items("profiles").iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

fn cpu_seconds(instance: &Value) -> String {
    let nanoseconds = instance["state"]["cpu"].number("usage");
    if nanoseconds == 0 { String::new() } else { format!("{}s", nanoseconds / 1_000_000_000) }
}

/// The addresses that are of use from outside, one a line.
fn addresses(instance: &Value, family: &str) -> String {
    let networks = instance["state"]["network"].as_object();
    let mut lines = Vec::new();
    for (name, network) in networks.into_iter().flatten().filter(|(name, _)| *name != "lo") {
        for address in network.items("addresses") {
            if address.text("family") == family && !matches!(address.text("scope"), "link" | "local") {
                lines.push(format!("{} ({name})", address.text("address")));
            }
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn filters_are_beginnings_of_names_fields_and_config() {
        let instance = json!({"name": "web1", "type": "container", "status": "Running",
            "expanded_config": {"user.owner": "ann"}});
        let cases = [
            ("web", true),
            ("eb", false),
            ("status=running", true),
            ("type=virtual-machine", false),
            ("type=virtual-machine,container", true),
            ("user.owner=ann", true),
            ("user.owner=bob", false),
        ];
        for (filter, expected) in cases {
            assert_eq!(holds(&instance, filter), expected, "{filter}");
        }
    }

    #[test]
    fn loopback_and_link_local_addresses_are_left_out() {
        let address =
            |address: &str, scope: &str| json!({"family": "inet", "address": address, "scope": scope});
        let instance = json!({"state": {"network": {
            "lo": {"addresses": [address("127.0.0.1", "local")]},
            "eth0": {"addresses": [address("10.0.0.5", "global"), address("169.254.0.1", "link")]},
        }}});
        assert_eq!(addresses(&instance, "inet"), "10.0.0.5 (eth0)");
        assert_eq!(addresses(&instance, "inet6"), "");
    }
}
