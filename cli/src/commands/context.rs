//! What every command has at hand: the remotes, the global flags, and the way to follow an operation.

use super::Global;
use crate::client::{ApiPath, Change, Client, ClientError, Events, Fetched, Operation, Trace, Watcher, Wish};
use crate::config::{Config, LOCAL, Protocol};
use crate::output::{Bar, progress_text};
use crate::terminal;
use anyhow::{Context as _, Result, bail};
use http::Method;
use serde_json::Value;
use std::cell::Cell;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The world of one command.
#[derive(Debug)]
pub(crate) struct Context {
    /// Remotes and defaults.
    pub(crate) config: Config,
    /// The flags every command takes.
    pub(crate) global: Global,
    /// How many are there who deal with Ctrl-C themselves.
    holders: Cell<usize>,
}

/// Somebody deals with Ctrl-C; until this is dropped it doesn't end the program.
#[derive(Debug)]
pub(crate) struct Held<'a>(&'a Cell<usize>);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// How a change ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// What the server tells about it.
    pub(crate) metadata: Value,
    /// The operation, when there was one.
    pub(crate) operation: Option<Operation>,
}

impl Context {
    /// The world as configuration and flags have it.
    pub(crate) fn new(config: Config, global: Global) -> Self {
        Self { config, global, holders: Cell::new(0) }
    }

    /// Takes Ctrl-C over.
    pub(crate) fn hold_interrupts(&self) -> Held<'_> {
        self.holders.set(self.holders.get() + 1);
        Held(&self.holders)
    }

    /// Pends until Ctrl-C is pressed while nobody deals with it.
    pub(crate) async fn interrupted(&self) {
        let Ok(mut signal) = signal(SignalKind::interrupt()) else { return std::future::pending().await };
        loop {
            signal.recv().await;
            if self.holders.get() == 0 {
                return;
            }
        }
    }

    /// A client for a remote.
    pub(crate) fn client(&self, remote: &str) -> Result<Client> {
        let trace = (self.global.debug || self.global.verbose > 0).then(|| Trace::to(terminal::notice));
        self.config.client(self.remote_name(remote), self.global.project.clone(), trace)
    }

    fn remote_name<'a>(&self, remote: &'a str) -> &'a str {
        if self.global.force_local { LOCAL } else { remote }
    }

    /// A client and the name behind `remote:`; the name may be empty.
    pub(crate) fn target(&self, text: &str) -> Result<(Client, String)> {
        let (remote, name) = self.config.split(text)?;
        Ok((self.client(remote)?, name.to_owned()))
    }

    /// The same, and the name must not be empty.
    pub(crate) fn named(&self, text: &str, what: &str) -> Result<(Client, String)> {
        let (client, name) = self.target(text)?;
        if name.is_empty() {
            bail!("the name of the {what} is missing in {text:?}");
        }
        Ok((client, name))
    }

    /// A client for an optional `remote:` and nothing behind it.
    pub(crate) fn optional(&self, text: Option<&str>) -> Result<Client> {
        match text {
            None => self.client(self.config.default_remote()),
            Some(text) => {
                let (client, name) = self.target(text)?;
                if !name.is_empty() {
                    bail!("expected a remote such as local: and nothing behind it, not {text:?}");
                }
                Ok(client)
            }
        }
    }

    /// Whether two texts name the same server.
    pub(crate) fn same_server(&self, one: &str, other: &str) -> Result<bool> {
        Ok(self.remote_name(self.config.split(one)?.0) == self.remote_name(self.config.split(other)?.0))
    }

    /// Whether `remote:` in a text is an image server.
    pub(crate) fn is_image_server(&self, text: &str) -> Result<bool> {
        Ok(self.config.remote(self.config.split(text)?.0)?.protocol == Protocol::Simplestreams)
    }

    /// A progress line for this command.
    pub(crate) fn bar(&self, what: &str) -> Bar {
        Bar::doing(what, self.global.quiet)
    }

    /// Says what was done, unless quiet.
    pub(crate) fn done(&self, text: &str) -> Result<()> {
        if self.global.quiet { Ok(()) } else { crate::output::line(text) }
    }

    /// Sends a change and, when it becomes an operation, follows it to its end with progress. Ctrl-C cancels
    /// the operation.
    pub(crate) async fn change(
        &self,
        client: &Client,
        doing: &str,
        method: Method,
        path: &ApiPath,
        body: Option<Value>,
    ) -> Result<Finished> {
        let bar = self.bar(doing);
        let mut events = self.watch(client, &bar).await;
        let change = client.change(method, path, body.as_ref(), None).await?;
        self.finish(client, change, bar, &mut events).await
    }

    /// Changes an object only if it still is the one that was read.
    pub(crate) async fn replace(
        &self,
        client: &Client,
        doing: &str,
        path: &ApiPath,
        body: &Value,
        read: &Fetched,
    ) -> Result<Finished> {
        let bar = self.bar(doing);
        let mut events = self.watch(client, &bar).await;
        let change = client.change(Method::PUT, path, Some(body), read.etag.as_deref()).await?;
        self.finish(client, change, bar, &mut events).await
    }

    /// Events are only for progress, so they are subscribed to (before the request, or the first are missed)
    /// only when somebody looks, and it is no failure when that doesn't work.
    pub(crate) async fn watch(&self, client: &Client, bar: &Bar) -> Option<Events> {
        if bar.is_visible() { client.events("operation", false).await.ok() } else { None }
    }

    /// Follows a change that was sent to its end.
    pub(crate) async fn finish(
        &self,
        client: &Client,
        change: Change,
        bar: Bar,
        events: &mut Option<Events>,
    ) -> Result<Finished> {
        match change {
            Change::Done { metadata } => Ok(Finished { metadata, operation: None }),
            Change::Started(operation) => {
                let _held = self.hold_interrupts();
                let signal = signal(SignalKind::interrupt()).context("can't listen for Ctrl-C")?;
                let mut person = Person { bar, signal, asked: 0 };
                let operation = client.follow(&operation, events, &mut person).await?;
                Ok(Finished { metadata: operation.metadata.clone(), operation: Some(operation) })
            }
        }
    }
}

/// The one at the terminal.
struct Person {
    bar: Bar,
    signal: Signal,
    asked: usize,
}

impl Watcher for Person {
    fn changed(&mut self, operation: &Operation) {
        if let Some(text) = progress_text(&operation.metadata) {
            self.bar.say(&text);
        }
    }

    async fn wish(&mut self) -> Wish {
        self.signal.recv().await;
        self.asked += 1;
        if self.asked == 1 { Wish::Cancel } else { Wish::Leave }
    }

    fn cancelling(&mut self, answer: Result<(), ClientError>) {
        match answer {
            Ok(()) => self.bar.note("Cancelling..."),
            Err(error) => {
                self.bar.note(&format!("Can't cancel: {error}. Press Ctrl-C again to leave it running."));
            }
        }
    }
}
