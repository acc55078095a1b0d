//! `larder version`.

use super::Context;
use crate::fields::Fields;
use crate::output;
use anyhow::Result;
use clap::Args;

/// Show the versions of the client and of the server
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// A remote, as in local:
    remote: Option<String>,
}

pub(crate) async fn run(context: &Context, args: VersionArgs) -> Result<()> {
    output::line(&format!("Client version: {}", env!("CARGO_PKG_VERSION")))?;
    let client = context.optional(args.remote.as_deref())?;
    // A client without a server has a version too, so that one is told and no failure.
    let server = match client.server().await {
        Ok(server) => server["environment"].text("server_version").to_owned(),
        Err(error) => format!("unreachable ({error})"),
    };
    output::line(&format!("Server version: {server}"))
}
