//! `POST /1.0/instances/{name}/console`: the console of a running instance on a websocket.

use super::glue::{App, Body, about, accepted, blocking};
use super::instance_exec::{CONNECT, Stream, listen, speak};
use super::instances::find;
use super::{ApiError, Query, Reply};
use crate::operations::{Operation, Outcome};
use crate::service::{Result, Service, ServiceError, instance_url};
use axum::extract::ws::{Message, WebSocket};
use axum::extract::{Path, State};
use futures_util::StreamExt;
use larder_api::{InstanceConsolePost, InstanceExecControl};
use larder_catalog::documents::Instance;
use rustix::termios::{Winsize, tcsetwinsize};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What the operations are called that have a console.
const DESCRIPTION: &str = "Showing console";

/// POST `/1.0/instances/{name}/console`; with `force` it is taken from who has it.
pub(crate) async fn post(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    Body(body): Body<InstanceConsolePost>,
) -> Reply {
    if !matches!(body.kind.as_str(), "" | "console") {
        return Err(ServiceError::not_implemented(format!("a console of type {:?}", body.kind)).into());
    }
    let instance = find(&app, &query, name).await?;
    let checked = instance.clone();
    blocking(&app, move |service| service.must_be_up(&checked)).await?;
    let url = instance_url(&instance);
    if body.force {
        take_away(&app, &url).await;
    }
    let wanted = about(&query, DESCRIPTION, "instances", &url);
    let service = Arc::clone(&app.service);
    let size = (body.width, body.height);
    let operation = app.operations.start_with_sockets(wanted, &["0", "control"], |own, arrivals, _| {
        converse(service, own, instance, size, arrivals)
    });
    accepted(&*operation.map_err(ApiError::from)?)
}

/// Ends the sessions that have the console of an instance.
async fn take_away(app: &App, url: &str) {
    for operation in app.operations.running(DESCRIPTION, url) {
        // One that has ended meanwhile is fine, and one that does not end keeps the console.
        let _ = app.operations.cancel(&operation);
        let _ = tokio::time::timeout(CONNECT, operation.ended()).await;
    }
}

async fn converse(
    service: Arc<Service>,
    own: Arc<Operation>,
    instance: Instance,
    (width, height): (u16, u16),
    mut arrivals: BTreeMap<String, oneshot::Receiver<WebSocket>>,
) -> Result<Outcome> {
    let control = arrivals.remove("control");
    let arrival =
        arrivals.remove("0").ok_or_else(|| ServiceError::internal("the console has no websocket"))?;
    let arrived = tokio::time::timeout(CONNECT, arrival).await;
    let late = || ServiceError::bad(format!("nobody connected the console within {} s", CONNECT.as_secs()));
    let socket = arrived.ok().and_then(std::result::Result::ok).ok_or_else(late)?;
    let taken = tokio::task::spawn_blocking(move || service.console_of(&instance)).await;
    let console = taken.map_err(|_| ServiceError::internal("taking the console panicked"))??;
    // The console is ours for as long as the keeper is open.
    let (master, _keeper) = console.into_parts();
    resize(&master, width, height);
    let sizes = master.try_clone()?;
    let listener = control.map(|control| tokio::spawn(obey(control, sizes)));
    let (sink, source) = socket.split();
    let writer = Stream::of(master.try_clone()?)?;
    let mut output = tokio::spawn(speak(Stream::of(master)?, sink, Arc::default()));
    let mut input = tokio::spawn(listen(source, writer, false));
    // Whoever goes first, the client or the instance, ends it; so does a cancel.
    tokio::select! {
        _ = &mut output => {}
        _ = &mut input => {}
        () = own.asked_to_stop() => {}
    }
    output.abort();
    input.abort();
    if let Some(listener) = listener {
        listener.abort();
    }
    Ok(Outcome::default())
}

fn resize(terminal: &OwnedFd, width: u16, height: u16) {
    if width == 0 || height == 0 {
        return;
    }
    let size = Winsize { ws_col: width, ws_row: height, ws_xpixel: 0, ws_ypixel: 0 };
    if let Err(error) = tcsetwinsize(terminal, size) {
        tracing::debug!(%error, "a console's size could not be set");
    }
}

/// Obeys the control socket.
async fn obey(control: oneshot::Receiver<WebSocket>, terminal: OwnedFd) {
    let Ok(mut socket) = control.await else { return };
    while let Some(Ok(message)) = socket.recv().await {
        let text = match message {
            Message::Text(text) => text.to_string(),
            Message::Binary(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        let Ok(wanted) = serde_json::from_str::<InstanceExecControl>(&text) else { continue };
        let number = |key: &str| wanted.args.get(key).and_then(|value| value.parse().ok()).unwrap_or(0);
        if wanted.command == "window-resize" {
            resize(&terminal, number("width"), number("height"));
        }
    }
}
