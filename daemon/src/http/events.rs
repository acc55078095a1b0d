//! `/1.0/events`.

use super::glue::{App, blocking};
use super::{Query, Reply};
use crate::service::ServiceError;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use axum::extract::{State, WebSocketUpgrade};
use larder_api::Event;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

const TYPES: &[&str] = &["logging", "operation", "lifecycle"];
const PING_EVERY: Duration = Duration::from_secs(10);
/// How long a listener may take for one message before it is cut off.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a listener wants to hear.
struct Wish {
    types: Vec<String>,
    project: Option<String>,
}

impl Wish {
    fn includes(&self, event: &Event) -> bool {
        self.types.contains(&event.kind)
            && (event.project.is_empty()
                || self.project.as_ref().is_none_or(|project| *project == event.project))
    }
}

/// GET `/1.0/events`. The listener is registered before the upgrade is answered: what happens after the answer is told.
pub(crate) async fn get(
    State(app): State<App>,
    query: Query,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Reply {
    let wanted = query.get("type").unwrap_or_default();
    let types: Vec<String> = match wanted {
        "" => TYPES.iter().map(|kind| (*kind).to_owned()).collect(),
        list => list.split(',').map(|kind| kind.trim().to_owned()).collect(),
    };
    if let Some(unknown) = types.iter().find(|kind| !TYPES.contains(&kind.as_str())) {
        return Err(ServiceError::bad(format!(
            "unknown event type {unknown:?}: it is one of {}",
            TYPES.join(", ")
        ))
        .into());
    }
    let project = query.project.clone();
    let now = blocking(&app, move |service| {
        service.project(&project)?;
        Ok(service.store().catalog().revision()?)
    });
    let now = now.await?;
    let upgrade =
        upgrade.map_err(|error| ServiceError::bad(format!("events come over a websocket: {error}")))?;
    let events = app.events.listen(now).await;
    let wish = Wish { types, project: (!query.all_projects).then_some(query.project) };
    Ok(upgrade.on_upgrade(move |socket| tell(socket, events, wish)))
}

async fn tell(mut socket: WebSocket, mut events: Receiver<Arc<Event>>, wish: Wish) {
    let mut pings = tokio::time::interval(PING_EVERY);
    loop {
        let message = tokio::select! {
            event = events.recv() => match event {
                Ok(event) if wish.includes(&event) => match serde_json::to_string(event.as_ref()) {
                    Ok(text) => Message::Text(text.into()),
                    Err(_) => continue,
                },
                Ok(_) => continue,
                Err(RecvError::Lagged(_)) => Message::Close(Some(CloseFrame {
                    code: axum::extract::ws::close_code::POLICY,
                    reason: "too slow: events would have been lost".into(),
                })),
                Err(RecvError::Closed) => return,
            },
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
            _ = pings.tick() => Message::Ping(Vec::new().into()),
        };
        let is_last = matches!(message, Message::Close(_));
        let sent = tokio::time::timeout(PATIENCE, socket.send(message)).await;
        if is_last || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}
