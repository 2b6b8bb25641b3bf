//! Whom a certificate names.

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::kv::Serial;
use crate::pki::{PeerIdentity, Role, serial_of};

/// The most characters of a stranger's certificate that are repeated.
const SHOWN_MAX: usize = 300;

/// What a node's certificate says: its one name of the form `spiffe://CLUSTER/node/NAME`, and how long
/// it is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CertifiedNode {
    pub(super) cluster: String,
    pub(super) name: String,
    /// RFC 3339, UTC.
    pub(super) expires: String,
    /// Its serial number.
    pub(super) serial: Serial,
}

/// Why a certificate is not one of a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotANode {
    #[error("{0}")]
    NoIdentity(String),
    #[error("the certificate says no time at which it expires")]
    NoExpiry,
    #[error("the certificate's number cannot be one")]
    NoSerial,
    #[error(
        "the certificate is of the role {0:?}, only the role \"node\" may take part in the cluster"
    )]
    Role(String),
}

impl CertifiedNode {
    pub(super) fn read(certificate: &CertificateDer<'_>) -> Result<CertifiedNode, NotANode> {
        let identity = PeerIdentity::from_certificate(certificate).map_err(|error| {
            NotANode::NoIdentity(error.to_string().chars().take(SHOWN_MAX).collect())
        })?;
        if identity.role != Role::Node {
            return Err(NotANode::Role(identity.role.to_string()));
        }
        let expires = expires(certificate).ok_or(NotANode::NoExpiry)?;
        let serial = serial_of(certificate).ok().and_then(|bytes| Serial::new(&bytes).ok());
        let serial = serial.ok_or(NotANode::NoSerial)?;
        let (cluster, name) = (identity.cluster.to_string(), identity.name.to_string());
        Ok(CertifiedNode { cluster, name, expires, serial })
    }
}

/// When `certificate` expires, RFC 3339 in UTC; none if it cannot be read.
pub(super) fn expires(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    expiry(parsed.validity().not_after.timestamp())
}

fn expiry(unix_seconds: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(unix_seconds).ok()?.format(&Rfc3339).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(uris: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["n1".to_owned()]).unwrap();
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_node_is_read() {
        let node = CertifiedNode::read(&certificate(&["spiffe://shop/node/n1"])).unwrap();
        assert_eq!((node.cluster.as_str(), node.name.as_str()), ("shop", "n1"));
        assert_eq!(node.expires, "2031-02-03T00:00:00Z");
    }

    #[test]
    fn everything_else_is_refused() {
        let read = |uris: &[&str]| CertifiedNode::read(&certificate(uris)).unwrap_err();
        assert_eq!(read(&["spiffe://a/client/b"]), NotANode::Role("client".to_owned()));
        let bad: [&[&str]; 7] = [
            &[],
            &["spiffe://a/node/b", "spiffe://a/node/c"],
            &["https://a/node/b"],
            &["spiffe://a/node"],
            &["spiffe:///node/b"],
            &["spiffe://a/node/b/c"],
            &["spiffe://a/node/Not_A_Name"],
        ];
        for uris in bad {
            assert!(matches!(read(uris), NotANode::NoIdentity(_)), "{uris:?}");
        }
        let garbage = CertificateDer::from(vec![0x30, 0x82, 0xff, 0xff, 1, 2]);
        assert!(matches!(CertifiedNode::read(&garbage), Err(NotANode::NoIdentity(_))));
    }
}
