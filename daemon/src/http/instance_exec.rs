//! `POST /1.0/instances/{name}/exec`: a command with its streams on websockets.

use super::glue::{App, Body, about, accepted, blocking};
use super::instances::find;
use super::{Query, Reply};
use crate::operations::{Operation, Outcome};
use crate::service::{Result, Service, ServiceError, instance_url};
use axum::extract::ws::{Message, WebSocket};
use axum::extract::{Path, State};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use larder_api::{InstanceExecControl, InstanceExecPost, Metadata};
use larder_catalog::documents::Instance;
use larder_runtime::container::ExecControl;
use larder_runtime::{Exec, ExecSession, ExecStreams, Stdio};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

/// How long a client may take to connect its websockets.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// How long what a command has written may take to come after its end, when somebody it started keeps the stream open.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a client may take to answer the end of a websocket.
const FAREWELL: Duration = Duration::from_secs(1);
const CHUNK: usize = 32 << 10;
const KILL: i32 = 9;

type Arrivals = BTreeMap<String, oneshot::Receiver<WebSocket>>;

/// POST `/1.0/instances/{name}/exec`.
pub(crate) async fn post(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    Body(body): Body<InstanceExecPost>,
) -> Reply {
    if body.record_output {
        return Err(ServiceError::not_implemented("recording the output of a command").into());
    }
    if body.command.is_empty() {
        return Err(ServiceError::bad("there is no command to run: give one").into());
    }
    let instance = find(&app, &query, name).await?;
    let checked = instance.clone();
    blocking(&app, move |service| service.must_be_up(&checked)).await?;
    let exec = exec_of(&body);
    let wanted = about(&query, "Executing command", "instances", &instance_url(&instance));
    let service = Arc::clone(&app.service);
    if !body.wait_for_websocket {
        let operation =
            app.operations.start(&service, wanted, move |service, _| unheard(service, &instance, exec));
        return accepted(&*operation.map_err(super::ApiError::from)?);
    }
    let names: &[&str] = if body.interactive { &["0", "control"] } else { &["0", "1", "2", "control"] };
    let operation = app.operations.start_with_sockets(wanted, names, |own, arrivals, _| {
        converse(service, own, instance, exec, arrivals)
    });
    accepted(&*operation.map_err(super::ApiError::from)?)
}

fn exec_of(body: &InstanceExecPost) -> Exec {
    let mut environment = body.environment.clone();
    if body.interactive {
        environment.entry("TERM".to_owned()).or_insert_with(|| "xterm".to_owned());
    }
    let size = |wanted: u16, usual: u16| if wanted == 0 { usual } else { wanted };
    Exec {
        command: body.command.clone(),
        environment,
        user: body.user,
        group: body.group,
        directory: (!body.cwd.is_empty()).then(|| body.cwd.clone()),
        stdio: match body.interactive {
            true => Stdio::Pty { width: size(body.width, 80), height: size(body.height, 24) },
            false => Stdio::Pipes,
        },
    }
}

fn returned(code: i32) -> Metadata {
    Metadata::from_iter([("return".to_owned(), json!(code))])
}

/// Runs a command whose output nobody wants.
fn unheard(service: &Service, instance: &Instance, exec: Exec) -> Result<Metadata> {
    let exec = Exec { stdio: Stdio::Pipes, ..exec };
    let ExecSession { streams, control: _control, ended } = service.exec_in(instance, exec)?;
    if let ExecStreams::Pipes { stdin, stdout, stderr } = streams {
        drop(stdin);
        for stream in [stdout, stderr] {
            // Ends with the command: nothing waits for it.
            std::thread::spawn(move || io::copy(&mut std::fs::File::from(stream), &mut io::sink()));
        }
    }
    Ok(returned(ended.wait()?))
}

