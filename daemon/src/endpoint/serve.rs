//! Accepts connections where the endpoint listens now, and hands each to the protocol.

use super::tls;
use crate::service::{Bound, S3Directory, Service};
use crate::stopping::{LAST_ANSWERS, told_to_stop};
use anyhow::Result;
use jiff::SignedDuration;
use larder_s3::{Endpoint, Options, Peer, Repeats, lifecycle};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// How many connections there may be at once; more wait to be accepted.
const CONNECTIONS: u32 = 4096;
/// How long a client may take for the handshake.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(50);
/// How often lifecycles are looked at in a day of theirs, and how often at most in a real one.
const LOOKS: u64 = 10;
const RARELY: u64 = 3600;

/// Serves the endpoint, wherever it listens, until `stopping` says true; requests under way are then answered, unless that
/// takes too long.
pub(crate) async fn serve(service: Arc<Service>, stopping: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS as usize));
    tokio::select! {
        () = serve_everywhere(&service, &slots, &stopping) => {}
        () = told_to_stop(stopping.clone()) => {}
    }
    // All of them can be had when the last connection has ended.
    let ended = tokio::time::timeout(LAST_ANSWERS, slots.acquire_many(CONNECTIONS)).await;
    if ended.is_err() {
        tracing::warn!("S3 requests that take too long are cut");
    }
}

/// Serves one socket after the other, as the configuration changes.
async fn serve_everywhere(service: &Arc<Service>, slots: &Arc<Semaphore>, stopping: &watch::Receiver<bool>) {
    let mut bound = service.s3_listener();
    let directory = Arc::new(S3Directory::new(Arc::clone(service)));
    let mut endpoint = Endpoint::new(directory, Options::default()).watched_by(service.s3_traffic());
    loop {
        // Told of again after each change of the configuration.
        let now = bound.borrow_and_update().clone();
        let (day, repeats) = configured(service).await;
        let domains = now.as_ref().map(|now| now.domains()).unwrap_or_default();
        let length = SignedDuration::from_secs(day.cast_signed());
        endpoint = endpoint.with_options(Options { day: length, domains, repeats, ..Options::default() });
        let work = async {
            match now {
                Some(now) => {
                    tokio::join!(listen(service, now, &endpoint, slots, stopping), expire(&endpoint, day));
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = work => {}
            changed = bound.changed() => if changed.is_err() { return },
        }
    }
}

/// How many seconds a day of a lifecycle lasts, and whether a signature may come again.
async fn configured(service: &Arc<Service>) -> (u64, Repeats) {
    let service = Arc::clone(service);
    let asked = tokio::task::spawn_blocking(move || service.s3_behaviour()).await;
    asked.ok().and_then(Result::ok).unwrap_or((24 * 3600, Repeats::AreRefused))
}

/// Does what lifecycles ask for, now and then.
async fn expire(endpoint: &Endpoint, day: u64) {
    let mut due = tokio::time::interval(Duration::from_secs((day / LOOKS).clamp(1, RARELY)));
    loop {
        due.tick().await;
        match lifecycle::run(endpoint.face()).await {
            Ok(expired) if expired == lifecycle::Expired::default() => {}
            Ok(expired) => tracing::info!(?expired, "lifecycles of buckets"),
            Err(error) => tracing::warn!(%error, "lifecycles of buckets could not be followed"),
        }
    }
}

/// Accepts on one socket until this is dropped.
async fn listen(
    service: &Service,
    bound: Arc<Bound>,
    endpoint: &Endpoint,
    slots: &Arc<Semaphore>,
    stopping: &watch::Receiver<bool>,
) {
    let opened = open(service, &bound);
    let url = bound.url();
    drop(bound);
    let (listener, acceptor) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the S3 endpoint is off");
            return std::future::pending().await;
        }
    };
    tracing::info!(url, "the S3 endpoint listens");
    loop {
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, address)) => {
                let (endpoint, acceptor) = (endpoint.clone(), acceptor.clone());
                let Some(admitted) = endpoint.admit(address.ip()) else {
                    tracing::debug!(client = %address, "a client of the S3 endpoint has too many connections");
                    continue;
                };
                let stopping = told_to_stop(stopping.clone());
                tokio::spawn(async move {
                    converse(&endpoint, stream, address, acceptor, stopping).await;
                    drop((slot, admitted));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the S3 endpoint could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn open(service: &Service, bound: &Bound) -> Result<(TcpListener, Option<TlsAcceptor>)> {
    let listener = TcpListener::from_std(bound.listener()?)?;
    if bound.is_plaintext() {
        return Ok((listener, None));
    }
    let (certificate, key) = service.directories().server_certificate();
    let config = tls::server_config(&certificate, &key, service.clock())?;
    Ok((listener, Some(TlsAcceptor::from(config))))
}

async fn converse(
    endpoint: &Endpoint,
    stream: TcpStream,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    stopping: impl Future<Output = ()> + Send,
) {
    // Without it a small answer waits for the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a client of the S3 endpoint went away");
        return;
    }
    let peer = Peer { address: Some(address.ip().to_canonical()), is_secure: acceptor.is_some() };
    let Some(acceptor) = acceptor else { return endpoint.serve_plain(stream, peer, stopping).await };
    let mut stopping = pin!(stopping);
    let greeted = tokio::select! {
        greeted = tokio::time::timeout(PATIENCE, acceptor.accept(stream)) => greeted,
        () = stopping.as_mut() => return,
    };
    match greeted {
        Ok(Ok(stream)) => endpoint.serve(stream, peer, stopping).await,
        Ok(Err(error)) => tracing::debug!(client = %address, %error, "no TLS with a client"),
        Err(_) => tracing::debug!(client = %address, "a client began no TLS in time"),
    }
}
