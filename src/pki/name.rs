//! The names that appear in certificates: of nodes and of the cluster.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use rustls_pki_types::ServerName;

/// The most bytes in a name: those of one DNS label.
pub const NAME_MAX: usize = 63;

/// A name that cannot stand in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a name: 1 to 63 of a-z, 0-9 and '-', with a letter in it and no '-' at either end"
)]
pub struct NameError(String);

/// The name of a node: one DNS label that is no number, so that it can be checked as the server name of
/// a TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(String);

/// The name of a cluster, of the same form as a node's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(String);

fn checked(name: &str) -> Result<String, NameError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let spelled = (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(allowed);
    let is_dns = matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_)));
    if spelled && is_dns { Ok(name.to_owned()) } else { Err(NameError(name.to_owned())) }
}

macro_rules! name {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                checked(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        // Eq, Ord and Hash are those of the text, as Borrow demands.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(NodeName);
name!(ClusterName);
