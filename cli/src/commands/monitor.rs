//! `larder monitor`: what happens on the server, as it happens.

use super::Context;
use crate::fields::Fields;
use crate::output::{self, yaml};
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

/// Show events as they happen, until Ctrl-C
#[derive(Debug, Args)]
pub(crate) struct MonitorArgs {
    /// A remote, as in local:
    remote: Option<String>,
    /// Only these types of events: logging, operation, lifecycle; may be given more than once
    #[arg(short, long = "type", value_delimiter = ',')]
    types: Vec<String>,
    /// The format: yaml, json (a line each) or pretty
    #[arg(short, long, value_enum, default_value_t = Form::Yaml)]
    format: Form,
    /// Short for --format=pretty
    #[arg(long)]
    pretty: bool,
    /// In the pretty format, show only log messages of at least this level
    #[arg(long, value_enum)]
    loglevel: Option<Level>,
    /// Show the events of all projects
    #[arg(long)]
    all_projects: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Yaml,
    Json,
    Pretty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Level {
    Trace,
    Debug,
    Info,
    #[value(alias = "warn")]
    Warning,
    Error,
}

pub(crate) async fn run(context: &Context, args: MonitorArgs) -> Result<()> {
    let form = if args.pretty { Form::Pretty } else { args.format };
    let client = context.optional(args.remote.as_deref())?;
    let mut events = client.events(&args.types.join(","), args.all_projects).await?;
    while let Some(event) = events.next().await? {
        match form {
            Form::Json => output::line(&event.to_string())?,
            Form::Yaml => output::text(&format!("{}\n", yaml::write(&event)?))?,
            Form::Pretty => {
                if let Some(line) = pretty(&event, args.loglevel) {
                    output::line(&line)?;
                }
            }
        }
    }
    bail!("the server ended the connection")
}

fn level(text: &str) -> Level {
    match text {
        "trace" => Level::Trace,
        "debug" => Level::Debug,
        "warning" | "warn" => Level::Warning,
        "error" | "fatal" | "panic" => Level::Error,
        _ => Level::Info,
    }
}

/// One event on one line; `None` when its level is too low.
fn pretty(event: &Value, least: Option<Level>) -> Option<String> {
    let metadata = &event["metadata"];
    let time = event.text("timestamp").split(['T', '.', 'Z', '+']).nth(1).unwrap_or_default();
    let mut line = match event.text("type") {
        "logging" => {
            let word = metadata.text("level");
            if least.is_some_and(|least| level(word) < least) {
                return None;
            }
            format!("{time} {:7} {}", word.to_uppercase(), metadata.text("message"))
        }
        "lifecycle" => format!("{time} EVENT   {} {}", metadata.text("action"), metadata.text("source")),
        "operation" => {
            let (id, what, status) =
                (metadata.text("id"), metadata.text("description"), metadata.text("status"));
            format!("{time} TASK    {what}: {status} ({id})")
        }
        other => format!("{time} {} {metadata}", other.to_uppercase()),
    };
    if event.text("type") != "operation" {
        for (key, value) in metadata["context"].as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            line.push_str(&format!(" {key}={value}"));
        }
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pretty_is_one_line_an_event() {
        let log = json!({"type": "logging", "timestamp": "2026-11-23T20:34:34.508Z",
            "metadata": {"level": "debug", "message": "Started", "context": {"pool": "p"}}});
        assert_eq!(pretty(&log, None).unwrap(), "20:34:34 DEBUG   Started pool=p");
        assert_eq!(pretty(&log, Some(Level::Info)), None);
        let life = json!({"type": "lifecycle", "timestamp": "2026-11-23T20:34:34Z",
            "metadata": {"action": "storage-pool-created", "source": "/1.0/storage-pools/p", "context": null}});
        assert_eq!(
            pretty(&life, None).unwrap(),
            "20:34:34 EVENT   storage-pool-created /1.0/storage-pools/p"
        );
    }
}
