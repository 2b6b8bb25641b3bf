//! A host as certificates and addresses name it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rustls_pki_types::ServerName;

/// A host by address or by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
    /// A DNS name, in lower case.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(ip) => ip.fmt(f),
            Host::Name(name) => f.pad(name),
        }
    }
}

/// A host that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a host; a DNS name, an IPv4 address or an IPv6 address would be")]
pub struct HostError(String);

impl FromStr for Host {
    type Err = HostError;

    /// An IPv6 address stands without brackets here.
    fn from_str(text: &str) -> Result<Host, HostError> {
        match ServerName::try_from(text) {
            Ok(ServerName::DnsName(name)) => Ok(Host::Name(name.as_ref().to_ascii_lowercase())),
            Ok(ServerName::IpAddress(ip)) => Ok(Host::Ip(ip.into())),
            _ => Err(HostError(text.to_owned())),
        }
    }
}
