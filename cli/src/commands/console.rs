//! `larder console`.

use super::Context;
use crate::client::{ApiPath, Body, Change, Client};
use crate::failure::Told;
use crate::output;
use crate::streams::{self, Writer};
use crate::terminal::{self, RawMode};
use anyhow::{Result, bail};
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

/// Attach to the console of an instance; Ctrl-A q detaches
#[derive(Debug, Args)]
pub(crate) struct ConsoleArgs {
    /// The instance
    #[arg(value_name = "[REMOTE:]INSTANCE")]
    instance: String,
    /// Show what the console said so far instead
    #[arg(long)]
    show_log: bool,
    /// Take the console over from somebody else
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(context: &Context, args: ConsoleArgs) -> Result<()> {
    let (client, instance) = context.named(&args.instance, "instance")?;
    if args.show_log {
        return show_log(&client, &instance).await;
    }
    attach_with(context, &client, &instance, args.force).await
}

/// Shows what the console of an instance said so far.
pub(crate) async fn show_log(client: &Client, instance: &str) -> Result<()> {
    let path = ApiPath::of(["instances", instance, "console"]);
    let response = client.download(Method::GET, &path, HeaderMap::new(), Body::empty()).await?;
    let log = response.into_body().collect().await?.to_bytes();
    output::text(&String::from_utf8_lossy(&log))
}

/// Attaches to the console of an instance.
pub(crate) async fn attach(context: &Context, client: &Client, instance: &str) -> Result<()> {
    attach_with(context, client, instance, false).await
}

async fn attach_with(context: &Context, client: &Client, instance: &str, force: bool) -> Result<()> {
    if !terminal::stdin_is_terminal() {
        let hint = format!("to see what it said so far: larder console --show-log {instance}");
        return Err(Told::new("a console needs a terminal", hint).into());
    }
    let (width, height) = terminal::size().unwrap_or((80, 24));
    let mut body = json!({"type": "console", "width": width, "height": height});
    if force {
        body["force"] = json!(true);
    }
    let path = ApiPath::of(["instances", instance, "console"]);
    let Change::Started(operation) = client.change(Method::POST, &path, Some(&body), None).await? else {
        bail!("the server started no operation for the console");
    };
    let _held = context.hold_interrupts();
    let data = client.operation_socket(&operation, "0").await?;
    let (mut control, control_receiver) = client.operation_socket(&operation, "control").await?.split();
    tokio::spawn(streams::drain(control_receiver));
    terminal::notice("To detach from the console, press: Ctrl-A q");
    let raw = RawMode::enter()?;
    let (sender, receiver) = data.split();
    let (input, chunks) = mpsc::channel(16);
    let output = streams::receive_all(receiver, Writer::to(std::io::stdout()));
    let sending = streams::send_all(sender, chunks);
    let detached = until_detached(streams::stdin(), input);
    let mut window = signal(SignalKind::window_change())?;
    tokio::pin!(output, sending, detached);
    let mut sent = None;
    let has_detached = loop {
        tokio::select! {
            () = &mut output => break false,
            () = &mut detached => break true,
            kept = &mut sending, if sent.is_none() => sent = Some(kept),
            _ = window.recv() => if let Some((width, height)) = terminal::size() {
                let args = json!({"width": width.to_string(), "height": height.to_string()});
                let command = json!({"command": "window-resize", "args": args});
                let _ = control.send(Message::Text(command.to_string().into())).await;
            }
        }
    };
    let _ = control.close().await;
    drop(raw);
    terminal::notice("");
    if !has_detached {
        // The server ended it: because the instance stopped, or because there was no console to be had.
        client.wait(&operation).await?;
    }
    Ok(())
}

/// Passes keys on until Ctrl-A q. Ctrl-A a sends Ctrl-A.
async fn until_detached(mut keys: mpsc::Receiver<Vec<u8>>, input: mpsc::Sender<Vec<u8>>) {
    let mut escape = Escape::default();
    while let Some(chunk) = keys.recv().await {
        let (passed, detached) = escape.pass(&chunk);
        if (!passed.is_empty() && input.send(passed).await.is_err()) || detached {
            return;
        }
    }
}

/// Finds Ctrl-A q in what is typed.
#[derive(Debug, Default)]
struct Escape {
    pending: bool,
}

const CTRL_A: u8 = 1;

impl Escape {
    fn pass(&mut self, chunk: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(chunk.len() + 1);
        for &byte in chunk {
            match (self.pending, byte) {
                (true, b'q') => return (passed, true),
                (true, b'a') => passed.push(CTRL_A),
                (true, other) => passed.extend([CTRL_A, other]),
                (false, CTRL_A) => {
                    self.pending = true;
                    continue;
                }
                (false, other) => passed.push(other),
            }
            self.pending = false;
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::Escape;

    #[test]
    fn control_a_q_detaches_and_everything_else_is_passed_on() {
        let mut escape = Escape::default();
        assert_eq!(escape.pass(b"ls\n"), (b"ls\n".to_vec(), false));
        assert_eq!(escape.pass(b"x\x01"), (b"x".to_vec(), false));
        assert_eq!(escape.pass(b"ay"), (b"\x01y".to_vec(), false));
        assert_eq!(escape.pass(b"\x01zq"), (b"\x01zq".to_vec(), false));
        assert_eq!(escape.pass(b"a\x01qb"), (b"a".to_vec(), true));
    }
}
