//! `larder exec`.

use super::Context;
use crate::client::{ApiPath, Change, Client, ClientError, Operation};
use crate::failure::Exit;
use crate::fields::pair;
use crate::streams::{self, Sender, Writer};
use crate::terminal::{self, RawMode};
use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use futures_util::{SinkExt, StreamExt};
use http::Method;
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_tungstenite::tungstenite::Message;

/// Run a command in an instance
///
/// The command is run as it is, without a shell. The exit code is that of the command.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// The instance
    #[arg(value_name = "[REMOTE:]INSTANCE")]
    instance: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// An environment variable; may be given more than once
    #[arg(long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,
    /// The folder to run the command in
    #[arg(long)]
    cwd: Option<String>,
    /// The user id to run the command as
    #[arg(long)]
    user: Option<u32>,
    /// The group id to run the command as
    #[arg(long)]
    group: Option<u32>,
    /// Whether the command gets a terminal
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    mode: Mode,
    /// Give the command a terminal (short for --mode=interactive)
    #[arg(short = 't', long, conflicts_with = "force_noninteractive")]
    force_interactive: bool,
    /// Give the command no terminal (short for --mode=non-interactive)
    #[arg(short = 'T', long)]
    force_noninteractive: bool,
    /// Give the command nothing to read
    #[arg(short = 'n', long)]
    disable_stdin: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// A terminal when standard input and output are terminals
    Auto,
    /// A terminal
    Interactive,
    /// No terminal
    NonInteractive,
}

impl ExecArgs {
    fn is_interactive(&self) -> bool {
        match self.mode {
            _ if self.force_interactive => true,
            _ if self.force_noninteractive => false,
            Mode::Interactive => true,
            Mode::NonInteractive => false,
            Mode::Auto => {
                terminal::stdin_is_terminal() && terminal::stdout_is_terminal() && !self.disable_stdin
            }
        }
    }

    fn body(&self, interactive: bool) -> Result<Value> {
        let mut environment = Map::new();
        if let Some(term) = std::env::var("TERM").ok().filter(|_| interactive) {
            environment.insert("TERM".to_owned(), json!(term));
        }
        for variable in &self.environment {
            let (name, value) = pair(variable)?;
            environment.insert(name, json!(value));
        }
        let mut body = json!({
            "command": self.command,
            "environment": environment,
            "wait-for-websocket": true,
            "interactive": interactive,
        });
        if let (true, Some((width, height))) = (interactive, terminal::size()) {
            body["width"] = json!(width);
            body["height"] = json!(height);
        }
        for (field, id) in [("user", self.user), ("group", self.group)] {
            if let Some(id) = id {
                body[field] = json!(id);
            }
        }
        if let Some(folder) = &self.cwd {
            body["cwd"] = json!(folder);
        }
        Ok(body)
    }
}

pub(crate) async fn run(context: &Context, args: ExecArgs) -> Result<()> {
    let (client, instance) = context.named(&args.instance, "instance")?;
    let interactive = args.is_interactive();
    let path = ApiPath::of(["instances", instance.as_str(), "exec"]);
    let change = client.change(Method::POST, &path, Some(&args.body(interactive)?), None).await?;
    let Change::Started(operation) = change else { bail!("the server started no operation for the command") };
    let _held = context.hold_interrupts();
    let raw = if interactive && terminal::stdin_is_terminal() { Some(RawMode::enter()?) } else { None };
    let session = Session { client: &client, operation: &operation };
    let ended =
        if interactive { session.interactive().await } else { session.pipes(args.disable_stdin).await };
    // The terminal is put right before anything is said on it.
    drop(raw);
    exit_code(ended?)
}

/// The exit code the command left behind; what went wrong before it ran is told too.
fn exit_code(operation: Operation) -> Result<()> {
    match operation.metadata["return"].as_u64() {
        Some(0) if operation.err.is_empty() => Ok(()),
        Some(code @ 1..) => {
            if !operation.err.is_empty() {
                terminal::notice(&format!("Error: {}", operation.err));
            }
            Err(Exit(u8::try_from(code).unwrap_or(1)).into())
        }
        _ => Ok(operation.into_result().map(drop)?),
    }
}

/// How long output may still come after the command has ended.
const LAST_OUTPUT: Duration = Duration::from_secs(5);

struct Session<'a> {
    client: &'a Client,
    operation: &'a Operation,
}