/// Waits for the websockets, runs the command, and carries its streams.
async fn converse(
    service: Arc<Service>,
    own: Arc<Operation>,
    instance: Instance,
    exec: Exec,
    mut arrivals: Arrivals,
) -> Result<Outcome> {
    let control = arrivals.remove("control");
    let mut sockets = Vec::new();
    for (name, arrival) in arrivals {
        let arrived = tokio::time::timeout(CONNECT, arrival).await;
        let late = || {
            ServiceError::bad(format!(
                "nobody connected the websocket {name:?} within {} s",
                CONNECT.as_secs()
            ))
        };
        sockets.push(arrived.ok().and_then(std::result::Result::ok).ok_or_else(late)?);
    }
    let started = tokio::task::spawn_blocking(move || service.exec_in(&instance, exec)).await;
    let session = started.map_err(|_| ServiceError::internal("starting the command panicked"))?;
    let ExecSession { streams, control: command, ended } = session?;
    let killer = command.clone();
    let listener = control.map(|control| tokio::spawn(obey(control, command)));
    let stopper = tokio::spawn(async move {
        own.asked_to_stop().await;
        kill(&killer);
    });
    let mut end = tokio::task::spawn_blocking(move || ended.wait());
    let mut carriers = carry(streams, sockets)?;
    let ended = (&mut end).await;
    let code = ended.map_err(|_| ServiceError::internal("waiting for the command panicked"))??;
    stopper.abort();
    for output in &mut carriers.outputs {
        // A child that lives on may keep the stream open for ever: only as long as something comes.
        let mut before = carriers.carried.load(Ordering::Relaxed);
        while tokio::time::timeout(LAST_WORDS, &mut *output).await.is_err() {
            let now = carriers.carried.load(Ordering::Relaxed);
            if now == before {
                output.abort();
                break;
            }
            before = now;
        }
    }
    carriers.input.abort();
    if let Some(listener) = listener {
        listener.abort();
    }
    Ok(Outcome(returned(code)))
}

/// The tasks that carry streams.
struct Carriers {
    input: tokio::task::JoinHandle<()>,
    outputs: Vec<tokio::task::JoinHandle<()>>,
    /// Bytes of output that have gone out.
    carried: Arc<AtomicU64>,
}

fn carry(streams: ExecStreams, sockets: Vec<WebSocket>) -> Result<Carriers> {
    let carried = Arc::new(AtomicU64::new(0));
    let mut sockets = sockets.into_iter();
    let mut next = || sockets.next().ok_or_else(|| ServiceError::internal("a websocket is missing"));
    match streams {
        ExecStreams::Pty(master) => {
            let writer = Stream::of(master.try_clone()?)?;
            let (sink, source) = next()?.split();
            let master = Stream::of(master)?;
            let count = Arc::clone(&carried);
            let output = tokio::spawn(async move { drop(speak(master, sink, count).await) });
            Ok(Carriers {
                input: tokio::spawn(listen(source, writer, false)),
                outputs: vec![output],
                carried,
            })
        }
        ExecStreams::Pipes { stdin, stdout, stderr } => {
            let (sink, source) = next()?.split();
            let input = tokio::spawn(async move {
                listen(source, Stream::of_result(stdin), true).await;
                // Until here: dropping one half closes the socket.
                drop(sink);
            });
            let mut outputs = Vec::new();
            for stream in [stdout, stderr] {
                let (sink, source) = next()?.split();
                let (stream, count) = (Stream::of(stream)?, Arc::clone(&carried));
                outputs.push(tokio::spawn(async move {
                    let sink = speak(stream, sink, count).await;
                    // The command's end does not wait for it: a client may have gone without an answer.
                    tokio::spawn(part(sink, source));
                }));
            }
            Ok(Carriers { input, outputs, carried })
        }
    }
}

/// A stream of a command, never blocking.
pub(super) struct Stream(Option<AsyncFd<std::fs::File>>);

