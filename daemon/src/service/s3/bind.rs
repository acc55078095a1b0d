//! The endpoint's listening socket. It is bound before the configuration that asks for it is committed, so that an address
//! that can't be had is refused; whoever serves it is told over a watch.

use super::address::EndpointAddress;
use crate::service::{Result, ServiceError};
use parking_lot::{Mutex, MutexGuard};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a socket that is given up may take to let go of its address.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often that is tried.
const PAUSE: Duration = Duration::from_millis(10);

/// A socket that listens.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    wanted: EndpointAddress,
    is_plaintext: bool,
}

impl Bound {
    /// The socket, for another owner.
    pub fn listener(&self) -> std::io::Result<TcpListener> {
        self.listener.try_clone()
    }

    /// Whether it speaks HTTP without TLS.
    pub fn is_plaintext(&self) -> bool {
        self.is_plaintext
    }

    /// The names below which a label is a bucket, as in `bucket.localhost`.
    pub fn domains(&self) -> Vec<String> {
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let mut names = vec!["localhost".to_owned(), machine, self.wanted.host.clone()];
        names.retain(|name| !name.is_empty() && name.parse::<std::net::IpAddr>().is_err());
        names.dedup();
        names
    }

    /// Scheme, host and port. Where it listens on every address, the machine's name is the host.
    pub fn url(&self) -> String {
        let scheme = if self.is_plaintext { "http" } else { "https" };
        let host = match (self.wanted.host.as_str(), self.address.ip().is_unspecified()) {
            (_, true) => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            (host, false) if host.contains(':') => format!("[{host}]"),
            (host, false) => host.to_owned(),
        };
        format!("{scheme}://{host}:{}", self.address.port())
    }
}

/// Where the endpoint listens, if it does.
#[derive(Debug)]
pub(in crate::service) struct Endpoint {
    bound: watch::Sender<Option<Arc<Bound>>>,
    order: Mutex<()>,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self { bound: watch::Sender::new(None), order: Mutex::default() }
    }
}

impl Endpoint {
    /// Where it listens.
    pub(super) fn current(&self) -> Option<Arc<Bound>> {
        self.bound.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Arc<Bound>>> {
        self.bound.subscribe()
    }

    /// One change after the other.
    pub(super) fn order(&self) -> MutexGuard<'_, ()> {
        self.order.lock()
    }

    /// Listens on what is wanted, which nobody serves before [`Endpoint::switch`]. Fails with nothing changed.
    pub(super) fn prepare(&self, wanted: Option<(EndpointAddress, bool)>) -> Result<Option<Arc<Bound>>> {
        let Some((wanted, is_plaintext)) = wanted else { return Ok(None) };
        let current = self.current();
        if let Some(current) = current.as_ref().filter(|current| current.wanted == wanted) {
            if current.is_plaintext == is_plaintext {
                return Ok(Some(Arc::clone(current)));
            }
            let listener = current.listener()?;
            return Ok(Some(Arc::new(Bound { listener, address: current.address, wanted, is_plaintext })));
        }
        let listener = match bind(&wanted) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && overlaps(current.as_deref(), &wanted) => {
                self.replace(current, &wanted)
            }
            other => other,
        };
        let refuse = |error| {
            ServiceError::bad(format!("{:?} port {} can't be listened on: {error}", wanted.host, wanted.port))
        };
        let listener = listener.map_err(refuse)?;
        let address = listener.local_addr()?;
        Ok(Some(Arc::new(Bound { listener, address, wanted, is_plaintext })))
    }

    /// Serves what was prepared, and nothing else.
    pub(super) fn switch(&self, bound: Option<Arc<Bound>>) {
        self.bound.send_replace(bound);
    }

    /// The same port on other addresses: the old socket must go before the new one can come.
    fn replace(&self, old: Option<Arc<Bound>>, wanted: &EndpointAddress) -> std::io::Result<TcpListener> {
        let before = old.as_ref().map(|old| (old.wanted.clone(), old.is_plaintext));
        self.switch(None);
        drop(old);
        let outcome = insist(wanted);
        if let (Err(_), Some((wanted, is_plaintext))) = (&outcome, before)
            && let Ok(listener) = insist(&wanted)
            && let Ok(address) = listener.local_addr()
        {
            self.switch(Some(Arc::new(Bound { listener, address, wanted, is_plaintext })));
        }
        outcome
    }
}

fn overlaps(current: Option<&Bound>, wanted: &EndpointAddress) -> bool {
    current.is_some_and(|current| current.address.port() == wanted.port)
}

/// Listens as soon as whoever has the address has let go of it.
fn insist(wanted: &EndpointAddress) -> std::io::Result<TcpListener> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match bind(wanted) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {}
            outcome => return outcome,
        }
        std::thread::sleep(PAUSE);
    }
}

fn bind(wanted: &EndpointAddress) -> std::io::Result<TcpListener> {
    let mut failure = std::io::Error::other("it has no address");
    for address in wanted.resolve()? {
        match TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return Ok(listener);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, is_plaintext: bool) -> Option<(EndpointAddress, bool)> {
        Some((text.parse().unwrap(), is_plaintext))
    }

    #[test]
    fn an_address_that_can_not_be_had_is_refused_and_what_was_stays() {
        let endpoint = Endpoint::default();
        let first = endpoint.prepare(at("127.0.0.1:0", true)).unwrap();
        endpoint.switch(first.clone());
        let url = first.unwrap().url();
        assert!(url.starts_with("http://127.0.0.1:") && !url.ends_with(":0"), "{url}");
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = endpoint.prepare(at(&taken.local_addr().unwrap().to_string(), true)).unwrap_err();
        assert!(error.message.contains("can't be listened on"), "{error}");
        assert_eq!(endpoint.current().unwrap().url(), url);
    }

    #[test]
    fn the_same_port_can_be_taken_on_other_addresses() {
        let endpoint = Endpoint::default();
        endpoint.switch(endpoint.prepare(at("127.0.0.1:0", true)).unwrap());
        let port = endpoint.current().unwrap().address.port();
        let wider = endpoint.prepare(at(&format!("0.0.0.0:{port}"), false)).unwrap();
        endpoint.switch(wider);
        let now = endpoint.current().unwrap();
        assert!(now.address.ip().is_unspecified() && now.url().starts_with("https://"), "{now:?}");
    }
}
