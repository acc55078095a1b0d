//! Addresses as `core.storage_buckets_address` has them: `host`, `host:port`, `[IPv6]:port`, `:port`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// The port where nobody says one, as the peers have it.
const DEFAULT_PORT: u16 = 8555;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EndpointAddress {
    /// A name or an address without brackets; empty for every address of the machine.
    pub(super) host: String,
    /// 0 lets the kernel choose.
    pub(super) port: u16,
}

impl FromStr for EndpointAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!(
                "invalid address {text:?}: give host:port, [IPv6]:port or :port, such as 127.0.0.1:{DEFAULT_PORT}"
            )
        };
        if text.parse::<Ipv6Addr>().is_ok() {
            return Ok(Self { host: text.to_owned(), port: DEFAULT_PORT });
        }
        let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, rest))) if host.parse::<Ipv6Addr>().is_ok() => {
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(refuse)?) })
            }
            Some(_) => return Err(refuse()),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
        if !host.chars().all(is_host) {
            return Err(refuse());
        }
        let port = port.map_or(Ok(DEFAULT_PORT), str::parse).map_err(|_| refuse())?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl EndpointAddress {
    /// Whether only this machine reaches it.
    pub(super) fn is_loopback(&self) -> bool {
        let resolved = self.resolve().unwrap_or_default();
        !resolved.is_empty() && resolved.iter().all(|address| address.ip().is_loopback())
    }

    /// What to listen on, each to be tried in turn.
    pub(super) fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        if self.host.is_empty() {
            let every = [IpAddr::from(Ipv6Addr::UNSPECIFIED), IpAddr::from(Ipv4Addr::UNSPECIFIED)];
            return Ok(every.map(|address| SocketAddr::new(address, self.port)).into());
        }
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_peers_read_them() {
        for (text, host, port) in [
            (":8555", "", 8555),
            ("127.0.0.1", "127.0.0.1", 8555),
            ("127.0.0.1:0", "127.0.0.1", 0),
            ("[::1]:9000", "::1", 9000),
            ("[::1]", "::1", 8555),
            ("::1", "::1", 8555),
            ("localhost:80", "localhost", 80),
        ] {
            assert_eq!(text.parse(), Ok(EndpointAddress { host: host.to_owned(), port }), "{text}");
        }
        for bad in ["a b:1", "host:", "host:port", "host:99999", "[::1", "[x]:1", "[::1]9", "http://host:1"] {
            assert!(bad.parse::<EndpointAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn loopback_is_what_only_this_machine_reaches() {
        for (text, is_loopback) in
            [("127.0.0.1:1", true), ("[::1]:1", true), (":1", false), ("0.0.0.0:1", false)]
        {
            assert_eq!(text.parse::<EndpointAddress>().unwrap().is_loopback(), is_loopback, "{text}");
        }
    }
}