impl Stream {
    pub(super) fn of(descriptor: OwnedFd) -> Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true).map_err(io::Error::from)?;
        // SAFETY: the file owns its descriptor for as long as it is registered.
        let registered = unsafe { AsyncFd::register(std::fs::File::from(descriptor)) };
        Ok(Self(Some(registered.map_err(io::Error::from)?)))
    }

    fn of_result(descriptor: OwnedFd) -> Self {
        Self::of(descriptor).unwrap_or(Self(None))
    }

    /// The next bytes; none at the end. A terminal that nobody has open any more ends with an error.
    async fn read(&self, buffer: &mut [u8]) -> Option<usize> {
        let file = self.0.as_ref()?;
        loop {
            let mut ready = file.readable().await.ok()?;
            match ready.try_io(|file| file.get_ref().read(buffer)) {
                Ok(Ok(0) | Err(_)) => return None,
                Ok(Ok(read)) => return Some(read),
                Err(_) => {}
            }
        }
    }

    async fn write(&self, mut bytes: &[u8]) -> Option<()> {
        let file = self.0.as_ref()?;
        while !bytes.is_empty() {
            let mut ready = file.writable().await.ok()?;
            match ready.try_io(|file| file.get_ref().write(bytes)) {
                Ok(Ok(written)) => bytes = &bytes[written..],
                Ok(Err(_)) => return None,
                Err(_) => {}
            }
        }
        Some(())
    }
}

/// Carries what a command writes; an empty text message is the end of it.
pub(super) async fn speak(
    stream: Stream,
    mut sink: SplitSink<WebSocket, Message>,
    carried: Arc<AtomicU64>,
) -> SplitSink<WebSocket, Message> {
    let mut buffer = vec![0; CHUNK];
    while let Some(read) = stream.read(&mut buffer).await {
        if sink.send(Message::Binary(buffer[..read].to_vec().into())).await.is_err() {
            return sink;
        }
        carried.fetch_add(read as u64, Ordering::Relaxed);
    }
    // The one at the other end may be gone already.
    let _ = sink.send(Message::Text(String::new().into())).await;
    let _ = sink.send(Message::Close(None)).await;
    sink
}

/// Keeps a websocket that has been told its end until the client has answered.
async fn part(sink: SplitSink<WebSocket, Message>, mut source: SplitStream<WebSocket>) {
    let answered =
        async { while !matches!(source.next().await, None | Some(Err(_) | Ok(Message::Close(_)))) {} };
    let _ = tokio::time::timeout(FAREWELL, answered).await;
    drop(sink);
}

/// Carries what a client writes, until its end.
pub(super) async fn listen(mut source: SplitStream<WebSocket>, stream: Stream, ends_with_barrier: bool) {
    while let Some(Ok(message)) = source.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) if text.is_empty() && ends_with_barrier => return,
            Message::Text(text) => text.into(),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        if stream.write(&bytes).await.is_none() {
            return;
        }
    }
}

/// Obeys the control socket. One that is closed before the command's end kills it.
async fn obey(control: oneshot::Receiver<WebSocket>, command: ExecControl) {
    let Ok(mut socket) = control.await else { return };
    while let Some(Ok(message)) = socket.recv().await {
        let text = match message {
            Message::Text(text) => text.to_string(),
            Message::Binary(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        let Ok(wanted) = serde_json::from_str::<InstanceExecControl>(&text) else { continue };
        let outcome = match wanted.command.as_str() {
            "window-resize" => {
                let number =
                    |key: &str| wanted.args.get(key).and_then(|value| value.parse().ok()).unwrap_or(0);
                command.resize(number("width"), number("height"))
            }
            "signal" => command.signal(i32::try_from(wanted.signal).unwrap_or(0)),
            _ => Ok(()),
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, command = wanted.command, "a command was not told");
        }
    }
    kill(&command);
}

fn kill(command: &ExecControl) {
    if let Err(error) = command.signal(KILL) {
        tracing::debug!(%error, "the command had ended");
    }
}