impl Session<'_> {
    async fn interactive(&self) -> Result<Operation> {
        let data = self.client.operation_socket(self.operation, "0").await?;
        let control = self.client.operation_socket(self.operation, "control").await?;
        let (sender, receiver) = data.split();
        let (control, control_receiver) = control.split();
        tokio::spawn(streams::drain(control_receiver));
        let input = streams::send_all(sender, streams::stdin());
        let output = streams::receive_all(receiver, Writer::to(std::io::stdout()));
        self.until_end(input, output, control, true).await
    }

    async fn pipes(&self, without_stdin: bool) -> Result<Operation> {
        let stdin = self.client.operation_socket(self.operation, "0").await?;
        let stdout = self.client.operation_socket(self.operation, "1").await?;
        let stderr = self.client.operation_socket(self.operation, "2").await?;
        let control = self.client.operation_socket(self.operation, "control").await?;
        let (control, control_receiver) = control.split();
        tokio::spawn(streams::drain(control_receiver));
        let (sender, receiver) = stdin.split();
        tokio::spawn(streams::drain(receiver));
        let chunks = if without_stdin { tokio::sync::mpsc::channel(1).1 } else { streams::stdin() };
        let input = streams::send_all(sender, chunks);
        let output = async {
            let (_, stdout) = stdout.split();
            let (_, stderr) = stderr.split();
            tokio::join!(
                streams::receive_all(stdout, Writer::to(std::io::stdout())),
                streams::receive_all(stderr, Writer::to(std::io::stderr())),
            );
        };
        self.until_end(input, output, control, false).await
    }

    /// Carries input, output and signals until the command has ended and its output is written.
    async fn until_end(
        &self,
        input: impl Future<Output = Sender>,
        output: impl Future<Output = ()>,
        control: Sender,
        interactive: bool,
    ) -> Result<Operation> {
        let signals = forward_signals(control, interactive);
        tokio::pin!(input, output, signals);
        // The ends of input are kept: dropping a half would close what the other half still uses.
        let mut sender = None;
        let mut output_ended = false;
        let wait = self.client.wait_for_end(self.operation);
        tokio::pin!(wait);
        let ended = loop {
            tokio::select! {
                ended = &mut wait => break ended,
                kept = &mut input, if sender.is_none() => sender = Some(kept),
                () = &mut output, if !output_ended => output_ended = true,
                failed = &mut signals => { failed?; }
            }
        };
        if !output_ended {
            let _ = tokio::time::timeout(LAST_OUTPUT, output).await;
        }
        match ended {
            Ok(operation) => Ok(operation),
            Err(ClientError::Refused { status: 404, .. }) => {
                bail!("the command ended, but its exit code is lost")
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Sends the signals we get to the command, and the size of the window when it changes. Never ends by itself.
async fn forward_signals(mut control: Sender, interactive: bool) -> Result<()> {
    let listen = |kind| signal(kind).context("can't listen for signals");
    let mut window = listen(SignalKind::window_change())?;
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::quit(),
        SignalKind::hangup(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ];
    let mut signals = Vec::new();
    for kind in kinds {
        signals.push((kind.as_raw_value(), listen(kind)?));
    }
    loop {
        let command = tokio::select! {
            _ = window.recv(), if interactive => match terminal::size() {
                Some((width, height)) => json!({
                    "command": "window-resize",
                    "args": {"width": width.to_string(), "height": height.to_string()},
                }),
                None => continue,
            },
            number = any_of(&mut signals) => json!({"command": "signal", "signal": number}),
        };
        // A command that has just ended takes no signal; its end is what we wait for anyway.
        let _ = control.send(Message::Text(command.to_string().into())).await;
    }
}

async fn any_of(signals: &mut [(i32, Signal)]) -> i32 {
    let waiting = signals.iter_mut().map(|(number, signal)| {
        Box::pin(async move {
            signal.recv().await;
            *number
        })
    });
    futures_util::future::select_all(waiting).await.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(metadata: Value, err: &str, status_code: u16) -> Result<()> {
        exit_code(Operation { metadata, err: err.to_owned(), status_code, ..Operation::default() })
    }

    #[test]
    fn the_exit_code_is_that_of_the_command() {
        assert!(ended(json!({"return": 0}), "", 200).is_ok());
        let code = |result: Result<()>| result.unwrap_err().downcast_ref::<Exit>().map(|exit| exit.0);
        assert_eq!(code(ended(json!({"return": 3}), "", 200)), Some(3));
        assert_eq!(code(ended(json!({"return": 127}), "Command not found", 400)), Some(127));
        assert_eq!(code(ended(json!({}), "the instance stopped", 400)), None);
    }
}
