//! Operations: what a server does in the background, followed to its end.

use super::{ApiPath, Client, ClientError, Socket};
use futures_util::StreamExt;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

/// A background operation as the server describes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Operation {
    /// Its id.
    pub id: String,
    /// `task`, `websocket` or `token`.
    pub class: String,
    /// What it does, for people.
    pub description: String,
    /// Its state in words.
    pub status: String,
    /// Its state; 200 and above is the end.
    pub status_code: u16,
    /// What it works on: URLs by kind.
    pub resources: Value,
    /// Progress while it runs, results when it is done.
    pub metadata: Value,
    /// Whether it may be cancelled.
    pub may_cancel: bool,
    /// Why it failed.
    pub err: String,
}

impl Operation {
    pub(super) fn read(metadata: Value) -> Result<Self, ClientError> {
        serde_json::from_value(metadata)
            .map_err(|error| ClientError::Protocol(format!("an operation: {error}")))
    }

    /// The path to ask about it.
    pub fn path(&self) -> ApiPath {
        ApiPath::of(["operations", self.id.as_str()])
    }

    /// Whether nothing more will happen to it.
    pub fn is_final(&self) -> bool {
        self.status_code >= 200
    }

    /// The name at the end of the first resource of a kind, such as the name a server gave a new instance.
    pub fn resource_name(&self, kind: &str) -> Option<String> {
        let url = self.resources[kind].as_array()?.first()?.as_str()?;
        let last = url.split('?').next()?.rsplit('/').next()?;
        urlencoding::decode(last).ok().map(std::borrow::Cow::into_owned)
    }

    /// Itself when it succeeded, else why not.
    pub fn into_result(self) -> Result<Self, ClientError> {
        if self.status_code == 200 {
            return Ok(self);
        }
        let message =
            if self.err.is_empty() { format!("the operation ended as {}", self.status) } else { self.err };
        Err(ClientError::Failed { message, cancelled: self.status_code == 401 })
    }
}

/// What the one who waits for an operation wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Cancel it, and wait on for how it ends.
    Cancel,
    /// Let it run on, and wait no longer.
    Leave,
}

/// The one who waits for an operation.
pub trait Watcher {
    /// Is told about each change.
    fn changed(&mut self, operation: &Operation);

    /// Pends until there is a wish. Dropped and asked again at any time.
    fn wish(&mut self) -> impl Future<Output = Wish>;

    /// Is told whether the server takes the cancellation.
    fn cancelling(&mut self, answer: Result<(), ClientError>);
}

/// A subscription to what happens on the server.
#[derive(Debug)]
pub struct Events {
    socket: Socket,
}

impl Events {
    /// The next event; `None` when the server closed the connection.
    pub async fn next(&mut self) -> Result<Option<Value>, ClientError> {
        while let Some(message) = self.socket.next().await {
            match message? {
                Message::Text(text) => {
                    let event = serde_json::from_str(&text);
                    return event
                        .map(Some)
                        .map_err(|error| ClientError::Protocol(format!("an event: {error}")));
                }
                Message::Close(_) => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The next change of one operation; pends for ever once the connection is gone, because the one who
    /// waits for the end of the operation asks the server for that.
    async fn next_of(&mut self, id: &str) -> Operation {
        loop {
            match self.next().await {
                Ok(Some(event)) if event["metadata"]["id"] == id => {
                    if let Ok(operation) = Operation::read(event["metadata"].clone()) {
                        return operation;
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => std::future::pending().await,
            }
        }
    }
}

impl Client {
    /// Subscribes to events. `types` is a comma-separated list; empty means all. Subscribe before starting
    /// what is to be watched: events of the past are not repeated.
    pub async fn events(&self, types: &str, all_projects: bool) -> Result<Events, ClientError> {
        let mut path = ApiPath::of(["events"]);
        if !types.is_empty() {
            path = path.query("type", types);
        }
        if all_projects {
            path = path.query("all-projects", "true");
        }
        Ok(Events { socket: self.websocket(&path).await? })
    }

    /// Waits for the end of an operation and returns it when it succeeded.
    pub async fn wait(&self, operation: &Operation) -> Result<Operation, ClientError> {
        self.wait_for_end(operation).await?.into_result()
    }

    /// Waits for the end of an operation and returns it however it ended.
    pub async fn wait_for_end(&self, operation: &Operation) -> Result<Operation, ClientError> {
        let path = operation.path().at("wait").query("timeout", "-1");
        Operation::read(self.get(&path).await?.metadata)
    }

    /// Opens one of the websockets of an operation by its name among the `fds` of the metadata.
    pub async fn operation_socket(&self, operation: &Operation, name: &str) -> Result<Socket, ClientError> {
        let Some(secret) = operation.metadata["fds"][name].as_str() else {
            return Err(ClientError::Protocol(format!("the operation has no websocket {name:?}")));
        };
        self.websocket(&operation.path().at("websocket").query("secret", secret)).await
    }

    /// Follows an operation to its end: what comes in by `events` goes to `watcher`, and so does the question
    /// whether to go on. The end itself is asked for, not taken from an event: a lost event must never make a
    /// client wait for ever.
    pub async fn follow(
        &self,
        operation: &Operation,
        events: &mut Option<Events>,
        watcher: &mut impl Watcher,
    ) -> Result<Operation, ClientError> {
        watcher.changed(operation);
        let wait = self.wait(operation);
        tokio::pin!(wait);
        loop {
            let change = async {
                match events {
                    Some(events) => events.next_of(&operation.id).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                end = &mut wait => return end,
                update = change => watcher.changed(&update),
                wish = watcher.wish() => match wish {
                    Wish::Leave => return Err(ClientError::Left { id: operation.id.clone() }),
                    Wish::Cancel => {
                        let answer = self.change(Method::DELETE, &operation.path(), None, None).await;
                        watcher.cancelling(answer.map(|_| ()));
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn operation(status_code: u16, err: &str) -> Operation {
        Operation::read(json!({"id": "x", "status": "Failure", "status_code": status_code, "err": err}))
            .unwrap()
    }

    #[test]
    fn only_success_is_success() {
        assert!(operation(200, "").into_result().is_ok());
        let failed = operation(400, "no space").into_result().unwrap_err();
        assert_eq!(failed.to_string(), "no space");
        assert!(matches!(operation(401, "").into_result(), Err(ClientError::Failed { cancelled: true, .. })));
    }

    #[test]
    fn the_name_the_server_chose_is_in_the_resources() {
        let operation = Operation::read(
            json!({"id": "x", "resources": {"instances": ["/1.0/instances/busy%2Done?project=p"]}}),
        );
        assert_eq!(operation.unwrap().resource_name("instances").as_deref(), Some("busy-one"));
    }

    #[test]
    fn null_fields_of_older_servers_are_read() {
        let read = Operation::read(json!({"id": "x", "metadata": null, "resources": null}));
        assert_eq!(read.unwrap().resource_name("instances"), None);
    }
}
