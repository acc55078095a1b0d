//! The commands, one file each.

mod account;
mod admin;
mod backup;
mod bucket;
mod bucket_key;
mod bucket_repair;
mod bucket_snapshot;
mod completion;
mod config;
mod console;
mod context;
mod copy;
mod create;
mod delete;
mod device;
mod exec;
mod file;
mod file_tree;
mod image;
mod image_alias;
mod image_copy;
mod image_files;
mod image_info;
mod image_transfer;
mod info;
mod list;
mod monitor;
mod operation;
mod preseed;
mod preseed_dump;
mod profile;
mod project;
mod publish;
mod query;
mod remote;
mod rename;
mod resource;
mod snapshot;
mod state;
mod storage;
mod transfer;
mod version;
mod volume;
mod volume_copy;
mod volume_list;
mod volume_snapshot;
mod warning;

pub(crate) use context::{Context, Finished};

use crate::config::{Config, Environment};
use crate::failure;
use anyhow::{Context as _, Result};
use clap::{ArgAction, Args, Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// Keeps storage pools, volumes and images, and runs instances from them
///
/// Names may be preceded by the name of a remote and a colon, as in local:c1 or images:alpine/3.22.
#[derive(Debug, Parser)]
#[command(name = "larder", version, propagate_version = false, infer_long_args = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The flags every command takes.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// The project to work in
    #[arg(long, global = true, value_name = "PROJECT", help_heading = "Global options")]
    pub(crate) project: Option<String>,
    /// Show no progress and no messages about what was done
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub(crate) quiet: bool,
    /// Show requests as they are made
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub(crate) verbose: u8,
    /// Show requests as they are made
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) debug: bool,
    /// Use this machine's server, whatever remote is named
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) force_local: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Launch(create::LaunchArgs),
    Init(create::InitArgs),
    List(list::ListArgs),
    Info(info::InfoArgs),
    Start(state::StartArgs),
    Stop(state::StopArgs),
    Restart(state::RestartArgs),
    Pause(state::PauseArgs),
    Resume(state::ResumeArgs),
    Exec(exec::ExecArgs),
    Console(console::ConsoleArgs),
    #[command(subcommand)]
    File(file::FileCommand),
    Copy(copy::CopyArgs),
    Move(copy::MoveArgs),
    Rename(rename::RenameArgs),
    Delete(delete::DeleteArgs),
    Snapshot(snapshot::SnapshotArgs),
    Restore(snapshot::RestoreArgs),
    Publish(publish::PublishArgs),
    Export(backup::ExportArgs),
    Import(backup::ImportArgs),
    #[command(subcommand)]
    Config(config::ConfigCommand),
    #[command(subcommand)]
    Profile(profile::ProfileCommand),
    #[command(subcommand)]
    Image(image::ImageCommand),
    #[command(subcommand)]
    Storage(storage::StorageCommand),
    #[command(subcommand)]
    Project(project::ProjectCommand),
    #[command(subcommand)]
    Operation(operation::OperationCommand),
    #[command(subcommand)]
    Warning(warning::WarningCommand),
    Monitor(monitor::MonitorArgs),
    Query(query::QueryArgs),
    #[command(subcommand)]
    Remote(remote::RemoteCommand),
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    Version(version::VersionArgs),
    Completion(completion::CompletionArgs),
    #[command(subcommand, hide = true)]
    Generate(completion::GenerateCommand),
}

/// Runs the program and returns its exit code: 0, 1 for a failure, 2 for a wrong call, 130 after Ctrl-C, or
/// that of the command `exec` ran.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match block_on(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::tell(&error),
    }
}

fn block_on(cli: Cli) -> Result<()> {
    let context = Context::new(Config::load(Environment::read())?, cli.global);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the runtime")?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = Box::pin(dispatch(&context, cli.command)) => result,
            () = context.interrupted() => Err(failure::Exit(failure::INTERRUPTED).into()),
        }
    });
    // A thread that still reads the terminal must not keep us.
    runtime.shutdown_background();
    result
}

async fn dispatch(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::Launch(args) => create::launch(context, args).await,
        Command::Init(args) => create::init(context, args).await,
        Command::List(args) => list::run(context, args).await,
        Command::Info(args) => info::run(context, args).await,
        Command::Start(args) => state::start(context, args).await,
        Command::Stop(args) => state::stop(context, args).await,
        Command::Restart(args) => state::restart(context, args).await,
        Command::Pause(args) => state::pause(context, args).await,
        Command::Resume(args) => state::resume(context, args).await,
        Command::Exec(args) => exec::run(context, args).await,
        Command::Console(args) => console::run(context, args).await,
        Command::File(command) => file::run(context, command).await,
        Command::Copy(args) => copy::copy(context, args).await,
        Command::Move(args) => copy::r#move(context, args).await,
        Command::Rename(args) => rename::run(context, args).await,
        Command::Delete(args) => delete::run(context, args).await,
        Command::Snapshot(args) => snapshot::run(context, args).await,
        Command::Restore(args) => snapshot::restore(context, args).await,
        Command::Publish(args) => publish::run(context, args).await,
        Command::Export(args) => backup::export(context, args).await,
        Command::Import(args) => backup::import(context, args).await,
        Command::Config(command) => config::run(context, command).await,
        Command::Profile(command) => profile::run(context, command).await,
        Command::Image(command) => image::run(context, command).await,
        Command::Storage(command) => storage::run(context, command).await,
        Command::Project(command) => project::run(context, command).await,
        Command::Operation(command) => operation::run(context, command).await,
        Command::Warning(command) => warning::run(context, command).await,
        Command::Monitor(args) => monitor::run(context, args).await,
        Command::Query(args) => query::run(context, args).await,
        Command::Remote(command) => remote::run(context, command),
        Command::Admin(command) => admin::run(context, command).await,
        Command::Version(args) => version::run(context, args).await,
        Command::Completion(args) => completion::completion(&args),
        Command::Generate(command) => completion::generate(command),
    }
}

#[cfg(test)]
mod tests;
