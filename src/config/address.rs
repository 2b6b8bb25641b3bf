//! Where a node listens: a host and a port.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::ConfigError;
use crate::pki::Host;

/// A host, which may be a DNS name that is looked up at every use, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    host: Host,
    port: u16,
}

/// What is wrong with an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Only a host.
    #[error("{0:?} has no port; write HOST:PORT, as in 192.168.1.10:10001")]
    NoPort(String),
    /// A port that is none.
    #[error("{address:?} has the port {port:?}, which is not a number from 0 to 65535")]
    Port {
        /// The whole address.
        address: String,
        /// Its port.
        port: String,
    },
    /// Neither an IP address nor a DNS name.
    #[error(
        "{0:?} is not an address; write HOST:PORT where HOST is a DNS name, an IPv4 address, or an \
         IPv6 address in brackets, as in \"[::1]:10001\""
    )]
    Host(String),
}

impl HostPort {
    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port; 0, which only a listener can use, means any.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the host stands for all addresses of a machine: it can be listened on, not dialled.
    pub fn is_unspecified(&self) -> bool {
        matches!(self.host, Host::Ip(ip) if ip.is_unspecified())
    }

    /// Whether only this machine reaches it: an address of loopback, or the name `localhost`.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Ip(ip) => ip.to_canonical().is_loopback(),
            Host::Name(name) => name.eq_ignore_ascii_case("localhost"),
        }
    }

    /// The first socket address that the host's name has now.
    pub async fn resolve(&self) -> Result<SocketAddr, ConfigError> {
        let name = match &self.host {
            Host::Ip(ip) => return Ok(SocketAddr::new(*ip, self.port)),
            Host::Name(name) => name.as_str(),
        };
        let failed = |reason: String| ConfigError::Resolve { address: self.clone(), reason };
        let mut found = tokio::net::lookup_host((name, self.port))
            .await
            .map_err(|error| failed(error.to_string()))?;
        found.next().ok_or_else(|| failed("the name has no address".to_owned()))
    }
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<HostPort, AddressError> {
        let bad_host = || AddressError::Host(text.to_owned());
        if text.ends_with(']') {
            return Err(AddressError::NoPort(text.to_owned()));
        }
        // An IPv6 address without brackets: where its port begins cannot be told.
        if !text.starts_with('[') && text.matches(':').count() > 1 {
            return Err(bad_host());
        }
        let (host, port) =
            text.rsplit_once(':').ok_or_else(|| AddressError::NoPort(text.to_owned()))?;
        if port.is_empty() {
            return Err(AddressError::NoPort(text.to_owned()));
        }
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let number = port.parse().ok().filter(|_| digits).ok_or_else(|| AddressError::Port {
            address: text.to_owned(),
            port: port.to_owned(),
        })?;
        let host = if let Some(inner) = host.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or_else(bad_host)?;
            Host::Ip(IpAddr::V6(inner.parse::<Ipv6Addr>().map_err(|_| bad_host())?))
        } else {
            match host.parse() {
                Ok(Host::Ip(IpAddr::V6(_))) | Err(_) => return Err(bad_host()),
                Ok(host) => host,
            }
        };
        Ok(HostPort { host, port: number })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}
