//! `GET /1.0/instances/{name}/sftp`: an instance's files by SFTP version 3, on the connection of the request.
//!
//! Each message is answered before the next is read. What a client says is bounded; it may be silent as long as it likes.

mod request;
mod session;
mod wire;

use super::glue::{App, blocking};
use super::instances::find;
use super::{Query, Reply};
use crate::service::{FilesInUse, ServiceError};
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use hyper_util::rt::TokioIo;
use session::Session;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How large a message may be.
const LIMIT: u32 = 256 << 10;
const PROTOCOL: &str = "sftp";

/// GET: the connection is SFTP from here on.
pub(crate) async fn get(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    request: Request,
) -> Reply {
    if !asks_for_sftp(request.headers()) {
        return Err(ServiceError::bad("missing or wrong Upgrade header: send Upgrade: sftp").into());
    }
    let (instance, task) = (find(&app, &query, name).await?, query.task());
    let service = Arc::clone(&app.service);
    let (root, in_use) = blocking(&app, move |_| service.use_instance_files(&task, &instance)).await?;
    let served = Served { session: Session::new(root), _in_use: in_use };
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let ended = match upgrade.await {
            Ok(connection) => converse(TokioIo::new(connection), served).await,
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an SFTP session broke off");
        }
    });
    let headers = [(header::UPGRADE, PROTOCOL), (header::CONNECTION, "Upgrade")];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response())
}

/// Whether a message, given without its length, is a request that is understood.
pub(crate) fn is_sftp_request(message: &[u8]) -> bool {
    let Some((&kind, rest)) = message.split_first() else { return false };
    let mut body = wire::Reader(rest);
    body.number().is_ok() && request::Request::parse(kind, &mut body).is_ok()
}

fn asks_for_sftp(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(PROTOCOL.as_bytes()))
}

/// A session, and what must outlive all that it has open.
#[derive(Debug)]
struct Served {
    session: Session,
    _in_use: FilesInUse,
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, mut served: Served) -> io::Result<()> {
    let ended = loop {
        let message = match next_message(&mut stream).await {
            Ok(Some(message)) => message,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        let answered = tokio::task::spawn_blocking(move || {
            let answer = served.session.answer(&message);
            (served, answer)
        });
        let answer;
        (served, answer) = answered.await.map_err(io::Error::other)?;
        let sent = match answer {
            Ok(answer) => stream.write_all(&answer).await,
            Err(error) => Err(io::Error::other(error)),
        };
        if sent.is_err() {
            break sent;
        }
    };
    // Closing and detaching may block.
    tokio::task::spawn_blocking(move || drop(served)).await.map_err(io::Error::other)?;
    ended
}

/// The next message without its length; none when the client has closed the connection.
async fn next_message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u32().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    if length > LIMIT {
        return Err(io::Error::other(format!("a message of {length} bytes is too large: at most {LIMIT}")));
    }
    let mut message = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_an_upgrade_to_sftp_is_one() {
        let asks = |value: &'static str| {
            asks_for_sftp(&HeaderMap::from_iter([(header::UPGRADE, HeaderValue::from_static(value))]))
        };
        assert!(asks("sftp") && asks("SFTP"));
        assert!(!asks("websocket") && !asks_for_sftp(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn messages_are_cut_and_bounded() {
        let mut stream = &b"\0\0\0\x02ab\0\0\0\0"[..];
        assert_eq!(next_message(&mut stream).await.unwrap(), Some(b"ab".to_vec()));
        assert_eq!(next_message(&mut stream).await.unwrap(), Some(Vec::new()));
        assert_eq!(next_message(&mut stream).await.unwrap(), None);
        assert!(next_message(&mut &b"\0\0\0\x02a"[..]).await.is_err());
        let error = next_message(&mut &b"\0\x04\0\x01"[..]).await.unwrap_err();
        assert!(error.to_string().contains("too large"), "{error}");
    }
}
