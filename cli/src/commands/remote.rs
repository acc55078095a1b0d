//! `larder remote`: the servers that can be named before a colon.

use super::Context;
use crate::config::{Protocol, Remote};
use crate::failure::Told;
use crate::fields::Fields;
use crate::output::{self, Column, Format, choose};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// Manage remotes: other servers on this machine, and image servers
#[derive(Debug, Subcommand)]
pub(crate) enum RemoteCommand {
    /// List the remotes
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Add a remote
    Add(AddArgs),
    /// Take a remote away
    #[command(visible_alias = "rm")]
    Remove(NameArgs),
    /// Rename a remote
    #[command(visible_alias = "mv")]
    Rename(RenameArgs),
    /// Change the address of a remote
    SetUrl(UrlArgs),
    /// Show the default remote
    GetDefault,
    /// Make a remote the default
    Switch(NameArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The remote
    remote: String,
}

#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    /// The remote
    remote: String,
    /// Its new name
    new_name: String,
}

#[derive(Debug, Args)]
pub(crate) struct UrlArgs {
    /// The remote
    remote: String,
    /// unix:///path/to/unix.socket, or https://server of images
    url: String,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The name of the remote
    remote: String,
    /// unix:///path/to/unix.socket, or https://server of images
    url: String,
    /// The protocol: larder or simplestreams (default: what the address says)
    #[arg(long, value_parser = ["larder", "simplestreams"])]
    protocol: Option<String>,
    /// It is a public image server
    #[arg(long)]
    public: bool,
}

pub(crate) fn run(context: &Context, command: RemoteCommand) -> Result<()> {
    let mut config = context.config.clone();
    match command {
        RemoteCommand::List(args) => return list(context, &args),
        RemoteCommand::GetDefault => return output::line(config.default_remote()),
        RemoteCommand::Add(args) => config.add(&args.remote, remote(&args)?)?,
        RemoteCommand::Remove(args) => drop(config.remove(&args.remote)?),
        RemoteCommand::Rename(args) => {
            let is_default = config.default_remote() == args.remote;
            if is_default {
                config.switch(crate::config::LOCAL)?;
            }
            let remote = config.remove(&args.remote)?;
            config.add(&args.new_name, remote)?;
            if is_default {
                config.switch(&args.new_name)?;
            }
        }
        RemoteCommand::SetUrl(args) => {
            let remote = config.remote_mut(&args.remote)?;
            if protocol_of(&args.url)? != remote.protocol {
                bail!("{:?} is not the address of a {} remote", args.url, remote.protocol.as_str());
            }
            remote.addr = args.url;
        }
        RemoteCommand::Switch(args) => config.switch(&args.remote)?,
    }
    config.save()
}

/// What an address is spoken to with.
fn protocol_of(url: &str) -> Result<Protocol> {
    if url.strip_prefix("unix:").is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Ok(Protocol::Larder);
    }
    if url.strip_prefix("https://").is_some_and(|host| !host.is_empty()) {
        return Ok(Protocol::Simplestreams);
    }
    Err(Told::new(
        format!("{url:?} is not an address that can be used"),
        "write unix:///path/to/unix.socket for a server on this machine, or https://... for an image server",
    )
    .into())
}

fn remote(args: &AddArgs) -> Result<Remote> {
    let protocol = protocol_of(&args.url)?;
    match args.protocol.as_deref() {
        Some(wanted) if wanted != protocol.as_str() => Err(Told::new(
            format!("the address {:?} doesn't go with the protocol {wanted}", args.url),
            "servers are reached by unix:///path, image servers by https://",
        )
        .into()),
        _ if args.public && protocol == Protocol::Larder => bail!("a socket is no public image server"),
        _ => Ok(Remote { addr: args.url.trim_end_matches('/').to_owned(), protocol, project: None }),
    }
}

fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let default = context.config.default_remote().to_owned();
    let items: Vec<Value> = context
        .config
        .remotes()
        .map(|(name, remote)| {
            json!({
                "name": name,
                "addr": remote.addr,
                "protocol": remote.protocol,
                "project": remote.project,
                "public": remote.protocol == Protocol::Simplestreams,
            })
        })
        .collect();
    let name = move |remote: &Value| {
        let name = remote.text("name");
        if name == default { format!("{name} (current)") } else { name.to_owned() }
    };
    let columns = vec![
        Column::new('n', "NAME", name),
        Column::new('u', "URL", |remote| remote.text("addr").to_owned()),
        Column::new('p', "PROTOCOL", |remote| remote.text("protocol").to_owned()),
        Column::new('P', "PUBLIC", |remote| if remote.is("public") { "YES" } else { "NO" }.to_owned()),
        Column::new('e', "PROJECT", |remote| remote.text("project").to_owned()),
    ];
    output::list(args.format, &choose(columns, "nupPe")?, &items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_says_the_protocol() {
        assert_eq!(protocol_of("unix:///run/x").unwrap(), Protocol::Larder);
        assert_eq!(protocol_of("https://images.example.org").unwrap(), Protocol::Simplestreams);
        for bad in ["http://x", "x", "unix:x", "https://", ""] {
            assert!(protocol_of(bad).is_err(), "{bad:?}");
        }
    }
}
