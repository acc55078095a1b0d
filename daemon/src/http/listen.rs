//! The unix socket: who may connect, and one HTTP/1.1 connection after another.

use super::linger::Lingering;
use crate::starting::Ready;
use crate::stopping::told_to_stop;
use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tower::ServiceExt;

/// The group whose members may use the socket, when it exists.
const GROUP: &str = "larder";

/// Who is at the other end.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Peer {
    uid: u32,
}

impl Peer {
    /// The user's name, or the number of one without.
    pub(crate) fn name(&self) -> String {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        name_of(&users, self.uid).unwrap_or_else(|| self.uid.to_string())
    }
}

/// The first field of the line of `/etc/passwd` or `/etc/group` whose third is `id`.
fn name_of(lines: &str, id: u32) -> Option<String> {
    let id = id.to_string();
    lines
        .lines()
        .find(|line| line.split(':').nth(2) == Some(&id))
        .and_then(|line| line.split(':').next())
        .map(str::to_owned)
}

fn group_id(lines: &str, name: &str) -> Option<u32> {
    let line = lines.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

/// Binds the socket, for its owner and the group `larder`. The caller holds the lock of the state folder, so a socket that
/// is there was left by a daemon that is gone.
pub(crate) fn bind(path: &Path) -> std::io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Nobody may connect between the bind and the change of mode and group.
    let previous = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(previous);
    let listener = listener?;
    if let Some(group) = group_id(&fs::read_to_string("/etc/group").unwrap_or_default(), GROUP) {
        std::os::unix::fs::chown(path, None, Some(group))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    }
    Ok(listener)
}

/// Where requests go.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    pub(crate) router: Router,
    /// What they wait for, those apart that only ask who answers.
    pub(crate) ready: Ready,
    /// Told of every request.
    pub(crate) asked: Arc<Notify>,
}

impl Calls {
    async fn answer(self, peer: Peer, mut request: Request<Incoming>) -> Result<Response, Infallible> {
        self.asked.notify_one();
        let only_asks_who = request.method() == Method::GET && matches!(request.uri().path(), "/" | "/1.0");
        if !only_asks_who {
            self.ready.wait().await;
        }
        request.extensions_mut().insert(peer);
        self.router.oneshot(Lingering::request(request)).await
    }
}

/// Answers until `stopping` says true; connections that are at work then end their request first.
pub(crate) async fn serve(listener: UnixListener, calls: Calls, stopping: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told_to_stop(stopping.clone()) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(converse(stream, calls.clone(), stopping.clone()));
            }
            Err(error) => {
                // Out of file descriptors, mostly: what is open will end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, calls: Calls, stopping: watch::Receiver<bool>) {
    let peer = match stream.peer_cred() {
        Ok(credentials) => Peer { uid: credentials.uid() },
        Err(error) => {
            tracing::warn!(%error, "a client without credentials was turned away");
            return;
        }
    };
    let service = hyper::service::service_fn(move |request| calls.clone().answer(peer, request));
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told_to_stop(stopping.clone()) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn names_and_groups_are_found() {
        let lines = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(name_of(lines, 1000).as_deref(), Some("ann"));
        assert_eq!(name_of(lines, 5), None);
        assert_eq!(group_id("root:x:0:\nlarder:x:997:ann\n", "larder"), Some(997));
    }

    async fn asked(socket: &Path, path: &str) -> String {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: larder\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn who_answers_is_told_before_the_start_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let (is_ready, ready) = watch::channel(false);
        let (_stopping, is_stopping) = watch::channel(false);
        let router = Router::new().fallback(async || "an answer");
        let calls = Calls { router, ready: Ready::told_by(ready), asked: Arc::default() };
        tokio::spawn(serve(bind(&socket).unwrap(), calls, is_stopping));
        assert!(asked(&socket, "/1.0").await.ends_with("an answer"));
        assert!(asked(&socket, "/").await.ends_with("an answer"));
        let mut waits = tokio::spawn(async move { asked(&socket, "/1.0/projects").await });
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut waits).await.is_err());
        is_ready.send_replace(true);
        assert!(waits.await.unwrap().ends_with("an answer"));
    }

    #[tokio::test]
    async fn a_refused_client_can_say_all_it_has_to() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let (_stopping, is_stopping) = watch::channel(false);
        let router = Router::new().fallback(async || "an answer");
        let calls = Calls { router, ready: Ready::told_by(watch::channel(true).1), asked: Arc::default() };
        tokio::spawn(serve(bind(&socket).unwrap(), calls, is_stopping));
        let length = 8 << 20;
        let head = format!(
            "POST / HTTP/1.1\r\nhost: larder\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![0; length]).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("an answer"), "{answer}");
    }
}
