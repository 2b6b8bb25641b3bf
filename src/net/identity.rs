//! Whom a certificate names.

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What a node's certificate says: its one name of the form `spiffe://CLUSTER/node/NAME`, and how long
/// it is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CertifiedNode {
    pub(super) cluster: String,
    pub(super) name: String,
    /// RFC 3339, UTC.
    pub(super) expires: String,
}

/// Why a certificate is not one of a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotANode {
    #[error("the certificate cannot be read")]
    Unreadable,
    #[error(
        "the certificate has {0} URI names, a node's has exactly one, spiffe://CLUSTER/node/NAME"
    )]
    UriNames(usize),
    #[error("the certificate names {0:?}, which is not of the form spiffe://CLUSTER/node/NAME")]
    NotSpiffe(String),
    #[error(
        "the certificate is of the role {0:?}, only the role \"node\" may take part in the cluster"
    )]
    Role(String),
}

impl CertifiedNode {
    pub(super) fn read(certificate: &CertificateDer<'_>) -> Result<CertifiedNode, NotANode> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| NotANode::Unreadable)?;
        let names = parsed.subject_alternative_name().map_err(|_| NotANode::Unreadable)?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            })
            .collect();
        let [uri] = uris[..] else { return Err(NotANode::UriNames(uris.len())) };
        let not_spiffe = || NotANode::NotSpiffe(uri.chars().take(200).collect());
        let path = uri.strip_prefix("spiffe://").ok_or_else(not_spiffe)?;
        let parts: Vec<&str> = path.split('/').collect();
        let [cluster, role, name] = parts[..] else { return Err(not_spiffe()) };
        if cluster.is_empty() || name.is_empty() {
            return Err(not_spiffe());
        }
        if role != "node" {
            return Err(NotANode::Role(role.chars().take(50).collect()));
        }
        let expires = expiry(parsed.validity().not_after.timestamp());
        let expires = expires.ok_or(NotANode::Unreadable)?;
        Ok(CertifiedNode { cluster: cluster.to_owned(), name: name.to_owned(), expires })
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
        assert_eq!(read(&[]), NotANode::UriNames(0));
        assert_eq!(read(&["spiffe://a/node/b", "spiffe://a/node/c"]), NotANode::UriNames(2));
        assert_eq!(read(&["spiffe://a/client/b"]), NotANode::Role("client".to_owned()));
        for uri in
            ["https://a/node/b", "spiffe://a/node", "spiffe:///node/b", "spiffe://a/node/b/c"]
        {
            assert_eq!(read(&[uri]), NotANode::NotSpiffe(uri.to_owned()));
        }
        let garbage = CertificateDer::from(vec![0x30, 0x82, 0xff, 0xff, 1, 2]);
        assert_eq!(CertifiedNode::read(&garbage), Err(NotANode::Unreadable));
    }
}
