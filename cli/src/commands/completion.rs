//! Completion scripts and man pages, made from the commands themselves.

use super::Cli;
use crate::output;
use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

/// Print a completion script
///
/// For bash: larder completion bash > /etc/bash_completion.d/larder
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

/// Generate files for packages
#[derive(Debug, Subcommand)]
pub(crate) enum GenerateCommand {
    /// Write the man pages of all commands
    Man {
        /// The folder
        folder: PathBuf,
    },
}

pub(crate) fn completion(args: &CompletionArgs) -> Result<()> {
    let shell = match args.shell.as_str() {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => Shell::Bash,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "larder", &mut script);
    output::text(&String::from_utf8(script)?)
}

pub(crate) fn generate(command: GenerateCommand) -> Result<()> {
    let GenerateCommand::Man { folder } = command;
    std::fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    clap_mangen::generate_to(Cli::command(), &folder)
        .with_context(|| format!("can't write man pages to {}", folder.display()))
}
